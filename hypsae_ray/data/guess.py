"""A first guess at which columns of a user's data are the text, the target, the group and the id.

The text is the column with the most words. A target holds numbers; names such as "stars" or "label" come
first, and whole numbers under a name such as "likes" are counts. A group repeats over rows and has the name
of one, or of an id.
"""

import re
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from hypsae_ray.data.columns import Typed, names, numbers, texts
from hypsae_ray.data.values import Decimals
from hypsae_ray.data.words import WORD
from hypsae_ray.errors import InputError

MIN_WORDS = 3.0  # of a text, on average
MIN_GROUPS = 20
_DATES_READ = 100
MAX_SHARE = 0.98  # of distinct values among the rows: above it, hardly any value repeats
_TEXT = {
    "text", "review", "body", "content", "comment", "message", "post", "abstract", "description", "answer",
    "kommentar", "antwort", "beschreibung", "nachricht",
}  # fmt: skip
_TARGET = (
    "target", "label", "y", "outcome", "score", "rating", "stars", "grade", "clicks", "ctr", "votes", "vote",
    "likes", "engagement", "sales", "price", "sentiment", "preference", "winner", "bewertung", "sterne",
    "umsatz",
)  # fmt: skip
_COUNT = {
    "count", "counts", "clicks", "votes", "likes", "views", "shares", "comments", "replies", "retweets",
    "downloads", "visits", "purchases", "orders", "citations", "complaints", "n",
}  # fmt: skip
_GROUP = {
    "group", "author", "user", "document", "doc", "article", "business", "product", "speaker", "customer",
    "subject", "patient", "thread", "page", "site", "restaurant", "school", "company", "writer", "respondent",
    "shop", "store", "hotel", "client", "account", "session", "kunde", "autor", "firma", "filiale", "nutzer",
}  # fmt: skip
_NO_TARGET = {
    "id", "index", "unnamed", "row", "date", "time", "timestamp", "year", "month", "day", "zip", "lat", "lon",
    "datum", "jahr", "plz", "nr",
}  # fmt: skip
_DATE = re.compile(r"\d{1,4}([-./])\d{1,2}\1\d{1,4}([T ].*)?")


@dataclass(frozen=True)
class Guess:
    """Columns of a dataset, by name; None: there is none."""

    text: str
    target: str
    group: str | None  # which rows belong together
    id: str | None  # one name per row
    decimal: Decimals  # the decimal mark that the target's numbers need; None: the default reads them
    counts: bool  # whether the target looks like counts
    words: float  # of a text, the median
    bad_rows: int  # without a usable text or target
    other_targets: tuple[str, ...] = ()  # other columns of numbers
    other_groups: tuple[str, ...] = ()  # other columns that repeat


def guess(
    frame: pd.DataFrame, text: str | None = None, target: str | None = None, group: str | None = None
) -> Guess:
    """Guess the columns of a dataset from some of its rows, as the file has them; one that is given is taken.

    Raises:
        InputError: no column holds texts, or none numbers; the message names the columns.
    """
    words = {str(name): _words(frame[name]) for name in frame if text in (None, name)}
    text = text or _best_text(words)
    rest = [str(name) for name in frame if name != text]
    read = {
        name: found
        for name in ([target] if target else rest)
        if (found := _read_numbers(frame[name])) is not None
    }
    ranks = {name: _target_rank(name, found.values) for name, (found, _) in read.items()}
    targets = [target] if target in read else sorted(read, key=lambda name: ranks[name])
    if not targets:
        where = f"column {target!r} holds" if target else f"the other columns ({', '.join(rest)}) hold"
        raise InputError(f"no target: {where} no numbers that differ; --target COLUMN names another one")
    target = targets[0]
    groups = [name for name in rest if name != target and _repeats(frame[name])]
    named = [name for name in groups if _parts(name) & (_GROUP | {"id"})]
    sizes = {name: len(set(names(frame[name]).values)) for name in named}
    group = group or min(sizes, key=lambda name: sizes[name], default=None)
    numbers_read, decimal = read[target]
    bad = ~(texts(frame[text]).usable & numbers_read.usable)
    return Guess(
        text,
        target,
        group,
        next((name for name in rest if name not in (target, group) and _is_id(name, frame[name])), None),
        decimal,
        _are_counts(target, numbers_read.values[numbers_read.usable]),
        float(np.nanmedian(words[text])),
        int(bad.sum()),
        tuple(name for name in targets[1:] if ranks[name] <= len(_TARGET)),
        tuple(name for name in groups if name != group),
    )


def _parts(name: str) -> set[str]:
    """Return the words that a column's name is made of.

    >>> sorted(_parts("businessId")), sorted(_parts("n_likes 2"))
    (['business', 'id'], ['2', 'likes', 'n'])
    """
    return set(re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower().replace("_", " ").replace(".", " ").split())


def _words(column: "pd.Series[Any]") -> np.ndarray:
    """Return the words of each value, (n,); NaN where it is no text."""
    read = texts(column)
    counts = [
        len(WORD.findall(value)) if ok else np.nan for value, ok in zip(read.values, read.usable, strict=True)
    ]
    return np.array(counts, dtype=np.float64)


def _best_text(words: dict[str, np.ndarray]) -> str:
    mean = {name: float(np.nansum(counts)) / max(1, len(counts)) for name, counts in words.items()}
    likely = {name: count * (3 if _parts(name) & _TEXT else 1) for name, count in mean.items()}
    best = max(likely, key=lambda name: likely[name], default=None)
    if best is None or mean[best] < MIN_WORDS:
        raise InputError(f"no column of texts among {', '.join(words)}; --text COLUMN names it")
    return best


def _read_numbers(column: "pd.Series[Any]") -> tuple[Typed, Decimals] | None:
    """Return a column of numbers, and the decimal mark that reads them; None if it holds no two numbers."""
    marks: tuple[Decimals, ...] = (None, ".", ",")
    for decimal in marks:
        read = numbers(column, decimal)
        if not read.bad.any():
            values = read.values[read.usable]
            enough = 2 * len(values) >= len(column) and len(np.unique(values)) > 1
            return (read, decimal) if enough else None
    return None


def _target_rank(name: str, values: np.ndarray) -> int:
    """Return how likely a column of numbers is the target, 0 the likeliest; what numbers rows is last."""
    parts = _parts(name)
    if parts & (_NO_TARGET | _GROUP) or (np.diff(values) > 0).all():
        return len(_TARGET) + 1
    return next((rank for rank, known in enumerate(_TARGET) if known in parts), len(_TARGET))


def _are_counts(name: str, values: np.ndarray) -> bool:
    whole = (values >= 0) & (values == np.rint(values))
    return bool(_parts(name) & _COUNT) and bool(whole.all()) and bool((values > 1).any())


def _repeats(column: "pd.Series[Any]") -> bool:
    """Tell whether a column may say which rows belong together: short names or ids that repeat, no dates."""
    read = names(column)
    found = cast("pd.Series[str]", pd.Series(read.values[read.usable]))
    if read.bad.any() or 2 * len(found) < len(column) or found.str.len().max() > 64:
        return False
    if all(_DATE.fullmatch(name) for name in found.head(_DATES_READ)):
        return False
    of_names = numbers(column).bad.any() or _parts(str(column.name)) & (_GROUP | {"id"})
    return bool(of_names and MIN_GROUPS <= found.nunique() < MAX_SHARE * len(found))


def _is_id(name: str, column: "pd.Series[Any]") -> bool:
    read = names(column)
    distinct = bool(read.usable.all()) and len(set(read.values)) == len(column)
    return distinct and bool(_parts(name) & {"id", "nr", "uuid"})
