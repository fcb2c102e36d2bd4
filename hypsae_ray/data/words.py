"""Words and tokens of a text: counted, estimated, cut off; and how many texts were cut.

In scripts that put no spaces between words (Chinese, Japanese, Thai), each character counts as a word, and
as a token. By the tokenizer of MiniLM, Chinese and Japanese have 1.0 tokens a character, measured on reviews;
by that of SmolLM2, which has learnt little of either, 1.8.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal

# Thai and Lao, Tibetan, Burmese, Khmer, kana and Bopomofo, Han, kana of half width.
UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u312f\u31a0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff"
)
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
BYTES_PER_TOKEN = 4
_UNSPACED = re.compile(f"[{UNSPACED}]")


def count_unspaced(text: str) -> int:
    """Return how many characters of a text are of a script without spaces."""
    return len(_UNSPACED.findall(text))


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text where no tokenizer is at hand: a quarter of its bytes in UTF-8 elsewhere.

    >>> estimate_tokens("The food was good."), estimate_tokens("菜很好吃")
    (4, 4)
    """
    rest, unspaced = _UNSPACED.subn("", text)
    return unspaced + len(rest.encode(errors="replace")) // BYTES_PER_TOKEN


def truncate_words(text: str, n: int) -> str:
    """Return the text unchanged if it has up to n words, else its first n words and an ellipsis.

    >>> truncate_words("one  two three", 2), truncate_words("菜很好吃", 2), truncate_words("กำลัง", 4)
    ('one  two …', '菜很 …', 'กำลั …')
    """
    words = list(islice(WORD.finditer(text), n + 1))
    if len(words) <= n:
        return text
    end = end_of_word(text, words[n - 1].end())
    return text if end == len(text) else f"{text[:end]} …"


def end_of_word(text: str, end: int) -> int:
    """Return where a word that seems to end at `end` does, with the marks (accents, vowels above) on it."""
    while end < len(text) and unicodedata.category(text[end]).startswith("M"):
        end += 1
    return end


@dataclass(frozen=True)
class Cut:
    """How many texts were cut, of how many, at so many tokens or words."""

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
