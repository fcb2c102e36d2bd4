"""Compare the coefficients of the same hypotheses in two independent samples.

- Difference: b2 - b1 with variance se1^2 + se2^2, as neither sample knows of the other; z test (Clogg,
  Petkova and Haritou 1995 on coefficients of one model in two samples). P-values are adjusted over all
  hypotheses; one without a coefficient counts as a test.
- Pooled: the mean of both with weights 1 / se^2, one effect for both samples (Cochran 1954); z test.
- Heterogeneity: Cochran's Q with one degree of freedom, whose p-value is that of the difference, and I2 =
  max(0, 1 - 1 / Q), the share of the variation that is not chance (Higgins and Thompson 2002).
- Replicates: an effect that was significant in the first sample has the same sign in the second, and a
  p-value there below alpha, adjusted over the effects that were significant in the first.

Differences and pooled effects are by the normal distribution. Where a sample's own interval is wider
than 10 degrees of freedom make it (few texts hold a property; outcomes are separated), a note says so.
Intervals cover 95 %.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from hypsae_ray.data.arrays import Bools, Floats
from hypsae_ray.stats.evaluate import Evaluation
from hypsae_ray.stats.multiplicity import Correction, correct

FIRST, NEW = "first", "new"
_SAMPLES = {FIRST: "first run", NEW: "new texts"}
_HALF_WIDTH, _WIDE = float(norm.ppf(0.975)), float(t.ppf(0.975, 10))
_BOLD = "its interval is far wider than its standard error makes it: z tests with this effect are too bold"
# Columns of `Evaluation.table` that are shown of both samples, and what they are called after its name.
_SHOWN = {
    "regression_coef": "coef",
    "regression_se": "se",
    "regression_ci_low": "ci_low",
    "regression_ci_high": "ci_high",
    "regression_pval": "pval",
    "n": "n",
    "feature_prevalence": "prevalence",
}


@dataclass(frozen=True)
class Replication:
    """What two samples say about the same H hypotheses.

    Attributes:
        table: H rows in the order of the first sample. hypothesis_id, hypothesis; of each sample (first_,
            new_) coef, se, ci_low, ci_high, pval, n, prevalence; first_pval_adj, first_significant;
            new_pval_adj (over the effects significant in the first); difference, difference_ + se, ci_low,
            ci_high, pval, pval_adj; differs (adjusted p-value of the difference below alpha); pooled_ + coef,
            se, ci_low, ci_high, pval; q, i2 (from 0 to 1); replicates (null where the first effect is not
            significant, or one has no coefficient); note (why values are NaN).
        metrics: link, correction, alpha, n_hypotheses; n_compared (with both coefficients and their errors);
            n_significant (in the first), n_replicated, n_not_measured (significant in the first, without a
            p-value in the second), n_differing; n_first and n_new (rows).
    """

    table: pd.DataFrame
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Estimates:
    """Effects (H,) with their standard errors, NaN where there is none."""

    value: Floats
    se: Floats

    @property
    def z(self) -> Floats:
        """Effects in standard errors."""
        return self.value / self.se

    def columns(self, prefix: str) -> dict[str, Floats]:
        """Return standard errors, 95 % intervals and p-values by name."""
        return {
            f"{prefix}_se": self.se,
            f"{prefix}_ci_low": self.value - _HALF_WIDTH * self.se,
            f"{prefix}_ci_high": self.value + _HALF_WIDTH * self.se,
            f"{prefix}_pval": 2 * norm.sf(np.abs(self.z)),
        }


def compare(first: Evaluation, new: Evaluation, correction: Correction, alpha: float) -> Replication:
    """Compare the evaluations of the same hypotheses on two independent samples.

    Raises:
        ValueError: their models are not of one kind, or their tables are not of the same hypotheses.
    """
    _require_alike(first, new)
    old, other = (one.table.reset_index(drop=True) for one in (first, new))
    before, now = estimates_of(old), estimates_of(other)
    significant = old["significant"].fillna(False).to_numpy(dtype=bool)
    table = pd.DataFrame({"hypothesis_id": old["hypothesis_id"], "hypothesis": old.get("hypothesis")})
    table = table.join(_renamed(old, FIRST))
    table["first_pval_adj"], table["first_significant"] = old["regression_pval_adj"], significant
    table = table.join(_renamed(other, NEW))
    table["new_pval_adj"] = _adjusted(table["new_pval"].to_numpy(float), significant, correction, alpha)
    table = table.assign(**_difference(before, now, correction, alpha), **_pooled(before, now))
    table["replicates"] = _replicates(table, alpha)
    table["note"] = _notes(table, {FIRST: old, NEW: other})
    counts = {"link": new.metrics["link"], "correction": correction, "alpha": alpha, **_counts(table)}
    return Replication(table, {**counts, "n_first": first.metrics.get("n"), "n_new": new.metrics.get("n")})


def estimates_of(table: pd.DataFrame) -> Estimates:
    """Return the coefficients of an evaluation's table; both NaN where an error is missing or 0."""
    value, se = (table[name].to_numpy(dtype=np.float64) for name in ("regression_coef", "regression_se"))
    known = np.isfinite(value) & np.isfinite(se) & (se > 0)
    return Estimates(np.where(known, value, np.nan), np.where(known, se, np.nan))


