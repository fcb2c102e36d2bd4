"""How well a sentence tells the texts that make a neuron fire from those that don't.

The texts are a sample with as many firing as silent ones, whatever their share in the corpus. Where few texts
of the corpus fire, precision and F1 in such a sample are far above what the corpus would show: of a thousand
texts ten fire, and one false alarm in twenty silent texts stands for fifty. So both are given for the corpus,
too, in which the neuron's prevalence says what each text of the sample stands for.

Intervals cover 95 %, each one on its own.
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

LEVEL = 0.95
DRAWS = 1_000
LEAST_FIRING = 4  # in the half that a measure is reported on
NEARLY_ALL = 0.9  # share of the silent texts
TELLING = 0.3  # a correlation of P(yes) with firing that is twice its standard error in 40 texts

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
        f1: harmonic mean of precision and recall in the sample.
        f1_ci: interval of it, by bootstrap.
        precision: share of the texts labelled yes that fire; 0 if none is labelled yes.
        precision_ci: interval of it (Wilson).
        recall: share of the firing texts that are labelled yes.
        recall_ci: interval of it (Wilson).
        correlation: point-biserial correlation of P(yes) with firing.
        n: texts with a label.
        precision_corpus: precision where firing texts are as rare as in the corpus.
        f1_corpus: F1 there.
        f1_corpus_ci: interval of it, by bootstrap.
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
        threshold: P(yes) from which a text counts as labelled yes; (n,) where it differs between texts.
        prevalence: share of the texts of the corpus that the neuron fires on, in 0 to 1.
        rng: decides the bootstrap.

    Returns:
        All NaN where no labelled text fires; in the corpus NaN where none is silent.
    """
    usable = ~np.isnan(p_yes)
    truth, chance = fires[usable], p_yes[usable].astype(np.float64)
    cuts: Floats = np.broadcast_to(np.asarray(threshold, dtype=np.float64), p_yes.shape)
    said = chance >= cuts[usable]
    firing, silent = int(truth.sum()), int((~truth).sum())
    hits, alarms = int((said & truth).sum()), int((said & ~truth).sum())
    if firing == 0:
        return Fidelity(n=len(truth))
    # What each firing and each silent text stands for in the corpus.
    hit, alarm = prevalence / firing, (1 - prevalence) / silent if silent else math.nan
    many_hits, many_alarms = _resample(hits, firing, rng), _resample(alarms, silent, rng)
    return Fidelity(
        f1=_f1(hits, alarms, firing),
        f1_ci=_percentiles(_f1(many_hits, many_alarms, firing)),
        precision=_precision(hits, alarms),
        precision_ci=wilson(hits, hits + alarms),
        recall=hits / firing,
        recall_ci=wilson(hits, firing),
        correlation=_correlation(truth.astype(np.float64), chance),
        n=len(truth),
        precision_corpus=_precision(hits * hit, alarms * alarm),
        f1_corpus=_f1(hits * hit, alarms * alarm, prevalence),
        f1_corpus_ci=_percentiles(_f1(many_hits * hit, many_alarms * alarm, prevalence)),
    )


def is_true_of_all(fires: Mask, p_yes: npt.NDArray[np.floating], threshold: float, *, placed: bool) -> bool:
    """Tell whether a sentence is true of nearly every text, so that its labels tell nothing.

    Labels say yes of 9 in 10 silent texts or more. Where a threshold may be placed elsewhere, that is no harm
    if P(yes) is still higher on firing texts: some models say yes to nearly everything.

    Args:
        fires: (n,) whether the neuron fires on the text.
        p_yes: (n,) in 0 to 1; NaN where there is no usable label.
        threshold: P(yes) from which a label is a yes where nothing places it.
        placed: whether thresholds are placed by the texts.
    """
    usable = ~np.isnan(p_yes)
    truth, chance = fires[usable], p_yes[usable].astype(np.float64)
    silent = chance[~truth]
    if len(silent) < LEAST_FIRING or float((silent >= threshold).mean()) < NEARLY_ALL:
        return False
    return not (placed and _correlation(truth.astype(np.float64), chance) >= TELLING)


def wilson(hits: int, n: int, level: float = LEVEL) -> Interval:
    """Return the score interval of a share `hits / n` (Wilson 1927, JASA 22, 209-212); NaN for n = 0.

    >>> round(wilson(0, 10).high, 3)
    0.278
    """
    if n == 0:
        return Interval()
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (hits + z**2 / 2) / (n + z**2)
    margin = z * math.sqrt(hits * (n - hits) / n + z**2 / 4) / (n + z**2)
    return Interval(max(0.0, middle - margin), min(1.0, middle + margin))


def halves(fires: Mask, labelled: Mask, n_candidates: int) -> tuple[Mask, Mask]:
    """Split the texts of a neuron: candidates compete on the first part, the second measures the winner.

    The best of several on the same texts looks better than it is: it is best by luck, too, and other texts
    don't share its luck.

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

    In the corpus, since labels are given there, where a false alarm costs more than in the sample. Of equals,
    the highest F1 in the sample wins, then the highest correlation (a timid annotator says no to all, and yet
    leans one way), then the first one.
    """
    defined = [i for i, score in enumerate(scores) if not math.isnan(score.f1)]

    def worth(i: int) -> tuple[float, ...]:
        score = scores[i]
        return *map(_defined_or_lowest, (score.f1_corpus, score.f1, score.correlation)), -i

    return max(defined, key=worth, default=None)


def _defined_or_lowest(measure: float) -> float:
    return -math.inf if math.isnan(measure) else measure


def _precision(true_yes: float, false_yes: float) -> float:
    said = true_yes + false_yes
    return true_yes / said if said else 0.0


def _f1(true_yes: Number, false_yes: Number, firing: float) -> Number:
    """F1 from amounts in one unit: texts of the sample, or shares of the corpus."""
    return 2 * true_yes / (firing + true_yes + false_yes)


def _resample(yes: int, n: int, rng: np.random.Generator) -> Floats:
    """Draw anew, DRAWS times, how many of n texts are labelled yes.

    Half a yes and half a no are added to what was seen (Jeffreys), or a sample without an error would have an
    interval without a width. Of 95 % intervals of the F1 of a good sentence (recall 0.95, 1 false alarm in
    100) from 20 firing and 20 silent texts, 71 % would hold the truth, and of its F1 in a corpus of
    prevalence 0.02, 18 %; with them it is 99 % and more.
    """
    return rng.binomial(n, (yes + 0.5) / (n + 1), DRAWS).astype(np.float64)


def _percentiles(values: Floats) -> Interval:
    return Interval(*percentile_interval(values, LEVEL))


def _correlation(a: Floats, b: Floats) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])
