"""AUC and AUPRC of many weightings of the same rows at once, as a bootstrap needs them; its intervals.

A bootstrap weighs rows by how often they were drawn. Rows are sorted once for all weightings.
"""

import numpy as np

from hypsae_ray.data.arrays import Floats, Ints


def percentile_interval(drawn: Floats, level: float = 0.95) -> tuple[float, float]:
    """Return the ends of the interval that holds the middle `level` of a bootstrap's values (B,).

    A share p lies below the p (B + 1)-th value, since the truth is as likely to be between any two neighbours
    as between any others. At the p (B - 1) + 1-th, numpy's own choice, 200 samples leave out 6 % for 5: of
    4,000 intervals for a cross-fitted R2, 93.0 % held the truth; with these, 94.3 %.
    """
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2), method="weibull")
    return float(low), float(high)


class Ranking:
    """Scores of rows of two classes, sorted, so that measures of many weightings are sums.

    AUC: the share of pairs of a 1 and a 0 in which the 1 has the higher score, ties counting half (Mann and
    Whitney 1947). AUPRC: the mean precision at the ones, as scikit-learn's average_precision_score has it.
    """

    def __init__(self, y: Floats, score: Floats) -> None:
        self._order: Ints = np.argsort(-score, kind="stable")
        self._ones = y[self._order] == 1
        ranked = score[self._order]
        ends = np.flatnonzero(np.diff(ranked)) if len(ranked) else np.zeros(0, np.int64)
        # Rows of equal score count at once: where each run of them ends.
        self._ends = np.append(ends, len(ranked) - 1).astype(np.int64)

    def _sums(self, weights: Floats) -> tuple[Floats, Floats]:
        """Weight of ones and of zeros down to the end of each run, (runs, B)."""
        sorted_weights = weights[self._order]
        ones = np.cumsum(sorted_weights * self._ones[:, None], axis=0)[self._ends]
        zeros = np.cumsum(sorted_weights * ~self._ones[:, None], axis=0)[self._ends]
        return ones, zeros

    def auc(self, weights: Floats) -> Floats:
        """Return the AUC of each weighting, (B,) for weights (n, B); NaN with one class only."""
        ones, zeros = self._sums(weights)
        new_zeros = np.diff(zeros, axis=0, prepend=0)
        above = ones - np.diff(ones, axis=0, prepend=0) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((above * new_zeros).sum(axis=0) / (ones[-1] * zeros[-1]), dtype=np.float64)

    def auprc(self, weights: Floats) -> Floats:
        """Return the area under the precision-recall curve of each weighting, (B,)."""
        ones, zeros = self._sums(weights)
        new_ones = np.diff(ones, axis=0, prepend=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.where(new_ones > 0, ones / (ones + zeros), 0)
            return np.asarray((precision * new_ones).sum(axis=0) / ones[-1], dtype=np.float64)