def difference(first: Estimates, new: Estimates) -> Estimates:
    """Return the second effect minus the first, of independent samples.

    >>> first, new = (Estimates(np.array([b]), np.array([se])) for b, se in ((1.0, 0.3), (2.0, 0.4)))
    >>> found = difference(first, new)
    >>> found.value.round(3).tolist(), found.se.round(3).tolist()
    ([1.0], [0.5])
    """
    return Estimates(new.value - first.value, np.hypot(first.se, new.se))


def pool(first: Estimates, new: Estimates) -> Estimates:
    """Return the fixed effect of both samples, weighted by inverse variance."""
    weights = first.se**-2, new.se**-2
    total = weights[0] + weights[1]
    return Estimates((weights[0] * first.value + weights[1] * new.value) / total, total**-0.5)


def _renamed(table: pd.DataFrame, sample: str) -> pd.DataFrame:
    return table[[*_SHOWN]].rename(columns={column: f"{sample}_{name}" for column, name in _SHOWN.items()})


def _difference(
    first: Estimates, new: Estimates, correction: Correction, alpha: float
) -> dict[str, Floats | Bools]:
    found = difference(first, new)
    columns = found.columns("difference")
    adjusted = correct(columns["difference_pval"], correction, alpha).pval
    named = {"difference": found.value, **columns, "difference_pval_adj": adjusted}
    return {**named, "differs": adjusted < alpha}


def _pooled(first: Estimates, new: Estimates) -> dict[str, Floats]:
    found, q = pool(first, new), difference(first, new).z ** 2  # of two samples Cochran's Q is this
    with np.errstate(divide="ignore"):
        i2 = np.maximum(0.0, 1 - 1 / q)
    return {"pooled_coef": found.value, **found.columns("pooled"), "q": q, "i2": i2}


def _adjusted(pval: Floats, of: Bools, correction: Correction, alpha: float) -> Floats:
    """Return p-values (H,) adjusted over some hypotheses, NaN for the others."""
    adjusted = np.full(len(pval), np.nan)
    adjusted[of] = correct(pval[of], correction, alpha).pval
    return adjusted


def _replicates(table: pd.DataFrame, alpha: float) -> pd.arrays.BooleanArray:
    same_sign = table["first_coef"] * table["new_coef"] > 0
    adjusted = table["new_pval_adj"]
    known = table["first_significant"] & adjusted.notna()
    return pd.arrays.BooleanArray((same_sign & (adjusted < alpha)).to_numpy(bool), ~known.to_numpy(bool))


def _notes(table: pd.DataFrame, samples: Mapping[str, pd.DataFrame]) -> list[str]:
    """Say of each hypothesis why it is not compared, and what its evaluations remark."""
    parts = [_remarks(table, name, one) for name, one in samples.items()]
    return ["; ".join(filter(None, remarks)) for remarks in zip(*parts, strict=True)]


def _remarks(table: pd.DataFrame, name: str, of: pd.DataFrame) -> list[str]:
    known = np.isfinite(estimates_of(of).value)
    lacks = np.where(table[f"{name}_coef"].isna(), "no coefficient", "no standard error of the coefficient")
    wide = table[f"{name}_ci_high"] - table[f"{name}_ci_low"] > 2 * _WIDE * table[f"{name}_se"]
    remarks = list[str]()
    for said, there, why, few in zip(of["note"], known, lacks, wide, strict=True):
        said = said if isinstance(said, str) else ""
        parts = [said, "" if there or why in said else str(why), _BOLD if few else ""]
        words = "; ".join(filter(None, parts))
        remarks.append(f"{_SAMPLES[name]}: {words}" if words else "")
    return remarks


def _counts(table: pd.DataFrame) -> dict[str, int]:
    significant, replicates = table["first_significant"], table["replicates"]
    return {
        "n_hypotheses": len(table),
        "n_compared": int(table["difference"].notna().sum()),
        "n_significant": int(significant.sum()),
        "n_replicated": int(replicates.sum()),
        "n_not_measured": int((significant & replicates.isna()).sum()),
        "n_differing": int(table["differs"].sum()),
    }


def _require_alike(first: Evaluation, new: Evaluation) -> None:
    links = [one.metrics["link"] for one in (first, new)]
    if links[0] != links[1]:
        raise ValueError(
            f"the first model has link {links[0]}, the second {links[1]}: their coefficients have other units"
        )
    ids = [one.table["hypothesis_id"].tolist() for one in (first, new)]
    if ids[0] != ids[1]:
        raise ValueError(f"the tables are of other hypotheses ({len(ids[0])} and {len(ids[1])} rows)")
