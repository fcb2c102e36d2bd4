"""Stage `embed`: a vector for every training and validation text; equal texts go through the model once.

A shard is one file of texts. Its actor embeds the texts that no earlier file holds, and writes `<file>`; rows
whose text is in an earlier file get its stored vector afterwards, in `<file>-repeats`. What a server returns
is stored by request, in `part-<file>-<row>`, until all is done: a run that is stopped pays for no text twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hypsae_ray.data.words import Cut, estimate_tokens
from hypsae_ray.errors import InputError, RefusedTextError, StageError
from hypsae_ray.labels.annotations import made_with, with_facts
from hypsae_ray.labels.retries import RetryingPool
from hypsae_ray.models.protocols import Embedded, Embedder, PaidEmbedder
from hypsae_ray.stages.workspace import Workspace
from hypsae_ray.store import schema
from hypsae_ray.store.artifacts import Folder, Outcome

OWN = "own-"  # before the name of a file of texts: the vectors that the user has for them
SPLITS = ("train-", "val-", "holdout-", "holdout_chunks-")
CUT_ADVICE = (
    "the rest is not seen: split the texts with data.chunk: {words: 150}, fewer where chunks are "
    "cut, or take a model that reads more, or embed.long_texts: mean_of_chunks"
)
PART = "part-"
ESTIMATED_FROM = 2_000  # texts
REFUSED_ADVICE = (
    "change the text or take its row out; if it is too long, embed.max_tokens says how much of a text is sent"
)
ANOTHER = "another model answers to its name: give the new one a run folder of its own"


@dataclass(frozen=True)
class Task:
    """The rows (int64 row ids) to embed of one file of texts."""

    source: Folder
    name: str
    rows: np.ndarray
    out: Folder
    dtype: str


def run(work: Workspace) -> Outcome:
    """Write embeddings of train and val, a file for each file of texts; facts: those of `embed_rows`."""
    data = work.inputs["data"]
    names = [*data.names("train-", ".parquet"), *data.names("val-", ".parquet")]
    ids = {name: data.read_table(name, ["row_id", "text_id"]).to_pandas() for name in names}
    return Outcome(sum(map(len, ids.values())), facts=embed_rows(work, "embed", ids))


def embed_rows(work: Workspace, stage: str, ids: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Write the embeddings of rows of stage `data`, but for files that are there already.

    `ids` are row_id and text_id of the rows to embed, by file of texts.

    Returns:
        Facts: "repeats", rows whose text is in an earlier file; "made_with", versions of libraries, a line
        for each combination; "cut", how many texts were cut. The last two are read from the stored tables.

    Raises:
        StageError: every try of a shard failed; the others are kept.
    """
    repeats = find_repeats([frame["text_id"].to_numpy() for frame in ids.values()])
    done, dtype = set(work.out.names(suffix=".parquet")), work.config.embed.advanced.store_dtype
    tasks = [
        Task(work.inputs["data"], name, frame["row_id"].to_numpy()[~later], work.out, dtype)
        for (name, frame), later in zip(ids.items(), repeats, strict=True)
        if name not in done and not later.all()
    ]
    if tasks:
        for _ in work.track(_embed(work, tasks), len(tasks), "shard"):
            pass
    for name in work.out.names(PART):
        work.out.remove(name)
    _fill_repeats(work.out, ids, repeats, dtype)
    versions = sorted(set().union(*(_versions(work.out, name) for name in work.out.names(suffix=".parquet"))))
    if len(versions) > 1:
        work.say(f"these embeddings are of {len(versions)} versions: {'; '.join(versions)}")
    tables = (table for split in SPLITS for table in work.out.tables(split, ["cut_at"]))
    cut = count_cut(np.concatenate([table["cut_at"].to_numpy() for table in tables]))
    if cut.texts:
        work.say(f"{stage}: {cut}; {CUT_ADVICE}")
    n_repeats = int(sum(later.sum() for later in repeats))
    return {"repeats": n_repeats, "made_with": versions, "cut": cut.facts()}


def _embed(work: Workspace, tasks: list[Task]) -> Iterator[int]:
    options = work.config.embed
    if options.engine == "column":
        return map(copy_shard, tasks)
    if options.endpoint is not None:
        work.say(f"{describe_texts(tasks)} are sent to model {options.model!r} of a server")
    pool = work.engines.embedder(options)
    return RetryingPool(pool, work.say, attrgetter("name"), options.replicas.max).map(embed_shard, tasks)


def _versions(out: Folder, name: str) -> set[str]:
    with out.open(name) as file:
        return made_with(pq.read_schema(file))


def count_cut(cut_at: np.ndarray) -> Cut:
    """Return how many texts were cut, by the tokens (n,) that were read of each one; see `Embedded`."""
    return Cut(int((cut_at > 0).sum()), len(cut_at), int(cut_at.max(initial=0)), "tokens")


