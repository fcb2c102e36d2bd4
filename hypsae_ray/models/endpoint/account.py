"""Where requests go and as whom, and how to speak of it without giving the key away."""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from hypsae_ray.config import Endpoint
from hypsae_ray.errors import ConfigError, ModelError


@dataclass(frozen=True, repr=False)
class Account:
    """A server's URL and the key for it, "" for none.

    Attributes:
        url: of the server.
        key: for it.
        key_env: the variable that the key is from.
        section: of the config, that names the server.
    """

    url: SplitResult
    key: str
    key_env: str
    section: str = "llm"

    @classmethod
    def of(cls, endpoint: Endpoint, section: str = "llm") -> "Account":
        """Read the key from the environment.

        Raises:
            ConfigError: the URL is none.
            ModelError: no HTTP header can hold the key.
        """
        key = os.environ.get(endpoint.key_env, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ModelError(f"the key in ${endpoint.key_env} holds characters that no request can carry")
        return cls(_parts(endpoint.url, section), key, endpoint.key_env, section)

    @property
    def shown(self) -> str:
        """The URL without its query."""
        return f"{self.url.scheme}://{self.url.netloc}{self.url.path}"

    @property
    def base(self) -> str:
        """The URL without its query, which openai's client would put into the middle of a path."""
        return self.url._replace(query="", fragment="").geturl()

    def words(self, body: object) -> str:
        """Return what a server says, on one line and without the key."""
        if isinstance(body, dict):
            body = body.get("message") or body.get("detail") or body
        said = str(body or "")
        return " ".join((said.replace(self.key, "***") if self.key else said).split())

    def reason(self, status: int, model: str, words: str, sent: Iterable[str] = ()) -> str:
        """Return why no request can succeed, for a status code that says so, and what to change.

        Args:
            status: the server's.
            model: whom it was asked for.
            words: the server's.
            sent: names of the parameters of a request that cannot be refused for its text.
        """
        where = f"{self.shown}: model {model!r}"
        if status in (401, 403):
            unset = "" if self.key else " (which is not set)"
            return f"{where}: the server refuses the key in ${self.key_env}{unset}: {words}"
        if status == 404:
            return f"{where}: the server knows no such model, or no such URL (most end in /v1): {words}"
        if status in (400, 413, 422):
            names = f" Sent were {', '.join(sent)}, then fewer." if sent else ""
            return (
                f"{where}: the server refuses every request, a harmless one too: {status} {words}.{names} "
                "No answer is stored, so the same command works once the server, "
                f"{self.section}.endpoint.url or {self.section}.model is changed"
            )
        return f"{where}: the server does not answer: {status} {words}"


def _parts(url: str, section: str) -> SplitResult:
    with suppress(ValueError):  # brackets or a port that are none
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    raise ConfigError(f"{section}.endpoint.url is no http or https URL, such as http://127.0.0.1:8000/v1")
