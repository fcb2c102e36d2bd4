"""Any OpenAI-compatible chat server as a `LanguageModel`: `vllm serve`, a gateway, a vendor.

Labels: every (text, question) pair is one request for one token. Pairs are sent text by text, all questions
of a text one after the other, so that a server's prefix cache can hold the text (with question_first the
other way round). P(yes) = yes / (yes + no), the sums of the probabilities of all first tokens that read so;
p_neither is what is left of 1. The word of a server that gives no probabilities counts as 1 or 0.

With thinking, a first request lets the model think, and a second one carries the thought and asks for the
word. A text that is too long for the server is halved until it fits; its label has the status CUT. A pair
that gets no answer though others do is PENDING; when the server stops to answer, the call ends once what is
in flight has ended, and its error holds what was answered.

An object has one event loop in a thread of its own. Each call, from any thread, starts as many workers there
as requests may be in flight; they pull pairs from one iterator, so that requests go out in the order of the
pairs however many there are. All calls together share the limits of one `Client`.
"""

import asyncio
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from hypsae_ray.config import Label, Llm
from hypsae_ray.errors import ModelError
from hypsae_ray.models.endpoint.chat import ChatApi, Messages, Reply, turn
from hypsae_ray.models.endpoint.client import Body, Client, Wait
from hypsae_ray.models.endpoint.faults import FaultError, NoAnswerError, RefusalError
from hypsae_ray.models.endpoint.thread import EndpointThread
from hypsae_ray.models.prompts.label_prompts import pairs_in_order
from hypsae_ray.models.prompts.wording import ANSWER_NOW, begun_answer, label_prompt, render
from hypsae_ray.models.protocols import DEFAULT_LABEL, WORDS_KEPT, Annotations, Answer, Prompt
from hypsae_ray.store.schema import Status
from hypsae_ray.store.usage import Usage

_MAX_HALVINGS = 12
_CHARACTERS_PER_TOKEN = 8
_FIRST_WORD = re.compile(r"[\W_]*(yes|no)(?![^\W_])", re.IGNORECASE)


