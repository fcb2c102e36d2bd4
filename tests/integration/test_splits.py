"""Honest data: nothing that trains, selects or names stands in the holdout."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hypsae_ray.commands import annotation, runner
from hypsae_ray.config import loading
from hypsae_ray.errors import ConfigError, InputError

WORDS = np.array([f"word{i}" for i in range(50)])


def reviews(n: int, seed: int = 0, length: int = 30) -> pd.DataFrame:
    """Made-up texts with a number, four to an author."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, length)) for _ in range(n)]
    authors = [f"author {seed}-{i // 4}" for i in range(n)]
    return pd.DataFrame({"text": texts, "y": rng.normal(size=n), "author": authors})


@dataclass(frozen=True)
class Stored:
    """What stage `data` left."""

    folder: Path

    def split(self, name: str) -> pd.DataFrame:
        return pd.concat(pd.read_parquet(file) for file in sorted(self.folder.glob(f"{name}-*.parquet")))

    @property
    def facts(self) -> dict:
        return json.loads((self.folder / "manifest.json").read_text())["facts"]

    @property
    def rejected(self) -> pd.DataFrame:
        return pd.read_parquet(self.folder / "rejected.parquet")


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., Stored]:
    """Run stage `data` on frames; options are those of the config's section."""

    def run(train: pd.DataFrame, test: pd.DataFrame | None = None, **options) -> Stored:
        data = {"train": str(tmp_path / "train.jsonl"), "target": "y", **options}
        train.to_json(data["train"], orient="records", lines=True)
        if test is not None:
            data["holdout"] = str(tmp_path / "holdout.jsonl")
            test.to_json(data["holdout"], orient="records", lines=True)
        done = runner.run(loading.parse({"data": data}, "c"), str(tmp_path / "run"), until="data")
        return Stored(Path(done.records[0].step.folder.path))

    return run


def test_one_file_is_split_by_text(store):
    once = reviews(1_000)
    twice = pd.concat([once, once], ignore_index=True)
    stored = store(twice, holdout_fraction=0.3, val_fraction=0.2)
    parts = {name: stored.split(name) for name in ("train", "val", "holdout")}
    assert sorted(pd.concat(parts.values())["row_id"]) == list(range(2_000))
    texts = {name: set(part["text"]) for name, part in parts.items()}
    assert sum(map(len, texts.values())) == len(set.union(*texts.values())) == 1_000
    assert len(texts["holdout"]) / 1_000 == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / 1_000))
    assert len(texts["val"]) / 700 == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / 700))
    text_of = twice["text"]
    assert all((part["text"].to_numpy() == text_of[part["row_id"]]).all() for part in parts.values())
    assert stored.facts["rows"] == {name: len(part) for name, part in parts.items()}
    assert stored.facts["overlap"] == {"same_text": 0, "near_copy": 0, "same_group": 0, "action": "drop"}
    assert not (stored.folder / "rejected.parquet").exists()


def test_groups_stay_together_and_rows_without_one_go_by_text(store):
    table = reviews(2_000)
    table.loc[1_600:, "author"] = None
    stored = store(table, holdout_fraction=0.25, group="author")
    held_out = stored.split("holdout")
    training = pd.concat([stored.split("train"), stored.split("val")])
    assert set(held_out["group"].dropna()).isdisjoint(training["group"].dropna())
    assert held_out["group"].dropna().nunique() / 400 == pytest.approx(0.25, abs=4 * np.sqrt(0.1875 / 400))
    assert held_out["group"].isna().sum() / 400 == pytest.approx(0.25, abs=4 * np.sqrt(0.1875 / 400))


def test_the_split_does_not_depend_on_order_or_other_rows(store):
    table = reviews(400)
    first = set(store(table, holdout_fraction=0.3).split("holdout")["text"])
    other = pd.concat([reviews(100, seed=1), table.sample(frac=1, random_state=0)])
    assert first == set(store(other, holdout_fraction=0.3).split("holdout")["text"]) & set(table["text"])


