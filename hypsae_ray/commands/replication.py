"""`hypsae replicate`: the hypotheses of a finished run, as they are, on other texts.

    OUT/
        replication.csv    per hypothesis: both effects, their difference, both pooled, and what replicates
        replication.html   the same as a page
        evaluation.csv     the tests on the other texts alone, as those of a run
        hypotheses.csv     the sentences and thresholds of the run, by hypothesis_id
        labels/            what `hypsae annotate` writes for them

1. All rows of the other texts are checked before anything is labelled: columns, targets, ids and texts.
2. They are labelled as a job of `hypsae annotate`. A hypothesis without a usable sentence is not asked, and
   keeps its place, so that ids are those of the run.
3. They are tested as `hypsae evaluate` tests them, with the options of the run, and compared with it. Texts
   that stand word for word in the data of the run are no new evidence: `data.overlap` of the run says whether
   they are left out, refused, or kept and counted.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from hypsae_ray.cluster.engines import Engines
from hypsae_ray.commands import annotation, evaluation, other_texts
from hypsae_ray.config import ReplicateJob
from hypsae_ray.config.loading import load_replication
from hypsae_ray.console import Console
from hypsae_ray.data.arrays import Ints
from hypsae_ray.errors import InputError, PartialResultError
from hypsae_ray.pipeline import MAIN
from hypsae_ray.report import replication as report
from hypsae_ray.report.run_folder import EVALUATION, Chain, RunFolder
from hypsae_ray.report.words import listed, nothing_measured, plural
from hypsae_ray.stages import fingerprints
from hypsae_ray.stages.annotate import Say
from hypsae_ray.stats.evaluate import Evaluation
from hypsae_ray.stats.replication import compare
from hypsae_ray.store.artifacts import Folder, content_hash

TABLE, PAGE, HYPOTHESES, LABELS = "replication.csv", "replication.html", "hypotheses.csv", "labels"
_TESTS = (
    "alpha",
    "correction",
    "cov_type",
    "covariates",
    "absorb_group",
)  # what decides estimates and verdicts
_MEANS = {"target": ": differences and pooled effects mean nothing unless both have the same unit"}
Evaluate = Callable[..., Evaluation]  # `api.evaluation.evaluate_hypotheses`, which stands above commands


@dataclass(frozen=True)
class Replicating:
    """What is to be replicated, on texts that were checked.

    Attributes:
        run: the folder of the first run.
        chain: its own results.
        job: the other texts, how they are labelled and tested.
        known: row ids of the other texts that the run has too, (k,).
        out: folder or URI of the results.
    """

    run: RunFolder
    chain: Chain
    job: ReplicateJob
    known: Ints
    out: str

    @property
    def first(self) -> Evaluation:
        """What the run itself found."""
        return Evaluation(self.chain.evaluation, self.chain.metrics, self.chain.notes)


def plan(
    path: str,
    texts: str,
    columns: Mapping[str, object],
    overrides: Mapping[str, str],
    say: Say,
    out: str | None = None,
) -> Replicating:
    """Check a run and other texts for it; nothing is written.

    Args:
        path: run folder or URI.
        texts: file, glob or folder of the other texts.
        columns: those whose names differ from the run's, by their field of section data; and task.
        overrides: by dotted name, see `load_replication`.
        say: is given what the data say of themselves.
        out: folder or URI of the results; None: inside the run folder, named after the texts.

    Raises:
        InputError: there is no finished run, it has no hypotheses, or the texts cannot be used.
        ConfigError: the run is of pairs, chunks or classes, its task is another one, or an option is refused.
    """
    run = RunFolder.at(path)
    run.tables()
    config, chain = run.config, run.chains()[MAIN]
    task = run.stages()["data"]["facts"]["task"]
    other_texts.refuse_run(path, config, task)
    if not chain.hypotheses["interpretation"].notna().any():
        raise InputError(f"{path}: this run has no hypothesis with a usable sentence: nothing to replicate")
    job = load_replication(config, texts, columns, overrides)
    data = job.data.model_copy(update={"task": other_texts.find_task(job, task, say)})
    llm = fingerprints.pinned(job.labelling(""), fingerprints.known_commits(run.folder)).llm
    job = job.model_copy(update={"data": data, "llm": llm})
    known = other_texts.find_known(job, run)
    return Replicating(run, chain, job, known, out or f"{path.rstrip('/')}/{default_name(texts)}")


def default_name(texts: str) -> str:
    """Return the name of the folder of a replication: of the texts, and a hash of their whole path.

    >>> default_name("/data/second wave.jsonl.gz")
    'replication-second-wave-a80bf3dc'
    """
    name = re.split(r"[*?\[]", texts.rstrip("/"))[0].rstrip("/").rpartition("/")[2].partition(".")[0]
    digest = content_hash("replication", {"texts": Folder.at(texts).path}, {})[:8]
    return "-".join(filter(None, ["replication", re.sub(r"\W+", "-", name).strip("-"), digest]))


def run(planned: Replicating, engines: Engines, console: Console, evaluate: Evaluate) -> str:
    """Label, test and compare; write the results and return them for people.

    Args:
        planned: what `plan` returned.
        engines: the language model.
        console: shows what is done.
        evaluate: `api.evaluation.evaluate_hypotheses`.

    Raises:
        PartialResultError: some shards failed each time, and nothing is compared; or no hypothesis could be
            tested on the new texts, which is written all the same.
        HypsaeError: labelling cannot go on; what is finished stays, and the same call goes on from there.
    """
    folder, first = Folder.at(planned.out), planned.first
    labels = _label(planned, folder, engines, console)
    found = _test(planned, labels, evaluate)
    options = planned.job.evaluate
    compared = compare(first, found, options.correction, options.alpha)
    notes = [*_differences(planned, found), *(f"new texts: {note}" for note in found.notes)]
    results = report.Results(compared, first.metrics, found.metrics, planned.job, planned.run.config, notes)
    folder.write_bytes(EVALUATION, found.table.to_csv(index=False).encode())
    folder.write_bytes(PAGE, report.render(results).encode())
    folder.write_bytes(TABLE, compared.table.to_csv(index=False).encode())
    text = f"{report.text(results)}\n\ntable: {planned.out}/{TABLE}\npage: {planned.out}/{PAGE}"
    if nothing := nothing_measured(found.metrics):
        console.show(text)
        raise PartialResultError(nothing.replace("holdout", "new"))
    return text


def _label(planned: Replicating, folder: Folder, engines: Engines, console: Console) -> str:
    """Label the other texts; return the folder or URI of the annotations."""
    hypotheses = planned.chain.hypotheses[["hypothesis_id", "interpretation", "threshold"]]
    frozen = hypotheses.rename(columns={"interpretation": "hypothesis"})
    folder.write_bytes(HYPOTHESES, frozen.to_csv(index=False).encode())
    job, out = planned.job.labelling(f"{planned.out}/{HYPOTHESES}"), f"{planned.out}/{LABELS}"
    with console.stage("annotate") as close:
        manifest = annotation.run(job, out, engines, console.say, console.track)
        close(f"{manifest.outcome.rows:,} rows")
    return f"{out}/{annotation.folder_of(folder.sub(LABELS), manifest.hash).name}"


def _test(planned: Replicating, labels: str, evaluate: Evaluate) -> Evaluation:
    """Test the labels as the run was tested; notes say which texts are not new."""
    tested = planned.job.testing.model_dump(mode="json")
    rows = evaluation.read(evaluation.plan(labels, tested, {}), lambda _: None)  # which `plan` has said
    known = set(rows.labels.row_ids()) & set(planned.known)
    left_out = bool(known) and planned.run.config.data.overlap == "drop"
    if left_out:
        rows = other_texts.without(rows, planned.known)
    settings = planned.job.evaluate.model_dump(exclude={"covariates", "absorb_group"})  # rows follow these
    found = evaluate(rows.labels, **rows.arguments, **settings)
    found.notes.extend(rows.notes)
    if known:
        became = "left out" if left_out else "kept: they are no new evidence"
        texts = plural(len(known), "text stands", "texts stand")
        found.notes.append(f"{texts} in the data of the run too (data.overlap): {became}")
    return found


def _differences(planned: Replicating, found: Evaluation) -> Iterator[str]:
    """Say in what the second evaluation differs from the first, other than in its texts."""
    first, job = planned.run.config, planned.job
    if fingerprints.labeller(first.llm, first.label) != fingerprints.labeller(job.llm, job.label):
        yield "the texts are labelled by another model, or in another way, than those of the run"
    for name in ("target", "group", "weight", "covariates"):
        before, now = (getattr(data, name) for data in (first.data, job.data))
        if before != now:
            yield f"data.{name} is {_shown(now)}, and {_shown(before)} in the run{_MEANS.get(name, '')}"
    changed = [name for name in _TESTS if getattr(first.evaluate, name) != getattr(job.evaluate, name)]
    if changed:
        differ = "differs" if len(changed) == 1 else "differ"
        yield f"{listed([f'evaluate.{name}' for name in changed])} {differ} from the run"
    yield from _other_sets(planned.first.table, found.table)


def _other_sets(first: pd.DataFrame, new: pd.DataFrame) -> Iterator[str]:
    """Say which hypotheses are in one joint model only, as each coefficient depends on the others."""
    in_first, in_new = (set(one.loc[one["regression_coef"].notna(), "hypothesis_id"]) for one in (first, new))
    for only, model in ((in_first - in_new, "the first run"), (in_new - in_first, "the new texts")):
        if only:
            which = listed([f"#{number}" for number in sorted(only)])
            yield f"only the model of {model} holds {which}: coefficients of the others are given these there"


def _shown(columns: object) -> str:
    return listed(list(columns)) if columns and isinstance(columns, tuple) else str(columns or "not given")
