import math

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from hypsae_ray.config import Evaluate
from hypsae_ray.stats.analysis import analyse, method_of
from hypsae_ray.stats.prediction.chain import Value, predictive_value
from hypsae_ray.stats.sample import LabelArray, Sample

OPTIONS = Evaluate(n_bootstrap=100, n_permutations=0)


def value_of(sample: Sample, task="regression", features=None, options: Evaluate = OPTIONS) -> Value:
    analysis = analyse(sample, method_of(task, sample, options.cov_type), options)
    return predictive_value(analysis, features or {}, options)


def draw(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An embedding, labels of two of its directions, and a target that goes with three."""
    rng = np.random.default_rng(seed)
    embedding = rng.normal(size=(n, 8))
    target = embedding[:, :3].sum(axis=1) + rng.normal(size=n)
    return embedding, (embedding[:, :2] > 0).astype(float), target


def folds_of(sample: Sample, task="regression") -> np.ndarray:
    return analyse(sample, method_of(task, sample, "auto"), OPTIONS).folds


def test_r2_of_the_hypotheses_is_that_of_scikit_learn_on_the_same_folds():
    _, labels, target = draw()
    sample = Sample(LabelArray(labels), target)
    split = PredefinedSplit(folds := folds_of(sample))
    guess = cross_val_predict(LinearRegression(), labels, target, cv=split)
    mean = np.array([target[folds != fold].mean() for fold in folds])
    r2 = 1 - ((target - guess) ** 2).sum() / ((target - mean) ** 2).sum()
    found = value_of(sample).metrics
    assert found["r2_cross_fitted"] == pytest.approx(r2)
    assert found["r2_ci_low"] < r2 < found["r2_ci_high"]
    assert set(found) == {"r2_cross_fitted", "r2_ci_low", "r2_ci_high"}


def test_auc_of_the_hypotheses_is_that_of_scikit_learn_on_the_same_folds():
    _, labels, target = draw()
    target = (target > 1).astype(float)
    sample = Sample(LabelArray(labels), target)
    folds = folds_of(sample, "classification")
    model = LogisticRegression(C=1.0, tol=1e-10)
    guess = cross_val_predict(
        model, labels, target, cv=PredefinedSplit(folds), method="decision_function"
    ).round(6)  # the same labels have the same score
    found = value_of(sample, "classification").metrics
    aucs = [roc_auc_score(target[folds == fold], guess[folds == fold]) for fold in range(OPTIONS.folds)]
    assert found["auc_cross_fitted"] == pytest.approx(np.mean(aucs))
    assert {"auc_ci_low", "auc_ci_high", "auprc_cross_fitted", "auprc_ci_low", "auprc_ci_high"} < set(found)


@pytest.mark.parametrize("task", ["regression", "classification", "count"])
def test_the_chain_goes_from_what_holds_all_signal_to_what_holds_less(task):
    embedding, labels, target = draw()
    target = {"classification": (target > 0) * 1.0, "count": np.round(np.exp(target / 3))}.get(task, target)
    keywords = np.random.default_rng(9).normal(size=(400, 3))
    features = {"keywords": keywords, "embedding": embedding, "neurons": np.maximum(embedding, 0)}
    found = value_of(Sample(LabelArray(labels), target), task, features)
    chain = found.chain.set_index("features")
    assert chain.index.tolist() == ["embedding", "neurons", "hypotheses", "keywords"]
    assert chain["n_features"].tolist() == [8, 8, 2, 3]
    measure, nothing = ("auc", 0.5) if task == "classification" else ("r2", 0.0)
    values = chain[measure]
    assert values["embedding"] > values["hypotheses"] > values["keywords"]
    assert values["keywords"] == pytest.approx(nothing, abs=0.1)
    assert values["hypotheses"] == pytest.approx(found.metrics[f"{measure}_cross_fitted"])
    share = (values["hypotheses"] - nothing) / (values["embedding"] - nothing)
    assert found.metrics["share_of_ceiling"] == pytest.approx(share)
    assert (chain[f"{measure}_ci_low"] < values).all() and (values < chain[f"{measure}_ci_high"]).all()


def test_features_of_the_first_rows_are_compared_on_these():
    embedding, labels, target = draw()
    labels[10, 0] = np.nan
    sample = Sample(LabelArray(labels), target)
    found = value_of(sample, features={"embedding": embedding[:250]})
    assert found.notes == ["embedding and neurons are compared on the first 249 rows: more do not fit memory"]
    folds, first = folds_of(sample), np.delete(np.arange(400), 10)
    guess = np.full(400, np.nan)
    guess[first] = cross_val_predict(
        LinearRegression(), labels[first], target[first], cv=PredefinedSplit(folds[first])
    )
    inside = first[first < 250]
    y, f = target[inside], folds[inside]
    mean = np.array([y[f != fold].mean() for fold in f])
    r2 = 1 - ((y - guess[inside]) ** 2).sum() / ((y - mean) ** 2).sum()
    assert found.chain.set_index("features")["r2"]["hypotheses"] == pytest.approx(r2)
    assert found.metrics["r2_cross_fitted"] != pytest.approx(r2)


def test_an_embedding_that_predicts_nothing_has_no_share():
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 2)) < 0.5).astype(float)
    features = {"embedding": rng.normal(size=(60, 3))}
    found = value_of(Sample(LabelArray(labels), rng.normal(size=60)), features=features)
    ceiling = found.chain.set_index("features")["r2"]["embedding"]
    assert ceiling <= 0 and math.isnan(found.metrics["share_of_ceiling"])


def test_groups_are_in_one_fold_and_drawn_as_wholes():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(50), 8)
    # Labels that tell groups apart, and a target that is the group's: nothing of it holds for other groups.
    labels = ((groups[:, None] // (2 ** np.arange(6))) % 2).astype(float)
    target = rng.normal(size=50)[groups] + rng.normal(0, 0.1, 400)
    alone = value_of(Sample(LabelArray(labels), target)).metrics
    together = value_of(Sample(LabelArray(labels), target, groups=groups)).metrics
    assert together["r2_cross_fitted"] < alone["r2_cross_fitted"]
    assert together["r2_ci_high"] - together["r2_ci_low"] > 1.5 * (alone["r2_ci_high"] - alone["r2_ci_low"])


def test_fixed_effects_take_no_part_in_predictions():
    _, labels, target = draw()
    plain = value_of(Sample(LabelArray(labels), target)).metrics
    absorbed = value_of(Sample(LabelArray(labels), target, effects=np.arange(400)[:, None] % 20)).metrics
    assert absorbed == pytest.approx(plain)


@pytest.mark.parametrize("task", ["regression", "classification", "count"])
@pytest.mark.parametrize(
    "sample",
    [
        Sample(LabelArray(np.ones((40, 0))), np.arange(40.0) % 2),
        Sample(LabelArray(np.full((40, 2), np.nan)), np.arange(40.0) % 2),
        Sample(LabelArray(np.eye(40)[:, :2]), np.zeros(40)),
        Sample(LabelArray(np.eye(40)[:, :2]), np.ones(40)),
        Sample(LabelArray(np.eye(4)[:, :2]), np.arange(4.0) % 2),
        Sample(LabelArray(np.eye(40)[:, :2]), np.arange(40.0) % 2, groups=np.arange(40) % 3),
    ],
    ids=["no hypothesis", "no label", "all 0", "all 1", "fewer rows than folds", "fewer groups than folds"],
)
def test_folds_that_cannot_be_judged_leave_blanks(sample, task):
    found = value_of(sample, task, {"embedding": np.ones((sample.n, 3))})
    assert all(math.isnan(value) for value in found.metrics.values())
    assert ("auc_cross_fitted" if task == "classification" else "r2_cross_fitted") in found.metrics
    assert len(found.chain) == 0


@pytest.mark.parametrize("task", ["classification", "count"])
def test_outcomes_of_one_group_alone_are_predicted_without_an_error(task):
    labels = (np.random.default_rng(0).random((60, 2)) < 0.5).astype(float)
    groups = np.repeat(np.arange(6), 10)
    target = ((groups == 2) & (labels[:, 0] == 1)).astype(float)
    found = value_of(Sample(LabelArray(labels), target, groups=groups), task).metrics
    assert math.isfinite(found["auc_cross_fitted" if task == "classification" else "r2_cross_fitted"])


def test_the_same_seed_gives_the_same_values():
    _, labels, target = draw()
    sample = Sample(LabelArray(labels), target)
    assert value_of(sample).metrics == value_of(sample).metrics
    other = value_of(sample, options=OPTIONS.model_copy(update={"random_state": 1})).metrics
    assert other != value_of(sample).metrics
