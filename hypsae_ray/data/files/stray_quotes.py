"""Rows that a stray quote swallowed, where the grammar of CSV is kept by chance.

A text that begins with a quote by accident opens a cell, and one that ends in a quote, many rows later,
closes it: one long cell, as many cells in the row as there should be. But then each line in it is a row: it
parts into as many cells as the header, and what stands in columns of ids, numbers, dates or a few words is
like what stands there in other rows. Lines of a text that somebody wrote do not do all of this.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import islice

_DIGITS = re.compile(r"\d+")
_FEWEST_EXAMPLES, _MOST_EXAMPLES = 3, 1_000
_MOST_SHAPES = 20
_FEWEST_SIGNS = 2  # one number in the right place may be chance: "took a while, 3"

Shapes = dict[int, set[str]]


def find_swallowed(
    rows: Sequence[Sequence[str]], spans: Mapping[int, Sequence[str]], delimiter: str
) -> int | None:
    """Return the number of the first row that is made of several, if there is one.

    Args:
        rows: the cells of each row.
        spans: the lines of the rows that take more than one, by number of the row.
        delimiter: what parts cells.
    """
    width = len(rows[0]) if rows else 0
    suspects = [n for n, lines in spans.items() if all(line.count(delimiter) == width - 1 for line in lines)]
    if width < 2 or not suspects:
        return None
    others = (cells for n, cells in enumerate(rows) if n not in spans)
    examples = list(islice(others, _MOST_EXAMPLES))
    if (
        len(examples) < _FEWEST_EXAMPLES
    ):  # nearly all rows are swallowed: the lines themselves show what is regular
        inside = (line.rstrip("\r\n").split(delimiter) for n in suspects for line in spans[n][1:-1])
        examples = list(islice(inside, _MOST_EXAMPLES))
    shapes = _regular_columns(examples)
    return next((n for n in suspects if _is_several(rows[n], spans[n], delimiter, shapes)), None)


def _regular_columns(rows: Sequence[Sequence[str]]) -> Shapes:
    """Return the shapes of the values in the columns that have few of them."""
    if len(rows) < _FEWEST_EXAMPLES:
        return {}
    most = min(_MOST_SHAPES, 2 + len(rows) // 10)
    shapes = {at: {_shape(cells[at]) for cells in rows} for at in range(len(rows[0]))}
    return {at: found for at, found in shapes.items() if len(found) <= most}


def _shape(value: str) -> str:
    """Return a value with 9 for each number.

    >>> [_shape(value) for value in ("user_17", "-3.25", "2024-01-31", " yes ")]
    ['user_9', '-9.9', '9-9-9', 'yes']
    """
    return _DIGITS.sub("9", value.strip())


def _is_several(cells: Sequence[str], lines: Sequence[str], delimiter: str, shapes: Shapes) -> bool:
    """Tell whether each line of a row looks like a row where it holds text of the long cell."""
    long = [at for at, cell in enumerate(cells) if "\n" in cell or "\r" in cell]
    seen = 0
    for number, line in enumerate(lines):
        parts = line.rstrip("\r\n").split(delimiter)
        start = long[0] + 1 if number == 0 else 0
        end = long[-1] if number == len(lines) - 1 else len(parts)
        inner = [(at, _shape(parts[at])) for at in range(start, end) if at in shapes]
        filled = sum(shape != "" for _, shape in inner)
        if not all(shape in shapes[at] for at, shape in inner) or (inner and not filled):
            return False
        seen += filled
    return seen >= _FEWEST_SIGNS
