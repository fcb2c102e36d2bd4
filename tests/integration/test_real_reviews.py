"""A whole run on Ray: the real reviews beside the checkout, with the keyword engine."""

from pathlib import Path

import pandas as pd
import pytest

from hypsae_ray.commands import runner
from hypsae_ray.config import loading

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ACTORS = {"min": 1, "max": 2}


@pytest.fixture(scope="module")
def run(reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> runner.Run:
    """600 training reviews, and the 1,000 holdout reviews but those of the same businesses."""
    folder = tmp_path_factory.mktemp("reviews")
    lines = (reviews / "train.jsonl").read_text().splitlines()[:600]
    (folder / "train.jsonl").write_text("\n".join(lines))
    tree = {
        "data": {
            "train": str(folder / "train.jsonl"),
            "holdout": str(reviews / "holdout.jsonl"),
            "target": "stars",
            "id": "review_id",
            "group": "business_id",
            "covariates": ["useful", "funny", "cool"],
        },
        "embed": {"replicas": ACTORS, "max_tokens": 64},  # the beginnings, to save time
        "train_sae": {"n_neurons": 32, "k": 4, "prefix_lengths": [8, 32]},
        "select": {"n": 12},
        "llm": {"engine": "keywords", "replicas": ACTORS},
    }
    return runner.run(loading.parse(tree, "reviews"), str(folder / "run"))


@pytest.fixture(scope="module")
def n_new(reviews: Path) -> int:
    """Holdout reviews of businesses that the training reviews do not know."""
    train, holdout = (pd.read_json(reviews / f"{name}.jsonl", lines=True) for name in ("train", "holdout"))
    return int((~holdout["business_id"].isin(train["business_id"][:600])).sum())


def test_keywords_predict_stars_on_unseen_reviews(run: runner.Run, n_new: int):
    metrics = run.chains["main"].metrics
    assert metrics["n"] == n_new
    assert metrics["task"] == "regression"
    # A sketch by hand with 2,000 training reviews and 20 neurons reached a cross-fitted R2 of 0.25.
    assert 0.05 < metrics["r2_cross_fitted"] < 0.4
    # 600 reviews and 12 neurons find less: some signal, and a count that the table bears out.
    p_values = run.evaluation["regression_pval"]
    assert metrics["n_significant"] == (p_values < 0.1 / 12).sum() >= 1


def test_every_answer_is_accounted_for(run: runner.Run, n_new: int):
    (annotate,) = [r for r in run.records if r.step.stage.name == "annotate"]
    assert sum(annotate.manifest.outcome.facts["answers"].values()) == n_new * 12
