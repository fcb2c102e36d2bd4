"""Stage `annotate`: P(yes) of every text for every hypothesis, in shards that are never computed twice.

1. Plan (`label_plan`): the distinct texts go into `answers/`; what is not answered yet is cut into shards.
2. Ask (`label_shards`): actors compute shards and write them. One that fails is tried again, and set aside
   after some tries.
3. Assemble: one row per row of the data, with a value and a status per hypothesis.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from hypsae_ray import schema
from hypsae_ray.answers import read_scores, score_columns, split_places
from hypsae_ray.artifacts import Folder, Outcome
from hypsae_ray.boundary import DEFAULT_LABEL, SCORE_ARRAYS, Engines, LanguageModel, Scores
from hypsae_ray.config import Config, Label
from hypsae_ray.core.text_index import UNKNOWN
from hypsae_ray.errors import PartialResultError
from hypsae_ray.progress import Progress
from hypsae_ray.schema import USABLE, Status
from hypsae_ray.stages.label_plan import Job, Plan, describe, find_places, make_plan
from hypsae_ray.stages.label_shards import LabelShards, Tally
from hypsae_ray.stages.workspace import Track, Workspace

ROWS_AT_ONCE = 20_000
FAILURES_SHOWN = 5
Say = Callable[[str], None]


def run(work: Workspace) -> Outcome:
    """Annotate the holdout with the hypotheses of this run."""
    hypotheses = work.inputs["score_fidelity"].folder.read_table("hypotheses.parquet")
    job = holdout_job(
        work.config,
        questions=hypotheses["interpretation"].to_pylist(),
        labeller=work.decides["labeller"],
        rows=work.inputs["data"].folder,
        answers=work.answers,
        out=work.out,
    )
    return annotate(job, work.engines, work.track, work.say)


def holdout_job(
    config: Config,
    *,
    questions: Sequence[str | None],
    labeller: Mapping[str, Any],
    rows: Folder,
    answers: Folder,
    out: Folder,
) -> Job:
    """Return the labelling of a run's holdout, the rows of which stage `data` has written."""
    return Job(
        rows=rows,
        prefix="holdout-",
        questions=tuple(questions),
        llm=config.llm,
        label=config.label,
        options=config.annotate,
        labeller=labeller,
        answers=answers,
        out=out,
    )


def annotate(job: Job, engines: Engines, track: Track, say: Say) -> Outcome:
    """Ask what is not answered yet, and write one table of annotations per table of rows.

    Returns:
        Rows, what this call took, and as facts: shards, answers by status, share of time the engines worked.

    Raises:
        PartialResultError: some shards failed each time; the annotations are written, those marked.
        StageError: too many shards failed in a row; those that are finished are kept.
    """
    plan = make_plan(job, engines)
    say(f"annotate: {describe(plan)}")
    tally = _ask(plan, engines, track, say) if plan.shards else Tally()
    plan.answers.refresh()
    counts, n_rows = _write(plan)
    if tally.there:
        say(f"annotate: {tally.there} shards were written by another job meanwhile")
    lacking = sum(counts.values()) - sum(counts.get(status.name.lower(), 0) for status in USABLE)
    if lacking:
        say(f"annotate: {lacking:,} of {sum(counts.values()):,} answers have no label: {counts}")
    if tally.failed:
        raise PartialResultError(_failures(tally, plan))
    facts = {"shards": plan.shards, "answers": counts, "layout": plan.label.layout, **tally.facts}
    return Outcome(n_rows, tally.usage, facts=facts)


def _ask(plan: Plan, engines: Engines, track: Track, say: Say) -> Tally:
    """Compute the shards of a plan; those that failed each time are in the tally."""
    job, tally = plan.job, Tally()
    plan.answers.begin()
    work = LabelShards(job.answers, plan.answers.folder, plan.label, job.options.max_words)
    pool = engines.language_model(job.llm)
    progress = Progress(job.answers, plan.answers.folder.name, plan.shards, plan.pairs)
    if other := progress.other:
        say(f"annotate: another job is at work here ({other.host}); both go on, each shard is written once")
    name = {"run": PurePosixPath(job.answers.path).parent.name, "labeller": plan.answers.folder.name}
    with progress:
        shards, total = plan.todo(), plan.shards
        for attempt in range(1, job.options.tries + 1):
            for report in track(pool.map(work, shards, on_lost=work.lost), total, "shard"):
                tally.add(report)
                engines.publish(name, report.counts, tally.busy)
                if not report.failure:
                    progress.count(report.pairs, report.started, tally.workers)
            if not tally.failed or attempt == job.options.tries:
                break
            shards = tally.retry()
            total = len(shards)
            say(f"annotate: {total} shards failed and are tried again; the last one: {tally.last_failure}")
    return tally


