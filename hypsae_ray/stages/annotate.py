"""Stage `annotate`: P(yes) of every text for every hypothesis, in shards that are never computed twice.

1. Plan (`labels.plan`): the distinct texts go into `answers/`; what is not answered yet is cut into shards.
2. Ask (`labels.work`): actors compute shards and write them. One that fails is tried again, and
   left for the next run after some tries.
3. Assemble (`labels.assembly`): one row per row of the data, with a value and a status per hypothesis.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from hypsae_ray.cluster.engines import Engines
from hypsae_ray.config import Config, Label
from hypsae_ray.errors import PartialResultError, StageError
from hypsae_ray.labels.annotations import read_annotation_table
from hypsae_ray.labels.assembly import write_annotations
from hypsae_ray.labels.plan import Job, Plan, describe, first_rows, make_plan
from hypsae_ray.labels.work import FAILURES_IN_A_ROW, LabelShards, Tally
from hypsae_ray.models.protocols import ANNOTATION_ARRAYS, DEFAULT_LABEL, Annotations, LanguageModel
from hypsae_ray.stages.workspace import Track, Workspace
from hypsae_ray.store.artifacts import Folder, Outcome
from hypsae_ray.store.progress import Progress
from hypsae_ray.store.schema import USABLE, Status

FAILURES_SHOWN = 5
ENOUGH = 200  # answers without any label after which none is to be expected
# Where time is limited: pairs of the first round, share of the time left that the next round may take by the
# rate of the one before, and share of all the time that is too little for another round.
FIRST_PAIRS, ROUND_SHARE, LEAST_LEFT = 32, 0.8, 0.1
_NO_WORD = (
    "the model does not answer Yes or No: if it thinks first, switch that off at its server or set "
    "label.thinking: true; else name another llm.model (a lower label.min_mass helps where Yes and No are "
    "among its words, but rare)"
)
WHAT_TO_CHANGE = {
    Status.UNSURE: _NO_WORD,
    Status.UNPARSABLE: _NO_WORD,
    Status.FAILED: "the server takes other requests but none of these: see what it says, and llm.model",
    Status.TOO_LONG: "the prompts do not fit: raise llm.max_model_len, or lower annotate.max_words",
    Status.PENDING: "the server answers other requests but none of these: see what it says, and llm.model",
}
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
        chunked=config.data.chunk is not None,
    )


def annotate(job: Job, engines: Engines, track: Track, say: Say) -> Outcome:
    """Ask what is not answered yet, and write one table of annotations per table of rows.

    Returns:
        Rows, what this call took, and as facts: shards, answers by status, share of time the engines worked.

    Raises:
        PartialResultError: some shards failed each time; the annotations are written, those marked.
        StageError: too many shards failed in a row; those that are finished are kept. Or no answer has a
            label; none is kept then.
    """
    plan = make_plan(job, engines)
    say(f"annotate: {describe(plan)}")
    tally = Tally(FAILURES_IN_A_ROW * max(1, job.llm.replicas.max))
    none_before, all_rows = not plan.annotated, job.n_rows
    if plan.shards and job.options.max_minutes is not None:
        plan = _ask_for(60 * job.options.max_minutes, plan, tally, engines, track, say)
    elif plan.shards:
        _ask(plan, tally, engines, track, say)
    if none_before and not tally.failed:
        _require_a_label(tally, plan, 1)
    plan.store.refresh()
    counts, n_rows = write_annotations(plan)
    made_with = sorted(plan.store.made_with)
    if len(made_with) > 1:
        say(f"annotate: these answers are of {len(made_with)} versions: {'; '.join(made_with)}")
    if tally.there:
        say(f"annotate: {tally.there} shards were written by another job meanwhile")
    lacking = sum(counts.values()) - sum(counts.get(status.name.lower(), 0) for status in USABLE)
    if lacking:
        lines = [f"{lacking:,} of {sum(counts.values()):,} answers have no label: {counts}"]
        if counts.get("pending"):
            lines.append("pending: no answer came; the same command asks again")
        for line in [*lines, *tally.why_no_label]:
            say(f"annotate: {line}")
    if n_rows < all_rows:
        say(_unasked_rows(n_rows, all_rows, tally, job))
    if tally.failed:
        raise PartialResultError(_failures(tally, plan))
    facts = {
        "made_with": made_with,
        "shards": len(plan.shards),
        "answers": counts,
        "layout": plan.label.layout,
        "rows_unasked": all_rows - n_rows,
        **tally.facts,
    }
    return Outcome(n_rows, tally.usage, facts=facts)


def _ask_for(seconds: float, whole: Plan, tally: Tally, engines: Engines, track: Track, say: Say) -> Plan:
    """Label rows in the order of their hashes for a time; return the plan of the rows that were asked about.

    How many rows fit is found by labelling: a few pairs first, then most of what the time that is left holds
    at the rate of the last round. Rounds end when a tenth of the time is left.
    """
    pairs: float = FIRST_PAIRS
    while True:
        plan = first_rows(whole, pairs)
        before, began = tally.answers.total(), tally.seconds
        _ask(plan, tally, engines, track, say)
        answered, took = tally.answers.total() - before, tally.seconds - began
        left = seconds - tally.seconds
        if tally.failed or not answered or left < seconds * LEAST_LEFT or plan.pairs == whole.pairs:
            return plan
        pairs = ROUND_SHARE * left * answered / took


def _unasked_rows(n_rows: int, all_rows: int, tally: Tally, job: Job) -> str:
    rate, minutes = tally.answers.total() / max(tally.seconds, 1e-9), job.options.max_minutes
    return (
        f"annotate: after {minutes:g} min (annotate.max_minutes) at {rate:.2g} pairs a second, {n_rows:,} of "
        f"{all_rows:,} rows have labels, drawn at random; {all_rows - n_rows:,} rows are unasked: "
        "the same command goes on with them"
    )


def _ask(plan: Plan, tally: Tally, engines: Engines, track: Track, say: Say) -> None:
    """Compute the shards of a plan; those that failed each time are in the tally."""
    job = plan.job
    plan.store.begin(plan.shards)
    work = LabelShards(job.answers, plan.store.folder, plan.label, job.options.max_words)
    pool = engines.language_model(job.llm)
    progress = Progress(job.answers, plan.store.folder.name, len(plan.shards), plan.pairs)
    if other := progress.other:
        say(f"annotate: another job is at work here ({other.host}); both go on, each shard is written once")
    name = {"run": PurePosixPath(job.answers.path).parent.name, "labeller": plan.store.folder.name}
    with progress:
        shards = plan.shards
        for attempt in range(1, job.options.tries + 1):
            for report in track(pool.map(work, shards, on_lost=work.lost), len(shards), "shard"):
                tally.add(report)
                engines.publish(name, report.counts)
                progress.count(report.pairs, report.started, tally.workers, shards=not report.failure)
                _require_a_label(tally, plan, ENOUGH)
            if not tally.failed or attempt == job.options.tries:
                break
            why, shards = tally.last_failure, tally.retry()
            say(f"annotate: {len(shards)} shards failed and are tried again; the last one: {why}")


def _require_a_label(tally: Tally, plan: Plan, least: int) -> None:
    """Remove the answers of this job, and end it, if at least so many came and none of them has a label."""
    if not tally.is_barren(least):
        return
    for name in filter(None, tally.files):
        plan.store.folder.remove(name)
    counts = ", ".join(f"{n:,} {name}" for name, n in tally.answers.most_common())
    commonest = Status[tally.answers.most_common(1)[0][0].upper()]
    lines = [
        f"annotate: none of the first {tally.answers.total():,} answers has a label: {counts}",
        *tally.why_no_label,
        WHAT_TO_CHANGE.get(commonest, "see llm.model and what the engine says"),
        "none of these answers is kept: the same command asks again",
    ]
    raise StageError("\n  ".join(lines))


def _failures(tally: Tally, plan: Plan) -> str:
    shown = list(tally.failed.items())[:FAILURES_SHOWN]
    lines = [f"  {name}: {report.failure}" for name, report in shown]
    more = len(tally.failed) - len(shown)
    return "\n".join(
        [
            f"annotate: the result is partial: {len(tally.failed)} of {len(plan.shards)} shards failed "
            f"{plan.job.options.tries} times:",
            *lines,
            *([f"  and {more} more"] if more else []),
            "their answers have the status pending; the same command tries them again",
        ]
    )


def score_named(
    model: LanguageModel, texts: Sequence[str], questions: Sequence[str | None], label: Label = DEFAULT_LABEL
) -> Annotations:
    """Return scores for all questions, asking only those that are there; the others are FAILED."""
    asked = [column for column, question in enumerate(questions) if question is not None]
    scores = Annotations.empty(len(texts), len(questions), Status.FAILED)
    if not asked:
        return scores
    found = model.score(texts, [str(questions[column]) for column in asked], label)
    for name in ANNOTATION_ARRAYS:
        getattr(scores, name)[:, asked] = getattr(found, name)
    return replace(scores, usage=found.usage, words=found.words, reason=found.reason)


def read_annotations(folder: Folder) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row ids (n,), P(yes) (n, H) with NaN where there is no label, and status (n, H)."""
    tables = [read_annotation_table(folder, name) for name in folder.names("annotations-", ".parquet")]
    status = np.concatenate([scores.status for _, scores in tables])
    p_yes = np.concatenate([scores.p_yes for _, scores in tables])
    row_ids = np.concatenate([ids for ids, _ in tables])
    return row_ids, np.where(np.isin(status, USABLE), p_yes, np.nan), status
