"""The steps as a notebook uses them: arrays in, arrays out."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import hypsae_ray as hr
from hypsae_ray.commands import annotation
from hypsae_ray.config import AnnotateJob, Embed, Llm, Replicas, Select, TrainSae
from hypsae_ray.demo import grammar
from hypsae_ray.errors import ConfigError, InputError
from hypsae_ray.labels.read import find_annotations

HERE = Replicas(min=0, max=0)
KEYWORDS = Llm(engine="keywords", replicas=HERE)


@pytest.fixture(scope="module")
def demo() -> grammar.Demo:
    return grammar.generate(n_train=300, n_holdout=150, seed=2)


def test_from_texts_to_tested_hypotheses(demo: grammar.Demo):
    texts, stars = demo.train["text"].tolist(), demo.train["stars"].to_numpy(float)
    with hr.Session() as session:
        vectors = hr.embed(texts, Embed(max_tokens=48, replicas=HERE), engines=session)
        sae = hr.train_sae(vectors, options=TrainSae(n_neurons=32, k=4, max_epochs=20, batch_size=64))
        fired = hr.activations(sae, vectors)
        found = hr.generate_hypotheses(texts, stars, fired, KEYWORDS, Select(n=6), engines=session)
        p_yes = hr.annotate(demo.holdout["text"].tolist(), found, KEYWORDS, engines=session)
    result = hr.evaluate_hypotheses(
        p_yes, demo.holdout["stars"], task="regression", hypotheses=found, alpha=0.05
    )
    assert vectors.shape == (300, 384)
    assert fired.shape == (300, 32)
    assert (np.diff(fired.indptr) <= 4).all()
    assert len(found) == len(result.table) == p_yes.shape[1] == 6
    assert result.table["hypothesis"].tolist() == found["interpretation"].tolist()
    column = int(found.index[found["interpretation"].notna()][0])
    yes = p_yes[column] >= 0.5
    stars_out = demo.holdout["stars"]
    assert result.table["separation_score"][column] == pytest.approx(
        stars_out[yes].mean() - stars_out[~yes].mean()
    )
    by_hand = np.corrcoef(fired[:, [int(found["neuron_idx"][0])]].toarray().ravel(), stars)[0, 1]
    assert found["target_correlation"][0] == pytest.approx(by_hand)


def test_texts_that_are_cut_are_told_in_one_line():
    texts = ["dog " * 300, "a short one"]
    with pytest.warns(
        UserWarning, match=r"embed: 1 of 2 texts \(50 %\) was cut at 256 tokens; the rest is not seen"
    ):
        hr.embed(texts)
    with pytest.warns(UserWarning, match=r"annotate: 2 of 2 texts \(100 %\) were cut at 2 words; labels are"):
        hr.annotate(texts, ["mentions 'dog'"], KEYWORDS, max_words=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hr.annotate(texts, ["mentions 'dog'"], KEYWORDS)


def test_interpretation_of_named_neurons():
    texts = [f"the soup number {i} was hot" for i in range(40)] + [
        f"a dog ran past {i} trees" for i in range(40)
    ]
    import scipy.sparse as sp

    fired = sp.csr_matrix(np.array([[1.0, 0.0]] * 40 + [[0.0, 2.0]] * 40, dtype=np.float32))
    table = hr.interpret_neurons(texts, fired, [1, 0], KEYWORDS)
    assert table["neuron_idx"].tolist() == [1, 0]
    assert '"dog"' in table["interpretation"][0] or "ran" in table["interpretation"][0]
    assert table["f1_fidelity_score"].tolist() == [1.0, 1.0]


def test_annotations_of_sentences_and_of_tables():
    texts = ["a rude waiter", "a kind cook"]
    direct = hr.annotate(texts, ['mentions "rude"', None], KEYWORDS)
    assert direct[0].tolist() == [1.0, 0.0]
    assert direct[1].isna().all()
    table = pd.DataFrame({"interpretation": ['mentions "rude"', None]})
    pd.testing.assert_frame_equal(hr.annotate(texts, table, KEYWORDS), direct)
    with pytest.raises(InputError, match="no column 'interpretation' or 'hypothesis'"):
        hr.annotate(texts, pd.DataFrame({"x": [1]}), KEYWORDS)


def test_an_sae_goes_to_disk_and_back(demo_run):
    (folder,) = (demo_run / "stages").glob("train_sae-*")
    sae = hr.load_sae(str(folder))
    (embeddings,) = (demo_run / "stages").glob("embed-*")
    from hypsae_ray.stages.embed import to_vectors
    from hypsae_ray.store.artifacts import Folder
    from hypsae_ray.store.stage_tables import read_activations

    table = Folder.at(embeddings).read_tables("train-")
    row_ids, stored = read_activations(Folder.at(folder), "train", sae.n_neurons)
    fresh = hr.activations(sae, to_vectors(table))[np.argsort(table["row_id"].to_numpy())]
    assert sorted(table["row_id"].to_pylist()) == row_ids.tolist()
    np.testing.assert_allclose(stored.toarray(), fresh.toarray(), atol=1e-6)


QUICK = {"n_bootstrap": 0, "n_permutations": 0}


def draw(n: int = 240, h: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """P(yes), never at 0.5, and a target that goes with the first hypothesis."""
    rng = np.random.default_rng(0)
    p_yes = rng.uniform(0.01, 0.49, (n, h)) + 0.5 * (rng.random((n, h)) < 0.4)
    return p_yes, (p_yes[:, 0] > 0.5) + rng.normal(size=n)


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, other, rtol=1e-10)


def test_covariates_of_text_are_compared_with_their_most_frequent_level():
    p_yes, target = draw()
    rng = np.random.default_rng(1)
    city = rng.choice(["Bonn", "Oslo", "Rome"], 240, p=[0.3, 0.5, 0.2])
    frame = pd.DataFrame({"age": rng.normal(40, 9, 240), "city": city, "vip": rng.random(240) < 0.3})
    found = hr.evaluate_hypotheses(p_yes, target, task="regression", covariates=frame, **QUICK)
    assert [note for note in found.notes if note.startswith("covariate")] == [
        "covariate city: its levels are compared with 'Oslo', the most frequent one",
    ]
    columns = {"age": frame["age"], "Bonn": city == "Bonn", "Rome": city == "Rome", "vip": frame["vip"]}
    labels = pd.DataFrame(p_yes > 0.5).add_prefix("h")
    X = sm.add_constant(pd.concat([pd.DataFrame(columns), labels], axis=1).astype(float))
    expected = sm.OLS(target, X).fit(cov_type="HC3", use_t=True)
    covariates = found.details["covariates"].set_index("name")
    by_level = covariates.loc[["age", "city=Bonn", "city=Rome", "vip"], ["coef", "se", "pval"]]
    parts = np.column_stack([expected.params, expected.bse, expected.pvalues])
    np.testing.assert_allclose(by_level, parts[1:5], rtol=1e-7)
    np.testing.assert_allclose(found.table["regression_pval"], parts[5:, 2], rtol=1e-7)


def test_rows_whose_group_is_missing_are_groups_of_their_own():
    p_yes, target = draw()
    author = [None if i % 10 == 0 else f"author {i % 30}" for i in range(240)]
    found = hr.evaluate_hypotheses(p_yes, target, task="regression", groups=author, **QUICK)
    told = [f"row {i}" if one is None else one for i, one in enumerate(author)]
    expected = hr.evaluate_hypotheses(p_yes, target, task="regression", groups=told, **QUICK)
    same(found.table, expected.table)
    assert found.metrics["n_groups"] == 27 + 24
    assert found.metrics["errors"] == "cluster-robust"


def test_fixed_effects_are_named_by_any_values():
    p_yes, target = draw()
    shop = np.array(["a", "b", "c", "d"])[np.arange(240) % 4]
    found = hr.evaluate_hypotheses(p_yes, target, task="regression", fixed_effects=shop, **QUICK)
    dummies = pd.get_dummies(shop, dtype=float).to_numpy()
    expected = sm.OLS(target, np.column_stack([p_yes > 0.5, dummies])).fit(cov_type="HC3", use_t=True)
    np.testing.assert_allclose(found.table["regression_se"], expected.bse[:3], rtol=1e-7)
    two = pd.DataFrame({"shop": shop, "day": np.arange(240) % 7})
    both = hr.evaluate_hypotheses(p_yes, target, task="regression", fixed_effects=two, **QUICK)
    assert "10 levels of fixed effects are absorbed; R2 is that within levels" in both.notes


def test_classes_keep_their_names():
    p_yes, _ = draw()
    p_yes[:, 2] = 0.9
    kinds = np.array(["praise", "complaint", "question"])[np.arange(240) % 3]
    found = hr.evaluate_hypotheses(
        p_yes, kinds, task="multiclass", hypotheses=["rude", "rude", None], threshold=0.5, **QUICK
    )
    names = ["complaint", "praise", "question"]
    assert found.table["target_class"].tolist() == np.repeat(names, 3).tolist()
    assert found.table["hypothesis"].fillna("").tolist() == ["rude", "rude", ""] * 3
    assert found.details["classes"]["target_class"].tolist() == names
    assert found.details["classes"]["n"].tolist() == [80] * 3
    missing = "no coefficient for #2: it is 1 on every row"
    assert found.notes == [f"class {name}: {missing}" for name in names]
    alone = hr.evaluate_hypotheses(p_yes, kinds == "praise", task="classification", **QUICK)
    praise = found.table[found.table["target_class"] == "praise"].reset_index(drop=True)
    same(praise[["regression_coef", "separation_pval"]], alone.table[["regression_coef", "separation_pval"]])


def test_classes_may_be_numbers_of_any_kind():
    p_yes, _ = draw()
    found = hr.evaluate_hypotheses(p_yes, 10 * (np.arange(240) % 2) + 5, task="multiclass", **QUICK)
    assert found.table["target_class"].tolist() == [5] * 3 + [15] * 3


def test_labels_of_pairs_are_signs():
    rng = np.random.default_rng(0)
    labels = rng.choice([-1.0, 0, 1], (300, 2))
    chosen = (rng.random(300) < 0.5 + 0.3 * labels[:, 0]).astype(int)
    found = hr.evaluate_hypotheses(labels, chosen, task="pairwise", **QUICK)
    yes, no = (chosen[labels[:, 0] == side].mean() for side in (1, -1))
    assert found.table["separation_score"][0] == pytest.approx((yes - no) / 2)
    expected = sm.Logit(chosen, sm.add_constant(labels)).fit(disp=0)
    np.testing.assert_allclose(found.table["regression_coef"], expected.params[1:], rtol=1e-6)
    with pytest.raises(InputError, match="labels must be -1, 0, 1 or NaN"):
        hr.evaluate_hypotheses(labels / 2, chosen, task="pairwise", **QUICK)


def test_annotations_may_be_a_folder(tmp_path: Path):
    p_yes, target = draw(h=2)
    rude = p_yes[:, 0] >= 0.5
    texts = np.where(rude, "a rude waiter", "a kind waiter")
    pd.DataFrame({"text": texts}).to_json(tmp_path / "texts.jsonl", orient="records", lines=True)
    sentences = pd.DataFrame({"hypothesis": ['mentions "rude"', 'mentions "waiter"']})
    sentences.to_csv(tmp_path / "mine.csv", index=False)
    job = AnnotateJob(hypotheses=str(tmp_path / "mine.csv"), data=str(tmp_path / "texts.jsonl"), llm=KEYWORDS)
    out = tmp_path / "labels"
    with hr.Session() as session:
        annotation.run(job, str(out), session, print)
    stored, finer = (
        hr.evaluate_hypotheses(str(folder), target, task="regression", hypotheses=sentences, **QUICK)
        for folder in (out, find_annotations(str(out)).path)
    )
    held = hr.evaluate_hypotheses(
        np.column_stack([rude, np.ones(240)]), target, task="regression", hypotheses=sentences, **QUICK
    )
    for one in (stored, finer):
        same(one.table, held.table)
        assert one.notes == held.notes
    order = np.random.default_rng(0).permutation(240)
    by_row = pd.Series(target, index=pd.RangeIndex(240))
    same(hr.evaluate_hypotheses(out, by_row, task="regression", **QUICK).table, held.table)
    with pytest.raises(InputError, match="target: its index is not that of annotations"):
        hr.evaluate_hypotheses(str(out), by_row.iloc[order], task="regression")
    with pytest.raises(InputError, match="target: 3 rows, but annotations has 240"):
        hr.evaluate_hypotheses(str(out), [1, 2, 3], task="regression")
    with pytest.raises(InputError, match="there are no annotations here"):
        hr.evaluate_hypotheses(str(tmp_path), target, task="regression")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"alhpa": 0.1}, "alhpa: Extra inputs are not permitted"),
        ({"alpha": 2}, "alpha: Input should be less than 1"),
        ({"folds": 1}, "nothing is left to fit"),
        ({"correction": "sidak"}, "correction: Input should be 'bonferroni', 'holm'"),
        ({"cov_type": "hc9"}, "cov_type: Input should be 'auto', 'HC3'"),
    ],
)
def test_options_that_cannot_be(options: dict, complaint: str):
    p_yes, target = draw()
    with pytest.raises(ConfigError, match=complaint):
        hr.evaluate_hypotheses(p_yes, target, task="regression", **options)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"task": "clasification"}, "task 'clasification' is none of regression, classification, count"),
        ({"covariates": pd.DataFrame({"#1": np.ones(240)})}, "a covariate cannot be called '#1'"),
        ({"task": "multiclass", "fixed_effects": np.ones(240)}, "absorbed in linear models only"),
    ],
)
def test_input_that_cannot_be(change: dict, complaint: str):
    p_yes, target = draw()
    given = {"annotations": p_yes, "target": target, "task": "regression", **change}
    if given["task"] == "multiclass":
        given["target"] = np.arange(240) % 2
    with pytest.raises(InputError, match=f"evaluate_hypotheses: .*{complaint}"):
        hr.evaluate_hypotheses(given.pop("annotations"), given.pop("target"), **given, **QUICK)
