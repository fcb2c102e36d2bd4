"""Reading texts and hypotheses of any origin for `hypsae annotate`: no row is refused, each has a reason."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from hypsae_ray import schema
from hypsae_ray.artifacts import Folder, Outcome
from hypsae_ray.config import AnnotateJob
from hypsae_ray.core import rows
from hypsae_ray.errors import InputError
from hypsae_ray.inputs import DataFile, columns_in, find_files, read_frames

PREFIX = "rows-"
SENTENCE_COLUMNS = ("interpretation", "hypothesis")


def store_rows(job: AnnotateJob, out: Folder) -> Outcome:
    """Write the rows of a dataset as numbered tables; facts: rows without a usable text, by reason.

    Raises:
        InputError: a file cannot be read or lacks a column, or no row holds a text.
    """
    n_rows, reasons = 0, pd.Series(dtype=np.int64)
    for number, frame in enumerate(read_rows(job)):
        table = pa.Table.from_pandas(frame, schema=schema.ROWS, preserve_index=False)
        out.write_table(f"{PREFIX}{number:05d}.parquet", table)
        n_rows += len(frame)
        reasons = reasons.add(frame["reason"].value_counts(), fill_value=0)
    if reasons.sum() == n_rows:
        out.delete()
        raise InputError(f"{job.data}: no row holds a usable text: {reasons.astype(int).to_dict()}")
    return Outcome(n_rows, facts={"without_text": reasons.astype(int).to_dict()})


def read_rows(job: AnnotateJob) -> Iterator[pd.DataFrame]:
    """Yield the rows of a dataset as `schema.ROWS` has them, some thousand at a time."""
    columns = [job.text] if job.id is None else list(dict.fromkeys((job.text, job.id)))
    first = 0
    for file in find_files(job.data):
        for frame in read_frames(file, columns):
            yield _to_rows(frame, first, job)
            first += len(frame)


def _to_rows(frame: pd.DataFrame, first: int, job: AnnotateJob) -> pd.DataFrame:
    reasons = rows.bad_texts(frame[job.text], job.text)
    usable = (reasons == "").to_numpy(bool)
    texts = frame[job.text].where(usable, None)
    ids = pd.Series([None] * len(frame), index=frame.index, dtype=object)
    ids[usable] = rows.text_ids(texts[usable])
    return pd.DataFrame(
        {
            "row_id": np.arange(first, first + len(frame)),
            "source_id": None if job.id is None else frame[job.id].map(_name).to_numpy(),
            "text_id": ids.to_numpy(),
            "text": texts.to_numpy(),
            "reason": reasons.where(~usable, None).to_numpy(),
        }
    )


def _name(value: Any) -> str | None:
    return None if value is None or pd.isna(value) else str(value).encode(errors="replace").decode()


def read_hypotheses(place: str) -> list[str | None]:
    """Return the sentences of a file with a column `interpretation` or `hypothesis`, in its order.

    Raises:
        InputError: the file cannot be read, has neither column, or no sentence.
    """
    found = [sentence for file in find_files(place) for sentence in _sentences(file)]
    if not any(found):
        raise InputError(f"{place}: no hypothesis in it")
    return found


def _sentences(file: DataFile) -> Iterator[str | None]:
    there = columns_in(file)
    column = next((name for name in SENTENCE_COLUMNS if name in there), None)
    if column is None:
        raise InputError(
            f"{file.path}: no column 'interpretation' or 'hypothesis'; it has {', '.join(sorted(there))}"
        )
    for frame in read_frames(file, [column]):
        for value in frame[column]:
            yield value.strip() or None if isinstance(value, str) else None


def sentences_of(hypotheses: Sequence[str | None] | pd.DataFrame) -> list[str | None]:
    """Return the sentences of a list, or of a table's column `interpretation` or `hypothesis`.

    Raises:
        InputError: the table has neither column.
    """
    if isinstance(hypotheses, pd.DataFrame):
        column = next((name for name in SENTENCE_COLUMNS if name in hypotheses), None)
        if column is None:
            raise InputError("hypotheses: no column 'interpretation' or 'hypothesis'")
        hypotheses = hypotheses[column].tolist()
    return [None if pd.isna(sentence) else str(sentence) for sentence in hypotheses]
