"""The last step of annotating: one row per row of the data, in its order, from shards by file of texts.

1. The annotations of each file of texts are read once; those of the texts of this job go into a temporary
   file, a record per text.
2. The records of each table of rows are looked up there, and written as annotations.

So it costs the same whatever the order of the rows. Memory holds 24 bytes a row and the annotations of one
file of texts; the file takes 9 bytes per distinct text and question, where temporary files go (TMPDIR).
"""

import mmap
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from hypsae_ray.labels.annotations import to_columns
from hypsae_ray.labels.plan import Plan
from hypsae_ray.labels.texts import NO_TEXT, Positions, slices
from hypsae_ray.models.protocols import ANNOTATION_ARRAYS, Annotations
from hypsae_ray.store import schema
from hypsae_ray.store.artifacts import explained
from hypsae_ray.store.schema import Status


def write_annotations(plan: Plan) -> tuple[dict[str, int], int]:
    """Write the annotations of all rows; return how many have each status, and the number of rows.

    Raises:
        StageError: the disk is full, that of the annotations or that of temporary files.
    """
    job, counts, start = plan.job, Counter[int](), 0
    texts, text_of = np.unique(plan.positions, return_inverse=True)
    with _on_disk(plan, texts) as records:
        for name, table in job.tables(["row_id"]):
            mine = records[text_of[start : start + len(table)]]
            annotations = _by_hypothesis(plan, mine, table["row_id"].to_numpy())
            columns = {"row_id": table["row_id"].combine_chunks(), **to_columns(annotations)}
            if job.is_sample:
                columns |= job.drawn_columns(table["row_id"].to_numpy())
            layout = schema.annotations(len(job.questions), sampled=job.is_sample)
            annotated = pa.table(columns, schema=layout)
            job.out.write_table(f"annotations-{name.removeprefix(job.prefix)}", annotated)
            codes, numbers = np.unique(annotations.status, return_counts=True)
            counts.update(dict(zip(codes.tolist(), numbers.tolist(), strict=True)))
            start += len(table)
    return {Status(code).name.lower(): counts[code] for code in sorted(counts)}, start


@contextmanager
def _on_disk(plan: Plan, texts: Positions) -> Iterator[np.ndarray]:
    """Yield one record per text, in a temporary file: its annotations by distinct question."""
    with tempfile.TemporaryFile() as file:
        with explained(tempfile.gettempdir(), "written"):
            for records in _records(plan, texts):
                file.write(records.tobytes())
            file.flush()
        yield np.frombuffer(mmap.mmap(file.fileno(), 0), dtype=records.dtype)


def _records(plan: Plan, texts: Positions) -> Iterator[np.ndarray]:
    """Yield the records of texts whose positions ascend; the first may be NO_TEXT."""
    questions = plan.job.distinct
    kinds = {"p_yes": np.float32, "p_neither": np.float32, "status": np.int8}
    fields = [(name, kind, (len(questions),)) for name, kind in kinds.items()]
    blank = np.zeros(int(texts[0] == NO_TEXT), dtype=[("has_text", np.bool_), *fields])
    yield blank
    for file, rows in slices(plan.files):
        first, end = np.searchsorted(texts, (rows.start, rows.stop))
        if first == end:
            continue
        found, mine = plan.store.read(file, questions), texts[first:end] - rows.start
        records = np.ones(end - first, dtype=blank.dtype)
        for name in ANNOTATION_ARRAYS:
            records[name] = getattr(found, name)[mine]
        yield records


def _by_hypothesis(plan: Plan, records: np.ndarray, row_ids: np.ndarray) -> Annotations:
    """Spread annotations by distinct question over the hypotheses; one without a question is FAILED."""
    job = plan.job
    annotations = Annotations.empty(len(row_ids), len(job.questions), Status.FAILED)
    named = [h for h, column in enumerate(job.columns) if column is not None]
    sources = [column for column in job.columns if column is not None]
    for name in ANNOTATION_ARRAYS:
        getattr(annotations, name)[:, named] = records[name][:, sources]
    if plan.mask is not None:
        _leave_out(annotations, ~plan.mask.of(row_ids, len(job.questions)), Status.UNASKED)
    _leave_out(annotations, ~records["has_text"], Status.NO_TEXT)
    return annotations


def _leave_out(annotations: Annotations, pairs: np.ndarray, status: Status) -> None:
    """Give some pairs (n, H), or rows (n,), a status and no value."""
    annotations.status[pairs] = status
    annotations.p_yes[pairs] = annotations.p_neither[pairs] = np.nan