def _failures(tally: Tally, plan: Plan) -> str:
    shown = list(tally.failed.items())[:FAILURES_SHOWN]
    lines = [f"  {name}: {report.failure}" for name, report in shown]
    more = len(tally.failed) - len(shown)
    return "\n".join(
        [
            f"annotate: the result is partial: {len(tally.failed)} of {plan.shards} shards failed "
            f"{plan.job.options.tries} times and are set aside:",
            *lines,
            *([f"  and {more} more"] if more else []),
            "their answers have the status set_aside; the same command tries them again",
        ]
    )


def _write(plan: Plan) -> tuple[dict[str, int], int]:
    """Write the annotations of all rows; return how many answers have each status, and the rows."""
    counts: Counter[int] = Counter()
    n_rows, out = 0, plan.job.out
    for group in _groups(plan.job):
        scores = _gather(plan, pa.concat_tables(group.values()))
        start = 0
        for name, table in group.items():
            rows = slice(start, start + len(table))
            mine = Scores(scores.p_yes[rows], scores.p_neither[rows], scores.status[rows])
            columns = {"row_id": table["row_id"].combine_chunks(), **score_columns(mine)}
            annotated = pa.table(columns, schema=schema.annotations(len(plan.job.questions)))
            target = f"annotations-{name.removeprefix(plan.job.prefix)}"
            out.write_table(target, annotated)
            start += len(table)
        counts.update(scores.status.ravel().tolist())
        n_rows += start
    return {Status(code).name.lower(): counts[code] for code in sorted(counts)}, n_rows


def _groups(job: Job) -> Iterator[dict[str, pa.Table]]:
    """Yield tables of rows by name, some thousand rows at a time."""
    group: dict[str, pa.Table] = {}
    for name, table in job.tables(["row_id", "text_id"]):
        group[name] = table
        if sum(map(len, group.values())) >= ROWS_AT_ONCE:
            yield group
            group = {}
    if group:
        yield group


def _gather(plan: Plan, table: pa.Table) -> Scores:
    """Return the scores (n, H) of rows: each part that they are in is read once."""
    places = find_places(plan.texts, table)
    parts, rows = split_places(places)
    distinct = Scores.unanswered(len(table), len(plan.job.distinct), Status.NO_TEXT)
    for position in np.unique(parts[places != UNKNOWN]).tolist():
        known = plan.answers.read(plan.texts.parts[position], plan.job.distinct)
        mine = parts == position
        for name in SCORE_ARRAYS:
            getattr(distinct, name)[mine] = getattr(known, name)[rows[mine]]
    return _by_hypothesis(plan, distinct, table["row_id"].to_numpy())


def _by_hypothesis(plan: Plan, distinct: Scores, row_ids: np.ndarray) -> Scores:
    """Spread the answers to distinct questions over the hypotheses; one without a question is FAILED."""
    job = plan.job
    scores = Scores.unanswered(len(row_ids), len(job.questions), Status.FAILED)
    no_text = (
        (distinct.status == Status.NO_TEXT).all(axis=1) if job.distinct else np.zeros(len(row_ids), bool)
    )
    scores.status[no_text] = Status.NO_TEXT
    named = [h for h, column in enumerate(job.columns) if column is not None]
    sources = [column for column in job.columns if column is not None]
    for name in SCORE_ARRAYS:
        getattr(scores, name)[:, named] = getattr(distinct, name)[:, sources]
    if plan.mask is not None:
        unasked = ~plan.mask.of(row_ids, len(job.questions)) & ~no_text[:, None]
        scores.status[unasked] = Status.UNASKED
        scores.p_yes[unasked] = scores.p_neither[unasked] = np.nan
    return scores


def score_named(
    model: LanguageModel, texts: Sequence[str], questions: Sequence[str | None], label: Label = DEFAULT_LABEL
) -> Scores:
    """Return scores for all questions, asking only those that are there; the others are FAILED."""
    asked = [column for column, question in enumerate(questions) if question is not None]
    scores = Scores.unanswered(len(texts), len(questions), Status.FAILED)
    if not asked:
        return scores
    found = model.score(texts, [str(questions[column]) for column in asked], label)
    for name in SCORE_ARRAYS:
        getattr(scores, name)[:, asked] = getattr(found, name)
    return Scores(scores.p_yes, scores.p_neither, scores.status, found.usage)


def read_annotations(folder: Folder) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row ids (n,), P(yes) (n, H) with NaN where there is no label, and status (n, H)."""
    tables = [read_scores(folder, name) for name in folder.names("annotations-", ".parquet")]
    status = np.concatenate([scores.status for _, scores in tables])
    p_yes = np.concatenate([scores.p_yes for _, scores in tables])
    row_ids = np.concatenate([ids for ids, _ in tables])
    return row_ids, np.where(np.isin(status, USABLE), p_yes, np.nan), status


def to_labels(p_yes: np.ndarray, threshold: float) -> np.ndarray:
    """Return labels 0 and 1 of P(yes) (n, H); NaN stays NaN."""
    return np.where(np.isnan(p_yes), np.nan, (p_yes >= threshold).astype(np.float64))
