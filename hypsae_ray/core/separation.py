"""Separation score: mean target of the texts that have a property minus that of those that have not.

Tested by Welch's unequal-variances t-test (Welch 1947), with the Welch-Satterthwaite degrees of freedom.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Separation:
    """One separation score, in units of the target; NaN where `note` says why.

    Attributes:
        score: difference of means.
        se: its standard error, variances not pooled.
        ci_low: lower end of the confidence interval.
        ci_high: upper end of it.
        pval: two-sided p-value of Welch's t-test.
        note: why a value is NaN, else empty.
    """

    score: float = math.nan
    se: float = math.nan
    ci_low: float = math.nan
    ci_high: float = math.nan
    pval: float = math.nan
    note: str = ""


def separation(labels: Floats, target: Floats, level: float = 0.95) -> Separation:
    """Compare the target between texts labelled 1 and 0.

    Args:
        labels: (n,) of 0 and 1, without NaN.
        target: (n,) finite.
        level: coverage of the confidence interval.
    """
    yes, no = target[labels == 1], target[labels == 0]
    if not len(yes) or not len(no):
        return Separation(note=_one_sided(len(yes), len(no)))
    score = float(yes.mean() - no.mean())
    if min(len(yes), len(no)) < 2:
        return Separation(score, note="no test of the separation: only one text on one side")
    a, b = yes.var(ddof=1) / len(yes), no.var(ddof=1) / len(no)
    if a + b == 0:
        return Separation(score, note="no test of the separation: the target does not vary on either side")
    se = math.sqrt(a + b)
    freedom = (a + b) ** 2 / (a**2 / (len(yes) - 1) + b**2 / (len(no) - 1))
    margin = float(stats.t.ppf((1 + level) / 2, freedom)) * se
    pval = 2 * float(stats.t.sf(abs(score) / se, freedom))
    return Separation(score, se, score - margin, score + margin, pval)


def _one_sided(n_yes: int, n_no: int) -> str:
    if n_yes + n_no == 0:
        return "no text has a usable label"
    return "every labelled text has it: nothing to compare with" if n_yes else "no labelled text has it"
