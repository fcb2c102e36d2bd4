"""One OpenAI-compatible chat server: what is asked of it, and how its completions are read.

The harmless request is a question of one word. Before any answer is begun for the model, that of the harmless
question is: where the server refuses it, or then says nothing, no other is.
"""

import asyncio
import json
from typing import ClassVar

from hypsae_ray.config import Endpoint, Llm
from hypsae_ray.models.endpoint.faults import FaultError
from hypsae_ray.models.endpoint.parameters import EXTRA, WORD_TOKENS, Parameters, Wish
from hypsae_ray.models.endpoint.reply import Reply, read_reply
from hypsae_ray.models.endpoint.requests import EndpointClient, Request, Wait
from hypsae_ray.models.endpoint.throttle import Messages, estimate

HARMLESS = "Answer with one word, Yes or No: is water wet?"


class ChatClient(EndpointClient[Parameters, Reply]):
    """One server and one model of it. Not for several event loops.

    Args:
        llm: whose `model` is asked, and whose replicas share the two rates.
        endpoint: the server.
        wait: what is awaited between tries, with seconds.

    Raises:
        ConfigError: the URL is none.
        ModelError: a library is missing, or the key cannot be sent.
    """

    section: ClassVar[str] = "llm"
    content: ClassVar[str] = "messages"

    def __init__(self, llm: Llm, endpoint: Endpoint, wait: Wait) -> None:
        super().__init__(llm, endpoint, wait, Parameters())

    async def complete(self, messages: Messages, wish: Wish, ending: asyncio.Event | None = None) -> Reply:
        """Ask for a completion, several times where needed.

        Args:
            messages: what is said.
            wish: what is wanted.
            ending: set when there is nothing else to do while this one waits for its next try.

        Raises:
            RefusalError: the server does not take this request.
            NoAnswerError: no try succeeded, though the server answers other requests.
            ModelError: the server takes no request.
            TransientError: no try succeeded, and the server answers no other request either.
        """
        parameters = await self._parameters()
        return await self._ask(Request(messages, parameters.of(wish)), parameters, ending)

    async def goes_on(self) -> bool:
        """Whether the server goes on with an answer that is begun for it, and does not think first."""
        return await self._once("goes_on", self._try_begun)

    async def _try_begun(self) -> bool:
        parameters = await self._parameters()
        if parameters.thinks:
            return False
        begun = [*_harmless(), {"role": "assistant", "content": "The word is"}]
        wish = Wish(WORD_TOKENS, begun=True)
        try:
            reply = await self._send_until_answered(Request(begun, parameters.of(wish)))
        except FaultError:
            return False
        return bool(reply.text.strip())

    def _harmless(self, parameters: Parameters) -> Request:
        return Request(_harmless(), parameters.of(Wish()))

    def _trial(self, parameters: Parameters) -> Request:
        return Request(_harmless(), parameters.of(Wish(seed=0)))

    def _better(self, parameters: Parameters, answer: Reply) -> Parameters | None:
        return parameters.answered(answer)

    def _cost(self, request: Request) -> float:
        return estimate(request.content, request.options)

    async def _post(self, request: Request) -> bytes:
        own = {name: value for name, value in request.options.items() if name not in EXTRA}
        extra = {name: value for name, value in request.options.items() if name in EXTRA}
        create = self._client.chat.completions.with_raw_response.create
        raw = await create(model=self._model, messages=request.content, **own, extra_body=extra or None)
        return raw.content

    def _read(self, content: bytes, request: Request) -> Reply:
        del request
        try:
            return read_reply(json.loads(content))
        except ValueError:
            failure = self._nonsense("an answer that is no chat completion", content)
        raise failure


def _harmless() -> Messages:
    return [{"role": "user", "content": HARMLESS}]
