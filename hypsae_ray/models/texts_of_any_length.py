"""What embedders in this job share: texts that repeat, or that are longer than the model reads."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from hypsae_ray.config import Embed
from hypsae_ray.errors import ConfigError
from hypsae_ray.models.protocols import Embedded
from hypsae_ray.models.shortening import scaled, shortened
from hypsae_ray.models.token_limit import TokenLimit


class TextsOfAnyLength(ABC):
    """An `Embedder` around a model that reads so many tokens of a text.

    Raises:
        ConfigError: texts are to be read in chunks, but the tokenizer does not say where tokens are.
    """

    def __init__(self, options: Embed, limit: TokenLimit) -> None:
        self.options, self._limit = options, limit
        if options.long_texts == "mean_of_chunks" and not limit.tells_places:
            silent = f"the tokenizer of {options.model} does not say where tokens are"
            raise ConfigError(f"embed.long_texts mean_of_chunks: {silent}")

    @abstractmethod
    def computed(self, texts: list[str]) -> np.ndarray:
        """Return what the model makes of texts that stand after their prompt, (n, d)."""

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Return the embeddings; each text goes through the model once, in batches of like length."""
        distinct = list(dict.fromkeys(texts))
        long = self._limit.exceeded(distinct)
        if self.options.long_texts == "mean_of_chunks":
            vectors, long = self._averaged(distinct, long), np.zeros_like(long)
        else:
            vectors = self._forward(distinct)
        place = {text: i for i, text in enumerate(distinct)}
        rows = [place[text] for text in texts]
        return Embedded(vectors[rows], np.where(long[rows], self._limit.at, 0).astype(np.int32))

    def _averaged(self, texts: list[str], long: np.ndarray) -> np.ndarray:
        """Embed long texts piece by piece; a text is the mean of its pieces, weighted by tokens."""
        pieces = [
            self._limit.pieces(text) if is_long else [(text, 1)]
            for text, is_long in zip(texts, long, strict=True)
        ]
        vectors = self._forward([piece for its in pieces for piece, _ in its])
        weights = np.array([n for its in pieces for _, n in its], dtype=np.float32)[:, None]
        starts = np.cumsum([0, *map(len, pieces[:-1])])
        means = np.add.reduceat(vectors * weights, starts) / np.add.reduceat(weights, starts)
        return scaled(means) if self.options.normalize else means

    def _forward(self, texts: list[str]) -> np.ndarray:
        return shortened(self.computed([self.options.prompt + text for text in texts]), self.options)
