"""Texts of which a model read only the beginning: counted and told in the same words wherever it happens."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hypsae_ray.data.words import truncate_words


@dataclass(frozen=True)
class Cut:
    """How many texts were cut.

    Attributes:
        texts: those cut.
        of: all of them.
        at: how much of a text was read.
        unit: what that is counted in.
    """

    texts: int
    of: int
    at: int
    unit: Literal["tokens", "words"]

    @classmethod
    def at_words(cls, texts: Iterable[str], limit: int) -> "Cut":
        """Count the texts that `truncate_words` cuts."""
        cut = [truncate_words(text, limit) != text for text in texts]
        return cls(sum(cut), len(cut), limit, "words")

    @property
    def share(self) -> str:
        """How many of how many.

        >>> Cut(3, 8, 256, "tokens").share
        '3 of 8 texts (37.5 %)'
        """
        return f"{self.texts:,} of {self.of:,} texts ({100 * self.texts / max(self.of, 1):.3g} %)"

    def __str__(self) -> str:
        """Return the sentence that tells it.

        >>> print(Cut(3, 8, 256, "tokens"))
        3 of 8 texts (37.5 %) were cut at 256 tokens
        """
        return f"{self.share} {'was' if self.texts == 1 else 'were'} cut at {self.at:,} {self.unit}"

    def facts(self) -> dict[str, Any]:
        """Return it as a manifest keeps it; `Cut(**facts)` reads it back."""
        return asdict(self)
