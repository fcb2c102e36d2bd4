"""One OpenAI-compatible server of embeddings: what is asked of it, and how its answers are read.

A server may refuse `encoding_format` base64, a quarter of the bytes of numbers written out, and `dimensions`:
it is asked with a harmless text until it takes what is left. Every embedding must have as many numbers as
that text's, all finite, and every text must have one; an answer in which they don't is trouble that may pass.
"""

import base64
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from hypsae_ray.config import Embed, Endpoint
from hypsae_ray.data.words import estimate_tokens
from hypsae_ray.models.endpoint.parameters import named
from hypsae_ray.models.endpoint.requests import EndpointClient, Request, Wait

HARMLESS_TEXT = "Water is wet."


@dataclass(frozen=True)
class EmbeddingParameters:
    """What a server takes, as far as it is known.

    Attributes:
        dimensions: numbers that are asked for; None: as many as the model gives.
        encoding_format: of the numbers.
        unshortened: it refuses `dimensions`.
    """

    dimensions: int | None = None
    encoding_format: str = "base64"
    unshortened: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Return the parameters of a request."""
        sent: dict[str, Any] = {"encoding_format": self.encoding_format}
        return sent if self.dimensions is None else {**sent, "dimensions": self.dimensions}

    def refused(self, sent: Collection[str], said: str) -> "EmbeddingParameters | None":
        """Return what to try next; None if there is nothing."""
        base64_sent = self.encoding_format == "base64"
        if base64_sent and (named(said, sent) == "encoding_format" or self.dimensions is None):
            return replace(self, encoding_format="float")
        if self.dimensions is not None:
            return replace(self, dimensions=None, unshortened=True)
        return None

    @property
    def lacks(self) -> list[str]:
        """What a request has to do without, so that it is done here."""
        return ["dimensions"] * self.unshortened


class EmbeddingClient(EndpointClient[EmbeddingParameters, np.ndarray]):
    """One server and one embedding model of it. Not for several event loops.

    Args:
        options: whose `model` is asked, and whose replicas share the two rates.
        endpoint: the server.
        wait: what is awaited between tries, with seconds.

    Raises:
        ConfigError: the URL is none.
        ModelError: a library is missing, or the key cannot be sent.
    """

    section: ClassVar[str] = "embed"
    content: ClassVar[str] = "input"

    def __init__(self, options: Embed, endpoint: Endpoint, wait: Wait) -> None:
        super().__init__(options, endpoint, wait, EmbeddingParameters(options.dimensions))
        self._size: int | None = None

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return the embeddings of texts, (n, d) float32, several times asked for where needed.

        Raises:
            RefusalError: the server does not take these texts.
            NoAnswerError: no try succeeded, though the server answers other requests.
            ModelError: the server takes no request.
            TransientError: no try succeeded, and the server answers no other request either.
        """
        parameters = await self._parameters()
        return await self._ask(Request(list(texts), parameters.options), parameters)

    def said(self, words: str) -> str:
        """Return words of the server with its URL and the model."""
        return f"{self._account.shown}: model {self._model!r}: {words}"

    def _harmless(self, parameters: EmbeddingParameters) -> Request:
        return Request([HARMLESS_TEXT], parameters.options)

    def _trial(self, parameters: EmbeddingParameters) -> Request:
        return self._harmless(parameters)

    def _better(self, parameters: EmbeddingParameters, answer: np.ndarray) -> EmbeddingParameters | None:
        del parameters
        self._size = answer.shape[1]

    def _cost(self, request: Request) -> float:
        return sum(map(estimate_tokens, request.content))

    async def _post(self, request: Request) -> bytes:
        create = self._client.embeddings.with_raw_response.create
        return (await create(model=self._model, input=request.content, **request.options)).content

    def _read(self, content: bytes, request: Request) -> np.ndarray:
        try:
            return read_embeddings(json.loads(content), len(request.content), self._size)
        except ValueError as error:
            failure = self._nonsense(f"an answer without the embeddings ({error})", content)
        raise failure


def read_embeddings(data: Any, n: int, size: int | None = None) -> np.ndarray:
    """Read the embeddings of n texts out of JSON, in the order of the texts: (n, size) float32.

    Numbers may be written out, or be base64 of float32, whatever was asked for; a server that gives no index
    keeps the order.

    Raises:
        ValueError: they are not n, not of one size, not of the `size` that is known, or not finite.

    >>> read_embeddings({"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": "AACAPw=="}]}, 2)
    array([[1.],
           [2.]], dtype=float32)
    """
    try:
        items = {item.get("index", place): _numbers(item["embedding"]) for place, item in _items(data)}
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


def _items(data: Any) -> "enumerate[Any]":
    return enumerate(data["data"])


def _numbers(embedding: Any) -> np.ndarray:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4").astype(np.float32)
    return np.asarray(embedding, dtype=np.float32).reshape(-1)
