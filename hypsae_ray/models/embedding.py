"""What embedders share: texts that repeat or are longer than the model reads, and shortened vectors."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from hypsae_ray.config import Embed
from hypsae_ray.errors import ConfigError
from hypsae_ray.models.protocols import Embedded

SPARE = 4  # tokens that a piece may gain where a word, or a character of several tokens, was cut in two
NEAR = 16  # tokens within which a piece rather ends before a word than within one


class LocalEmbedder(ABC):
    """An `Embedder` around a model in this process.

    Args:
        options: of the section `embed`.
        tokenizer: a Hugging Face tokenizer.
        limit: tokens of a prompt and a text together that the model reads; None or infinite: there is none.

    Raises:
        ConfigError: texts are to be read in chunks, but the tokenizer does not say where tokens are.
    """

    def __init__(self, options: Embed, tokenizer: Any, limit: float | None) -> None:
        self.options, self._tokenizer = options, tokenizer
        self._limit = 0 if limit is None or not math.isfinite(limit) else int(limit)
        if options.long_texts == "mean_of_chunks" and not getattr(tokenizer, "is_fast", False):
            reason = f"the tokenizer of {options.model} does not say where tokens are"
            raise ConfigError(f"embed.long_texts mean_of_chunks: {reason}")

    @abstractmethod
    def computed(self, texts: list[str]) -> np.ndarray:
        """Return what the model makes of texts that stand after their prompt, (n, d)."""

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Return the embeddings; each text goes through the model once, in batches of like length."""
        distinct = list(dict.fromkeys(texts))
        long = self.too_long(distinct)
        if self.options.long_texts == "mean_of_chunks":
            vectors, long = self._averaged(distinct, long), np.zeros_like(long)
        else:
            vectors = self._forward(distinct)
        index = {text: i for i, text in enumerate(distinct)}
        rows = [index[text] for text in texts]
        return Embedded(vectors[rows], np.where(long[rows], self._limit, 0).astype(np.int32))

    def too_long(self, texts: Sequence[str]) -> np.ndarray:
        """Return which texts have more tokens than are read, (n,) bool."""
        over = np.zeros(len(texts), dtype=bool)
        if not self._limit:
            return over
        # No token is shorter than a byte: of texts that cannot be too long, no token is counted.
        special = len(self._tokenizer.encode("a"))
        prompted = [self.options.prompt + text for text in texts]
        maybe = [i for i, text in enumerate(prompted) if len(text.encode()) + special > self._limit]
        if maybe:
            ids = self._tokenizer([prompted[i] for i in maybe], truncation=False, verbose=False)["input_ids"]
            over[maybe] = [len(tokens) > self._limit for tokens in ids]
        return over

    def pieces(self, text: str) -> list[tuple[str, int]]:
        """Cut a text into pieces that are read whole, with the tokens of each; needs a fast tokenizer."""
        spans = self._tokenizer(
            text, add_special_tokens=False, truncation=False, verbose=False, return_offsets_mapping=True
        )["offset_mapping"]
        around = len(self._tokenizer.encode(self.options.prompt))
        starts = _starts(spans, max(1, self._limit - around - SPARE))
        ends = [*starts[1:], len(spans)]
        cuts = [0, *(spans[start][0] for start in starts[1:]), len(text)]
        return [
            (text[cuts[i] : cuts[i + 1]], ends[i] - start)
            for i, start in enumerate(starts)
            if ends[i] > start
        ]

    def _averaged(self, texts: list[str], long: np.ndarray) -> np.ndarray:
        """Embed long texts piece by piece; a text is the mean of its pieces, weighted by tokens."""
        pieces = [
            self.pieces(text) if is_long else [(text, 1)] for text, is_long in zip(texts, long, strict=True)
        ]
        vectors = self._forward([piece for its in pieces for piece, _ in its])
        weights = np.array([n for its in pieces for _, n in its], dtype=np.float32)[:, None]
        starts = np.cumsum([0, *map(len, pieces[:-1])])
        means = np.add.reduceat(vectors * weights, starts) / np.add.reduceat(weights, starts)
        return scaled(means) if self.options.normalize else means

    def _forward(self, texts: list[str]) -> np.ndarray:
        return shortened(self.computed([self.options.prompt + text for text in texts]), self.options)


def _starts(spans: Sequence[tuple[int, int]], size: int) -> list[int]:
    """Return the tokens that pieces of at most `size` tokens begin with, those of words if possible."""
    starts = [0]
    while len(spans) - starts[-1] > size:
        end = starts[-1] + size
        near = range(end, end - min(NEAR, size - 1), -1)
        starts.append(next((i for i in near if spans[i][0] > spans[i - 1][1]), end))
    return starts


def shortened(vectors: np.ndarray, options: Embed) -> np.ndarray:
    """Return the first `options.dimensions` numbers of vectors (n, d).

    They are scaled to length 1 with `options.normalize`.

    Raises:
        ConfigError: the model gives fewer.
    """
    n, n_given = options.dimensions, vectors.shape[1]
    if n is None or n == n_given:
        return vectors
    if n > n_given:
        raise ConfigError(f"embed.dimensions {n}: {options.model} gives {n_given}")
    return scaled(vectors[:, :n]) if options.normalize else vectors[:, :n]


def scaled(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (n, d), each scaled to length 1; one that is all zeros stays.

    >>> scaled(np.array([[3.0, 4.0], [0.0, 0.0]])).round(2).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)
