"""Annotating texts with hypotheses of any origin, without a run: what `hypsae annotate` and `hypsae plan` do.

    OUT/
        annotations-<hash8>/   of one job, by all that decides its content
            annotations-00000.parquet ...: row_id, p_yes, p_neither, status per hypothesis
            hypotheses.csv     each hypothesis with its share of yes, and how many labels it has
            source.json        which rows they are of, and how these were read
        latest.json            names the annotations of the job that ended last
        rows-<hash8>/          the rows of the data: row_id, source_id, text, and why a row has no text
        answers/               all annotations made here, by labeller (see `labels/`)

With more hypotheses or more texts the same OUT asks about the new pairs only. Jobs that run at once share
the folder `answers`, and nothing else.
"""

import io
import tempfile
import time

import numpy as np
import pandas as pd

from hypsae_ray.cluster.engines import Engines
from hypsae_ray.commands.trade import Known, trade
from hypsae_ray.config import UNPLACED, AnnotateJob, Config
from hypsae_ray.data.files import find_files, remarks
from hypsae_ray.errors import ConfigError, PartialResultError
from hypsae_ray.labels.plan import Plan, make_plan
from hypsae_ray.labels.read import ANNOTATIONS, LATEST, StoredLabels
from hypsae_ray.pipeline import ANSWERS
from hypsae_ray.stages import fingerprints
from hypsae_ray.stages.annotate import Say, annotate, to_job
from hypsae_ray.stages.texts import read_hypotheses, read_thresholds, store_rows
from hypsae_ray.stages.workspace import Track
from hypsae_ray.store.artifacts import Folder, Manifest, Outcome, content_hash
from hypsae_ray.store.progress import read_heartbeat

SOURCE = "source.json"
USUAL_SENTENCE = "mentions that the staff was slow to respond or did not care at all, number"


def run(
    config: AnnotateJob,
    out: str,
    engines: Engines,
    say: Say,
    track: Track = lambda items, *_: iter(items),
) -> Manifest:
    """Annotate into the folder `out`, and return the manifest of the annotations.

    Raises:
        UsageError: the input cannot be used; nothing is written.
        PartialResultError: some shards failed each time; all else is written.
        HypsaeError: the job cannot go on; what is finished stays, and the same call goes on from there.
    """
    folder = Folder.at(out)
    hypotheses = _read_hypotheses(config.hypotheses)
    commits = fingerprints.known_commits(folder)
    config = fingerprints.pinned(config, commits)
    rows, rows_hash = _rows_folder(config, folder)
    digest = _digest(config, hypotheses, rows)
    target = folder_of(folder, digest)
    there = Manifest.load(target)
    if there is not None and there.hash == digest and there.is_final:
        _write_source(config, rows, target)  # earlier versions wrote none
        _point_to(target, folder)
        say(f"nothing to do: {target.path} is up to date")
        return there
    _store_rows(config, rows, rows_hash, say)
    fingerprints.remember_commits(commits, folder)
    engines.check([config.llm])
    job = to_job(config, hypotheses["hypothesis"].tolist(), rows, folder.sub(ANSWERS), target)
    _write_source(config, rows, target)
    started = time.monotonic()
    try:
        outcome = annotate(job, engines, track, say)
    except PartialResultError:
        _publish(target, hypotheses, folder)
        raise
    _publish(target, hypotheses, folder)
    manifest = Manifest("annotate", digest, time.monotonic() - started, outcome)
    manifest.save(target)
    return manifest


def folder_of(folder: Folder, digest: str) -> Folder:
    """Return where a job writes, in the folder that it was given, by the hash of its content."""
    return folder.sub(f"{ANNOTATIONS}{digest[:8]}")


def _digest(config: AnnotateJob, hypotheses: pd.DataFrame, rows: Folder) -> str:
    """Return the hash of all that decides what a job writes."""
    decides = {**fingerprints.annotating(config), "questions": hypotheses["hypothesis"].tolist()}
    if "threshold" in hypotheses:
        decides["thresholds"] = hypotheses["threshold"].fillna(UNPLACED).tolist()
    return content_hash("annotate", decides, {"rows": rows.name})


