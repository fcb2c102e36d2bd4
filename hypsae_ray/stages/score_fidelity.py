"""Stage `score_fidelity`: score each candidate on texts its author never saw; the best is the hypothesis.

Candidates compete on half of these texts, and the hypothesis has the measures of the other half: on the texts
it was chosen by, the best of several looks better than it is. The same texts place the threshold of P(yes):
each half is measured at the one that the other half places, and labels have the one of both.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import pandas as pd
import pyarrow as pa

from hypsae_ray import schema
from hypsae_ray.artifacts import Outcome, content_hash
from hypsae_ray.boundary import SCORE_ARRAYS, LanguageModel, Pool, Scores, Usage
from hypsae_ray.config import UNPLACED, Label, ScoreFidelity
from hypsae_ray.core.cuts import Cut
from hypsae_ray.core.fidelity import Fidelity, best_candidate, halves, score_fidelity
from hypsae_ray.core.prompts import truncate_words
from hypsae_ray.core.sampling import fidelity_examples
from hypsae_ray.core.thresholds import place_threshold
from hypsae_ray.schema import UNANSWERED, Status
from hypsae_ray.stages.corpus import Corpus, read_corpus, read_texts_by_id
from hypsae_ray.stages.tries import KeepingPool, RetryingPool
from hypsae_ray.stages.workspace import Track, Workspace


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
        whole: on all texts.
        choosing: on those that the candidates compete on.
        reporting: on the others; see `core.fidelity.halves`.
    """

    neuron_idx: int
    candidate: int
    threshold: float
    whole: Fidelity
    choosing: Fidelity
    reporting: Fidelity


@dataclass(frozen=True)
class AskTrial:
    """Labels the texts of one neuron for each of its candidates."""

    label: Label

    def __call__(
        self, model: LanguageModel, task: tuple[int, list[str], tuple[str, ...]]
    ) -> tuple[int, Scores]:
        """Return the neuron of a task (neuron, texts, sentences), and its scores."""
        neuron, texts, sentences = task
        return neuron, model.score(texts, sentences, self.label)


def run(work: Workspace) -> Outcome:
    """Write the fidelity of every candidate, and one hypothesis per selected neuron, named or not."""
    options = work.config.score_fidelity
    candidates = work.inputs["interpret"].folder.read_table("candidates.parquet").to_pandas()
    trials = plan(read_corpus(work), candidates, options)
    texts = read_texts_by_id(work, {i for trial in trials for i in trial.rows})
    llm = work.config.llm
    pool = RetryingPool(work.engines.language_model(llm), work.say, _describe, llm.replicas.max)
    held = work.answers.sub(f"fidelity-{content_hash('labels', work.decides['labeller'], {})[:8]}")
    kept = KeepingPool(pool, held, dump_scores, load_scores)
    scored, usage = score_candidates(kept, trials, texts, options, work.config.label, work.track)
    work.out.write_table("fidelity.parquet", to_table(scored))
    shape = work.inputs["train_sae"].facts
    selection = work.inputs["select"].folder.read_table("selection.parquet").to_pandas()
    chosen = ranked(selection, f"M={shape['n_neurons']}, K={shape['k']}", work.config.select.method)
    hypotheses = choose(chosen, candidates, scored, work.config.label.unplaced)
    table = pa.Table.from_pandas(hypotheses, schema=schema.HYPOTHESES, preserve_index=False)
    work.out.write_table("hypotheses.parquet", table)
    unnamed = int(hypotheses["interpretation"].isna().sum())
    if unnamed:
        work.say(f"score_fidelity: {unnamed} neurons have no usable sentence; they stay, marked")
    cut = Cut.at_words(texts.values(), options.max_words).facts()
    return Outcome(len(scored), usage, facts={"hypotheses": len(hypotheses), "unnamed": unnamed, "cut": cut})


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
        pool.map(AskTrial(label), tasks, _set_aside) if tasks else (), len(tasks), "neuron"
    ):
        scored += score_trial(by_neuron[neuron], scores.p_yes, options, label)
        usages.append(scores.usage)
    return sorted(scored, key=lambda one: (one.neuron_idx, one.candidate)), reduce(add, usages)


