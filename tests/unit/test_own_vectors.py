"""Vectors that users bring: from each kind of file, with their rows through every split, and refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hypsae_ray import pipeline
from hypsae_ray.cluster.session import Session
from hypsae_ray.config import Embed
from hypsae_ray.config.loading import parse
from hypsae_ray.console import Console
from hypsae_ray.data.own_vectors import differing, sketch
from hypsae_ray.errors import ConfigError, InputError
from hypsae_ray.stages.embed import to_vectors
from hypsae_ray.store.artifacts import Folder

N, D = 120, 6
WORDS = ("soup", "dog", "park", "waiter", "garden", "river", "bread")


@pytest.fixture
def rows() -> pd.DataFrame:
    """Rows with a vector each, all different; row 30 repeats the text and the vector of row 2."""
    rng = np.random.default_rng(0)
    words = [" ".join(rng.choice(WORDS, 12)) + f" {i}" for i in range(N)]
    frame = pd.DataFrame({"id": [f"r{i}" for i in range(N)], "text": words, "y": rng.normal(size=N)})
    frame["embedding"] = list(rng.normal(size=(N, D)).astype(np.float32))
    for column in ("text", "embedding"):
        frame.at[30, column] = frame.at[2, column]
    return frame


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)


def write_fixed(frame: pd.DataFrame, path: Path) -> None:
    flat = pa.array(np.concatenate(frame["embedding"].to_list()), pa.float32())
    table = pa.Table.from_pandas(frame.drop(columns="embedding"), preserve_index=False)
    pq.write_table(table.append_column("embedding", pa.FixedSizeListArray.from_arrays(flat, D)), path)


def write_jsonl(frame: pd.DataFrame, path: Path) -> None:
    lines = (json.dumps({**row, "embedding": row["embedding"].tolist()}) for row in frame.to_dict("records"))
    path.write_text("\n".join(lines))


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    frame.assign(embedding=[json.dumps(v.tolist()) for v in frame["embedding"]]).to_csv(path, index=False)


def plan(folder: Path, train: str, embed: dict | None, until: str, **data: object) -> list[pipeline.Step]:
    tree = {
        "data": {"train": str(folder / train), "target": "y", "id": "id", "shard_rows": 25, **data},
        "embed": {"engine": "column", **(embed or {})},
        "train_sae": {"n_neurons": 8, "k": 2, "max_epochs": 1},
        "select": {"n": 2},
        "llm": {"engine": "keywords"},
    }
    if "holdout" not in data:
        tree["data"] |= {"holdout_fraction": 0.3}
    return pipeline.plan(parse(tree, "c.yaml"), Folder.at(folder / "run"), until)


def run(
    folder: Path, train: str, embed: dict | None = None, until: str = "data", **data: object
) -> list[pipeline.Step]:
    steps = plan(folder, train, embed, until, **data)
    list(pipeline.run_steps(steps, Folder.at(folder / "run"), Console()))
    return steps


def stored(steps: list[pipeline.Step], prefix: str = "own-") -> dict[str, np.ndarray]:
    """Return the vectors that the stages wrote, by id of the row."""
    names: dict[tuple[str, int], str] = {}
    found: dict[tuple[str, int], np.ndarray] = {}
    for split in ("train-", "val-", "holdout-"):
        for table in steps[0].folder.tables(split, ["row_id", "source_id"]):
            frame = table.to_pandas()
            names |= {
                (split, row): name for row, name in zip(frame["row_id"], frame["source_id"], strict=True)
            }
        for step in steps if not prefix else steps[:1]:
            for table in step.folder.tables(prefix + split):
                if "embedding" in table.column_names:
                    rows = zip(table["row_id"].to_pylist(), to_vectors(table), strict=True)
                    found |= {(split, row): vector for row, vector in rows}
    return {names[row]: vector for row, vector in found.items()}


def unit(frame: pd.DataFrame, dimensions: int = D) -> dict[str, np.ndarray]:
    cut = {name: v[:dimensions] for name, v in zip(frame["id"], frame["embedding"], strict=True)}
    return {name: v / np.linalg.norm(v) for name, v in cut.items()}


def require_equal(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    np.testing.assert_allclose([found[name] for name in wanted], list(wanted.values()), atol=1e-6)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_parquet, "a.parquet"),
        (write_fixed, "a.parquet"),
        (write_jsonl, "a.jsonl"),
        (write_csv, "a.csv"),
    ],
)
def test_a_column_in_every_format_follows_its_rows(
    tmp_path: Path, rows: pd.DataFrame, write: Callable, name: str
):
    write(rows, tmp_path / name)
    require_equal(stored(run(tmp_path, name)), unit(rows))


def test_an_npy_is_in_the_order_of_rows_that_are_left_out_too(tmp_path: Path, rows: pd.DataFrame):
    np.save(tmp_path / "train.npy", np.stack(rows["embedding"].to_list()).astype(np.float64))
    rows.loc[7, "text"] = " "
    write_csv(rows.drop(columns="embedding").assign(embedding=[np.zeros(1)] * N), tmp_path / "a.csv")
    files = {"files": {"train": str(tmp_path / "train.npy")}}
    steps = run(tmp_path, "a.csv", {**files, "dimensions": 4}, "embed_holdout", on_bad_rows="drop")
    wanted = unit(rows, 4)
    del wanted["r7"]
    require_equal(stored(steps), wanted)
    require_equal(stored(steps, ""), wanted)  # of `embed` and `embed_holdout`


def test_vectors_with_ids_may_stand_in_any_order(tmp_path: Path, rows: pd.DataFrame):
    write_csv(rows[:80], tmp_path / "a.csv")
    write_csv(rows[80:], tmp_path / "b.csv")
    write_fixed(rows.sample(frac=1, random_state=0)[["id", "embedding"]], tmp_path / "v.parquet")
    both = {"train": str(tmp_path / "v.parquet"), "holdout": str(tmp_path / "v.parquet")}
    out = run(
        tmp_path,
        "a.csv",
        {"files": both, "normalize": False},
        holdout=str(tmp_path / "b.csv"),
        overlap="keep",
    )
    require = dict(zip(rows["id"][80:], rows["embedding"][80:], strict=True))
    found = stored(out)
    # row ids count from 0 in the holdout again, so that only its rows are told apart here
    require_equal({name: found[name] for name in require}, require)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (None, "row 4: column 'embedding': the vector is missing"),
        ([1.0, 2.0], "row 4: column 'embedding': 2 numbers, where the first vector has 6"),
        (
            [1.0, None, 2, 3, 4, 5],
            "row 4: column 'embedding': number 2 of the vector is nan, not a finite number",
        ),
        (
            [1.0, 1e300, 2, 3, 4, 5],
            "row 4: column 'embedding': number 2 of the vector is 1e+300, not a finite",
        ),
        ([0.0] * 6, "row 4: column 'embedding': its first 6 numbers are all 0, which no factor scales"),
        ("soup", "row 4: column 'embedding': 'soup' is not a list of numbers, such as [0.1, -0.2]"),
        ([[1.0]], "row 4: column 'embedding': [[1.0]] is not a list of numbers"),
    ],
)
def test_bad_vectors_are_bad_rows(tmp_path: Path, rows: pd.DataFrame, change: object, reason: str):
    lines = rows.assign(embedding=[v.tolist() for v in rows["embedding"]]).to_dict("records")
    lines[3]["embedding"] = change
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(InputError) as error:
        run(tmp_path, "a.jsonl")
    assert f"{tmp_path}/a.jsonl: 1 bad row(s) in train:\n  {reason}" in str(error.value)
    assert not (tmp_path / "run").exists()
    wanted = unit(rows)
    del wanted["r3"]
    require_equal(stored(run(tmp_path, "a.jsonl", on_bad_rows="drop")), wanted)


def test_a_text_with_two_vectors_is_refused_and_rounding_is_not(tmp_path: Path, rows: pd.DataFrame):
    rows.at[30, "embedding"] = rows.at[2, "embedding"] * np.float32(1.003)
    write_parquet(rows, tmp_path / "a.parquet")
    require = unit(rows)
    require_equal(stored(run(tmp_path, "a.parquet")), require)
    rows.at[30, "embedding"] = rows.at[31, "embedding"]
    write_parquet(rows, tmp_path / "a.parquet")
    with pytest.raises(InputError) as error:
        run(tmp_path, "a.parquet")
    path = f"{tmp_path}/a.parquet"
    assert f"row 31: its text is that of row 3 of {path}, but its vector is another" in str(error.value)


def test_sketches_tell_vectors_apart_by_their_distance():
    rng = np.random.default_rng(1)
    one = rng.normal(size=(2000, 300)).astype(np.float32)
    noise = rng.normal(size=one.shape).astype(np.float32)
    keys = np.tile(np.arange(2000, dtype=np.uint64), 2)
    near = differing(keys, sketch(np.concatenate([one, one + 0.005 * noise])))
    far = differing(keys, sketch(np.concatenate([one, one + noise])))
    assert (near == -1).all()
    assert far.tolist() == [-1] * 2000 + list(range(2000))


def test_what_does_not_fit_the_data_is_named(tmp_path: Path, rows: pd.DataFrame):
    write_csv(rows, tmp_path / "a.csv")
    place = str(tmp_path / "v.npy")

    def refusal(array: np.ndarray, **embed: object) -> str:
        np.save(place, array)
        with pytest.raises(InputError) as error:
            run(tmp_path, "a.csv", {"files": {"train": place}, **embed})
        assert not (tmp_path / "run").exists()
        return str(error.value)

    vectors = np.stack(rows["embedding"].to_list())
    assert refusal(vectors[:-1]).startswith(f"{place}: 119 vectors, but {tmp_path}/a.csv has 120 rows")
    needed = f"{place}: an array (n, d) of numbers is needed, not one of shape (6,)"
    assert refusal(vectors[0]).startswith(needed)
    assert "cannot be read as an array of numpy: Object arrays cannot be loaded" in refusal(np.array([{}]))
    assert "vectors of 6 numbers, but embed.dimensions is 7" in refusal(vectors, dimensions=7)
    bad = vectors.copy()
    bad[11, 2] = np.inf
    assert f"row 12: {place}, row 12: number 3 of the vector is inf" in refusal(bad)
    with pytest.raises(InputError, match=r"v\.csv: no column 'embedding'; it has id"):
        (tmp_path / "v.csv").write_text("id\nr1\n")
        run(tmp_path, "a.csv", {"files": {"train": str(tmp_path / "v.csv")}})
    with pytest.raises(InputError, match=r"v\.csv: row 2: id r1 has a vector already"):
        (tmp_path / "v.csv").write_text('id,embedding\nr1,"[1, 2]"\nr1,"[1, 2]"\n')
        run(tmp_path, "a.csv", {"files": {"train": str(tmp_path / "v.csv")}})
    with pytest.raises(InputError, match=r"gone\.npy: cannot be read"):
        run(tmp_path, "a.csv", {"files": {"train": str(tmp_path / "gone.npy")}})


@pytest.mark.parametrize(
    ("embed", "data", "message"),
    [
        (
            {"files": {"train": "v.npy", "holdout": "h.npy"}},
            {},
            "embed.files.holdout and data.holdout belong",
        ),
        ({"files": {"train": "v.npy"}}, {"holdout": "h.csv"}, "embed.files.holdout and data.holdout belong"),
        ({"column": "y"}, {}, "embed.column 'y' is a column that section data uses"),
        (
            {"engine": "sentence_transformers", "files": {"train": "v.npy"}},
            {},
            "files of own vectors need engine",
        ),
    ],
)
def test_what_cannot_belong_together_is_refused(tmp_path: Path, embed: dict, data: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, "a.csv", embed, **data)


def test_other_vectors_are_another_content(tmp_path: Path, rows: pd.DataFrame):
    write_csv(rows, tmp_path / "a.csv")
    files = {"files": {"train": str(tmp_path / "v.npy")}}
    vectors = np.stack(rows["embedding"].to_list())

    def hashes(array: np.ndarray, **embed: object) -> dict[str, str]:
        np.save(tmp_path / "v.npy", array)
        steps = plan(tmp_path, "a.csv", {**files, **embed}, "embed_holdout")
        return {step.stage.name: step.hash for step in steps}

    before = hashes(vectors)
    assert hashes(vectors.copy()) == before
    for other in (hashes(-vectors), hashes(vectors, dimensions=3), hashes(vectors, normalize=False)):
        assert set(other.items()).isdisjoint(before.items())


def test_own_vectors_need_neither_model_nor_ray():
    with Session() as session:
        session.check([Embed(engine="column")])
        assert not session._started_ray
        with pytest.raises(ConfigError, match="engine column: it has no model"):
            session.embedder(Embed(engine="column", replicas={"min": 0, "max": 0}))  # type: ignore[arg-type]
