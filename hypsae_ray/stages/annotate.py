"""Stage `annotate`: P(yes) of every holdout text for every hypothesis, shard by shard.

A shard is a fixed set of rows with one file of its own, written whole by the actor that computed it. What
is left to do is read off the list of files that are there, so a run that died goes on where it was.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import pyarrow as pa

from hypsae_ray import schema
from hypsae_ray.artifacts import Folder, Outcome
from hypsae_ray.boundary import LanguageModel, Scores, Usage
from hypsae_ray.config import Annotate
from hypsae_ray.core.prompts import truncate_words
from hypsae_ray.schema import Status
from hypsae_ray.stages.interpret import count_statuses
from hypsae_ray.stages.workspace import Workspace

USAGE_KEY = b"hypsae_usage"


@dataclass(frozen=True)
class Shard:
    """Rows `start` to `start + rows` of one file of texts, asked every question.

    A question is None where a neuron has no sentence; its answers are FAILED, and cost nothing.
    """

    source: Folder
    file: str
    start: int
    rows: int
    questions: tuple[str | None, ...]
    max_words: int
    out: Folder

    @property
    def name(self) -> str:
        """The one file that this shard is written to."""
        part = self.file.removeprefix("holdout-").removesuffix(".parquet")
        return f"shard-{part}-{self.start:06d}.parquet"


def run(work: Workspace) -> Outcome:
    """Write the annotations; facts: shards, answers by status, and how many shards were there before."""
    hypotheses = work.inputs["score_fidelity"].folder.read_table("hypotheses.parquet")
    questions = hypotheses["interpretation"].to_pylist()
    shards = list(plan(work.inputs["data"].folder, questions, work.config.annotate, work.out))
    done = set(work.out.names("shard-", ".parquet"))
    todo = [shard for shard in shards if shard.name not in done]
    if todo and len(todo) < len(shards):
        work.say(f"annotate: going on after {len(shards) - len(todo)} of {len(shards)} finished shards")
    if todo:
        results = work.engines.language_model(work.config.llm).map(annotate_shard, todo)
        for _ in work.track(results, len(todo), "shard"):
            pass
    return _summary(work, shards, resumed=len(shards) - len(todo))


def plan(data: Folder, questions: Sequence[str | None], options: Annotate, out: Folder) -> Iterator[Shard]:
    """Yield the shards of the holdout, up to max_rows rows."""
    left = options.max_rows or float("inf")
    for file in data.names("holdout-", ".parquet"):
        n_rows = min(data.count_rows(file), left)
        for start in range(0, int(n_rows), options.shard_rows):
            rows = int(min(options.shard_rows, n_rows - start))
            yield Shard(data, file, start, rows, tuple(questions), options.max_words, out)
        left -= n_rows


def annotate_shard(model: LanguageModel, shard: Shard) -> int:
    """Ask all questions about the texts of one shard and write the answers; return the number of answers."""
    texts = shard.source.read_table(shard.file, ["row_id", "text"]).slice(shard.start, shard.rows)
    cut = [truncate_words(text, shard.max_words) for text in texts["text"].to_pylist()]
    scores = score_named(model, cut, shard.questions)
    shard.out.write_table(shard.name, to_table(texts["row_id"].to_numpy(), scores))
    return scores.p_yes.size


def score_named(model: LanguageModel, texts: Sequence[str], questions: Sequence[str | None]) -> Scores:
    """Return scores for all questions, asking only those that are there; the others are FAILED."""
    asked = [column for column, question in enumerate(questions) if question is not None]
    p_yes = np.full((len(texts), len(questions)), np.nan, dtype=np.float32)
    status = np.full(p_yes.shape, Status.FAILED, dtype=np.int8)
    if not asked:
        return Scores(p_yes, status)
    scores = model.score(texts, [str(questions[column]) for column in asked])
    p_yes[:, asked], status[:, asked] = scores.p_yes, scores.status
    return Scores(p_yes, status, scores.usage)


def to_table(row_ids: np.ndarray, scores: Scores) -> pa.Table:
    """Return the annotations table of row ids (n,) and scores (n, H), with the tokens used as metadata."""
    n_hypotheses = scores.p_yes.shape[1]
    columns = [
        pa.array(row_ids, pa.int64()),
        pa.FixedSizeListArray.from_arrays(pa.array(scores.p_yes.ravel(), pa.float32()), n_hypotheses),
        pa.FixedSizeListArray.from_arrays(pa.array(scores.status.ravel(), pa.int8()), n_hypotheses),
    ]
    used = json.dumps([scores.usage.prompt, scores.usage.cached, scores.usage.generated]).encode()
    return pa.table(columns, schema=schema.annotations(n_hypotheses)).replace_schema_metadata(
        {USAGE_KEY: used}
    )


def read_annotations(folder: Folder) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row ids (n,), P(yes) (n, H) with NaN where the status is not OK, and status (n, H)."""
    table = folder.read_tables("shard-").combine_chunks()
    shape = (len(table), table.schema.field("p_yes").type.list_size)
    p_yes = table["p_yes"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(shape)
    status = table["status"].combine_chunks().flatten().to_numpy().reshape(shape)
    return table["row_id"].to_numpy(), np.where(status == Status.OK, p_yes, np.nan), status


def read_usage(shard: pa.Table) -> Usage:
    """Return the tokens that a stored shard took."""
    return Usage(*json.loads((shard.schema.metadata or {})[USAGE_KEY]))


def to_labels(p_yes: np.ndarray, threshold: float) -> np.ndarray:
    """Return labels 0 and 1 of P(yes) (n, H); NaN stays NaN."""
    return np.where(np.isnan(p_yes), np.nan, (p_yes >= threshold).astype(np.float64))


def _summary(work: Workspace, shards: list[Shard], resumed: int) -> Outcome:
    """Sum up what the shard files say, one at a time."""
    usage, counts, rows = [Usage()], [], 0
    for table in (work.out.read_table(shard.name) for shard in shards):
        usage.append(read_usage(table))
        counts.append(count_statuses(table["status"].combine_chunks().flatten().to_pylist()))
        rows += len(table)
    statuses = {name: sum(c.get(name, 0) for c in counts) for name in sorted(set().union(*counts))}
    facts = {"shards": len(shards), "shards_resumed": resumed, "answers": statuses}
    failed = sum(statuses.values()) - statuses.get("ok", 0)
    if failed:
        work.say(f"annotate: {failed} of {sum(statuses.values())} answers have no label: {statuses}")
    return Outcome(rows, reduce(add, usage), facts=facts)
