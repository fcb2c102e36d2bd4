"""Why a request to a server was not answered, and how servers say so."""

import re
from email.utils import parsedate_to_datetime

_LONGEST_PAUSE = 3600.0  # a Retry-After of a day would look as if the run hung
# Prompt and answer do not fit into the context: in the words of OpenAI, vLLM, SGLang, llama.cpp, Anthropic,
# Gemini, Groq and TGI, in this order.
TOO_LONG = re.compile(
    r"context.?length|max_model_len|longer than|context.?(size|window)|(prompt|input) is too long"
    r"|token count|reduce the length|max_new_tokens. must be",
    re.IGNORECASE,
)


class FaultError(Exception):
    """A request failed; `alone` says that no other request was answered meanwhile."""

    alone = True


class RefusalError(FaultError):
    """The server will not answer this one request: it does not fit, or holds something it cannot take.

    `status` is the code of the answer, 0 where none was sent, and `body` all of it; `too_long`: prompt and
    answer do not fit into the model's context.
    """

    def __init__(self, message: str, status: int = 0, body: str = "", *, too_long: bool = False) -> None:
        super().__init__(f"{status or ''} {message}".strip())
        self.message, self.status, self.body, self.too_long = message, status, body, too_long


class TroubleError(FaultError):
    """A try failed that may succeed next time, after the `pause` in seconds that the server asks for, if any.

    `silent`: no answer came in time; `crowded`: the server takes no requests for now, whatever is in them.
    """

    def __init__(
        self, message: str, pause: float | None = None, *, silent: bool = False, crowded: bool = False
    ) -> None:
        super().__init__(message)
        self.pause, self.silent, self.crowded = pause, silent, crowded


class NoAnswerError(Exception):
    """The server answers others, but not this one request, each time for a reason that may pass."""


def retry_after(header: str | None, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks for, an hour at the most; None if it names none.

    openai reads it too, but sends nothing again after more than two minutes. `now` is Unix time.

    >>> retry_after("2.5", now=0), retry_after("Thu, 01 Jan 1970 00:01:30 GMT", now=60)
    (2.5, 30.0)
    """
    header = (header or "").strip()
    try:
        seconds = float(header) if header[:1].isdigit() else parsedate_to_datetime(header).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), _LONGEST_PAUSE)
