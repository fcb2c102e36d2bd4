"""CSV: which delimiter, what the header says, and rows that are what their writer meant.

Quotes are read strictly (RFC 4180): a cell that a quote opens ends at a quote before a delimiter or a line
end, and quotes within it are doubled. A quote within a cell that none opens is a letter like others.

Two stray quotes, many rows apart, can open and close one long cell that fits the grammar by chance. Such a
row is recognised by its lines: each has as many cells as the header, and the values in columns of ids,
numbers, dates or a few words have the shapes of those in other rows. Lines of a real text do not do all this.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import IO

import pandas as pd

from hypsae_ray.data.files.encoding import SETTING, Dialect, open_text
from hypsae_ray.data.files.find import DataFile
from hypsae_ray.errors import InputError

DELIMITERS = (",", ";", "\t", "|")
DELIMITER_SETTING = "data.delimiter (of hypsae annotate: --delimiter)"
_LINES = 200  # looked at for the delimiter
_NO_DELIMITER = "\uffff"  # for one column: no text holds it
_SEP_LINE = re.compile(r'"?sep=(.)"?\s*$', re.IGNORECASE)  # what Excel reads and writes as a first line
_LONGEST = 2**31 - 1  # characters of a cell; the csv module stops at 131,072, books are longer
_NUMBER = re.compile(r"\d+")
_MIN_EXAMPLES, _MAX_EXAMPLES = 3, 1_000  # rows that show the shapes of a column's values
_MAX_SHAPES = 20
_MIN_MATCHES = 2  # one number in the right column may be chance: "took a while, 3"

Shapes = dict[int, set[str]]  # by column


def find_delimiter(file: DataFile, encoding: str) -> str | None:
    """Return the delimiter of a file: as set, as its first line or ending says, or as its header has it."""
    if file.delimiter is not None:
        return file.delimiter
    with open_text(file, encoding) as text:
        lines = list(islice(text, _LINES))
    if named := _SEP_LINE.match(lines[0] if lines else ""):
        return named[1]
    return "\t" if file.ending == ".tsv" else guess_delimiter(lines)


def guess_delimiter(lines: Sequence[str]) -> str | None:
    """Return what parts the header into cells; where several signs do, the one that the rows agree with.

    >>> guess_delimiter(["text;stars (1,2,3)", "good, cheap;3"]), guess_delimiter(["text", "good, cheap"])
    (';', None)
    """
    csv.field_size_limit(_LONGEST)
    agreement = {}
    for delimiter in DELIMITERS:
        widths = [len(cells) for cells in csv.reader(lines, delimiter=delimiter) if cells]
        if widths and widths[0] > 1:
            agreement[delimiter] = (widths.count(widths[0]) / len(widths), widths[0])
    return max(agreement, key=lambda delimiter: agreement[delimiter]) if agreement else None


def read(
    file: DataFile, dialect: Dialect, columns: Sequence[str], rows_per_frame: int
) -> Iterator[pd.DataFrame]:
    """Yield frames of a file's rows; an empty cell is null."""
    with open_text(file, dialect.encoding) as text:
        records = _Records(file, dialect, text)
        counts = Counter(records.names)
        hint = f" ({dialect}; {SETTING} and {DELIMITER_SETTING} set them)"
        # An empty file has no header, and no rows.
        at = {name: records.names.index(file.find_column(name, counts, hint)) for name in columns if counts}
        while rows := records.take(rows_per_frame):
            yield pd.DataFrame(
                {name: [cells[i] or None for cells in rows] for name, i in at.items()}, dtype=object
            )


def columns_in(file: DataFile, dialect: Dialect) -> Counter[str]:
    """Return how often the header has each name, without blanks around it."""
    with open_text(file, dialect.encoding) as text:
        return Counter(name.strip() for name in _Records(file, dialect, text).names)


