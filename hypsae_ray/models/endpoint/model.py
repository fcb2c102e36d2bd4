"""Any OpenAI-compatible chat server as a `LanguageModel`: `vllm serve`, a gateway, a vendor.

Labels: every (text, question) pair is one request for one token. Pairs are sent text by text, all questions
of a text one after the other, so that a server's prefix cache can hold the text (with question_first the
other way round). P(yes) = yes / (yes + no), the sums of the probabilities of all first tokens that read so;
p_neither is what is left of 1. A server that tells no probabilities is taken at its word: 1 or 0.

With thinking, a first request lets the model think, and a second one carries the thought and asks for the
word. A text that is too long for the server is halved until it fits; its label says so. A pair that gets no
answer though others do is PENDING; when the server stops to answer, the call ends once what is in flight
has ended, and its error holds what was answered.

An object has one event loop in a thread of its own. Each call, from whatever thread, starts as many workers
there as requests may be in flight; they pull pairs from one iterator, so that requests go out in the order
of the pairs however many there are. All calls together share the limits of one `ChatClient`.
"""

import asyncio
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

import numpy as np

from hypsae_ray.config import Label, Llm
from hypsae_ray.errors import ConfigError, ModelError
from hypsae_ray.models.endpoint.client import ChatClient
from hypsae_ray.models.endpoint.faults import NoAnswerError, RefusalError
from hypsae_ray.models.endpoint.parameters import Wish
from hypsae_ray.models.endpoint.reply import Reply
from hypsae_ray.models.endpoint.requests import Wait
from hypsae_ray.models.endpoint.thread import EndpointThread
from hypsae_ray.models.endpoint.throttle import Messages
from hypsae_ray.models.prompts.wording import answer_now, label_prompt, naming_begun, render_naming
from hypsae_ray.models.protocols import DEFAULT_LABEL, WORDS_KEPT, Annotations, Answer, NamingPrompt
from hypsae_ray.store.schema import Status
from hypsae_ray.store.usage import Usage

Job = TypeVar("Job")

_MAX_HALVINGS = 12
_CHARACTERS_PER_TOKEN = 8
_SAID = re.compile(r"[\W_]*(yes|no)(?![^\W_])", re.IGNORECASE)


class EndpointModel:
    """One server's model: a `protocols.LanguageModel` whose methods several threads may call at once.

    Args:
        llm: the server's name of the model, its context, and the section `endpoint`.
        wait: what is awaited between two tries of a request, with seconds.

    Raises:
        ConfigError: there is no section `endpoint`, or its URL is none.
        ModelError: openai or aiolimiter is not installed, or the key cannot be sent.
    """

    def __init__(self, llm: Llm, wait: Wait = asyncio.sleep) -> None:
        if llm.endpoint is None:
            raise ConfigError("engine endpoint needs a section llm.endpoint")
        self._client = ChatClient(llm, llm.endpoint, wait)
        # A token is rarely over 8 characters: what is cut here would be refused, after megabytes were sent.
        self._longest = _CHARACTERS_PER_TOKEN * llm.max_model_len
        self._thread = EndpointThread(self._client, llm.endpoint.concurrency)

    def close(self) -> None:
        """Close the connections and end the thread; no call is possible any more."""
        self._thread.close()

    def generate(self, prompts: Sequence[NamingPrompt]) -> list[Answer]:
        """Return one answer per prompt: OK, TRUNCATED, TOO_LONG, or FAILED if refused or empty.

        Raises:
            ModelError: no request can succeed.
            TransientError: the server does not answer, for a reason that may pass.
        """
        answers = [Answer("", Status.FAILED)] * len(prompts)

        async def answer(k: int) -> None:
            answers[k] = await _name(self._client, prompts[k])

        took = Usage(seconds=self._thread.run(iter(range(len(prompts))), answer) / max(1, len(prompts)))
        return [replace(answer, usage=answer.usage + took) for answer in answers]

    def score(
        self,
        texts: Sequence[str],
        questions: Sequence[str],
        how: Label = DEFAULT_LABEL,
        asked: np.ndarray | None = None,
    ) -> Annotations:
        """Return P(yes) per text and question.

        Statuses: OK; CUT for a text that had to be cut, TOO_LONG if cutting did not help; UNSURE below
        `how.min_mass`; UNPARSABLE without a yes or no; FAILED if refused; PENDING if it got no answer
        though others did; UNASKED where `asked` is False.

        Raises:
            ModelError: no request can succeed; `answered` holds the scores so far.
            TransientError: the server does not answer, for a reason that may pass; the same.
        """
        scores = Annotations.empty(len(texts), len(questions), Status.UNASKED)
        labelling = _Labelling(self._client, how, self._longest)

        async def label(pair: tuple[int, int]) -> None:
            found = await labelling.label(texts[pair[0]], questions[pair[1]])
            scores.p_yes[pair], scores.p_neither[pair], scores.status[pair] = found

        try:
            seconds = self._thread.run(_pairs(scores.status.shape, how, asked), label, labelling.ending)
        except ModelError as error:
            raise error.after(labelling.told(scores)) from None
        return labelling.told(scores, seconds)


