"""Which models a server has, where the config does not say which one is meant."""

from typing import Any
from urllib.parse import parse_qsl

from hypsae_ray.config import Endpoint
from hypsae_ray.errors import ConfigError
from hypsae_ray.models.endpoint.account import Account
from hypsae_ray.models.endpoint.requests import libraries

_SHOWN = 5


def only_model(endpoint: Endpoint) -> str:
    """Return the name of the one model that a server has.

    Raises:
        ConfigError: it has none or several, or does not list them; or its URL is none.
        ModelError: a library is missing, or the key cannot be sent.
    """
    account = Account.of(endpoint)
    names = _names(endpoint, account)
    if len(names) == 1:
        return names[0]
    shown = ", ".join(names[:_SHOWN]) + (" and more" if len(names) > _SHOWN else "")
    has = f"has {len(names)} models ({shown})" if names else "lists no model"
    raise ConfigError(f"llm.model auto: {account.shown} {has}: name one, as llm.model")


def _names(endpoint: Endpoint, account: Account) -> list[str]:
    openai, _ = libraries()
    client: Any = openai.OpenAI(
        base_url=account.base,
        default_query=dict(parse_qsl(account.url.query)),
        api_key=account.key or "none",
        timeout=endpoint.timeout_s,
    )
    try:
        with client:
            return [model.id for model in client.models.list()]
    except (
        openai.OpenAIError,
        AttributeError,
        TypeError,
    ) as error:  # the last two: it answers something else
        why = account.words(error)
    raise ConfigError(
        f"llm.model auto: {account.shown} does not list its models ({why}): name one, as llm.model"
    )
