"""Which of the named neurons are tested: those whose labels are expected to explain most of the target.

A sentence with a high fidelity is of no use where its neuron has little to do with the target, nor is a
second sentence that says what the first one does. Both are weighed before any holdout text is labelled:

1. A label is a noisy copy of its neuron's firing: they correlate by phi in the corpus, as the fidelity texts
   show. With noise that depends on nothing else, labels correlate phi_j r_j with a target that firing
   correlates r_j with, and phi_j c_jk phi_k with each other where firings correlate c_jk.
2. Equal sentences have equal labels.
3. Forward selection by the share of the target's variance that is explained, in these correlations.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from hypsae_ray.data.arrays import Floats, Ints

LEAST_OF_ITS_OWN = 0.1  # share of a label's variance that those chosen before it leave


def firing_correlations(activations: sp.csr_matrix, targets: Floats) -> tuple[Floats, Floats]:
    """Return correlations of firing with targets, (m, T), and between neurons, (m, m).

    Args:
        activations: (n, m) sparse; a neuron fires where it is not 0. Of pairs they are differences: 1 where
            the first text fires more, -1 where the second does. A neuron that fires everywhere has 0.
        targets: (n, T), none of them constant.
    """
    fires = activations.sign()
    mean = np.asarray(fires.mean(axis=0)).ravel()
    between = (fires.T @ fires).toarray() / len(targets) - np.outer(mean, mean)
    spread = np.where(between.diagonal() > 0, np.sqrt(between.diagonal()), np.inf)
    scaled = (targets - targets.mean(axis=0)) / targets.std(axis=0)
    return (fires.T @ scaled) / (len(targets) * spread[:, None]), between / np.outer(spread, spread)


def choose_hypotheses(
    fidelity: Floats, with_targets: Floats, between: Floats, sentences: Sequence[str], n: int
) -> Ints:
    """Return the positions of up to n sentences, the first chosen first.

    Args:
        fidelity: (m,) correlation of each one's labels with the firing of its neuron, within 0 and 1.
        with_targets: (m, T) correlation of the firing with each target: T is the number of classes, else 1.
        between: (m, m) correlation of firings.
        sentences: m of them; equal ones have the same labels.
        n: how many to choose; fewer where the others add nothing.
    """
    expected = between * np.outer(fidelity, fidelity)
    words = np.array([" ".join(sentence.lower().split()) for sentence in sentences], dtype=object)
    expected[words[:, None] == words] = 1
    return _forward(expected, with_targets * fidelity[:, None], n)


def _forward(between: Floats, with_targets: Floats, n: int) -> Ints:
    """Choose by the gain in explained variance, summed over targets; swept one by one (Gram-Schmidt)."""
    left, effects, chosen = between.copy(), with_targets.copy(), []
    while len(chosen) < n:
        variance = left.diagonal()
        usable = variance >= LEAST_OF_ITS_OWN
        gains = np.where(usable, (effects**2).sum(axis=1) / np.where(usable, variance, 1), 0)
        best = int(np.argmax(gains))
        if gains[best] <= 0:
            break
        chosen.append(best)
        weights = left[best] / variance[best]
        effects = effects - np.outer(weights, effects[best])
        left = left - np.outer(weights, left[best])
    return np.array(chosen, dtype=np.int64)
