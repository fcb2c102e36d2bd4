"""The threshold of p_yes, placed by texts of which the firing is known.

A model's p_yes orders texts better than it places them: a small model says no, or yes, to nearly everything.
The texts that score the fidelity of a sentence show where its firing and its silent texts lie.

1. In log odds of p_yes, take both kinds for normal distributions with one variance (linear discriminant
   analysis; the equal-variance model of signal detection).
2. Their tails give the rates of true and false positives at each cut, and so F1 where firing is as rare as in
   the corpus. The best cut is where the probability of firing is half of the best F1 (Lipton, Elkan and
   Naryanaswamy 2014, ECML PKDD, 225-239), which is above the middle of the two where firing is rare.
3. Cuts are between the two means: beyond them the tails decide, which few texts do not show.

Three numbers are estimated. From 5 texts of each kind this is better than a cut by counting, which needs 40;
`jobs/README.md` compares them, also by balanced accuracy.
"""

from typing import cast

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, ndtr

from hypsae_ray.data.arrays import Floats

SURE = 1e-6  # p_yes closer to 0 or 1 is taken for this: an answer of one word may have no probability left
CUTS = 200
LEAST_SPREAD = 0.1  # of log odds; a sample of equal answers has none


def place_threshold(
    fires: npt.NDArray[np.bool_], p_yes: npt.NDArray[np.floating], prevalence: float
) -> float | None:
    """Return the p_yes, within 0 and 1, from which a text is best labelled yes.

    Args:
        fires: (n,) whether the neuron fires on the text.
        p_yes: (n,) in 0 to 1; NaN where there is no usable label, which leaves the text out.
        prevalence: share of the texts of the corpus that the neuron fires on, in 0 to 1.

    Returns:
        None where no threshold can be placed: fewer than two texts of either kind, firing texts with no
        higher p_yes than silent ones, or only the values 0 and 1, for which every cut is the same.
    """
    usable = ~np.isnan(p_yes)
    known: Floats = p_yes[usable].astype(np.float64)
    if np.isin(known, (0, 1)).all():
        return None
    odds: Floats = logit(np.clip(known, SURE, 1 - SURE))
    firing, silent = odds[fires[usable]], odds[~fires[usable]]
    if min(len(firing), len(silent)) < 2 or firing.mean() <= silent.mean():
        return None
    low, high = float(silent.mean()), float(firing.mean())
    spread = max(LEAST_SPREAD, float(np.sqrt((firing.var(ddof=1) + silent.var(ddof=1)) / 2)))
    cuts = np.linspace(low, high, CUTS + 2)[1:-1]
    recall, false_positives = ndtr((high - cuts) / spread), ndtr((low - cuts) / spread)
    f1 = 2 * prevalence * recall / (prevalence * (1 + recall) + (1 - prevalence) * false_positives)
    return cast("float", expit(cuts[np.argmax(f1)]).item())