def dump_scores(done: tuple[int, Scores]) -> bytes | None:
    """Return the scores of a task as JSON; None if pairs got no answer: the next run asks again."""
    neuron, scores = done
    if np.isin(scores.status, UNANSWERED).any():
        return None
    arrays = {name: getattr(scores, name).tolist() for name in SCORE_ARRAYS}
    return json.dumps({"neuron": neuron, "usage": vars(scores.usage), **arrays}).encode()


def load_scores(content: bytes) -> tuple[int, Scores]:
    """Return what `dump_scores` wrote."""
    saved = json.loads(content)
    p_yes, p_neither = (np.array(saved[name], dtype=np.float32) for name in ("p_yes", "p_neither"))
    status = np.array(saved["status"], dtype=np.int8)
    return saved["neuron"], Scores(p_yes, p_neither, status, Usage(**saved["usage"]))


def _set_aside(task: tuple[int, list[str], tuple[str, ...]], _reason: str) -> tuple[int, Scores]:
    neuron, texts, sentences = task
    return neuron, Scores.unanswered(len(texts), len(sentences), Status.SET_ASIDE)


def _describe(task: tuple[int, list[str], tuple[str, ...]]) -> str:
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
        scored.append(Scored(trial.neuron_idx, number, final, whole, *parts))
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


def to_table(scored: Sequence[Scored]) -> pa.Table:
    """Return the fidelity table: measures on all texts, and what the choice was made by."""
    rows = [
        {
            "neuron_idx": one.neuron_idx,
            "candidate": one.candidate,
            "threshold": one.threshold,
            **one.whole.columns(),
            "choosing_f1": one.choosing.f1,
            "choosing_correlation": one.choosing.correlation,
        }
        for one in scored
    ]
    frame = pd.DataFrame(rows, columns=schema.FIDELITY.names)
    return pa.Table.from_pandas(frame, schema=schema.FIDELITY, preserve_index=False)


def choose(
    selection: pd.DataFrame,
    candidates: pd.DataFrame,
    scored: Sequence[Scored],
    unplaced: float = UNPLACED,
) -> pd.DataFrame:
    """Return one hypothesis per row of `selection`: the sentence that won, with its `reporting` measures.

    A neuron none of whose sentences could be scored keeps the first usable one; a neuron with no usable
    sentence keeps none, and a status that says why.

    Args:
        selection: neuron_idx, source_sae, selection_method, selection_score, target_correlation, prevalence.
        candidates: the candidates table.
        scored: what `score_candidates` returned.
        unplaced: the threshold of a hypothesis that none could be placed for.
    """
    best = [_best(candidates[candidates["neuron_idx"] == n], scored) for n in selection["neuron_idx"]]
    hypotheses = pd.concat([selection.reset_index(drop=True), pd.DataFrame(best)], axis=1)
    hypotheses.insert(0, "hypothesis_id", np.arange(len(hypotheses)))
    hypotheses = hypotheses.reindex(columns=schema.HYPOTHESES.names)
    return hypotheses.assign(threshold=hypotheses["threshold"].astype(float).fillna(unplaced))


def _best(candidates: pd.DataFrame, scored: Sequence[Scored]) -> dict[str, object]:
    named = candidates[candidates["status"] == Status.OK]
    if named.empty:
        first = candidates["status"].iloc[0] if len(candidates) else Status.NO_EXAMPLES
        return {"interpretation": None, "status": Status(int(first)).name.lower()}
    neuron = named["neuron_idx"].iloc[0]
    mine = [one for one in scored if one.neuron_idx == neuron]
    winner = best_candidate([one.choosing for one in mine])
    if winner is None:
        return {"interpretation": named["interpretation"].iloc[0], "status": "unscored"}
    best = mine[winner]
    sentence = named.loc[named["candidate"] == best.candidate, "interpretation"].iloc[0]
    measures = best.reporting.columns()
    f1 = measures.pop("f1")
    return {
        "interpretation": sentence,
        "status": "ok",
        "threshold": best.threshold,
        "f1_fidelity_score": f1,
        **measures,
    }


def ranked(selection: pd.DataFrame, source_sae: str, method: str) -> pd.DataFrame:
    """Return the selected neurons of a selection table, best first, with where they come from."""
    chosen = selection.dropna(subset="rank").sort_values("rank").rename(columns={"score": "selection_score"})
    return chosen.assign(source_sae=source_sae, selection_method=method).drop(columns=["rank", "state"])
