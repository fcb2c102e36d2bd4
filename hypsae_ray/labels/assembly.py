"""The last step of annotating: one row per row of the data, in its order, from answers that lie part by part.

1. Each row's text is looked up: in which part it is, and where.
2. The answers of each part are read once, and copied to all rows that hold one of its texts, into a temporary
   file of records in the order of the rows.
3. The records are read table by table, and written as annotations.

So it costs the same whatever the order of the rows. Memory holds 24 bytes a row and the answers of one part;
the file takes 9 bytes per row and distinct question, where temporary files go (TMPDIR).
"""

import mmap
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from hypsae_ray.labels.annotations import annotation_columns, by_part
from hypsae_ray.labels.plan import Plan, find_places
from hypsae_ray.labels.text_index import UNKNOWN, Places
from hypsae_ray.models.protocols import ANNOTATION_ARRAYS, Annotations
from hypsae_ray.store import schema
from hypsae_ray.store.artifacts import telling
from hypsae_ray.store.schema import Status

ROWS_AT_ONCE = 4096


def write_annotations(plan: Plan) -> tuple[dict[str, int], int]:
    """Write the annotations of all rows; return how many answers have each status, and the rows.

    Raises:
        StageError: the disk is full, that of the annotations or that of temporary files.
    """
    job, counts, start = plan.job, Counter[int](), 0
    places = np.concatenate([find_places(plan.texts, table) for _, table in job.tables(["text_id"])])
    with _records(places, len(job.distinct)) as records:
        _fill(records, plan, places)
        for name, table in job.tables(["row_id"]):
            mine = records[start : start + len(table)]
            scores = _by_hypothesis(plan, mine, table["row_id"].to_numpy())
            columns = {"row_id": table["row_id"].combine_chunks(), **annotation_columns(scores)}
            annotated = pa.table(columns, schema=schema.annotations(len(job.questions)))
            job.out.write_table(f"annotations-{name.removeprefix(job.prefix)}", annotated)
            codes, numbers = np.unique(scores.status, return_counts=True)
            counts.update(dict(zip(codes.tolist(), numbers.tolist(), strict=True)))
            start += len(table)
    return {Status(code).name.lower(): counts[code] for code in sorted(counts)}, start


@contextmanager
def _records(places: Places, width: int) -> Iterator[np.ndarray]:
    """Yield one record per row (n,), on disk: whether it has a text, and scores of `width` questions."""
    fields = [(name, np.int8 if name == "status" else np.float32, (width,)) for name in ANNOTATION_ARRAYS]
    blank = np.zeros(ROWS_AT_ONCE, dtype=[("has_text", np.bool_), *fields])
    with tempfile.TemporaryFile() as file:
        # Written, not just claimed: where a claimed block finds no room later, the process is killed.
        with telling(tempfile.gettempdir(), "written"):
            for start in range(0, len(places), ROWS_AT_ONCE):
                there = places[start : start + ROWS_AT_ONCE] != UNKNOWN
                blank["has_text"][: len(there)] = there
                file.write(blank[: len(there)].tobytes())
            file.flush()
        yield np.frombuffer(mmap.mmap(file.fileno(), 0), dtype=blank.dtype)


def _fill(records: np.ndarray, plan: Plan, places: Places) -> None:
    """Copy the answers of each part to all rows that hold one of its texts."""
    for position, mine, rows in by_part(places):
        known = plan.answers.read(plan.texts.parts[position], plan.job.distinct)
        for name in ANNOTATION_ARRAYS:
            records[name][mine] = getattr(known, name)[rows]


def _by_hypothesis(plan: Plan, records: np.ndarray, row_ids: np.ndarray) -> Annotations:
    """Spread the answers to distinct questions over the hypotheses; one without a question is FAILED."""
    job, no_text = plan.job, ~records["has_text"]
    scores = Annotations.empty(len(row_ids), len(job.questions), Status.FAILED)
    named = [h for h, column in enumerate(job.columns) if column is not None]
    sources = [column for column in job.columns if column is not None]
    for name in ANNOTATION_ARRAYS:
        getattr(scores, name)[:, named] = records[name][:, sources]
    if plan.mask is not None:
        _take_out(scores, ~plan.mask.of(row_ids, len(job.questions)), Status.UNASKED)
    _take_out(scores, np.broadcast_to(no_text[:, None], scores.status.shape), Status.NO_TEXT)
    return scores


def _take_out(scores: Annotations, pairs: np.ndarray, status: Status) -> None:
    scores.status[pairs] = status
    scores.p_yes[pairs] = scores.p_neither[pairs] = np.nan
