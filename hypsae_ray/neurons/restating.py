"""Sentences that say the target in other words: of stars, "expresses a positive experience".

They explain much of the target and teach nothing. Which ones these are is decided by cosines of embeddings:
of a sentence with what the user says the target means, above those of ordinary sentences with it. Cosines as
they are would not do: two sentences that share nothing have 0.1 with one model, and 0.6 with another.
"""

import numpy as np
import numpy.typing as npt
from sklearn.metrics.pairwise import cosine_similarity

from hypsae_ray.data.arrays import Bools

ORDINARY = (
    "mentions a dog",
    "is about the weather",
    "asks a question",
    "mentions a car",
    "describes a house",
    "refers to a law",
    "mentions money",
    "is about music",
    "names a city",
    "mentions a doctor",
    "mentions a child",
    "contains a date",
)
"""Sentences that restate no target that one would have."""
RESTATES = 0.25
"""Share of the way from ordinary sentences to the meaning itself. Of 18 sentences that say nothing but stars,
15 are there with all-MiniLM-L6-v2, and none of 20 that name a thing (tests/integration/test_embedder.py).
With its first 4, 2 and 1 layers, models of another scale, 16, 10 and 11 are, and 2, 1 and 1 of the others."""


def restate_target(
    sentences: npt.NDArray[np.float32],
    meanings: npt.NDArray[np.float32],
    ordinary: npt.NDArray[np.float32],
) -> Bools:
    """Return which sentences say one of the meanings, (m,).

    Args:
        sentences: (m, d) embeddings.
        meanings: (k, d) embeddings of sentences that say what the target means, k of 1 or more.
        ordinary: (o, d) embeddings of `ORDINARY`.
    """
    to_meanings, usual = _cosines(sentences, meanings), _cosines(ordinary, meanings).mean(axis=0)
    return np.asarray(((to_meanings - usual) / (1 - usual)).max(axis=1) >= RESTATES)


def _cosines(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(cosine_similarity(a, b), dtype=np.float32)