def find_repeats(text_ids: list[np.ndarray]) -> list[np.ndarray]:
    """Return per shard a bool mask of the rows whose text is in an earlier shard.

    >>> [mask.tolist() for mask in find_repeats([np.array(["a", "a"]), np.array(["b", "a"])])]
    [[False, False], [False, True]]
    """
    seen: set[bytes] = set()
    masks = []
    for ids in text_ids:
        keys = [bytes.fromhex(i)[:8] if len(i) == 32 else i.encode() for i in ids]  # 8 bytes: memory
        masks.append(np.array([key in seen for key in keys], dtype=bool))
        seen.update(keys)
    return masks


def describe_texts(tasks: Sequence[Task]) -> str:
    """Return how many texts and, estimated from the first ones, tokens there are."""
    n, seen, tokens = sum(len(task.rows) for task in tasks), 0, 0
    for task in tasks:
        texts = _texts_of(task)["text"].to_pylist()
        seen, tokens = seen + len(texts), tokens + sum(map(estimate_tokens, texts))
        if seen >= ESTIMATED_FROM:
            break
    return f"{n:,} texts, by estimate {n * tokens // max(seen, 1):,} tokens,"


def _texts_of(task: Task) -> pa.Table:
    texts = task.source.read_table(task.name, ["row_id", "text"])
    return texts.filter(np.isin(texts["row_id"].to_numpy(), task.rows))


def embed_shard(model: Embedder, task: Task) -> int:
    """Embed rows of one file and write them; return their number."""
    texts = _texts_of(task)
    if isinstance(model, PaidEmbedder):
        table = _in_parts(model, task, texts)
    else:
        table = to_table(texts["row_id"].to_numpy(), model.embed(texts["text"].to_pylist()), task.dtype)
    task.out.write_table(task.name, with_facts(table, {"versions": getattr(model, "versions", {})}))
    return len(texts)


def copy_shard(task: Task) -> int:
    """Write the user's own vectors of rows of one file; return their number."""
    vectors = task.source.read_table(f"{OWN}{task.name}")
    task.out.write_table(task.name, vectors.filter(np.isin(vectors["row_id"].to_numpy(), task.rows)))
    return len(vectors)


def _in_parts(model: PaidEmbedder, task: Task, texts: pa.Table) -> pa.Table:
    """Return the embeddings of texts; those that are stored are not requested again."""
    kept, prefix = task.out, f"{PART}{task.name.removesuffix('.parquet')}-"
    done = [kept.read_table(name, ["row_id"])["row_id"].to_numpy() for name in kept.names(prefix)]
    left = texts.filter(~np.isin(texts["row_id"].to_numpy(), np.concatenate([[], *done])))
    row_ids = left["row_id"].to_numpy()

    def keep(positions: list[int], embedded: Embedded) -> None:
        rows = row_ids[positions]
        kept.write_table(f"{prefix}{rows.min()}.parquet", to_table(rows, embedded, task.dtype))

    try:
        model.embed_in_parts(left["text"].to_pylist(), keep)
    except RefusedTextError as error:
        raise InputError(f"row {row_ids[error.position]} of {task.name}: {error}; {REFUSED_ADVICE}") from None
    parts = [kept.read_table(name) for name in kept.names(prefix)]
    if len({part.schema.field("embedding").type for part in parts}) > 1:
        raise StageError(f"{kept.path}: the server's embeddings had another size before; {ANOTHER}")
    return pa.concat_tables(parts).sort_by("row_id")


def to_table(row_ids: np.ndarray, embedded: Embedded, dtype: str) -> pa.Table:
    """Return the embeddings table of row ids (n,) and the embeddings of their texts."""
    dim = embedded.vectors.shape[1]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(embedded.vectors.astype(dtype).ravel()), dim)
    columns = [pa.array(row_ids, pa.int64()), vectors, pa.array(embedded.cut_at, pa.int32())]
    return pa.table(columns, schema=schema.embeddings(dim, dtype))


def to_vectors(table: pa.Table) -> np.ndarray:
    """Return the embeddings of a table, (n, d) float32."""
    column = table["embedding"].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(table), column.type.list_size).astype(np.float32)  # a copy: Arrow is read-only


def _fill_repeats(
    out: Folder, ids: Mapping[str, pd.DataFrame], repeats: list[np.ndarray], dtype: str
) -> None:
    """Write the vectors of rows whose text was embedded with an earlier file."""
    wanted = {
        text for frame, later in zip(ids.values(), repeats, strict=True) for text in frame.text_id[later]
    }
    known: dict[str, tuple[np.ndarray, int]] = {}
    for (name, frame), later in zip(ids.items(), repeats, strict=True):
        own = frame[~later & frame.text_id.isin(wanted)]
        if len(own):
            table = out.read_table(name)
            pairs = zip(to_vectors(table), table["cut_at"].to_numpy(), strict=True)
            rows = pd.Series(list(pairs), index=table["row_id"].to_numpy())
            known.update(zip(own.text_id, rows[own.row_id], strict=True))
        if later.any():
            vectors, cut_at = zip(*(known[text] for text in frame.text_id[later]), strict=True)
            filled = Embedded(np.stack(vectors), np.array(cut_at))
            table = to_table(frame.row_id[later].to_numpy(), filled, dtype)
            out.write_table(name.replace(".parquet", "-repeats.parquet"), table)