def _point_to(target: Folder, folder: Folder) -> None:
    folder.write_json(LATEST, {"annotations": target.name})


def _rows_folder(config: AnnotateJob, folder: Folder) -> tuple[Folder, str]:
    """Return the folder of the rows of this very data, and the hash that it is named by."""
    digests = fingerprints.file_digests({"data": find_files(config.data)}, folder)
    digest = content_hash("rows", _reading(config), digests)
    return folder.sub(f"rows-{digest[:8]}"), digest


def _reading(config: AnnotateJob) -> dict[str, str | None]:
    return {name: getattr(config, name) for name in ("text", "id", "encoding", "delimiter")}


def _write_source(config: AnnotateJob, rows: Folder, target: Folder) -> None:
    target.write_json(SOURCE, {"rows": rows.name, **_reading(config)})


def _store_rows(config: AnnotateJob, rows: Folder, digest: str, say: Say) -> None:
    """Read the data into the folder of its rows, if they are not there."""
    if Manifest.load(rows) is None:
        started = time.monotonic()
        for remark in remarks(find_files(config.data, config.encoding, config.delimiter)):
            say(f"annotate: {remark}")
        outcome = store_rows(config, rows)
        Manifest("rows", digest, time.monotonic() - started, outcome).save(rows)


def _read_hypotheses(path: str) -> pd.DataFrame:
    """Return the hypotheses of a file: hypothesis, and threshold if the file has it."""
    table = pd.DataFrame({"hypothesis": read_hypotheses(path)}, dtype=object)
    thresholds = read_thresholds(path)
    return table if thresholds is None else table.assign(threshold=thresholds)


def _publish(target: Folder, hypotheses: pd.DataFrame, folder: Folder) -> None:
    """Write how many labels each hypothesis has, and the share of yes among them; then point to the job."""
    labels, yes = np.zeros(len(hypotheses), np.int64), np.zeros(len(hypotheses))
    n_rows, thresholds = 0, UNPLACED
    if "threshold" in hypotheses:
        thresholds = hypotheses["threshold"].fillna(UNPLACED).to_numpy()
    for block in StoredLabels(target, thresholds).blocks():
        labels += (~np.isnan(block)).sum(axis=0)
        yes += np.nansum(block, axis=0)
        n_rows += len(block)
    table = hypotheses.assign(labels=labels, without_label=n_rows - labels)
    table["feature_prevalence"] = yes / np.where(labels > 0, labels, np.nan)
    table.insert(0, "hypothesis_id", range(len(table)))
    target.write_bytes("hypotheses.csv", table.to_csv(index=False).encode())
    _point_to(target, folder)


def summary(manifest: Manifest) -> str:
    """Return what a job did, for people."""
    outcome = manifest.outcome
    facts, usage = outcome.facts, outcome.usage
    counts = ", ".join(f"{count:,} {name}" for name, count in facts["answers"].items())
    lines = [f"{outcome.rows:,} rows; annotations: {counts}"]
    if usage.prompt:
        cached = usage.cached / usage.prompt
        lines.append(f"{usage.prompt:,} prompt tokens, {cached:.0%} of them cached; {usage.generated:,} new")
    if facts.get("busy_share") is not None:
        lines.append(f"engines busy {facts['busy_share']:.0%} of the time; replicas: {facts['workers']}")
    return "\n".join(lines)


def plan(config: AnnotateJob, questions: list[str | None], found: Known | None = None) -> str:
    """Return what a job takes, for people, and what a sample would give, where that is known.

    Nothing is asked, and nothing kept.
    """
    with tempfile.TemporaryDirectory() as path:
        folder = Folder.at(path)
        rows = folder.sub("rows")
        counted = store_rows(config, rows)
        made = make_plan(to_job(config, questions, rows, folder.sub(ANSWERS), folder))
        n_texts = sum(file.rows for file in made.files)
        gives = [] if found is None else ["", trade(found, made)]
    return "\n".join([*_sizes(counted, n_texts, made), *_cost(made), *gives])


