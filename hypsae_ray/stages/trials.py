"""Trials of candidates: the texts that each neuron's are scored on, their labels, and the fidelity.

Where a neuron has several candidates, they compete on half of the texts, and the measures of the other half
are reported: on the texts it was chosen by, the best of several looks better than it is. The same texts set
the threshold of p_yes: each half is measured at that of the other half, and labels have the one of both.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from hypsae_ray.config import UNPLACED, Label, ScoreFidelity
from hypsae_ray.data.words import truncate_words
from hypsae_ray.models.pool import Pool
from hypsae_ray.models.protocols import ANNOTATION_ARRAYS, Annotations, LanguageModel
from hypsae_ray.neurons.corpus import Corpus
from hypsae_ray.neurons.fidelity import Fidelity, halves, is_true_of_all, score_fidelity
from hypsae_ray.neurons.sampling import fidelity_examples
from hypsae_ray.neurons.thresholds import place_threshold
from hypsae_ray.stages.workspace import Track
from hypsae_ray.store.schema import UNANSWERED, Status
from hypsae_ray.store.usage import Usage


@dataclass(frozen=True)
class Trial:
    """One neuron's candidates and the texts to score them on."""

    neuron_idx: int
    candidates: tuple[int, ...]  # numbers of those that have a sentence
    sentences: tuple[str, ...]  # of these
    rows: tuple[int, ...]  # row ids of the texts, the firing ones first, by activation
    fires: np.ndarray  # (len(rows),) whether the neuron fires on each
    prevalence: float  # share of the distinct training texts that it fires on


@dataclass(frozen=True)
class Scored:
    """One candidate's fidelity."""

    neuron_idx: int
    candidate: int  # its number
    threshold: float  # P(yes) from which its labels are a yes
    true_of_all: bool  # whether they tell nothing; see `neurons.fidelity.is_true_of_all`
    whole: Fidelity  # on all texts
    choosing: Fidelity  # on those that the candidates compete on
    reporting: Fidelity  # on the others; see `neurons.fidelity.halves`


Task = tuple[int, list[str], tuple[str, ...]]
"""A neuron, the texts of its trial, and the sentences."""


def annotate_trial(model: LanguageModel, task: Task, label: Label) -> tuple[int, Annotations]:
    """Return the neuron of a task, and the annotations (texts, sentences)."""
    neuron, texts, sentences = task
    return neuron, model.score(texts, sentences, label)


def plan(corpus: Corpus, candidates: pd.DataFrame, options: ScoreFidelity) -> list[Trial]:
    """Choose texts for each neuron that has a sentence: none that any of its candidates was written from."""
    position = pd.Series(np.arange(len(corpus.row_ids)), index=corpus.row_ids)
    trials = []
    for neuron in map(int, candidates["neuron_idx"].unique()):
        group = candidates[candidates["neuron_idx"] == neuron]
        named = group[group["status"] == Status.OK]
        if named.empty:
            continue
        shown = {i for column in ("positives", "negatives") for rows in group[column] for i in rows}
        rng = np.random.default_rng([options.seed, neuron])
        activation = corpus.activation(neuron)
        examples = fidelity_examples(activation, position.loc[sorted(shown)].tolist(), options, rng)
        chosen = np.concatenate([examples.positives, examples.negatives])
        rows = tuple(corpus.row_ids[chosen].tolist())
        numbers, sentences = tuple(named["candidate"]), tuple(named["interpretation"])
        fires = activation > 0
        trials.append(Trial(neuron, numbers, sentences, rows, fires[chosen], float(fires.mean())))
    return trials


