"""How much of a text an embedder reads, by its own tokenizer, and the pieces that it could read."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

SPARE = 4  # tokens that a piece may gain where a word, or a character of several tokens, was cut in two
NEAR = 16  # tokens within which a piece rather ends before a word than within one


class TokenLimit:
    """The limit of one model.

    Args:
        tokenizer: a Hugging Face tokenizer.
        limit: tokens of a prompt and a text together; None or infinite: there is none.
        prompt: put before each text.

    Attributes:
        at: the limit; 0 if there is none.
    """

    def __init__(self, tokenizer: Any, limit: float | None, prompt: str) -> None:
        self._tokenizer, self._prompt = tokenizer, prompt
        self.at = 0 if limit is None or not math.isfinite(limit) else int(limit)

    @property
    def tells_places(self) -> bool:
        """Whether the tokenizer says where in a text tokens are, which `pieces` needs."""
        return getattr(self._tokenizer, "is_fast", False)

    def exceeded(self, texts: Sequence[str]) -> np.ndarray:
        """Return which texts have more tokens than are read, (n,) bool."""
        over = np.zeros(len(texts), dtype=bool)
        if not self.at:
            return over
        # No token is shorter than a byte: of texts that cannot be too long, no token is counted.
        special = len(self._tokenizer.encode("a"))
        prompted = [self._prompt + text for text in texts]
        maybe = [i for i, text in enumerate(prompted) if len(text.encode()) + special > self.at]
        if maybe:
            ids = self._tokenizer([prompted[i] for i in maybe], truncation=False, verbose=False)["input_ids"]
            over[maybe] = [len(tokens) > self.at for tokens in ids]
        return over

    def pieces(self, text: str) -> list[tuple[str, int]]:
        """Cut a text into pieces that are read whole, with the tokens of each; needs a fast tokenizer."""
        spans = self._tokenizer(
            text, add_special_tokens=False, truncation=False, verbose=False, return_offsets_mapping=True
        )["offset_mapping"]
        around = len(self._tokenizer.encode(self._prompt))
        starts = _starts(spans, max(1, self.at - around - SPARE))
        ends = [*starts[1:], len(spans)]
        places = [0, *(spans[start][0] for start in starts[1:]), len(text)]
        return [
            (text[places[i] : places[i + 1]], ends[i] - start)
            for i, start in enumerate(starts)
            if ends[i] > start
        ]


def _starts(spans: Sequence[tuple[int, int]], size: int) -> list[int]:
    """Return the tokens that pieces of at most `size` tokens begin with, those of words if possible."""
    starts = [0]
    while len(spans) - starts[-1] > size:
        end = starts[-1] + size
        near = range(end, end - min(NEAR, size - 1), -1)
        starts.append(next((i for i in near if spans[i][0] > spans[i - 1][1]), end))
    return starts
