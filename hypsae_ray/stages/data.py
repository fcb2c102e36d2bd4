"""Stage `data`: read what the user has, check every row, and store it as numbered texts.

The files are read several times: to check every row, to compare the holdout with the training texts, and to
write, once all checks have passed. Memory stays bounded by one frame, plus what `data.holdout` keeps
of each training text and, where the data have an id column, the ids.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pyarrow as pa

from hypsae_ray.config import Data
from hypsae_ray.data import rows
from hypsae_ray.data.chunks import describe_chunks, to_texts
from hypsae_ray.data.dataset import (
    SPLITS,
    Dataset,
    Files,
    Reasons,
    find_levels,
    find_names,
    paths_of,
    read_rows,
)
from hypsae_ray.data.files import DataFile, find_files, read_frames, remarks
from hypsae_ray.data.holdout import Comparison, TargetRange, compare, find_possible_groups
from hypsae_ray.data.levels import Levels
from hypsae_ray.data.own_vectors import OwnVectors
from hypsae_ray.data.targets import pair_notes
from hypsae_ray.data.values import COMMA, says_truth, shown
from hypsae_ray.errors import InputError
from hypsae_ray.models.protocols import Embedded
from hypsae_ray.stages.embed import OWN, to_table
from hypsae_ray.stages.workspace import Workspace
from hypsae_ray.stats.analysis import Task
from hypsae_ray.store import schema
from hypsae_ray.store.artifacts import Folder, Outcome

SHOWN_BAD_ROWS = 5
MOST_GUESSED = 20  # names in a target that may be classes
VECTOR = "vector"
_ADVICE = "mend them, or leave them out with data.on_bad_rows: drop"
_DECIMAL_ADVICE = "where the comma is the decimal mark, set data.decimal: ','; where it parts thousands, '.'"


def run(work: Workspace) -> Outcome:
    """Write texts of train, val and holdout, rejected rows, and columns that may be groups of the holdout.

    Facts: task, its classes, notes on covariates that are categories, rows and distinct texts per split,
    chunks per split (or texts of pairs; empty where a row is one text), rejected rows, overlap (holdout rows
    that are not new, by kind, and what became of them), possible_groups (names of columns).

    Raises:
        InputError: a file, a row or a split cannot be used; nothing is written then.
    """
    options = work.config.data
    encoding = (options.encoding, options.delimiter)
    files = {source: find_files(path, *encoding) for source, path in paths_of(options).items()}
    for remark in remarks(file for found in files.values() for file in found):
        work.say(f"data: {remark}")
    levels = find_levels(files, options)
    tell_classes(levels, options, work.say)
    whole, truth = Dataset(options, files, {}, levels), TruthValues(options, levels)
    own = OwnVectors.find(work.config, files) if work.config.embed.engine == "column" else None
    checks = {}
    for source, found in files.items():
        tracked = work.track(found, len(found), "file") if len(found) > 1 else found
        checks[source] = _check(source, tracked, whole, truth, own)
    refuse_bad_rows(checks, options, files)
    bad = {source: check.bad for source, check in checks.items()}
    every = replace(whole, left_out=bad)
    if own is not None:
        _check_vectors(own, checks, every, work)
    task = find_task(checks, options, work.say)
    compared = compare(every)
    counts = {split: targets.rows for split, targets in compared.targets.items()}
    _refuse_overlap(compared, options)
    _refuse_splits(compared, every)
    _tell_repeats(compared, counts, options, work)
    known = compared.reasons if options.overlap == "drop" else {}
    dataset = every.without("holdout", known)
    written = _write(dataset, work.out, own)
    embedded = {**written, "holdout": written[options.embedded_holdout]}
    sizes = {split: embedded[split] for split in SPLITS}
    if options.chunk is not None:
        chunks = ", ".join(f"{split} {counts[split]} in {n}" for split, n in sizes.items())
        work.say(f"data: documents in chunks of {describe_chunks(options.chunk)}: {chunks}")
    for note in levels.notes():
        work.say(f"data: {note}")
    facts = {
        "task": task,
        "classes": list(levels.classes),
        "category_notes": levels.notes(),
        "rows": counts,
        "chunks": {} if options.rule is None else sizes,
        "distinct_texts": dict(compared.distinct_texts),
        "overlap": _overlap(compared, options, work),
        "rejected": _write_rejected([*bad.items(), ("holdout", known)], work),
        "possible_groups": _write_possible_groups(dataset, work.out),
    }
    return Outcome(sum(written[split] for split in SPLITS), facts=facts)


@dataclass
class Check:
    """What the first reading of some files found: why rows cannot be used, by file, and what targets are."""

    bad: dict[str, "pd.Series[str]"] = field(default_factory=dict)
    targets: TargetRange = field(default_factory=TargetRange)


def _check(
    source: str, files: Iterable[DataFile], whole: Dataset, truth: "TruthValues", own: OwnVectors | None
) -> Check:
    options = whole.options
    columns, check = [*rows.columns_of(options), *(own.columns if own else ())], Check()
    seen_ids: set[str] = set()
    n_rows = 0
    for file in files:
        reasons: list[pd.Series[str]] = []
        for frame in read_frames(file, columns):
            read = read_rows(file, frame, options, whole.levels)
            bad, good = read.bad, read.values.drop(read.bad.index)
            truth.see(file.path, frame, read.values)
            if options.id is not None:
                bad = pd.concat([bad, _repeated(good["source_id"], seen_ids, options.id)]).sort_index()
                seen_ids.update(good["source_id"])
            if own is not None:
                wrong = own.bad(source, frame, read.values, n_rows)
                bad = pd.concat([bad, wrong.drop(bad.index, errors="ignore")]).sort_index()
            n_rows += len(frame)
            reasons.append(bad)
            check.targets.see(good["target"].drop(bad.index, errors="ignore").to_numpy())
        if any(map(len, reasons)):
            check.bad[file.path] = pd.concat(reasons)
    if own is not None:
        own.require_rows(source, n_rows, paths_of(options)[source])
    return check


def _check_vectors(own: OwnVectors, checks: Mapping[str, Check], dataset: Dataset, work: Workspace) -> None:
    """Refuse, or leave out, rows whose text has another vector in an earlier row."""
    work.say(f"data: {own.describe()}")
    for source, by_file in own.differing(dataset).items():
        bad = checks[source].bad
        for path, reasons in by_file.items():
            bad[path] = pd.concat([bad.get(path, pd.Series(dtype=object)), reasons]).sort_index()
    refuse_bad_rows(checks, dataset.options, dataset.files)


def _repeated(ids: "pd.Series[str]", seen: set[str], column: str) -> "pd.Series[str]":
    repeated = ids[ids.duplicated() | ids.isin(seen)]
    return repeated.map(lambda name: f"column {column!r}: id {name} is there already").astype(object)


class TruthValues:
    """Where columns of numbers hold truth values, and where other numbers: both in one column are refused."""

    def __init__(self, options: Data, levels: Levels) -> None:
        parts = {"target": None if levels.classes else options.target, "weight": options.weight}
        numeric = set(options.covariates) - set(levels.categories)
        parts |= {f"covariate_{name}": name for name in options.covariates if name in numeric}
        self._columns = {part: name for part, name in parts.items() if name is not None}
        self._first: dict[tuple[str, str], str] = {}  # by column and kind of value

    def see(self, path: str, frame: pd.DataFrame, values: pd.DataFrame) -> None:
        """Take in some rows of a file: as they stand there, and what they mean.

        Raises:
            InputError: a column holds both.
        """
        for part, name in self._columns.items():
            binary = values[part].isin((0, 1))
            of_kind = {"other": frame[name][~binary & values[part].notna()]}
            if (name, "truth") not in self._first:
                of_kind["truth"] = frame[name][binary & frame[name].map(says_truth)]
            for kind, found in of_kind.items():
                for row, value in found.head(1).items():
                    self._first.setdefault((name, kind), f"{shown(value)} in {path}, row {row}")
            truth, other = (self._first.get((name, kind)) for kind in ("truth", "other"))
            if truth and other:
                raise InputError(
                    f"column {name!r} holds both truth values and other numbers: {truth}; {other}"
                )


def refuse_bad_rows(checks: Mapping[str, Check], options: Data, files: Files) -> None:
    """Refuse files, by source, for their bad rows unless these are left out; and if no row is left.

    Raises:
        InputError: names the file, how many rows are bad, and the first ones with the reasons.
    """
    for source, check in checks.items():
        for path, bad in check.bad.items():
            commas = bad.str.contains(COMMA, regex=False).any()
            # Which number a comma makes is a question about the file: no row of it can be dropped for that.
            if options.on_bad_rows == "error" or (commas and options.decimal is None):
                advice = _DECIMAL_ADVICE if commas else _class_advice(bad, files, options) or _ADVICE
                raise InputError(_message(f"{path}: {len(bad)} bad row(s) in {source}:", bad, advice))
    for source, check in checks.items():
        if check.targets.rows == 0:
            advice = _class_advice(pd.concat(check.bad.values()), files, options) if check.bad else ""
            why = f"; {advice}" if advice else ""
            raise InputError(
                f"{paths_of(options).get(source, options.train)}: no usable row is left in {source}{why}"
            )


def _class_advice(bad: "pd.Series[str]", files: Files, options: Data) -> str:
    """Say how a target of a few names is read; "" where rows are bad for another reason."""
    column = f"column {options.target!r}: "
    if options.task == "multiclass" or not bad.str.startswith(column).any():
        return ""
    seen = find_names(files, options, [options.target])[options.target]
    if not seen.are_names or not 2 <= len(seen.counts) <= MOST_GUESSED:
        return ""
    classes = ", ".join(map(repr, sorted(seen.counts)))
    if len(seen.counts) == 2:
        return f"{column}its values are {classes}: give 1 for one of them and 0 for the other"
    named = f"its values are {len(seen.counts)} names ({classes})"
    return f"{column}{named}: data.task: multiclass compares each of them with the rest"


def _message(title: str, reasons: "pd.Series[str]", advice: str) -> str:
    shown = [f"  row {number}: {reason}" for number, reason in reasons.head(SHOWN_BAD_ROWS).items()]
    more = len(reasons) - len(shown)
    return "\n".join([title, *shown, *([f"  and {more} more"] if more else []), advice])


def tell_classes(levels: Levels, options: Data, say: Callable[[str], None]) -> None:
    """Say which classes the target has, if it has any."""
    if levels.classes:
        say(f"data: {len(levels.classes)} classes in {options.target!r}: {', '.join(levels.classes)}")


def find_task(checks: Mapping[str, Check], options: Data, say: Callable[[str], None]) -> Task:
    """Return the task, and say why where the target decides it."""
    targets = [check.targets for check in checks.values()]
    if len(options.text_columns) > 1:
        _tell_differences([value for seen in targets for value in seen.values], options, say)
        return "pairwise"
    if options.task != "auto":
        return options.task
    total = sum(seen.rows for seen in targets)
    if all(seen.binary for seen in targets):
        say(f"data: task classification, since all {total} values of {options.target!r} are 0 or 1")
        return "classification"
    low, high = min(seen.low for seen in targets), max(seen.high for seen in targets)
    say(f"data: task regression, since {options.target!r} runs from {low:g} to {high:g} in {total} rows")
    return "regression"


def _tell_differences(values: Sequence[float], options: Data, say: Callable[[str], None]) -> None:
    """Say how the target of pairs is read, of which the ends and a value between them are given."""
    try:
        notes = pair_notes(np.array(values))
    except InputError as error:
        reason = str(error).removeprefix("target: ")
        raise InputError(f"{options.train}: column {options.target!r}: {reason}") from None
    for note in notes:
        say(f"data: column {options.target!r}: {note}")


def _refuse_overlap(compared: Comparison, options: Data) -> None:
    if options.overlap == "error":
        advice = "leave them out with data.overlap: drop, or keep them with data.overlap: keep"
        for path, reasons in compared.reasons.items():
            title = f"{path}: {len(reasons)} row(s) of the holdout are not new:"
            raise InputError(_message(title, reasons, advice))


def _refuse_splits(compared: Comparison, dataset: Dataset) -> None:
    options = dataset.options
    for split in ("train", "holdout"):
        if useless := _useless(compared, split, options, dataset.levels.classes):
            known = sum(compared.counts.values()) if split == "holdout" and options.overlap == "drop" else 0
            others = "none is" if compared.targets[split].rows == 0 else f"{known} others are not"
            why = f": {others} new ({_kinds(compared)})" if known else ""
            raise InputError(f"{paths_of(options).get(split, options.train)}: {useless}{why}")


def _useless(compared: Comparison, split: str, options: Data, classes: Sequence[str]) -> str:
    """Return why nothing can be learnt from a split, "" if something can."""
    targets = compared.targets[split]
    if targets.rows == 0:
        return f"no row is left for {split} after the split"
    if targets.low == targets.high:
        value = repr(classes[int(targets.low)]) if classes else f"{targets.low:g}"
        return f"column {options.target!r} is {value} in every row of {split}: nothing to predict"
    if compared.distinct_texts[split] == 1:
        columns = " and ".join(map(repr, options.text_columns))
        same = f"column {columns} holds one text in all {targets.rows} rows of {split}"
        return f"{same}: nothing to tell apart"
    return ""


def _tell_repeats(compared: Comparison, n_rows: Mapping[str, int], options: Data, work: Workspace) -> None:
    of_row = len(options.text_columns)
    unit = "rows of" if of_row == 1 else "pairs of"
    repeats = {split: n for split, n in compared.distinct_texts.items() if n < of_row * n_rows[split]}
    if repeats:
        counts = ", ".join(
            f"{split} {n_rows[split]} {unit} {n} distinct texts" for split, n in repeats.items()
        )
        few = any(rows.few_texts(of_row * n_rows[split], n) for split, n in repeats.items())
        warning = "; these are few: rows with one text are not independent evidence" if few else ""
        work.say(f"data: texts repeat: {counts}{warning}")


def _kinds(compared: Comparison) -> str:
    return ", ".join(f"{kind.replace('_', ' ')}: {n}" for kind, n in compared.counts.items() if n)


def _overlap(compared: Comparison, options: Data, work: Workspace) -> dict[str, int | str]:
    """Say how many holdout rows are not new, and return it."""
    if compared.reasons:
        known = sum(compared.counts.values())
        became = "left out" if options.overlap == "drop" else "kept"
        work.say(f"data: {known} holdout rows are not new ({_kinds(compared)}): {became}")
    return {**compared.counts, "action": options.overlap}


def _write(dataset: Dataset, out: Folder, own: OwnVectors | None) -> dict[str, int]:
    """Write all good rows, with their own vectors where there are any, or their texts; return how many."""
    splits = dict.fromkeys((*SPLITS, dataset.options.embedded_holdout))
    writers = {split: _Writer(out, split, dataset, own) for split in splits}
    for part in dataset.read(SPLITS, own.columns if own else ()):
        vectors = {} if own is None else {VECTOR: list(own.of(part, dataset))}
        for split, texts in to_texts(part.texts.assign(**vectors), dataset.options, part.split).items():
            writers[split].add(texts)
    return {split: writer.close() for split, writer in writers.items()}


class _Writer:
    """Writes the rows of one split into files of `shard_rows` rows each."""

    def __init__(self, folder: Folder, split: str, dataset: Dataset, own: OwnVectors | None) -> None:
        self._folder, self._split, self._size = folder, split, dataset.options.shard_rows
        self._own = own
        self._schema = schema.texts(dataset.levels.covariates(dataset.options.covariates))
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
        name = f"{self._split}-{self._files:05d}.parquet"
        self._folder.write_table(name, table)
        if self._own is not None:
            vectors = Embedded(np.stack(frame[VECTOR].tolist()), np.zeros(len(frame), np.int32))
            own = to_table(frame["row_id"].to_numpy(), vectors, self._own.options.advanced.store_dtype)
            self._folder.write_table(f"{OWN}{name}", own)
        self._files += 1
        self._rows += len(frame)


def _write_rejected(left_out: Iterable[tuple[str, Reasons]], work: Workspace) -> int:
    """Write the rows that are left out, with reasons, if there are any; return how many."""
    frames = [
        pd.DataFrame({"split": split, "file": path, "row": found.index, "reason": found.to_numpy()})
        for split, reasons in left_out
        for path, found in reasons.items()
    ]
    if not frames:
        return 0
    rejected = pd.concat(frames)
    work.write("rejected.parquet", rejected, schema.REJECTED)
    work.say(f"data: {len(rejected)} rows left out in all, reasons in rejected.parquet")
    return len(rejected)


def _write_possible_groups(dataset: Dataset, out: Folder) -> list[str]:
    """Write the columns by which holdout rows may belong together, if there are any; return their names."""
    groups = find_possible_groups(dataset)
    names = [name for name in groups.column_names if name != "row_id"]
    if names:
        out.write_table("possible_groups.parquet", groups)
    return names
