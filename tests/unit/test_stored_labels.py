from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from hypsae_ray.api.evaluation import evaluate_hypotheses
from hypsae_ray.config import Evaluate
from hypsae_ray.data.arrays import BLOCK_ROWS
from hypsae_ray.labels.annotations import to_columns
from hypsae_ray.labels.read import StoredLabels
from hypsae_ray.models.protocols import Annotations
from hypsae_ray.stats.evaluate import evaluate
from hypsae_ray.stats.sample import LabelArray, Sample
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import Status, annotations


def store(folder: Path, p_yes: np.ndarray, status: np.ndarray, sizes: list[int], row_ids=None) -> Folder:
    """Write annotations of (n, H) as files of the given sizes."""
    out, ids = Folder.at(folder), np.arange(len(p_yes)) if row_ids is None else row_ids
    ends = np.cumsum(sizes)
    assert ends[-1] == len(p_yes)
    for start, end in zip(ends - sizes, ends, strict=True):
        part = slice(start, end)
        scores = Annotations(p_yes[part], np.zeros_like(p_yes[part]), status[part])
        columns = {"row_id": pa.array(ids[part], pa.int64()), **to_columns(scores)}
        table = pa.table(columns, schema=annotations(p_yes.shape[1]))
        out.write_table(f"annotations-{start:012d}.parquet", table)
    return out


