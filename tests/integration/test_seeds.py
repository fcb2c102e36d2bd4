"""Runs of the demo with several SAEs: stability of neurons and hypotheses, and neurons of several k."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hypsae_ray as hr
from hypsae_ray.commands import runner
from hypsae_ray.config import TrainSae, loading
from hypsae_ray.errors import ConfigError, InputError
from hypsae_ray.report.run_folder import RunFolder
from hypsae_ray.stages.embed import to_vectors
from hypsae_ray.store.stage_tables import read_activations


@pytest.fixture(scope="module")
def run(demo_tree: dict, demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> runner.Run:
    out = shutil.copytree(demo_run, tmp_path_factory.mktemp("seeds") / "run")
    tree = copy.deepcopy(demo_tree)
    tree["train_sae"]["seeds"] = 2
    return runner.run(loading.parse(tree, "seeds"), str(out))


def test_stability_is_that_of_saes_trained_one_by_one(run: runner.Run, demo_run: Path):
    """By numpy, on dense activations of SAEs of the functions for notebooks."""
    stages = RunFolder.at(run.out).folders()
    train, val = (to_vectors(stages["embed"].read_tables(f"{split}-")) for split in ("train", "val"))
    options = RunFolder.at(run.out).config.train_sae
    saes = [hr.train_sae(train, val, options.model_copy(update={"seed": seed})) for seed in (0, 1)]
    first, second = (hr.activations(sae, train).toarray() for sae in saes)
    with np.errstate(invalid="ignore"):
        every = np.corrcoef(first, second, rowvar=False)[: first.shape[1], first.shape[1] :]
    expected = np.where(np.isnan(every), 0, every).max(axis=1)
    selection = stages["select"].read_table("selection.parquet").to_pandas()
    alive = (selection["state"] == "alive").to_numpy()
    np.testing.assert_allclose(hr.stability(first, [second])[alive], expected[alive], atol=1e-4)
    np.testing.assert_allclose(selection["stability"][alive], expected[alive], atol=1e-4)
    assert alive.sum() > 16 and selection["stability"][~alive].isna().all()

    before = RunFolder.at(demo_run).folders()["select"].read_table("selection.parquet").to_pandas()
    assert selection.drop(columns="stability").equals(before)  # neurons are those of the first SAE


def test_stability_stands_beside_each_hypothesis(run: runner.Run):
    selection = RunFolder.at(run.out).folders()["select"].read_table("selection.parquet").to_pandas()
    for name in ("hypotheses.csv", "evaluation.csv"):
        table = pd.read_csv(Path(run.out.path) / name)
        known = selection.set_index("neuron_idx")["stability"].loc[table["neuron_idx"]]
        np.testing.assert_allclose(table["stability"], known)
        assert table["stability"].between(0, 1).all()
    for name in ("report.html", "methods.txt"):
        assert "stability" in (Path(run.out.path) / name).read_text().lower()


def test_stability_needs_others_on_the_same_texts():
    rows = np.eye(3)
    with pytest.raises(InputError, match="others: it is empty"):
        hr.stability(rows, [])
    with pytest.raises(InputError, match=r"others\[1\]: 2 rows, but activations has 3"):
        hr.stability(rows, [rows, rows[:2]])


def test_one_sae_is_as_it_was(demo_run: Path):
    for name in ("hypotheses.csv", "evaluation.csv"):
        assert "stability" not in pd.read_csv(demo_run / name)
    page = (demo_run / "report.html").read_text().lower()
    assert "stability" not in page[: page.index("<script")]


KS = (1, 4)


@pytest.fixture(scope="module")
def of_two_ks(demo_tree: dict, demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> runner.Run:
    out = shutil.copytree(demo_run, tmp_path_factory.mktemp("ks") / "run")
    tree = copy.deepcopy(demo_tree)
    tree["train_sae"] |= {"k": list(KS), "seeds": 2}
    return runner.run(loading.parse(tree, "ks"), str(out))


def test_neurons_of_several_k_are_those_of_saes_trained_one_by_one(of_two_ks: runner.Run):
    found = RunFolder.at(of_two_ks.out)
    stages, options = found.folders(), found.config.train_sae
    train, val = (stages["embed"].read_tables(f"{split}-").sort_by("row_id") for split in ("train", "val"))
    pools = []
    for seed in (0, 1):
        alone = [options.model_copy(update={"seed": seed, "k": k}) for k in KS]
        saes = [hr.train_sae(to_vectors(train), to_vectors(val), one) for one in alone]
        pools.append(np.hstack([hr.activations(sae, to_vectors(train)).toarray() for sae in saes]))
    first, second = pools
    row_ids, fired = read_activations(stages["train_sae"], "train", first.shape[1])
    assert row_ids.tolist() == train["row_id"].to_pylist()
    np.testing.assert_allclose(fired.toarray(), first, atol=1e-5)
    assert [(fired[:, half] > 0).sum(axis=1).max() for half in (slice(0, 32), slice(32, 64))] == list(KS)
    for k, half in zip(KS, np.split(first, 2, axis=1), strict=True):
        sae = hr.load_sae(f"{stages['train_sae'].path}/k{k}")
        np.testing.assert_allclose(hr.activations(sae, to_vectors(train)).toarray(), half, atol=1e-5)
    selection = stages["select"].read_table("selection.parquet").to_pandas()
    alive = (selection["state"] == "alive").to_numpy()
    np.testing.assert_allclose(selection["stability"][alive], hr.stability(first, [second])[alive], atol=1e-4)


def test_a_run_says_which_k_its_neurons_have(of_two_ks: runner.Run):
    table = pd.read_csv(Path(of_two_ks.out.path) / "hypotheses.csv")
    assert set(table["source_sae"]) == {"M=64, K=1, 4"}
    methods = (Path(of_two_ks.out.path) / "methods.txt").read_text()
    assert "with 32 neurons, k = 1 and 4 active per text" in " ".join(methods.split())


def test_an_sae_that_is_trained_is_not_trained_again(of_two_ks: runner.Run, tmp_path: Path):
    out = shutil.copytree(of_two_ks.out.path, tmp_path / "run")
    (trained,) = (path.parent.parent for path in out.glob("stages/train_sae-*/k1/history.json"))
    weights = {k: trained / f"k{k}" / "sae.safetensors" for k in KS}
    first, bytes_before = weights[1].stat().st_mtime_ns, weights[4].read_bytes()
    shutil.rmtree(trained / "k4")
    (trained / "manifest.json").unlink()  # as if the run had stopped between the two
    runner.run(RunFolder.at(str(out)).config, str(out), until="train_sae")
    assert weights[1].stat().st_mtime_ns == first
    assert weights[4].read_bytes() == bytes_before


def test_several_k_are_for_runs():
    with pytest.raises(ConfigError, match="several k are for runs"):
        hr.train_sae(np.eye(4), options=TrainSae(n_neurons=4, k=(1, 2)))
