"""Where requests go and with which key, and how to quote the server without the key."""

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from hypsae_ray.config import Endpoint
from hypsae_ray.errors import ConfigError, ModelError

_SHOWN_MODELS = 5


class Server:
    """The server of a section of the config, "llm" or "embed", with the key of the environment.

    Raises:
        ConfigError: there is no section `endpoint`, or its URL is not one.
        ModelError: no HTTP header can hold the key.
    """

    def __init__(self, endpoint: Endpoint | None, section: str) -> None:
        if endpoint is None:
            raise ConfigError(f"engine endpoint needs a section {section}.endpoint")
        self.endpoint, self._section = endpoint, section
        self._key = os.environ.get(endpoint.key_env, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise ModelError(f"the key in ${endpoint.key_env} holds characters that no request can carry")
        self._url = _split(endpoint.url, section)

    def open(self, client: Any, **options: Any) -> Any:
        """Return an `openai.OpenAI` or `AsyncOpenAI` of this server.

        Its URL is given without the query, which openai would put into the middle of a path.
        """
        return client(
            base_url=self._url._replace(query="", fragment="").geturl(),
            default_query=dict(parse_qsl(self._url.query)),
            api_key=self._key or "none",
            timeout=self.endpoint.timeout_s,
            **options,
        )

    @property
    def shown(self) -> str:
        """The URL without its query."""
        return f"{self._url.scheme}://{self._url.netloc}{self._url.path}"

    def quote(self, body: object) -> str:
        """Return the message of a server's answer, on one line and without the key."""
        if isinstance(body, dict):
            body = body.get("message") or body.get("detail") or body
        text = str(body or "")
        return " ".join((text.replace(self._key, "***") if self._key else text).split())

    def denial(self, status: int, message: str, sent: Iterable[str] = ()) -> str:
        """Return why a server takes no request, and what to change, by its answer to a harmless request.

        `sent` are the names of the parameters of that request.
        """
        if status in (401, 403):
            unset = "" if self._key else " (which is not set)"
            return f"the server refuses the key in ${self.endpoint.key_env}{unset}: {message}"
        if status == 404:
            return f"the server knows no such model, or no such URL (most end in /v1): {message}"
        if status in (400, 413, 422):
            names = f" Sent were {', '.join(sent)}, then fewer." if sent else ""
            return (
                f"the server refuses every request, a harmless one too: {status} {message}.{names} "
                "No answer is stored, so the same command works once the server, "
                f"{self._section}.endpoint.url or {self._section}.model is changed"
            )
        return f"the server does not answer: {status} {message}"


def only_model(endpoint: Endpoint) -> str:
    """Return the name of the one model that a server has.

    Raises:
        ConfigError: it has none or several, or does not list them; or its URL is not one.
        ModelError: a library is missing, or the key cannot be sent.
    """
    server = Server(endpoint, "llm")
    names = _model_names(server)
    if len(names) == 1:
        return names[0]
    shown = ", ".join(names[:_SHOWN_MODELS]) + (" and more" if len(names) > _SHOWN_MODELS else "")
    has = f"has {len(names)} models ({shown})" if names else "lists no model"
    raise ConfigError(f"llm.model auto: {server.shown} {has}: name one, as llm.model")


def _model_names(server: Server) -> list[str]:
    openai, _ = libraries()
    try:
        with server.open(openai.OpenAI) as client:
            return [model.id for model in client.models.list()]
    except (openai.OpenAIError, AttributeError, TypeError) as error:  # the last two: its answer is no list
        reason = server.quote(error)
    raise ConfigError(
        f"llm.model auto: {server.shown} does not list its models ({reason}): name one, as llm.model"
    )


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


def _split(url: str, section: str) -> SplitResult:
    with suppress(ValueError):  # of brackets or a port
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    raise ConfigError(f"{section}.endpoint.url is no http or https URL, such as http://127.0.0.1:8000/v1")
