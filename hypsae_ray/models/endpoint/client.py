"""Requests to one OpenAI-compatible server, for chat or embeddings: limits, retries, what refusals mean.

The first thing asked is a harmless request, with fewer parameters each time until the server takes it; the
parameters it is taken with are used from then on. A request waits for a slot (at most `Endpoint.concurrency`
are in flight), then for its share of the two rates, and goes out; all that wait go in the order in which they
came. What comes back is one of three:

- an answer, read from plain JSON, so that a field that a server leaves out does no harm;
- trouble that may pass (no connection, silence, 408, 409, 425, 429, 500 and above, an unreadable answer): the
  same request is sent again after a wait, by tenacity. openai's own retries cannot send again what came back
  with 200, hold a slot while they wait, and pay no heed to the rates. Waits grow, but are short once the call
  has nothing else to do and the server answers the harmless request;
- anything else is `RefusalError`.

A request that is refused, or fails each time, is at fault itself if the server answers others: one that was
answered meanwhile, or the harmless one, which is sent then. If the server refuses that as well, no request
can succeed: `ModelError`. If it does not answer at all, that may pass: `TransientError`, as is 429, which is
never about one request. All else is one request's: `RefusalError` or `NoAnswerError`.

The key is read from the environment and goes nowhere but into the request: the server is quoted without it,
and no exception of the HTTP library is chained to ours.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from hypsae_ray.config import Embed, Llm
from hypsae_ray.data.words import estimate_tokens
from hypsae_ray.errors import ModelError, TransientError
from hypsae_ray.models.endpoint.faults import (
    TOO_LONG,
    FaultError,
    NoAnswerError,
    RefusalError,
    TroubleError,
    retry_after,
)
from hypsae_ray.models.endpoint.server import Server, libraries
from hypsae_ray.models.endpoint.throttle import Throttle

Wait = Callable[[float], Awaitable[None]]
Body = Mapping[str, Any]
Answer = TypeVar("Answer")

_log = logging.getLogger(__name__)

_PASSING = (408, 409, 425, 429)
_NEGOTIABLE = (400, 413, 422)
_FINAL = (*_NEGOTIABLE, 403, 451)  # what a text is refused with; some moderate with the last two
_SHORT_BACKOFF, _LONGEST_BACKOFF = 2.0, 60.0
_SILENT_TRIES = 2  # each one takes timeout_s
_QUOTED = 200


class Api(Protocol[Answer]):
    """One kind of request, with the parameters that a server takes as far as they are known."""

    section: ClassVar[str]
    """Of the config."""
    path: ClassVar[str]
    """Under the URL of the server."""

    @property
    def harmless(self) -> Body:
        """A request that no server refuses for its content, with all parameters that any may have."""
        ...

    @property
    def lacks(self) -> Sequence[str]:
        """Parameters that the server refuses and that decide an answer."""
        ...

    def read(self, content: bytes, body: Body) -> Answer:
        """Read the answer to a request.

        Raises:
            ValueError: it is no answer; the message says what it is.
        """
        ...

    def after_refusal(self, message: str) -> Self | None:
        """Return what to try when the harmless request was refused with this message; None: nothing."""
        ...

    def after_answer(self, answer: Answer) -> Self:
        """Return what to use from now on, or to try if its harmless request differs."""
        ...


class Client(Generic[Answer]):
    """One server and one model of it, asked with the parameters of `api` first. Not for several event loops.

    The replicas of `options` share its two rates; `wait` is awaited between tries, with seconds.

    Raises:
        ConfigError: there is no section `endpoint`, or its URL is not one.
        ModelError: a library is missing, or the key cannot be sent.
    """

    def __init__(self, options: Embed | Llm, api: Api[Answer], wait: Wait) -> None:
        self._server = Server(options.endpoint, api.section)
        self._openai, self._tenacity = libraries()
        self._model, self._untried, self._wait = options.model, api, wait
        self._client = self._server.open(self._openai.AsyncOpenAI, max_retries=0)
        # Random up to 2, 4, 8 s and so on: replicas must not come back all at once.
        self._backoff = self._tenacity.wait_random_exponential(_SHORT_BACKOFF, max=_LONGEST_BACKOFF)
        self._short_backoff = self._tenacity.wait_random(0, _SHORT_BACKOFF)
        endpoint, replicas = self._server.endpoint, max(1, options.replicas.max)
        self.concurrency = endpoint.concurrency
        self._slots = asyncio.Semaphore(self.concurrency)
        self._requests, self._tokens = (
            Throttle(rate and rate / replicas)
            for rate in (endpoint.requests_per_minute, endpoint.tokens_per_minute)
        )
        self._found: dict[str, asyncio.Future[Any]] = {}
        self._answered = 0
        self._warned = False

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def about(self, message: object) -> str:
        """Return a message with the URL and the model in front of it."""
        return f"{self._server.shown}: model {self._model!r}: {message}"

    async def api(self) -> Any:
        """Return the API with the parameters that the server takes."""
        return await self.once("api", self._negotiate)

    async def once(self, name: str, ask: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Return what was found out under this name; all requests wait for one asking."""
        found = self._found.get(name)
        if found is None or (found.done() and (found.cancelled() or found.exception())):
            found = self._found[name] = asyncio.ensure_future(ask())
        return await asyncio.shield(found)

    async def ask(self, body: Body, ending: asyncio.Event | None = None) -> Answer:
        """Send a request, several times where needed: a body without the model, its parameters from `api()`.

        `ending` is set when there is nothing else to do while this one waits for its next try.

        Raises:
            RefusalError: the server does not take this request.
            NoAnswerError: no try succeeded, though the server answers other requests.
            ModelError: the server takes no request.
            TransientError: no try succeeded, and the server answers no other request either.
        """
        api = await self.api()
        try:
            return await self.retry(body, api, ending)
        except FaultError as error:
            failure = await self._blame(error, api)
        raise failure

    async def _negotiate(self) -> Api[Answer]:
        """Send the harmless request with fewer parameters each time, until the server takes it."""
        api, first = self._untried, None
        while True:
            trial = api.harmless
            try:
                answer = await self.retry(trial, api)
            except TroubleError as error:
                raise TransientError(self._no_answer(error)) from None
            except RefusalError as error:
                negotiable = error.status in _NEGOTIABLE
                first = first or error
                following = api.after_refusal(error.body) if negotiable else None
                if following is None:
                    raise self._denied(first if negotiable else error, trial) from None
                api = following
                continue
            api = api.after_answer(answer)
            if api.harmless == trial:
                break
        if lacks := ", ".join(api.lacks):
            _log.warning("%s: model %r is asked without %s", self._server.shown, self._model, lacks)
        return api

    async def retry(self, body: Body, api: Api[Answer], ending: asyncio.Event | None = None) -> Answer:
        """Send a request until it is answered or refused, or all tries are used.

        Raises:
            FaultError: of the last try.
        """
        works: list[bool] = []  # whether the server answers the harmless request, once that is asked

        async def pause(state: Any) -> float:
            if (asked := state.outcome.exception().pause) is not None:
                return asked
            if ending is None or not ending.is_set():
                return self._backoff(state)
            works[:] = works or [await self._harmless_fault(api) is None]
            return self._short_backoff(state) if works[0] else self._backoff(state)

        retrying = self._tenacity.AsyncRetrying(
            retry=self._tenacity.retry_if_exception_type(TroubleError),
            stop=lambda state: state.attempt_number >= self._tries(state.outcome.exception()),
            wait=pause,
            sleep=self._wait,
            reraise=True,
        )
        return await retrying(self._send, body, api)

    def _tries(self, fault: FaultError) -> int:
        if not isinstance(fault, TroubleError):
            return 1
        tries = self._server.endpoint.tries
        return min(tries, _SILENT_TRIES) if fault.silent else tries

    async def _send(self, body: Body, api: Api[Answer]) -> Answer:
        """Send once; our errors are raised outside `except`, so that no error of openai is their context."""
        async with self._slots:
            await self._requests.take(1)
            await self._tokens.take(_tokens(body))
            before = self._answered
            try:
                sent = {"model": self._model, **body}
                content = await self._client.post(api.path, cast_to=bytes, body=sent)
            except self._openai.APIError as error:
                failure = self._judge(error)
            except UnicodeEncodeError:  # a lone surrogate
                failure = RefusalError("the text holds characters that UTF-8 cannot express")
            else:
                try:
                    answer = api.read(content, body)
                except ValueError as error:
                    failure = TroubleError(f"{error}: {self._quote(content.decode(errors='replace'))!r}")
                else:
                    self._answered += 1
                    return answer
        failure.alone = self._answered == before
        raise failure

    def _judge(self, error: Any) -> FaultError:
        """Return what an error of openai means."""
        if isinstance(error, self._openai.APITimeoutError):
            return TroubleError(f"no answer within {self._server.endpoint.timeout_s:g} s", silent=True)
        if not isinstance(error, self._openai.APIStatusError):
            return TroubleError(f"no connection: {self._quote(error.__cause__ or error)}")
        status, message = error.status_code, self._quote(error.body)
        if status in _PASSING or status >= 500:
            pause = retry_after(error.response.headers.get("retry-after"), time.time())
            return TroubleError(f"{status} {message}".strip(), pause, crowded=status == 429)
        too_long = status == 413 or (status in _NEGOTIABLE and bool(TOO_LONG.search(str(error.body))))
        return RefusalError(message, status, f"{error.param or ''} {error.body}", too_long=too_long)

    async def _blame(self, error: FaultError, api: Api[Answer]) -> Exception:
        """Return whose fault it is that a request failed: its own if the server answers others."""
        if isinstance(error, RefusalError) and (error.too_long or not error.status):
            return error
        if isinstance(error, TroubleError) and error.crowded:
            return TransientError(self._no_answer(error))
        general = isinstance(error, RefusalError) and error.status not in _FINAL
        other = await self._harmless_fault(api) if error.alone or general else None
        if isinstance(other, RefusalError):
            return self._denied(other)
        if isinstance(other, TroubleError):
            return TransientError(self._no_answer(error))
        if general or isinstance(error, TroubleError):
            return NoAnswerError(self._no_answer(error))
        if not self._warned:
            self._warned = True
            _log.warning(
                "%s refuses a request (further refusals are not logged): %s", self._server.shown, error
            )
        return error

    async def _harmless_fault(self, api: Api[Answer]) -> FaultError | None:
        """Ask the harmless request once; return why it is not answered, or None if it is."""
        try:
            await self._send(api.harmless, api)
        except FaultError as error:
            return error
        return None

    def _quote(self, body: object) -> str:
        return self._server.quote(body)[:_QUOTED]

    def _no_answer(self, error: FaultError) -> str:
        n = self._tries(error)
        tries = "1 try" if n == 1 else f"{n} tries"
        return f"{self._server.shown}: no answer of model {self._model!r} in {tries}; the last: {error}"

    def _denied(self, refused: RefusalError, trial: Body | None = None) -> ModelError:
        sent = () if trial is None else ("model", *trial)
        return ModelError(self.about(self._server.denial(refused.status, refused.message, sent)))


def _tokens(body: Body) -> float:
    """Return the tokens that a request takes, by estimate, and those that it may give."""
    texts = body["input"] if "input" in body else [message["content"] for message in body["messages"]]
    return sum(map(estimate_tokens, texts)) + body.get("max_tokens", body.get("max_completion_tokens", 0))
