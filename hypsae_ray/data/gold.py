"""Labels that people gave to texts, from the file that `hypsae gold sample` wrote and they filled in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hypsae_ray.data.arrays import Bools, Floats, Ints
from hypsae_ray.data.columns import read_each, shown
from hypsae_ray.data.files import DataFile, columns_in, find_files, read_frames
from hypsae_ray.data.values import read_name, read_number
from hypsae_ray.errors import InputError

COLUMNS = ("row_id", "hypothesis_id", "probability", "label")
OPTIONAL = ("coder", "property")
_LARGEST = 2**53  # whole numbers above it are not exact in float64
_FORMULAS = ("=", "+", "-", "@")


def for_spreadsheet(text: str) -> str:
    r"""Return a text on one line that no spreadsheet takes for a formula: with an apostrophe before it then.

    >>> for_spreadsheet("=1+1"), for_spreadsheet("two\nlines")
    ("'=1+1", 'two lines')
    """
    line = " ".join(text.split())
    return f"'{line}" if line.startswith(_FORMULAS) else line


@dataclass(frozen=True)
class Coded:
    """Labels of people as arrays.

    Attributes:
        row_ids: (n,) of the rows with a label, ascending.
        probability: (n,) with which each was drawn.
        coders: (C, n, H) of each person: 0, 1, NaN where none.
    """

    row_ids: Ints
    probability: Floats
    coders: Floats


@dataclass(frozen=True)
class GoldFile:
    """The lines of a file of labels, or of several.

    Attributes:
        lines: a row per line: path, line (from 1, the header not counted), row_id, hypothesis_id,
            probability, label (0, 1 or NaN), coder ("" for none), property ("" for none).
    """

    lines: pd.DataFrame

    @classmethod
    def read(cls, path: str) -> "GoldFile":
        """Read one file, or those of a glob.

        Raises:
            InputError: it cannot be read, a column is missing, a value is not what it can be, no line has a
                label, a person has labelled a pair twice, or a row has two probabilities.
        """
        frames = [_lines(file, frame) for file in find_files(path) for frame in _frames(file)]
        found = cls(pd.concat(frames, ignore_index=True))
        if found.lines["label"].isna().all():
            raise InputError(f"{path}: column 'label': no line has a label yet: write 1 or 0 into some")
        found._require_one_probability()
        found._require_one_label()
        return found

    def _require_one_probability(self) -> None:
        first = self.lines.groupby("row_id")["probability"].transform("first")
        for line in self._bad(first != self.lines["probability"]):
            why = f"another line of row_id {line['row_id']} has {first[line['at']]}: a row has one only"
            raise self._refused(line, "probability", str(line["probability"]), why)

    def _require_one_label(self) -> None:
        labelled = self.lines[self.lines["label"].notna()]
        repeated = labelled.duplicated(["row_id", "hypothesis_id", "coder"])
        for line in self._bad(repeated.reindex(self.lines.index, fill_value=False)):
            who = f"coder {shown(line['coder'])}" if line["coder"] else "nobody named in a column 'coder'"
            pair = f"row_id {line['row_id']} and hypothesis_id {line['hypothesis_id']}"
            why = f"a second label of {who} for {pair}: leave one, or name two coders"
            raise self._refused(line, "label", f"{line['label']:g}", why)

    def require(self, row_ids: Ints, sentences: Sequence[str | None]) -> None:
        """Refuse lines about texts or hypotheses that a run does not have.

        Args:
            row_ids: (N,) those that the run has labelled.
            sentences: (H,) of its hypotheses.

        Raises:
            InputError: names the first such line.
        """
        lines = self.lines
        for line in self._bad(~lines["row_id"].isin(row_ids)):
            why = f"it is none of the {len(row_ids)} rows that this run has labelled"
            raise self._refused(line, "row_id", str(line["row_id"]), why)
        for line in self._bad(lines["hypothesis_id"] >= len(sentences)):
            why = f"hypotheses of this run are 0 to {len(sentences) - 1}"
            raise self._refused(line, "hypothesis_id", str(line["hypothesis_id"]), why)
        own = lines["hypothesis_id"].map(lambda j: _plain(sentences[j] or ""))
        for line in self._bad((lines["property"] != "") & (lines["property"].map(_plain) != own)):
            why = f"hypothesis {line['hypothesis_id']} of this run is {shown(own[line['at']])}: "
            why += "the labels are of another run"
            raise self._refused(line, "property", shown(line["property"]), why)

    def coded(self, n_hypotheses: int) -> Coded:
        """Return the labels of the rows that have any, as arrays."""
        lines = self.lines[self.lines["label"].notna()]
        by_row = lines.groupby("row_id")["probability"].first()
        coder, names = pd.factorize(lines["coder"])
        labels = np.full((len(names), len(by_row), n_hypotheses), np.nan)
        at = np.searchsorted(by_row.index.to_numpy(), lines["row_id"])
        labels[coder, at, lines["hypothesis_id"].to_numpy()] = lines["label"]
        return Coded(by_row.index.to_numpy(np.int64), by_row.to_numpy(np.float64), labels)

    def _bad(self, which: "pd.Series[bool]") -> list[Any]:
        """Return the first line that is bad, if there is one, with its position `at`."""
        return self.lines[which.to_numpy(bool)].head(1).rename_axis("at").reset_index().to_dict("records")

    @staticmethod
    def _refused(line: Mapping[str, Any], column: str, value: str, why: str) -> InputError:
        return InputError(f"{line['path']}: row {line['line']}: column {column!r}: {value}; {why}")


def _plain(text: str) -> str:
    return " ".join(text.removeprefix("'").split())


def _frames(file: DataFile) -> list[pd.DataFrame]:
    there = columns_in(file)
    return list(read_frames(file, [*COLUMNS, *(name for name in OPTIONAL if name in there)]))


def _lines(file: DataFile, frame: pd.DataFrame) -> pd.DataFrame:
    found: dict[str, Any] = {"path": file.path, "line": frame.index}
    for name in ("row_id", "hypothesis_id"):
        found[name] = _column(file, frame[name], _whole, "expected a whole number").astype(np.int64)
    between = "expected a number above 0, and 1 at the most"
    found["probability"] = _column(file, frame["probability"], _probability, between)
    expected = "expected 1 or yes, 0 or no, or nothing"
    found["label"] = _column(file, frame["label"], _label, expected, may_lack=True)
    for name in OPTIONAL:
        found[name] = ""
        if name in frame:
            names = read_each(frame[name], read_name if name == "coder" else str)
            found[name] = np.where(names.usable & ~frame[name].isna(), names.values, "")
    return pd.DataFrame(found)


def _column(
    file: DataFile,
    column: "pd.Series[Any]",
    read: Callable[[Any], float],
    expected: str,
    may_lack: bool = False,
) -> Floats:
    """Return numbers (n,); NaN for a missing one, where it may lack."""
    typed = read_each(column, read)
    bad: Bools = typed.bad if may_lack else ~typed.usable
    for at in np.flatnonzero(bad)[:1]:
        where = f"{file.path}: row {column.index[at]}: column {column.name!r}"
        raise InputError(f"{where}: {shown(column.iloc[at])}; {expected}")
    return np.array([np.nan if value is None else value for value in typed.values], dtype=np.float64)


def _whole(value: Any) -> float:
    number = read_number(value, ".")
    if not (number.is_integer() and 0 <= number < _LARGEST):
        raise ValueError("no whole number")
    return number


def _probability(value: Any) -> float:
    """Of a comma it is sure that it marks decimals: a probability has no thousands."""
    number = read_number(value.replace(",", ".") if isinstance(value, str) else value, ".")
    if not 0 < number <= 1:
        raise ValueError("no probability")
    return number


def _label(value: Any) -> float:
    number = read_number(value, ".")
    if number not in (0, 1):
        raise ValueError("no label")
    return number