class _Found(NamedTuple):
    """What came of one pair."""

    p_yes: float
    p_neither: float
    status: Status


@dataclass
class _Labelling:
    """The labels of one call, and the tokens they have taken so far."""

    client: ChatClient
    how: Label
    longest: int
    usage: Usage = field(default_factory=Usage)
    words: Counter[str] = field(default_factory=Counter)
    reason: str = ""
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    def told(self, scores: Annotations, seconds: float = 0.0) -> Annotations:
        """Return scores with what this call took, and why pairs have no label."""
        words = dict(self.words.most_common(WORDS_KEPT))
        return replace(scores, usage=self.usage + Usage(seconds=seconds), words=words, reason=self.reason)

    async def label(self, text: str, question: str) -> _Found:
        """Label a text, or the longest beginning of it that fits: a half, a quarter and so on."""
        text = text.strip()
        kept = text[: self.longest]
        found = await self._label(kept, question)
        for _ in range(_MAX_HALVINGS):
            if found.status != Status.TOO_LONG or len(kept) < 2:
                break
            kept = kept[: len(kept) // 2]
            found = await self._label(kept, question)
        whole = len(kept) == len(text) or found.status != Status.OK
        return found if whole else found._replace(status=Status.CUT)

    async def _label(self, text: str, question: str) -> _Found:
        text_first = self.how.layout != "question_first"
        prompt = label_prompt(text, question, text_first=text_first, guard=self.how.guard)
        try:
            return await self._ask(await self._thought([_message("user", prompt)]))
        except RefusalError as refused:
            status = Status.TOO_LONG if refused.too_long else Status.FAILED
            self.reason = self.reason if refused.too_long else str(refused)
        except NoAnswerError as error:
            status, self.reason = Status.PENDING, str(error)
        return _Found(math.nan, math.nan, status)

    async def _thought(self, messages: Messages) -> Messages:
        """Return the messages with the model's thought about them, if it is to think and does."""
        if not self.how.thinking:
            return messages
        wish = Wish(self.how.thinking_tokens, thinking=True)
        reply = self._count(await self.client.complete(messages, wish, self.ending))
        said = f"{reply.thought}\n{reply.text}".strip()
        return [*messages, _message("assistant", said), _message("user", answer_now())] if said else messages

    async def _ask(self, messages: Messages) -> _Found:
        reply = self._count(await self.client.complete(messages, Wish(), self.ending))
        found = _parse(reply.text) if reply.first is None else _weigh(reply.first, self.how.min_mass)
        if found.status != Status.OK:
            self.words[reply.begins] += 1
        return found

    def _count(self, reply: Reply) -> Reply:
        self.usage += reply.usage
        return reply


async def _name(client: ChatClient, prompt: NamingPrompt) -> Answer:
    drawn = prompt.sampling
    begun = not drawn.thinking and await client.goes_on()
    wish = Wish(drawn.max_tokens, drawn.temperature, drawn.seed, drawn.thinking, begun)
    messages = [_message("user", render_naming(prompt, begun=begun))]
    messages += [_message("assistant", naming_begun())] if begun else []
    try:
        reply = await client.complete(messages, wish)
    except (RefusalError, NoAnswerError) as error:
        too_long = isinstance(error, RefusalError) and error.too_long
        return Answer("", Status.TOO_LONG if too_long else Status.FAILED)
    answered = Status.OK if reply.text.strip() else Status.FAILED
    return Answer(reply.text, Status.TRUNCATED if reply.truncated else answered, reply.usage)


def _weigh(first: Iterable[tuple[str, float]], min_mass: float) -> _Found:
    """Return P(yes) from the probabilities of the first tokens.

    >>> _weigh([("Yes", 0.25), ("Ġyes", 0.125), (" NO", 0.125), ("I", 0.5)], min_mass=0.05)
    _Found(p_yes=0.75, p_neither=0.5, status=<Status.OK: 0>)
    """
    mass = {"yes": 0.0, "no": 0.0}
    for token, probability in first:
        word = token.strip().lstrip("▁Ġ").strip().lower()
        if word in mass:
            mass[word] += probability
    both = mass["yes"] + mass["no"]
    p_neither = max(0.0, 1 - both)
    if both > 0 and both >= min_mass:
        return _Found(mass["yes"] / both, p_neither, Status.OK)
    return _Found(math.nan, p_neither, Status.UNSURE)


def _parse(text: str) -> _Found:
    """Return 1 or 0 if the first word is yes or no, whatever marks stand around it."""
    said = _SAID.match(text)
    if said is None:
        return _Found(math.nan, math.nan, Status.UNPARSABLE)
    return _Found(float(said[1].lower() == "yes"), math.nan, Status.OK)


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _pairs(shape: tuple[int, ...], how: Label, asked: np.ndarray | None) -> Iterator[tuple[int, int]]:
    """Yield the (text, question) pairs to ask, in the order in which they are sent."""
    wanted = np.ones(shape, dtype=bool) if asked is None else asked
    if how.layout == "question_first":
        return ((int(i), int(j)) for j, i in np.argwhere(wanted.T))
    return ((int(i), int(j)) for i, j in np.argwhere(wanted))