@pytest.fixture
def overlapping() -> tuple[pd.DataFrame, pd.DataFrame]:
    """200 training rows, and 60 others of which 7 are not new."""
    train, holdout = reviews(200), reviews(60, seed=1)
    holdout.loc[3, "text"] = train["text"][10]
    holdout.loc[4, ["text", "author"]] = train["text"][11], train["author"][11]  # counts as a text only
    for i in (20, 21, 22):
        holdout.loc[i, "text"] = train["text"][i] + " indeed"  # Jaccard 28 / 29
    holdout.loc[[50, 51], "author"] = train["author"][0]
    return train, holdout


REASONS = {
    4: "the text stands word for word in the training data",
    5: "the text stands word for word in the training data",
    21: "the text is a near copy of one in the training data",
    22: "the text is a near copy of one in the training data",
    23: "the text is a near copy of one in the training data",
    51: "its group stands in the training data",
    52: "its group stands in the training data",
}


def test_what_is_not_new_is_dropped(store, overlapping, capsys: pytest.CaptureFixture):
    stored = store(*overlapping, group="author")
    assert sorted(stored.split("holdout")["row_id"]) == [i for i in range(60) if i + 1 not in REASONS]
    assert stored.facts["overlap"] == {"same_text": 2, "near_copy": 3, "same_group": 2, "action": "drop"}
    rejected = stored.rejected
    assert dict(zip(rejected["row"], rejected["reason"], strict=True)) == REASONS
    assert set(rejected["split"]) == {"holdout"}
    assert rejected["file"].str.endswith("holdout.jsonl").all()
    said = capsys.readouterr().err
    assert "7 holdout rows are not new (same text: 2, near copy: 3, same group: 2): left out" in said


def test_what_is_not_new_is_kept(store, overlapping):
    stored = store(*overlapping, group="author", overlap="keep")
    assert len(stored.split("holdout")) == 60
    assert stored.facts["overlap"] == {"same_text": 2, "near_copy": 3, "same_group": 2, "action": "keep"}
    assert not (stored.folder / "rejected.parquet").exists()


def test_near_copies_are_not_looked_for_where_it_says_null(store, overlapping):
    stored = store(*overlapping, group="author", near_copy=None)
    assert stored.facts["overlap"] == {"same_text": 2, "near_copy": 0, "same_group": 2, "action": "drop"}


def test_what_is_not_new_is_refused(store, overlapping, tmp_path: Path):
    with pytest.raises(InputError) as refused:
        store(*overlapping, group="author", overlap="error")
    title, *shown, more, advice = str(refused.value).splitlines()
    assert title == f"{tmp_path}/holdout.jsonl: 7 row(s) of the holdout are not new:"
    assert shown == [f"  row {row}: {reason}" for row, reason in list(REASONS.items())[:5]]
    assert more == "  and 2 more"
    assert "data.overlap: drop" in advice
    assert not (tmp_path / "run").exists()


def test_texts_on_both_sides_of_a_split_by_group_are_dropped(store):
    once = reviews(200)
    stored = store(
        pd.concat([once, reviews(200, seed=1).assign(text=once["text"])]),
        holdout_fraction=0.5,
        group="author",
    )
    held_out, rejected = stored.split("holdout"), stored.rejected
    training = pd.concat([stored.split("train"), stored.split("val")])
    assert set(held_out["text"]).isdisjoint(training["text"])
    assert len(rejected) == stored.facts["overlap"]["same_text"] > 20
    assert len(held_out) + len(training) + len(rejected) == 400
    assert set(rejected["row"] - 1).isdisjoint(training["row_id"])


def paired(n: int, seed: int) -> pd.DataFrame:
    texts = reviews(2 * n, seed)["text"].to_numpy()
    return pd.DataFrame({"a": texts[::2], "b": texts[1::2], "y": np.arange(n) % 2})