def _sizes(counted: Outcome, n_texts: int, made: Plan) -> list[str]:
    empty, found = sum(counted.facts["without_text"].values()), made.estimate
    return [
        f"rows           {counted.rows:>15,}   ({empty:,} without a usable text)",
        f"distinct texts {n_texts:>15,}",
        f"pairs          {found.pairs:>15,}",
        f"prompt tokens  {found.prompt_tokens:>15,}",
        f"  not shared   {found.computed_tokens:>15,}",
        f"shards         {len(made.shards):>15,}",
    ]


def _cost(made: Plan) -> list[str]:
    rate, price = made.rate, made.job.options.price_per_hour
    if rate is None:
        return ["hours per replica: not known; give --rate in pairs per second, or --out of an earlier run"]
    hours = made.estimate.hours(rate)
    lines = [f"replica hours  {hours:>15,.2f}   (at {rate:,.1f} pairs per second and replica)"]
    return lines if price is None else [*lines, f"cost           {hours * price:>15,.2f}"]


def with_measured_rate(config: AnnotateJob, out: str) -> AnnotateJob:
    """Fill in, where no rate is given, that of one replica in the last job in a folder."""
    heartbeat = read_heartbeat(Folder.at(out).sub(ANSWERS))
    if config.annotate.rate or not (heartbeat and heartbeat.pairs):
        return config
    rate = heartbeat.rate / max(heartbeat.workers, 1)
    return config.model_copy(update={"annotate": config.annotate.model_copy(update={"rate": rate})})


def job_of(config: Config) -> AnnotateJob:
    """Return the annotation of a run as a job of its own; its hypotheses are not known yet.

    Raises:
        ConfigError: the holdout is no file, but a share of the training file, or it holds pairs of texts.
    """
    if config.data.rule == "difference":
        raise ConfigError(
            "data.text_a and data.text_b are two columns of texts, labelled when the run has stored "
            "them: `hypsae run` says what labelling takes before it begins"
        )
    if config.data.holdout is None:
        raise ConfigError(
            "data.holdout is null, so which texts are labelled is known when the run has split them: "
            "`hypsae run` says what labelling takes before it begins"
        )
    return AnnotateJob(
        hypotheses="",
        data=config.data.holdout,
        text=config.data.text,
        encoding=config.data.encoding,
        delimiter=config.data.delimiter,
        llm=config.llm,
        label=config.label,
        annotate=config.annotate.model_copy(update={"sample": None}),  # whole: a sample is a part of it
    )


def questions_of(out: str, config: Config) -> list[str | None]:
    """Return the sentences of the hypotheses of a run; before they are written, as many of usual length."""
    folder = Folder.at(out)
    if folder.has("hypotheses.csv"):
        table = pd.read_csv(io.BytesIO(folder.read_bytes("hypotheses.csv")))
        if len(table) == config.select.n:
            return [sentence if isinstance(sentence, str) else None for sentence in table["interpretation"]]
    return usual_questions(config)


def usual_questions(config: Config) -> list[str | None]:
    """Return sentences of usual length, as many as a run will have."""
    return [f"{USUAL_SENTENCE} {number}" for number in range(config.select.n)]


def status(out: str) -> str:
    """Return how far the labelling in a run folder is, for people."""
    answers = Folder.at(out).sub(ANSWERS)
    last = read_heartbeat(answers)
    if last is None:
        return f"{out}: nothing was labelled here yet"
    shards = len(answers.sub(last.labeller).names("shard-", ".parquet"))
    left = "" if last.ended or not last.pairs else f", {last.left_s / 60:,.1f} minutes left"
    return "\n".join(
        [
            f"{last.state}: {last.host}, last heartbeat {time.time() - last.time:,.0f} s ago",
            f"this job: {last.done:,} of {last.shards:,} shards, {last.pairs:,} of {last.all_pairs:,} pairs, "
            f"{last.rate:,.1f} pairs per second{left}",
            f"in all: {shards:,} finished shards in {answers.path}/{last.labeller}",
        ]
    )
