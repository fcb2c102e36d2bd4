"""What bench_discovery.py compares gets the same data; and ours: `hypsae run` up to `score_fidelity`."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from kept import Kept
from planted import COVARIATE, TARGET, generate

from hypsae_ray import pipeline
from hypsae_ray.cluster.session import Session
from hypsae_ray.config import Config, Llm, Replicas, loading
from hypsae_ray.console import Console
from hypsae_ray.data.chunks import Rule, by_document
from hypsae_ray.data.files import find_files, read_frames
from hypsae_ray.stages import fingerprints
from hypsae_ray.stages.embed import to_vectors
from hypsae_ray.stats.analysis import Task
from hypsae_ray.store.artifacts import Folder, Manifest
from hypsae_ray.store.stage_tables import read_activations, read_column

HERE = {"min": 0, "max": 0}
TRAINED, NAMED = "embed_holdout", "score_fidelity"
"""The last stages without, and with a language model."""


@dataclass(frozen=True)
class Sizes:
    """What all systems have in common.

    Attributes:
        train, test: texts.
        hypotheses: neurons that are named.
        neurons, k: of the SAE; None: ours' rule.
        candidates: sentences for each neuron.
        naming_examples, scoring_examples: texts in a naming prompt, and texts that score a sentence.
    """

    train: int
    test: int
    hypotheses: int
    neurons: int | None
    k: int | None
    candidates: int
    naming_examples: int
    scoring_examples: int


@dataclass(frozen=True)
class Draw:
    """The data of one seed, in files of a folder of its own.

    Attributes:
        seed: that they were drawn, or split, with.
        folder: holds train.jsonl and test.jsonl, and becomes the run folder.
        covariates: their columns.
        truth: indexed by id, a column of 0 and 1 for each concept; None: unknown.
        concepts: concept, description, role; None: unknown.
    """

    seed: int
    folder: Path
    covariates: tuple[str, ...]
    truth: pd.DataFrame | None = None
    concepts: pd.DataFrame | None = None


@dataclass(frozen=True)
class Rows:
    """What stages read of a draw: texts of a split with what belongs to them, in one order.

    Attributes:
        frame: id, text, target and covariates, n rows.
        vectors: (n, d) embeddings.
    """

    frame: pd.DataFrame
    vectors: np.ndarray


@dataclass(frozen=True)
class Found:
    """What a system found.

    Attributes:
        system: its name.
        seed: of the data.
        hypotheses: neuron_idx, interpretation (None: none), threshold, f1_fidelity_score; a row for each.
        firing: (n, M) bool, which neuron fires on which training text.
        prompt, generated: tokens of naming and scoring.
        naming_s, scoring_s: seconds.
    """

    system: str
    seed: int
    hypotheses: pd.DataFrame
    firing: np.ndarray
    prompt: int
    generated: int
    naming_s: float
    scoring_s: float


def draw_planted(sizes: Sizes, seed: int, keep: Path) -> Draw:
    """Draw made-up texts with their truth."""
    made = generate(sizes.train, sizes.test, seed)
    folder = _write(made.train, made.test, seed, keep, TARGET)
    return Draw(seed, folder, (COVARIATE,), made.truth, made.concepts)


def draw_file(
    path: str, text: str, target: str, covariates: tuple[str, ...], sizes: Sizes, seed: int, keep: Path
) -> Draw:
    """Take rows of a dataset, those to train on and those to test on, in an order drawn by the seed.

    Raises:
        InputError: the files cannot be read, or lack a column.
    """
    columns = [text, target, *covariates]
    frames = [frame for file in find_files(path) for frame in read_frames(file, columns)]
    rows = pd.concat(frames, ignore_index=True).rename(columns={text: "text"})
    rows.insert(0, "id", [f"row-{i}" for i in range(len(rows))])
    order = np.random.default_rng(seed).permutation(len(rows))
    test, train = np.split(order[: sizes.test + sizes.train], [sizes.test])
    return Draw(seed, _write(rows.iloc[train], rows.iloc[test], seed, keep, target), covariates)


def _write(train: pd.DataFrame, test: pd.DataFrame, seed: int, keep: Path, target: str) -> Path:
    """Write both splits into a folder that is named after what they hold."""
    splits = {"train": train, "test": test}
    written = {
        name: frame.rename(columns={target: "target"}).to_json(orient="records", lines=True)
        for name, frame in splits.items()
    }
    digest = hashlib.sha256("".join(written.values()).encode()).hexdigest()
    folder = keep / f"seed-{seed}-{digest[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in written.items():
        if not (folder / f"{name}.jsonl").exists():
            (folder / f"{name}.jsonl").write_text(lines)
    return folder


class Ours:
    """One variant of ours in one draw; the embedding and equal stages are computed once for all variants."""

    def __init__(
        self, name: str, draw: Draw, sizes: Sizes, llm: Llm, overrides: Mapping[str, str], minutes: Kept
    ) -> None:
        self.name, self.draw = name, draw
        self._folder, self._kept = Folder.at(draw.folder / "run"), minutes
        self._config = self._read(_config(draw, sizes, llm), overrides)

    def _read(self, tree: Mapping[str, Any], overrides: Mapping[str, str]) -> Config:
        file = self.draw.folder / f"{self.name}.yaml"
        file.write_text(yaml.safe_dump(tree))
        return fingerprints.pinned(loading.load(file, overrides), {})

    def run(self, session: Session, until: str, chain: str = pipeline.MAIN) -> dict[str, Folder]:
        """Run what a chain still lacks up to a stage; return the folders of its stages.

        Raises:
            TimeoutError: time is up before a stage that asks a language model.
        """
        planned = pipeline.plan(self._config, self._folder, until)
        steps = [step for step in planned if step.chain == chain or step.stage.name in pipeline.SHARED]
        for number, step in enumerate(steps, 1):
            if pipeline.finished(step) is None and step.stage.name in ("interpret", NAMED):
                self._kept.check_time()
            list(pipeline.run_steps(steps[:number], self._folder, Console(), session))
        return {step.stage.name: step.folder for step in steps}

    def rows(self, session: Session) -> dict[str, Rows]:
        """Return the rows of train, val and test, with their embeddings."""
        folders = self.run(session, TRAINED)
        splits = {"train": "embed", "val": "embed", "holdout": "embed_holdout"}
        return {split: self._rows(folders["data"], folders[stage], split) for split, stage in splits.items()}

    def _rows(self, data: Folder, embedded: Folder, split: str) -> Rows:
        table = embedded.read_tables(f"{split}-")
        order = np.argsort(table["row_id"].to_numpy(), kind="stable")
        row_ids = table["row_id"].to_numpy()[order]
        ids = read_column(data, split, "source_id").loc[row_ids]
        name = "test" if split == "holdout" else "train"
        given = pd.read_json(self.draw.folder / f"{name}.jsonl", lines=True, dtype={"text": str, "id": str})
        return Rows(given.set_index("id").loc[ids].reset_index(), to_vectors(table)[order])

    def task(self, session: Session) -> Task:
        """Return what kind of number the target is."""
        manifest = Manifest.load(self.run(session, "data")["data"])
        assert manifest is not None, "the stage has just been run"
        return manifest.outcome.facts["task"]

    def found(self, session: Session) -> Found:
        """Name and score; seconds are those of the first time that a stage was run."""
        return self._found(self.name, self.run(session, NAMED))

    def keywords(self, session: Session) -> Found:
        """Return what the keyword chain of the same run finds."""
        return self._found(pipeline.BASELINE, self.run(session, NAMED, pipeline.BASELINE))

    def _found(self, name: str, folders: Mapping[str, Folder]) -> Found:
        return _of_run(name, self.draw.seed, folders, self._config.data.rule)


def _config(draw: Draw, sizes: Sizes, llm: Llm) -> dict[str, Any]:
    files = {name: str(draw.folder / f"{file}.jsonl") for name, file in SPLIT_FILES.items()}
    sae = {"n_neurons": sizes.neurons, "k": sizes.k, "seed": draw.seed}
    naming = {"n_candidates": sizes.candidates, "n_examples": sizes.naming_examples, "seed": draw.seed}
    return {
        "data": {**files, "target": "target", "id": "id", "covariates": list(draw.covariates)},
        "embed": {"replicas": HERE},
        "train_sae": sae,
        "select": {"n": sizes.hypotheses},
        "llm": llm.model_dump(mode="json", exclude_defaults=True),
        "interpret": naming,
        "score_fidelity": {"n_examples": sizes.scoring_examples, "seed": draw.seed},
    }


SPLIT_FILES = {"train": "train", "holdout": "test"}


def _of_run(name: str, seed: int, folders: Mapping[str, Folder], rule: Rule | None) -> Found:
    named, scored, trained = (Manifest.load(folders[stage]) for stage in ("interpret", NAMED, "train_sae"))
    assert named is not None and scored is not None and trained is not None, "these stages have been run"
    usage = named.outcome.usage + scored.outcome.usage
    row_ids, fired = read_activations(folders["train_sae"], "train", trained.outcome.facts["n_neurons"])
    if rule is not None:
        _, fired = by_document(row_ids, fired, rule)
    return Found(
        system=name,
        seed=seed,
        hypotheses=folders[NAMED].read_table("hypotheses.parquet").to_pandas(),
        firing=fired.toarray() > 0,
        prompt=usage.prompt,
        generated=usage.generated,
        naming_s=named.seconds,
        scoring_s=scored.seconds,
    )


def language_model(model: str, dtype: str, cpus: int) -> Llm:
    """Return the section of the model that all systems ask, in this process."""
    return Llm(model=model, dtype=dtype, max_model_len=8192, replicas=Replicas(**HERE, cpus=cpus))
