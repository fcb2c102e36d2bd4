"""`evaluate_hypotheses`: the statistics of `stats.evaluate` for arrays, tables and stored annotations."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from pydantic import ValidationError

from hypsae_ray.api.drawn import NAMES as DRAWN
from hypsae_ray.api.drawn import check_rows, draw, with_sources
from hypsae_ray.config import UNPLACED, Evaluate
from hypsae_ray.data import arguments, columns, controls
from hypsae_ray.data.arguments import Rows, index_of
from hypsae_ray.data.arrays import Ints
from hypsae_ray.data.targets import Target, read_target
from hypsae_ray.errors import ConfigError, InputError
from hypsae_ray.labels.read import StoredLabels, find_annotations, to_labels
from hypsae_ray.stages.texts import sentences_of
from hypsae_ray.stats.evaluate import Evaluation, Task, evaluate, name_classes, note_mask
from hypsae_ray.stats.multiplicity import Correction
from hypsae_ray.stats.sample import Features, LabelArray, Labels, Sample

UNPLACED_NOTE = (
    f"a P(yes) of {UNPLACED} or more counts as yes: no threshold was given, and none was placed by texts of "
    "which the firing is known"
)


def evaluate_hypotheses(
    annotations: pd.DataFrame | np.ndarray | str | StoredLabels,
    target: Sequence[Any] | np.ndarray,
    *,
    task: Task,
    groups: Sequence[Any] | np.ndarray | None = None,
    covariates: pd.DataFrame | None = None,
    fixed_effects: pd.DataFrame | Sequence[Any] | np.ndarray | None = None,
    weights: Sequence[float] | np.ndarray | None = None,
    probability: Sequence[float] | np.ndarray | None = None,
    uniform: Sequence[bool] | np.ndarray | None = None,
    proxies: pd.DataFrame | np.ndarray | None = None,
    hypotheses: Sequence[str | None] | pd.DataFrame | None = None,
    threshold: float | Sequence[float] | np.ndarray | None = None,
    alpha: float = 0.1,
    correction: Correction = "bonferroni",
    features: Mapping[str, Features] | None = None,
    activations: sp.csc_matrix | None = None,
    groupings: Mapping[str, Ints] | None = None,
    **options: Any,
) -> Evaluation:
    """Test hypotheses on texts that were not used to find them.

    What is an object of pandas is put into the order of `annotations` by its index, and refused where the
    indexes do not have the same rows, or where one of them only counts rows and the other has them in another
    order. All else goes by position. Numbers, names and missing values are what `data.columns` says.

    Args:
        annotations: (n, H) labels or P(yes), NaN or null where there is none: a DataFrame, an array, a sparse
            matrix; or the folder or URI that `hypsae annotate` wrote, which is read in blocks, whatever its
            size. In pairwise: 1 where only the first text of a pair has the property, -1 where only the
            second has, else 0.
        target: (n,) numbers; in multiclass any names or numbers.
        task: regression; classification (0 and 1); count (0, 1, 2, ...); pairwise (1 if the first text was
            chosen, else 0, or a difference); multiclass (each class against the rest).
        groups: (n,) what rows belong to (documents, authors): errors are cluster-robust then. A row without a
            group is one of its own.
        covariates: (n, C) to hold fixed. What is not all numbers becomes one column per level but the most
            frequent; so does a pandas Categorical.
        fixed_effects: (n,) or (n, F) levels to absorb, in linear models.
        weights: (n,) above 0.
        probability: (n,) where rows were drawn to be labelled, at random: of each row, to be drawn. Rows
            without any label are those that were not drawn. Estimates are of all rows then.
        uniform: (n,) whether a row was drawn with one probability for all, where `probability` differs
            because more rows were drawn by what they hold: exact tests rest on these rows.
        proxies: (n, H) with `probability`: what a cheap model expects each label to be, from 0 to 1, for all
            rows, made without the row's own label. They make estimates more precise, and never wrong.
        hypotheses: H sentences for the table, or a table that holds them; two may be equal. None: the names
            of the columns of `annotations`, if it has any.
        threshold: P(yes) from which a label is a yes: one within 0 and 1, or (H,). None: those of a column
            `threshold` of `hypotheses`, as a run and `generate_hypotheses` place them by training texts, or
            of the file that `hypsae annotate` was given; 0.5 where it has none, and a note says so.
        alpha: error level over all hypotheses.
        correction: bonferroni, holm, fdr_bh, fdr_by or none.
        features: name to (n, d), or to (m, d) of the first m rows, by position: what the hypotheses were made
            from ("embedding", "neurons"), to see where signal is lost.
        activations: (n, H) sparse, by position: how strongly the neuron of each hypothesis fires, for the
            trend of the target with it.
        groupings: name to (n,) codes from 0, by position: groups that rows might belong to, to see what they
            would change.
        options: other fields of `hypsae_ray.config.Evaluate`: cov_type, folds, n_bootstrap, ...

    Raises:
        InputError: parts do not fit together or the task; it names the argument, the position and the value.
        ConfigError: an option does not exist or has a bad value.
    """
    settings = _options({"alpha": alpha, "correction": correction, **options})
    held, index, names = _held(annotations, task)
    if hypotheses is None and isinstance(held, StoredLabels):
        hypotheses = held.hypotheses()
    sentences, order = _sentences(names, hypotheses, held.shape[1])
    cuts = _thresholds(threshold, hypotheses, order)
    labels, unplaced = _labels(held, task, UNPLACED if cuts is None else cuts)
    extras: dict[str, Any] = {"features": features or {}, "groupings": groupings or {}}
    check_rows(extras, activations, *labels.shape)
    read = read_target(target, task)
    given = {
        "target": target,
        "groups": groups,
        "covariates": covariates,
        "fixed_effects": fixed_effects,
        "weights": weights,
    }
    given |= {"probability": probability, "uniform": uniform, "proxies": proxies}
    try:
        sample, notes = _sample(labels, index, read, {k: v for k, v in given.items() if v is not None})
        found = evaluate(with_sources(sample, extras, activations), task, settings)
        if isinstance(labels, StoredLabels):
            found = note_mask(found, labels.unasked())
    except ValueError as error:
        raise InputError(f"evaluate_hypotheses: {error}") from None
    found.notes.extend([*notes, *([UNPLACED_NOTE] if cuts is None and unplaced else [])])
    if len(read.classes):
        found = name_classes(found, read.classes)
    if sentences is not None:
        found.table.insert(1, "hypothesis", [sentences[j] for j in found.table["hypothesis_id"]])
    return found


def _sample(
    labels: Labels, index: pd.Index | None, target: Target, given: Mapping[str, Any]
) -> tuple[Sample, list[str]]:
    """Return labels and all that was given with them, in one order; and notes on how it was read."""
    notes, names = list(target.notes), ()
    values: dict[str, np.ndarray] = {"target": target.values}
    if "groups" in given:
        values["groups"] = _groups(given["groups"], notes)
    if "covariates" in given:
        found = controls.encode(arguments.table("covariates", given["covariates"], "a DataFrame"))
        values["covariates"], names = found.values, found.names
        notes += found.notes
    if "fixed_effects" in given:
        values["fixed_effects"] = _effects(given["fixed_effects"], notes)
    if "weights" in given:
        expected = "a number above 0"
        values["weights"] = arguments.numbers(
            "weights", given["weights"], expected, lambda values: values > 0
        )
    rows = _rows(labels, index, given)
    ordered: dict[str, Any] = {
        name: rows.take(name, one, index_of(given[name])) for name, one in values.items()
    }
    effects = ordered.pop("fixed_effects", None)
    sample = Sample(labels, covariate_names=names, effects=effects, **ordered)
    return draw(sample, rows, {name: given[name] for name in DRAWN if name in given}), notes


def _rows(labels: Labels, index: pd.Index | None, given: Mapping[str, Any]) -> Rows:
    """Return the rows of the labels; where these have no index, the others must have the same one."""
    indexes = {name: one for name, value in given.items() if (one := index_of(value)) is not None}
    if index is None and isinstance(labels, StoredLabels) and indexes:
        index = pd.Index(labels.row_ids())
    if index is None and indexes:
        (first, its), *others = indexes.items()
        if differs := [name for name, one in others if len(one) == len(its) and not one.equals(its)]:
            raise InputError(
                f"{differs[0]}: its index is not that of {first}, and annotations have none: give "
                "annotations as a DataFrame with its index, or all in one order and without"
            )
    return Rows("annotations", labels.shape[0], index)


def _groups(groups: Any, notes: list[str]) -> np.ndarray:
    codes, missing = arguments.codes("groups", groups)
    if missing:
        notes.append(
            f"groups: {missing:,} of {len(codes):,} rows have none, and count as groups of their own"
        )
    if len(codes) and codes.max() + 1 == len(codes):
        notes.append("groups: each row is a group of its own, so that nothing belongs together")
    return codes


def _effects(effects: Any, notes: list[str]) -> np.ndarray:
    if isinstance(effects, pd.DataFrame) or getattr(effects, "ndim", 1) == 2:
        frame = arguments.table("fixed_effects", effects, "a table (n, F) of levels")
    else:
        frame = arguments.column("fixed_effects", effects).to_frame()
    parts = []
    for i, name in enumerate(frame.columns):
        which = f"fixed_effects, column {columns.shown(name)}"
        codes, missing = arguments.codes(which, frame.iloc[:, i])
        parts.append(codes)
        if missing:
            notes.append(f"{which}: {missing:,} rows have no level, and count as levels of their own")
    return np.stack(parts, axis=1)


def _held(annotations: Any, task: str) -> tuple[StoredLabels | np.ndarray, pd.Index | None, pd.Index | None]:
    """Return stored labels, or labels and P(yes) (n, H); of a DataFrame its index and columns too."""
    if isinstance(annotations, StoredLabels):
        return annotations, None, None
    if isinstance(annotations, (str, os.PathLike)):
        return StoredLabels(find_annotations(os.fspath(annotations)), UNPLACED), None, None
    frame = arguments.table("annotations", annotations, "a table (n, H) of labels or a folder")
    values = arguments.number_table("annotations", frame)
    fits = np.isin(values, (-1, 0, 1)) if task == "pairwise" else (values >= 0) & (values <= 1)
    unfit = ~(fits | np.isnan(values))
    if unfit.any():
        row, column = divmod(int(np.argmax(unfit)), unfit.shape[1])
        cell = f"column {columns.shown(frame.columns[column])}, {arguments.where(frame.index, row)}"
        expected = "-1, 0, 1 or NaN" if task == "pairwise" else "within 0 and 1, or NaN"
        raise InputError(f"annotations, {cell}: {values[row, column]:g}, but labels must be {expected}")
    return values, index_of(annotations), frame.columns if frame is annotations else None


def _labels(
    held: StoredLabels | np.ndarray, task: str, cuts: float | np.ndarray
) -> tuple[StoredLabels | LabelArray, bool]:
    """Return labels, and whether a threshold decides any of them."""
    if isinstance(held, StoredLabels):
        return replace(held, threshold=cuts), held.has_degrees()
    if task == "pairwise":
        return LabelArray(held), False
    return LabelArray(to_labels(held, cuts)), bool(((held > 0) & (held < 1)).any())


def _thresholds(given: Any, hypotheses: Any, order: np.ndarray) -> np.ndarray | None:
    """Return the threshold of each column of the annotations, (H,); None: none is known."""
    expected = "a number above 0 and below 1"
    if given is None:
        if not isinstance(hypotheses, pd.DataFrame) or "threshold" not in hypotheses:
            return None
        cuts = hypotheses["threshold"].fillna(UNPLACED)
        return arguments.numbers("hypotheses, column 'threshold'", cuts, expected, _within)[order]
    each = [given] * len(order) if isinstance(given, float | int) else given
    cuts = arguments.numbers("threshold", each, expected, _within)
    if len(cuts) != len(order):
        raise InputError(f"threshold: {len(cuts)} numbers, but annotations has {len(order)} columns")
    return cuts


def _within(values: np.ndarray) -> np.ndarray:
    return (values > 0) & (values < 1)


def _sentences(names: pd.Index | None, hypotheses: Any, n: int) -> tuple[list[str | None] | None, np.ndarray]:
    """Return the sentence of each column of the annotations, and which of `hypotheses` it is.

    Returns:
        None for sentences where none is known.
    """
    order = np.arange(n)
    if hypotheses is None:
        if names is None or names.equals(pd.RangeIndex(n)):
            return None, order
        return [None if columns.is_missing(name) else str(name) for name in names], order
    sentences = sentences_of(hypotheses)
    if len(sentences) != n:
        raise InputError(f"hypotheses: {len(sentences)} sentences, but annotations has {n} columns")
    if names is None or not all(isinstance(name, str) for name in names):
        order = Rows("the columns of annotations", n, names).take("hypotheses", order, index_of(hypotheses))
    else:
        order = _by_name(sentences, [str(name).strip() for name in names])
    return [sentences[i] for i in order], order


def _by_name(sentences: list[str | None], names: list[str]) -> np.ndarray:
    """Return which sentence each column has, if columns are named by them; other names say nothing."""
    misplaced = [i for i, one in enumerate(sentences) if one in names and names[i] != one]
    if not misplaced:
        return np.arange(len(names))
    if len(set(names)) == len(names) and set(names) == set(sentences):
        return np.array([sentences.index(name) for name in names])
    one = str(sentences[misplaced[0]])
    raise InputError(
        f"hypotheses: {columns.shown(one)} stands at position {misplaced[0]}, but is the name of column "
        f"{names.index(one)} of annotations: give them in one order"
    )


def _options(fields: dict[str, Any]) -> Evaluate:
    try:
        options = Evaluate(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "evaluate_hypotheses"
        raise ConfigError(f"{where}: {first['msg']}") from None
    if options.gold is not None:
        raise ConfigError("gold: labels of people are about a run: hypsae run --evaluate.gold FILE")
    return options
