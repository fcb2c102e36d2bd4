"""How well a sentence tells the texts that make a neuron fire from those that don't."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Fidelity:
    """Agreement of labels with firing over n usable texts; NaN where it is not defined.

    Attributes:
        f1: harmonic mean of precision and recall.
        precision: share of the texts labelled yes that fire; 0 if none is labelled yes.
        recall: share of the firing texts that are labelled yes.
        correlation: point-biserial correlation of P(yes) with firing.
        n: texts with a label.
    """

    f1: float
    precision: float
    recall: float
    correlation: float
    n: int


def score_fidelity(
    fires: npt.NDArray[np.bool_], p_yes: npt.NDArray[np.floating], threshold: float
) -> Fidelity:
    """Compare the labels of one sentence with the firing of its neuron.

    Args:
        fires: (n,) whether the neuron fires on the text.
        p_yes: (n,) in 0 to 1; NaN where there is no usable label, which leaves the text out.
        threshold: P(yes) from which a text counts as labelled yes.
    """
    usable = ~np.isnan(p_yes)
    truth, chance = fires[usable], p_yes[usable].astype(np.float64)
    said = chance >= threshold
    hits, n_firing, n_said = int((said & truth).sum()), int(truth.sum()), int(said.sum())
    if n_firing == 0:
        return Fidelity(math.nan, math.nan, math.nan, math.nan, len(truth))
    return Fidelity(
        f1=2 * hits / (n_firing + n_said),
        precision=hits / n_said if n_said else 0.0,
        recall=hits / n_firing,
        correlation=_correlation(truth.astype(np.float64), chance),
        n=len(truth),
    )


def best_candidate(scores: Sequence[Fidelity]) -> int | None:
    """Return the position of the highest F1; None if no F1 is defined.

    Of equals, the highest correlation wins (a timid annotator says no to all, and yet leans one way), then
    the first one.
    """
    defined = [i for i, score in enumerate(scores) if not math.isnan(score.f1)]
    return max(
        defined, key=lambda i: (scores[i].f1, _defined_or_lowest(scores[i].correlation), -i), default=None
    )


def _defined_or_lowest(correlation: float) -> float:
    return -math.inf if math.isnan(correlation) else correlation


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])
