"""What a page may hold of single texts, by `report.texts`: every text on a page has come through `shown`."""

import pandas as pd

from hypsae_ray.config import TextPolicy
from hypsae_ray.data.chunks import documents_of

CUT = 200  # characters of a text that policy cut leaves
_LONGEST_WORD = 40  # what is longer is cut inside: a URL, or a script without spaces

_SENTENCES: dict[TextPolicy, str] = {
    "all": "",
    "cut": f"This page holds no more than the first {CUT} characters of a text (report.texts: cut).",
    "ids": "This page holds no text, only the ids of texts (report.texts: ids).",
    "none": "This page holds no text and no id of a single text (report.texts: none).",
}


def shown(
    texts: "pd.Series[str]", ids: "pd.Series[str]", policy: TextPolicy, *, in_parts: bool = False
) -> list[str] | None:
    """Return what a page shows of each text, in their order; None: nothing at all.

    Args:
        texts: (n,) texts.
        ids: (n,) what the user calls their rows, indexed by row_id; where it is missing (None), the number of
            the row stands for it.
        policy: `report.texts`.
        in_parts: whether a row has several texts, its chunks or the two of a pair (`data.rule` is not None).

    >>> texts, ids = pd.Series(["It rained.", "It shone."]), pd.Series(["a7", None], index=[3, 4])
    >>> [shown(texts, ids, policy) for policy in ("all", "ids", "none")]
    [['It rained.', 'It shone.'], ['a7', '4'], None]
    """
    if policy == "none":
        return None
    if policy == "ids":
        row_ids = ids.index.to_numpy()
        numbers = documents_of(row_ids) if in_parts else row_ids
        return [str(number if pd.isna(one) else one) for one, number in zip(ids, numbers, strict=True)]
    return [beginning(text) if policy == "cut" else text for text in texts]


def sentence(policy: TextPolicy) -> str:
    """Return what a page says of the texts it holds; nothing where it holds them as they are."""
    return _SENTENCES[policy]


def beginning(text: str) -> str:
    """Return the first CUT characters of a longer text, without the word that ends after them."""
    text = text.rstrip()
    if len(text) <= CUT:
        return text
    head = text[:CUT]
    words = head.rsplit(maxsplit=1)
    inside_a_word = not (head[-1].isspace() or text[CUT].isspace())
    if inside_a_word and len(words) == 2 and len(words[1]) <= _LONGEST_WORD:
        head = words[0]
    return f"{head.rstrip()} …"
