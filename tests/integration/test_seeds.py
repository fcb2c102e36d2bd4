"""A run of the demo with two SAEs: stability of neurons and hypotheses."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hypsae_ray as hr
from hypsae_ray.commands import runner
from hypsae_ray.config import loading
from hypsae_ray.errors import InputError
from hypsae_ray.report.run_folder import RunFolder
from hypsae_ray.stages.embed import to_vectors


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
    assert "stability" not in (demo_run / "report.html").read_text().lower()
