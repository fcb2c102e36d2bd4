"""What the stages ask of a model, and all they know about it.

Both protocols live inside one process and know nothing of Ray. `engine/` holds the real models,
`core/keywords.py` an LLM-free one; tests may pass any object of this shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from hypsae_ray.schema import Status


@dataclass(frozen=True)
class Usage:
    """Tokens that calls took: prompt tokens in all, those read from the prefix cache, and new ones."""

    prompt: int = 0
    cached: int = 0
    generated: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.prompt + other.prompt, self.cached + other.cached, self.generated + other.generated)


@dataclass(frozen=True)
class NamingPrompt:
    """The question "what tells these texts from those?" about one neuron.

    Structured, because not every engine reads prose: an LLM is sent `core.prompts.render_naming` of it.
    """

    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    instructions: str = ""


@dataclass(frozen=True)
class Answer:
    """What a model wrote: the raw text, and OK, FAILED, TOO_LONG or TRUNCATED."""

    text: str
    status: Status
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Scores:
    """Labels of n texts for H questions.

    Attributes:
        p_yes: (n, H) float32, in 0 to 1; NaN where status is not OK.
        status: (n, H) int8, values of `Status`.
        usage: tokens over all n x H questions.
    """

    p_yes: np.ndarray
    status: np.ndarray
    usage: Usage = field(default_factory=Usage)


class Embedder(Protocol):
    """Turns texts into vectors."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return (n, d) float32, row i for texts[i]."""
        ...


class LanguageModel(Protocol):
    """Names neurons and labels texts."""

    def generate(self, prompts: Sequence[NamingPrompt]) -> list[Answer]:
        """Return one answer per prompt, in order; a prompt that fails has a status, and raises nothing."""
        ...

    def score(self, texts: Sequence[str], questions: Sequence[str]) -> Scores:
        """Return P(yes) that each text has each property in `questions` ("mentions a long wait")."""
        ...
