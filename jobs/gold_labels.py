"""Draws of labels with known errors, which labels of people on some rows correct: scenario `gold`.

A model has labelled 4,000 rows for three hypotheses. Its sensitivity is 0.8 and its specificity 0.9 on
average, differing by hypothesis and by the target, so that its coefficients are off either way; that of the
hypothesis without an effect seems to have one. People label about 200 rows, drawn as `hypsae gold sample`
draws them.
"""

import numpy as np

from hypsae_ray.config import Evaluate
from hypsae_ray.stats.analysis import Task, analyse, method_of
from hypsae_ray.stats.sample import LabelArray, Sample
from hypsae_ray.stats.two_phase.gold import Gold, correct_by_gold, draw_size
from hypsae_ray.stats.two_phase.probabilities import allocate

N, LABELLED = 4_000, 200
PREVALENCE, BETA, START = np.array([0.3, 0.3, 0.2]), np.array([0.5, 0.0, -0.5]), -0.1
# By whether the target is low or high (rows), and by hypothesis.
SENSITIVITY = np.array([[0.7, 0.7, 0.95], [0.9, 0.9, 0.65]])
SPECIFICITY = np.array([[0.95, 0.95, 0.9], [0.85, 0.85, 0.9]])
QUICK = Evaluate(folds=0, n_bootstrap=0, n_permutations=0)
TASKS: dict[str, Task] = {"": "regression", "logit_": "classification"}


def gold(rng: np.random.Generator) -> dict[str, float]:
    """Coefficients by the model's labels and corrected ones: how often intervals hold the truth."""
    return {name: value for prefix, task in TASKS.items() for name, value in _one(prefix, task, rng).items()}


def _one(prefix: str, task: Task, rng: np.random.Generator) -> dict[str, float]:
    truth, target = _rows(task, rng)
    p_yes = _p_yes(truth, target, rng)
    whole = Sample(LabelArray((p_yes >= 0.5).astype(float)), target)
    method = method_of(task, whole, "auto")
    size = draw_size(analyse(whole, method, QUICK), whole, p_yes, np.ones(len(BETA), dtype=bool))
    chance = allocate(size, LABELLED)
    at = np.flatnonzero(rng.random(N) < chance)
    table = correct_by_gold(whole, p_yes, method, Gold(at, chance[at], truth[None, at])).table
    shares = {"coef": BETA, "prevalence": PREVALENCE} if not prefix else {"coef": BETA}
    found: dict[str, float] = {}
    for name, value in shares.items():
        part = "" if name == "coef" else "prevalence_"
        for which in ("raw", "corrected"):
            low, high = (table[f"{which}_{name}_ci_{end}"].to_numpy() for end in ("low", "high"))
            found[f"{prefix}{part}{which}_covers"] = float(((low <= value) & (value <= high)).mean())
            found[f"value_{prefix}{part}{which}_half_width"] = float((high - low).mean() / 2)
        se = (table[f"raw_{name}_ci_high"] - table[f"raw_{name}_ci_low"]).to_numpy() / (2 * 1.96)
        off = np.abs(table[f"raw_{name}"].to_numpy() - value)
        found[f"value_{prefix}{part}raw_off"] = float((off / se).mean())
    null = (table["corrected_coef_ci_low"][1] > 0) | (table["corrected_coef_ci_high"][1] < 0)
    raw_null = (table["raw_coef_ci_low"][1] > 0) | (table["raw_coef_ci_high"][1] < 0)
    return found | {f"{prefix}raw_null_rejects": float(raw_null), f"{prefix}null_rejects": float(null)}


def _rows(task: Task, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """True labels (N, 3), and the target (N,)."""
    truth = (rng.random((N, len(BETA))) < PREVALENCE).astype(float)
    eta = START + truth @ BETA
    if task == "classification":
        return truth, (rng.random(N) < 1 / (1 + np.exp(-eta))).astype(float)
    return truth, eta + rng.normal(size=N)


def _p_yes(truth: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """P(yes) of the model, (N, 3): most of them near 0 or 1, on the wrong side where it errs."""
    high = (target > np.median(target)).astype(int)
    if len(np.unique(target)) == 2:
        high = target.astype(int)
    right = np.where(truth == 1, SENSITIVITY[high], SPECIFICITY[high])
    yes = (rng.random(truth.shape) < right) == (truth == 1)
    sure = 0.5 + 0.5 * rng.beta(4, 1, size=truth.shape)
    return np.where(yes, sure, 1 - sure)
