"""The first numbers of embeddings, for models that are trained to put most into them (Matryoshka)."""

import numpy as np

from hypsae_ray.config import Embed
from hypsae_ray.errors import ConfigError


def shortened(vectors: np.ndarray, options: Embed) -> np.ndarray:
    """Return the first `options.dimensions` numbers of vectors (n, d), scaled to length 1 if so wanted.

    Raises:
        ConfigError: the model gives fewer.
    """
    wanted, there = options.dimensions, vectors.shape[1]
    if wanted is None or wanted == there:
        return vectors
    if wanted > there:
        raise ConfigError(f"embed.dimensions {wanted}: {options.model} gives {there}")
    return scaled(vectors[:, :wanted]) if options.normalize else vectors[:, :wanted]


def scaled(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (n, d), each scaled to length 1; one that is all zeros stays.

    >>> scaled(np.array([[3.0, 4.0], [0.0, 0.0]])).round(2).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)
