"""`hypsae export`: the holdout of a finished run as one Parquet file, a row for each text, document or pair.

Embedding Atlas opens it as it is (`embedding-atlas FILE --text text --x x --y y`), and so does any program
that reads Parquet. Columns are row_id, id, text, target, covariates, weight and group, x and y on the map of
the report, and of each hypothesis NN its hNN_label, hNN_p_yes and hNN_activation; of pairs also text_b and
hNN_p_yes_b, of the second text. The sentence of a hypothesis is the description in the metadata of its
columns. What the file holds of single texts follows `report.texts`.

Texts are read and written some thousand at a time. Memory holds the activations of the hypotheses' neurons,
as a sparse matrix, and the map.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from hypsae_ray.config import Config, Data, TextPolicy
from hypsae_ray.config.loading import with_report
from hypsae_ray.data.arrays import Ints
from hypsae_ray.data.chunks import combine_activations, combine_labels, documents_of, starts_of
from hypsae_ray.errors import ConfigError, UsageError
from hypsae_ray.labels.read import StoredLabels, to_labels
from hypsae_ray.pipeline import MAIN
from hypsae_ray.report.policy import CUT, beginning
from hypsae_ray.report.run_folder import Chain, RunFolder
from hypsae_ray.report.text_map import mapped_rows, read_map
from hypsae_ray.stages.holdout import units_of
from hypsae_ray.stages.train_sae import count_neurons
from hypsae_ray.store.artifacts import Folder, Manifest
from hypsae_ray.store.stage_tables import covariate_columns, read_activations

EXPORT = "export.parquet"
ROWS_PER_WRITE = 16_384
_TYPES = {"label": pa.int8(), "p_yes": pa.float32(), "p_yes_b": pa.float32(), "activation": pa.float32()}
_MEANS = {
    "label": "1 if the text has the property, 0 if not",
    "p_yes": "probability that the model answers yes",
    "p_yes_b": "probability that the model answers yes for the second text",
    "activation": "activation of the neuron",
}
_OF_PAIRS = {
    "label": "label of the first text minus that of the second",
    "p_yes": "probability that the model answers yes for the first text",
    "activation": "activation of the neuron for the first text minus that for the second",
}
Say = Callable[[str], None]


@dataclass(frozen=True)
class _Source:
    """What rows are made of.

    Attributes:
        config: of the run, with the policy of texts that holds.
        data: the folder of stage `data`.
        classes: names of the classes of the target; none if it is a number.
        chain: hypotheses and labels.
        fired: row ids (n,), ascending, and activations (n, H) of these rows, documents or pairs.
        places: x and y, float32, indexed by row_id.
    """

    config: Config
    data: Folder
    classes: tuple[str, ...]
    chain: Chain
    fired: tuple[Ints, sp.csr_matrix]
    places: pd.DataFrame

    @property
    def policy(self) -> TextPolicy:
        """What may be shown of single texts: all, cut, ids or none."""
        return self.config.report.texts

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which columns a hypothesis has."""
        return tuple(kind for kind in _TYPES if kind != "p_yes_b" or self.config.data.rule == "difference")


def export(path: str, out: str | None, overrides: Mapping[str, str], say: Say) -> str:
    """Write the holdout of a finished run; return what was written, for people.

    Args:
        path: run folder or URI.
        out: the file or URI, whose name ends in .parquet; None: EXPORT in the run folder.
        overrides: fields of section report by dotted name.
        say: hears what takes a while.

    Raises:
        InputError: there is no finished run.
        ConfigError: `out` is no Parquet file, or an override is refused.
        UsageError: the folder of `out` does not exist, or cannot be written to.
    """
    run = RunFolder.at(path)
    run.tables()
    file = out_file(out, ".parquet") if out else run.folder.sub(EXPORT)
    source = _open(run, with_report(run.config, overrides), say)
    layout = _layout(source)
    with (
        file.parent.writing(file.name) as stream,
        pq.ParquetWriter(stream, layout, compression="zstd") as writer,
    ):
        n = 0
        for rows in _in_groups(_rows(source, layout)):
            writer.write_table(rows)
            n += len(rows)
    return f"{n:,} rows, {len(layout)} columns: {file.path}"


def out_file(path: str, ending: str) -> Folder:
    """Return the place of a file that is to be written.

    Raises:
        ConfigError: its name has another ending.
        UsageError: its folder does not exist.
    """
    if not path.lower().endswith(ending):
        raise ConfigError(f"--out {path}: let its name end in {ending}")
    file = Folder.at(path)
    if "://" not in path and not file.parent.exists():
        raise UsageError(f"--out {path}: there is no folder {file.parent.path}")
    return file


