"""What a model must have for the stages to use it.

`Embedder` and `LanguageModel` live inside one process and know nothing of Ray. The rest of `models/` holds
the real ones, `models/keywords.py` one without an LLM; tests may pass any object of this shape. A `Pool`
holds copies of such an object: in this process (`LocalPool`) or in Ray actors (`cluster/pool.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from hypsae_ray.config import Embed, Label, Llm, TrainSae
from hypsae_ray.store.schema import Status
from hypsae_ray.store.usage import Usage

Options = Embed | TrainSae | Llm
"""A section of the config about a model: which one, and where it computes."""
DEFAULT_LABEL = Label()
ANNOTATION_ARRAYS = ("p_yes", "p_neither", "status")
"""The arrays (n, H) of `Annotations`."""
WORDS_KEPT = 5
"""Words that `Annotations` holds at most."""


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn: temperature 0 is greedy; max_tokens counts thinking too."""

    temperature: float = 0.0
    max_tokens: int = 64
    seed: int = 0
    thinking: bool = False


@dataclass(frozen=True)
class NamingPrompt:
    """The question "what tells these texts from those?" about one neuron.

    Structured, because not every engine reads prose: an LLM is sent what
    `models.prompts.wording.render_naming` makes of it.

    Attributes:
        positives: texts that make the neuron fire.
        negatives: texts that do not.
        instructions: what the user states about the texts.
        sampling: how the answer is drawn.
        broad: whether what all say in their own words is asked for; else which topic they share.
    """

    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    instructions: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    broad: bool = True


@dataclass(frozen=True)
class ReasonPrompt:
    """The question why a text was found to have a property, or not to have it: a reason and a quote.

    An LLM is sent what `models.prompts.wording.render_reason` makes of it.

    Attributes:
        text: as it was labelled.
        question: the property ("mentions a long wait").
        label: whether the text was found to have it; the answer is not to change that.
        refused: the quote of an earlier answer, which does not stand in the text; "": there was none.
        sampling: how the answer is drawn.
    """

    text: str
    question: str
    label: bool
    refused: str = ""
    sampling: Sampling = field(default_factory=Sampling)


Prompt = NamingPrompt | ReasonPrompt
"""What a model writes an answer to."""


@dataclass(frozen=True)
class Answer:
    """What a model wrote: the raw text, and OK, FAILED, TOO_LONG or TRUNCATED."""

    text: str
    status: Status
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Annotations:
    """Annotations of n texts for H questions.

    Attributes:
        p_yes: (n, H) float32, in 0 to 1; NaN where the status is none of `schema.USABLE`.
        p_neither: (n, H) float32, what the model gave to words other than yes and no; NaN where unknown.
        status: (n, H) int8, values of `Status`.
        usage: over all questions asked.
        words: the commonest first words of answers without a yes or no, and how many begin so.
        reason: message of the engine about the last pair that is FAILED or PENDING, or "".
    """

    p_yes: np.ndarray
    p_neither: np.ndarray
    status: np.ndarray
    usage: Usage = field(default_factory=Usage)
    words: Mapping[str, int] = field(default_factory=dict[str, int])
    reason: str = ""

    @classmethod
    def empty(cls, n: int, n_questions: int, status: Status) -> "Annotations":
        """Return annotations (n, H) that all have one status, and no value."""
        nothing = np.full((n, n_questions), np.nan, dtype=np.float32)
        return cls(nothing, nothing.copy(), np.full(nothing.shape, status, dtype=np.int8))


@dataclass(frozen=True)
class Embedded:
    """Embeddings of n texts.

    Attributes:
        vectors: (n, d) float32.
        cut_at: (n,) int32, tokens that were read of a text which has more; 0: it was read to its end.
    """

    vectors: np.ndarray
    cut_at: np.ndarray


class Embedder(Protocol):
    """Turns texts into vectors; an attribute `versions`, by name of the library, is kept with them."""

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Return the embeddings of texts, in order."""
        ...


@runtime_checkable
class PaidEmbedder(Embedder, Protocol):
    """An embedder whose work is to be kept in small parts, as it comes: it may have been paid for."""

    def embed_in_parts(self, texts: Sequence[str], keep: Callable[[list[int], Embedded], None]) -> None:
        """Embed texts, and hand over each part: positions of texts, and their embeddings.

        Raises:
            RefusedTextError: a text cannot be embedded; its `position` among the texts.
        """
        ...


class LanguageModel(Protocol):
    """Names neurons, labels texts, and gives reasons for labels.

    An attribute `versions`, by name of the library (and "precision"), is kept with what it answers; `remark`
    is a line to show once it is loaded; a method `close` frees what it holds. One with an attribute
    `thread_safe` that is true is called from several threads at once.
    """

    def generate(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """Return one answer per prompt, in order; a prompt that fails has a status, and raises nothing."""
        ...

    def score(
        self,
        texts: Sequence[str],
        questions: Sequence[str],
        options: Label = DEFAULT_LABEL,
        asked: np.ndarray | None = None,
    ) -> Annotations:
        """Return P(yes) that each text has each property in `questions` ("mentions a long wait").

        A pair that fails has a status, and raises nothing.

        Args:
            texts: n texts; one that does not fit is cut.
            questions: H properties.
            options: what is asked first, thinking, and the floor under which an answer is unsure.
            asked: (n, H) bool, the pairs to ask; the others are UNASKED and cost nothing. None: all.

        Raises:
            ModelError: no call can succeed.
            EngineDiedError: no further call of this object can succeed, but one of a new object may.
            TransientError: this call failed, but the same call may succeed later.

        What was answered before a ModelError is in its `answered`; the pairs that it left are UNASKED.
        """
        ...
