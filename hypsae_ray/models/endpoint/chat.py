"""The chat API: its requests, the parameters that a server takes, and its answers.

Servers that are all called OpenAI-compatible differ in what they refuse. A reasoning API wants
`max_completion_tokens` in place of `max_tokens`, and takes no `temperature`, `logprobs` or `seed`; vendors
refuse the `chat_template_kwargs` by which vLLM and SGLang switch thinking off; some give the probability of
5 tokens at the most, some of none. A refusal nearly always names the parameter it is about: that one is
renamed, lowered or left out, and a harmless question is asked again, until it is answered.
"""

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from hypsae_ray.models.endpoint.client import Body
from hypsae_ray.store.usage import Usage

Messages = Sequence[Mapping[str, str]]

HARMLESS = "Answer with one word, Yes or No: is water wet?"
ROOM_TO_THINK = 2048  # tokens in addition to the answer, for a model that always thinks
BEGUN = {"continue_final_message": True, "add_generation_prompt": False}  # as vLLM and SGLang call it
WORD_TOKENS = 8  # room for a quote, a mark or a blank before the word
_FEWER = {20: 5, 5: 0}  # 20 is what OpenAI and vLLM allow, 5 what stricter servers do
# What to do without first where a refusal names nothing: the less common, and the less it decides.
_DISPENSABLE = ("chat_template_kwargs", "seed", "top_logprobs", "temperature")
_NO_ROOM = re.compile(
    r"could not finish|output limit|higher max_?tokens|below minimum|at least|>= ?\d", re.IGNORECASE
)


@dataclass(frozen=True)
class Reply:
    """A completion.

    Attributes:
        text: of the model, "" for none.
        thought: its reasoning before the text, where the server splits that off.
        first: the likeliest first tokens and their probabilities; None where the server gives none.
        truncated: the answer hit its token limit.
    """

    text: str
    thought: str
    first: tuple[tuple[str, float], ...] | None
    truncated: bool
    usage: Usage

    @property
    def first_word(self) -> str:
        """The likeliest first token or, without probabilities, the first word of the text."""
        if self.first:
            return max(self.first, key=lambda token: token[1])[0]
        return " ".join(self.text.split()[:1])


@dataclass(frozen=True)
class ChatApi:
    """What a server takes, as far as it is known: an `Api` of `Reply`.

    Attributes:
        limit: its name for the token limit.
        n_logprobs: tokens whose probability it gives; 0: it gives none.
        thinks: its model thinks before each answer, and needs room for it.
        left_out: names that it refuses.
    """

    section: ClassVar[str] = "llm"
    path: ClassVar[str] = "/chat/completions"

    limit: str = "max_tokens"
    n_logprobs: int = 20
    thinks: bool = False
    left_out: frozenset[str] = frozenset()

    def body(
        self,
        messages: Messages,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
        *,
        thinking: bool = False,
        begun: bool = False,
    ) -> Body:
        """Return a request for an answer; with `begun`, the last message is its beginning.

        Without `max_tokens` it is one word, with the probabilities of its rivals if the server gives them.

        >>> ChatApi(n_logprobs=0, left_out=frozenset({"temperature"})).body([])
        {'messages': [], 'max_tokens': 8, 'chat_template_kwargs': {'enable_thinking': False}}
        """
        word = 1 if self.n_logprobs else WORD_TOKENS
        tokens = (word if max_tokens is None else max_tokens) + ROOM_TO_THINK * self.thinks
        sent: dict[str, Any] = {"messages": messages, self.limit: tokens, "temperature": temperature}
        if seed is not None:
            sent["seed"] = seed
        if max_tokens is None and self.n_logprobs:
            sent |= {"logprobs": True, "top_logprobs": self.n_logprobs}
        sent |= BEGUN if begun else {}
        sent["chat_template_kwargs"] = {"enable_thinking": thinking}
        return {name: value for name, value in sent.items() if name not in self.left_out}

    @property
    def harmless(self) -> Body:
        """A question of one word, with all parameters."""
        return self.body([turn("user", HARMLESS)], seed=0)

    @property
    def begun(self) -> Body:
        """The harmless question with its answer begun."""
        messages = [turn("user", HARMLESS), turn("assistant", "The word is")]
        return self.body(messages, WORD_TOKENS, begun=True)

    def after_refusal(self, message: str) -> Self | None:
        """Return what to try when the harmless question was refused in these words; None: nothing."""
        if _NO_ROOM.search(message) and not self.thinks:
            return replace(self, thinks=True)
        sent = self.harmless.keys() - {"messages"}
        name = named(message, sent) or next((name for name in _DISPENSABLE if name in sent), None)
        if name is None:
            return None
        if name in ("logprobs", "top_logprobs"):
            return replace(self, n_logprobs=_FEWER[self.n_logprobs])
        if name == "max_tokens":
            return replace(self, limit="max_completion_tokens")
        return replace(self, left_out=self.left_out | {name})

    def after_answer(self, answer: Reply) -> Self:
        """Return what to use from now on, or to try since the answer lacks something."""
        if self.n_logprobs and answer.first is None:
            return replace(self, n_logprobs=0)
        empty = answer.truncated and not answer.text.strip()
        return replace(self, thinks=True) if empty and not self.n_logprobs else self

    @property
    def lacks(self) -> list[str]:
        """Refused parameters that decide an answer."""
        return ["logprobs"] * (not self.n_logprobs) + sorted(self.left_out - {"chat_template_kwargs"})

    def read(self, content: bytes, body: Body) -> Reply:
        """Read a completion; anything other than the first choice's message may be missing."""
        del body
        try:
            return _reply(json.loads(content))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            raise ValueError("an answer that is no chat completion") from None


def turn(role: str, content: str) -> dict[str, str]:
    """Return a message of a conversation."""
    return {"role": role, "content": content}


def named(message: str, sent: Collection[str]) -> str | None:
    """Return which of these parameters is named first, in snake or camel case.

    >>> named("'max_tokens' is not supported, use 'max_completion_tokens'", ["temperature", "max_tokens"])
    'max_tokens'
    """
    starts: dict[str, int] = {}
    for name in sent:
        spelled = name.replace("_", "_?")
        if found := re.search(rf"(?<![a-z_]){spelled}(?![a-z_])", message, re.IGNORECASE):
            starts[name] = found.start()
    return min(starts, key=lambda name: starts[name], default=None)


def _reply(data: Any) -> Reply:
    choice = data["choices"][0]
    answer = choice["message"]
    counts = data.get("usage") or {}
    details = counts.get("prompt_tokens_details") or {}
    return Reply(
        text=_string(answer.get("content")),
        thought=_string(answer.get("reasoning_content") or answer.get("reasoning")),
        first=_first((choice.get("logprobs") or {}).get("content")),
        truncated=choice.get("finish_reason") == "length",
        usage=Usage(
            prompt=int(counts.get("prompt_tokens") or 0),
            cached=int(details.get("cached_tokens") or 0),
            generated=int(counts.get("completion_tokens") or 0),
        ),
    )


def _string(value: object) -> str:
    if not isinstance(value, str | None):
        raise TypeError(f"{type(value).__name__} in place of text")
    return value or ""


def _first(tokens: Any) -> tuple[tuple[str, float], ...] | None:
    if not tokens:
        return None
    likeliest = tokens[0].get("top_logprobs") or [tokens[0]]
    return tuple((_string(token["token"]), math.exp(min(0.0, token["logprob"]))) for token in likeliest)
