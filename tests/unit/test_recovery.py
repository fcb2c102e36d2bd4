import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from hypsae_ray.demo.recovery import f1_table, format_recovery, recovery

CONCEPTS = pd.DataFrame({"concept": ["slow", "music"], "effect": [-0.8, 0.6]})
TRUTH = np.array([[1, 0], [1, 0], [1, 1], [0, 1], [0, 0]])


def _evaluation(*sentences: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "hypothesis_id": range(10, 10 + len(sentences)),
            "hypothesis": sentences,
            "regression_coef": np.arange(len(sentences)) / 10,
        }
    )


def test_each_concept_is_given_its_best_hypothesis():
    # Against "slow": column 0 hits 2 of 3 and says nothing else, F1 0.8; column 1 hits 1 of 3 with one false.
    labels = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 0]], dtype=float)
    table = recovery(CONCEPTS, TRUTH, labels, _evaluation("mentions a wait", "mentions a band"))
    assert list(table.columns) == [
        "concept", "effect_planted", "hypothesis_id", "hypothesis", "f1", "effect_found",
    ]  # fmt: skip
    assert list(table["hypothesis_id"]) == [10, 11]
    assert table["f1"].tolist() == pytest.approx([0.8, 1.0])
    assert table["effect_planted"].tolist() == [-0.8, 0.6]
    assert table["effect_found"].tolist() == [0.0, 0.1]


def test_f1_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    truth, labels = rng.integers(0, 2, (200, 3)), rng.integers(0, 2, (200, 4))
    expected = [[f1_score(truth[:, c], labels[:, h]) for h in range(4)] for c in range(3)]
    np.testing.assert_allclose(f1_table(truth, labels.astype(float)), expected)


def test_rows_without_a_label_are_left_out_for_that_hypothesis_alone():
    labels = np.array([[1, 1], [np.nan, 0], [np.nan, 0], [0, 0], [0, 0]], dtype=float)
    # Column 0 is known on rows 0, 3, 4 and right on all; column 1 finds one of three.
    assert f1_table(TRUTH[:, :1], labels)[0].tolist() == pytest.approx([1.0, 0.5])


def test_a_hypothesis_without_any_label_scores_zero():
    assert f1_table(TRUTH, np.full((5, 1), np.nan)).tolist() == [[0.0], [0.0]]


def test_no_hypotheses_at_all():
    table = recovery(CONCEPTS, TRUTH, np.empty((5, 0)), _evaluation())
    assert table["f1"].tolist() == [0.0, 0.0]
    assert table["hypothesis"].isna().all()
    assert format_recovery(table).endswith("recovered 0 of 2 planted concepts (F1 of 0.6 or more)")


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="truth"):
        recovery(CONCEPTS, TRUTH[:4], np.zeros((5, 1)), _evaluation("a"))
    with pytest.raises(ValueError, match="2 columns for 1"):
        recovery(CONCEPTS, TRUTH, np.zeros((5, 2)), _evaluation("a"))


def test_the_terminal_table_has_a_line_per_concept_and_counts_at_the_bound():
    # F1 of exactly 0.6 counts: 3 true, 7 said, 3 hit is 6 / 10.
    truth = np.array([[1], [1], [1]] + [[0]] * 7)
    labels = np.array([[1.0]] * 7 + [[0.0]] * 3)
    concepts = pd.DataFrame({"concept": ["slow"], "effect": [-0.8]})
    lines = format_recovery(
        recovery(concepts, truth, labels, _evaluation("waits\n" + "x" * 200))
    ).splitlines()
    assert len(lines) == 3
    assert "-0.80" in lines[1]
    assert "0.60" in lines[1]
    assert max(map(len, lines)) < 120
    assert lines[2] == "recovered 1 of 1 planted concepts (F1 of 0.6 or more)"