def score_candidates(
    pool: Pool[LanguageModel],
    trials: list[Trial],
    texts: Mapping[int, str],
    options: ScoreFidelity,
    label: Label,
    track: Track,
) -> tuple[list[Scored], Usage]:
    """Have a model label the texts of every trial; return each candidate's fidelity and the tokens used.

    A neuron all of whose tries failed has no labels, and its candidates no fidelity.
    """
    by_neuron = {trial.neuron_idx: trial for trial in trials}
    tasks = [
        (trial.neuron_idx, [truncate_words(texts[i], options.max_words) for i in trial.rows], trial.sentences)
        for trial in trials
        if trial.rows
    ]
    done = pool.map(partial(annotate_trial, label=label), tasks, _pending) if tasks else ()
    scored, usage = [], Usage()
    for neuron, annotations in track(done, len(tasks), "neuron"):
        scored += score_trial(by_neuron[neuron], annotations.p_yes, options, label)
        usage += annotations.usage
    return sorted(scored, key=lambda one: (one.neuron_idx, one.candidate)), usage


def dump_annotations(done: tuple[int, Annotations]) -> bytes | None:
    """Return the annotations of a task as JSON; None if some are pending: the next run asks again."""
    neuron, annotations = done
    if np.isin(annotations.status, UNANSWERED).any():
        return None
    arrays = {name: getattr(annotations, name).tolist() for name in ANNOTATION_ARRAYS}
    return json.dumps({"neuron": neuron, "usage": vars(annotations.usage), **arrays}).encode()


def load_annotations(content: bytes) -> tuple[int, Annotations]:
    """Return what `dump_annotations` wrote."""
    saved = json.loads(content)
    p_yes, p_neither = (np.array(saved[name], dtype=np.float32) for name in ("p_yes", "p_neither"))
    status = np.array(saved["status"], dtype=np.int8)
    return saved["neuron"], Annotations(p_yes, p_neither, status, Usage(**saved["usage"]))


def _pending(task: Task, _reason: str) -> tuple[int, Annotations]:
    neuron, texts, sentences = task
    return neuron, Annotations.empty(len(texts), len(sentences), Status.PENDING)


def score_trial(trial: Trial, p_yes: np.ndarray, options: ScoreFidelity, label: Label) -> list[Scored]:
    """Return the fidelity of each candidate of a trial from p_yes (texts, candidates)."""
    labelled = np.any(~np.isnan(p_yes), axis=1)
    first, second = halves(trial.fires, labelled, 2)
    is_choice = len(set(trial.sentences)) > 1
    scored = []
    for number, column in zip(trial.candidates, p_yes.T, strict=True):
        final, early, others = _thresholds(trial, column, (labelled, first, second), label)
        fidelity = partial(_fidelity, trial, column, [options.seed, trial.neuron_idx, number])
        choosing = reporting = whole = fidelity(labelled, others)
        if is_choice:
            choosing, reporting = fidelity(first, np.full(len(others), early)), fidelity(second, others)
        empty = is_true_of_all(trial.fires, column, label.unplaced, placed=label.threshold == "auto")
        scored.append(Scored(trial.neuron_idx, number, final, empty, whole, choosing, reporting))
    return scored


def _fidelity(
    trial: Trial, p_yes: np.ndarray, seed: list[int], part: np.ndarray, thresholds: np.ndarray
) -> Fidelity:
    """Return the fidelity on a part of the texts of a trial, a mask (n,)."""
    rng = np.random.default_rng(seed)
    return score_fidelity(
        trial.fires[part], p_yes[part], thresholds[part], prevalence=trial.prevalence, rng=rng
    )


def _thresholds(
    trial: Trial, p_yes: np.ndarray, parts: tuple[np.ndarray, np.ndarray, np.ndarray], label: Label
) -> tuple[float, float, np.ndarray]:
    """Return a candidate's threshold by all texts, by the first half, and for each text by the other half.

    `parts` are masks (n,) of all labelled texts and of their halves; the same three where they are too few to
    be halved, and to place a threshold.
    """
    labelled, first, _ = parts
    if label.threshold != "auto" or first is labelled:
        return label.unplaced, label.unplaced, np.full(len(p_yes), label.unplaced)
    final, early, late = (
        place_threshold(trial.fires[part], p_yes[part], trial.prevalence) or UNPLACED for part in parts
    )
    return final, early, np.where(first, late, early)
