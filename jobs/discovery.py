"""What hypotheses found, by the truth and next to each other: the pure part of bench_discovery.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from planted import MATTERS
from scipy import stats

from hypsae_ray.demo.recovery import RECOVERED_F1, f1_table

MIN_TEXTS = 3
"""A concept that fewer test texts hold is not counted: its F1 says little."""
SAME_LABELS, SAME_WORDS = 0.8, 0.9
"""Correlation of labels and cosine of sentences from which two hypotheses are one."""


@dataclass(frozen=True)
class Truth:
    """What n texts hold.

    Attributes:
        values: (n, C) of 0 and 1.
        concepts: C rows; concept, description and role.
    """

    values: np.ndarray
    concepts: pd.DataFrame

    @property
    def counted(self) -> np.ndarray:
        """Which concepts enough texts hold, (C,) bool."""
        return self.values.sum(axis=0) >= MIN_TEXTS


def n_reached(truth: np.ndarray, labels: np.ndarray, counted: np.ndarray) -> int:
    """Count the concepts that labels (or firing) reach.

    Args:
        truth: (n, C) of 0 and 1.
        labels: (n, H) of 0 and 1, NaN where there is none.
        counted: (C,) bool, the concepts to look at.

    Returns:
        How many of these are the best match of a column, with an F1 of 0.6 or more. A column reaches one
        concept at the most: of two that occur together, the one that it is about.
    """
    f1 = f1_table(truth, labels)
    reached = f1.argmax(axis=0)[f1.max(axis=0) >= RECOVERED_F1]
    return int(counted[np.unique(reached)].sum())


def matches(truth: Truth, labels: np.ndarray) -> pd.DataFrame:
    """Return the concept that agrees best with each column of labels (n, H): position, concept, role, f1."""
    f1 = f1_table(truth.values, labels)
    best = f1.argmax(axis=0)
    rows = truth.concepts.iloc[best][["concept", "role"]].reset_index(drop=True)
    return rows.assign(position=best, f1=f1.max(axis=0))


def count_by_truth(matched: pd.DataFrame, significant: np.ndarray) -> dict[str, int]:
    """Count significant hypotheses by what they match: `true` and `false` concepts, or `unmatched`.

    A concept with an effect of its own makes a hypothesis true; a decoy, or one that only occurs with
    another that has an effect, false. Below an F1 of 0.6 it matches none.
    """
    found = matched[significant]
    fits, true = found["f1"] >= RECOVERED_F1, found["role"].isin(MATTERS)
    counts = {"true": fits & true, "false": fits & ~true, "unmatched": ~fits}
    return {name: int(which.sum()) for name, which in counts.items()}


def n_distinct(labels: np.ndarray, vectors: np.ndarray) -> int:
    """Count hypotheses that say something else than those before them.

    Args:
        labels: (n, H) of 0 and 1, NaN where there is none.
        vectors: (H, d) embeddings of their sentences, of length 1.
    """
    same_labels = np.abs(pd.DataFrame(labels).corr().fillna(0).to_numpy()) >= SAME_LABELS
    same = same_labels | (vectors @ vectors.T >= SAME_WORDS)
    kept: list[int] = []
    for j in range(labels.shape[1]):
        if not same[j, kept].any():
            kept.append(j)
    return len(kept)


def paired(differences: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the mean of differences, one a seed, and its t interval; NaN limits for a single one."""
    values = np.asarray(differences, dtype=float)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return (float(values.mean()) if len(values) else np.nan), np.nan, np.nan
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values)
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def compare(rows: pd.DataFrame, base: str, measures: Sequence[str]) -> pd.DataFrame:
    """Return differences of each system from `base`, seed by seed: mean, low and high of each measure.

    `rows` has columns system and seed, and one for each measure.
    """
    by_seed = rows.set_index(["system", "seed"])
    systems = [name for name in rows["system"].unique() if name != base]
    found: list[Mapping[str, object]] = []
    for name in systems if base in set(rows["system"]) else ():
        gap = by_seed.loc[name] - by_seed.loc[base]
        for measure in measures:
            if measure in gap:
                mean, low, high = paired(gap[measure].astype(float).tolist())
                found.append({"system": name, "measure": measure, "mean": mean, "low": low, "high": high})
    return pd.DataFrame(found, columns=["system", "measure", "mean", "low", "high"])
