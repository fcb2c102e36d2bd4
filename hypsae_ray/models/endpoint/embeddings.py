"""The embeddings API: its requests, the parameters that a server takes, and its answers.

A server may refuse `encoding_format` base64, a quarter of the bytes of numbers written out, and `dimensions`:
it is asked with a harmless text until it takes what is left. Every embedding must have as many numbers as
that text's, all finite, and every text must have one; an answer in which they don't is trouble that may pass.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from hypsae_ray.models.endpoint.chat import named
from hypsae_ray.models.endpoint.client import Body

HARMLESS_TEXT = "Water is wet."


@dataclass(frozen=True)
class EmbeddingApi:
    """What a server takes, as far as it is known: an `Api` of float32 arrays (n, d).

    Attributes:
        dimensions: numbers that are asked for; None: as many as the model gives.
        encoding_format: of the numbers.
        lacks: ["dimensions"] if the server refuses that.
        size: numbers of the harmless text's embedding; None: not known yet.
    """

    section: ClassVar[str] = "embed"
    path: ClassVar[str] = "/embeddings"

    dimensions: int | None = None
    encoding_format: str = "base64"
    lacks: tuple[str, ...] = ()
    size: int | None = None

    def body(self, texts: Sequence[str]) -> Body:
        """Return a request."""
        dimensions = {} if self.dimensions is None else {"dimensions": self.dimensions}
        return {"input": texts, "encoding_format": self.encoding_format, **dimensions}

    @property
    def harmless(self) -> Body:
        """A short text."""
        return self.body([HARMLESS_TEXT])

    def after_refusal(self, message: str) -> Self | None:
        """Return what to try when the harmless text was refused in these words; None: nothing."""
        named_format = named(message, self.harmless.keys() - {"input"}) == "encoding_format"
        if self.encoding_format == "base64" and (named_format or self.dimensions is None):
            return replace(self, encoding_format="float")
        if self.dimensions is not None:
            return replace(self, dimensions=None, lacks=("dimensions",))
        return None

    def after_answer(self, answer: np.ndarray) -> Self:
        """Return what to use from now on: every embedding must be of this size."""
        return replace(self, size=answer.shape[1])

    def read(self, content: bytes, body: Body) -> np.ndarray:
        """Read the embeddings of texts, in their order: see `read_embeddings`."""
        try:
            return read_embeddings(json.loads(content), len(body["input"]), self.size)
        except ValueError as error:
            raise ValueError(f"an answer without the embeddings ({error})") from error


def read_embeddings(data: Any, n: int, size: int | None = None) -> np.ndarray:
    """Read the embeddings of n texts out of JSON, in the order of the texts: (n, size) float32.

    Numbers may be written out, or be base64 of float32, independent of the format asked for; a server that
    gives no index keeps the order.

    Raises:
        ValueError: they are not n, not of one size, not of the `size` that is known, or not finite.

    >>> read_embeddings({"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": "AACAPw=="}]}, 2)
    array([[1.],
           [2.]], dtype=float32)
    """
    try:
        items = {
            item.get("index", position): _numbers(item["embedding"])
            for position, item in enumerate(data["data"])
        }
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if sorted(items) != list(range(n)):
        raise ValueError(f"{len(items)} for {n} texts")
    sizes = sorted({len(numbers) for numbers in items.values()} | ({size} if size else set()))
    if len(sizes) > 1 or sizes[0] == 0:
        raise ValueError(f"of {' and '.join(map(str, sizes))} numbers")
    vectors = np.stack([items[i] for i in range(n)])
    if not (np.isfinite(vectors).all() and vectors.any(axis=1).all()):
        raise ValueError("not finite, or all zeros")
    return vectors


def _numbers(embedding: Any) -> np.ndarray:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4").astype(np.float32)
    return np.asarray(embedding, dtype=np.float32).reshape(-1)
