"""One OpenAI-compatible chat server: limits, further tries, and what its refusals mean.

A request waits for a slot (at most `Endpoint.concurrency` are in flight), then for its share of the two
rates, and goes out; all who wait go in the order in which they came. What comes back is one of four:

- a completion: `Reply`, read from plain JSON, so that a field that a server leaves out does no harm;
- trouble that may pass (no connection, silence, 408, 409, 425, 429, 500 and above, an answer that is no
  completion): the same request is sent again after a wait, and after the last try it is `TransientError`;
- 400, 413 or 422: `RefusalError`, which is about this one request;
- anything else (a refused key, an unknown model): `ModelError`, for no request can succeed.

The key is read from the environment and goes nowhere but into the request: what a server says is quoted
without it, and no exception of the HTTP library is chained to ours.
"""

import asyncio
import json
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from hypsae_ray.config import Endpoint, Llm
from hypsae_ray.engine.endpoint_account import Account
from hypsae_ray.engine.endpoint_reply import Reply, read_reply, retry_after, says_too_long
from hypsae_ray.errors import ModelError, TransientError

Wait = Callable[[float], Awaitable[None]]
Messages = Sequence[Mapping[str, str]]

_log = logging.getLogger(__name__)

_PASSING = (408, 409, 425, 429)
_REFUSED = (400, 413, 422)
_LONGEST_BACKOFF = 60.0
_QUOTED = 200
_ONE_WORD_TOKENS = 8  # room for a quote, a mark or a blank before the word
_FEWER = {20: 5, 5: 0}  # 20 is what OpenAI and vLLM allow, 5 what stricter servers do


class RefusalError(Exception):
    """The server will not answer this one request: it does not fit, or holds something it cannot take."""

    def __init__(self, words: str, *, too_long: bool = False, logprobs: bool = False) -> None:
        super().__init__(words)
        self.too_long = too_long
        self.about_logprobs = logprobs


@dataclass(frozen=True)
class _Trouble:
    """Why a try failed that may succeed next time, and the wait that the server asks for, in seconds."""

    what: str
    pause: float | None = None


