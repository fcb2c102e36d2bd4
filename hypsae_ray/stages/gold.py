"""Labels of people in stage `evaluate`: read, checked against the run, and what they correct."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from hypsae_ray.config import Config, Evaluate
from hypsae_ray.data.arrays import Floats
from hypsae_ray.data.gold import Coded, GoldFile
from hypsae_ray.labels.read import StoredLabels
from hypsae_ray.stats.analysis import Task, method_of
from hypsae_ray.stats.evaluate import Evaluation
from hypsae_ray.stats.sample import Sample
from hypsae_ray.stats.two_phase.gold import NO_COEFFICIENT, Corrections, Gold, correct_by_gold
from hypsae_ray.store.artifacts import Folder, Manifest

TABLE = "gold"


def read_gold(path: str, labels: StoredLabels, hypotheses: pd.DataFrame) -> Coded:
    """Return the labels of people in a file, of rows and hypotheses of a run.

    Raises:
        InputError: the file cannot be read, or a line of it is not about this run.
    """
    file, sentences = GoldFile.read(path), _sentences(hypotheses)
    file.require(labels.row_ids(), sentences)
    return file.coded(len(sentences))


def _sentences(hypotheses: pd.DataFrame) -> list[str | None]:
    return [one if isinstance(one, str) else None for one in hypotheses["interpretation"]]


def check_gold(config: Config, inputs: Mapping[str, Folder]) -> None:
    """Refuse a bad file of labels before any stage runs, as far as what it is about is there.

    Args:
        config: of the run.
        inputs: folders of stage `evaluate`.

    Raises:
        InputError: that of `read_gold`.
    """
    if config.evaluate.gold is None:
        return
    if any(Manifest.load(inputs[name]) is None for name in ("score_fidelity", "annotate")):
        GoldFile.read(config.evaluate.gold)
        return
    hypotheses = inputs["score_fidelity"].read_table("hypotheses.parquet").to_pandas()
    read_gold(config.evaluate.gold, StoredLabels(inputs["annotate"], 0.5), hypotheses)


def read_p_yes(labels: StoredLabels) -> Floats:
    """Return P(yes) of all rows and hypotheses, (N, H), NaN where there is no label."""
    return np.concatenate([p_yes for _, p_yes in labels.tables()]).astype(np.float64)


def add_gold(
    found: Evaluation, sample: Sample, labels: StoredLabels, coded: Coded, options: Evaluate
) -> Evaluation:
    """Return an evaluation with a table of what labels of people correct, and notes.

    Args:
        found: of the labels of the model.
        sample: its rows, those of `labels`.
        labels: of the model.
        coded: labels of people.
        options: of the evaluation.
    """
    positions = np.searchsorted(labels.row_ids(), coded.row_ids)
    gold = Gold(positions, coded.probability, coded.coders)
    parts = _correct(sample, read_p_yes(labels), gold, found.metrics["task"], options)
    table = pd.concat([part.table for part in parts], ignore_index=True)
    notes = list(dict.fromkeys(note for part in parts for note in part.notes))
    details = {**found.details, TABLE: table}
    return replace(found, notes=[*notes, *found.notes], details=details)


def _correct(
    sample: Sample, p_yes: Floats, gold: Gold, task: Task, options: Evaluate
) -> Sequence[Corrections]:
    """Return the corrections; of several classes those of each, with its code in column target_class."""
    if task != "multiclass":
        return [correct_by_gold(sample, p_yes, method_of(task, sample, options.cov_type), gold)]
    parts: list[Corrections] = []
    for code in np.unique(sample.target):
        one = sample.of_class(code)
        part = correct_by_gold(one, p_yes, method_of("classification", one, options.cov_type), gold)
        part.table.insert(1, "target_class", code)
        parts.append(replace(part, notes=[_of_class(note, code) for note in part.notes]))
    return parts


def _of_class(note: str, code: float) -> str:
    """Return a note with the class that it is about; most are about all classes."""
    return f"class {code:g}: {note}" if note.startswith(NO_COEFFICIENT) else note
