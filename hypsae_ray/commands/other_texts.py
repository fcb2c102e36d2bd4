"""What a run and other texts must be for a replication, before anything is labelled."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from hypsae_ray.commands import evaluation
from hypsae_ray.config import Config, ReplicateJob
from hypsae_ray.data.arrays import Bools, Ints
from hypsae_ray.data.dataset import SPLITS
from hypsae_ray.data.files import columns_in, find_files
from hypsae_ray.data.rows import columns_of
from hypsae_ray.errors import ConfigError, InputError
from hypsae_ray.report.run_folder import RunFolder
from hypsae_ray.report.words import count, listed
from hypsae_ray.stages.annotate import Say
from hypsae_ray.stages.texts import read_rows
from hypsae_ray.stats.analysis import Task
from hypsae_ray.store.stage_tables import read_column

LINKS: Mapping[str, str] = {"regression": "identity", "classification": "logit", "count": "log"}
MODELS = {"identity": "OLS", "logit": "logit", "log": "Poisson"}
_MOST_COLUMNS = 20  # in a message


def refuse_run(path: str, config: Config, task: str) -> None:
    """Refuse a run of another kind than single whole texts with one number as target.

    Raises:
        ConfigError: names the field of the run's config.
    """
    data = config.data
    if data.rule == "difference":
        raise ConfigError(
            f"{path}: a run on pairs of texts (data.text_a): only single texts can be replicated"
        )
    if data.chunk is not None and not data.labels_documents:
        raise ConfigError(
            f"{path}: its documents are labelled in chunks (data.chunk.labels: {data.chunk.labels}): only "
            "whole texts can be replicated (data.chunk.labels: whole)"
        )
    if task not in LINKS:
        raise ConfigError(f"{path}: its task is {task}: only {listed([*LINKS])} can be replicated")


def find_task(job: ReplicateJob, task: str, say: Say) -> Task:
    """Check all rows, and return their task, whose model is that of the run's `task`.

    Raises:
        InputError: a file, a column or rows cannot be used; the message says how to name other columns.
        ConfigError: the target is of another kind.
    """
    try:
        found = evaluation.find_task_of(job.testing, say)
    except InputError as error:
        said, of_classes, _ = str(error).partition("data.task: multiclass")
        if of_classes:
            needs = f"the task of the run is {task}, which takes numbers: name another --target"
            raise InputError(f"{said}{needs}") from None
        if "no column" in said:
            _require_columns(job)
        raise
    if LINKS.get(found) != LINKS[task]:
        raise ConfigError(_other_model(job, found, task))
    return found


def _require_columns(job: ReplicateJob) -> None:
    data = job.data
    for file in find_files(data.train, data.encoding, data.delimiter):
        there = columns_in(file)
        if lacking := [name for name in columns_of(data) if name not in there]:
            has = ", ".join(list(there)[:_MOST_COLUMNS])
            raise InputError(
                f"{file.path}: no column {lacking[0]!r}; it has {has}. Columns are those of the run: name "
                "others with --text, --target, --id, --group, --weight, --covariates, or none, as in "
                "--data.id null"
            )


def _other_model(job: ReplicateJob, found: str, task: str) -> str:
    model = MODELS[LINKS[found]] if found in LINKS else "a model for each class"
    return (
        f"{job.data.train}: column {job.data.target!r}: its task is {found} ({model}), but that of the run "
        f"is {task} ({MODELS[LINKS[task]]}): coefficients of different models cannot be compared; name "
        f"another --target, or say --task {task} if its values are to be read so"
    )


def find_known(job: ReplicateJob, run: RunFolder) -> Ints:
    """Return the row ids (k,) of the texts that stand word for word in the data of a run, in any split.

    Where the run embeds documents in chunks, they are compared with its holdout and its training chunks.

    Raises:
        InputError: all do, or some do and `data.overlap` of the run is error.
    """
    stored, known, n_rows = run.folders()["data"], list[np.ndarray](), 0
    splits = [split for split in SPLITS if stored.names(f"{split}-", ".parquet")]
    old = pd.concat([read_column(stored, split, "text_id") for split in splits]).unique()
    for rows in read_rows(job.labelling("")):
        known.append(rows.loc[rows["text_id"].isin(old), "row_id"].to_numpy(np.int64))
        n_rows += len(rows)
    found, action = np.concatenate(known), run.config.data.overlap
    if len(found) and (action == "error" or (action == "drop" and len(found) == n_rows)):
        raise InputError(
            f"{job.data.train}: {count(len(found))} of {count(n_rows)} texts stand in the data of the run, "
            f"the first in row {found[0] + 1} of all: they are no new evidence; give other texts"
        )
    return found


def without(rows: evaluation.Tested, row_ids: Ints) -> evaluation.Tested:
    """Return annotated rows without some."""
    there = rows.labels.row_ids()
    out = np.isin(there, row_ids)
    left_out = np.concatenate([rows.labels.left_out, there[out]])
    kept = {name: _kept(one, ~out) for name, one in rows.arguments.items()}
    return replace(rows, labels=replace(rows.labels, left_out=left_out), arguments=kept)


def _kept(argument: object, kept: Bools) -> object:
    """Return an argument of `evaluate_hypotheses` of fewer rows; a task has none."""
    if isinstance(argument, dict):
        return {name: _kept(one, kept) for name, one in argument.items()}
    return argument[kept] if isinstance(argument, pd.Series | pd.DataFrame | np.ndarray) else argument
