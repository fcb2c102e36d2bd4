"""Stage `data`: read what the user has, check every row, and store it as numbered texts.

The files are read twice: once to check every row before anything is written, once to write. Memory stays
bounded by one frame, plus the hash of each text and, where the data have an id column, the ids.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from hypsae_ray import schema
from hypsae_ray.artifacts import Folder, Outcome
from hypsae_ray.config import Data
from hypsae_ray.core import rows
from hypsae_ray.errors import InputError
from hypsae_ray.inputs import DataFile, find_files, read_frames
from hypsae_ray.stages.workspace import Workspace

SHOWN_BAD_ROWS = 5


def run(work: Workspace) -> Outcome:
    """Write texts of train, val and holdout, and rejected rows; facts: task, rows per split, rejected.

    Raises:
        InputError: a file or a row cannot be used; nothing is left written then.
    """
    options = work.config.data
    sources = {name: find_files(place) for name, place in places(options).items()}
    checks = {name: _check(_tracked(files, work), options) for name, files in sources.items()}
    _refuse(checks, options)
    task = _task(checks, options, work)
    counts, seen = _write(sources, checks, options, work.out)
    if counts["train"] == 0:
        work.out.delete()
        raise InputError(f"{options.train}: no row is left for training after the split for validation")
    if seen:
        work.say(
            f"data: {seen} of {counts['holdout']} holdout texts stand word for word in the training data"
        )
    rejected = pd.concat([check.rejected(name) for name, check in checks.items()])
    if len(rejected):
        table = pa.Table.from_pandas(rejected, schema=schema.REJECTED, preserve_index=False)
        work.out.write_table("rejected.parquet", table)
        work.say(f"data: {len(rejected)} bad rows left out, reasons in rejected.parquet")
    facts = {"task": task, "rows": counts, "rejected": len(rejected), "holdout_seen_in_training": seen}
    return Outcome(sum(counts.values()), facts=facts)


def places(options: Data) -> dict[str, str]:
    """Return the datasets that the user named, by split."""
    named = {"train": options.train, "val": options.val, "holdout": options.holdout}
    return {split: place for split, place in named.items() if place is not None}


@dataclass
class _Check:
    """What the first reading of a dataset found."""

    bad: dict[str, "pd.Series[str]"] = field(default_factory=dict)  # by file: row number -> reason
    rows: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    binary: bool = True

    def see(self, targets: np.ndarray) -> None:
        if len(targets):
            self.rows += len(targets)
            self.low, self.high = min(self.low, targets.min()), max(self.high, targets.max())
            self.binary = self.binary and rows.guess_task(targets) == "classification"

    def rejected(self, split: str) -> pd.DataFrame:
        frames = [
            pd.DataFrame({"split": split, "file": path, "row": bad.index, "reason": bad.to_numpy()})
            for path, bad in self.bad.items()
        ]
        return pd.concat(frames) if frames else pd.DataFrame(columns=schema.REJECTED.names)


def columns_of(options: Data) -> rows.Columns:
    """Return which column plays which part."""
    return rows.Columns(options.text, options.target, options.id, options.group, options.covariates)


def _tracked(files: list[DataFile], work: Workspace) -> Iterable[DataFile]:
    return work.track(files, len(files), "file") if len(files) > 1 else files


def _check(files: Iterable[DataFile], options: Data) -> _Check:
    columns, check = columns_of(options), _Check()
    seen_ids: set[str] = set()
    for file in files:
        reasons = []
        for frame in read_frames(file, columns.names):
            bad = rows.find_bad_rows(frame, columns, binary=options.task == "classification")
            if options.id is not None:
                good = frame[options.id].drop(bad.index).astype(str)
                bad = pd.concat([bad, _repeated(good, seen_ids, options.id)]).sort_index()
                seen_ids.update(good)
            reasons.append(bad)
            check.see(rows.to_numbers(frame[options.target].drop(bad.index)))
        found = pd.concat(reasons)
        if len(found):
            check.bad[file.path] = found
    return check


def _repeated(ids: "pd.Series[str]", seen: set[str], column: str) -> "pd.Series[str]":
    repeated = ids[ids.duplicated() | ids.isin(seen)]
    return ("column " + repr(column) + ": id " + repeated + " is there already").astype(object)


def _refuse(checks: dict[str, _Check], options: Data) -> None:
    if options.on_bad_rows == "error":
        for name, check in checks.items():
            for path, bad in check.bad.items():
                raise InputError(_bad_rows_message(name, path, bad))
    for name, check in checks.items():
        place = places(options)[name]
        if check.rows == 0:
            raise InputError(f"{place}: no usable row is left in {name}")
        if check.low == check.high and name != "val":
            raise InputError(
                f"{place}: column {options.target!r} is {check.low:g} in every row of {name}: "
                "nothing to predict"
            )


def _bad_rows_message(split: str, path: str, bad: "pd.Series[str]") -> str:
    shown = [f"  row {number}: {reason}" for number, reason in bad.head(SHOWN_BAD_ROWS).items()]
    more = len(bad) - len(shown)
    return "\n".join(
        [
            f"{path}: {len(bad)} bad row(s) in {split}:",
            *shown,
            *([f"  and {more} more"] if more else []),
            "mend them, or leave them out with data.on_bad_rows: drop",
        ]
    )


def _task(checks: dict[str, _Check], options: Data, work: Workspace) -> str:
    if options.task != "auto":
        return options.task
    total = sum(check.rows for check in checks.values())
    if all(check.binary for check in checks.values()):
        work.say(f"data: task classification, since all {total} values of {options.target!r} are 0 or 1")
        return "classification"
    low = min(check.low for check in checks.values())
    high = max(check.high for check in checks.values())
    work.say(f"data: task regression, since {options.target!r} runs from {low:g} to {high:g} in {total} rows")
    return "regression"


def _texts(files: list[DataFile], options: Data, bad: dict[str, "pd.Series[str]"]) -> Iterator[pd.DataFrame]:
    """Yield the good rows as the texts table has them; row_id counts all rows, bad ones too."""
    columns, offset = columns_of(options), 0
    for file in files:
        rejected = bad.get(file.path, pd.Series(dtype=object)).index
        for frame in read_frames(file, columns.names):
            row_ids = np.arange(offset, offset + len(frame))
            offset += len(frame)
            keep = ~frame.index.isin(rejected)
            yield _to_texts(frame[keep], row_ids[keep], options)


def _to_texts(frame: pd.DataFrame, row_ids: np.ndarray, options: Data) -> pd.DataFrame:
    def named(column: str | None) -> Any:
        return None if column is None else [_name(value) for value in frame[column]]

    texts = pd.DataFrame({"row_id": row_ids})
    texts["source_id"] = named(options.id)
    texts["text_id"] = rows.text_ids(frame[options.text])
    texts["text"] = frame[options.text].to_numpy()
    texts["target"] = rows.to_numbers(frame[options.target])
    texts["group"] = named(options.group)
    for name in options.covariates:
        texts[f"covariate_{name}"] = rows.to_numbers(frame[name])
    return texts


def _name(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)


def _write(
    sources: dict[str, list[DataFile]], checks: dict[str, _Check], options: Data, out: Folder
) -> tuple[dict[str, int], int]:
    """Write all good rows; return rows per split, and how many holdout texts stand in the training data."""
    counts = {"train": 0, "val": 0, "holdout": 0}
    trained_on: set[str] = set()
    seen = 0
    for name, files in sources.items():
        writers = _writers(out, name, options)
        for frame in _texts(files, options, checks[name].bad):
            _write_split(frame, writers, options)
            if name == "holdout":
                seen += int(frame["text_id"].isin(trained_on).sum())
            else:
                trained_on.update(frame["text_id"])
        for split, writer in writers.items():
            counts[split] = writer.close()
    return counts, seen


class _Writer:
    """Writes the rows of one split into files of `shard_rows` rows each."""

    def __init__(self, folder: Folder, split: str, options: Data) -> None:
        self._folder, self._split, self._size = folder, split, options.shard_rows
        self._schema = schema.texts(options.covariates)
        self._held = pd.DataFrame()
        self._files = self._rows = 0

    def add(self, frame: pd.DataFrame) -> None:
        self._held = pd.concat([self._held, frame]) if len(self._held) else frame
        while len(self._held) >= self._size:
            self._write(self._held[: self._size])
            self._held = self._held[self._size :]

    def close(self) -> int:
        if len(self._held):
            self._write(self._held)
        return self._rows

    def _write(self, frame: pd.DataFrame) -> None:
        table = pa.Table.from_pandas(frame, schema=self._schema, preserve_index=False)
        self._folder.write_table(f"{self._split}-{self._files:05d}.parquet", table)
        self._files += 1
        self._rows += len(frame)


def _writers(folder: Folder, name: str, options: Data) -> dict[str, _Writer]:
    splits = ["train", "val"] if name == "train" and options.val is None else [name]
    return {split: _Writer(folder, split, options) for split in splits}


def _write_split(frame: pd.DataFrame, writers: dict[str, _Writer], options: Data) -> None:
    if len(writers) == 1:
        (writer,) = writers.values()
        writer.add(frame)
        return
    in_val = rows.in_validation(frame["text_id"].tolist(), options.val_fraction)
    writers["val"].add(frame[in_val])
    writers["train"].add(frame[~in_val])
