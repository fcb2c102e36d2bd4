"""One OpenAI-compatible chat server: limits, retries, and what its refusals mean.

The first thing asked is a harmless question, until the server takes it: the parameters it is taken with are
used from then on (`endpoint_parameters`). Before any answer is begun for the model, that of the harmless
question is: where the server refuses it, or then says nothing, no other is. A request waits for a slot (at
most `Endpoint.concurrency` are in flight), then for its share of the two rates, and goes out; all who wait go
in the order in which they came. What comes
back is one of three:

- a completion: `Reply`, read from plain JSON, so that a field that a server leaves out does no harm;
- trouble that may pass (no connection, silence, 408, 409, 425, 429, 500 and above, an answer that is no
  completion): the same request is sent again after a wait, by tenacity. Waits grow, but are short once its
  call has nothing else to do and the server answers the harmless question;
- anything else is `RefusalError`.

A request that is refused, or fails each time, is at fault itself if the server answers others: one that was
answered meanwhile, or the harmless question, which is asked then. If the server refuses that as well, no
request can succeed: `ModelError`. If it does not answer at all, that may pass: `TransientError`, as is 429,
which is never about one request. All else is one request's: `RefusalError` or `NoAnswerError`.

The key is read from the environment and goes nowhere but into the request: what a server says is quoted
without it, and no exception of the HTTP library is chained to ours.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from hypsae_ray.config import Endpoint, Llm
from hypsae_ray.engine.endpoint_account import Account
from hypsae_ray.engine.endpoint_parameters import EXTRA, WORD_TOKENS, Parameters, Wish
from hypsae_ray.engine.endpoint_reply import Reply, read_reply, retry_after, says_too_long
from hypsae_ray.engine.endpoint_throttle import Messages, Throttle, estimate, share
from hypsae_ray.errors import ModelError, TransientError

Wait = Callable[[float], Awaitable[None]]

HARMLESS = "Answer with one word, Yes or No: is water wet?"
_log = logging.getLogger(__name__)

_PASSING = (408, 409, 425, 429)
_NEGOTIABLE = (400, 413, 422)
_FINAL = (*_NEGOTIABLE, 403, 451)  # what a text is refused with; some moderate with the last two
_SHORT_BACKOFF, _LONGEST_BACKOFF = 2.0, 60.0
_SILENT_TRIES = 2  # each one takes timeout_s
_QUOTED = 200


class FaultError(Exception):
    """A request failed; `alone` says that no other request was answered meanwhile."""

    alone = True


class RefusalError(FaultError):
    """The server will not answer this one request: it does not fit, or holds something it cannot take."""

    def __init__(self, words: str, *, status: int = 0, too_long: bool = False, said: str = "") -> None:
        super().__init__(f"{status or ''} {words}".strip())
        self.words, self.status, self.too_long, self.said = words, status, too_long, said


class TroubleError(FaultError):
    """Why a try failed that may succeed next time.

    Attributes:
        pause: seconds that the server asks to wait; None: it does not say.
        silent: there was no answer in time.
        crowded: the server takes no more requests for now, whatever is in them.
    """

    def __init__(
        self, what: str, pause: float | None = None, *, silent: bool = False, crowded: bool = False
    ) -> None:
        super().__init__(what)
        self.pause, self.silent, self.crowded = pause, silent, crowded


class NoAnswerError(Exception):
    """The server answers others, but not this one request, each time for a reason that may pass."""


@dataclass
class _Patience:
    """What decides how long one request waits for its next try.

    Attributes:
        parameters: those of the harmless question.
        ending: set when its call has nothing else to do.
        well: whether the server answers the harmless question; None: not asked yet.
    """

    parameters: Parameters
    ending: asyncio.Event
    well: bool | None = None


class ChatClient:
    """One server and one model of it. Not for several event loops.

    Args:
        llm: whose `model` is asked, and whose replicas share the two rates.
        endpoint: the server.
        wait: what is awaited between tries, with seconds.

    Raises:
        ConfigError: the URL is none.
        ModelError: a library is missing, or the key cannot be sent.
    """

    def __init__(self, llm: Llm, endpoint: Endpoint, wait: Wait) -> None:
        self._openai, self._tenacity = libraries()
        self._account = Account.of(endpoint)
        self._endpoint, self._model, self._wait = endpoint, llm.model, wait
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
        self._requests = Throttle(share(endpoint.requests_per_minute, llm))
        self._tokens = Throttle(share(endpoint.tokens_per_minute, llm))
        self._found: dict[str, asyncio.Future[Any]] = {}
        self._answered = 0
        self._warned = False

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

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
        try:
            patience = _Patience(parameters, ending or asyncio.Event())
            return await self._send_until_answered(messages, parameters.of(wish), patience)
        except FaultError as error:
            failure = await self._blame(error, parameters)
        raise failure

    async def _blame(self, error: FaultError, parameters: Parameters) -> Exception:
        """Return whose fault it is that a request failed: its own if the server answers others."""
        if isinstance(error, RefusalError) and (error.too_long or not error.status):
            return error
        if isinstance(error, TroubleError) and error.crowded:
            return TransientError(self._no_answer(error))
        general = isinstance(error, RefusalError) and error.status not in _FINAL
        elsewhere = await self._fault(parameters) if error.alone or general else None
        if isinstance(elsewhere, RefusalError):
            return self._denied(elsewhere)
        if isinstance(elsewhere, TroubleError):
            return TransientError(self._no_answer(error))
        if general or isinstance(error, TroubleError):
            return NoAnswerError(self._no_answer(error))
        self._warn(error)
        return error

    async def _fault(self, parameters: Parameters) -> FaultError | None:
        """Ask the harmless question once; return why it is not answered, or None if it is."""
        try:
            await self._send(_harmless(), parameters.of(Wish()))
        except FaultError as error:
            return error
        return None

    async def goes_on(self) -> bool:
        """Whether the server goes on with an answer that is begun for it, and does not think first."""
        return await self._once("goes_on", self._try_begun)

    async def _parameters(self) -> Parameters:
        """Return what the server takes."""
        return await self._once("parameters", self._shake_hands)

    async def _once(self, name: str, ask: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Return what was found out under this name; all requests wait for one asking."""
        found = self._found.get(name)
        if found is None or (found.done() and (found.cancelled() or found.exception())):
            found = self._found[name] = asyncio.ensure_future(ask())
        return await asyncio.shield(found)

    async def _try_begun(self) -> bool:
        parameters = await self._parameters()
        if parameters.thinks:
            return False
        begun = [*_harmless(), {"role": "assistant", "content": "The word is"}]
        try:
            reply = await self._send_until_answered(begun, parameters.of(Wish(WORD_TOKENS, begun=True)))
        except FaultError:
            return False
        return bool(reply.text.strip())

    async def _shake_hands(self) -> Parameters:
        """Ask the harmless question with fewer parameters each time, until the server takes them."""
        parameters, first = Parameters(), None
        while True:
            sent = parameters.of(Wish(seed=0))
            try:
                reply = await self._send_until_answered(_harmless(), sent)
            except RefusalError as error:
                first = first or error
                better = parameters.refused(sent, error.said) if error.status in _NEGOTIABLE else None
                failure = self._denied(first if error.status in _NEGOTIABLE else error, sent)
            except TroubleError as error:
                raise TransientError(self._no_answer(error)) from None
            else:
                better, failure = parameters.answered(reply), None
            if better is None:
                break
            parameters = better
        if failure is not None:
            raise failure
        self._tell(parameters)
        return parameters

    async def _send_until_answered(
        self, messages: Messages, options: Mapping[str, Any], patience: _Patience | None = None
    ) -> Reply:
        retrying = self._tenacity.AsyncRetrying(
            retry=self._tenacity.retry_if_exception_type(TroubleError),
            stop=self._is_last,
            wait=partial(self._pause, patience),
            sleep=self._wait,
            reraise=True,
        )
        return await retrying(self._send, messages, options)

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
            patience.well = await self._fault(patience.parameters) is None
        return self._short_backoff(state) if patience.well else self._backoff(state)

    async def _send(self, messages: Messages, options: Mapping[str, Any]) -> Reply:
        """Send once; our errors are raised outside `except`, so that none of the library's hangs on them."""
        own = {name: value for name, value in options.items() if name not in EXTRA}
        extra = {name: value for name, value in options.items() if name in EXTRA}
        create = self._client.chat.completions.with_raw_response.create
        async with self._slots:
            await self._requests.take(1)
            await self._tokens.take(estimate(messages, options))
            before = self._answered
            try:
                raw = await create(model=self._model, messages=messages, **own, extra_body=extra or None)
            except self._openai.APIError as error:
                failure = self._judge(error)
            except UnicodeEncodeError:  # a lone surrogate
                failure = RefusalError("the text holds characters that UTF-8 cannot express")
            else:
                outcome = self._read(raw.content)
                if isinstance(outcome, Reply):
                    self._answered += 1
                    return outcome
                failure = outcome
        failure.alone = self._answered == before
        raise failure

    def _read(self, content: bytes) -> Reply | TroubleError:
        try:
            return read_reply(json.loads(content))
        except ValueError:
            said = self._account.words(content.decode(errors="replace"))
            return TroubleError(f"an answer that is no chat completion: {said[:_QUOTED]!r}")

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

    def _denied(self, refused: RefusalError, sent: Iterable[str] = ()) -> ModelError:
        return ModelError(self._account.reason(refused.status, self._model, refused.words, sent))

    def _warn(self, refused: FaultError) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("%s refuses a request (more are not told): %s", self._account.shown, refused)

    def _tell(self, parameters: Parameters) -> None:
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


def _harmless() -> Messages:
    return [{"role": "user", "content": HARMLESS}]