def _open(run: RunFolder, config: Config, say: Say) -> _Source:
    chain, folders = run.chains()[MAIN], run.folders()
    manifest = Manifest.load(folders["data"])
    assert manifest is not None  # the run is finished
    labelled = units_of(chain.labels.row_ids(), config.data)
    shown = mapped_rows(labelled, config.report.max_texts)
    if (more := len(np.unique(labelled)) - len(shown)) > 0:
        say(f"map: {more:,} of the labelled rows have no place on it (report.max_texts: {len(shown)})")
    places = read_map(run, shown, say).set_index("row_id")
    fired = _activations(folders, chain, config.data)
    classes = tuple(map(str, manifest.outcome.facts.get("classes") or ()))
    return _Source(config, folders["data"], classes, chain, fired, places)


def _activations(folders: Mapping[str, Folder], chain: Chain, data: Data) -> tuple[Ints, sp.csr_matrix]:
    neurons = chain.hypotheses["neuron_idx"].to_numpy()
    n_neurons = count_neurons(folders["train_sae"])
    ids, fired = read_activations(folders["embed_holdout"], data.embedded_holdout, n_neurons, neurons)
    if data.rule is None:
        return ids, fired
    documents = documents_of(ids)
    starts = starts_of(documents)
    return documents[starts], combine_activations(fired, starts, data.rule)


def _layout(source: _Source) -> pa.Schema:
    """Return the columns of the export, each with a description."""
    data, said = source.config.data, _described
    fields = [said("row_id", pa.int64(), "number of the row in the holdout of the run")]
    if source.policy != "none" and data.id is not None:
        fields.append(said("id", pa.string(), f"column {data.id!r} of the data"))
    if source.policy in ("all", "cut"):
        names = dict(zip(("text", "text_b"), data.text_columns, strict=False))
        cut = f", the first {CUT} characters" if source.policy == "cut" else ""
        fields += [
            said(name, pa.string(), f"column {column!r} of the data{cut}") for name, column in names.items()
        ]
    fields.append(said("target", pa.string() if source.classes else pa.float64(), f"column {data.target!r}"))
    covariates = covariate_columns(source.data, "holdout")
    fields += [said(name, pa.float64(), "held fixed in the tests") for name in covariates]
    if data.weight is not None:
        fields.append(said("weight", pa.float64(), f"column {data.weight!r} of the data"))
    if data.group is not None and source.policy != "none":
        fields.append(said("group", pa.string(), f"column {data.group!r} of the data"))
    fields += [said(name, pa.float32(), "place on the map of embeddings (t-SNE)") for name in ("x", "y")]
    for hypothesis in source.chain.hypotheses.to_dict("records"):
        fields += [_field_of(hypothesis, kind, data) for kind in source.kinds]
    return pa.schema(fields, metadata={b"hypsae": json.dumps(_facts(source)).encode()})


def _described(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, kind, metadata={b"description": description.encode()})


def _field_of(hypothesis: Mapping[Any, Any], kind: str, data: Data) -> pa.Field:
    means = (_MEANS | _OF_PAIRS if data.rule == "difference" else _MEANS)[kind]
    sentence = hypothesis["interpretation"] or "(no usable sentence)"
    return _described(column_of(hypothesis["hypothesis_id"], kind), _TYPES[kind], f"{sentence} ({means})")


def column_of(hypothesis_id: int, kind: str) -> str:
    """Return the name of a column of a hypothesis.

    >>> column_of(7, "p_yes")
    'h07_p_yes'
    """
    return f"h{hypothesis_id:02d}_{kind}"


def _facts(source: _Source) -> dict[str, Any]:
    """Return what the file says of itself: target, task, policy of texts, and each hypothesis."""
    shown = ["hypothesis_id", "interpretation", "neuron_idx", "threshold"]
    hypotheses = json.loads(source.chain.hypotheses[shown].to_json(orient="records"))
    return {
        "target": source.config.data.target,
        "task": source.chain.metrics.get("task"),
        "texts": source.policy,
        "rows_on_map": len(source.places),
        "hypotheses": hypotheses,
    }


def _rows(source: _Source, layout: pa.Schema) -> Iterator[pa.Table]:
    """Yield rows of the export, those of one stored table of texts at a time."""
    stored = ("row_id", "source_id", "text", "target", "weight", "group")
    columns = [*stored, *covariate_columns(source.data, "holdout")]
    labels = _Ascending(source.chain.labels)
    for table in _whole(source.data.tables("holdout-", columns), source.config.data):
        frame = table.to_pandas()
        ids = frame["row_id"].to_numpy()
        units = units_of(ids, source.config.data)
        starts = np.arange(len(ids)) if source.config.data.rule is None else starts_of(units)
        found = _of_rows(frame, units, starts, source) | _of_hypotheses(labels.of(ids), units, starts, source)
        yield pa.table([_column(found[one.name], one) for one in layout], schema=layout)