class _Records:
    """The records of a CSV below its header, and in `names` its cells, without empty ones at its end."""

    def __init__(self, file: DataFile, dialect: Dialect, text: IO[str]) -> None:
        csv.field_size_limit(_LONGEST)
        self._file, self._delimiter = file, dialect.delimiter or _NO_DELIMITER
        self._lines: list[str] = []  # of the last record
        self._line = self._row = 0  # the last ones read; row 0 is the header
        first = text.readline()
        if _SEP_LINE.match(first):
            self._line, first = 1, text.readline()
        self._reader = csv.reader(
            self._keep(chain([first], text)),
            delimiter=self._delimiter,
            strict=True,
            skipinitialspace=_is_padded(first, self._delimiter),
        )
        self.names: list[str] = []
        self.names = self._next() or []
        while self.names and not self.names[-1].strip():
            self.names.pop()

    def _keep(self, lines: Iterator[str]) -> Iterator[str]:
        for line in lines:
            self._line += 1
            self._lines.append(line)
            yield line

    def _next(self) -> list[str] | None:
        """Return the cells of the next record that is no blank line; None at the end."""
        while True:
            self._lines.clear()
            try:
                cells = next(self._reader, None)
            except csv.Error as error:
                self._row += bool(self.names)
                raise self._refusal(_why(error, self._line)) from None
            if cells is None or len(cells) > 1 or (cells and (cells[0].strip() or len(self.names) == 1)):
                return cells

    def take(self, n_rows: int) -> list[list[str]]:
        """Return the next rows, each with a cell for each name.

        Raises:
            InputError: a row has more or fewer cells, or a quote has swallowed rows.
        """
        rows: list[list[str]] = []
        spans: dict[int, list[str]] = {}
        ends: dict[int, int] = {}
        first = self._row + 1
        while len(rows) < n_rows and (cells := self._next()) is not None:
            self._row += 1
            if len(cells) != len(self.names):
                self._check_width(cells)
            if len(self._lines) > 1:
                spans[len(rows)], ends[len(rows)] = list(self._lines), self._line
            rows.append(cells)
        swallowed = _find_swallowed(rows, spans, self._delimiter)
        if swallowed is not None:
            self._row, self._lines, self._line = first + swallowed, spans[swallowed], ends[swallowed]
            raise self._refusal(
                f"a quote opens a cell that runs to line {self._line}, and each line in it looks like a row "
                "of its own; close or double the quote; save texts that do look like this as JSONL or Parquet"
            )
        return rows

    def _check_width(self, cells: list[str]) -> None:
        """Refuse a row that is too short or too long; empty cells at its end do not count."""
        width = len(self.names)
        if len(cells) < width or any(map(str.strip, cells[width:])):
            raise self._refusal(
                f"{len(cells)} cells where the header has {width}; a cell that holds the delimiter "
                f"{self._delimiter!r} stands in double quotes"
            )

    def _refusal(self, why: str) -> InputError:
        """Return an error about the last record."""
        line = self._line - max(len(self._lines), 1) + 1
        where = f"row {self._row}" if self._row else "the header"
        shown = "".join(self._lines[:1]).strip()[:60]
        return InputError(f"{self._file.path}: {where} (line {line}): {why}\n  {shown}")


def _is_padded(header: str, delimiter: str) -> bool:
    """Tell whether a blank follows each delimiter, as in: id, text, stars."""
    names = next(csv.reader([header], delimiter=delimiter), [])
    return len(names) > 1 and all(name.startswith(" ") for name in names[1:])


def _why(error: csv.Error, line: int) -> str:
    advice = 'in a cell in quotes, write each quote of the text twice ("")'
    if "unexpected end of data" in str(error):
        return f"a quote opens a cell that is never closed; {advice}"
    if "expected after" in str(error):
        return f"a quote opens a cell, and text follows the quote on line {line} that closes it; {advice}"
    return str(error)


def _find_swallowed(
    rows: Sequence[Sequence[str]], spans: Mapping[int, Sequence[str]], delimiter: str
) -> int | None:
    """Return the position of the first row that is made of several, if there is one.

    `spans` has the lines of the rows that take more than one, by position of the row.
    """
    width = len(rows[0]) if rows else 0
    suspects = [n for n, lines in spans.items() if all(line.count(delimiter) == width - 1 for line in lines)]
    if width < 2 or not suspects:
        return None
    examples = list(islice((cells for n, cells in enumerate(rows) if n not in spans), _MAX_EXAMPLES))
    if len(examples) < _MIN_EXAMPLES:  # nearly all rows are swallowed: their lines show what is regular
        inside = (line.rstrip("\r\n").split(delimiter) for n in suspects for line in spans[n][1:-1])
        examples = list(islice(inside, _MAX_EXAMPLES))
    shapes = _regular_columns(examples)
    return next((n for n in suspects if _is_several(rows[n], spans[n], delimiter, shapes)), None)


def _regular_columns(rows: Sequence[Sequence[str]]) -> Shapes:
    """Return the shapes of the values in the columns that have few of them."""
    if len(rows) < _MIN_EXAMPLES:
        return {}
    most = min(_MAX_SHAPES, 2 + len(rows) // 10)
    shapes = {at: {_shape(cells[at]) for cells in rows} for at in range(len(rows[0]))}
    return {at: found for at, found in shapes.items() if len(found) <= most}


def _shape(value: str) -> str:
    """Return a value with 9 for each number.

    >>> [_shape(value) for value in ("user_17", "-3.25", "2024-01-31", " yes ")]
    ['user_9', '-9.9', '9-9-9', 'yes']
    """
    return _NUMBER.sub("9", value.strip())


def _is_several(cells: Sequence[str], lines: Sequence[str], delimiter: str, shapes: Shapes) -> bool:
    """Tell whether each line of a row looks like a row where it holds text of the long cell."""
    long = [at for at, cell in enumerate(cells) if "\n" in cell or "\r" in cell]
    matches = 0
    for number, line in enumerate(lines):
        parts = line.rstrip("\r\n").split(delimiter)
        start = long[0] + 1 if number == 0 else 0
        end = long[-1] if number == len(lines) - 1 else len(parts)
        inner = [(at, _shape(parts[at])) for at in range(start, end) if at in shapes]
        filled = sum(shape != "" for _, shape in inner)
        if not all(shape in shapes[at] for at, shape in inner) or (inner and not filled):
            return False
        matches += filled
    return matches >= _MIN_MATCHES
