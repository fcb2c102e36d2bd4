"""What one value of a user's data means, whatever type it came as; `columns` reads columns by it."""

import datetime
import math
import re
import unicodedata
from decimal import Decimal
from numbers import Real
from typing import Any, Literal, cast

import numpy as np
import pandas as pd

Decimals = Literal[".", ","] | None
MISSING = "missing"
COMMA = "(is the comma a decimal mark?)"
_SHOWN = 40
# Kinds of values, as tuples: a union that is written where it is used is made anew for each value.
_FLOATS: Any = (float, np.floating)
_TIMES: Any = (np.datetime64, np.timedelta64)
_NUMBERS: Any = (Real, Decimal)
_LISTS: Any = (list, tuple, np.ndarray)
_MANY: Any = (list, tuple, dict, set, np.ndarray)
_EXACT_BITS = {2: 11, 4: 24}  # of floats of 2 and 4 bytes; above 2 ** bits, whole numbers are lost
_TRUTH = {"true": 1.0, "t": 1.0, "yes": 1.0, "y": 1.0, "false": 0.0, "f": 0.0, "no": 0.0, "n": 0.0}
# White space, controls, and what Unicode draws nothing for: format characters, variation selectors, the
# Hangul fillers, the Khmer inherent vowels, the blank of Braille.
_INVISIBLE = (
    "\\s\\x00-\\x1f\\x7f-\\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
)
_VISIBLE = re.compile(f"[^{_INVISIBLE}]")
_CORE = re.compile(f"[^{_INVISIBLE}](?:.*[^{_INVISIBLE}])?", re.DOTALL)
# Names that are as they stand: ASCII, nothing around them, and neither a float, a date nor a truth value.
_PLAIN_NAME = re.compile(r"(?:0|[1-9][0-9]*|(?![TtFf])[A-Za-z_](?:[ -~]*[!-~])?)")
_WHOLE_FLOAT = re.compile(r"[+-]?(?:0|[1-9][0-9]*)\.0+")  # how pandas writes 5 where a column has a null
_LARGE_FLOAT = re.compile(
    r"[+-]?[0-9](?:\.[0-9]+)?[eE]\+[0-9]{1,3}"
)  # how R and pandas write 100000 and above
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}[0-9:.]*(?:Z|[+-][0-9]{2}:?[0-9]{2})?")
_ROUNDED = Decimal(10) ** 11  # from here on Excel shows a whole number as 1.23457E+11
_PLAIN = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# Groups of three digits between commas, apostrophes or spaces; with commas, also groups of two as in India.
_GROUPED = re.compile(
    r"[+-]?(?:[1-9][0-9]{0,2}([,'’ \u00a0\u2009\u202f])[0-9]{3}(?:\1[0-9]{3})*"
    r"|[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3})"
    r"(?:\.[0-9]*)?"
)
_DOUBTFUL = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9.]*,[0-9]*")


def is_missing(value: Any) -> bool:
    r"""Tell whether a value is missing.

    >>> [is_missing(value) for value in (None, float("nan"), pd.NA, "", " \u200b", 0, False, "NA")]
    [True, True, True, True, True, False, False, False]
    """
    if isinstance(value, str):
        return _VISIBLE.search(value) is None
    if isinstance(value, _FLOATS):
        return bool(value != value)
    if isinstance(value, Decimal):
        return value.is_nan()
    if isinstance(value, _TIMES):
        return bool(np.isnat(value))
    return value is None or value is pd.NA or value is pd.NaT


def shown(value: Any) -> str:
    """Return a value as a message shows it: quoted, on one line, cut after 40 characters.

    >>> [shown(value) for value in ("4,5", Decimal("0.5"), np.int64(3), None)]
    ["'4,5'", '0.5', '3', 'null']
    """
    if isinstance(value, str):
        text = repr(str(value[: _SHOWN + 1]))
    elif is_missing(value):
        text = "null"
    elif isinstance(value, _LISTS):
        text = str(_first(value))
    else:
        text = str(_python(value))
    return " ".join(text.split()) if len(text) <= _SHOWN else f"{' '.join(text[: _SHOWN - 1].split())}…"


def _first(values: Any) -> Any:
    """Return the first values of a list or array: to write all numbers of a vector takes a millisecond."""
    return np.atleast_1d(values)[:_SHOWN].tolist() if hasattr(values, "tolist") else values[:_SHOWN]


def stripped(text: str) -> str:
    r"""Return a text without what cannot be seen at its ends.

    >>> stripped("\ufeff a b\u200b\n")
    'a b'
    """
    core = _CORE.search(text)
    return core[0] if core else ""


def says_truth(value: Any) -> bool:
    """Tell whether a value is a truth value, or a word for one.

    >>> [says_truth(value) for value in (True, "yes", "F", 1, "1", "maybe")]
    [True, True, True, False, False, False]
    """
    return stripped(value).lower() in _TRUTH if isinstance(value, str) else isinstance(value, bool | np.bool_)