def _column(values: Any, field: pa.Field) -> pa.Array:
    """Return values as a column, null where one is missing; a place on the map is NaN then."""
    return pa.array(values, field.type, from_pandas=field.name not in ("x", "y"))


def _of_rows(frame: pd.DataFrame, units: Ints, starts: Ints, source: _Source) -> dict[str, Any]:
    """Return all columns that are not about hypotheses."""
    first = frame.iloc[starts]
    places = source.places.reindex(units[starts])
    target = first["target"]
    if source.classes:
        target = pd.Series(np.array(source.classes, dtype=object)[target.to_numpy(np.int64)])
    known = {str(name): first[name] for name in frame if name not in ("row_id", "text", "target")}
    own = {"row_id": units[starts], "id": first["source_id"], "target": target}
    on_map = {name: places[name].to_numpy(np.float32) for name in ("x", "y")}
    return {**known, **own, **on_map, **_texts(frame["text"], units, starts, source)}


def _texts(texts: "pd.Series[str]", units: Ints, starts: Ints, source: _Source) -> dict[str, list[str]]:
    """Return the texts of rows, as the policy has them: of pairs both, of documents their chunks as one."""
    rule = source.config.data.rule
    if source.policy not in ("all", "cut"):
        return {}
    if rule == "difference":
        found = {"text": texts.iloc[starts], "text_b": texts.iloc[starts + 1]}
    else:
        found = {"text": texts if rule is None else texts.groupby(units).agg(" … ".join)}
    shown = beginning if source.policy == "cut" else str
    return {name: [shown(text) for text in some] for name, some in found.items()}


def _of_hypotheses(p_yes: np.ndarray, units: Ints, starts: Ints, source: _Source) -> dict[str, np.ndarray]:
    """Return the columns of all hypotheses, from P(yes) (m, H) of texts, NaN where there is no label."""
    rule, ids = source.config.data.rule, source.chain.hypotheses["hypothesis_id"]
    labels = to_labels(p_yes, source.chain.labels.threshold)
    found = {"label": labels, "p_yes": p_yes, "activation": _fired_on(source.fired, units[starts])}
    if rule == "difference":
        found |= {"p_yes": p_yes[starts], "p_yes_b": p_yes[starts + 1]}
    elif rule is not None:
        found["p_yes"] = np.fmax.reduceat(p_yes, starts, axis=0)
    if rule is not None:
        found["label"] = combine_labels(labels, p_yes, starts, rule)[0]
    return {
        column_of(number, kind): values[:, j]
        for kind, values in found.items()
        for j, number in enumerate(ids)
    }


def _fired_on(fired: tuple[Ints, sp.csr_matrix], units: Ints) -> np.ndarray:
    """Return activations (n, H) float32 of rows (n,), NaN where a row was not embedded."""
    ids, matrix = fired
    at = np.minimum(np.searchsorted(ids, units), len(ids) - 1)
    there = ids[at] == units
    found = np.full((len(units), matrix.shape[1]), np.nan, dtype=np.float32)
    found[there] = matrix[at[there]].toarray()
    return found


class _Ascending:
    """The P(yes) of stored labels, read file by file while rows are asked for, which ascend."""

    def __init__(self, labels: StoredLabels) -> None:
        self._tables = labels.tables()
        self._ids, self._p_yes = np.zeros(0, np.int64), np.zeros((0, labels.shape[1]), np.float32)

    def of(self, row_ids: Ints) -> np.ndarray:
        """Return P(yes) (n, H) of rows (n,), NaN where there is no label."""
        while not len(self._ids) or self._ids[-1] < row_ids[-1]:
            if (table := next(self._tables, None)) is None:
                break
            ids, p_yes = table
            self._ids, self._p_yes = np.append(self._ids, ids), np.concatenate([self._p_yes, p_yes])
        at = pd.Index(self._ids).get_indexer(pd.Index(row_ids))
        found = np.where(at[:, None] >= 0, self._p_yes[at], np.float32(np.nan)) if len(self._ids) else None
        left = self._ids > row_ids[-1]
        self._ids, self._p_yes = self._ids[left], self._p_yes[left]
        return np.full((len(row_ids), self._p_yes.shape[1]), np.nan, np.float32) if found is None else found


def _whole(tables: Iterable[pa.Table], data: Data) -> Iterator[pa.Table]:
    """Yield tables of texts that hold all texts of their documents: the last one of a table waits."""
    held: pa.Table | None = None
    for table in tables:
        if data.rule is None:
            yield table
            continue
        table = table if held is None else pa.concat_tables([held, table])
        last = int(starts_of(documents_of(table["row_id"].to_numpy()))[-1])
        if last:
            yield table.slice(0, last)
        held = table.slice(last)
    if held is not None:
        yield held


def _in_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield tables of ROWS_PER_WRITE rows or somewhat more, the last one of fewer: a row group each."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= ROWS_PER_WRITE:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)
