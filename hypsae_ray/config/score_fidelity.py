"""Section `score_fidelity`."""

from hypsae_ray.config.types import Count, Examples, Positive, Section


class ScoreFidelity(Section):
    """How well each sentence tells firing texts from silent ones, on texts its author never saw."""

    n_examples: Examples = 40
    """Texts per neuron, half of them firing."""
    max_words: Positive = 256
    """Texts are cut after this many words; each character of a script without spaces (Chinese, Japanese,
    Thai) is one. How many were cut is reported."""
    seed: Count = 0
    """Seed of the choice of texts."""
