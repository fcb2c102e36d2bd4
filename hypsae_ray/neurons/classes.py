"""Neurons for a target of several classes: each class against the rest, and the classes take turns."""

from collections.abc import Sequence

import numpy as np

from hypsae_ray.data.arrays import Ints
from hypsae_ray.neurons.selection import Selection


def take_turns(ranked: Sequence[Selection], n: int) -> tuple[Selection, Ints]:
    """Let C classes choose n neurons in turns: each takes the best one by its own rank that is still left.

    Args:
        ranked: of each class against the rest, over the same activations (rows, M).
        n: neurons to choose; fewer if all that the classes rank are taken.

    Returns:
        The selection, and the class that the score of each neuron is about, (M,): the one that chose it; of a
        neuron that none chose, the one with the largest score by size, 0 where there is no score.
    """
    left = [one.neurons.tolist()[::-1] for one in ranked]
    chosen: dict[int, int] = {}
    while len(chosen) < n and any(left):
        for code, mine in enumerate(left):
            while mine and mine[-1] in chosen:
                mine.pop()
            if mine and len(chosen) < n:
                chosen[mine.pop()] = code
    scores = np.stack([one.scores for one in ranked])
    classes = np.argmax(np.nan_to_num(np.abs(scores), nan=-1.0), axis=0)
    neurons = np.array(list(chosen), dtype=np.int64)
    classes[neurons] = list(chosen.values())
    best = scores[classes, np.arange(scores.shape[1])]
    turns_with = np.stack([one.turns_with for one in ranked])[classes, np.arange(scores.shape[1])]
    return Selection(neurons, best, ranked[0].prevalence, ranked[0].state, turns_with), classes