def test_a_pair_is_split_and_left_out_whole(store, capsys: pytest.CaptureFixture):
    train, holdout = paired(60, 0), paired(30, 1)
    holdout.loc[4, "b"] = train["a"][10]
    holdout.loc[5, "a"] = train["b"][11] + " indeed"
    holdout.loc[6, ["a", "b"]] = train["b"][12] + " indeed", train["b"][13]  # counts as the same text
    stored = store(train, holdout, text_a="a", text_b="b")
    assert stored.facts["task"] == "pairwise"
    assert stored.facts["overlap"] == {"same_text": 2, "near_copy": 1, "same_group": 0, "action": "drop"}
    assert stored.rejected["row"].tolist() == [5, 6, 7]
    left = stored.split("holdout")
    assert stored.facts["rows"]["holdout"] == len(left) / 2 == 27
    np.testing.assert_array_equal(left["row_id"] % 2**24, np.tile([0, 1], 27))
    sides = holdout.loc[left["row_id"] // 2**24]
    assert left["text"].tolist() == np.where(left["row_id"] % 2**24 == 0, sides["a"], sides["b"]).tolist()
    capsys.readouterr()
    whole = store(pd.concat([train, train]), text_a="a", text_b="b", holdout_fraction=0.4)
    assert whole.facts["distinct_texts"] == whole.facts["rows"]
    assert "pairs of" in capsys.readouterr().err
    mirrored = store(
        pd.concat([train, train]).rename(columns={"a": "b", "b": "a"}),
        text_a="a",
        text_b="b",
        holdout_fraction=0.4,
    )
    rows = {name: set(whole.split(name)["row_id"]) for name in ("train", "val", "holdout")}
    assert rows == {name: set(mirrored.split(name)["row_id"]) for name in rows}


def test_pairs_of_one_group_are_split_together(store):
    """Three texts a group in three pairs: no text that trains validates or tests."""
    triples = reviews(450)["text"].to_numpy().reshape(150, 3)
    pairs = [pair for one, two, three in triples for pair in ((one, two), (one, three), (three, two))]
    table = pd.DataFrame(pairs, columns=["a", "b"]).assign(y=np.arange(450) % 2, g=np.arange(450) // 3)
    stored = store(table, text_a="a", text_b="b", group="g", holdout_fraction=0.3, val_fraction=0.2)
    parts = {name: stored.split(name) for name in ("train", "val", "holdout")}
    assert all(len(part) > 60 for part in parts.values())
    assert sum(part["text"].nunique() for part in parts.values()) == 450
    assert len(set().union(*(part["text"] for part in parts.values()))) == 450
    assert stored.facts["rejected"] == 0


def test_codes_are_no_target_of_pairs(store, tmp_path: Path):
    train, holdout = paired(40, 0), paired(40, 1)
    with pytest.raises(InputError, match=r"train\.jsonl: column 'y': its values are 1 and 2, a code"):
        store(train.assign(y=train["y"] + 1), holdout.assign(y=holdout["y"] + 1), text_a="a", text_b="b")
    assert not (tmp_path / "run").exists()


def test_val_counts_as_training(store, tmp_path: Path):
    train, val, holdout = (reviews(40, seed) for seed in range(3))
    val.to_json(tmp_path / "val.jsonl", orient="records", lines=True)
    holdout.loc[7, "text"] = val["text"][3]
    stored = store(train, holdout, val=str(tmp_path / "val.jsonl"))
    assert stored.rejected["row"].tolist() == [8]


def test_a_split_may_be_empty_where_nothing_needs_it(store):
    stored = store(reviews(40), reviews(40, seed=1), val_fraction=1e-9)
    assert stored.facts["rows"] == {"train": 40, "val": 0, "holdout": 40}


def test_no_new_row_is_refused(store, tmp_path: Path):
    table = reviews(40)
    with pytest.raises(
        InputError, match=r"holdout\.jsonl: no row is left for holdout .* none is new \(same text: 40\)"
    ):
        store(table, table)
    with pytest.raises(InputError, match=r"train\.jsonl: no row is left for holdout after the split"):
        store(table, holdout_fraction=1e-9)
    assert not (tmp_path / "run").exists()


def test_a_target_that_is_constant_after_the_split_is_refused(store):
    train, holdout = reviews(40), reviews(40, seed=1).assign(y=1)
    holdout.loc[0, ["text", "y"]] = train["text"][0], 2
    with pytest.raises(InputError, match="column 'y' is 1 in every row of holdout: nothing to predict"):
        store(train, holdout)


def test_counts_and_weights(store):
    def counted(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(y=np.arange(len(table)) % 2, w=np.arange(len(table)) + 0.5)

    train, holdout = counted(reviews(40)), counted(reviews(40, seed=1))
    stored = store(train, holdout, task="count", weight="w")
    assert stored.facts["task"] == "count"
    np.testing.assert_array_equal(stored.split("holdout")["weight"], holdout["w"])
    assert stored.split("holdout")["weight"].dtype == np.float64
    assert store(train, holdout).facts["task"] == "classification"  # auto never takes a count for one
    assert store(train, holdout).split("holdout")["weight"].isna().all()
    train.loc[2, "w"] = 0
    with pytest.raises(InputError, match=r"row 3: column 'w': 0\.0 is not a weight above 0"):
        store(train, holdout, weight="w")


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_possible_groups(store, tmp_path: Path, ending: str):
    train, holdout = reviews(200), reviews(200, seed=1)
    numbers = np.arange(200)
    holdout["shop_id"] = numbers // 10  # 20 numbers, by the name of the column
    holdout["city"] = [f"city {i}" if i else None for i in numbers % 12]  # 11 names, 17 nulls
    holdout["few"] = [f"kind {i}" for i in numbers % 9]
    holdout["row_key"] = [f"key {i}" for i in numbers]  # nothing repeats
    holdout["summary"] = ["long " * 20 + str(i) for i in numbers % 50]
    holdout["age"] = numbers % 40
    (tmp_path / "other").mkdir()
    place = tmp_path / "other" / f"holdout.{ending}"
    if ending == "csv":
        holdout.to_csv(place, index=False)
    else:
        holdout.to_json(place, orient="records", lines=True)
    stored = store(train, holdout=str(place))
    assert stored.facts["possible_groups"] == ["author", "shop_id", "city"]  # 50, 20 and 11 values
    groups = pd.read_parquet(stored.folder / "possible_groups.parquet").set_index("row_id")
    assert groups.index.tolist() == stored.split("holdout")["row_id"].tolist()
    assert set(map(str, groups.dtypes)) == {"int64"}
    for name in ("author", "shop_id"):
        pairs = pd.DataFrame({"code": groups[name], "value": holdout[name]}).drop_duplicates()
        assert pairs["code"].is_unique and pairs["value"].is_unique
    assert groups["city"].nunique() == 11 + 17
    assert store(train, holdout=str(place), group="author").facts["possible_groups"] == []


def test_a_run_on_one_file(demo_tree: dict, tmp_path: Path):
    """The texts that train stay the same, whatever is done about overlap."""
    data = {name: value for name, value in demo_tree["data"].items() if name != "holdout"}

    def run(**options) -> runner.Run:
        tree = {**demo_tree, "data": {**data, "holdout_fraction": 0.3, **options}}
        return runner.run(loading.parse(tree, "c"), str(tmp_path / "run"), until="select")

    first = run(task="count")
    selection = first.records[3].step.folder.read_table("selection.parquet").to_pandas()
    assert selection["rank"].notna().sum() == 8
    again = run(overlap="keep", near_copy=0.7)
    assert [record.step.stage.name for record in again.records if record.reused] == ["embed", "train_sae"]
    other = run(holdout_fraction=0.4)
    assert not any(record.reused for record in other.records)


def test_with_one_file_the_config_asks_for_a_fraction(demo_tree: dict):
    data = {name: value for name, value in demo_tree["data"].items() if name != "holdout"}
    with pytest.raises(ConfigError, match="data: nothing to test on: name other texts with holdout: FILE"):
        loading.parse({**demo_tree, "data": data}, "c")


def test_what_a_holdout_to_be_split_off_will_take_cannot_be_planned(demo_tree: dict):
    data = {**demo_tree["data"], "holdout": None, "holdout_fraction": 0.3}
    with pytest.raises(ConfigError, match="known when the run has split them"):
        annotation.job_of(loading.parse({**demo_tree, "data": data}, "c"))
