"""Candidates on trial: the texts that each neuron's are scored on, their labels, and what these are worth.

Where a neuron has several candidates, they compete on half of the texts, and the measures of the other half
are reported: on the texts it was chosen by, the best of several looks better than it is. The same texts place
the threshold of P(yes): each half is measured at the one that the other half places, and labels have the one
of both.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

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
    """One neuron's candidates and the texts to score them on.

    Attributes:
        neuron_idx: the neuron.
        candidates: number of each candidate that has a sentence.
        sentences: these sentences.
        rows: row ids of the texts, the firing ones first, by activation.
        fires: (len(rows),) whether the neuron fires on each.
        prevalence: share of the distinct training texts that it fires on.
    """

    neuron_idx: int
    candidates: tuple[int, ...]
    sentences: tuple[str, ...]
    rows: tuple[int, ...]
    fires: np.ndarray
    prevalence: float


@dataclass(frozen=True)
class Scored:
    """One candidate's fidelity.

    Attributes:
        neuron_idx: its neuron.
        candidate: its number.
        threshold: P(yes) from which its labels are a yes.
        true_of_all: whether they tell nothing; see `neurons.fidelity.is_true_of_all`.
        whole: on all texts.
        choosing: on those that the candidates compete on.
        reporting: on the others; see `neurons.fidelity.halves`.
    """

    neuron_idx: int
    candidate: int
    threshold: float
    true_of_all: bool
    whole: Fidelity
    choosing: Fidelity
    reporting: Fidelity


@dataclass(frozen=True)
class AskTrial:
    """Labels the texts of one neuron for each of its candidates."""

    label: Label

    def __call__(
        self, model: LanguageModel, task: tuple[int, list[str], tuple[str, ...]]
    ) -> tuple[int, Annotations]:
        """Return the neuron of a task (neuron, texts, sentences), and its scores."""
        neuron, texts, sentences = task
        return neuron, model.score(texts, sentences, self.label)


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

    A neuron whose task failed each time has no labels, and its candidates no fidelity.
    """
    by_neuron = {trial.neuron_idx: trial for trial in trials}
    tasks = [
        (trial.neuron_idx, [truncate_words(texts[i], options.max_words) for i in trial.rows], trial.sentences)
        for trial in trials
        if trial.rows
    ]
    scored, usages = [], [Usage()]
    for neuron, scores in track(
        pool.map(AskTrial(label), tasks, _pending) if tasks else (), len(tasks), "neuron"
    ):
        scored += score_trial(by_neuron[neuron], scores.p_yes, options, label)
        usages.append(scores.usage)
    return sorted(scored, key=lambda one: (one.neuron_idx, one.candidate)), reduce(add, usages)


def dump_scores(done: tuple[int, Annotations]) -> bytes | None:
    """Return the scores of a task as JSON; None if pairs got no answer: the next run asks again."""
    neuron, scores = done
    if np.isin(scores.status, UNANSWERED).any():
        return None
    arrays = {name: getattr(scores, name).tolist() for name in ANNOTATION_ARRAYS}
    return json.dumps({"neuron": neuron, "usage": vars(scores.usage), **arrays}).encode()


def load_scores(content: bytes) -> tuple[int, Annotations]:
    """Return what `dump_scores` wrote."""
    saved = json.loads(content)
    p_yes, p_neither = (np.array(saved[name], dtype=np.float32) for name in ("p_yes", "p_neither"))
    status = np.array(saved["status"], dtype=np.int8)
    return saved["neuron"], Annotations(p_yes, p_neither, status, Usage(**saved["usage"]))


def _pending(task: tuple[int, list[str], tuple[str, ...]], _reason: str) -> tuple[int, Annotations]:
    neuron, texts, sentences = task
    return neuron, Annotations.empty(len(texts), len(sentences), Status.PENDING)


def describe(task: tuple[int, list[str], tuple[str, ...]]) -> str:
    """Return a task's name, for people."""
    return f"neuron {task[0]}"


def score_trial(trial: Trial, p_yes: np.ndarray, options: ScoreFidelity, label: Label) -> list[Scored]:
    """Return the fidelity of each candidate of a trial from P(yes), (texts, candidates)."""
    labelled = np.any(~np.isnan(p_yes), axis=1)
    first, second = halves(trial.fires, labelled, 2)
    is_choice = len(set(trial.sentences)) > 1
    scored = []
    for number, chance in zip(trial.candidates, p_yes.T, strict=True):
        final, early, others = _thresholds(trial, chance, (labelled, first, second), label)
        whole = _score(trial, number, chance, labelled, others, options)
        parts = (whole, whole)
        if is_choice:
            choosing = _score(trial, number, chance, first, np.full(len(others), early), options)
            parts = (choosing, _score(trial, number, chance, second, others, options))
        empty = is_true_of_all(trial.fires, chance, label.unplaced, placed=label.threshold == "auto")
        scored.append(Scored(trial.neuron_idx, number, final, empty, whole, *parts))
    return scored


def _thresholds(
    trial: Trial, p_yes: np.ndarray, parts: tuple[np.ndarray, np.ndarray, np.ndarray], label: Label
) -> tuple[float, float, np.ndarray]:
    """Return a candidate's threshold by all texts, by the first half, and for each text by the other half.

    Args:
        trial: the texts.
        p_yes: (n,) of the candidate.
        parts: masks (n,) of all labelled texts and of their halves; the same three where they are too few to
            be halved, and to place a threshold.
        label: auto, or the threshold of all.
    """
    labelled, first, _ = parts
    if label.threshold != "auto" or first is labelled:
        return label.unplaced, label.unplaced, np.full(len(p_yes), label.unplaced)
    final, early, late = (
        place_threshold(trial.fires[part], p_yes[part], trial.prevalence) or UNPLACED for part in parts
    )
    return final, early, np.where(first, late, early)


def _score(
    trial: Trial,
    number: int,
    p_yes: np.ndarray,
    part: np.ndarray,
    thresholds: np.ndarray,
    options: ScoreFidelity,
) -> Fidelity:
    rng = np.random.default_rng([options.seed, trial.neuron_idx, number])
    return score_fidelity(
        trial.fires[part], p_yes[part], thresholds[part], prevalence=trial.prevalence, rng=rng
    )
