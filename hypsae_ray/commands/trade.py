"""What a sample of labels gives for what it costs: half widths by the number of rows, for `hypsae plan`."""

import io
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hypsae_ray import pipeline
from hypsae_ray.config import Config
from hypsae_ray.data.arrays import Floats
from hypsae_ray.labels.plan import Plan
from hypsae_ray.store.artifacts import Folder

SIZES = (250, 1_000, 4_000, 16_000, 64_000)
"""Each four times the one before, so that intervals are half as wide."""
_Z = 1.96


@dataclass(frozen=True)
class Known:
    """What is known of the hypotheses of a run before their labels are, or after some are.

    Attributes:
        sentences: (H,).
        half_width: (H,) of the 95 % interval of a coefficient by one labelled row; over the root of n by n.
        source: where they are from, in words.
    """

    sentences: list[str]
    half_width: Floats
    source: str


def known(config: Config, out: Folder) -> Known | None:
    """Return what a run folder tells of half widths; None where it has no hypotheses yet."""
    if out.has("evaluation.csv"):
        table = _read(out, "evaluation.csv")
        if "regression_se" in table and table["regression_se"].notna().any():
            table = table[table["regression_se"].notna()]
            widths = _Z * table["regression_se"] * np.sqrt(table["n"])
            return Known(table["hypothesis"].tolist(), widths.to_numpy(), "as the labels of this folder show")
    steps = {step.stage.name: step for step in pipeline.plan(config, out) if step.chain == pipeline.MAIN}
    data, named = (steps[name] for name in ("data", "score_fidelity"))
    if not (pipeline.finished(data) and pipeline.finished(named)) or config.data.rule is not None:
        return None
    manifest = pipeline.finished(data)
    assert manifest is not None
    table = named.folder.read_table("hypotheses.parquet").to_pandas().dropna(subset="interpretation")
    target = np.concatenate([one["target"].to_numpy() for one in data.folder.tables("holdout-", ["target"])])
    spread = _unit_error(target, manifest.outcome.facts["task"])
    prevalence = table["prevalence"].clip(1e-6, 1 - 1e-6)
    widths = _Z * spread / np.sqrt(prevalence * (1 - prevalence))
    source = "from how often neurons fire and how much the target varies"
    return Known(table["interpretation"].tolist(), widths.to_numpy(), source)


def _unit_error(target: Floats, task: str) -> float:
    """Return the standard error of a coefficient by one row, for a column of variance 1 alone in a model."""
    mean = float(target.mean())
    if task == "classification":
        return 1 / math.sqrt(max(mean * (1 - mean), 1e-12))
    return 1 / math.sqrt(max(mean, 1e-12)) if task == "count" else float(target.std())


def _read(folder: Folder, name: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(folder.read_bytes(name)))


def trade(found: Known, plan: Plan) -> str:
    """Return a table of half widths, hours and price by the number of labelled rows, for people."""
    n_all = len(plan.positions)
    sizes = [*(size for size in SIZES if size < n_all), n_all]
    names = [f"{size:,}" for size in sizes[:-1]] + [f"all {n_all:,}"]
    widths = found.half_width[:, None] / np.sqrt(sizes)
    rows = {
        sentence[:60]: [f"{width:.3g}" for width in row]
        for sentence, row in zip(found.sentences, widths, strict=True)
    }
    rows |= _costs(plan, np.array(sizes) / n_all)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=names)
    return (
        "half widths of 95 % intervals of coefficients by labelled rows (annotate.sample.rows),\n"
        f"{found.source}; narrower where labels can be predicted:\n{table.to_string()}"
    )


def _costs(plan: Plan, shares: Floats) -> dict[str, list[str]]:
    rate, price = plan.rate, plan.job.options.price_per_hour
    if rate is None:
        return {}
    hours = plan.estimate.hours(rate) * shares
    costs = {"replica hours": [f"{one:,.2f}" for one in hours]}
    return costs if price is None else {**costs, "cost": [f"{one * price:,.2f}" for one in hours]}
