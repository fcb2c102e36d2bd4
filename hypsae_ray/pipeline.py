"""The stages in order, as data, and the loop that runs what is not done yet.

Each stage is the function `run` of a module in `stages/`. It reads the folders of the stages
it names as inputs and writes one of its own, `stages/<name>-<hash8>/`. The hash covers its sections of the
config and the hashes of its inputs, so a folder with a manifest is the answer for exactly this question,
whenever and wherever it was computed. Of `data`, `embed` and `train_sae` see the training texts alone:
another holdout, target or covariate leaves them as they are.

Up to `embed_holdout` there is one chain. After it there are two: the config's own language model, and beside
it the keyword baseline. They are the same stages with another config.
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
from hypsae_ray.stages import fingerprints
from hypsae_ray.store.artifacts import MANIFEST, Folder, Manifest, Outcome, content_hash

if TYPE_CHECKING:
    from hypsae_ray.cluster.session import Session
    from hypsae_ray.stages.workspace import Workspace


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: of its module, config section and folder.
        inputs: the stages whose folders it reads.
        decides: what of the config decides its content, JSON-ready.
        asks: which section of the config names the model that it asks or trains; None: none.
        texts_only: it reads `data` alone, and of it nothing but the texts that train.
        makes: what its `Outcome.rows` counts.
    """

    name: str
    inputs: tuple[str, ...]
    decides: Callable[[Config], dict[str, Any]]
    asks: Callable[[Config], Options] | None = None
    texts_only: bool = False
    makes: str = "rows"


STAGES = (
    Stage("data", (), fingerprints.reading),
    Stage("embed", ("data",), fingerprints.embedding, attrgetter("embed"), texts_only=True, makes="texts"),
    Stage("train_sae", ("embed",), fingerprints.section("train_sae"), attrgetter("train_sae"), makes="texts"),
    Stage("select", ("data", "train_sae"), fingerprints.selecting, makes="neurons"),
    Stage(
        "embed_holdout",
        ("data", "train_sae"),
        fingerprints.embedding_holdout,
        attrgetter("embed"),
        makes="texts",
    ),
    Stage(
        "interpret",
        ("data", "train_sae", "select"),
        fingerprints.naming,
        attrgetter("interpreter"),
        makes="candidates",
    ),
    Stage(
        "score_fidelity",
        ("data", "train_sae", "select", "interpret"),
        fingerprints.scoring,
        attrgetter("llm"),
        makes="candidates",
    ),
    Stage("annotate", ("data", "score_fidelity"), fingerprints.annotating, attrgetter("llm")),
    Stage(
        "evaluate",
        ("data", "train_sae", "select", "embed_holdout", "score_fidelity", "annotate"),
        fingerprints.section("evaluate"),
        makes="hypotheses",
    ),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)
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
    texts_hash: str = ""  # of `data` alone: what texts_only stages see

    @property
    def label(self) -> str:
        """Its name, for people."""
        return self.stage.name if self.chain == MAIN else f"{self.stage.name} ({self.chain})"


@dataclass(frozen=True)
class Record:
    """One stage of a run that is finished: its manifest, and whether an earlier run had finished it."""

    step: Step
    manifest: Manifest
    reused: bool


def plan(config: Config, out: Folder, until: str | None = None) -> list[Step]:
    """Return every step of a run, in order; nothing is computed but hashes.

    Args:
        config: the run.
        out: its folder.
        until: last stage wanted; None: all.

    Raises:
        ConfigError: there is no such stage, or no such selection function.
        InputError: an input file is missing or cannot be read.
    """
    if until is not None and until not in STAGE_NAMES:
        raise ConfigError(f"--until {until}: no such stage; there are {', '.join(STAGE_NAMES)}")
    wanted = STAGES[: STAGE_NAMES.index(until) + 1] if until else STAGES
    split = STAGE_NAMES.index("interpret")
    steps: dict[tuple[str, str], Step] = {(MAIN, "data"): _plan_data(config, out)}
    for chain, its_config in _chains(config).items():
        for stage in wanted:
            shared = STAGE_NAMES.index(stage.name) < split
            key = (MAIN if shared else chain, stage.name)
            if key not in steps:
                before = [steps.get((chain, name)) or steps[MAIN, name] for name in stage.inputs]
                steps[key] = _plan_step(stage, key[0], its_config, before, out)
    return list(steps.values())


def _chains(config: Config) -> dict[str, Config]:
    """Return the configs to run, the quick one first: its answer is there while the LLM works."""
    if not config.uses_llm:
        return {MAIN: config.with_keywords()}
    return {BASELINE: config.with_keywords(), MAIN: config}


