"""`hypsae evaluate`: the rows that `hypsae annotate` labelled and their target, for `evaluate_hypotheses`.

1. The data must hold the rows that were annotated, in their order. Ids are compared row by row, or texts
   where the job had no ids.
2. Target, group, covariates and weight are read, and refused, as `hypsae run` does it. Of a job that labelled
   some of the rows (`annotate.sample`), only these are read, and estimates are of all.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from hypsae_ray.commands.annotation import SOURCE
from hypsae_ray.config import UNPLACED, Data, EvaluateJob
from hypsae_ray.config.loading import load_evaluation
from hypsae_ray.data.arrays import Bools, Hashes, codes_of
from hypsae_ray.data.columns import Typed, names, numbers, texts
from hypsae_ray.data.dataset import find_levels, read_rows
from hypsae_ray.data.files import DataFile, columns_in, find_files, read_frames, remarks
from hypsae_ray.data.levels import Levels
from hypsae_ray.data.rows import columns_of, number_columns, text_ids
from hypsae_ray.errors import ConfigError, InputError
from hypsae_ray.labels.read import StoredLabels, find_annotations
from hypsae_ray.report.results import without_nan
from hypsae_ray.stages.annotate import Say
from hypsae_ray.stages.data import Check, TruthValues, find_task, refuse_bad_rows, tell_classes
from hypsae_ray.stages.evaluate import absent_notes, repeat_notes
from hypsae_ray.stages.texts import PREFIX
from hypsae_ray.stats.analysis import Task
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import COVARIATE

FORMATS = (".csv", ".parquet", ".jsonl")
EFFECT = "effect_"  # before the names of fixed effects, next to columns such as target


@dataclass(frozen=True)
class Source:
    """What a job of `hypsae annotate` read: the folder of its rows, and its text, id, encoding, delimiter."""

    rows: Folder
    reading: Mapping[str, str | None]

    @classmethod
    def of(cls, annotations: Folder) -> "Source":
        """Return the source of a folder of annotations.

        Raises:
            InputError: it does not say which rows it is of, or they are gone.
        """
        where = f"{annotations.path}: which rows were annotated is not known"
        advice = "the same `hypsae annotate` writes that again, and asks nothing that has an answer"
        if not annotations.has(SOURCE):
            raise InputError(f"{where}, as there is no {SOURCE}; {advice}")
        reading = annotations.read_json(SOURCE)
        rows = annotations.parent.sub(reading.pop("rows"))
        if not rows.names(PREFIX, ".parquet"):
            raise InputError(f"{where}, as {rows.path} is gone; {advice}")
        return cls(rows, reading)

    def hashes(self, column: str) -> Hashes:
        """Return a hash of what a column, source_id or text_id, has on each row, (n,) by row_id."""
        tables = self.rows.tables(PREFIX, [column])
        return np.concatenate([_hashes(table[column].to_numpy()) for table in tables])


@dataclass(frozen=True)
class Job:
    """What is to be tested, and where its annotations are."""

    config: EvaluateJob
    annotations: Folder
    source: Source


@dataclass(frozen=True)
class Tested:
    """Annotated rows as `evaluate_hypotheses` takes them, indexed by row_id.

    Attributes:
        labels: of these rows.
        arguments: target and task; groups, covariates, fixed_effects, weights and groupings if there are any.
        notes: on how the rows were read.
    """

    labels: StoredLabels
    arguments: Mapping[str, Any]
    notes: Sequence[str]


def plan(annotations: str, fields: Mapping[str, Any], overrides: Mapping[str, str]) -> Job:
    """Return what is to be tested; its data are read as the job read them, unless an override differs.

    Args:
        annotations: folder or URI of `hypsae annotate`.
        fields: of `EvaluateJob`; of its section data the path, as train, and columns.
        overrides: by dotted name, see `load_evaluation`.

    Raises:
        InputError: there are no annotations, or it is not known which rows they are of.
        ConfigError: a field or an override is refused.
    """
    folder = find_annotations(annotations)
    source = Source.of(folder)
    reading = {name: value for name, value in source.reading.items() if value is not None}
    data = {"holdout": fields["data"]["train"], **reading, **fields["data"]}
    return Job(load_evaluation({**fields, "data": data}, overrides), folder, source)


def read(job: Job, say: Say) -> Tested:
    """Read the data of a job.

    Raises:
        InputError: they are not the rows that were annotated, or a file, column or row cannot be used.
    """
    options, labels = job.config.data, StoredLabels(job.annotations, UNPLACED)
    files = find_files(options.train, options.encoding, options.delimiter)
    for remark in remarks(files):
        say(f"data: {remark}")
    _require_same_rows(files, job)
    text_hashes, levels = job.source.hashes("text_id"), find_levels({"data": files}, options)
    tell_classes(levels, options, say)
    annotated = np.zeros(len(text_hashes), dtype=bool)
    annotated[labels.row_ids()] = True
    check, rows = _read_rows(files, job.config, levels, annotated)
    refuse_bad_rows({"data": check}, options, {"data": files})
    _require_values(check, options)
    annotated[rows.index] = False
    found, task = pd.Series(text_hashes[rows.index]), find_task({"data": check}, options, say)
    arguments = {"target": _target(rows, levels), "task": task, **_others(job.config, rows, found)}
    notes = [*_dropped_notes(check), *levels.notes(), *repeat_notes(found)]
    notes += absent_notes(levels.classes, rows["target"].to_numpy())
    return Tested(replace(labels, left_out=np.flatnonzero(annotated)), arguments, notes)


def find_task_of(config: EvaluateJob, say: Say) -> Task:
    """Read rows that are not annotated yet, their ids and texts too; return the task that their target fits.

    Raises:
        InputError: a file, column or row cannot be used, or the target has one value.
    """
    options, check, reasons = config.data, Check(), dict[str, list[Any]]()
    files = find_files(options.train, options.encoding, options.delimiter)
    for remark in remarks(files):
        say(f"data: {remark}")
    levels = find_levels({"data": files}, options)
    truth = TruthValues(options, levels)
    columns = columns_of(options)
    for file, frame in ((one, frame) for one in files for frame in read_frames(one, columns)):
        found = read_rows(file, frame, options, levels)
        truth.see(file.path, frame, found.values)
        check.targets.see(found.values["target"].drop(found.bad.index).to_numpy())
        reasons.setdefault(file.path, []).append(found.bad)
    check.bad |= {path: bad for path, parts in reasons.items() if len(bad := pd.concat(parts))}
    refuse_bad_rows({"data": check}, options, {"data": files})
    _require_values(check, options)
    return find_task({"data": check}, options, say)


def _require_values(check: Check, options: Data) -> None:
    if check.targets.low == check.targets.high:
        raise InputError(f"{options.train}: column {options.target!r} has one value: nothing to predict")


def _require_same_rows(files: Sequence[DataFile], job: Job) -> None:
    """Refuse files that do not hold the rows that were annotated, by their ids, else by their texts."""
    text, its_id = job.config.data.text, job.config.data.id
    by_id = its_id is not None and all(its_id in columns_in(file) for file in files)
    column, expected = its_id if by_id else text, job.source.hashes("source_id" if by_id else "text_id")
    n_rows, other = 0, ""
    for file in files:
        for frame in read_frames(file, [column]):
            found = names(frame[column]).values if by_id else _text_ids(texts(frame[column]))
            there = expected[n_rows : n_rows + len(frame)]
            differs = np.flatnonzero(_hashes(found)[: len(there)] != there)
            if len(differs) and not other:
                other = f"{file.path}: row {frame.index[differs[0]]}: another {'id' if by_id else 'text'}"
            n_rows += len(frame)
    advice = "give the data that `hypsae annotate` read, its rows in the same order"
    if n_rows != len(expected):
        raise InputError(
            f"{job.config.data.train}: {n_rows:,} rows, but {len(expected):,} were read; {advice}"
        )
    if other:
        raise InputError(f"{other} (column {column!r}) than the row that was annotated; {advice}")


def _text_ids(found: Typed) -> np.ndarray:
    ids = np.full(len(found.values), None, dtype=object)
    ids[found.usable] = text_ids(found.values[found.usable])
    return ids


def _hashes(values: np.ndarray) -> Hashes:
    """Return a hash of each of n texts; one for all that are None."""
    return pd.util.hash_array(np.where(pd.isna(values), "", values), categorize=False)


def _read_rows(
    files: Sequence[DataFile], config: EvaluateJob, levels: Levels, annotated: Bools
) -> tuple[Check, pd.DataFrame]:
    """Return which of the `annotated` rows (n,) are bad, and the others indexed by row_id."""
    check, truth, parts = Check(), TruthValues(config.data, levels), list[pd.DataFrame]()
    columns, first = list(dict.fromkeys([*number_columns(config.data), *config.fixed_effects])), 0
    for file in files:
        reasons = list[Any]()
        for frame in read_frames(file, columns):
            row_ids = first + np.flatnonzero(annotated[first : first + len(frame)])
            frame, first = frame.iloc[row_ids - first], first + len(frame)
            found = read_rows(file, frame, config.data, levels, with_texts=False)
            truth.see(file.path, frame, found.values)
            effects = frame[list(config.fixed_effects)].add_prefix(EFFECT)
            good = found.values.assign(row_id=row_ids).join(effects).drop(found.bad.index)
            check.targets.see(good["target"].to_numpy())
            parts.append(good)
            reasons.append(found.bad)
        if any(map(len, reasons)):
            check.bad[file.path] = pd.concat(reasons)
    return check, pd.concat(parts).set_index("row_id")


def _dropped_notes(check: Check) -> list[str]:
    """Say how many rows are left out, and why the first one is."""
    if not check.bad:
        return []
    (path, bad), *_ = check.bad.items()
    n_bad = sum(map(len, check.bad.values()))
    rows = f"{n_bad:,} of {n_bad + check.targets.rows:,} annotated rows are left out (data.on_bad_rows)"
    return [f"{rows}, the first: {path}: row {bad.index[0]}: {bad.iloc[0]}"]


def _target(rows: pd.DataFrame, levels: Levels) -> "pd.Series[Any]":
    """Return the target; of several classes their names, or numbers if all are."""
    if not levels.classes:
        return rows["target"]
    classes = pd.Series(levels.classes, dtype=object)
    typed = numbers(classes)
    values = typed.values if typed.usable.all() else classes.to_numpy()
    return pd.Series(values[rows["target"].to_numpy(np.int64)], index=rows.index)


def _others(config: EvaluateJob, rows: pd.DataFrame, text_hashes: "pd.Series[Any]") -> dict[str, Any]:
    """Return the further arguments of `evaluate_hypotheses`."""
    others: dict[str, Any] = {}
    if config.data.group is not None:
        others["groups"] = rows["group"]
    elif text_hashes.duplicated().any():
        others["groupings"] = {"repeated text": codes_of(text_hashes)}
    if config.data.weight is not None:
        others["weights"] = rows["weight"]
    covariates = [name for name in rows if str(name).startswith(COVARIATE)]
    if covariates and config.evaluate.covariates:
        others["covariates"] = rows[covariates].rename(columns=lambda name: name.removeprefix(COVARIATE))
    effects = [name for name in rows if str(name).startswith(EFFECT)]
    effects += ["group"] if config.evaluate.absorb_group else []
    if effects:
        others["fixed_effects"] = rows[effects].rename(columns=lambda name: name.removeprefix(EFFECT))
    return others


def require_format(out: str) -> None:
    """Refuse a file for the table that has none of the FORMATS.

    Raises:
        ConfigError: names them.
    """
    if not out.lower().endswith(FORMATS):
        raise ConfigError(f"{out}: a table can be {', '.join(FORMATS)}: let its name end in one of these")


def write(table: pd.DataFrame, out: str) -> None:
    """Write a table into a file or URI, in the format of its ending, whole or not at all.

    Raises:
        UsageError: the file cannot be written.
    """
    file, ending = Folder.at(out), out.lower().rpartition(".")[2]
    if ending == "parquet":
        file.parent.write_table(file.name, pa.Table.from_pandas(table, preserve_index=False))
    elif ending == "csv":
        file.parent.write_bytes(file.name, table.to_csv(index=False).encode())
    else:
        lines = [json.dumps(row) for row in without_nan(table.to_dict("records"))]
        file.parent.write_bytes(file.name, "".join(f"{line}\n" for line in lines).encode())
