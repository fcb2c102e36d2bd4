"""The first lines of a run: finished stages, stages to run, models, and times of earlier runs."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import attrgetter

import pyarrow.fs as pafs

from hypsae_ray.commands.annotation import usual_questions
from hypsae_ray.config import Config, Embed
from hypsae_ray.console import duration
from hypsae_ray.data.words import estimate_tokens
from hypsae_ray.labels.plan import Plan, describe, make_plan
from hypsae_ray.models.protocols import Options
from hypsae_ray.pipeline import MAIN, Step, finished
from hypsae_ray.stages.annotate import to_job
from hypsae_ray.store.artifacts import Folder, Manifest

TOKENS_PER_S = 3_500
"""What one CPU core embeds with the default model, by estimated tokens; measured, see jobs/README.md."""
TOKENS_READ = 256  # of a text, at the most
_MEASURED = attrgetter("engine", "model", "advanced", "dtype", "long_texts")
MANY_ROWS, SAMPLE_ROWS = 50_000, 10_000
"""Rows from which on a sample is proposed, and of how many."""
BY_LLM = ("interpret", "score_fidelity", "annotate")
"""Stages that ask a language model."""


def outlook(steps: Sequence[Step], config: Config, out: Folder) -> list[str]:
    """Return lines about what a run is going to do, before anything is computed; none if all is done."""
    done = {step.folder.path for step in steps if (found := finished(step)) and found.is_final}
    to_come = [step for step in steps if step.folder.path not in done]
    if not to_come:
        return []
    before = [step.label for step in steps if step.folder.path in done]
    lines = [f"done before: {', '.join(before)}"] if before else []
    lines.append(f"to do: {', '.join(step.label for step in to_come)}")
    names = {step.stage.name for step in to_come if step.chain == MAIN}
    if names & {"embed", "embed_holdout"}:
        lines.append(f"embeddings: {_embedder(config.embed)}")
    if "interpret" in names and config.interpreter != config.llm:
        lines.append(f"names: {config.interpreter.model}, {_where(config.interpreter)}")
    if config.uses_llm and names & set(BY_LLM):
        lines.append(f"LLM: {config.llm.model} by {config.llm.engine}, {_where(config.llm)}")
    return [*lines, *_times(to_come, out)]


def sizes(steps: Sequence[Step], config: Config) -> list[str]:
    """Return lines about how much there is to do, once stage `data` is finished."""
    data = finished(steps[0])
    to_come = {step.stage.name for step in steps if finished(step) is None}
    if data is None or not to_come:
        return []
    rows = data.outcome.facts["rows"]
    texts = ", ".join(f"{n:,} {split}" for split, n in rows.items())
    names = f"; {config.select.n} neurons to name" if "interpret" in to_come else ""
    texts_read = data.outcome.facts["chunks"] or rows
    n_texts = texts_read["train"] + texts_read["val"]
    rough = _rough(steps[0].folder, config.embed, n_texts) if "embed" in to_come else ""
    of_pairs = " pairs" if config.data.rule == "difference" else ""
    return [f"texts: {texts}{of_pairs}{names}{rough}"]


def _rough(data: Folder, options: Embed, texts: int) -> str:
    """Return how long so many texts like the first ones take; nothing where it was not measured."""
    cores = options.replicas.max * options.replicas.cpus
    if _MEASURED(options) != _MEASURED(Embed()) or options.replicas.gpus or not cores:
        return ""
    first = next(data.tables("train-", ["text"]))["text"].to_pylist()
    tokens = sum(min(estimate_tokens(text), options.max_tokens or TOKENS_READ) for text in first)
    seconds = duration(texts * tokens / len(first) / (cores * TOKENS_PER_S))
    return f"; to embed: some {seconds} on {cores:g} CPU core{'s' * (cores != 1)}, once the model is loaded"


def labelling(steps: Sequence[Step]) -> list[str]:
    """Return a line about the labelling, by far the longest part of a run; none if it is done."""
    own = {step.stage.name: step for step in steps if step.chain == MAIN}
    last = own.get("annotate")
    if last is None or finished(last):
        return []
    named, questions = own["score_fidelity"], usual_questions(last.config)
    if finished(named):
        questions = named.folder.read_table("hypotheses.parquet")["interpretation"].to_pylist()
    job = to_job(last.config, questions, last.inputs["data"], last.answers, last.folder)
    sample = last.config.annotate.sample
    job = replace(job, first_only=sample is not None and sample.half_width is not None)
    plan = make_plan(job)
    return [f"annotate will take: {describe(plan)}", *_sample_instead(plan)]


def _sample_instead(plan: Plan) -> list[str]:
    """Return what a sample would cost and give, where many rows are to be labelled and all are."""
    job, n = plan.job, len(plan.positions)
    if job.options.sample is not None or job.chunked or n <= MANY_ROWS:
        return []
    share, wider = SAMPLE_ROWS / n, math.sqrt(n / SAMPLE_ROWS)
    hours = plan.estimate.hours(plan.rate) * share if plan.rate else None
    takes = f"{hours:,.2f} replica hours" if hours is not None else f"{share:.1%} of that"
    return [
        f"--annotate.sample.rows {SAMPLE_ROWS} would take {takes}; intervals would be {wider:.1f} "
        "times as wide at the most, less where labels can be predicted"
    ]


def _embedder(options: Embed) -> str:
    if options.engine == "column":
        return f"your own, from {options.files or options.column}"
    return f"{options.model} by {options.engine}, {_where(options)}"


def _where(options: Options) -> str:
    if options.replicas.max == 0:
        return "in this process"
    replicas = options.replicas
    number = str(replicas.max) if replicas.min == replicas.max else f"{replicas.min} to {replicas.max}"
    gpus = f" and {replicas.gpus:g} GPU{'s' * (replicas.gpus != 1)}" if replicas.gpus else ""
    return f"replicas in Ray: {number}, each with {replicas.cpus:g} CPU{'s' * (replicas.cpus != 1)}{gpus}"


def _times(to_come: Sequence[Step], out: Folder) -> Iterator[str]:
    seen = {step.label: _seconds(step, out) for step in to_come}
    known = [f"{label} {duration(seconds)}" for label, seconds in seen.items() if seconds]
    unknown = [step.label for step in to_come if _is_long(step) and not seen[step.label]]
    if known:
        yield f"time, as in this folder before: {', '.join(known)}"
    if unknown:
        yield f"time not known yet, shown once measured: {', '.join(unknown)}"


def _is_long(step: Step) -> bool:
    """Whether a language model other than the keywords is asked."""
    return step.chain == MAIN and step.config.uses_llm and step.stage.name in BY_LLM


def _seconds(step: Step, out: Folder) -> float:
    """Return the longest time that this stage has taken here with another config; 0 if there is none."""
    stages = out.sub("stages")
    found = stages.filesystem.get_file_info(pafs.FileSelector(stages.path, allow_not_found=True))
    names = [info.base_name for info in found if info.base_name.rpartition("-")[0] == step.stage.name]
    manifests = [manifest for name in names if (manifest := Manifest.load(stages.sub(name)))]
    asked = _is_long(step)  # keywords take no tokens
    return max((m.seconds for m in manifests if bool(m.outcome.usage.prompt) == asked), default=0.0)
