"""Stage `annotate`: P(yes) of every text for every hypothesis, in shards that are never computed twice.

1. Plan (`labels.plan`): the distinct texts go into `answers/`; what is not annotated yet is cut into shards.
2. Ask (`labels.work`): actors compute shards and write them. One that fails is retried, and pending after
   `annotate.tries` tries: the next run asks again.
3. Assemble (`labels.assembly`): one row per row of the data, with a value and a status per hypothesis.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath

from hypsae_ray.cluster.engines import Engines
from hypsae_ray.config import AnnotateJob, Config, Label
from hypsae_ray.errors import PartialResultError, StageError
from hypsae_ray.labels.assembly import write_annotations
from hypsae_ray.labels.plan import Job, Plan, describe, first_rows, make_plan
from hypsae_ray.labels.work import FAILURES_IN_A_ROW, LabelShards, Tally
from hypsae_ray.models.protocols import ANNOTATION_ARRAYS, DEFAULT_LABEL, Annotations, LanguageModel
from hypsae_ray.stages import fingerprints
from hypsae_ray.stages.holdout import OF_SMALL_LLM
from hypsae_ray.stages.texts import PREFIX
from hypsae_ray.stages.waves import draw_further
from hypsae_ray.stages.workspace import Track, Workspace
from hypsae_ray.store.artifacts import Folder, Outcome
from hypsae_ray.store.progress import Progress
from hypsae_ray.store.schema import USABLE, Status
from hypsae_ray.store.usage import Usage

FAILURES_SHOWN = 5
ENOUGH = 200  # annotations without any label after which none is to be expected
# Where time is limited: pairs of the first round, share of the time left that the next round may take by the
# rate of the one before, and share of all the time that is too little for another round.
FIRST_PAIRS, ROUND_SHARE, LEAST_LEFT = 32, 0.8, 0.1
_NO_WORD = (
    "the model does not answer Yes or No: if it thinks first, switch that off at its server or set "
    "label.thinking: true; else name another llm.model (a lower label.min_mass helps where Yes and No are "
    "among its words, but rare)"
)
_REFUSED = "the server takes other requests but none of these: see what it says, and llm.model"
WHAT_TO_CHANGE = {
    Status.UNSURE: _NO_WORD,
    Status.UNPARSABLE: _NO_WORD,
    Status.FAILED: _REFUSED,
    Status.TOO_LONG: "the prompts do not fit: raise llm.max_model_len, or lower annotate.max_words",
    Status.PENDING: _REFUSED,
}
Say = Callable[[str], None]


def run(work: Workspace) -> Outcome:
    """Annotate the holdout with the hypotheses of this run, or a sample of it, which may come in waves."""
    hypotheses = work.inputs["score_fidelity"].read_table("hypotheses.parquet").to_pandas()
    sentences = [one if isinstance(one, str) else None for one in hypotheses["interpretation"]]
    job = to_job(work.config, sentences, work.inputs["data"], work.answers, work.out)
    ask = partial(annotate, engines=work.engines, track=work.track, say=work.say)
    small = _label_all_rows(work, job, ask)
    sample = work.config.annotate.sample
    if sample is None or not _in_waves(work.config) or not any(sentences):
        done = ask(job)
        return replace(done, usage=small + done.usage)
    first = ask(replace(job, first_only=True))
    if first.rows == sample.size(sum(map(job.rows.count_rows, job.rows.names(job.prefix, ".parquet")))):
        return replace(first, usage=small + first.usage)
    done = ask(replace(job, drawn=draw_further(work, hypotheses)))
    return replace(done, usage=small + first.usage + done.usage)


def _label_all_rows(work: Workspace, job: Job, ask: Callable[[Job], Outcome]) -> Usage:
    """Have the small LLM of a sample, if there is one, label all rows for proxies; return what it took."""
    sample = job.options.sample
    if sample is None or sample.llm is None or not job.distinct:
        return Usage()
    work.engines.check([sample.llm])
    work.say(f"annotate: {sample.llm.model} labels all rows for proxies")
    by = {"llm": sample.llm, "labeller": fingerprints.labeller(sample.llm, work.config.label)}
    options = job.options.model_copy(update={"sample": None})
    return ask(replace(job, **by, options=options, out=work.out.sub(OF_SMALL_LLM))).usage


def _in_waves(config: Config) -> bool:
    """Whether further rows are drawn by what the first ones say: of whole texts, not of parts or pairs."""
    sample = config.annotate.sample
    whole = config.data.rule is None or config.data.labels_documents
    return sample is not None and sample.in_waves and whole


def to_job(
    config: Config | AnnotateJob, questions: Sequence[str | None], rows: Folder, answers: Folder, out: Folder
) -> Job:
    """Return the labelling of the holdout that stage `data` has written, or of what `store_rows` has."""
    of_run = isinstance(config, Config)
    return Job(
        rows=rows,
        prefix="holdout-" if of_run else PREFIX,
        questions=tuple(questions),
        llm=config.llm,
        label=config.label,
        options=config.annotate,
        labeller=fingerprints.labeller(config.llm, config.label),
        answers=answers,
        out=out,
        chunked=of_run and config.data.rule is not None,
    )


def annotate(job: Job, engines: Engines, track: Track, say: Say) -> Outcome:
    """Ask what is not annotated yet, and write one table of annotations per table of rows.

    Returns:
        Rows, what this call took, and as facts: shards, annotations by status, share of time that engines
        worked.

    Raises:
        PartialResultError: every try of some shards failed; the annotations are written, those as pending.
        StageError: too many shards failed in a row; those that are finished are kept. Or no annotation has a
            label; none is kept then.
    """
    plan = make_plan(job)
    say(f"annotate: {describe(plan)}")
    tally = Tally(FAILURES_IN_A_ROW * max(1, job.llm.replicas.max))
    asking = _Asking(tally, engines, track, say)
    job = plan.job
    none_before, all_rows = not plan.annotated, len(plan.positions)
    if plan.shards and (minutes := _minutes(job)) is not None:
        plan = asking.for_a_time(plan, 60 * minutes)
    elif plan.shards:
        asking.all(plan)
    if none_before and not tally.failed:
        _require_a_label(tally, plan, 1)
    plan.store.refresh()
    counts, n_rows = write_annotations(plan)
    made_with = sorted(plan.store.made_with)
    for line in _remarks(tally, counts, made_with):
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


@dataclass(frozen=True)
class _Asking:
    """How shards are computed: by which engines, with which progress bar and messages, and the tally."""

    tally: Tally
    engines: Engines
    track: Track
    say: Say

    def for_a_time(self, whole: Plan, seconds: float) -> Plan:
        """Label rows in the order of their hashes for a time; return the plan of the rows that were asked.

        How many rows fit is found by labelling: a few pairs first, then most of what the time that is left
        holds at the rate of the last round. Rounds end when a tenth of the time is left.
        """
        tally, pairs = self.tally, float(FIRST_PAIRS)
        while True:
            plan = first_rows(whole, pairs)
            before, began = tally.statuses.total(), tally.seconds
            self.all(plan)
            annotated, took = tally.statuses.total() - before, tally.seconds - began
            left = seconds - tally.seconds
            if tally.failed or not annotated or left < seconds * LEAST_LEFT or plan.pairs == whole.pairs:
                return plan
            pairs = ROUND_SHARE * left * annotated / took

    def all(self, plan: Plan) -> None:
        """Compute the shards of a plan; those of which every try failed are in the tally."""
        job, tally, shards = plan.job, self.tally, list(plan.shards)
        plan.store.begin(shards)
        labeller = plan.store.folder.name
        work = LabelShards(job.answers, plan.store.folder, plan.label, job.options.max_words)
        pool = self.engines.language_model(job.llm)
        progress = Progress(job.answers, labeller, len(shards), plan.pairs)
        if other := progress.other:
            self.say(f"annotate: another job is at work here ({other.host}); each shard is written once")
        name = {"run": PurePosixPath(job.answers.path).parent.name, "labeller": labeller}
        with progress:
            for attempt in range(1, job.options.tries + 1):
                for report in self.track(pool.map(work, shards, on_lost=work.lost), len(shards), "shard"):
                    tally.add(report)
                    self.engines.publish(name, report.counts)
                    progress.count(report.pairs, report.started, tally.workers, shards=not report.failure)
                    _require_a_label(tally, plan, ENOUGH)
                if not tally.failed or attempt == job.options.tries:
                    break
                why, shards = list(tally.failed.values())[-1].failure, tally.retry()
                self.say(f"annotate: {len(shards)} shards failed and are tried again; the last one: {why}")


def _remarks(tally: Tally, counts: Mapping[str, int], made_with: Sequence[str]) -> Iterator[str]:
    """Yield what the user should know about the annotations that were written, a line each."""
    if len(made_with) > 1:
        yield f"these answers are of {len(made_with)} versions: {'; '.join(made_with)}"
    if tally.there:
        yield f"{tally.there} shards were written by another job meanwhile"
    total = sum(counts.values())
    if lacking := total - sum(counts.get(status.name.lower(), 0) for status in USABLE):
        yield f"{lacking:,} of {total:,} answers have no label: {dict(counts)}"
        if counts.get("pending"):
            yield "pending: no answer came; the same command asks again"
        yield from tally.why_no_label


def _minutes(job: Job) -> float | None:
    """How long all replicas may work; None: as long as it takes."""
    minutes, sample = job.options.minutes, job.options.sample
    if minutes is None or sample is None or sample.cost is None:
        return minutes
    return minutes / max(1, job.llm.replicas.max)


def _unasked_rows(n_rows: int, all_rows: int, tally: Tally, job: Job) -> str:
    rate, minutes = tally.statuses.total() / max(tally.seconds, 1e-9), _minutes(job) or 0.0
    return (
        f"annotate: after {minutes:.3g} min (annotate.sample) at {rate:.2g} pairs a second, {n_rows:,} of "
        f"{all_rows:,} rows have labels, drawn at random; {all_rows - n_rows:,} rows are unasked: "
        "the same command goes on with them"
    )


def _require_a_label(tally: Tally, plan: Plan, least: int) -> None:
    """Remove the annotations of this job, and end it, if at least so many came and none has a label."""
    if not tally.is_barren(least):
        return
    for name in filter(None, tally.files):
        plan.store.folder.remove(name)
    counts = ", ".join(f"{n:,} {name}" for name, n in tally.statuses.most_common())
    commonest = Status[tally.statuses.most_common(1)[0][0].upper()]
    lines = [
        f"annotate: none of the first {tally.statuses.total():,} answers has a label: {counts}",
        *tally.why_no_label,
        WHAT_TO_CHANGE.get(commonest, "see llm.model and what the engine says"),
        "none of these answers is kept: the same command asks again",
    ]
    raise StageError("\n  ".join(lines))


def _failures(tally: Tally, plan: Plan) -> str:
    failed, tries = tally.failed, plan.job.options.tries
    lines = [
        f"annotate: the result is partial: {len(failed)} of {len(plan.shards)} shards failed {tries} times:",
        *(f"  {name}: {report.failure}" for name, report in list(failed.items())[:FAILURES_SHOWN]),
    ]
    if len(failed) > FAILURES_SHOWN:
        lines.append(f"  and {len(failed) - FAILURES_SHOWN} more")
    return "\n".join([*lines, "their answers have the status pending; the same command tries them again"])


def score_named(
    model: LanguageModel, texts: Sequence[str], questions: Sequence[str | None], label: Label = DEFAULT_LABEL
) -> Annotations:
    """Return annotations (n, H) for all questions; those that are None are FAILED, and not asked."""
    asked = [column for column, question in enumerate(questions) if question is not None]
    annotations = Annotations.empty(len(texts), len(questions), Status.FAILED)
    if not asked:
        return annotations
    found = model.score(texts, [str(questions[column]) for column in asked], label)
    for name in ANNOTATION_ARRAYS:
        getattr(annotations, name)[:, asked] = getattr(found, name)
    return replace(annotations, usage=found.usage, words=found.words, reason=found.reason)