def read_text(value: Any) -> str:
    """Return a text as it is.

    Raises:
        ValueError: it is no text; the reason is the message.
    """
    _require(value)
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds a lone surrogate, which is not Unicode text") from None
    return value


def read_name(value: Any, bits: int = 53) -> str:
    """Return the name of a value: equal values have equal names; `bits` are the `exact_bits` of its column.

    Raises:
        ValueError: it has none; the reason is the message.
    """
    if isinstance(value, str) and _PLAIN_NAME.fullmatch(value):
        return value
    if isinstance(value, int):  # also True and False
        return str(value)
    _require(value)
    if isinstance(value, str):
        return _name_in_text(value)
    if isinstance(value, _FLOATS):
        return _name_of_float(
            value, exact_bits(cast(Any, value).dtype) if isinstance(value, np.floating) else bits
        )
    value = _python(value)
    if isinstance(value, Decimal):
        return _name_of_decimal(value)
    if isinstance(value, datetime.datetime):
        return _name_of_time(value)
    if isinstance(value, bytes):
        return _name_in_text(value.decode(errors="backslashreplace"))
    if isinstance(value, _MANY):
        raise ValueError(f"{shown(value)} is not one name")
    return str(value)


def _name_in_text(text: str) -> str:
    text = unicodedata.normalize("NFC", stripped(text))
    if _WHOLE_FLOAT.fullmatch(text):
        return _name_of_float(float(text), 53)
    if _LARGE_FLOAT.fullmatch(text):
        value = Decimal(text)
        if "E" in text and abs(value) >= _ROUNDED:
            raise ValueError(
                f"{text} was rounded by a spreadsheet, which no longer tells ids apart: use texts"
            )
        return _name_of_float(float(value), 53)
    if _TIME.fullmatch(text):
        return _name_of_time(text)
    if text.lower() in ("true", "false"):
        return text.lower().capitalize()
    return text.encode(errors="backslashreplace").decode()


def _name_of_float(value: float, bits: int) -> str:
    if not value.is_integer():  # an infinite one is not, either
        return str(value)
    if abs(value) >= 2**bits:
        raise ValueError(
            f"{value} was stored as a float, which no longer tells such large ids apart: use texts"
        )
    return str(int(value))


def _name_of_decimal(value: Decimal) -> str:
    if value.is_finite() and value == value.to_integral_value():
        return str(int(value))
    return str(float(value))


def _name_of_time(value: "datetime.datetime | str") -> str:
    """Return a time as pandas writes it into a CSV: midnight is the date alone."""
    try:
        return pd.Timestamp(value).isoformat(sep=" ").removesuffix(" 00:00:00")
    except ValueError:
        return str(value)


def read_number(value: Any, decimal: Decimals) -> float:
    """Return a finite number; `decimal` is explained in `columns.numbers`.

    Raises:
        ValueError: it is not certainly one; the reason is the message.
    """
    if isinstance(value, str) and decimal != "," and _PLAIN.fullmatch(value):
        return _finite(float(value), value)
    _require(value)
    if isinstance(value, str):
        return _number_in_text(value, decimal)
    value = _python(value)
    if not isinstance(value, _NUMBERS):
        raise ValueError(f"{shown(value)} is not a number")
    try:
        return _finite(float(value), value)
    except OverflowError:
        return _finite(math.inf, value)


def _finite(number: float, value: Any) -> float:
    if not math.isfinite(number):
        raise ValueError(f"{shown(value)} is not a finite number")
    return number


def _number_in_text(value: str, decimal: Decimals) -> float:
    text = stripped(value).replace("−", "-")
    if (truth := _TRUTH.get(text.lower())) is not None:
        return truth
    if decimal == ",":
        text = text.translate({ord(","): ".", ord("."): ","})
    elif decimal is None and _DOUBTFUL.fullmatch(text):
        raise ValueError(f"{shown(value)} is {text.replace(',', '')} or {text.replace(',', '.')} {COMMA}")
    if _GROUPED.fullmatch(text):
        text = re.sub(r"[^0-9.+-]", "", text)
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"{shown(value)} is not a number{_hint(text, decimal)}")
    return _finite(float(text), value)


def _hint(text: str, decimal: Decimals) -> str:
    if decimal == ",":
        return " with a decimal comma"
    return f" {COMMA}" if _DECIMAL_COMMA.fullmatch(text) else ""


def exact_bits(dtype: Any) -> int:
    """Return the bits of whole numbers that a column keeps; 53 where its values are Python's floats."""
    return _EXACT_BITS.get(dtype.itemsize, 53) if dtype.kind == "f" else 53


def _require(value: Any) -> None:
    if is_missing(value):
        raise ValueError(MISSING)


def _python(value: Any) -> Any:
    """Return a numpy scalar as Python's or pandas' own type; other values as they are."""
    if isinstance(value, np.datetime64):
        return pd.Timestamp(cast(Any, value))
    if isinstance(value, np.timedelta64):
        return pd.Timedelta(cast(Any, value))
    return cast(Any, value).item() if isinstance(value, np.generic) else value
