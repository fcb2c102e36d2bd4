"""Several classes: neurons by turns, and from stored labels to p-values."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp
from scipy.stats import binom

from hypsae_ray.config import Evaluate, Select
from hypsae_ray.config.loading import parse
from hypsae_ray.labels.annotations import to_columns
from hypsae_ray.labels.read import StoredLabels
from hypsae_ray.models.protocols import Annotations
from hypsae_ray.neurons.classes import take_turns
from hypsae_ray.neurons.selection import Selection
from hypsae_ray.stages.evaluate import absent_notes
from hypsae_ray.stages.holdout import make_sample
from hypsae_ray.stages.select import choose, target_correlation
from hypsae_ray.stats.evaluate import evaluate
from hypsae_ray.stats.sample import LabelArray, Sample
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import annotations

QUICK = {"folds": 0, "n_bootstrap": 0, "n_permutations": 0}
DATA = {"train": "t", "holdout": "h", "target": "y", "task": "multiclass"}


def ranking(neurons: list[int], scores: list[float]) -> Selection:
    return Selection(np.array(neurons), np.array(scores), np.zeros(5), np.full(5, "alive"), np.full(5, ""))


def test_classes_take_turns():
    first, second = ranking([3, 1, 0], [0.5, -0.6, 0, 0.9, 0]), ranking([3, 4, 1], [0, 0.4, 0.1, 0.95, -0.5])
    chosen, about = take_turns([first, second], 4)
    assert chosen.neurons.tolist() == [3, 4, 1, 0]  # 3 is the second's too, but the first took it
    assert about.tolist() == [0, 0, 1, 0, 1]
    assert chosen.scores.tolist() == [0.5, -0.6, 0.1, 0.9, -0.5]
    assert take_turns([first, second], 3)[0].neurons.tolist() == [3, 4, 1]
    assert take_turns([first, second], 9)[0].neurons.tolist() == [3, 4, 1, 0]


def test_each_class_gets_the_neuron_that_tells_it_from_the_rest():
    """Neuron j fires on class j, of codes 0, 2 and 3: of class 1 there are no training rows."""
    rng = np.random.default_rng(0)
    target = rng.choice([0.0, 2, 3], 600)
    dense = (rng.random((600, 5)) < np.where(target[:, None] == np.arange(5), 0.7, 0.1)).astype(float)
    fired = sp.csr_matrix(dense)
    for method in ("correlation", "separation_score", "lasso"):
        chosen, about = choose(fired, target, Select(method=method, n=3), "multiclass")
        assert about is not None
        assert about[chosen.neurons].tolist() == chosen.neurons.tolist() == [0, 2, 3]
        found = target_correlation(fired, target, about)
        by_hand = [np.corrcoef(dense[:, j], target == j)[0, 1] for j in (0, 2, 3)]
        np.testing.assert_allclose(found[[0, 2, 3]], by_hand)


def test_classes_without_a_row_to_test_are_named():
    assert absent_notes(["a", "b", "c"], np.array([0.0, 2, 2])) == [
        "not tested, as no annotated row of the holdout is of the class: b"
    ]
    assert absent_notes(["a", "b"], np.array([0.0, 1])) == []


def test_a_class_of_one_text_is_tested_all_the_same():
    rng = np.random.default_rng(0)
    labels, target = (rng.random((60, 2)) < 0.5).astype(float), np.r_[2.0, rng.choice([0.0, 1], 59)]
    found = evaluate(
        Sample(LabelArray(labels), target), "multiclass", Evaluate(n_bootstrap=0, n_permutations=0)
    )
    assert found.table["target_class"].tolist() == [0, 0, 1, 1, 2, 2]
    assert found.table["separation_pval"].between(0, 1).all()
    assert found.details["classes"]["n"].tolist()[2] == 1


def test_a_true_null_is_rejected_at_its_level(tmp_path: Path):
    """300 texts of three classes and four properties that have nothing to do with them."""
    rng, n, alone, joint, any_found = np.random.default_rng(2), 300, 0, 0, 0
    settings = parse({"data": DATA, "evaluate": {**QUICK, "alpha": 0.1}}, "c")
    for number in range(n_datasets := 60):
        p_yes = np.where(rng.random((n, 4)) < 0.35, 0.9, 0.1).astype(np.float32)
        columns = to_columns(Annotations(p_yes, np.zeros_like(p_yes), np.zeros((n, 4), np.int8)))
        folder = Folder.at(tmp_path / str(number))
        table = pa.table({"row_id": pa.array(range(n)), **columns}, schema=annotations(4))
        folder.write_table("annotations-00000.parquet", table)
        rows = pd.DataFrame({"target": rng.choice(3, n, p=[0.5, 0.3, 0.2]).astype(float)})
        sample = make_sample(StoredLabels(folder, 0.5), rows, settings)
        found = evaluate(sample, "multiclass", settings.evaluate).table
        assert len(found) == 3 * 4
        alone += int((found["separation_pval"] < 0.05).sum())
        joint += int((found["regression_pval"] < 0.05).sum())
        any_found += int(found["significant"].any())
    # Tests of the three classes with one property are not independent: no narrower than for a third of them.
    low, high = binom.interval(0.999, 4 * n_datasets, 0.05)
    assert low <= alone / 3 <= high
    assert low <= joint / 3 <= high
    assert any_found <= binom.ppf(0.999, n_datasets, 0.1)
