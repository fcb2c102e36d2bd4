"""How well a sentence tells the texts that make a neuron fire from those that don't.

The texts are a sample of as many firing as silent ones. Where few texts of the corpus fire, precision and F1
in such a sample are far above those in the corpus: if ten of a thousand texts fire, one false positive in
twenty silent texts stands for fifty. Both are therefore given for the corpus too, where each text of the
sample counts by the prevalence of the neuron. Intervals cover 95 %, each one separately.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import NormalDist
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hypsae_ray.data.arrays import Floats
from hypsae_ray.stats.prediction.measures import percentile_interval

DRAWS = 1_000
LEAST_FIRING = 4  # in the half that a measure is reported on
NEARLY_ALL = 0.9  # share of the silent texts
INFORMATIVE = 0.3  # a correlation of p_yes with firing that is twice its standard error in 40 texts

Mask = npt.NDArray[np.bool_]
Number = TypeVar("Number", float, Floats)


@dataclass(frozen=True)
class Interval:
    """A confidence interval; NaN where it is not defined."""

    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Fidelity:
    """Agreement of labels with firing over n usable texts; NaN where it is not defined.

    Attributes:
        f1, f1_ci: harmonic mean of precision and recall in the sample; its bootstrap interval.
        precision, precision_ci: share of the texts labelled yes that fire, 0 if none is; Wilson interval.
        recall, recall_ci: share of the firing texts that are labelled yes; Wilson interval.
        correlation: point-biserial correlation of p_yes with firing.
        n: texts with a label.
        precision_corpus: precision where firing texts are as rare as in the corpus.
        f1_corpus, f1_corpus_ci: F1 there; its bootstrap interval.
    """

    f1: float = math.nan
    f1_ci: Interval = Interval()
    precision: float = math.nan
    precision_ci: Interval = Interval()
    recall: float = math.nan
    recall_ci: Interval = Interval()
    correlation: float = math.nan
    n: int = 0
    precision_corpus: float = math.nan
    f1_corpus: float = math.nan
    f1_corpus_ci: Interval = Interval()

    def columns(self) -> dict[str, float]:
        """Return the measures by the names of schema.MEASURES and f1; an interval is two columns."""
        flat: dict[str, float] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Interval):
                flat |= {f"{field.name}_low": value.low, f"{field.name}_high": value.high}
            else:
                flat[field.name] = value
        return flat


def score_fidelity(
    fires: Mask,
    p_yes: npt.NDArray[np.floating],
    threshold: float | Floats,
    *,
    prevalence: float,
    rng: np.random.Generator,
) -> Fidelity:
    """Compare the labels of one sentence with the firing of its neuron.

    Args:
        fires: (n,) whether the neuron fires on the text.
        p_yes: (n,) in 0 to 1; NaN where there is no usable label, which leaves the text out.
        threshold: p_yes from which a text counts as labelled yes; (n,) where it differs between texts.
        prevalence: share of the texts of the corpus that the neuron fires on, in 0 to 1.
        rng: decides the bootstrap.

    Returns:
        All NaN where no labelled text fires; in the corpus NaN where none is silent.
    """
    usable = ~np.isnan(p_yes)
    truth, p_yes = fires[usable], p_yes[usable].astype(np.float64)
    predicted = p_yes >= np.broadcast_to(np.asarray(threshold, dtype=np.float64), usable.shape)[usable]
    firing, silent = int(truth.sum()), int((~truth).sum())
    tp, fp = int((predicted & truth).sum()), int((predicted & ~truth).sum())
    if firing == 0:
        return Fidelity(n=len(truth))
    # What each firing and each silent text stands for in the corpus.
    per_tp, per_fp = prevalence / firing, (1 - prevalence) / silent if silent else math.nan
    many_tp, many_fp = _resample(tp, firing, rng), _resample(fp, silent, rng)
    return Fidelity(
        f1=_f1(tp, fp, firing),
        f1_ci=Interval(*percentile_interval(_f1(many_tp, many_fp, firing))),
        precision=_precision(tp, fp),
        precision_ci=wilson(tp, tp + fp),
        recall=tp / firing,
        recall_ci=wilson(tp, firing),
        correlation=_correlation(truth.astype(np.float64), p_yes),
        n=len(truth),
        precision_corpus=_precision(tp * per_tp, fp * per_fp),
        f1_corpus=_f1(tp * per_tp, fp * per_fp, prevalence),
        f1_corpus_ci=Interval(*percentile_interval(_f1(many_tp * per_tp, many_fp * per_fp, prevalence))),
    )


def is_true_of_all(fires: Mask, p_yes: npt.NDArray[np.floating], threshold: float, *, placed: bool) -> bool:
    """Tell whether a sentence is true of nearly every text, so that its labels are not informative.

    That is so if 9 in 10 silent texts or more are labelled yes. Where a threshold is placed by the texts,
    p_yes must in addition be no higher on firing texts: some models say yes to nearly everything.
    `fires` and `p_yes` are those of `score_fidelity`; the threshold is the one where none is placed.
    """
    usable = ~np.isnan(p_yes)
    truth, p_yes = fires[usable], p_yes[usable].astype(np.float64)
    silent = p_yes[~truth]
    if len(silent) < LEAST_FIRING or float((silent >= threshold).mean()) < NEARLY_ALL:
        return False
    return not (placed and _correlation(truth.astype(np.float64), p_yes) >= INFORMATIVE)


def wilson(count: int, n: int) -> Interval:
    """Return the 95 % score interval of a share `count / n` (Wilson 1927, JASA 22, 209-212); NaN for n = 0.

    >>> round(wilson(0, 10).high, 3)
    0.278
    """
    if n == 0:
        return Interval()
    z = NormalDist().inv_cdf((1 + 0.95) / 2)
    middle = (count + z**2 / 2) / (n + z**2)
    margin = z * math.sqrt(count * (n - count) / n + z**2 / 4) / (n + z**2)
    return Interval(max(0.0, middle - margin), min(1.0, middle + margin))


def halves(fires: Mask, labelled: Mask, n_candidates: int) -> tuple[Mask, Mask]:
    """Split the texts of a neuron: candidates compete on the first part, the second measures the winner.

    Args:
        fires: (n,) whether the neuron fires; where the firing texts stand in order of activation, both parts
            span its range, since they take turns.
        labelled: (n,) whether the text has a label; the others are in neither part.
        n_candidates: different sentences to choose among.

    Returns:
        Two masks (n,). Both hold all labelled texts where there is nothing to choose, or where fewer than
        LEAST_FIRING firing texts would be left to report on: the measures of the best are flattering then.
    """
    if n_candidates < 2 or int((fires & labelled).sum()) // 2 < LEAST_FIRING:
        return labelled, labelled
    first = np.zeros(len(fires), dtype=bool)
    for kind in (fires & labelled, ~fires & labelled):
        first[np.flatnonzero(kind)[::2]] = True
    return first, labelled & ~first


def best_candidate(scores: Sequence[Fidelity]) -> int | None:
    """Return the position of the highest F1 in the corpus; None if no F1 is defined.

    In the corpus, since labels are given there, where a false positive costs more than in the sample. Of
    equals, the highest F1 in the sample wins, then the highest correlation (a model that says no to all texts
    may still order them), then the first one.
    """
    defined = [i for i, score in enumerate(scores) if not math.isnan(score.f1)]

    def worth(i: int) -> tuple[float, ...]:
        measures = (scores[i].f1_corpus, scores[i].f1, scores[i].correlation)
        return *(-math.inf if math.isnan(one) else one for one in measures), -i

    return max(defined, key=worth, default=None)


def _precision(true_yes: float, false_yes: float) -> float:
    predicted = true_yes + false_yes
    return true_yes / predicted if predicted else 0.0


def _f1(true_yes: Number, false_yes: Number, firing: float) -> Number:
    """F1 of numbers in one unit: texts of the sample, or shares of the corpus."""
    return 2 * true_yes / (firing + true_yes + false_yes)


def _resample(yes: int, n: int, rng: np.random.Generator) -> Floats:
    """Draw, DRAWS times, how many of n texts are labelled yes.

    Half a yes and half a no are added (Jeffreys): without them, the interval of a sample without errors has
    no width. Of 95 % intervals of the F1 of a good sentence (recall 0.95, 1 false positive in 100) from 20
    firing and 20 silent texts, 71 % would hold the truth, and of its F1 in a corpus of prevalence 0.02, 18 %;
    with them it is 99 % and more.
    """
    return rng.binomial(n, (yes + 0.5) / (n + 1), DRAWS).astype(np.float64)


def _correlation(a: Floats, b: Floats) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])
