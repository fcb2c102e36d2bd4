"""Corrections for testing many hypotheses, and intervals to match.

- bonferroni holds the family-wise error. Intervals are simultaneous: each covers 1 - alpha / m.
- holm (1979) holds the same and rejects more. Intervals are those of Bonferroni, a little wider than they
  need be.
- fdr_bh (Benjamini and Hochberg 1995) holds the false discovery rate of independent or positively dependent
  tests. Intervals hold the false coverage rate of the R selected: each covers 1 - R alpha / m (Benjamini and
  Yekutieli 2005).
- fdr_by (Benjamini and Yekutieli 2001) holds it whatever the dependence: alpha over 1 + 1/2 + ... + 1/m.
- none corrects nothing. Intervals cover 1 - alpha.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from statsmodels.stats.multitest import multipletests

from hypsae_ray.data.arrays import Floats

Correction = Literal["bonferroni", "holm", "fdr_bh", "fdr_by", "none"]


@dataclass(frozen=True)
class Corrected:
    """Adjusted p-values (m,), NaN where there was no test, and the coverage of intervals that match."""

    pval: Floats
    level: float


def correct(pval: Floats, correction: Correction, alpha: float) -> Corrected:
    """Correct raw p-values (m,) for their number; NaN is a test that failed, which counts all the same.

    alpha is the level of the family-wise error, or of the false discovery rate.
    """
    m = max(len(pval), 1)
    counted = np.where(np.isnan(pval), 1.0, pval)
    if correction == "none" or not len(pval):
        adjusted = counted
    else:
        adjusted = np.asarray(multipletests(counted, alpha, correction)[1], dtype=np.float64)
    selected = max(int((adjusted < alpha).sum()), 1)
    share = {
        "none": 1.0,
        "bonferroni": 1 / m,
        "holm": 1 / m,
        "fdr_bh": selected / m,
        "fdr_by": selected / m / float((1 / np.arange(1, m + 1)).sum()),
    }[correction]
    return Corrected(np.where(np.isnan(pval), np.nan, adjusted), 1 - alpha * share)
