"""Texts and hypotheses of any origin for `hypsae annotate`: a row without a usable text has a reason."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from hypsae_ray.config import AnnotateJob
from hypsae_ray.data import arguments
from hypsae_ray.data.arrays import Floats
from hypsae_ray.data.columns import Typed, names, numbers, shown, texts
from hypsae_ray.data.files import DataFile, columns_in, find_files, read_frames
from hypsae_ray.data.rows import text_ids
from hypsae_ray.data.values import stripped
from hypsae_ray.errors import InputError
from hypsae_ray.store import schema
from hypsae_ray.store.artifacts import Folder, Outcome

PREFIX = "rows-"
_NO_TEXT = "the text is missing"
SENTENCE_COLUMNS = ("interpretation", "hypothesis")


def store_rows(job: AnnotateJob, out: Folder) -> Outcome:
    """Write the rows of a dataset as numbered tables; facts: rows without a usable text, by kind.

    Raises:
        InputError: a file cannot be read or lacks a column, an id is none, or no row holds a text.
    """
    n_rows, without, first = 0, Counter[str](), ""
    try:
        for number, frame in enumerate(read_rows(job)):
            table = pa.Table.from_pandas(frame, schema=schema.ROWS, preserve_index=False)
            out.write_table(f"{PREFIX}{number:05d}.parquet", table)
            n_rows += len(frame)
            reasons = frame["reason"].dropna()
            first = first or next(iter(reasons), "")
            missing = int((reasons == _NO_TEXT).sum())
            without.update({_NO_TEXT: missing, "not usable": len(reasons) - missing})
        if without.total() == n_rows:
            where = f"column {job.text!r}, first of {n_rows} rows"
            raise InputError(f"{job.data}: no row holds a usable text: {where}: {first}")
    except InputError:
        out.delete()
        raise
    return Outcome(n_rows, facts={"without_text": dict(+without)})


def read_rows(job: AnnotateJob) -> Iterator[pd.DataFrame]:
    """Yield the rows of a dataset as `schema.ROWS` has them, some thousand at a time.

    Raises:
        InputError: a file cannot be read or lacks a column, or an id is none.
    """
    columns = [job.text] if job.id is None else list(dict.fromkeys((job.text, job.id)))
    first = 0
    for file in find_files(job.data, job.encoding, job.delimiter):
        for frame in read_frames(file, columns):
            yield _to_rows(frame, first, job, file.path)
            first += len(frame)


def _to_rows(frame: pd.DataFrame, first: int, job: AnnotateJob, path: str) -> pd.DataFrame:
    found = texts(frame[job.text])
    ids = np.full(len(frame), None, dtype=object)
    ids[found.usable] = text_ids(found.values[found.usable])
    where = f"{path}: column {job.id!r}: row"
    reasons = found.reasons.where(~found.usable, None).mask(found.missing, _NO_TEXT)
    return pd.DataFrame(
        {
            "row_id": np.arange(first, first + len(frame)),
            "source_id": None if job.id is None else _values(names(frame[job.id]), where),
            "text_id": ids,
            "text": found.values,
            "reason": reasons.to_numpy(),
        }
    )


def _values(found: Typed, where: str) -> np.ndarray:
    """Return values, None where one is missing; refuse one that is there but cannot be used."""
    for row, reason in found.reasons[found.bad].head(1).items():
        raise InputError(f"{where} {row}: {reason}")
    return found.values


def read_hypotheses(path: str) -> list[str | None]:
    """Return the sentences of a file with a column `interpretation` or `hypothesis`, in its order.

    Raises:
        InputError: the file cannot be read, has neither column, or no sentence.
    """
    found = [sentence for file in find_files(path) for sentence in _sentences(file)]
    if not any(found):
        raise InputError(f"{path}: no hypothesis in it")
    return found


def read_thresholds(path: str) -> Floats | None:
    """Return column `threshold` of a file of hypotheses, NaN where it is empty; None: there is none.

    Raises:
        InputError: one is no number above 0 and below 1.
    """
    files = find_files(path)
    if not all("threshold" in columns_in(file) for file in files):
        return None
    return np.concatenate(
        [
            _thresholds(frame["threshold"], file.path)
            for file in files
            for frame in read_frames(file, ["threshold"])
        ]
    )


def _thresholds(column: "pd.Series[Any]", path: str) -> Floats:
    typed = numbers(column)
    outside = typed.usable & ~((typed.values > 0) & (typed.values < 1))
    for row, value in column[typed.bad | outside].head(1).items():
        expected = "expected a number above 0 and below 1"
        raise InputError(f"{path}: column 'threshold': row {row}: {shown(value)}; {expected}")
    return typed.values


def _sentences(file: DataFile) -> Iterator[str | None]:
    column = _sentence_column(sorted(columns_in(file)), file.path)
    for frame in read_frames(file, [column]):
        yield from _sentences_in(frame[column], f"{file.path}: column {column!r}: row")


def _sentence_column(there: Sequence[Any], where: str) -> str:
    for name in SENTENCE_COLUMNS:
        if name in there:
            return name
    names = ", ".join(map(str, there))
    raise InputError(f"{where}: no column 'interpretation' or 'hypothesis'; it has {names}")


def _sentences_in(column: "pd.Series[Any]", where: str) -> list[str | None]:
    return [None if text is None else stripped(text) for text in _values(texts(column), where)]


def sentences_of(hypotheses: Sequence[str | None] | pd.DataFrame) -> list[str | None]:
    """Return the sentences of a list, or of a table's column `interpretation` or `hypothesis`.

    Raises:
        InputError: the table has neither column, it is no list, or a sentence is no text.
    """
    sentences: Any = hypotheses
    if isinstance(hypotheses, pd.DataFrame):
        sentences = hypotheses[_sentence_column(hypotheses.columns.tolist(), "hypotheses")]
    given = arguments.column("hypotheses", sentences, arguments.SENTENCES)
    return _sentences_in(given.reset_index(drop=True), "hypotheses: position")
