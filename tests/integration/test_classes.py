"""A run on three classes with a covariate of names, from files to report, by keywords."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import hypsae_ray
from hypsae_ray.commands import runner
from hypsae_ray.config import loading
from hypsae_ray.store.artifacts import Folder
from tests.page_block import check_page

CITIES = ("Rome", "Paris", "Oslo")


@pytest.fixture(scope="module")
def data(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Demo reviews whose stars have names, and a city; the holdout has one that the training rows lack."""
    folder, rng, paths = tmp_path_factory.mktemp("classes"), np.random.default_rng(0), {}
    for name, cities in {"train": CITIES[:2], "holdout": CITIES}.items():
        reviews = pd.read_json(demo_folder / f"{name}.jsonl", lines=True)
        reviews["mood"] = pd.cut(reviews["stars"], [0, 2, 3, 5], labels=["bad", "mixed", "good"]).astype(str)
        reviews["city"] = rng.choice(cities, len(reviews), p=[0.5, 0.3, 0.2] if len(cities) == 3 else None)
        reviews.to_csv(folder / f"{name}.csv", index=False)
        paths[name] = str(folder / f"{name}.csv")
    return paths


@pytest.fixture(scope="module")
def tree(demo_tree: dict, data: dict[str, str]) -> dict:
    named = {"text": "text", "target": "mood", "id": "id", "covariates": ["city"], "shard_rows": 150}
    evaluate = {"n_bootstrap": 0, "n_permutations": 0, "folds": 3}
    return {**demo_tree, "data": {**data, **named, "task": "multiclass"}, "evaluate": evaluate}


@pytest.fixture(scope="module")
def finished(tree: dict, tmp_path_factory: pytest.TempPathFactory) -> runner.Run:
    return runner.run(loading.parse(tree, "classes"), str(tmp_path_factory.mktemp("run")))


def folder_of(found: runner.Run, stage: str) -> Folder:
    return next(record.step.folder for record in found.records if record.step.stage.name == stage)


def test_each_class_is_tested_against_the_rest(finished: runner.Run, data: dict[str, str]):
    table, metrics = finished.evaluation, finished.chains["main"].metrics
    assert (metrics["task"], metrics["n_classes"], metrics["n_tests"]) == ("multiclass", 3, 3 * 8)
    assert metrics["n_significant"] >= 1
    assert metrics["auc_cross_fitted"] > 0.6
    assert table["target_class"].value_counts().to_dict() == {"bad": 8, "good": 8, "mixed": 8}
    p_yes = hypsae_ray.load_annotations(folder_of(finished, "annotate").path)
    rows = pd.read_csv(data["holdout"]).loc[p_yes.index]
    labels = (p_yes >= 0.5).to_numpy().astype(float)
    cities = np.column_stack([rows["city"] == "Rome", rows["city"] == "Oslo"])  # Paris is the most frequent
    mine = table[table["target_class"] == "good"].set_index("hypothesis_id").sort_index()
    kept = mine["regression_coef"].notna().to_numpy()
    design = sm.add_constant(np.column_stack([cities, labels[:, kept]]).astype(float))
    by_hand = sm.Logit((rows["mood"] == "good").to_numpy(float), design).fit(disp=0)
    np.testing.assert_allclose(mine["regression_coef"][kept], by_hand.params[3:], rtol=1e-4)
    np.testing.assert_allclose(mine["regression_se"][kept], by_hand.bse[3:], rtol=1e-4)
    controls = finished.chains["main"].details["covariates"].set_index(["target_class", "name"])["coef"]
    assert controls.index.tolist() == [
        (m, f"city={c}") for m in ("bad", "good", "mixed") for c in ("Rome", "Oslo")
    ]
    np.testing.assert_allclose(controls["good"], by_hand.params[1:3], rtol=1e-4)
    good = (rows["mood"] == "good").to_numpy()
    having, others = (np.array([good[column == side].mean() for column in labels.T]) for side in (1, 0))
    np.testing.assert_allclose(mine["separation_score"], having - others)


def test_neurons_are_chosen_by_the_classes_in_turns(finished: runner.Run):
    turns = finished.chains["main"].hypotheses["target_class"].tolist()
    assert turns == ["bad", "good", "mixed", "bad", "good", "mixed", "bad", "good"]


def test_the_report_names_classes_and_the_level_that_others_are_compared_with(finished: runner.Run):
    page, said = (finished.out.read_bytes(name).decode() for name in ("report.html", "methods.txt"))
    assert "hypotheses and classes held up on" in " ".join(page.split())
    assert '<small class="class">mixed</small>' in page
    assert "its levels are compared with" in page
    assert "mood has 3 classes (bad, good and mixed); each was compared with the rest" in said
    assert "one logistic regression for each class against the rest" in said
    assert "the classes taking turns" in said
    facts = json.loads(folder_of(finished, "data").read_bytes("manifest.json"))["facts"]
    assert facts["classes"] == ["bad", "good", "mixed"]


def test_a_target_of_names_is_told_what_it_may_be(tree: dict, tmp_path: Path):
    settings = {**tree, "data": {**tree["data"], "task": "auto"}}
    with pytest.raises(hypsae_ray.errors.InputError) as refused:
        runner.run(loading.parse(settings, "c"), str(tmp_path / "run"))
    title, *_, advice = str(refused.value).splitlines()
    assert title.endswith("train.csv: 400 bad row(s) in train:")
    assert advice == (
        "column 'mood': its values are 3 names ('bad', 'good', 'mixed'): data.task: multiclass compares each "
        "of them with the rest"
    )
    assert not (tmp_path / "run").exists()


def test_the_page_has_what_was_tested(finished: runner.Run):
    header, _ = check_page(Path(finished.out.path))
    assert set(header["classes"]) == set(finished.evaluation["target_class"])
