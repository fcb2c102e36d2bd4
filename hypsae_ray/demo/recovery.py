"""What a run found of what was planted: each concept beside the hypothesis that matches it best."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

RECOVERED_F1 = 0.6


def recovery(
    concepts: pd.DataFrame, truth: np.ndarray, labels: np.ndarray, evaluation: pd.DataFrame
) -> pd.DataFrame:
    """Match every planted concept with the hypothesis whose labels agree best with its truth.

    Args:
        concepts: one row per concept; columns concept and effect (stars).
        truth: (n, C) of 0 and 1, columns in the order of `concepts`.
        labels: (n, H) of 0 and 1, NaN where there is no label; rows as in `truth`.
        evaluation: one row per column of `labels`; hypothesis, regression_coef, and hypothesis_id if there is
            one (else hypotheses are numbered from 0).

    Returns:
        One row per concept: concept, effect_planted (stars), hypothesis_id, hypothesis, f1, effect_found
        (regression_coef). Without any hypothesis, f1 is 0 and what was found is missing. One hypothesis may
        be the best match of several concepts.

    Raises:
        ValueError: the shapes do not fit together.
    """
    _check(concepts, truth, labels, evaluation)
    planted = pd.DataFrame({"concept": concepts["concept"], "effect_planted": concepts["effect"]})
    planted = planted.reset_index(drop=True)
    if not len(evaluation):
        return planted.assign(hypothesis_id=None, hypothesis=None, f1=0.0, effect_found=np.nan)
    f1 = f1_table(truth, labels)
    best = f1.argmax(axis=1)
    ids = evaluation.get("hypothesis_id", pd.Series(range(len(evaluation))))
    return planted.assign(
        hypothesis_id=ids.to_numpy()[best],
        hypothesis=evaluation["hypothesis"].to_numpy()[best],
        f1=f1.max(axis=1),
        effect_found=evaluation["regression_coef"].to_numpy(dtype=float)[best],
    )


def f1_table(truth: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """F1 of every hypothesis against every concept.

    Args:
        truth: (n, C) of 0 and 1.
        labels: (n, H) of 0 and 1; a row with NaN is left out for that hypothesis alone.

    Returns:
        (C, H) float64; 0 where nothing is true and nothing is labelled.
    """
    known = np.isfinite(labels)
    said = np.where(known, labels, 0) > 0.5
    true = truth.astype(float)
    hits = true.T @ said
    total = true.T @ known + said.sum(axis=0)
    return np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0)


def format_recovery(table: pd.DataFrame) -> str:
    """Lay the table of `recovery` out for a terminal, with a line that counts what was recovered."""
    lines = [f"{'planted concept':<20} {'planted':>8} {'found':>8} {'F1':>6}  best matching hypothesis"]
    lines += [_line(row) for row in table.to_dict("records")]
    return "\n".join([*lines, summary(table)])


def summary(table: pd.DataFrame) -> str:
    """Count the concepts whose best hypothesis reaches F1 of 0.6."""
    count = int((table["f1"] >= RECOVERED_F1).sum())
    return f"recovered {count} of {len(table)} planted concepts (F1 of {RECOVERED_F1} or more)"


def _check(concepts: pd.DataFrame, truth: np.ndarray, labels: np.ndarray, evaluation: pd.DataFrame) -> None:
    if truth.shape != (len(labels), len(concepts)):
        raise ValueError(f"truth is {truth.shape}, expected {(len(labels), len(concepts))}")
    if labels.shape[1] != len(evaluation):
        raise ValueError(f"labels have {labels.shape[1]} columns for {len(evaluation)} hypotheses")


def _line(row: dict[Hashable, Any]) -> str:
    sentence = row["hypothesis"]
    hypothesis = " ".join(sentence.split()) if isinstance(sentence, str) else "-"
    elided = hypothesis if len(hypothesis) <= 60 else hypothesis[:59] + "…"
    found = "-" if np.isnan(row["effect_found"]) else f"{row['effect_found']:+.2f}"
    return f"{row['concept']:<20} {row['effect_planted']:>+8.2f} {found:>8} {row['f1']:>6.2f}  {elided}"
