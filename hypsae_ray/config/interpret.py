"""Section `interpret`."""

from typing import Literal, Self

from pydantic import model_validator

from hypsae_ray.config.llm import Llm
from hypsae_ray.config.types import Amount, Count, Examples, Positive, Section

KEYWORD_EXAMPLES = 200


class AdvancedInterpret(Section):
    """Section `interpret.advanced`."""

    sampling: Literal["turns", "top", "percentile"] = "turns"
    """Positive texts. top: those that fire most, which are alike; percentile: a random draw from a bin of the
    firing ones; turns: of the first candidate, the third and so on those that fire most, and of the others a
    random draw from the upper half of the firing ones."""
    percentiles: tuple[float, float] = (90, 100)
    """percentile: the bin of firing texts, as percentiles of their activation."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles {[low, high]} must ascend within 0 and 100")
        return self


class Interpret(Section):
    """Sentences for the selected neurons."""

    llm: Llm | None = None
    """The model that names neurons; null: the one of section `llm`, loaded once for naming and scoring."""
    n_candidates: Positive = 3
    """Sentences written per neuron, each from other positive texts where there are enough."""
    n_examples: Examples = 20
    """Texts in each prompt, half of them positive; keywords, with no context to fill, read at least 200."""
    max_words: Positive = 256
    """Texts are cut after this many words; each character of a script without spaces (Chinese, Japanese,
    Thai) is one. How many were cut is reported."""
    instructions: str = ""
    """What the texts are and which kind of feature to name, put into the prompt as it is, without examples: a
    candidate that repeats five of these words in a row, or only says that a text is one, is no finding."""
    temperature: Amount = 0
    """Sampling temperature. 0: the likeliest words; candidates differ by their texts and their question."""
    max_tokens: Positive = 64
    """Tokens per answer."""
    thinking: bool = False
    """Let a reasoning model think before it answers (raise max_tokens with it, and set the temperature that
    its makers advise)."""
    seed: Count = 0
    """Seed of the choice of texts and of the sampling."""
    advanced: AdvancedInterpret = AdvancedInterpret()
    """Which of the firing texts are shown."""

    def read_by(self, llm: Llm) -> Self:
        """Return these options with the number of examples that this model reads."""
        least = KEYWORD_EXAMPLES if llm.engine == "keywords" else 0
        return self.model_copy(update={"n_examples": max(self.n_examples, least)})
