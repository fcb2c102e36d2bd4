"""Label prompts as token ids, put together from parts that are tokenised once each.

A prompt is frame | instruction | text and property in either order | closing | frame, the frame being what
the chat template puts around a user's words. Every part ends in a newline and the next one starts with a
letter, where tokenizers do not merge; so the ids of the whole are those of its parts in a row. That is
tried on odd texts when a model is loaded, and if its tokenizer does merge there, whole prompts are tokenised.

Texts and properties are data: a "<|im_end|>" in them is spelled out, never taken for the special token.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hypsae_ray.config import Label, Llm
from hypsae_ray.data.words import estimate_tokens
from hypsae_ray.errors import ModelError
from hypsae_ray.models.carried_code import code_arguments, load_error
from hypsae_ray.models.locate import locate
from hypsae_ray.models.prompts import wording
from hypsae_ray.models.prompts.sharing import Lengths

ANCHOR = "\n"  # what each part follows: SentencePiece would start a text that follows nothing with a blank
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
CPU_BLOCK, GPU_BLOCK = 32, 16


@dataclass(frozen=True)
class Part:
    """A piece of a prompt."""

    words: str
    ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


class LabelPrompts:
    """Makes the label prompts of one tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer.
        thinking: the frame lets the model think before it answers.
        guard: texts are quoted.

    Attributes:
        joins: whether the ids of parts in a row are those of the whole; else whole prompts are tokenised.
    """

    def __init__(self, tokenizer: Any, *, thinking: bool = False, guard: bool = False) -> None:
        self._tokenizer, self._plain = tokenizer, _without_special_tokens(tokenizer)
        self._guard = guard
        before, _, after = chat(tokenizer, MARK, thinking=thinking).partition(MARK)
        head, tail = before + wording.label_instruction(), wording.label_closing() + after
        self.head = Part(head, tuple(tokenizer.encode(head, add_special_tokens=False)))
        self.tail = Part(tail, self._after_anchor(tokenizer, [tail])[0])
        self._properties: dict[str, Part] = {}
        self.joins = all(
            self._joined(parts) == self._whole(parts) for probe in PROBES for parts in self._trial(probe)
        )

    def texts(self, texts: Sequence[str]) -> list[Part]:
        """Tokenise the parts that hold texts."""
        return self._parts([wording.label_text(text, guard=self._guard) for text in texts])

    def property(self, question: str) -> Part:
        """Tokenise the part that holds a property; each one once."""
        if question not in self._properties:
            (self._properties[question],) = self._parts([wording.label_property(question)])
        return self._properties[question]

    def prompt(self, text: Part, question: Part, *, text_first: bool = True) -> list[int]:
        """Return the ids of a whole prompt."""
        middle = (text, question) if text_first else (question, text)
        parts = (self.head, *middle, self.tail)
        return self._joined(parts) if self.joins else self._whole(parts)

    def fit(self, text: str, part: Part, room: int) -> tuple[Part | None, bool]:
        """Cut a text so that its part takes at most `room` tokens.

        Returns:
            The part, and whether it was cut; None if there is no room for a text worth reading.
        """
        if len(part) <= room:
            return part, False
        ids, keep = self._plain.encode(text.strip(), add_special_tokens=False), room
        while keep >= LEAST_TEXT_TOKENS:
            start = self._plain.decode(ids[:keep])
            (cut,) = self.texts([start])
            if len(cut) <= room and not start.endswith("\ufffd"):
                return cut, True
            # In proportion, as each line of a text may cost a mark; by one where a character was cut.
            keep = min(keep - 1, keep * room // len(cut))
        return None, True

    def _parts(self, words: list[str]) -> list[Part]:
        ids = self._after_anchor(self._plain, words)
        return [Part(piece, its) for piece, its in zip(words, ids, strict=True)]

    def _after_anchor(self, tokenizer: Any, words: list[str]) -> list[tuple[int, ...]]:
        if not words:
            return []
        skip = len(tokenizer.encode(ANCHOR, add_special_tokens=False))
        encoded = tokenizer([ANCHOR + piece for piece in words], add_special_tokens=False)["input_ids"]
        return [tuple(ids[skip:]) for ids in encoded]

    def _joined(self, parts: Sequence[Part]) -> list[int]:
        return [i for part in parts for i in part.ids]

    def _whole(self, parts: Sequence[Part]) -> list[int]:
        return self._tokenizer.encode("".join(part.words for part in parts), add_special_tokens=False)

    def _trial(self, probe: str) -> list[tuple[Part, ...]]:
        (text,), question = self.texts([probe]), self.property(f"mentions {probe}")
        return [(self.head, text, question, self.tail), (self.head, question, text, self.tail)]


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


def measure(llm: Llm, label: Label, texts: Sequence[str], questions: Sequence[str]) -> Lengths:
    """Return the tokens in the parts of label prompts, as a model would be sent them.

    Those of an endpoint are counted by the model's tokenizer if it is on this machine, else estimated from
    words; its cache is not known.

    Raises:
        ModelError: the model is not found.
    """
    if llm.engine == "keywords":
        return Lengths(0, 0, np.zeros(len(texts), np.int64), np.zeros(len(questions), np.int64), 0)
    beside = int(label.guard)
    questions = [*questions, *[wording.null_property()] * beside]
    served = llm.engine == "endpoint"
    tokenizer = _tokenizer_here(llm.model, llm.revision) if served else load_tokenizer(llm)
    if tokenizer is None:
        return _estimated(label, texts, questions)
    prompts = LabelPrompts(tokenizer, thinking=label.thinking, guard=label.guard)
    by_question = np.array([len(prompts.property(question)) for question in questions], np.int64)
    fixed = len(prompts.head) + len(prompts.tail) + int(by_question.max(initial=0)) + 1
    by_text = np.array([len(part) for part in prompts.texts(texts)], np.int64)
    by_text = np.minimum(by_text, max(0, llm.max_model_len - fixed))
    block = 0 if served else block_size(llm)
    return Lengths(len(prompts.head), len(prompts.tail), by_text, by_question, block, beside)


def _estimated(label: Label, texts: Sequence[str], questions: Sequence[str]) -> Lengths:
    parts = [wording.label_text(text, guard=label.guard) for text in texts]
    by_text = np.array([estimate_tokens(part) for part in parts], np.int64)
    by_question = np.array([estimate_tokens(wording.label_property(q)) for q in questions], np.int64)
    fixed = estimate_tokens(wording.label_instruction() + wording.label_closing())
    return Lengths(fixed, 0, by_text, by_question, 0, int(label.guard))


def _tokenizer_here(model: str, revision: str | None) -> Any:
    """Return the tokenizer of a served model if it is on this machine; nothing is fetched, no code runs."""
    from transformers import AutoTokenizer

    try:
        place = locate(model)
        return AutoTokenizer.from_pretrained(
            place, revision=revision, local_files_only=True, trust_remote_code=False
        )
    except (ModelError, OSError, ValueError):
        return None


def block_size(llm: Llm) -> int:
    """Return the tokens in a block of vLLM's prefix cache, where the config leaves it to us."""
    return int(llm.engine_args.get("block_size") or (GPU_BLOCK if llm.uses_gpu else CPU_BLOCK))


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