class EndpointModel:
    """One server's model: a `protocols.LanguageModel` whose methods several threads may call at once.

    Raises:
        ConfigError: there is no section `endpoint`, or its URL is not one.
        ModelError: openai, tenacity or aiolimiter is not installed, or the key cannot be sent.
    """

    def __init__(self, llm: Llm, wait: Wait = asyncio.sleep) -> None:
        self._client: Client[Reply] = Client(llm, ChatApi(), wait)
        # A token is rarely over 8 characters: what is cut here would be refused, after megabytes were sent.
        self._longest = _CHARACTERS_PER_TOKEN * llm.max_model_len
        self._thread = EndpointThread(self._client)

    def close(self) -> None:
        """Close the connections and end the thread; no call is possible any more."""
        self._thread.close()

    def generate(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """Return one answer per prompt: OK, TRUNCATED, TOO_LONG, or FAILED if refused or empty.

        Raises:
            ModelError: no request can succeed.
            TransientError: the server does not answer, for a reason that may pass.
        """
        answers = [Answer("", Status.FAILED)] * len(prompts)

        async def answer(k: int) -> None:
            answers[k] = await self._write(prompts[k])

        took = Usage(seconds=self._thread.run(iter(range(len(prompts))), answer) / max(1, len(prompts)))
        return [replace(answer, usage=answer.usage + took) for answer in answers]

    async def _write(self, prompt: Prompt) -> Answer:
        drawn, api = prompt.sampling, await self._client.api()
        begun = not drawn.thinking and await self._client.once("begun", self._continues)
        messages = [turn("user", render(prompt, begun=begun))]
        messages += [turn("assistant", begun_answer(prompt))] if begun else []
        sampling = drawn.max_tokens, drawn.temperature, drawn.seed
        try:
            reply = await self._client.ask(
                api.body(messages, *sampling, thinking=drawn.thinking, begun=begun)
            )
        except (RefusalError, NoAnswerError) as error:
            too_long = isinstance(error, RefusalError) and error.too_long
            return Answer("", Status.TOO_LONG if too_long else Status.FAILED)
        answered = Status.OK if reply.text.strip() else Status.FAILED
        return Answer(reply.text, Status.TRUNCATED if reply.truncated else answered, reply.usage)

    async def _continues(self) -> bool:
        """Whether the server continues an answer that is begun for it, and does not think first."""
        api = await self._client.api()
        try:
            return not api.thinks and bool((await self._client.retry(api.begun, api)).text.strip())
        except FaultError:
            return False

    def score(
        self,
        texts: Sequence[str],
        questions: Sequence[str],
        options: Label = DEFAULT_LABEL,
        asked: np.ndarray | None = None,
    ) -> Annotations:
        """Return P(yes) per text and question.

        Statuses: OK; CUT for a text that had to be cut, TOO_LONG if cutting did not help; UNSURE below
        `options.min_mass`; UNPARSABLE without a yes or no; FAILED if refused; PENDING if it got no answer
        though others did; UNASKED where `asked` is False.

        Raises:
            ModelError: no request can succeed; `answered` holds the annotations so far.
            TransientError: the server does not answer, for a reason that may pass; the same.
        """
        found = Annotations.empty(len(texts), len(questions), Status.UNASKED)
        labelling = _Labelling(self._client, options, self._longest)

        async def label(pair: tuple[int, int]) -> None:
            values = await labelling.label(texts[pair[0]], questions[pair[1]])
            found.p_yes[pair], found.p_neither[pair], found.status[pair] = values

        try:
            mask = np.ones(found.status.shape, dtype=bool) if asked is None else asked
            seconds = self._thread.run(iter(pairs_in_order(mask, options)), label, labelling.ending)
        except ModelError as error:
            raise error.after(labelling.add_usage(found)) from None
        return labelling.add_usage(found, seconds)


class _Annotation(NamedTuple):
    """What came of one pair."""

    p_yes: float
    p_neither: float
    status: Status


@dataclass
class _Labelling:
    """The labels of one call, with the tokens they have taken so far and why pairs have no label."""

    client: Client[Reply]
    options: Label
    longest: int
    usage: Usage = field(default_factory=Usage)
    words: Counter[str] = field(default_factory=Counter)
    reason: str = ""
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    def add_usage(self, found: Annotations, seconds: float = 0.0) -> Annotations:
        """Return annotations with what this call took, and why pairs have no label."""
        words = dict(self.words.most_common(WORDS_KEPT))
        return replace(found, usage=self.usage + Usage(seconds=seconds), words=words, reason=self.reason)

    async def label(self, text: str, question: str) -> _Annotation:
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

    async def _label(self, text: str, question: str) -> _Annotation:
        text_first = self.options.layout != "question_first"
        prompt = label_prompt(text, question, text_first=text_first, guard=self.options.guard)
        try:
            return await self._answer([turn("user", prompt)])
        except RefusalError as refused:
            status = Status.TOO_LONG if refused.too_long else Status.FAILED
            self.reason = self.reason if refused.too_long else str(refused)
        except NoAnswerError as error:
            status, self.reason = Status.PENDING, str(error)
        return _Annotation(math.nan, math.nan, status)

    async def _answer(self, messages: Messages) -> _Annotation:
        api = await self.client.api()
        if self.options.thinking:
            reply = await self._ask(api.body(messages, self.options.thinking_tokens, thinking=True))
            if thought := f"{reply.thought}\n{reply.text}".strip():
                messages = [*messages, turn("assistant", thought), turn("user", ANSWER_NOW)]
        reply = await self._ask(api.body(messages))
        found = _parse(reply.text) if reply.first is None else _weigh(reply.first, self.options.min_mass)
        if found.status != Status.OK:
            self.words[reply.first_word] += 1
        return found

    async def _ask(self, body: Body) -> Reply:
        reply = await self.client.ask(body, self.ending)
        self.usage += reply.usage
        return reply


def _weigh(first: Iterable[tuple[str, float]], min_mass: float) -> _Annotation:
    """Return P(yes) from the probabilities of the first tokens.

    >>> _weigh([("Yes", 0.25), ("Ġyes", 0.125), (" NO", 0.125), ("I", 0.5)], min_mass=0.05)
    _Annotation(p_yes=0.75, p_neither=0.5, status=<Status.OK: 0>)
    """
    mass = {"yes": 0.0, "no": 0.0}
    for token, probability in first:
        word = token.strip().lstrip("▁Ġ").strip().lower()
        if word in mass:
            mass[word] += probability
    both = mass["yes"] + mass["no"]
    p_neither = max(0.0, 1 - both)
    if both > 0 and both >= min_mass:
        return _Annotation(mass["yes"] / both, p_neither, Status.OK)
    return _Annotation(math.nan, p_neither, Status.UNSURE)


def _parse(text: str) -> _Annotation:
    """Return 1 or 0 if the first word is yes or no, with or without marks around it."""
    word = _FIRST_WORD.match(text)
    if word is None:
        return _Annotation(math.nan, math.nan, Status.UNPARSABLE)
    return _Annotation(float(word[1].lower() == "yes"), math.nan, Status.OK)
