"""How many tokens label prompts have, and how many of them a prefix cache saves.

An engine keeps the states of whole blocks of `block` tokens. A prompt that begins like an earlier one reads
the blocks that lie wholly in their common beginning, and computes the rest. Prompts come text by text (or
question by question), so each one shares instruction and text with the one before it, and the first one of
a text shares the instruction.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from hypsae_ray.data.arrays import Ints

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
        beside: how many of the questions are asked of every text beside what is to be labelled.
    """

    head: int
    tail: int
    texts: Ints
    questions: Ints
    block: int
    beside: int = 0

    @property
    def pairs(self) -> int:
        """Pairs that are labelled: n x H, less what is asked beside."""
        return len(self.texts) * (len(self.questions) - self.beside)

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
        first, second = (
            (self.texts, self.questions) if layout == "text_first" else (self.questions, self.texts)
        )
        shared = (self.head + first) // self.block * self.block
        start = self.head // self.block * self.block
        return int(shared.sum() * max(len(second) - 1, 0) + start * max(len(first) - 1, 0))

    @property
    def cheaper(self) -> Layout:
        """The layout with fewer tokens to compute; text_first if both take the same."""
        return "question_first" if self.cached("question_first") > self.cached("text_first") else "text_first"


@dataclass(frozen=True)
class Estimate:
    """What labelling takes.

    Attributes:
        pairs: (text, question) pairs.
        prompt_tokens: tokens of all prompts.
        computed_tokens: those that are not read from the prefix cache.
    """

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
