"""Labels of people: what they correct, against known truths; and reading the file that they fill in."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.proportion import proportion_confint

import hypsae_ray
from hypsae_ray.config import Evaluate
from hypsae_ray.config.loading import load_evaluation, parse
from hypsae_ray.data.gold import GoldFile, for_spreadsheet
from hypsae_ray.errors import ConfigError, InputError
from hypsae_ray.stages.gold import _correct
from hypsae_ray.stats.analysis import analyse, method_of
from hypsae_ray.stats.sample import LabelArray, Sample
from hypsae_ray.stats.two_phase.gold import Corrections, Gold, correct_by_gold, draw_size
from hypsae_ray.stats.two_phase.probabilities import allocate
from hypsae_ray.stats.two_phase.raters import accuracy, coder_kappas, kappas

N, BETA, PREVALENCE = 3_000, np.array([0.5, 0.0]), np.array([0.3, 0.3])
QUICK = Evaluate(folds=0, n_bootstrap=0, n_permutations=0)
NAN = np.nan


def population(rng: np.random.Generator, task: str = "regression") -> tuple[np.ndarray, ...]:
    """True labels, target, and P(yes) of a model whose errors differ by hypothesis and by the target."""
    z = (rng.random((N, 2)) < PREVALENCE).astype(float)
    eta = z @ BETA
    y = eta + rng.normal(size=N)
    if task == "classification":
        y = (rng.random(N) < 1 / (1 + np.exp(-eta))).astype(float)
    high = (y > np.median(y) if task == "regression" else y == 1)[:, None]
    sensitivity, specificity = np.where(high, [0.9, 0.9], [0.7, 0.7]), np.where(high, [0.8, 0.85], [1, 0.95])
    yes = np.where(z == 1, rng.random((N, 2)) < sensitivity, rng.random((N, 2)) > specificity)
    return z, y, np.where(yes, 0.5 + rng.random((N, 2)) / 2, rng.random((N, 2)) / 2)


def corrected(seed: int, task: str = "regression", groups: np.ndarray | None = None) -> Corrections:
    rng = np.random.default_rng(seed)
    z, y, p_yes = population(rng, task)
    whole = Sample(LabelArray((p_yes >= 0.5).astype(float)), y, groups)
    method = method_of(task, whole, "auto")  # type: ignore[arg-type]
    size = draw_size(analyse(whole, method, QUICK), whole, p_yes, np.array([True, True]))
    chance = allocate(size, 200)
    at = np.flatnonzero(rng.random(N) < chance)
    return correct_by_gold(whole, p_yes, method, Gold(at, chance[at], z[None, at]))


def inside(table: pd.DataFrame, name: str, truth: np.ndarray) -> np.ndarray:
    return ((table[f"{name}_ci_low"] <= truth) & (truth <= table[f"{name}_ci_high"])).to_numpy()


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_corrected_coefficients_cover_the_truth_where_raw_ones_are_far_off(task: str):
    tables = [corrected(seed, task).table for seed in range(120)]
    se = [(one["raw_coef_ci_high"] - one["raw_coef_ci_low"]) / 3.92 for one in tables]
    off = np.mean([(one["raw_coef"] - BETA) / each for one, each in zip(tables, se, strict=True)], axis=0)
    assert np.abs(off).max() > 2 and off[1] > 2  # one without an effect seems to have one
    covers = np.concatenate([inside(one, "corrected_coef", BETA) for one in tables])
    assert 0.91 <= covers.mean() <= 0.985  # 240 intervals: 0.95, with a standard deviation of 0.014
    assert np.concatenate([inside(one, "raw_coef", BETA) for one in tables]).mean() < 0.6
    shares = np.concatenate([inside(one, "corrected_prevalence", PREVALENCE) for one in tables])
    assert 0.9 <= shares.mean() <= 0.99


def test_rows_of_groups():
    tables = [corrected(seed, groups=np.arange(N) // 3).table for seed in range(40)]
    covers = np.concatenate([inside(one, "corrected_coef", BETA) for one in tables])
    assert covers.mean() >= 0.87  # 80 intervals: 0.95, with a standard deviation of 0.024


def test_where_all_is_labelled_by_people_estimates_are_those_of_their_labels():
    rng = np.random.default_rng(0)
    z, y, p_yes = population(rng)
    whole = Sample(LabelArray((p_yes >= 0.5).astype(float)), y)
    method = method_of("regression", whole, "auto")
    gold = Gold(np.arange(N), np.ones(N), np.stack([z, z]))
    table = correct_by_gold(whole, p_yes, method, gold).table
    X = np.column_stack([np.ones(N), z])
    beta = np.linalg.lstsq(X, y, rcond=None)[0]
    np.testing.assert_allclose(table["corrected_coef"], beta[1:], atol=1e-8)
    X[:, 1:] = p_yes >= 0.5
    np.testing.assert_allclose(table["raw_coef"], np.linalg.lstsq(X, y, rcond=None)[0][1:], atol=1e-8)
    np.testing.assert_allclose(table["corrected_prevalence"], z.mean(axis=0), atol=1e-8)
    said = (p_yes >= 0.5).astype(float)
    np.testing.assert_allclose(table["sensitivity"], (said * z).sum(axis=0) / z.sum(axis=0))
    no = (1 - z).sum(axis=0)
    np.testing.assert_allclose(table["specificity"], ((1 - said) * (1 - z)).sum(axis=0) / no)
    expected = [cohen_kappa_score(z[:, j], said[:, j]) for j in (0, 1)]
    np.testing.assert_allclose(table["kappa"], expected)
    np.testing.assert_allclose(table["coder_kappa"], 1)


def test_drawn_rows_of_a_model_stand_for_all_by_weights():
    # Rows with weight 2 count as two equal rows of the model.
    rng = np.random.default_rng(1)
    z, y, p_yes = population(rng)
    twice = np.repeat(np.arange(N), np.where(np.arange(N) < N // 2, 2, 1))
    at, chance = np.arange(0, N, 10), np.full(N // 10, 0.1)
    method = method_of("regression", Sample(LabelArray(z), y), "auto")
    weights = np.where(np.arange(N) < N // 2, 2.0, 1.0)
    weighted = Sample(LabelArray((p_yes >= 0.5).astype(float)), y, weights=weights)
    one = correct_by_gold(weighted, p_yes, method, Gold(at, chance, z[None, at])).table
    both = np.flatnonzero(np.isin(twice, at))
    doubled = Sample(LabelArray((p_yes[twice] >= 0.5).astype(float)), y[twice])
    other = correct_by_gold(
        doubled, p_yes[twice], method, Gold(both, np.full(len(both), 0.1), z[None, twice[both]])
    ).table
    for name in ("raw_coef", "raw_prevalence", "sensitivity", "specificity", "kappa"):
        np.testing.assert_allclose(one[name], other[name])


def test_what_is_missing_is_left_out_and_said():
    rng = np.random.default_rng(2)
    z, y, p_yes = population(rng)
    z3, p3 = np.column_stack([z, z[:, 0]]), np.column_stack([p_yes, rng.random(N)])
    whole = Sample(LabelArray((p3 >= 0.5).astype(float)), y)
    at = np.arange(0, N, 10)
    coders = np.stack([z3[at], z3[at]])
    coders[:, :, 2] = NAN  # nobody labelled the third
    coders[0, :5, 0] = 1 - coders[1, :5, 0]  # ties
    coders[:, 5:9, 1] = NAN
    method = method_of("regression", whole, "auto")
    found = correct_by_gold(whole, p3, method, Gold(at, np.full(len(at), 0.1), coders))
    assert found.table["hypothesis_id"].tolist() == [0, 1]
    assert found.table["n_gold"].tolist() == [295, 296] and found.table["n_joint"].tolist() == [291, 291]
    assert np.isfinite(found.table["corrected_coef"]).all()
    notes = "\n".join(found.notes)
    assert "300 texts were labelled by people" in notes and "9 of them have not every label" in notes
    assert "5 labels count as missing" in notes and "#2: the model's labels are taken as right" in notes


def test_too_few_rows_have_no_corrected_coefficient_and_a_reason():
    z, y, p_yes = population(np.random.default_rng(3))
    whole = Sample(LabelArray((p_yes >= 0.5).astype(float)), y)
    at = np.array([5, 9])
    gold = Gold(at, np.full(2, 0.1), z[None, at])
    found = correct_by_gold(whole, p_yes, method_of("regression", whole, "auto"), gold)
    assert found.table["corrected_coef"].isna().all() and found.table["raw_coef"].notna().all()
    assert any("too few" in note for note in found.notes)


def test_a_majority_of_people_decides():
    coders = np.array([[[1, 1, NAN]], [[1, 0, NAN]], [[0, NAN, NAN]]])
    gold = Gold(np.array([0]), np.array([1.0]), coders)
    np.testing.assert_array_equal(gold.labels, [[1, NAN, NAN]])
    assert gold.n_ties == 1


def test_accuracy_and_kappa_by_hand():
    # 40 yes, of which 30 are found; 60 no, of which 54 are left alone.
    z = np.repeat([1.0, 1.0, 0.0, 0.0], [30, 10, 54, 6])[:, None]
    said = np.repeat([1.0, 0.0, 0.0, 1.0], [30, 10, 54, 6])[:, None]
    truth = Sample(LabelArray(z), np.zeros(100))
    for value, share, n in ((1, 0.75, 40), (0, 0.9, 60)):
        rate, ends = accuracy(truth, said, value)
        assert rate[0] == pytest.approx(share)
        count = (n - 1) ** 2 / n  # of a row that is left out, the influence is n / (n - 1) times as large
        np.testing.assert_allclose(ends[0], proportion_confint(share * count, count, 0.05, "wilson"))
    kappa, ends = kappas(truth, said)
    theirs = cohens_kappa(np.array([[54, 6], [10, 30]]))
    assert kappa[0] == pytest.approx(theirs.kappa)
    se = 100 / 99 * theirs.std_kappa / (1 - theirs.kappa**2)
    expected = np.tanh(np.arctanh(theirs.kappa) + np.array([-1, 1]) * 1.959964 * se)
    np.testing.assert_allclose(ends[0], expected, rtol=1e-5)
    weighted = Sample(LabelArray(z), np.zeros(100), weights=np.full(100, 3.0))
    np.testing.assert_allclose(kappas(weighted, said)[1], ends)


def test_labels_that_all_agree():
    truth = Sample(LabelArray(np.array([[1.0], [0.0], [1.0], [0.0]])), np.zeros(4))
    said = np.array([[1.0], [0.0], [1.0], [0.0]])
    rate, ends = accuracy(truth, said, 1)
    np.testing.assert_allclose(ends[0], proportion_confint(2, 2, 0.05, "wilson"))
    kappa, ends = kappas(truth, said)
    assert rate[0] == kappa[0] == 1 and np.isnan(ends).all()


def test_kappa_of_three_people_is_the_mean_of_pairs():
    rng = np.random.default_rng(0)
    coders = (rng.random((3, 50, 2)) < 0.4).astype(float)
    coders[2, :20, 0] = NAN
    sample = Sample(LabelArray(coders[0]), np.zeros(50))
    kappa = coder_kappas(sample, coders)
    pairs = [
        (coders[0, :, 0], coders[1, :, 0]),
        (coders[0, 20:, 0], coders[2, 20:, 0]),
        (coders[1, 20:, 0], coders[2, 20:, 0]),
    ]
    assert kappa[0] == pytest.approx(np.mean([cohen_kappa_score(*pair) for pair in pairs]))
    assert np.isnan(coder_kappas(sample, coders[:1])).all()


def test_people_are_asked_for_what_is_not_certain_and_counts():
    rng = np.random.default_rng(4)
    _, y, p_yes = population(rng)
    p_yes[:10], p_yes[10:20] = 0.5, 0.0
    y[:20] = 3.0
    whole = Sample(LabelArray((p_yes >= 0.5).astype(float)), y)
    analysis = analyse(whole, method_of("regression", whole, "auto"), QUICK)
    size = draw_size(analysis, whole, p_yes, np.array([True, True]))
    assert (size[:10] > size[10:20]).all() and (size > 0).all()
    none = draw_size(analysis, whole, p_yes, np.array([False, False]))
    assert (none == 0).all()


HEAD = "row_id,hypothesis_id,probability,property,text,label,coder\n"
GOOD = "7,0,0.5,is long,a,1,\n7,1,0.5,is short,a,no,\n3,0,0.25,is long,b,,\n3,1,0.25,is short,b,YES,\n"
SENTENCES = ["is long", "is short"]


def written(tmp_path: Path, lines: str, head: str = HEAD) -> str:
    path = tmp_path / "gold.csv"
    path.write_text(head + lines, encoding="utf-8-sig")
    return str(path)


def read(path: str) -> GoldFile:
    found = GoldFile.read(path)
    found.require(np.array([3, 5, 7]), SENTENCES)
    return found


def test_a_file_is_read(tmp_path: Path):
    coded = read(written(tmp_path, GOOD)).coded(2)
    assert coded.row_ids.tolist() == [3, 7] and coded.probability.tolist() == [0.25, 0.5]
    np.testing.assert_array_equal(coded.coders, [[[NAN, 1], [1, 0]]])


def test_lines_of_two_people_and_a_file_of_a_german_spreadsheet(tmp_path: Path):
    head = "row_id;hypothesis_id;probability;label;coder\n"
    lines = "7;1;0,5;1;eva\n7;1;0,5;0;max\n3;1;0,25;true;eva\n"
    coded = read(written(tmp_path, lines, head)).coded(2)
    np.testing.assert_array_equal(coded.coders[:, :, 1], [[1, 1], [NAN, 0]])


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("7,0,0.5,,a,maybe,\n", "row 1: column 'label': 'maybe'; expected 1 or yes, 0 or no, or nothing"),
        (GOOD + "5,0,0.5,,a,2,\n", "row 5: column 'label': '2'; expected"),
        ("7,0,0,,a,1,\n", "row 1: column 'probability': '0'; expected a number above 0, and 1 at the most"),
        ("7,0,1.5,,a,1,\n", "row 1: column 'probability': '1.5'; expected"),
        ("7,0,,,a,1,\n", "row 1: column 'probability': null; expected"),
        ("7.5,0,0.5,,a,1,\n", "row 1: column 'row_id': '7.5'; expected a whole number"),
        ("4,0,0.5,,a,1,\n", "row 1: column 'row_id': 4; it is none of the 3 rows"),
        ("7,2,0.5,,a,1,\n", "row 1: column 'hypothesis_id': 2; hypotheses of this run are 0 to 1"),
        (GOOD + "7,0,0.5,,a,0,\n", "row 5: column 'label': 0; a second label of nobody named"),
        ("7,0,0.5,,a,1,eva\n7,0,0.5,,a,1,eva\n", "row 2: column 'label': 1; a second label of coder 'eva'"),
        ("7,0,0.5,,a,,\n", "column 'label': no line has a label yet"),
        ("7,0,0.5,,a,1,\n7,1,0.4,,a,1,\n", "row 2: column 'probability': 0.4; another line of row_id 7"),
        ("7,0,0.5,is green,a,1,\n", "row 1: column 'property': 'is green'; hypothesis 0 of this run is"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, lines: str, says: str):
    path = written(tmp_path, lines)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(path) and says in str(caught.value)


def test_a_missing_file_or_column_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"none\.csv"):
        GoldFile.read(str(tmp_path / "none.csv"))
    with pytest.raises(InputError, match=r"gold\.csv: no column 'label'"):
        GoldFile.read(written(tmp_path, "7,0,0.5\n", "row_id,hypothesis_id,probability\n"))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "  =1"])
def test_no_text_is_a_formula(text: str):
    assert for_spreadsheet(text) == f"'{text.strip()}"


def test_several_classes_have_a_row_each_and_notes_name_theirs():
    rng = np.random.default_rng(5)
    z, y, p_yes = population(rng)
    classes = np.digitize(y, [-0.5, 0.8]).astype(float)
    classes[:3] = 3.0  # of which no labelled row is one
    whole = Sample(LabelArray((p_yes >= 0.5).astype(float)), classes)
    at = np.arange(5, N, 10)
    parts = _correct(whole, p_yes, Gold(at, np.full(len(at), 0.1), z[None, at]), "multiclass", QUICK)
    table = pd.concat([part.table for part in parts])
    assert table["target_class"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert table["corrected_coef"].notna().tolist() == [True] * 6 + [False] * 2
    assert [note for note in parts[3].notes if note.startswith("class 3: no corrected coefficient: ")]


DATA = {"train": "a.csv", "holdout": "b.csv", "target": "y"}


def test_labels_of_people_are_those_of_the_own_chain_and_of_whole_texts():
    config = parse({"data": DATA, "evaluate": {"gold": "gold.csv"}, "llm": {"model": "m/one"}}, "c")
    assert config.evaluate.gold == "gold.csv" and config.with_keywords().evaluate.gold is None
    keywords = parse({"data": DATA, "evaluate": {"gold": "gold.csv"}, "llm": {"engine": "keywords"}}, "c")
    assert keywords.with_keywords().evaluate.gold == "gold.csv"
    assert config.evaluate.content() == Evaluate().content()  # what the file holds counts, in the fingerprint
    for change in ({"chunk": {"words": 50}}, {"text_a": "a", "text_b": "b"}):
        with pytest.raises(ConfigError, match=r"evaluate\.gold needs labels of whole texts"):
            parse({"data": {**DATA, **change}, "evaluate": {"gold": "gold.csv"}}, "c")
    whole = {**DATA, "chunk": {"sentences": 1, "labels": "whole"}}
    assert parse({"data": whole, "evaluate": {"gold": "gold.csv"}}, "c").evaluate.gold


def test_labels_of_people_need_a_run():
    with pytest.raises(ConfigError, match=r"hypsae run --evaluate\.gold FILE"):
        load_evaluation(
            {"data": {"train": "a.csv", "target": "y", "holdout": "a.csv"}}, {"evaluate.gold": "g"}
        )
    with pytest.raises(ConfigError, match=r"hypsae run --evaluate\.gold FILE"):
        hypsae_ray.evaluate_hypotheses(np.eye(20), np.arange(20.0), task="regression", gold="g.csv")
