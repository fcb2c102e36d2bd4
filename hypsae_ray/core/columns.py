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
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

T = TypeVar("T")
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Decimals = Literal[".", ","] | None
MISSING = "missing"
COMMA = "(is the comma a decimal mark?)"
_SHOWN = 40
# Kinds of values, as tuples: a union that is written where it is used is made anew for each value.
_FLOATS: Any = (float, np.floating)
_TIMES: Any = (np.datetime64, np.timedelta64)
_NUMBERS: Any = (Real, Decimal)
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
    def usable(self) -> Bools:
        """Which values can be used, (n,)."""
        return (self.reasons == "").to_numpy(bool)

    @property
    def missing(self) -> Bools:
        """Which values are missing, (n,)."""
        return (self.reasons == MISSING).to_numpy(bool)

    @property
    def bad(self) -> Bools:
        """Which values are there but cannot be used, (n,)."""
        return ~(self.usable | self.missing)


def is_missing(value: Any) -> bool:
    r"""Tell whether a value says nothing.

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
    else:
        text = str(_python(value))
    return " ".join(text.split()) if len(text) <= _SHOWN else f"{' '.join(text[: _SHOWN - 1].split())}…"


def stripped(text: str) -> str:
    r"""Return a text without what cannot be seen at its ends.

    >>> stripped("\ufeff a b\u200b\n")
    'a b'
    """
    core = _CORE.search(text)
    return core[0] if core else ""


def names(column: "pd.Series[Any]") -> Typed:
    """Return the names of ids, groups or categories: equal values have equal names in every format.

    >>> values = [5, 5.0, "5.0", Decimal("5"), " a ", "007", True, None, [1]]
    >>> names(pd.Series(values, dtype=object)).values.tolist()
    ['5', '5', '5', '5', 'a', '007', 'True', None, None]
    """
    bits = _exact_bits(column.dtype)
    values, reasons = _typed(column, lambda value: _name(value, bits))
    return _as_typed(column, np.array(values, dtype=object), reasons)


def numbers(column: "pd.Series[Any]", decimal: Decimals = ".") -> Typed:
    """Return the numbers of a column as float64; True and yes are 1, False and no are 0.

    Truth values stand for numbers only where the column holds nothing but them and 0 and 1.

    Args:
        column: any values.
        decimal: the decimal mark of numbers that are written as texts; the other mark may stand between
            groups of three digits. None: a point, but 1,234 is doubtful and cannot be used; so it is beside
            values such as 4,5.

    >>> numbers(pd.Series([5, "1,234.5", Decimal("0.5"), None, "€ 3"], dtype=object)).values.tolist()
    [5.0, 1234.5, 0.5, nan, nan]
    """
    if (stored := _stored_numbers(column)) is not None:
        values, reasons = stored, np.full(len(column), "", dtype=object)
        reasons[np.isnan(values)] = MISSING
        reasons[np.isinf(values)] = [f"{value} is not a finite number" for value in values[np.isinf(values)]]
        return _as_typed(column, np.where(np.isfinite(values), values, np.nan), reasons)
    found, reasons = _typed(column, lambda value: _number(value, decimal))
    if decimal == "." and any(COMMA in reason for reason in reasons):
        return numbers(column, None)
    values = np.array([math.nan if value is None else value for value in found], dtype=np.float64)
    if (words := _stray_words(column, values)).any():
        values[words] = np.nan
        reasons[words] = [f"{shown(value)} is not a number" for value in column[words]]
    return _as_typed(column, values, reasons)


def texts(column: "pd.Series[Any]") -> Typed:
    """Return the texts of a column, unchanged.

    >>> texts(pd.Series(["fine", " ", None, 5], dtype=object)).reasons.tolist()
    ['', 'missing', 'missing', '5 is not a text']
    """
    values, reasons = _typed(column, _text)
    return _as_typed(column, np.array(values, dtype=object), reasons)


def says_truth(value: Any) -> bool:
    """Tell whether a value is a truth value, or a word for one.

    >>> [says_truth(value) for value in (True, "yes", "F", 1, "1", "maybe")]
    [True, True, True, False, False, False]
    """
    return stripped(value).lower() in _TRUTH if isinstance(value, str) else isinstance(value, bool | np.bool_)


def _as_typed(column: "pd.Series[Any]", values: npt.NDArray[Any], reasons: npt.NDArray[Any]) -> Typed:
    return Typed(values, cast("pd.Series[str]", pd.Series(reasons, index=column.index, dtype=object)))


def _typed(column: "pd.Series[Any]", read: Callable[[Any], T]) -> tuple[list[T | None], npt.NDArray[Any]]:
    """Read every value by `read`, which raises ValueError with the reason where it cannot be used."""
    values: list[T | None] = []
    reasons = np.full(len(column), "", dtype=object)
    for i, value in enumerate(column.tolist()):
        try:
            values.append(read(value))
        except ValueError as error:
            values.append(None)
            reasons[i] = str(error)
    return values, reasons


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


def _text(value: Any) -> str:
    _require(value)
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds a lone surrogate, which is not Unicode text") from None
    return value


def _exact_bits(dtype: Any) -> int:
    """Return the bits of whole numbers that a column keeps; 53 where its values are Python's floats."""
    return _EXACT_BITS.get(dtype.itemsize, 53) if dtype.kind == "f" else 53


def _name(value: Any, bits: int) -> str:
    if isinstance(value, str) and _PLAIN_NAME.fullmatch(value):
        return value
    if isinstance(value, int):  # also True and False
        return str(value)
    _require(value)
    if isinstance(value, str):
        return _name_in_text(value)
    if isinstance(value, np.floating):
        bits = _exact_bits(cast(Any, value).dtype)
    value = _python(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _name_of_float(value, bits)
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
            f"{value!r} was stored as a float, which no longer tells such large ids apart: use texts"
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


def _stored_numbers(column: "pd.Series[Any]") -> Floats | None:
    """Return the values of a column that holds numbers only, NaN where one is missing; else None."""
    of_numbers = ("integer", "floating", "mixed-integer-float")
    if column.dtype.kind in "biuf" or (
        column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) in of_numbers
    ):
        try:
            return column.to_numpy(np.float64, na_value=np.nan)
        except OverflowError:
            return None
    return None


def _number(value: Any, decimal: Decimals) -> float:
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


def _stray_words(column: "pd.Series[Any]", values: Floats) -> Bools:
    """Return which values are truth values, if there are other numbers than 0 and 1 beside them."""
    stray = np.isin(values, (0, 1))
    if stray[~np.isnan(values)].all():
        return np.zeros(len(values), dtype=bool)
    stray[stray] = [says_truth(value) for value in column[stray].tolist()]
    return stray
