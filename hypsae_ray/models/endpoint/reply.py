"""What a chat server's answers and refusals mean, for servers that each say it in their own way."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from hypsae_ray.store.usage import Usage

_LONGEST_PAUSE = 3600.0  # a Retry-After of a day would look as if the run hung
# In the words of OpenAI, vLLM, SGLang, llama.cpp, Anthropic, Gemini, Groq and TGI, in this order.
_TOO_LONG = re.compile(
    r"context.?length|max_model_len|longer than|context.?(size|window)|(prompt|input) is too long"
    r"|token count|reduce the length|max_new_tokens. must be",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Reply:
    """A completion.

    Attributes:
        text: what the model said, "" for nothing.
        thought: what it thought before, where the server splits that off.
        first: the likeliest first tokens and their probabilities; None where the server tells none.
        truncated: whether the answer hit its token limit.
        usage: its tokens.
    """

    text: str
    thought: str
    first: tuple[tuple[str, float], ...] | None
    truncated: bool
    usage: Usage

    @property
    def begins(self) -> str:
        """The likeliest first token or, without probabilities, the first word of what it said."""
        if self.first:
            return max(self.first, key=lambda rival: rival[1])[0]
        return " ".join(self.text.split()[:1])


def read_reply(data: Any) -> Reply:
    """Read a completion out of JSON; anything beyond the first choice's message may be missing.

    Raises:
        ValueError: it is no completion.
    """
    try:
        return _reply(data)
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"no chat completion: {error}") from error


def says_too_long(status: int, body: str) -> bool:
    """Whether a refusal means that prompt and answer do not fit into the model's context."""
    return status == 413 or _TOO_LONG.search(body) is not None


def retry_after(header: str | None, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks for, an hour at the most; None if it says nothing.

    Args:
        header: seconds, or an HTTP date.
        now: Unix time.

    >>> retry_after("2.5", now=0), retry_after("Thu, 01 Jan 1970 00:01:30 GMT", now=60)
    (2.5, 30.0)
    """
    header = (header or "").strip()
    try:
        seconds = float(header) if header[:1].isdigit() else parsedate_to_datetime(header).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), _LONGEST_PAUSE)


def _reply(data: Any) -> Reply:
    choice = data["choices"][0]
    message = choice["message"]
    return Reply(
        text=_string(message.get("content")),
        thought=_string(message.get("reasoning_content") or message.get("reasoning")),
        first=_first((choice.get("logprobs") or {}).get("content")),
        truncated=choice.get("finish_reason") == "length",
        usage=_usage(data.get("usage") or {}),
    )


def _string(value: object) -> str:
    if not isinstance(value, str | None):
        raise TypeError(f"{type(value).__name__} in place of text")
    return value or ""


def _first(tokens: Any) -> tuple[tuple[str, float], ...] | None:
    if not tokens:
        return None
    likeliest = tokens[0].get("top_logprobs") or [tokens[0]]
    return tuple((_string(rival["token"]), math.exp(min(0.0, rival["logprob"]))) for rival in likeliest)


def _usage(counts: Mapping[str, Any]) -> Usage:
    details = counts.get("prompt_tokens_details") or {}
    return Usage(
        prompt=int(counts.get("prompt_tokens") or 0),
        cached=int(details.get("cached_tokens") or 0),
        generated=int(counts.get("completion_tokens") or 0),
    )
