"""Stage `data` on what people's files hold: a value means the same in every format."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hypsae_ray.commands import runner
from hypsae_ray.config import AnnotateJob, loading
from hypsae_ray.errors import InputError
from hypsae_ray.stages.texts import read_hypotheses, read_rows, store_rows
from hypsae_ray.store.artifacts import Folder

Data = pd.DataFrame | Path  # a path: a file that is there
FORMATS = ("jsonl", "csv", "parquet")
WORDS = np.array([f"word{i}" for i in range(50)])


def table(n: int, seed: int, **columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, 30)) for _ in range(n)]
    return pd.DataFrame({"text": texts, "y": rng.normal(size=n), **columns})


def write(frame: pd.DataFrame, path: Path) -> str:
    """Write a table; JSONL and Parquet keep the types of values, a CSV holds texts."""
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        rows = (json.dumps(row, default=float) for row in frame.to_dict("records"))
        path.write_text("\n".join(rows), encoding="utf-8")
    return str(path)


def listed(values: pd.Series) -> list:
    """Return values with None for nulls."""
    return values.astype(object).where(values.notna(), None).tolist()


class Stored:
    """What stage `data` left."""

    def __init__(self, folder: Path) -> None:
        self.facts = json.loads((folder / "manifest.json").read_text())["facts"]
        self._folder = folder

    def split(self, name: str) -> pd.DataFrame:
        parts = [pd.read_parquet(file) for file in sorted(self._folder.glob(f"{name}-*.parquet"))]
        return pd.concat(parts).sort_values("row_id")


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., Stored]:
    """Run stage `data` on training and holdout data."""

    def run(train: Data, holdout: Data, formats: tuple[str, str], **options: Any) -> Stored:
        def place(data: Data, name: str) -> str:
            return str(data) if isinstance(data, Path) else write(data, tmp_path / name)

        data = {
            "train": place(train, f"train.{formats[0]}"),
            "holdout": place(holdout, f"holdout.{formats[1]}"),
            "target": "y",
            **options,
        }
        done = runner.run(loading.parse({"data": data}, "c"), str(tmp_path / "run"), until="data")
        return Stored(Path(done.records[0].step.folder.path))

    return run


SAME_IDS = {
    "float in a CSV with a null": [*map(float, range(1, 20)), None],
    "text": list(map(str, range(1, 21))),
    "float": list(map(float, range(1, 21))),
    "int": list(range(1, 21)),
}


@pytest.mark.parametrize("written", SAME_IDS)
@pytest.mark.parametrize("formats", [("jsonl", "csv"), ("parquet", "jsonl"), ("csv", "parquet")])
def test_a_group_is_the_same_in_every_format(store, written: str, formats: tuple[str, str]):
    train = table(60, 0, shop=[i % 30 for i in range(60)])
    holdout = table(20, 1, shop=pd.Series(SAME_IDS[written]))
    known = sum(value is not None for value in SAME_IDS[written])
    with pytest.raises(InputError, match=rf"{known} row\(s\) of the holdout are not new"):
        store(train, holdout, formats, group="shop", overlap="error")


@pytest.mark.parametrize("shop", [Decimal, np.float64, lambda i: f"{i}.0", lambda i: f" {i}\u200b"])
def test_a_group_is_the_same_in_every_type(store, shop: Callable):
    train = table(60, 0, shop=[i % 30 for i in range(60)])
    holdout = table(20, 1, shop=pd.Series([shop(i) for i in range(20, 40)]))
    stored = store(train, holdout, ("jsonl", "parquet"), group="shop")
    assert stored.facts["overlap"]["same_group"] == 10
    assert stored.split("holdout")["group"].tolist() == [str(i) for i in range(30, 40)]


@pytest.mark.parametrize("ending", FORMATS)
def test_a_blank_group_is_none_in_every_format(store, ending: str):
    blanks = ["", " ", "\u200b", "\u3164"] * 5
    train, holdout = table(40, 0, author=["a", ""] * 20), table(40, 1, author=["b"] * 20 + blanks)
    stored = store(train, holdout, ("jsonl", ending), group="author")
    assert listed(stored.split("holdout")["group"]) == ["b"] * 20 + [None] * 20
    assert stored.facts["overlap"]["same_group"] == 0


@pytest.mark.parametrize("formats", [("csv", "jsonl"), ("parquet", "csv")])
def test_repeated_ids_are_found_by_value(store, formats: tuple[str, str]):
    ids: list = list(range(40))
    ids[7] = "3.0"
    train = table(40, 0, key=pd.Series(ids, dtype=object if formats[0] == "csv" else str))
    with pytest.raises(InputError, match="row 8: column 'key': id 3 is there already"):
        store(train, table(40, 1, key=range(40)), formats, id="key")


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_large_ids_that_a_float_cannot_hold_are_refused(store, ending: str):
    train = table(40, 0, key=[*map(float, range(39)), 2.0**60])
    with pytest.raises(InputError, match=r"row 40: column 'key': 1\.15\d+e\+18 was stored as a float"):
        store(train, table(40, 1, key=range(40)), (ending, "csv"), id="key")


NUMBERS = {
    "floats": lambda x: x,
    "texts": str,
    "decimals": lambda x: Decimal(str(x)),
    "thousands": lambda x: f"{x:,.1f}",
}


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_covariates_are_numbers_by_value(store, kind: str, ending: str):
    price = np.arange(40) * 500 + 0.5
    train, holdout = table(40, 0, price=price), table(40, 1)
    holdout["price"] = pd.Series([NUMBERS[kind](x) for x in price.tolist()], dtype=object)
    stored = store(train, holdout, ("jsonl", ending), covariates=["price"])
    np.testing.assert_array_equal(stored.split("holdout")["covariate_price"], price)


TRUTH = {"words": ("yes", "no"), "python": (True, False), "R": ("TRUE", "FALSE"), "numbers": (1, 0)}


@pytest.mark.parametrize("kind", TRUTH)
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_yes_and_no_are_a_target_of_1_and_0(store, kind: str, ending: str):
    values = [TRUTH[kind][i % 2] for i in range(40)]
    stored = store(table(40, 0).assign(y=values), table(40, 1).assign(y=values), (ending, ending))
    assert stored.facts["task"] == "classification"
    assert stored.split("holdout")["target"].tolist() == [1.0, 0.0] * 20


def test_yes_beside_other_numbers_is_refused_however_far_apart(store, tmp_path: Path):
    train, holdout = table(40, 0).assign(y=["yes", "no"] * 20), table(40, 1).assign(y=[1, 5] * 20)
    with pytest.raises(InputError) as refused:
        store(train, holdout, ("csv", "jsonl"), on_bad_rows="drop")
    assert str(refused.value) == (
        "column 'y' holds both truth values and other numbers: "
        f"'yes' in {tmp_path}/train.csv, row 1; 5 in {tmp_path}/holdout.jsonl, row 2"
    )


def test_a_decimal_comma_is_asked_for_and_read(store, tmp_path: Path):
    numbers = np.arange(40) / 8 + 1000.5
    written = [f"{x:,.3f}".translate(str.maketrans(",.", ".,")) for x in numbers]  # 1.000,500
    train, holdout = (table(40, seed).assign(y=written) for seed in (0, 1))
    for on_bad_rows in ("error", "drop"):  # rows with a comma are not dropped from among those without
        with pytest.raises(InputError) as refused:
            store(train, holdout, ("csv", "csv"), on_bad_rows=on_bad_rows)
        title, first, *_, advice = str(refused.value).splitlines()
        assert title == f"{tmp_path}/train.csv: 40 bad row(s) in train:"
        assert first == "  row 1: column 'y': '1.000,500' is not a number (is the comma a decimal mark?)"
        assert "set data.decimal: ','" in advice
    stored = store(train, holdout, ("csv", "csv"), decimal=",")
    np.testing.assert_array_equal(stored.split("holdout")["target"], numbers)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_comma_is_in_doubt_where_the_delimiter_is_another(store, tmp_path: Path, delimiter: str):
    """1,234 is a number of thousands where commas also part cells; else it may be one and a bit."""
    numbers = np.arange(40) + 1000
    train, holdout = (table(40, n, price=[f"{x:,}" for x in numbers]).assign(y=range(40)) for n in (0, 1))
    options = {"covariates": ["price"]}
    stored = store(train, holdout, ("csv", "csv"), **options)
    np.testing.assert_array_equal(stored.split("holdout")["covariate_price"], numbers)
    place = tmp_path / "other.csv"
    holdout.to_csv(place, index=False, sep=delimiter)
    with pytest.raises(InputError, match=r"'1,000' is 1000 or 1\.000 \(is the comma a decimal mark\?\)"):
        store(place, train, ("csv", "csv"), **options)
    for decimal, factor in ((".", 1), (",", 1000)):
        stored = store(place, place, ("csv", "csv"), decimal=decimal, overlap="keep", **options)
        np.testing.assert_array_equal(stored.split("holdout")["covariate_price"], numbers / factor)


def test_ids_in_short_floats_of_parquet_are_refused_where_they_run_together(store):
    train = table(40, 0, shop=np.arange(40, dtype="float32"))
    holdout = table(40, 1, shop=np.arange(16_777_190, 16_777_230).astype("float32"))
    stored = store(train, table(40, 1, shop=np.arange(20, 60)), ("parquet", "jsonl"), group="shop")
    assert stored.facts["overlap"]["same_group"] == 20
    with pytest.raises(InputError, match=r"row 27: column 'shop': 16777216\.0 was stored as a float"):
        store(train, holdout, ("parquet", "parquet"), group="shop")


def test_few_distinct_texts_are_counted_and_told(store, capsys: pytest.CaptureFixture):
    train, holdout = (table(n, seed, author="a") for seed, n in ((0, 200), (1, 59)))
    holdout["text"] = [f"only {'very ' * (i % 7)}good words" for i in range(59)]
    train.loc[:9, "text"] = train["text"][10]
    stored = store(train, holdout, ("jsonl", "jsonl"), val_fraction=1e-9)
    assert stored.facts["distinct_texts"] == {"train": 190, "val": 0, "holdout": 7}
    assert (
        "data: texts repeat: train 200 rows of 190 distinct texts, holdout 59 rows of 7 distinct texts; "
        "these are few: rows with one text are not independent evidence\n"
    ) in capsys.readouterr().err


def test_what_was_left_out_is_told_where_too_little_is_left(store, tmp_path: Path):
    train = table(60, 0, shop=range(60))
    holdout = table(40, 1, shop=[*map(float, range(39)), None])
    with pytest.raises(InputError) as refused:
        store(train, holdout, ("jsonl", "csv"), group="shop")
    title, *why = str(refused.value).split(": ", 2)
    assert title == f"{tmp_path}/holdout.csv"
    assert why[1] == "nothing to predict: 39 others are not new (same group: 39)"


def test_one_text_in_every_row_is_refused(store, tmp_path: Path):
    one = table(40, 1).assign(text="the same")
    with pytest.raises(InputError) as refused:
        store(table(40, 0), one, ("jsonl", "csv"))
    told = "column 'text' holds one text in all 40 rows of holdout: nothing to tell apart"
    assert str(refused.value) == f"{tmp_path}/holdout.csv: {told}"


def job(folder: Path, frame: pd.DataFrame, ending: str, **options: Any) -> AnnotateJob:
    return AnnotateJob(hypotheses="h.csv", data=write(frame, folder / f"rows.{ending}"), **options)


@pytest.mark.parametrize("ending", FORMATS)
def test_rows_to_annotate_mean_the_same_in_every_format(tmp_path: Path, ending: str):
    frame = pd.DataFrame({"text": ["fine", "", "\u200b", None, "good"], "key": [1.0, 2.0, None, 4.0, 5.0]})
    (rows,) = read_rows(job(tmp_path, frame, ending, id="key"))
    assert listed(rows["text"]) == ["fine", None, None, None, "good"]
    assert listed(rows["reason"]) == [None, *["the text is missing"] * 3, None]
    assert listed(rows["source_id"]) == ["1", "2", None, "4", "5"]
    stored = store_rows(job(tmp_path, frame, ending), Folder.at(str(tmp_path / "out")))
    assert stored.facts == {"without_text": {"the text is missing": 3}}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"text": 5}, {"text": 6}],
            "no row holds a usable text: column 'text', first of 2 rows: 5 is not a text",
        ),
        ([{"text": " "}], "no row holds a usable text: column 'text', first of 1 rows: the text is missing"),
        ([{"text": "a"}, {"text": "b", "key": [1]}], "column 'key': row 2: [1] is not one name"),
    ],
)
def test_rows_that_cannot_be_annotated_are_named(tmp_path: Path, rows: list[dict], message: str):
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"key": 0, **row}) for row in rows))
    settings = AnnotateJob(hypotheses="h.csv", data=str(tmp_path / "rows.jsonl"), id="key")
    with pytest.raises(InputError) as refused:
        store_rows(settings, Folder.at(str(tmp_path / "out")))
    assert str(refused.value) == f"{tmp_path}/rows.jsonl: {message}"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ending", FORMATS)
def test_a_sentence_that_shows_nothing_is_no_hypothesis(tmp_path: Path, ending: str):
    frame = pd.DataFrame({"hypothesis": [" mentions food\u200b", "\u200b", "", None, "is short"]})
    sentences = read_hypotheses(write(frame, tmp_path / f"h.{ending}"))
    assert sentences == ["mentions food", None, None, None, "is short"]


def test_a_number_is_no_hypothesis(tmp_path: Path):
    path = write(pd.DataFrame({"interpretation": [1, 2]}), tmp_path / "h.jsonl")
    with pytest.raises(InputError, match=r"h\.jsonl: column 'interpretation': row 1: 1 is not a text"):
        read_hypotheses(path)
