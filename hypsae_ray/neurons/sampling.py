"""Choose the texts that a neuron is named from, and others that its names are scored on.

At most half of the firing and half of the silent rows may be shown to the author of a name, so that a
neuron with few firing rows can still be scored on rows its author never saw.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hypsae_ray.config import Interpret, ScoreFidelity
from hypsae_ray.data.arrays import Floats, Ints


@dataclass(frozen=True)
class Examples:
    """Positions of rows, int64: positives fire, negatives are silent. Either may be empty."""

    positives: Ints
    negatives: Ints


def naming_examples(activation: Floats, options: Interpret, rng: np.random.Generator) -> list[Examples]:
    """Choose the rows that each candidate sentence is written from.

    Args:
        activation: (n,) of one neuron, one value per distinct text; it fires where the value is above 0.
        options: number of candidates and of examples, and where in the firing range positives come from.
        rng: decides the negatives, and which positives are drawn.

    Returns:
        One Examples per candidate, with up to n_examples // 2 positives, the strongest first, and as many
        negatives. Candidates share no row as long as there are enough. With fewer than two firing rows
        there are no positives.
    """
    half, n_candidates = options.n_examples // 2, options.n_candidates
    firing = _firing(activation)
    silent = np.flatnonzero(~(activation > 0))
    size = half * n_candidates
    if options.advanced.sampling == "turns":
        pool = _taking_turns(firing[: len(firing) // 2], n_candidates, size, rng)
    else:
        bounds = options.advanced.percentiles if options.advanced.sampling == "percentile" else None
        pool = firing if bounds is None else _bin(activation, firing, bounds, rng)
        pool = pool[: min(size, len(firing) // 2)]
    quiet = rng.permutation(silent)[: min(size, len(silent) // 2)]
    hands = [
        (_deal(pool, c, n_candidates, half), _deal(quiet, c, n_candidates, half)) for c in range(n_candidates)
    ]
    return [Examples(_by_strength(activation, rows), others) for rows, others in hands]


def fidelity_examples(
    activation: Floats, seen: Iterable[int], options: ScoreFidelity, rng: np.random.Generator
) -> Examples:
    """Choose the rows that the candidate sentences of a neuron are scored on.

    Positives are spread evenly over the ranks of all firing rows that are left, one drawn from each of
    equally large strata, so that weakly firing rows count as much as strongly firing ones.

    Args:
        activation: (n,) of one neuron, one value per distinct text.
        seen: positions of rows shown to an author of a candidate; none of them is used.
        options: number of examples.
        rng: decides which rows.

    Returns:
        Up to n_examples // 2 positives, the strongest first, and exactly as many negatives.
    """
    unseen = np.ones(len(activation), dtype=bool)
    unseen[np.fromiter(seen, dtype=np.int64)] = False
    firing = _firing(activation)
    firing = firing[unseen[firing]]
    silent = np.flatnonzero(~(activation > 0) & unseen)
    n = min(options.n_examples // 2, len(firing), len(silent))
    strata = np.array_split(firing, n) if n else []
    positives = np.array([rng.choice(stratum) for stratum in strata], dtype=np.int64)
    return Examples(positives, rng.choice(silent, size=n, replace=False).astype(np.int64))


def _firing(activation: Floats) -> Ints:
    """Positions of the firing rows, the strongest first, ties in order of position."""
    return _by_strength(activation, np.flatnonzero(activation > 0))


def _taking_turns(upper: Ints, n_candidates: int, size: int, rng: np.random.Generator) -> Ints:
    """The strongest of the upper half for even candidates, a draw of the rest for the others."""
    pool = upper[:size].copy()
    odd = np.arange(len(pool)) % n_candidates % 2 == 1
    n_strong = int((~odd).sum())
    pool[~odd] = upper[:n_strong]
    pool[odd] = rng.permutation(upper[n_strong:])[: len(pool) - n_strong]
    return pool


def _bin(
    activation: Floats, firing: Ints, percentiles: tuple[float, float], rng: np.random.Generator
) -> Ints:
    """Rows between two percentiles of the firing activations, both included, in random order."""
    if not len(firing):
        return firing
    values = activation[firing]
    low, high = np.percentile(values, percentiles)
    return rng.permutation(firing[(values >= low) & (values <= high)])


def _deal(pool: Ints, candidate: int, n_candidates: int, size: int) -> Ints:
    """Every n_candidates-th entry from `candidate` on; topped up from the other hands if that is too few."""
    hands = [pool[(candidate + turn) % n_candidates :: n_candidates] for turn in range(n_candidates)]
    return np.concatenate(hands)[:size].astype(np.int64)


def _by_strength(activation: Floats, rows: Ints) -> Ints:
    return rows[np.argsort(-activation[rows], kind="stable")]