def draw(n: int, h: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P(yes), status, and the labels that should come of them at a threshold of 0.5."""
    rng = np.random.default_rng(0)
    p_yes = rng.random((n, h)).astype(np.float32)
    status = rng.choice(
        [Status.OK, Status.CUT, Status.UNSURE, Status.FAILED], (n, h), p=[0.9, 0.06, 0.02, 0.02]
    )
    labels = np.where(p_yes >= 0.5, 1.0, 0.0)
    labels[(status == Status.UNSURE) | (status == Status.FAILED)] = np.nan
    return p_yes, status.astype(np.int8), labels


@pytest.mark.parametrize(
    "sizes",
    [
        [BLOCK_ROWS],
        [1, 2, 4],
        [BLOCK_ROWS, 7],
        [BLOCK_ROWS - 3, 5, 1],
        [2 * BLOCK_ROWS + 9, 1],
        [40_000, 30_001],
        [30_000, BLOCK_ROWS, 30_000, 5_536],
    ],
)
def test_blocks_are_those_of_an_array_whatever_the_size_of_files(tmp_path, sizes):
    p_yes, status, labels = draw(sum(sizes), 2)
    stored = StoredLabels(store(tmp_path, p_yes, status, sizes), 0.5)
    assert stored.shape == labels.shape
    expected, found = list(LabelArray(labels).blocks()), list(stored.blocks())
    assert [len(block) for block in found] == [len(block) for block in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("status", list(Status))
def test_a_status_without_an_answer_has_no_label_whatever_value_is_stored(tmp_path, status):
    p_yes = np.array([[0.9, 0.1]], dtype=np.float32)
    statuses = np.array([[status, Status.OK]], dtype=np.int8)
    (block,) = StoredLabels(store(tmp_path, p_yes, statuses, [1]), 0.5).blocks()
    usable = status in (Status.OK, Status.CUT)
    np.testing.assert_array_equal(block, [[1.0 if usable else np.nan, 0.0]])


@pytest.mark.parametrize(
    ("threshold", "expected"), [(0.25, [0, 1, 1, 1]), (0.5, [0, 0, 1, 1]), (0.75, [0, 0, 0, 1])]
)
def test_a_probability_at_the_threshold_is_a_yes(tmp_path, threshold, expected):
    p_yes = np.array([[0.0, 0.25, 0.5, 0.75]], dtype=np.float32)
    (block,) = StoredLabels(store(tmp_path, p_yes, np.zeros((1, 4), dtype=np.int8), [1]), threshold).blocks()
    assert block[0].tolist() == expected


def test_each_hypothesis_may_have_a_threshold_of_its_own(tmp_path):
    p_yes = np.array([[0.3, 0.3], [0.6, 0.6]], dtype=np.float32)
    (block,) = StoredLabels(
        store(tmp_path, p_yes, np.zeros((2, 2), dtype=np.int8), [2]), np.array([0.2, 0.5])
    ).blocks()
    assert block.tolist() == [[1, 0], [1, 1]]


def test_a_table_of_hypotheses_brings_the_thresholds_of_stored_annotations(tmp_path):
    p_yes, status, _ = draw(300)
    cuts = [0.2, 0.5, 0.7]
    target = np.random.default_rng(1).normal(size=300)
    folder = store(tmp_path, p_yes, np.zeros_like(status), [200, 100]).path
    table = pd.DataFrame({"interpretation": list("abc"), "threshold": cuts})
    found = evaluate_hypotheses(folder, target, task="regression", hypotheses=table, n_bootstrap=0)
    np.testing.assert_allclose(found.table["feature_prevalence"], (p_yes >= np.array(cuts)).mean(axis=0))
    assert not any("counts as yes" in note for note in found.notes)
    alike = evaluate_hypotheses(folder, target, task="regression", threshold=0.5, n_bootstrap=0)
    unplaced = evaluate_hypotheses(folder, target, task="regression", n_bootstrap=0)
    assert "a P(yes) of 0.5 or more counts as yes: no threshold was given" in unplaced.notes[-1]
    pd.testing.assert_frame_equal(alike.table, unplaced.table)


def test_row_ids_are_in_the_order_of_the_labels(tmp_path):
    p_yes, status, _ = draw(30)
    ids = np.arange(30) * 7 + 2
    stored = StoredLabels(store(tmp_path, p_yes, status, [11, 2, 17], ids), 0.5)
    np.testing.assert_array_equal(stored.row_ids(), ids)


def test_labels_can_be_read_again(tmp_path):
    p_yes, status, labels = draw(10)
    stored = StoredLabels(store(tmp_path, p_yes, status, [3, 7]), 0.5)
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate(list(stored.blocks())), labels)


@pytest.mark.parametrize(
    ("task", "grouped"),
    [("regression", True), ("regression", False), ("classification", True), ("count", True)],
)
def test_an_evaluation_of_files_is_that_of_the_array(tmp_path, task, grouped):
    n = 70_000
    p_yes, status, labels = draw(n)
    p_yes[:8, 2], p_yes[8:, 2] = 0.9, 0.1  # a small cell
    status[:, 2] = Status.OK
    labels[:, 2] = p_yes[:, 2] >= 0.5
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 2000, n)
    effect = 0.3 * np.nan_to_num(labels[:, 0]) + 0.2 * rng.normal(size=2000)[groups]
    target = {
        "regression": effect + rng.normal(size=n),
        "classification": (rng.random(n) < 1 / (1 + np.exp(-effect))).astype(float),
        "count": rng.poisson(np.exp(effect)).astype(float),
    }[task]
    options = Evaluate(n_bootstrap=20, n_permutations=99)
    known = {"groups": groups} if grouped else {}
    stored = StoredLabels(store(tmp_path, p_yes, status, [20_001, 49_000, 999]), 0.5)
    one, other = (
        evaluate(Sample(which, target, **known), task, options) for which in (stored, LabelArray(labels))
    )
    pd.testing.assert_frame_equal(one.table, other.table, rtol=1e-9, atol=1e-12)
    pd.testing.assert_series_equal(pd.Series(one.metrics), pd.Series(other.metrics), rtol=1e-9)
    assert one.notes == other.notes
    assert one.table["n"].tolist() == (~np.isnan(labels)).sum(axis=0).tolist()


def test_estimates_from_pairs_that_a_mask_chose_have_a_note_beside_them(tmp_path):
    """A mask that asks for hypothesis 1 only where the target is high, and one without any."""
    p_yes, _, _ = draw(300)
    target = np.random.default_rng(1).normal(size=300)
    status = np.full((300, 3), Status.OK, dtype=np.int8)
    whole = evaluate_hypotheses(store(tmp_path / "all", p_yes, status, [300]).path, target, task="regression")
    assert not any("mask" in note for note in [*whole.notes, *whole.table["note"]])
    assert "n_pairs" not in whole.metrics
    low = target < np.median(target)
    status[low, 1] = Status.UNASKED
    status[:10, 0] = Status.UNSURE  # not left out by the mask
    folder = store(tmp_path / "some", p_yes, status, [200, 100])
    found = evaluate_hypotheses(folder.path, target, task="regression")
    complete = 150 - int((~low[:10]).sum())
    assert found.notes[0].startswith(
        "a mask left out 150 of 900 pairs of text and hypothesis: the regression is on the "
        f"{complete} of 300 rows that have every label"
    )
    assert sum("mask" in note for note in found.notes) == 1
    assert found.table["note"].str.contains("chosen by a mask").all()
    assert (found.metrics["n_pairs"], found.metrics["n_pairs_asked"]) == (900, 750)


@pytest.mark.parametrize(("task", "values"), [("multiclass", 3), ("count", 5), ("classification", 2)])
def test_a_mask_is_told_whatever_the_task(tmp_path, task: str, values: int):
    p_yes, _, _ = draw(300)
    status = np.where(np.random.default_rng(2).random((300, 3)) < 0.1, Status.UNASKED, Status.OK).astype(
        np.int8
    )
    target = np.random.default_rng(1).integers(0, values, 300)
    found = evaluate_hypotheses(store(tmp_path, p_yes, status, [300]).path, target, task=task, n_bootstrap=0)
    assert f"a mask left out {(status == Status.UNASKED).sum()} of 900 pairs" in found.notes[0]
    assert found.table["note"].str.contains("chosen by a mask").all()


@pytest.mark.parametrize(("missing", "warned"), [(3, False), (60, True)])
def test_labels_that_are_missing_in_an_array_are_counted_and_warned_of_where_many(missing: int, warned: bool):
    labels = (np.random.default_rng(0).random((300, 2)) < 0.4).astype(float)
    labels[:missing, 1] = np.nan
    target = np.random.default_rng(1).normal(size=300)
    notes = evaluate_hypotheses(labels, target, task="regression").notes
    assert f"{missing} rows with a missing label are left out of the regression" in notes
    assert any("20% of the rows: the results hold if what is missing" in note for note in notes) == warned
