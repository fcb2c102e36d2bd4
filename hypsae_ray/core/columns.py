"""What a value of a user's column means, whatever file, container or dtype it came in.

A CSV knows only texts, JSON only its few types, Parquet and pandas many; one null turns a column of whole
numbers into floats. So values are compared and computed with by what they say, never by how they are stored:

- missing: None, NaN, NaT, pandas' NA, and a text in which nothing can be seen;
- a name (id, group, category): a text; 5, 5.0, Decimal(5) and "5.0" are one name, "5"; "007" is another;
- a number: any finite number, or a text that reads as one for sure; True and yes are 1, False and no are 0;
- a text: as it is.

Every function gives values and, for each one that cannot be used, a reason that shows it. A missing value has
the reason MISSING: whether that is bad depends on the column.
"""

import datetime
import math
import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Decimals = Literal[".", ","]
MISSING = "missing"
_SHOWN = 40
_EXACT = 2**53  # above it a float64 does not hold every whole number
_TRUTH = {"true": True, "false": False, "yes": True, "no": False}
# White space, controls, and what Unicode draws nothing for: format characters, variation selectors, the
# Hangul fillers, the Khmer inherent vowels, the blank of Braille.
_VISIBLE = re.compile(
    "[^\\s\\x00-\\x1f\\x7f-\\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_WHOLE_FLOAT = re.compile(r"([+-]?(?:0|[1-9][0-9]*))\.0+")  # how pandas writes 5 where a column has a null
_LARGE_FLOAT = re.compile(r"[+-]?[0-9](?:\.[0-9]+)?[eE]\+[0-9]+")  # how R and pandas write 100000 and above
_PLAIN = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?")


@dataclass(frozen=True)
class Typed:
    """A column with its meaning.

    Attributes:
        values: (n,) float64 for numbers, else str or None; NaN or None where a value cannot be used.
        reasons: (n,) why not, "" where it can; indexed as the column was.
    """

    values: npt.NDArray[Any]
    reasons: "pd.Series[str]"

    @property
    def missing(self) -> Bools:
        """Which values are missing, (n,)."""
        return (self.reasons == MISSING).to_numpy(bool)

    @property
    def bad(self) -> Bools:
        """Which values are there but cannot be used, (n,)."""
        return ((self.reasons != "") & (self.reasons != MISSING)).to_numpy(bool)


def is_missing(value: Any) -> bool:
    r"""Tell whether a value says nothing.

    >>> [is_missing(value) for value in (None, float("nan"), pd.NA, "", " \u200b", 0, False, "NA")]
    [True, True, True, True, True, False, False, False]
    """
    if isinstance(value, str):
        return not _VISIBLE.search(value)
    if isinstance(value, Decimal):
        return value.is_nan()
    return value is None or value is pd.NA or value is pd.NaT or (_is_float(value) and math.isnan(value))


def shown(value: Any) -> str:
    """Return a value as a message shows it: quoted, on one line, cut after 40 characters."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def names(column: "pd.Series[Any]") -> Typed:
    """Return the names of ids, groups or categories: equal values have equal names in every format.

    >>> values = [5, 5.0, "5.0", Decimal("5"), " a ", "007", True, None, [1]]
    >>> names(pd.Series(values, dtype=object)).values.tolist()
    ['5', '5', '5', '5', 'a', '007', 'True', None, None]
    """
    return _typed(column, _name, object, None)


def numbers(column: "pd.Series[Any]", decimal: Decimals = ".") -> Typed:
    """Return the numbers of a column as float64; True and yes are 1, False and no are 0.

    Words such as yes stand for numbers only where the column holds nothing but them and 0 and 1.

    Args:
        column: any values.
        decimal: the decimal mark of numbers that are written as texts. The other mark may stand between
            groups of three digits.

    >>> numbers(pd.Series([5, "1,234.5", Decimal("0.5"), None, "€ 3"], dtype=object)).values.tolist()
    [5.0, 1234.5, 0.5, nan, nan]
    """
    if column.dtype.kind in "biuf":
        values = column.to_numpy(np.float64, na_value=np.nan)
        reasons = pd.Series("", index=column.index, dtype=object)
        reasons[np.isnan(values)] = MISSING
        reasons[np.isinf(values)] = "inf is not a finite number"
        return Typed(np.where(np.isfinite(values), values, np.nan), reasons)
    typed = _typed(column, lambda value: _number(value, decimal), np.float64, np.nan)
    words = column.map(lambda value: isinstance(value, str) and _word(value) in _TRUTH).to_numpy(bool)
    if words.any() and not np.isin(typed.values[(typed.reasons == "").to_numpy(bool)], (0, 1)).all():
        typed.values[words] = np.nan
        typed.reasons[words] = [f"{shown(value)} is not a number" for value in column[words]]
    return typed


def texts(column: "pd.Series[Any]") -> Typed:
    """Return the texts of a column, unchanged.

    >>> texts(pd.Series(["fine", " ", None, 5], dtype=object)).reasons.tolist()
    ['', 'missing', 'missing', '5 is not a text']
    """
    return _typed(column, _text, object, None)


def _typed(column: "pd.Series[Any]", read: Any, dtype: Any, nothing: Any) -> Typed:
    """Read every value by `read`, which raises ValueError with the reason where it cannot be used."""
    values = np.full(len(column), nothing, dtype=dtype)
    reasons = np.full(len(column), "", dtype=object)
    for i, value in enumerate(column.tolist()):
        if is_missing(value):
            reasons[i] = MISSING
            continue
        try:
            values[i] = read(value)
        except ValueError as error:
            reasons[i] = str(error)
    return Typed(values, pd.Series(reasons, index=column.index, dtype=object))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a text")
    if not _is_encodable(value):
        raise ValueError("the text holds a lone surrogate, which is not Unicode text")
    return value


def _name(value: Any) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return _name_in_text(value)
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float | Decimal):
        return _name_of_number(value)
    if isinstance(value, pd.Timestamp | datetime.datetime):
        return value.isoformat(sep=" ").removesuffix(" 00:00:00")  # as pandas writes dates into a CSV
    if isinstance(value, list | tuple | dict | set | np.ndarray):
        raise ValueError(f"{shown(value)} is not one name")
    return str(value)


def _name_in_text(text: str) -> str:
    text = unicodedata.normalize("NFC", _stripped(text))
    if whole := _WHOLE_FLOAT.fullmatch(text):
        text = str(int(whole[1]))
    elif _LARGE_FLOAT.fullmatch(text):
        return _name_of_number(float(text))
    if text.lower() in ("true", "false"):
        return text.lower().capitalize()
    return text.encode(errors="replace").decode()


def _name_of_number(value: float | Decimal) -> str:
    if isinstance(value, int):
        return str(value)
    if value != value // 1:  # also an infinite one
        return str(float(value))
    if isinstance(value, float) and abs(value) > _EXACT:
        raise ValueError(
            f"{value!r} was stored as a float, which no longer tells such large ids apart: use texts"
        )
    return str(int(value))


def _number(value: Any, decimal: Decimals) -> float:
    if isinstance(value, str):
        return _number_in_text(value, decimal)
    if isinstance(value, bool | int | float | Decimal | np.bool_ | np.integer | np.floating):
        number = float(value)
        if math.isfinite(number):
            return number
        raise ValueError(f"{shown(value)} is not a finite number")
    raise ValueError(f"{shown(value)} is not a number")


def _number_in_text(value: str, decimal: Decimals) -> float:
    word = _word(value)
    if word in _TRUTH:
        return float(_TRUTH[word])
    text = word.replace("−", "-")
    if decimal == ",":
        text = text.translate(str.maketrans(",.", ".,"))
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"{shown(value)} is not a number")
    number = float(text)
    if math.isfinite(number):
        return number
    raise ValueError(f"{shown(value)} is not a finite number")


def _word(text: str) -> str:
    return _stripped(text).lower()


def _stripped(text: str) -> str:
    """Return a text without what cannot be seen at its ends."""
    first = _VISIBLE.search(text)
    if first is None:
        return ""
    last = len(text)
    while not _VISIBLE.match(text[last - 1]):
        last -= 1
    return text[first.start() : last]


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_float(value: Any) -> bool:
    return isinstance(value, float | np.floating)
