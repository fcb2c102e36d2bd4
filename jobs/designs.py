"""Draws of partly labelled data with a known truth: what `bench_inference.py --only design` runs.

N rows of four hypotheses, of which 600 are labelled: one held by 30 % with an effect, one without, and the
same of 2 %. A proxy is known of all rows. Each draw is evaluated twice: by a plain sample of 600 rows and
their labels alone, and by the design with its proxies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import norm, poisson

import hypsae_ray
from hypsae_ray.config import Evaluate
from hypsae_ray.stats.analysis import Task, analyse, method_of
from hypsae_ray.stats.sample import Drawn, LabelArray, Sample, drawn_sample
from hypsae_ray.stats.two_phase.probabilities import allocate, pooled, spread_of_influence
from hypsae_ray.stats.two_phase.proxied import use_proxies

N, LABELLED = 6_000, 600
PREVALENCE, BETA, START = np.array([0.3, 0.3, 0.02, 0.02]), np.array([0.4, 0.0, 0.5, 0.0]), -0.2
PARTS = {"": 0, "null_": 1, "rare_": 2, "rare_null_": 3}
FAST = {"folds": 0, "n_bootstrap": 0, "n_permutations": 0}
QUICK = Evaluate(**FAST)
MEANS: dict[Task, Callable[[np.ndarray], np.ndarray]] = {
    "regression": lambda eta: eta,
    "classification": lambda eta: 1 / (1 + np.exp(-eta)),
    "count": np.exp,
}
AUC = {"good": 0.95, "poor": 0.6, "miscalibrated": 0.95}
DESIGNS = ("uniform", "active", "clustered", "weighted")
MOST_MET = (
    ("regression", "uniform", "good"),
    ("regression", "uniform", "poor"),
    ("regression", "active", "good"),
    ("regression", "clustered", "good"),
    ("classification", "uniform", "good"),
    ("classification", "active", "good"),
)
"""The six that users will meet most."""


@dataclass(frozen=True)
class Cell:
    """A task, how rows are drawn, and how good proxies are."""

    task: Task
    design: str
    proxy: str

    @property
    def name(self) -> str:
        """Of the scenario."""
        return f"design/{self.task}/{self.design}/{self.proxy}"

    @property
    def is_most_met(self) -> bool:
        """Whether it is one of MOST_MET, which are drawn four times as often."""
        return (self.task, self.design, self.proxy) in MOST_MET

    def __call__(self, rng: np.random.Generator) -> dict[str, float]:
        """Draw once; what the table says of each part, and the squared errors of both evaluations."""
        labels, proxies, target, groups, weights = _population(self, rng)
        plain = np.zeros(N, dtype=bool)
        plain[rng.choice(N, LABELLED, replace=False)] = True
        chance, drawn, first = np.full(N, LABELLED / N), plain, plain
        if self.design == "active":
            chance, drawn, first = _two_waves(self.task, labels, proxies, target, rng)
        more = {"task": self.task, "groups": groups, "weights": weights, **FAST}
        table = hypsae_ray.evaluate_hypotheses(
            _only(labels, drawn), target, probability=chance, uniform=first, proxies=proxies, **more
        ).table
        alone = hypsae_ray.evaluate_hypotheses(
            _only(labels, plain), target, probability=np.full(N, LABELLED / N), **more
        ).table
        return _found(table, alone, self.task) | {"value_n": float(drawn.sum())}


CELLS = tuple(Cell(*parts) for parts in product(MEANS, DESIGNS, AUC))


def _population(
    cell: Cell, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Labels, proxies (N, 4), target, groups and weights (N,) or None."""
    H, groups, weights, noise = len(BETA), None, None, rng.normal(size=N)
    hidden = rng.normal(size=(N, H))
    if cell.design == "clustered":
        groups = np.repeat(np.arange(N // 5), 5)
        hidden = 0.6 * rng.normal(size=(N // 5, H))[groups] + 0.8 * hidden
        noise = np.asarray(0.6 * rng.normal(size=N // 5)[groups] + 0.8 * noise)
    if cell.design == "weighted":
        weights = np.exp(0.5 * rng.normal(size=N))
    labels = (hidden < norm.ppf(PREVALENCE)).astype(float)
    proxies = _proxies(labels, cell.proxy, rng)
    eta = START + labels @ BETA
    mean, target = MEANS[cell.task](eta), eta + noise
    if cell.task == "classification":
        target = np.asarray(norm.cdf(noise) < mean, dtype=float)
    if cell.task == "count":
        # Counts of one document have in common how likely they are to be high.
        target = np.asarray(poisson.ppf(norm.cdf(noise), mean))
    return labels, proxies, target, groups, weights


def _proxies(labels: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """P(label) given a score whose AUC is that of the kind; too sure of itself, and too high, or as it is."""
    apart = np.sqrt(2) * norm.ppf(AUC[kind])
    score = rng.normal(size=labels.shape) + apart * labels
    odds = np.log(PREVALENCE / (1 - PREVALENCE)) + apart * score - apart**2 / 2
    return 1 / (1 + np.exp(-(3 * odds + 1 if kind == "miscalibrated" else odds)))


def _two_waves(
    task: Task, labels: np.ndarray, proxies: np.ndarray, target: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A third of the rows drawn uniformly, the others by their influence: probabilities, drawn, first."""
    n_first = LABELLED // 3
    first = np.zeros(N, dtype=bool)
    first[rng.choice(N, n_first, replace=False)] = True
    at, share = np.flatnonzero(first), n_first / N
    whole = Sample(LabelArray(proxies), target)
    drawn = Drawn(N, np.full(n_first, share), np.ones(n_first, dtype=bool), at, whole)
    sample = drawn_sample(whole, LabelArray(labels[at]), drawn)
    analysis = use_proxies(analyse(sample, method_of(task, sample, "auto"), QUICK), rng)
    later = allocate(spread_of_influence(analysis, whole), (LABELLED - n_first) / (1 - share))
    return pooled(share, later), first | (rng.random(N) < later), first


def _only(labels: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    return np.where(drawn[:, None], labels, np.nan)


def separations(task: Task) -> np.ndarray:
    """The true separation of each hypothesis: mean target with it minus that without, others as they are."""
    rows = np.array(list(product([0.0, 1.0], repeat=len(BETA))))
    chance = np.prod(np.where(rows == 1, PREVALENCE, 1 - PREVALENCE), axis=1)
    mean = MEANS[task](START + rows @ BETA)
    return np.array(
        [
            np.average(mean[has], weights=chance[has]) - np.average(mean[~has], weights=chance[~has])
            for has in (rows == 1).T
        ]
    )


def _found(table: pd.DataFrame, alone: pd.DataFrame, task: Task) -> dict[str, float]:
    """Whether intervals hold the truth and nulls are rejected, where there is a test; squared errors."""
    truths = {
        "regression_coef": BETA,
        "separation_score": separations(task),
        "feature_prevalence": PREVALENCE,
    }
    found: dict[str, float] = {}
    for column, truth in truths.items():
        prefix = column.removeprefix("feature_").split("_")[0]
        for part, j in PARTS.items():
            name, row, other = f"{part}{prefix}", table.iloc[j], alone.iloc[j]
            low, high = row[f"{prefix}_ci_low"], row[f"{prefix}_ci_high"]
            if not np.isnan([low, high]).any():
                found[f"{name}_covers"] = float(low <= truth[j] <= high)
            pval = row.get(f"{prefix}_pval", np.nan)
            if "null" in part and not np.isnan(pval):
                found[f"{name}_rejects"] = float(pval < 0.05)
            errors = (row[column] - truth[j]) ** 2, (other[column] - truth[j]) ** 2
            if np.isfinite(errors).all():
                found[f"square_{name}"], found[f"plain_{name}"] = errors
    return found