class Throttle:
    """Lets units through at a steady rate, never more than a second's worth at once, in the order asked.

    Args:
        per_minute: the rate; None lets everything through.
    """

    def __init__(self, per_minute: float | None) -> None:
        from aiolimiter import AsyncLimiter

        self.per_minute = per_minute
        rate = (per_minute or 1.0) / 60
        second = max(1.0, rate)
        self._limiter = AsyncLimiter(second, second / rate) if per_minute else None
        self._turn = asyncio.Lock()

    async def take(self, amount: float) -> None:
        """Wait until `amount` more may pass; more than a minute's worth counts as a minute's worth."""
        left = min(amount, max(1.0, self.per_minute or 0.0))
        async with self._turn:
            while self._limiter and left > 0:
                part = min(left, self._limiter.max_rate)
                await self._limiter.acquire(part)
                left -= part


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
        self._openai = _library()
        self._account = Account.of(endpoint)
        self._endpoint, self._model, self._wait = endpoint, llm.model, wait
        self._client: Any = self._openai.AsyncOpenAI(
            base_url=self._account.base,
            default_query=dict(parse_qsl(self._account.url.query)),
            api_key=self._account.key or "none",
            timeout=endpoint.timeout_s,
            max_retries=0,
        )
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self._requests = Throttle(_share(endpoint.requests_per_minute, llm))
        self._tokens = Throttle(_share(endpoint.tokens_per_minute, llm))
        self._jitter = random.Random(os.getpid())  # replicas must not come back all at once
        self._top_logprobs = 20
        self._warned = False

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def first_token(self, messages: Messages, top: int = 20) -> Reply:
        """Ask for one token and its likeliest rivals, or for a few words where a server has no such thing.

        A server that refuses that many rivals is asked for fewer; once it answered so, it is from then on.

        Raises:
            RefusalError, ModelError, TransientError: as `complete`.
        """
        top = min(top, self._top_logprobs)
        try:
            reply = await self.complete(messages, **_one_token(top))
        except RefusalError as refused:
            if not (top and refused.about_logprobs) or refused.too_long:
                raise
        else:
            self._top_logprobs = min(self._top_logprobs, top)
            return reply
        return await self.first_token(messages, _FEWER[top])

    @property
    def tells_probabilities(self) -> bool:
        """Whether the server has not refused to; it may still not do it."""
        return self._top_logprobs > 0

    async def few_words(self, messages: Messages) -> Reply:
        """Ask for a few words, greedily; raises what `complete` raises."""
        return await self.complete(messages, **_one_token(0))

    async def complete(self, messages: Messages, **options: Any) -> Reply:
        """Ask for a completion, several times where needed; `options` are those of the API.

        Raises:
            RefusalError: the server does not take this request.
            ModelError: the server takes no request.
            TransientError: no try of `Endpoint.tries` succeeded, for reasons that may pass.
        """
        trouble = _Trouble("")
        for turn in range(self._endpoint.tries):
            if turn:
                await self._wait(self._pause(turn, trouble))
            outcome = await self._send(messages, options)
            if isinstance(outcome, Reply):
                return outcome
            trouble = outcome
        tries = "1 try" if self._endpoint.tries == 1 else f"{self._endpoint.tries} tries"
        raise TransientError(
            f"{self._account.shown}: no answer of model {self._model!r} in {tries}; the last: {trouble.what}"
        )

    def _pause(self, turn: int, trouble: _Trouble) -> float:
        if trouble.pause is not None:
            return trouble.pause
        return min(_LONGEST_BACKOFF, 2.0 ** min(turn - 1, 10)) * self._jitter.uniform(0.5, 1)

    async def _send(self, messages: Messages, options: Mapping[str, Any]) -> Reply | _Trouble:
        """Send once; our errors are raised outside `except`, so that none of the library's hangs on them."""
        create = self._client.chat.completions.with_raw_response.create
        async with self._slots:
            await self._requests.take(1)
            await self._tokens.take(_estimate(messages, options))
            try:
                raw = await create(model=self._model, messages=messages, **options)
            except self._openai.APIError as error:
                failure = error
            except UnicodeEncodeError:  # a lone surrogate
                failure = None
            else:
                return self._read(raw.content)
        if failure is None:
            raise RefusalError("the text holds characters that UTF-8 cannot express")
        return self._judge(failure)

    def _read(self, content: bytes) -> Reply | _Trouble:
        try:
            return read_reply(json.loads(content))
        except ValueError:
            said = self._account.words(content.decode(errors="replace"))
            return _Trouble(f"an answer that is no chat completion: {said[:_QUOTED]!r}")

    def _judge(self, error: Any) -> _Trouble:
        """Return trouble that may pass, and raise what will not."""
        if isinstance(error, self._openai.APITimeoutError):
            return _Trouble(f"no answer within {self._endpoint.timeout_s:g} s")
        if not isinstance(error, self._openai.APIStatusError):
            return _Trouble(f"no connection: {self._account.words(error.__cause__ or error)[:_QUOTED]}")
        status, words = error.status_code, self._account.words(error.body)[:_QUOTED]
        if status in _PASSING or status >= 500:
            header = error.response.headers.get("retry-after")
            return _Trouble(f"{status} {words}".strip(), retry_after(header, time.time()))
        if status in _REFUSED:
            raise self._refused(status, str(error.body), words)
        raise ModelError(self._account.reason(status, self._model, words))

    def _refused(self, status: int, body: str, words: str) -> RefusalError:
        too_long = says_too_long(status, body)
        refused = RefusalError(words, too_long=too_long, logprobs="logprobs" in body)
        if not (self._warned or refused.too_long or refused.about_logprobs):
            self._warned = True
            _log.warning(
                "%s refuses a request (more are not told): %s %s", self._account.shown, status, words
            )
        return refused


def _library() -> Any:
    """Import openai, and keep it and its HTTP library from a log line per request."""
    try:
        import aiolimiter  # noqa: F401
        import openai
    except ImportError as error:
        raise ModelError(f"engine endpoint needs {error.name}: pip install 'hypsae-ray[endpoint]'") from error
    for logger in map(logging.getLogger, ("openai", "httpx", "httpx2", "httpcore", "httpcore2")):
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
    return openai


def _share(per_minute: float | None, llm: Llm) -> float | None:
    """Return what each replica may take of a limit for all of them."""
    return per_minute and per_minute / max(1, llm.replicas.max)


def _estimate(messages: Messages, options: Mapping[str, Any]) -> float:
    """Tokens that a request takes, at four characters each, and those that it may give."""
    return sum(len(message["content"]) for message in messages) / 4 + options.get("max_tokens", 0)


def _one_token(top: int) -> dict[str, Any]:
    if not top:
        return {"max_tokens": _ONE_WORD_TOKENS, "temperature": 0}
    return {"max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": top}
