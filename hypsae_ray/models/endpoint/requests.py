"""Requests to one OpenAI-compatible server, whatever it is asked for: limits, retries, what refusals mean.

The first thing asked is a harmless request, until the server takes it: the parameters it is taken with are
used from then on. A request waits for a slot (at most `Endpoint.concurrency` are in flight), then for its
share of the two rates, and goes out; all who wait go in the order in which they came. What comes back is one
of three:

- an answer, read from plain JSON, so that a field that a server leaves out does no harm;
- trouble that may pass (no connection, silence, 408, 409, 425, 429, 500 and above, an answer that is none):
  the same request is sent again after a wait, by tenacity. Waits grow, but are short once its call has
  nothing else to do and the server answers the harmless request;
- anything else is `RefusalError`.

A request that is refused, or fails each time, is at fault itself if the server answers others: one that was
answered meanwhile, or the harmless one, which is sent then. If the server refuses that as well, no request
can succeed: `ModelError`. If it does not answer at all, that may pass: `TransientError`, as is 429, which is
never about one request. All else is one request's: `RefusalError` or `NoAnswerError`.

The key is read from the environment and goes nowhere but into the request: what a server says is quoted
without it, and no exception of the HTTP library is chained to ours.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar
from urllib.parse import parse_qsl

from hypsae_ray.config import Embed, Endpoint, Llm
from hypsae_ray.errors import ModelError, TransientError
from hypsae_ray.models.endpoint.account import Account
from hypsae_ray.models.endpoint.faults import FaultError, NoAnswerError, RefusalError, TroubleError
from hypsae_ray.models.endpoint.reply import retry_after, says_too_long
from hypsae_ray.models.endpoint.throttle import Throttle, share

Wait = Callable[[float], Awaitable[None]]

_log = logging.getLogger(__name__)

_PASSING = (408, 409, 425, 429)
_NEGOTIABLE = (400, 413, 422)
_FINAL = (*_NEGOTIABLE, 403, 451)  # what a text is refused with; some moderate with the last two
_SHORT_BACKOFF, _LONGEST_BACKOFF = 2.0, 60.0
_SILENT_TRIES = 2  # each one takes timeout_s
_QUOTED = 200


@dataclass(frozen=True)
class Request:
    """What is asked: messages or texts, and the parameters that go with them."""

    content: Any
    options: Mapping[str, Any]


class Negotiated(Protocol):
    """The parameters that a server takes, as far as it is known."""

    def refused(self, sent: Collection[str], said: str) -> Self | None:
        """Return what to try next when these were refused, and what the server said; None: nothing."""
        ...

    @property
    def lacks(self) -> list[str]:
        """What a request has to do without that decides an answer."""
        ...


Parameters = TypeVar("Parameters", bound=Negotiated)
Answer = TypeVar("Answer")


@dataclass
class _Patience:
    """What decides how long one request waits for its next try.

    Attributes:
        harmless: the harmless request.
        ending: set when its call has nothing else to do.
        well: whether the server answers the harmless request; None: not asked yet.
    """

    harmless: Request
    ending: asyncio.Event
    well: bool | None = None


class EndpointClient(ABC, Generic[Parameters, Answer]):
    """One server and one model of it. Not for several event loops.

    Args:
        options: whose `model` is asked, and whose replicas share the two rates.
        endpoint: the server.
        wait: what is awaited between tries, with seconds.
        parameters: those that are tried first.

    Raises:
        ConfigError: the URL is none.
        ModelError: a library is missing, or the key cannot be sent.
    """

    section: ClassVar[str]  # of the config
    content: ClassVar[str]  # the parameter that holds the content of a request

    def __init__(self, options: Embed | Llm, endpoint: Endpoint, wait: Wait, parameters: Parameters) -> None:
        self._openai, self._tenacity = libraries()
        self._account = Account.of(endpoint, self.section)
        self._endpoint, self._model, self._wait = endpoint, options.model, wait
        self._untried = parameters
        self._client: Any = self._openai.AsyncOpenAI(
            base_url=self._account.base,
            default_query=dict(parse_qsl(self._account.url.query)),
            api_key=self._account.key or "none",
            timeout=endpoint.timeout_s,
            max_retries=0,  # the library cannot send again what came back with 200
        )
        # Random up to 2, 4, 8 s and so on: replicas must not come back all at once.
        self._backoff, self._short_backoff = (
            self._tenacity.wait_random_exponential(multiplier=_SHORT_BACKOFF, max=longest)
            for longest in (_LONGEST_BACKOFF, _SHORT_BACKOFF)
        )
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self._requests = Throttle(share(endpoint.requests_per_minute, options))
        self._tokens = Throttle(share(endpoint.tokens_per_minute, options))
        self._found: dict[str, asyncio.Future[Any]] = {}
        self._answered = 0
        self._warned = False

    @abstractmethod
    def _harmless(self, parameters: Parameters) -> Request:
        """Return a request that no server refuses for its content."""

    @abstractmethod
    def _trial(self, parameters: Parameters) -> Request:
        """Return a harmless request with all parameters that any request may have."""

    @abstractmethod
    def _better(self, parameters: Parameters, answer: Answer) -> Parameters | None:
        """Return what to try next if the answer to the trial lacks something, else None."""

    @abstractmethod
    def _cost(self, request: Request) -> float:
        """Return the tokens that a request takes, by estimate, and those that it may give."""

    @abstractmethod
    async def _post(self, request: Request) -> bytes:
        """Send a request; return the body of what comes back."""

    @abstractmethod
    def _read(self, content: bytes, request: Request) -> Answer:
        """Read an answer.

        Raises:
            TroubleError: it is none.
        """

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _ask(
        self, request: Request, parameters: Parameters, ending: asyncio.Event | None = None
    ) -> Answer:
        """Send a request, several times where needed.

        Args:
            request: what is asked.
            parameters: that the server takes.
            ending: set when there is nothing else to do while this one waits for its next try.

        Raises:
            RefusalError: the server does not take this request.
            NoAnswerError: no try succeeded, though the server answers other requests.
            ModelError: the server takes no request.
            TransientError: no try succeeded, and the server answers no other request either.
        """
        harmless = self._harmless(parameters)
        try:
            return await self._send_until_answered(request, _Patience(harmless, ending or asyncio.Event()))
        except FaultError as error:
            failure = await self._blame(error, harmless)
        raise failure

    async def _blame(self, error: FaultError, harmless: Request) -> Exception:
        """Return whose fault it is that a request failed: its own if the server answers others."""
        if isinstance(error, RefusalError) and (error.too_long or not error.status):
            return error
        if isinstance(error, TroubleError) and error.crowded:
            return TransientError(self._no_answer(error))
        general = isinstance(error, RefusalError) and error.status not in _FINAL
        elsewhere = await self._fault(harmless) if error.alone or general else None
        if isinstance(elsewhere, RefusalError):
            return self._denied(elsewhere)
        if isinstance(elsewhere, TroubleError):
            return TransientError(self._no_answer(error))
        if general or isinstance(error, TroubleError):
            return NoAnswerError(self._no_answer(error))
        self._warn(error)
        return error

    async def _fault(self, harmless: Request) -> FaultError | None:
        """Ask the harmless request once; return why it is not answered, or None if it is."""
        try:
            await self._send(harmless)
        except FaultError as error:
            return error
        return None

    async def _parameters(self) -> Parameters:
        """Return what the server takes."""
        return await self._once("parameters", self._shake_hands)

    async def _once(self, name: str, ask: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Return what was found out under this name; all requests wait for one asking."""
        found = self._found.get(name)
        if found is None or (found.done() and (found.cancelled() or found.exception())):
            found = self._found[name] = asyncio.ensure_future(ask())
        return await asyncio.shield(found)

    async def _shake_hands(self) -> Parameters:
        """Ask the harmless request with fewer parameters each time, until the server takes them."""
        parameters, first = self._untried, None
        while True:
            trial = self._trial(parameters)
            try:
                answer = await self._send_until_answered(trial)
            except RefusalError as error:
                first = first or error
                better = (
                    parameters.refused(trial.options, error.said) if error.status in _NEGOTIABLE else None
                )
                failure = self._denied(first if error.status in _NEGOTIABLE else error, trial)
            except TroubleError as error:
                raise TransientError(self._no_answer(error)) from None
            else:
                better, failure = self._better(parameters, answer), None
            if better is None:
                break
            parameters = better
        if failure is not None:
            raise failure
        self._tell(parameters)
        return parameters

    async def _send_until_answered(self, request: Request, patience: _Patience | None = None) -> Answer:
        retrying = self._tenacity.AsyncRetrying(
            retry=self._tenacity.retry_if_exception_type(TroubleError),
            stop=self._is_last,
            wait=partial(self._pause, patience),
            sleep=self._wait,
            reraise=True,
        )
        return await retrying(self._send, request)

    def _is_last(self, state: Any) -> bool:
        return state.attempt_number >= self._tries(state.outcome.exception())

    def _tries(self, trouble: TroubleError) -> int:
        return min(self._endpoint.tries, _SILENT_TRIES) if trouble.silent else self._endpoint.tries

    async def _pause(self, patience: _Patience | None, state: Any) -> float:
        asked = state.outcome.exception().pause
        if asked is not None:
            return asked
        if patience is None or not patience.ending.is_set():
            return self._backoff(state)
        if patience.well is None:
            patience.well = await self._fault(patience.harmless) is None
        return self._short_backoff(state) if patience.well else self._backoff(state)

    async def _send(self, request: Request) -> Answer:
        """Send once; our errors are raised outside `except`, so that none of the library's hangs on them."""
        async with self._slots:
            await self._requests.take(1)
            await self._tokens.take(self._cost(request))
            before = self._answered
            try:
                content = await self._post(request)
            except self._openai.APIError as error:
                failure = self._judge(error)
            except UnicodeEncodeError:  # a lone surrogate
                failure = RefusalError("the text holds characters that UTF-8 cannot express")
            else:
                try:
                    answer = self._read(content, request)
                except TroubleError as error:
                    failure = error
                else:
                    self._answered += 1
                    return answer
        failure.alone = self._answered == before
        raise failure

    def _nonsense(self, what: str, content: bytes) -> TroubleError:
        said = self._account.words(content.decode(errors="replace"))[:_QUOTED]
        return TroubleError(f"{what}: {said!r}")

    def _judge(self, error: Any) -> TroubleError | RefusalError:
        """Return what an error of the library means."""
        if isinstance(error, self._openai.APITimeoutError):
            return TroubleError(f"no answer within {self._endpoint.timeout_s:g} s", silent=True)
        if not isinstance(error, self._openai.APIStatusError):
            return TroubleError(f"no connection: {self._account.words(error.__cause__ or error)[:_QUOTED]}")
        status, words = error.status_code, self._account.words(error.body)[:_QUOTED]
        if status in _PASSING or status >= 500:
            pause = retry_after(error.response.headers.get("retry-after"), time.time())
            return TroubleError(f"{status} {words}".strip(), pause, crowded=status == 429)
        body = str(error.body)
        return RefusalError(
            words,
            status=status,
            too_long=status in _NEGOTIABLE and says_too_long(status, body),
            said=f"{error.param or ''} {body}",
        )

    def _no_answer(self, error: FaultError) -> str:
        n = self._tries(error) if isinstance(error, TroubleError) else 1
        tries = "1 try" if n == 1 else f"{n} tries"
        return f"{self._account.shown}: no answer of model {self._model!r} in {tries}; the last: {error}"

    def _denied(self, refused: RefusalError, trial: Request | None = None) -> ModelError:
        sent = () if trial is None else ("model", self.content, *trial.options)
        return ModelError(self._account.reason(refused.status, self._model, refused.words, sent))

    def _warn(self, refused: FaultError) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("%s refuses a request (more are not told): %s", self._account.shown, refused)

    def _tell(self, parameters: Negotiated) -> None:
        if lacks := ", ".join(parameters.lacks):
            _log.warning("%s: model %r is asked without %s", self._account.shown, self._model, lacks)


def libraries() -> tuple[Any, Any]:
    """Import openai and tenacity, and keep the former's HTTP library from a log line per request."""
    try:
        import aiolimiter  # noqa: F401
        import openai
        import tenacity
    except ImportError as error:
        raise ModelError(f"engine endpoint needs {error.name}: pip install 'hypsae-ray[endpoint]'") from error
    for logger in map(logging.getLogger, ("openai", "httpx", "httpx2", "httpcore", "httpcore2")):
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
    return openai, tenacity
