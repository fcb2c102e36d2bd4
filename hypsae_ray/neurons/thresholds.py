"""From which P(yes) on a label is a yes: placed by texts of which the firing is known.

A model's P(yes) orders texts better than it places them: a small one says no, or yes, to nearly everything.
The texts that score the fidelity of a sentence show where its firing and its silent texts lie.

1. In log odds of P(yes), take both kinds for normal distributions with one variance (linear discriminant
   analysis; the equal-variance model of signal detection).
2. Their tails give recall and false alarms at each cut, and so F1 where firing is as rare as in the corpus.
   The best cut is where the chance of firing is half of the best F1 (Lipton, Elkan and Naryanaswamy 2014,
   ECML PKDD, 225-239), which is above the middle of the two where firing is rare.
3. Cuts are looked for between the two means: beyond them it is the tails that decide, of which few texts
   tell nothing.

Three numbers are estimated, and from 5 texts of each kind that is better than a cut by counting, which needs
40; `jobs/README.md` compares them, by balanced accuracy too: at the rare prevalence of a neuron that places
a good model's cut too low, and worse than 0.5.
"""

from typing import cast

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, ndtr

from hypsae_ray.data.arrays import Floats

SURE = 1e-6  # P(yes) closer to 0 or 1 is taken for this: an answer of one word may have no probability left
CUTS = 200
LEAST_SPREAD = 0.1  # of log odds; a sample of equal answers has none


def place_threshold(
    fires: npt.NDArray[np.bool_], p_yes: npt.NDArray[np.floating], prevalence: float
) -> float | None:
    """Return the P(yes), within 0 and 1, from which a text is best labelled yes.

    Args:
        fires: (n,) whether the neuron fires on the text.
        p_yes: (n,) in 0 to 1; NaN where there is no usable label, which leaves the text out.
        prevalence: share of the texts of the corpus that the neuron fires on, in 0 to 1.

    Returns:
        None where nothing can be told: fewer than two texts of either kind, firing texts with no higher
        P(yes) than silent ones, or no P(yes) but 0 and 1, for which one cut is as good as another.
    """
    usable = ~np.isnan(p_yes)
    chance: Floats = p_yes[usable].astype(np.float64)
    if np.isin(chance, (0, 1)).all():
        return None
    odds: Floats = logit(np.clip(chance, SURE, 1 - SURE))
    firing, silent = odds[fires[usable]], odds[~fires[usable]]
    if min(len(firing), len(silent)) < 2 or firing.mean() <= silent.mean():
        return None
    low, high = float(silent.mean()), float(firing.mean())
    spread = max(LEAST_SPREAD, float(np.sqrt((firing.var(ddof=1) + silent.var(ddof=1)) / 2)))
    cuts = np.linspace(low, high, CUTS + 2)[1:-1]
    recall, alarms = ndtr((high - cuts) / spread), ndtr((low - cuts) / spread)
    f1 = 2 * prevalence * recall / (prevalence * (1 + recall) + (1 - prevalence) * alarms)
    return cast("float", expit(cuts[np.argmax(f1)]).item())