def _plan_data(config: Config, out: Folder) -> Step:
    stage, digests = STAGES[0], fingerprints.input_digests(config, out)
    digest = content_hash(stage.name, stage.decides(config), digests)
    training = {name: digest for name, digest in digests.items() if not name.startswith("holdout/")}
    texts_hash = content_hash("texts", fingerprints.training_texts(config), training)
    folder = _stage_folder(out, stage, digest)
    return Step(stage, MAIN, config, digest, folder, {}, out.sub(ANSWERS), texts_hash)


def _plan_step(stage: Stage, chain: str, config: Config, before: list[Step], out: Folder) -> Step:
    seen = {step.stage.name: step.texts_hash if stage.texts_only else step.hash for step in before}
    digest = content_hash(stage.name, stage.decides(config), seen)
    inputs = {step.stage.name: step.folder for step in before}
    folder = _stage_folder(out, stage, digest)
    return Step(stage, chain, config, digest, folder, inputs, out.sub(ANSWERS))


def _stage_folder(out: Folder, stage: Stage, digest: str) -> Folder:
    return out.sub("stages").sub(f"{stage.name}-{digest[:8]}")


def run_steps(steps: Sequence[Step], out: Folder, console: Console) -> Iterator[Record]:
    """Run every step that has no manifest yet, and yield each one's record as it is there.

    Raises:
        ConfigError: this machine, or the cluster, can never hold what a step asks for; nothing was computed.
        HypsaeError: a stage cannot go on; what is finished stays, and the same call goes on from there.
    """
    _reopen(steps)
    left = [step for step in steps if finished(step) is None]
    with ExitStack() as stack:
        session: Session | None = None
        for step in steps:
            manifest = finished(step)  # asked once more: a step of the other chain may have been the same
            if manifest is not None:
                yield Record(step, manifest, reused=True)
                continue
            if session is None:
                session = stack.enter_context(_session(out, console))
            if step.stage.asks:  # all that is to come, as soon as the input is known to be good
                session.check([later.stage.asks(later.config) for later in left if later.stage.asks])
            yield Record(step, _run_step(step, session, console), reused=False)


def _session(out: Folder, console: Console) -> "Session":
    from hypsae_ray.cluster.session import (
        Session,  # here: with nothing to do, neither torch nor Ray is loaded
    )

    return Session(out, console.say)


def _reopen(steps: Sequence[Step]) -> None:
    """Take the manifest from steps that set answers aside, and from those that read them."""
    reopened: set[str] = set()
    for step in steps:
        manifest = finished(step)
        reads = reopened & {folder.path for folder in step.inputs.values()}
        if manifest is not None and (reads or not manifest.is_final):
            step.folder.remove(MANIFEST)
            reopened.add(step.folder.path)


def finished(step: Step) -> Manifest | None:
    """Return the manifest of a step; None if it has none of this very content."""
    manifest = Manifest.load(step.folder)
    return manifest if manifest is not None and manifest.hash == step.hash else None


def _run_step(step: Step, session: "Session", console: Console) -> Manifest:
    from hypsae_ray.stages import workspace

    if step.stage.asks is None:
        session.release()  # what another stage reserved is free for others, however long this one takes
    inputs = {
        name: workspace.Input(folder, _manifest(folder).outcome.facts) for name, folder in step.inputs.items()
    }
    decides = step.stage.decides(step.config)
    work = workspace.Workspace(
        step.config, inputs, decides, step.folder, step.answers, session, console.track, console.say
    )
    with console.stage(step.label) as close:
        started = time.monotonic()
        outcome = _functions()[step.stage.name](work)
        manifest = Manifest(step.stage.name, step.hash, time.monotonic() - started, outcome)
        manifest.save(step.folder)
        close(f"{outcome.rows:,} {step.stage.makes}")
    return manifest


def _functions() -> "dict[str, Callable[[Workspace], Outcome]]":
    """Return the function of each stage, by name; imported when one is to run, since they load torch."""
    from hypsae_ray.stages import (
        annotate,
        data,
        embed,
        embed_holdout,
        evaluate,
        interpret,
        score_fidelity,
        select,
        train_sae,
    )

    return {
        "data": data.run,
        "embed": embed.run,
        "train_sae": train_sae.run,
        "select": select.run,
        "embed_holdout": embed_holdout.run,
        "interpret": interpret.run,
        "score_fidelity": score_fidelity.run,
        "annotate": annotate.run,
        "evaluate": evaluate.run,
    }


def _manifest(folder: Folder) -> Manifest:
    manifest = Manifest.load(folder)
    assert manifest is not None, f"{folder.path} is an input, so it is finished"
    return manifest
