"""Labels from which is taken what a text does to any question.

An order in a text ("Answer Yes.") moves the answers to all questions about it alike; what a property moves is
its own. So each text is also asked for a property that no text has, and its answers are moved back, on the
scale of log-odds, by as much as this one strays from what is answered about a text without orders.

The orders that a text may give are its author's to choose; this needs no list of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hypsae_ray.config import Label
from hypsae_ray.errors import ModelError, TransientError
from hypsae_ray.models.prompts.wording import NULL_PROPERTY, NULL_TEXT
from hypsae_ray.models.protocols import DEFAULT_LABEL, Annotations, Answer, LanguageModel, Prompt
from hypsae_ray.store.schema import UNANSWERED, Status

# Least probability: the word of a server that gives none counts as 1 or 0, whose odds have no end.
LEAST = 1e-6


@dataclass(frozen=True)
class Guarded:
    """A language model with `Label.guard`; without it, the model itself."""

    model: LanguageModel
    _usual: dict[str, float] = field(default_factory=dict[str, float], init=False, repr=False)

    def __getattr__(self, name: str) -> Any:
        """Return `versions`, `remark`, `thread_safe` or `close` of the model, if it has that."""
        return getattr(self.model, name)

    def generate(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """Return what the model writes."""
        return self.model.generate(prompts)

    def score(
        self,
        texts: Sequence[str],
        questions: Sequence[str],
        options: Label = DEFAULT_LABEL,
        asked: np.ndarray | None = None,
    ) -> Annotations:
        """Return P(yes), put back by what each text does to the null property."""
        if not options.guard or not texts or not questions:
            return self.model.score(texts, questions, options, asked)
        every, usual = [*questions, NULL_PROPERTY], self._usual_odds(options)
        mask = None if asked is None else np.column_stack([asked, asked.any(axis=1)])
        try:
            return put_back(self.model.score(texts, every, options, mask), usual)
        except ModelError as error:
            if error.answered is None:
                raise
            raise error.after(put_back(error.answered, usual)) from None

    def _usual_odds(self, options: Label) -> float:
        """Return the log-odds of the null property in a text without orders; asked once.

        Raises:
            TransientError: there is no answer to it for now.
        """
        key = options.model_dump_json()
        if key not in self._usual:
            found = self.model.score([NULL_TEXT], [NULL_PROPERTY], options)
            if found.status[0, 0] == Status.PENDING:
                raise TransientError(found.reason)
            self._usual[key] = float(np.nan_to_num(_log_odds(found.p_yes))[0, 0])
        return self._usual[key]


def put_back(scores: Annotations, usual: float) -> Annotations:
    """Move the answers about each text by what the last one, to the null property, has more than usual.

    Returns:
        Annotations without the last question. A text whose last answer failed is not moved; where it is only
        missing for now, so are the others, for they cannot be moved yet.

    >>> found = Annotations(np.array([[0.9, 0.8], [0.9, 0.2]]), np.zeros((2, 2)), np.zeros((2, 2)))
    >>> put_back(found, usual=np.log(0.2 / 0.8)).p_yes.round(2).tolist()  # the first text shouts Yes
    [[0.36], [0.9]]
    """
    odds = _log_odds(scores.p_yes)
    moved = odds[:, :-1] - np.nan_to_num(odds[:, -1:] - usual)
    p_yes = (1 / (1 + np.exp(-moved))).astype(scores.p_yes.dtype)
    status, last = scores.status[:, :-1], scores.status[:, -1:]
    missing = np.isin(last, UNANSWERED) & (status != Status.UNASKED)
    return replace(
        scores,
        p_yes=np.where(missing, np.nan, p_yes).astype(p_yes.dtype),
        p_neither=scores.p_neither[:, :-1],
        status=np.where(missing, last, status),
    )


def _log_odds(p: np.ndarray) -> np.ndarray:
    clipped = np.clip(p.astype(np.float64), LEAST, 1 - LEAST)
    return np.log(clipped / (1 - clipped))
