"""The parameters of a chat request that a server takes: found by asking it once, with a harmless question.

Servers that are all called OpenAI-compatible differ in what they refuse. A reasoning API wants
`max_completion_tokens` in place of `max_tokens`, and takes no `temperature`, `logprobs` or `seed`; vendors
refuse the `chat_template_kwargs` by which vLLM and SGLang switch thinking off; some tell the probability of
5 tokens at the most, some of none. A refusal nearly always names the parameter it is about: that one is
renamed, lowered or left out, and the question is asked again, until it is answered.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from hypsae_ray.models.endpoint.reply import Reply

ROOM_TO_THINK = 2048  # tokens in addition to the answer, for a model that thinks whatever it is asked
BEGUN = {"continue_final_message": True, "add_generation_prompt": False}  # as vLLM and SGLang call it
EXTRA = (*BEGUN, "chat_template_kwargs")  # what the OpenAI API does not know
WORD_TOKENS = 8  # room for a quote, a mark or a blank before the word
_FEWER = {20: 5, 5: 0}  # 20 is what OpenAI and vLLM allow, 5 what stricter servers do
# What to do without first where a refusal names nothing: the less common, and the less it decides.
_DISPENSABLE = ("chat_template_kwargs", "seed", "top_logprobs", "temperature")
_NO_ROOM = re.compile(
    r"could not finish|output limit|higher max_?tokens|below minimum|at least|>= ?\d", re.IGNORECASE
)


@dataclass(frozen=True)
class Wish:
    """What is wanted of a completion, however a server calls it.

    Attributes:
        tokens: of the answer, at the most; None: one word, with the probabilities of its rivals if there are.
        temperature: 0 is greedy.
        seed: of the sampling; None: any.
        thinking: whether the model is to think before it answers.
        begun: whether the last message is the beginning of the answer.
    """

    tokens: int | None = None
    temperature: float = 0.0
    seed: int | None = None
    thinking: bool = False
    begun: bool = False


@dataclass(frozen=True)
class Parameters:
    """What a server takes, as far as it is known.

    Attributes:
        limit: its name for the token limit.
        rivals: tokens of which it tells the probability; 0: it tells none.
        thinks: its model thinks before each answer, and needs room for it.
        left_out: names that it refuses.
    """

    limit: str = "max_tokens"
    rivals: int = 20
    thinks: bool = False
    left_out: frozenset[str] = frozenset()

    def of(self, wish: Wish) -> dict[str, Any]:
        """Return the parameters of a request.

        >>> Parameters(rivals=0, left_out=frozenset({"temperature"})).of(Wish())
        {'max_tokens': 8, 'chat_template_kwargs': {'enable_thinking': False}}
        """
        word = 1 if self.rivals else WORD_TOKENS
        tokens = (word if wish.tokens is None else wish.tokens) + ROOM_TO_THINK * self.thinks
        sent: dict[str, Any] = {self.limit: tokens, "temperature": wish.temperature}
        if wish.seed is not None:
            sent["seed"] = wish.seed
        if wish.tokens is None and self.rivals:
            sent |= {"logprobs": True, "top_logprobs": self.rivals}
        sent |= BEGUN if wish.begun else {}
        sent["chat_template_kwargs"] = {"enable_thinking": wish.thinking}
        return {name: value for name, value in sent.items() if name not in self.left_out}

    def refused(self, sent: Collection[str], said: str) -> "Parameters | None":
        """Return what to try next; None if there is nothing.

        Args:
            sent: names of the parameters that were refused.
            said: what the server said about it.
        """
        if _NO_ROOM.search(said) and not self.thinks:
            return replace(self, thinks=True)
        name = named(said, sent) or next((name for name in _DISPENSABLE if name in sent), None)
        if name is None:
            return None
        if name in ("logprobs", "top_logprobs"):
            return replace(self, rivals=_FEWER[self.rivals])
        if name == "max_tokens":
            return replace(self, limit="max_completion_tokens")
        return replace(self, left_out=self.left_out | {name})

    def answered(self, reply: Reply) -> "Parameters | None":
        """Return what to try next if an answer of one word lacks something, else None."""
        if self.rivals and reply.first is None:
            return replace(self, rivals=0)
        if not (self.rivals or self.thinks) and reply.truncated and not reply.text.strip():
            return replace(self, thinks=True)
        return None

    @property
    def lacks(self) -> list[str]:
        """What a request has to do without that decides an answer."""
        return [*(["logprobs"] if not self.rivals else []), *sorted(self.left_out - {"chat_template_kwargs"})]


def named(said: str, sent: Collection[str]) -> str | None:
    """Return which of these parameters is named first, in snake or camel case.

    >>> named("'max_tokens' is not supported, use 'max_completion_tokens'", ["temperature", "max_tokens"])
    'max_tokens'
    """
    places: dict[str, int] = {}
    for name in sent:
        spelled = name.replace("_", "_?")
        if found := re.search(rf"(?<![a-z_]){spelled}(?![a-z_])", said, re.IGNORECASE):
            places[name] = found.start()
    return min(places, key=lambda name: places[name], default=None)
