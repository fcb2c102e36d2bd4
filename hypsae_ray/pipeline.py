"""The stages in order, as data, and the loop that runs those that are not finished.

A stage is one row of `STAGES`: its function in `stages/`, the stages whose folders it reads, and what decides
its content. It writes one folder, `stages/<name>-<hash8>/`. The hash covers what decides its content and the
hashes of its inputs, so a folder with a manifest is the result for exactly this config, wherever and whenever
it was computed.

Up to `embed_holdout` there is one chain. After it there are two: the config's own language model, and the
keyword baseline. They are the same stages with another config.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from hypsae_ray.config import Config
from hypsae_ray.console import Console
from hypsae_ray.errors import ConfigError
from hypsae_ray.models.protocols import Options
from hypsae_ray.stages import (
    annotate,
    data,
    embed,
    embed_holdout,
    evaluate,
    fingerprints,
    interpret,
    score_fidelity,
    select,
    train_sae,
)
from hypsae_ray.stages.workspace import Workspace
from hypsae_ray.store.artifacts import MANIFEST, Folder, Manifest, Outcome, content_hash

if TYPE_CHECKING:
    from hypsae_ray.cluster.session import Session


@dataclass(frozen=True)
class Stage:
    """One stage."""

    name: str  # of its folder
    run: Callable[[Workspace], Outcome]
    inputs: tuple[str, ...]  # the stages whose folders it reads
    fingerprint: Callable[[Config], dict[str, Any]]  # what of the config decides its content, JSON-ready
    model: Callable[[Config], Options] | None = None  # the section whose model it asks or trains
    texts_only: bool = False  # of `data` it reads the training texts alone: another target leaves it as it is
    unit: str = "rows"  # what its `Outcome.rows` counts


EMBED, TRAIN_SAE, LLM, NAMER = map(attrgetter, ("embed", "train_sae", "llm", "interpreter"))
TRAINED = ("data", "train_sae")
SELECTED = (*TRAINED, "select")
NAMED = (*SELECTED, "interpret")
LABELLED = (*TRAINED, "embed_holdout", "score_fidelity")
TESTED = (*LABELLED, "annotate")
STAGES = (
    Stage("data", data.run, (), fingerprints.reading),
    Stage("embed", embed.run, ("data",), fingerprints.embedding, EMBED, texts_only=True, unit="texts"),
    Stage("train_sae", train_sae.run, ("embed",), fingerprints.section("train_sae"), TRAIN_SAE, unit="texts"),
    Stage("select", select.run, TRAINED, fingerprints.selecting, unit="neurons"),
    Stage("embed_holdout", embed_holdout.run, TRAINED, fingerprints.embedding_holdout, EMBED, unit="texts"),
    Stage("interpret", interpret.run, SELECTED, fingerprints.naming, NAMER, unit="candidates"),
    Stage("score_fidelity", score_fidelity.run, NAMED, fingerprints.scoring, LLM, unit="candidates"),
    Stage("annotate", annotate.run, LABELLED, fingerprints.annotating, LLM),
    Stage("evaluate", evaluate.run, TESTED, fingerprints.evaluating, unit="hypotheses"),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)
SHARED = STAGE_NAMES[: STAGE_NAMES.index("interpret")]
"""Stages that both chains read."""
MAIN, BASELINE = "main", "keywords"
ANSWERS = "answers"


@dataclass(frozen=True)
class Step:
    """One stage in one chain, planned: where its folder is, and what it reads."""

    stage: Stage
    chain: str
    config: Config
    hash: str
    folder: Folder
    inputs: Mapping[str, Folder]
    answers: Folder

    @property
    def label(self) -> str:
        """Its name in messages."""
        return self.stage.name if self.chain == MAIN else f"{self.stage.name} ({self.chain})"


@dataclass(frozen=True)
class Record:
    """A finished step: its manifest, and whether an earlier run had finished it."""

    step: Step
    manifest: Manifest
    reused: bool


def plan(config: Config, out: Folder, until: str | None = None) -> list[Step]:
    """Return every step of a run up to the stage `until` (None: all), in order; only hashes are computed.

    Raises:
        ConfigError: there is no such stage, or no such selection function.
        InputError: an input file is missing or cannot be read.
    """
    if until is not None and until not in STAGE_NAMES:
        raise ConfigError(f"--until {until}: no such stage; there are {', '.join(STAGE_NAMES)}")
    stages = STAGES[: STAGE_NAMES.index(until) + 1] if until else STAGES
    digests = fingerprints.input_digests(config, out)
    training = {name: digest for name, digest in digests.items() if not name.startswith("holdout/")}
    texts_hash = content_hash("texts", fingerprints.training_texts(config), training)
    steps: dict[tuple[str, str], Step] = {}
    for chain, its_config in _chains(config).items():
        for stage in stages:
            before = [steps.get((chain, name)) or steps[MAIN, name] for name in stage.inputs]
            key = (MAIN if stage.name in SHARED else chain, stage.name)
            if key not in steps:
                seen = {one.stage.name: texts_hash if stage.texts_only else one.hash for one in before}
                digest = content_hash(stage.name, stage.fingerprint(its_config), seen or digests)
                steps[key] = _step(stage, key[0], its_config, digest, before, out)
    return list(steps.values())


def _step(stage: Stage, chain: str, config: Config, digest: str, before: list[Step], out: Folder) -> Step:
    folder = out.sub("stages").sub(f"{stage.name}-{digest[:8]}")
    inputs = {step.stage.name: step.folder for step in before}
    return Step(stage, chain, config, digest, folder, inputs, out.sub(ANSWERS))


def _chains(config: Config) -> dict[str, Config]:
    """Return the configs to run, the quick one first: its results are there while the LLM works."""
    if not config.uses_llm:
        return {MAIN: config.with_keywords()}
    return {BASELINE: config.with_keywords(), MAIN: config}


def run_steps(
    steps: Sequence[Step], out: Folder, console: Console, session: "Session | None" = None
) -> Iterator[Record]:
    """Run every step that has no manifest yet, and yield the record of each as soon as it is finished.

    Models stay loaded in a `session` that is given; else one is opened where it is needed, and closed.

    Raises:
        ConfigError: this machine, or the cluster, can never hold what a step reserves; nothing was computed.
        HypsaeError: a stage failed; what is finished is kept, and the same call resumes there.
    """
    _reopen(steps)
    left = [step for step in steps if finished(step) is None]
    with ExitStack() as stack:
        for step in steps:
            manifest = finished(step)  # again: a step of the other chain may be the same
            if manifest is not None:
                yield Record(step, manifest, reused=True)
                continue
            if session is None:
                session = stack.enter_context(_session(out, console))
            if step.stage.model:  # all that follow too, as soon as the input is known to be good
                session.check([later.stage.model(later.config) for later in left if later.stage.model])
            yield Record(step, _run_step(step, session, console), reused=False)


def _session(out: Folder, console: Console) -> "Session":
    from hypsae_ray.cluster.session import Session  # here: with nothing to do, torch is not loaded

    return Session(out, console.say)


def _reopen(steps: Sequence[Step]) -> None:
    """Remove the manifest of steps with pending annotations, and of those that read them."""
    reopened: set[str] = set()
    for step in steps:
        manifest = finished(step)
        reads = reopened & {folder.path for folder in step.inputs.values()}
        if manifest is not None and (reads or not manifest.is_final):
            step.folder.remove(MANIFEST)
            reopened.add(step.folder.path)


def finished(step: Step) -> Manifest | None:
    """Return the manifest of a step; None if its folder has none with this hash."""
    manifest = Manifest.load(step.folder)
    return manifest if manifest is not None and manifest.hash == step.hash else None


def _run_step(step: Step, session: "Session", console: Console) -> Manifest:
    if step.stage.model is None:
        session.release()  # others may use what an earlier stage reserved, however long this one takes
    places = (step.inputs, step.folder, step.answers)
    work = Workspace(step.config, *places, session, console.track, console.say)
    with console.stage(step.label) as close:
        started = time.monotonic()
        outcome = step.stage.run(work)
        manifest = Manifest(step.stage.name, step.hash, time.monotonic() - started, outcome)
        manifest.save(step.folder)
        close(f"{outcome.rows:,} {step.stage.unit}")
    return manifest
