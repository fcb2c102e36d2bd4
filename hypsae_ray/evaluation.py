"""`evaluate_hypotheses`: the statistics of `core.inference` for arrays, tables and stored annotations."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from hypsae_ray.config import Evaluate
from hypsae_ray.core import inference
from hypsae_ray.core.controls import encode as encode_covariates
from hypsae_ray.core.multiplicity import Correction
from hypsae_ray.core.sample import LabelArray, Labels, Sample, codes_of
from hypsae_ray.errors import ConfigError, InputError
from hypsae_ray.stages.annotate import to_labels
from hypsae_ray.stages.stored_labels import StoredLabels, find_annotations
from hypsae_ray.stages.texts import sentences_of


def evaluate_hypotheses(
    annotations: pd.DataFrame | np.ndarray | str,
    target: Sequence[Any] | np.ndarray,
    *,
    task: inference.Task,
    groups: Sequence[Any] | np.ndarray | None = None,
    covariates: pd.DataFrame | None = None,
    fixed_effects: pd.DataFrame | Sequence[Any] | np.ndarray | None = None,
    weights: Sequence[float] | np.ndarray | None = None,
    hypotheses: Sequence[str | None] | pd.DataFrame | None = None,
    alpha: float = 0.1,
    correction: Correction = "bonferroni",
    around: inference.Surroundings | None = None,
    **options: Any,
) -> inference.Evaluation:
    """Test hypotheses on texts that were not used to find them.

    Args:
        annotations: (n, H) labels or P(yes), NaN where there is none; or the folder or URI that
            `hypsae annotate` wrote, which is read in blocks, whatever its size. In pairwise: 1 where only the
            first text of a pair has the property, -1 where only the second has, else 0.
        target: (n,) numbers; in multiclass any values.
        task: regression; classification (0 and 1); count (0, 1, 2, ...); pairwise (1 if the first text was
            chosen, else 0, or a difference); multiclass (each class against the rest).
        groups: (n,) what rows belong to (documents, authors): errors are cluster-robust then.
        covariates: (n, C) to hold fixed; texts and categories become one column per level but the most
            frequent.
        fixed_effects: (n,) or (n, F) levels to absorb, in linear models.
        weights: (n,) above 0.
        hypotheses: H sentences for the table, or a table that holds them; two may be equal.
        alpha: error level over all hypotheses.
        correction: bonferroni, holm, fdr_bh, fdr_by or none.
        around: embeddings, activations, other groupings: for where signal is lost, dose and dependence.
        options: other fields of `hypsae_ray.config.Evaluate`: threshold, errors, folds, n_bootstrap, ...

    Raises:
        InputError: parts do not fit together or the task.
        ConfigError: an option does not exist or has a bad value.
    """
    settings = _options({"alpha": alpha, "correction": correction, **options})
    sentences = None if hypotheses is None else sentences_of(hypotheses)
    try:
        controls = encode_covariates(covariates if covariates is not None else pd.DataFrame(index=range(0)))
        values, classes = np.asarray(target), np.zeros(0)
        if task == "multiclass":
            classes, values = np.unique(values, return_inverse=True)
        labels = _labels(annotations, task, settings.threshold)
        if sentences is not None and len(sentences) != labels.shape[1]:
            raise ValueError(f"{len(sentences)} hypotheses, but annotations of {labels.shape[1]}")
        sample = Sample(
            labels,
            values.astype(np.float64),
            groups=None if groups is None else codes_of(pd.Series(list(groups))),
            weights=None if weights is None else np.asarray(weights, dtype=np.float64),
            covariates=None if covariates is None else controls.values,
            covariate_names=controls.names,
            effects=None if fixed_effects is None else _effect_codes(fixed_effects),
        )
        found = inference.evaluate(sample, task, settings, around)
    except ValueError as error:
        raise InputError(f"evaluate_hypotheses: {error}") from None
    for name, level in controls.references.items():
        found.notes.append(f"covariate {name}: its levels are compared with {level!r}, the most frequent one")
    if len(classes):
        _name_classes(found, classes)
    if sentences is not None:
        found.table.insert(1, "hypothesis", [sentences[j] for j in found.table["hypothesis_id"]])
    return found


def _name_classes(found: inference.Evaluation, classes: np.ndarray) -> None:
    """Put the values of the target in place of the codes of classes, in tables and notes."""
    for table in (found.table, found.details["classes"]):
        table["target_class"] = classes[table["target_class"].to_numpy(np.int64)]
    for place, note in enumerate(found.notes):
        if code := re.match(r"class (\d+): ", note):
            found.notes[place] = f"class {classes[int(code[1])]}: {note[code.end() :]}"


def _options(fields: dict[str, Any]) -> Evaluate:
    try:
        return Evaluate(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "evaluate_hypotheses"
        raise ConfigError(f"{where}: {first['msg']}") from None


def _labels(annotations: pd.DataFrame | np.ndarray | str, task: inference.Task, threshold: float) -> Labels:
    if isinstance(annotations, str):
        return StoredLabels(find_annotations(annotations), threshold)
    values = np.asarray(annotations, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"annotations {values.shape} must be a table (n, H)")
    if task == "pairwise":
        return LabelArray(values)
    if ((values < 0) | (values > 1)).any():
        raise ValueError("annotations must be within 0 and 1, or NaN")
    return LabelArray(to_labels(values, threshold))


def _effect_codes(fixed_effects: pd.DataFrame | Sequence[Any] | np.ndarray) -> np.ndarray:
    frame = pd.DataFrame(fixed_effects)
    return np.stack([codes_of(frame[name]) for name in frame.columns], axis=1)
