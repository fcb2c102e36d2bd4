"""Label prompts as token ids, put together from segments that are tokenised once each.

A prompt is frame | instruction | text and property in either order | closing | frame, the frame being what
the chat template puts around a user's words. Every segment ends in a newline and the next one starts with a
letter, where tokenizers do not merge; so the ids of the whole are those of its segments in a row. That is
tried on odd texts when a model is loaded, and if its tokenizer does merge there, whole prompts are tokenised.

Texts and properties are data: a "<|im_end|>" in them is spelled out, never taken for the special token.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hypsae_ray.config import Label, Llm
from hypsae_ray.models.locate import locate
from hypsae_ray.models.prompts import wording
from hypsae_ray.models.remote_code import code_arguments, load_error

ANCHOR = "\n"  # what each segment follows: SentencePiece would start a text that follows nothing with a blank
PROBES = (
    "a",
    "Ends in a stop.",
    '1,000 "quoted" …',
    "tabs\tand  blanks",
    "two\n\nlines",
    "日本語 🙂",
    "İé",
    "=" * 70,
)
MARK = "\u241eWORDS\u241e"
LEAST_TEXT_TOKENS = 16


@dataclass(frozen=True)
class Segment:
    """A piece of a prompt."""

    words: str
    ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


class LabelPrompts:
    """Makes the label prompts of one Hugging Face tokenizer; with `guard`, texts are quoted.

    `joins`: the ids of segments in a row are those of the whole; else whole prompts are tokenised.
    """

    def __init__(self, tokenizer: Any, *, thinking: bool = False, guard: bool = False) -> None:
        self._tokenizer, self._plain = tokenizer, _without_special_tokens(tokenizer)
        self._guard = guard
        before, _, after = chat(tokenizer, MARK, thinking=thinking).partition(MARK)
        head, tail = before + wording.LABEL_INSTRUCTION, wording.LABEL_CLOSING + after
        self.head = Segment(head, tuple(tokenizer.encode(head, add_special_tokens=False)))
        self.tail = Segment(tail, self._after_anchor(tokenizer, [tail])[0])
        self._properties: dict[str, Segment] = {}
        self.joins = all(self._joins(probe) for probe in PROBES)

    def texts(self, texts: Sequence[str]) -> list[Segment]:
        """Tokenise the segments that hold texts."""
        return self._segments([wording.label_text(text, guard=self._guard) for text in texts])

    def property(self, question: str) -> Segment:
        """Tokenise the segment that holds a property; each one once."""
        if question not in self._properties:
            (self._properties[question],) = self._segments([wording.label_property(question)])
        return self._properties[question]

    def prompt(self, text: Segment, question: Segment, *, text_first: bool = True) -> list[int]:
        """Return the ids of a whole prompt."""
        segments = self._in_order(text, question, text_first=text_first)
        return _joined(segments) if self.joins else self._whole(segments)

    def fit(self, text: str, segment: Segment, room: int) -> tuple[Segment | None, bool]:
        """Return the segment of a text, cut to at most `room` tokens, and whether it was cut.

        It is None if there is no room for a text worth reading.
        """
        if len(segment) <= room:
            return segment, False
        ids, keep = self._plain.encode(text.strip(), add_special_tokens=False), room
        while keep >= LEAST_TEXT_TOKENS:
            start = self._plain.decode(ids[:keep])
            (cut,) = self.texts([start])
            if len(cut) <= room and not start.endswith("\ufffd"):
                return cut, True
            # In proportion, as each line of a text may cost a mark; by one where a character was cut.
            keep = min(keep - 1, keep * room // len(cut))
        return None, True

    def _segments(self, words: list[str]) -> list[Segment]:
        ids = self._after_anchor(self._plain, words)
        return [Segment(*segment) for segment in zip(words, ids, strict=True)]

    def _after_anchor(self, tokenizer: Any, words: list[str]) -> list[tuple[int, ...]]:
        if not words:
            return []
        skip = len(tokenizer.encode(ANCHOR, add_special_tokens=False))
        encoded = tokenizer([ANCHOR + piece for piece in words], add_special_tokens=False)["input_ids"]
        return [tuple(ids[skip:]) for ids in encoded]

    def _in_order(self, text: Segment, question: Segment, *, text_first: bool) -> tuple[Segment, ...]:
        middle = (text, question) if text_first else (question, text)
        return self.head, *middle, self.tail

    def _whole(self, segments: Sequence[Segment]) -> list[int]:
        words = "".join(segment.words for segment in segments)
        return self._tokenizer.encode(words, add_special_tokens=False)

    def _joins(self, probe: str) -> bool:
        """Whether segments in a row give the ids of the whole prompt, in either order."""
        (text,), question = self.texts([probe]), self.property(f"mentions {probe}")
        orders = [self._in_order(text, question, text_first=first) for first in (True, False)]
        return all(_joined(segments) == self._whole(segments) for segments in orders)


def pairs_in_order(pairs: np.ndarray, options: Label) -> list[tuple[int, int]]:
    """Return the pairs (text, question) that are True of (n, H), in the order in which prompts share most."""
    by_text = options.layout != "question_first"
    order = np.argwhere(pairs) if by_text else np.argwhere(pairs.T)[:, ::-1]
    return [(int(i), int(j)) for i, j in order]


def _joined(segments: Sequence[Segment]) -> list[int]:
    return [i for segment in segments for i in segment.ids]


def chat(tokenizer: Any, content: str, *, thinking: bool = False, begun: str = "") -> str:
    """Return a user's words in the model's chat template, or as they are if it has none.

    What follows is the model's; `begun` is the beginning of its answer.
    """
    if not tokenizer.chat_template:
        return content + begun
    before = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=thinking,
    )
    return before + begun


def load_tokenizer(llm: Llm) -> Any:
    """Load a tokenizer without its model.

    Raises:
        ModelError: it is not found, or needs code that is not trusted.
        ConfigError: the code is not what is trusted.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(locate(llm.model), **code_arguments(llm))
    except (OSError, ValueError) as error:
        raise load_error("transformers cannot load the tokenizer of", llm, error) from error


def _without_special_tokens(tokenizer: Any) -> Any:
    """Return a copy of a tokenizer that spells out special tokens in a text."""
    plain = copy.deepcopy(tokenizer)
    if getattr(plain, "is_fast", False):
        plain.backend_tokenizer.encode_special_tokens = True
    plain.split_special_tokens = True
    return plain
