"""How many tokens label prompts have, and how many of them a prefix cache saves.

An engine keeps the states of whole blocks of `block` tokens. A prompt that begins like an earlier one reads
the blocks that lie wholly in their common beginning, and computes the rest. Prompts come text by text (or
question by question), so each one shares instruction and text with the one before it, and the first one of
a text shares the instruction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from hypsae_ray.config import Label, Llm
from hypsae_ray.data.arrays import Ints
from hypsae_ray.data.words import estimate_tokens
from hypsae_ray.errors import ModelError
from hypsae_ray.models.locate import locate
from hypsae_ray.models.prompts import wording
from hypsae_ray.models.prompts.label_prompts import LabelPrompts, load_tokenizer

CPU_BLOCK, GPU_BLOCK = 32, 16  # tokens in a block of vLLM's prefix cache
Layout = Literal["text_first", "question_first"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


@dataclass(frozen=True)
class Lengths:
    """Tokens in the parts of label prompts.

    Attributes:
        head: what stands before text and question.
        tail: what stands behind them.
        texts: (n,) of each text.
        questions: (H,) of each question.
        block: tokens in a block of the prefix cache; 0 if there is none.
        n_guards: how many of the questions are asked for the guard, and label nothing.
    """

    head: int
    tail: int
    texts: Ints
    questions: Ints
    block: int
    n_guards: int = 0

    @property
    def pairs(self) -> int:
        """Pairs that are labelled: n x H, less those of the guard."""
        return len(self.texts) * (len(self.questions) - self.n_guards)

    @property
    def prompts(self) -> int:
        """Tokens of all n x H prompts."""
        n, h = len(self.texts), len(self.questions)
        return int(n * h * (self.head + self.tail) + h * self.texts.sum() + n * self.questions.sum())

    def cached(self, layout: Layout) -> int:
        """Return how many of them are read from the cache, at the most: all but the first copy of each.

        >>> Lengths(head=10, tail=5, texts=np.array([25]), questions=np.array([4, 4, 4]), block=16).cached(
        ...     "text_first"
        ... )  # two whole blocks lie in the 35 tokens that three prompts share
        64
        """
        if self.block == 0 or self.pairs == 0:
            return 0
        turn = 1 if layout == "text_first" else -1
        first, second = (self.texts, self.questions)[::turn]
        shared = (self.head + first) // self.block * self.block
        start = self.head // self.block * self.block
        return int(shared.sum() * max(len(second) - 1, 0) + start * max(len(first) - 1, 0))

    @property
    def cheaper(self) -> Layout:
        """The layout with fewer tokens to compute; text_first if both take the same."""
        return "question_first" if self.cached("question_first") > self.cached("text_first") else "text_first"


@dataclass(frozen=True)
class Estimate:
    """What labelling takes: pairs, tokens of all prompts, and those of them that no prefix cache holds."""

    pairs: int
    prompt_tokens: int
    computed_tokens: int

    def hours(self, rate: float) -> float:
        """Return the hours of one replica that labels `rate` pairs per second."""
        return self.pairs / rate / 3600


def estimate(sample: Lengths, pairs: int, layout: Layout) -> Estimate:
    """Scale a sample of the texts, with all questions, up to the pairs that are to be asked."""
    if sample.pairs == 0:
        return Estimate(pairs, 0, 0)
    share = pairs / sample.pairs
    prompts = round(sample.prompts * share)
    return Estimate(pairs, prompts, prompts - round(sample.cached(layout) * share))


def measure(llm: Llm, label: Label, texts: Sequence[str], questions: Sequence[str]) -> Lengths:
    """Return the tokens in the parts of label prompts, as a model would be sent them.

    Those of an endpoint are counted by the model's tokenizer if it is on this machine, else estimated from
    words; its cache is not known.

    Raises:
        ModelError: the model is not found.
    """
    if llm.engine == "keywords":
        return Lengths(0, 0, np.zeros(len(texts), np.int64), np.zeros(len(questions), np.int64), 0)
    n_guards = int(label.guard)
    questions = [*questions, *[wording.NULL_PROPERTY] * n_guards]
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
    return Lengths(len(prompts.head), len(prompts.tail), by_text, by_question, block, n_guards)


def _estimated(label: Label, texts: Sequence[str], questions: Sequence[str]) -> Lengths:
    parts = [wording.label_text(text, guard=label.guard) for text in texts]
    by_text = np.array([estimate_tokens(part) for part in parts], np.int64)
    by_question = np.array([estimate_tokens(wording.label_property(q)) for q in questions], np.int64)
    fixed = estimate_tokens(wording.LABEL_INSTRUCTION + wording.LABEL_CLOSING)
    return Lengths(fixed, 0, by_text, by_question, 0, int(label.guard))


def _tokenizer_here(model: str, revision: str | None) -> Any:
    """Return the tokenizer of a served model if it is on this machine; nothing is fetched, no code runs."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            locate(model), revision=revision, local_files_only=True, trust_remote_code=False
        )
    except (ModelError, OSError, ValueError):
        return None


def block_size(llm: Llm) -> int:
    """Return the tokens in a block of vLLM's prefix cache, where the config leaves it to us."""
    return int(llm.engine_args.get("block_size") or (GPU_BLOCK if llm.uses_gpu else CPU_BLOCK))
