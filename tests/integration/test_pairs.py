"""A run on pairs of texts, from files to report, by keywords."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import hypsae_ray
from hypsae_ray import cli
from hypsae_ray.commands import annotation, runner
from hypsae_ray.config import loading
from hypsae_ray.demo import grammar
from hypsae_ray.errors import ConfigError
from hypsae_ray.report.run_folder import RunFolder
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.stage_tables import read_column
from tests.page_block import check_page

PLACES_OF_TEXTS = 2**24


@pytest.fixture(scope="module")
def demo_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo-pairs")
    grammar.write_pairs(grammar.generate(400, 300, seed=1), folder, np.random.default_rng(0))
    return folder


@pytest.fixture(scope="module")
def run_of_pairs(demo_pairs: Path, demo_tree: dict, tmp_path_factory: pytest.TempPathFactory) -> runner.Run:
    data = {name: str(demo_pairs / f"{name}.jsonl") for name in ("train", "holdout")}
    data |= {"text_a": "text_a", "text_b": "text_b", "target": "chosen", "id": "id", "shard_rows": 150}
    settings = {**demo_tree, "data": data, "evaluate": {"n_bootstrap": 0, "n_permutations": 0}}
    return runner.run(loading.parse(settings, "pairs"), str(tmp_path_factory.mktemp("run")))


def folder_of(found: runner.Run, stage: str) -> Folder:
    return next(record.step.folder for record in found.records if record.step.stage.name == stage)


def test_what_makes_a_text_preferred_is_found(run_of_pairs: runner.Run):
    metrics = run_of_pairs.chains["main"].metrics
    assert metrics["task"] == "pairwise"
    assert metrics["n"] == 150
    assert metrics["n_significant"] >= 1
    assert metrics["auc_cross_fitted"] > 0.7
    table = run_of_pairs.evaluation
    for name in ("rude", "wait"):  # what lowers the stars
        mine = table[table["hypothesis"].fillna("").str.contains(name)]
        assert (mine["separation_score"] < 0).all()


def test_estimates_are_those_of_labels_first_minus_second(demo_pairs: Path, run_of_pairs: runner.Run):
    p_yes = hypsae_ray.load_annotations(folder_of(run_of_pairs, "annotate").path)
    pairs, place = np.divmod(p_yes.index.to_numpy(), PLACES_OF_TEXTS)
    assert place.tolist() == [0, 1] * 150
    labels = (p_yes >= 0.5).to_numpy().astype(float)
    differences = labels[::2] - labels[1::2]
    source = read_column(folder_of(run_of_pairs, "data"), "holdout", "source_id")
    chosen = pd.read_json(demo_pairs / "holdout.jsonl", lines=True).set_index("id")["chosen"]
    target = chosen.loc[source.loc[pairs[::2] * PLACES_OF_TEXTS]].to_numpy()
    table = run_of_pairs.evaluation
    ahead, behind = ([target[column == side].mean() for column in differences.T] for side in (1, -1))
    np.testing.assert_allclose(table["separation_score"], (np.array(ahead) - behind) / 2)
    kept = table["regression_coef"].notna().to_numpy()
    by_hand = sm.Logit(target, sm.add_constant(differences[:, kept])).fit(disp=0)
    np.testing.assert_allclose(table["regression_coef"][kept], by_hand.params[1:], rtol=1e-4)
    np.testing.assert_allclose(table["regression_se"][kept], by_hand.bse[1:], rtol=1e-4)


def test_the_report_speaks_of_pairs(run_of_pairs: runner.Run):
    page, said = (run_of_pairs.out.read_bytes(name).decode() for name in ("report.html", "methods.txt"))
    assert "150 pairs that were kept for the test alone" in page
    assert "Holdout pairs" in page and "only the first has the property" in page
    assert "as a holdout" in said and "150 pairs of texts" in said
    assert "the label of the first text minus that of the second" in said


def test_labels_of_pairs_cannot_be_planned_before_they_are_stored(run_of_pairs: runner.Run):
    with pytest.raises(ConfigError, match="text_b are two columns of texts"):
        annotation.job_of(RunFolder.at(run_of_pairs.out).config)


def test_the_page_has_what_was_tested(run_of_pairs: runner.Run):
    header, columns = check_page(Path(run_of_pairs.out.path))
    assert len(header["texts"]) == len(header["texts_b"]) == header["n"] == 150
    assert np.isfinite(columns["x"]).all()


def test_an_export_of_pairs_has_both_texts_and_differences(run_of_pairs: runner.Run, tmp_path: Path):
    out = tmp_path / "pairs.parquet"
    assert cli.main(["export", run_of_pairs.out.path, "--out", str(out)]) == 0
    table = pd.read_parquet(out)
    stored = folder_of(run_of_pairs, "data").read_tables("holdout-").to_pandas()
    assert table["text"].tolist() == stored["text"].tolist()[::2]
    assert table["text_b"].tolist() == stored["text"].tolist()[1::2]
    threshold = run_of_pairs.chains["main"].hypotheses["threshold"].iloc[0]
    first, second = (table[f"h00_{name}"] >= threshold for name in ("p_yes", "p_yes_b"))
    assert table["h00_label"].tolist() == (first.astype(int) - second.astype(int)).tolist()
    assert table["x"].notna().all()
