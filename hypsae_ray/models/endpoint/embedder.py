"""Any OpenAI-compatible server of embeddings as an `Embedder`.

Texts go out in requests of `embed.batch_size`; what each one gives is handed over as it comes, so that it can
be kept: it may have been paid for. A request that is refused is split until it is known which text the server
will not take. A text that is too long for it is cut by a quarter until it fits; one that is refused for
another reason ends the call.
"""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from hypsae_ray.config import Embed
from hypsae_ray.data.words import estimate_tokens
from hypsae_ray.errors import RefusedTextError, TransientError
from hypsae_ray.models.embedding import scaled, shortened
from hypsae_ray.models.endpoint.client import Client, Wait
from hypsae_ray.models.endpoint.embeddings import EmbeddingApi
from hypsae_ray.models.endpoint.faults import NoAnswerError, RefusalError
from hypsae_ray.models.endpoint.thread import EndpointThread
from hypsae_ray.models.protocols import Embedded

KEPT = 0.75


class EndpointEmbedder:
    """One server's embedding model: a `protocols.Embedder` that several threads may call at once.

    Raises:
        ConfigError: there is no section `endpoint`, or its URL is not one.
        ModelError: openai, tenacity or aiolimiter is not installed, or the key cannot be sent.
    """

    thread_safe = True

    def __init__(self, options: Embed, wait: Wait = asyncio.sleep) -> None:
        self._options = options
        self._client: Client[np.ndarray] = Client(options, EmbeddingApi(options.dimensions), wait)
        self._thread = EndpointThread(self._client)

    def close(self) -> None:
        """Close the connections and end the thread; no call is possible any more."""
        self._thread.close()

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Return the embeddings; each text is sent once.

        Raises:
            RefusedTextError: the server refuses a text.
            ModelError: no request can succeed.
            TransientError: the server does not answer, for a reason that may pass.
        """
        parts: list[tuple[list[int], Embedded]] = []
        self.embed_in_parts(texts, lambda rows, part: parts.append((rows, part)))
        if not parts:
            return Embedded(np.zeros((0, 0), np.float32), np.zeros(0, np.int32))
        order = np.argsort([row for rows, _ in parts for row in rows])
        vectors = np.concatenate([part.vectors for _, part in parts])
        return Embedded(vectors[order], np.concatenate([part.cut_at for _, part in parts])[order])

    def embed_in_parts(self, texts: Sequence[str], keep: Callable[[list[int], Embedded], None]) -> None:
        """Embed texts, and hand over what each request gives: positions of texts, and their embeddings.

        Raises:
            RefusedTextError, ModelError, TransientError: as `embed`; what came before was handed over.
        """
        positions: dict[str, list[int]] = {}
        for position, text in enumerate(texts):
            positions.setdefault(text, []).append(position)

        async def work(batch: Sequence[str]) -> None:
            try:
                part = await self._embed(batch)
            except RefusalError as refused:
                if len(batch) == 1:
                    message = self._client.about(f"the server refuses this text: {refused}")
                    raise RefusedTextError(message).at(positions[batch[0]][0]) from None
                middle = len(batch) // 2
                await work(batch[:middle])
                await work(batch[middle:])
                return
            copies = np.repeat(np.arange(len(batch)), [len(positions[text]) for text in batch])
            rows = [position for text in batch for position in positions[text]]
            await asyncio.to_thread(keep, rows, Embedded(part.vectors[copies], part.cut_at[copies]))

        distinct, size = list(positions), self._options.batch_size
        self._thread.run((distinct[i : i + size] for i in range(0, len(distinct), size)), work)

    async def _embed(self, texts: Sequence[str]) -> Embedded:
        """Embed a batch; of a single text that is too long, the longest beginning that the server takes.

        Raises:
            RefusalError: the server does not take it.
        """
        api = await self._client.api()
        sent = [_beginning(text, self._options.max_tokens) for text in texts]
        while True:
            try:
                vectors = await self._client.ask(api.body([self._options.prompt + text for text in sent]))
                break
            except NoAnswerError as error:
                raise TransientError(str(error)) from None
            except RefusalError as refused:
                if len(sent) > 1 or not refused.too_long or len(sent[0]) < 2:
                    raise
                sent = [sent[0][: int(KEPT * len(sent[0]))]]
        cut_at = [
            0 if part == text else max(1, estimate_tokens(part))
            for part, text in zip(sent, texts, strict=True)
        ]
        vectors = shortened(vectors, self._options)
        return Embedded(scaled(vectors) if self._options.normalize else vectors, np.array(cut_at, np.int32))


def _beginning(text: str, max_tokens: int | None) -> str:
    """Return the beginning of a text that has so many tokens, by estimate.

    >>> _beginning("four words of text ", 2)
    'four word'
    """
    while max_tokens is not None and (there := estimate_tokens(text)) > max_tokens:
        text = text[: min(len(text) - 1, len(text) * max_tokens // there)]
    return text
