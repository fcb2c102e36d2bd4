import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from hypsae_ray.stats.redundancy import Agreement, agreement
from hypsae_ray.stats.sample import LabelArray, Sample


def compare(labels: np.ndarray, values: tuple[int, ...] = (0, 1)) -> Agreement:
    return agreement(Sample(LabelArray(labels), np.zeros(len(labels))), values)


@pytest.mark.parametrize("values", [(0, 1), (-1, 0, 1)])
def test_phi_and_kappa_are_those_of_the_rows_that_have_both_labels(values):
    rng = np.random.default_rng(0)
    labels = rng.choice(values, (300, 3)).astype(float)
    labels[:, 1] = np.where(rng.random(300) < 0.6, labels[:, 0], labels[:, 1])
    labels[rng.random((300, 3)) < 0.2] = np.nan
    found = compare(labels, values)
    for i in range(3):
        for j in range(3):
            both = labels[~np.isnan(labels[:, [i, j]]).any(axis=1)]
            assert found.n[i, j] == len(both)
            assert found.phi[i, j] == pytest.approx(np.corrcoef(both[:, i], both[:, j])[0, 1])
            assert found.kappa[i, j] == pytest.approx(cohen_kappa_score(both[:, i], both[:, j]))


def test_labels_that_do_not_vary_or_are_missing_agree_with_nothing():
    labels = np.column_stack([np.arange(10) % 2, np.ones(10), np.full(10, np.nan)])
    found = compare(labels)
    assert np.isnan(found.phi[[0, 0, 1, 1, 2], [1, 2, 1, 2, 2]]).all()
    assert found.groups().tolist() == [0, 0, 0]
    assert len(found.pairs()) == 0


def test_near_copies_are_numbered_in_order_opposites_and_chains_among_them():
    rng = np.random.default_rng(1)
    a, b, c = (rng.random((3, 1000)) < 0.5).astype(float)
    step = a.copy()
    step[:60] = 1 - step[:60]
    further = step.copy()
    further[60:120] = 1 - further[60:120]
    labels = np.column_stack([c, a, b, step, 1 - b, further])
    found = compare(labels)
    phi = np.corrcoef(labels.T)
    assert phi[1, 3] > 0.8 and phi[3, 5] > 0.8 and phi[1, 5] < 0.8
    assert found.groups().tolist() == [0, 1, 2, 1, 2, 1]


def test_pairs_that_agree_are_listed_the_closest_first():
    rng = np.random.default_rng(1)
    a, b = (rng.random((2, 1000)) < 0.5).astype(float)
    noisy = np.where(rng.random(1000) < 0.85, a, 1 - a)  # phi of 0.7
    faint = np.where(rng.random(1000) < 0.7, b, 1 - b)  # phi of 0.4: not listed
    table = compare(np.column_stack([a, b, noisy, 1 - a, faint])).pairs()
    assert list(table.columns) == ["first", "second", "phi", "kappa", "n"]
    assert table.loc[0, ["first", "second"]].tolist() == [0, 3]
    assert {tuple(sorted(pair)) for pair in table[["first", "second"]].to_numpy().tolist()} == {
        (0, 2), (0, 3), (2, 3),
    }  # fmt: skip
    assert table["phi"][0] == pytest.approx(-1)
    pd.testing.assert_series_equal(table["n"], pd.Series([1000.0] * 3, name="n"))


@pytest.mark.parametrize("width", [0, 1])
def test_no_pair_at_all(width):
    found = compare(np.ones((5, width)))
    assert found.groups().tolist() == [0] * width
    assert len(found.pairs()) == 0
