"""CSV: which delimiter, what the header says, and records that are what their writer meant.

Quotes are read strictly (RFC 4180): a cell that a quote opens ends at a quote before a delimiter or a line
end, and quotes within it are doubled. A quote within a cell that none opens is a letter like others.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import IO

import pandas as pd

from hypsae_ray.data.files.find import DataFile
from hypsae_ray.data.files.names import find_name
from hypsae_ray.data.files.stray_quotes import find_swallowed
from hypsae_ray.data.files.text import SETTING, Dialect, open_text
from hypsae_ray.errors import InputError

DELIMITERS = (",", ";", "\t", "|")
DELIMITER_SETTING = "data.delimiter (of hypsae annotate: --delimiter)"
_LINES = 200  # looked at for the delimiter
_NO_DELIMITER = "\uffff"  # of one column: stands in no text
_NAMED = re.compile(r'"?sep=(.)"?\s*$', re.IGNORECASE)  # what Excel reads and writes as a first line
_LONGEST = 2**31 - 1  # characters of a cell; the csv module stops at 131,072, books are longer


def find_delimiter(file: DataFile, encoding: str) -> str | None:
    """Return the delimiter of a file: as set, as its first line or ending says, or as its header has it."""
    if file.delimiter is not None:
        return file.delimiter
    with open_text(file, encoding) as text:
        lines = list(islice(text, _LINES))
    if named := _NAMED.match(lines[0] if lines else ""):
        return named[1]
    return "\t" if file.ending == ".tsv" else tell_delimiter(lines)


def tell_delimiter(lines: Sequence[str]) -> str | None:
    """Return what parts the header into cells; where several signs do, the one that the rows agree with.

    >>> tell_delimiter(["text;stars (1,2,3)", "good, cheap;3"]), tell_delimiter(["text", "good, cheap"])
    (';', None)
    """
    csv.field_size_limit(_LONGEST)
    fits = {}
    for delimiter in DELIMITERS:
        widths = [len(cells) for cells in csv.reader(lines, delimiter=delimiter) if cells]
        if widths and widths[0] > 1:
            fits[delimiter] = (widths.count(widths[0]) / len(widths), widths[0])
    return max(fits, key=lambda delimiter: fits[delimiter]) if fits else None


def read(
    file: DataFile, dialect: Dialect, columns: Sequence[str], rows_per_frame: int
) -> Iterator[pd.DataFrame]:
    """Yield frames of a file's rows; an empty cell is null."""
    with open_text(file, dialect.encoding) as text:
        records = _Records(file, dialect, text)
        there = Counter(records.names)
        how = f" ({dialect}; {SETTING} and {DELIMITER_SETTING} set them)"
        at = {name: records.names.index(find_name(file, name, there, how)) for name in columns if there}
        while rows := records.take(rows_per_frame):
            values = {name: [cells[index] or None for cells in rows] for name, index in at.items()}
            yield pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in values.items()})


def columns_in(file: DataFile, dialect: Dialect) -> Counter[str]:
    """Return how often each name stands in the header, without blanks around it."""
    with open_text(file, dialect.encoding) as text:
        return Counter(name.strip() for name in _Records(file, dialect, text).names)


class _Records:
    """The records of a CSV below its header.

    Attributes:
        names: the cells of the header, without empty ones at its end.
    """

    def __init__(self, file: DataFile, dialect: Dialect, text: IO[str]) -> None:
        csv.field_size_limit(_LONGEST)
        self._file, self._delimiter = file, dialect.delimiter or _NO_DELIMITER
        self._lines: list[str] = []  # of the last record
        self._line = self._row = 0  # the last ones read; row 0 is the header
        first = text.readline()
        if _NAMED.match(first):
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
        swallowed = find_swallowed(rows, spans, self._delimiter)
        if swallowed is not None:
            self._row, self._lines, self._line = first + swallowed, spans[swallowed], ends[swallowed]
            raise self._refusal(
                f"a quote opens a cell that runs to line {self._line}, and each line in it looks like a row "
                "of its own; close or double the quote; save texts that do look like this as JSONL or Parquet"
            )
        return rows

    def _check_width(self, cells: list[str]) -> None:
        """Refuse a row that is too short or too long; empty cells at its end are none."""
        width = len(self.names)
        if len(cells) < width or any(map(str.strip, cells[width:])):
            raise self._refusal(
                f"{len(cells)} cells where the header has {width}; a cell that holds the delimiter "
                f"{self._delimiter!r} stands in double quotes"
            )

    def _refusal(self, why: str) -> InputError:
        """Return an error about the last record."""
        line = self._line - max(len(self._lines), 1) + 1
        place = f"row {self._row}" if self._row else "the header"
        shown = "".join(self._lines[:1]).strip()[:60]
        return InputError(f"{self._file.path}: {place} (line {line}): {why}\n  {shown}")


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
