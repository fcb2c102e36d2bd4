"""A server that holds a model: section `endpoint` of `llm` and of `embed`."""

import re

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from hypsae_ray.config.types import SECRET, Positive, PositiveAmount, Section


class Endpoint(Section):
    """A server that speaks the OpenAI API, for chat or embeddings: `vllm serve`, a gateway, a vendor.

    Nothing here decides an answer: `llm.model` or `embed.model` must say which model the server has.
    """

    url: str
    """Base URL of the API, such as http://127.0.0.1:8000/v1."""
    key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; a server that asks for none needs none."""
    concurrency: Positive = 64
    """Requests in flight from each replica."""
    requests_per_minute: PositiveAmount | None = None
    """Requests sent per minute by all replicas together; null: no limit."""
    tokens_per_minute: PositiveAmount | None = None
    """Tokens sent and asked for per minute by all replicas together, by estimate; null: no limit."""
    timeout_s: PositiveAmount = 60
    """Seconds after which a silent request counts as failed."""
    tries: Positive = 6
    """Times that a request is sent (twice where the server stays silent) before its pair is left for the next
    run or, if it asks for embeddings or the server answers nothing else, its shard fails; waits between them
    are random, up to 2, 4, 8 and at most 60 s, or as long as the server's Retry-After says."""

    @field_validator("key_env")
    @classmethod
    def _names_a_variable(cls, name: str) -> str:
        if re.fullmatch(r"[A-Za-z_]\w*", name):
            return name
        raise PydanticCustomError(SECRET, "no name of an environment variable; the key itself stays there")
