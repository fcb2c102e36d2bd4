"""Pairs of texts from stored labels to p-values: the same either way round, and a null is a null."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import binom

from hypsae_ray.config import Config
from hypsae_ray.config.loading import parse
from hypsae_ray.data.arrays import Floats
from hypsae_ray.data.chunks import CHUNKS
from hypsae_ray.data.rows import contents, text_ids
from hypsae_ray.labels.annotations import to_columns
from hypsae_ray.labels.read import StoredLabels
from hypsae_ray.models.protocols import Annotations
from hypsae_ray.stages.evaluate import document_notes, shared_notes
from hypsae_ray.stages.holdout import linked_pairs, make_sample
from hypsae_ray.stats.evaluate import Evaluation, evaluate
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import annotations

PAIRS = {"train": "train.jsonl", "holdout": "h.jsonl", "text_a": "a", "text_b": "b", "target": "chosen"}
QUICK = {"folds": 0, "n_bootstrap": 0, "n_permutations": 0}


def config(**evaluate: object) -> Config:
    return parse({"data": PAIRS, "evaluate": {**QUICK, **evaluate}}, "c")


def store(folder: Path, p_yes: Floats) -> StoredLabels:
    """Write annotations (2n, H) of the texts of n pairs, NaN where there is none, as a run does."""
    status = np.where(np.isnan(p_yes), 1, 0).astype(np.int8)
    columns = to_columns(Annotations(p_yes.astype(np.float32), np.zeros_like(p_yes, np.float32), status))
    rows = np.arange(len(p_yes)) // 2 * CHUNKS + np.arange(len(p_yes)) % 2
    table = pa.table({"row_id": pa.array(rows), **columns}, schema=annotations(p_yes.shape[1]))
    Folder.at(folder).write_table("annotations-00000.parquet", table)
    return StoredLabels(Folder.at(folder), 0.5)


def evaluated(labels: StoredLabels, target: Floats, settings: Config) -> Evaluation:
    rows = pd.DataFrame({"target": target})
    return evaluate(make_sample(labels, rows, settings), "pairwise", settings.evaluate)


def draw(rng: np.random.Generator, n: int, n_hypotheses: int) -> Floats:
    p_yes = np.where(rng.random((2 * n, n_hypotheses)) < 0.35, 0.9, 0.1)
    p_yes[rng.random(p_yes.shape) < 0.01] = np.nan
    return p_yes


@pytest.mark.parametrize("choice", [True, False])
def test_swapping_the_texts_and_the_target_changes_nothing(tmp_path: Path, choice: bool):
    rng = np.random.default_rng(0)
    p_yes = draw(rng, 300, 3)
    effects = np.nan_to_num(p_yes[::2] - p_yes[1::2]) @ [1.5, -1, 0] + rng.logistic(0.5, 1, 300)
    target = (effects > 0).astype(float) if choice else effects
    swapped = p_yes.reshape(300, 2, 3)[:, ::-1].reshape(600, 3)
    found = evaluated(store(tmp_path / "one", p_yes), target, config()).table
    mirror = evaluated(store(tmp_path / "other", swapped), 1 - target if choice else -target, config()).table
    numbers = found.select_dtypes("number").columns.drop("redundancy_group")
    pd.testing.assert_frame_equal(found[numbers], mirror[numbers], rtol=1e-6)
    assert found["significant"].tolist() == [True, True, False]
    assert found["regression_coef"][0] > 0 > found["regression_coef"][1]


def test_a_true_null_is_rejected_at_its_level(tmp_path: Path):
    """150 pairs and four properties without effect, where the first text is chosen more often."""
    rng, n, alone, joint, any_found = np.random.default_rng(1), 150, 0, 0, 0
    for number in range(n_datasets := 100):
        labels = store(tmp_path / str(number), draw(rng, n, 4))
        found = evaluated(labels, (rng.random(n) < 0.65).astype(float), config(alpha=0.1))
        alone += int((found.table["separation_pval"] < 0.05).sum())
        joint += int((found.table["regression_pval"] < 0.05).sum())
        any_found += int(found.table["significant"].any())
    low, high = binom.interval(0.999, 4 * n_datasets, 0.05)
    assert low <= alone <= high
    assert low <= joint <= high
    assert any_found <= binom.ppf(0.999, n_datasets, 0.1)


def test_missing_labels_of_pairs_are_counted(tmp_path: Path):
    labels = store(tmp_path, np.array([[0.9, 0.1], [np.nan, 0.2], [0.3, 0.8], [0.1, np.nan]]))
    (note,) = document_notes(labels, config().data)
    assert note == (
        "tests are on 2 pairs: a label is that of the first text minus that of the second; 2 of 4 labels of "
        "pairs are missing, as one of the texts has none"
    )


def test_pairs_with_texts_in_common_are_linked():
    ids = np.array([1, 2, 3, 4, 2, 5, 6, 6, 4, 7], dtype=np.uint64)  # (1, 2), (3, 4), (2, 5), (6, 6), (4, 7)
    codes = linked_pairs(ids).tolist()
    assert codes[0] == codes[2] and codes[1] == codes[4]
    assert len(set(codes)) == 3
    assert shared_notes(pd.Series(codes)) == [
        "of 5 pairs only 3 sets have no text in common: pairs that share a text are not independent "
        "evidence; data.group can say so"
    ]
    assert shared_notes(pd.Series(range(50))) == []
    assert shared_notes(pd.Series(codes), np.array([7, 8, 7, 9, 8])) == []
    assert len(shared_notes(pd.Series(codes), np.array([7, 8, 9, 9, 8]))) == 1  # one set, two groups


def test_a_pair_is_the_same_in_either_order():
    pairs = pd.DataFrame({"text": ["a", "b", "ab"], "text_b": ["b", "a", ""]})
    first, second, other = text_ids(contents(pairs))
    assert first == second != other
