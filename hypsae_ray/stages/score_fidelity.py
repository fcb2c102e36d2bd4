"""Stage `score_fidelity`: score each candidate on texts its author never saw; the best is the hypothesis.

Documents that are labelled whole are what names are scored on, too: a name may be true of one sentence in
each of them. A candidate whose labels are yes on nearly every text is not informative. A neuron with no other
is named again, from other texts and with other seeds. No candidate is scored on texts that it was written
from.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np
import pandas as pd
import pyarrow as pa

from hypsae_ray.config import UNPLACED, AdvancedInterpret, NamingOptions
from hypsae_ray.data.chunks import first_of_documents
from hypsae_ray.data.words import Cut
from hypsae_ray.labels.retries import KeepingPool, RetryingPool
from hypsae_ray.models.pool import Pool
from hypsae_ray.models.protocols import Embedder, LanguageModel
from hypsae_ray.neurons.corpus import Corpus
from hypsae_ray.neurons.fidelity import best_candidate
from hypsae_ray.neurons.restating import ORDINARY, restate_target
from hypsae_ray.stages import fingerprints, interpret, trials
from hypsae_ray.stages.trials import Scored
from hypsae_ray.stages.workspace import (
    Track,
    Workspace,
    read_corpus,
    read_documents,
    read_documents_by_id,
    read_texts_by_id,
)
from hypsae_ray.store import schema
from hypsae_ray.store.artifacts import Outcome, content_hash
from hypsae_ray.store.schema import Status
from hypsae_ray.store.usage import Usage

ROUNDS = 2  # in which neurons are asked about again
# From where other texts are taken than the strongest: half of the firing ones.
OTHER_TEXTS = AdvancedInterpret(sampling="percentile", percentiles=(50, 100))


@dataclass(frozen=True)
class Source:
    """Training texts: the distinct ones with their activations, and a function that reads some by row id."""

    corpus: Corpus
    read: Callable[[Iterable[int]], Mapping[int, str]]


@dataclass(frozen=True)
class Setting:
    """What candidates are scored with, and written with where none of a neuron's is informative."""

    texts: Source  # that sentences are written from
    labeller: Callable[[], Pool[LanguageModel]]  # opens the model that labels; the namer may be closed then
    namer: Callable[[], Pool[LanguageModel]]  # and the other way round
    options: NamingOptions
    track: Track
    documents: Source | None = None  # that sentences are scored on; None: on texts


@dataclass(frozen=True)
class Tried:
    """Candidates that were scored."""

    candidates: pd.DataFrame  # the table, with the status of those that are true of nearly every text
    scored: list[Scored]
    texts: Mapping[int, str]  # that they were scored on, by row id
    usage: Usage  # of scoring, and of naming again
    asked_again: int = 0  # neurons that were named again

    def __add__(self, other: "Tried") -> "Tried":
        candidates = pd.concat([self.candidates, other.candidates], ignore_index=True)
        scored, texts = [*self.scored, *other.scored], {**self.texts, **other.texts}
        asked_again = max(self.asked_again, other.asked_again)  # later rounds name some of the same neurons
        return Tried(candidates, scored, texts, self.usage + other.usage, asked_again)

    @property
    def true_of_all(self) -> int:
        """How many candidates are true of nearly every text."""
        return sum(one.true_of_all for one in self.scored)

    def uninformative(self) -> list[int]:
        """Return the neurons all of whose sentences are true of nearly every text."""
        statuses = self.candidates.groupby("neuron_idx", sort=False)["status"].agg(set)
        uninformative = [Status.TRUE_OF_ALL in of and Status.OK not in of for of in statuses]
        return statuses.index[uninformative].tolist()


def run(work: Workspace) -> Outcome:
    """Write the fidelity of every candidate, and one hypothesis per selected neuron, named or not."""
    candidates = work.inputs["interpret"].read_table("candidates.parquet").to_pandas()
    tried = score_until_informative(candidates, _setting(work))
    if work.config.data.target_means:
        tried = replace(tried, candidates=_mark_restating(tried.candidates, work))
    work.out.write_table("fidelity.parquet", to_table(tried.scored))
    work.write("candidates.parquet", tried.candidates, schema.CANDIDATES)
    shape = work.facts("train_sae")
    selection = work.inputs["select"].read_table("selection.parquet").to_pandas()
    k = shape["k"] if isinstance(shape["k"], int) else ", ".join(map(str, shape["k"]))
    chosen = ranked(selection, f"M={shape['n_neurons']}, K={k}", work.config.select.method)
    hypotheses = choose(chosen, tried.candidates, tried.scored, work.config.label.unplaced)
    more = [field for field in schema.OPTIONAL if field.name in hypotheses]
    work.write("hypotheses.parquet", hypotheses, pa.schema([*schema.HYPOTHESES, *more]))
    unnamed = int(hypotheses["interpretation"].isna().sum())
    if tried.true_of_all:
        again = f"; {tried.asked_again} neurons had no other, and were asked about again"
        work.say(
            f"score_fidelity: {tried.true_of_all} candidates are true of nearly every text, and tell nothing"
            f"{again if tried.asked_again else ''}"
        )
    if unnamed:
        repeats = int((hypotheses["status"] == Status.REPEATS.name.lower()).sum())
        why = f" ({repeats} of them only one that is taken)" if repeats else ""
        work.say(f"score_fidelity: {unnamed} neurons have no usable sentence{why}; they stay, marked")
    facts = {
        "hypotheses": len(hypotheses),
        "unnamed": unnamed,
        "true_of_all": tried.true_of_all,
        "asked_again": tried.asked_again,
        "cut": Cut.at_words(tried.texts.values(), work.config.score_fidelity.max_words).facts(),
    }
    return Outcome(len(tried.scored), tried.usage, facts=facts)


def _mark_restating(candidates: pd.DataFrame, work: Workspace) -> pd.DataFrame:
    """Return candidates; those that say the target in other words have the status that says so."""
    named = candidates["status"] == Status.OK
    parts = [candidates.loc[named, "interpretation"], work.config.data.target_means, ORDINARY]
    [vectors] = work.engines.embedder(work.config.embed).map(_vectors, [list(chain.from_iterable(parts))])
    restating = named.copy()
    restating[named] = restate_target(*np.split(vectors, np.cumsum([len(part) for part in parts])[:-1]))
    work.say(f"score_fidelity: {restating.sum()} of {named.sum()} candidates say the target in other words")
    return candidates.assign(status=candidates["status"].mask(restating, int(Status.RESTATES)))


def _vectors(model: Embedder, sentences: list[str]) -> np.ndarray:
    return model.embed(sentences).vectors


def _setting(work: Workspace) -> Setting:
    config = work.config
    whole = config.data.labels_documents
    return Setting(
        texts=Source(read_corpus(work), partial(read_texts_by_id, work)),
        labeller=partial(_open_labeller, work),
        namer=partial(interpret.open_namer, work),
        options=NamingOptions(
            interpret=config.naming, score_fidelity=config.score_fidelity, label=config.label
        ),
        track=work.track,
        documents=Source(read_documents(work), partial(read_documents_by_id, work)) if whole else None,
    )


def _open_labeller(work: Workspace) -> Pool[LanguageModel]:
    """Open the model that labels; its labels are kept for all that it may label in this run folder."""
    llm, decides = work.config.llm, fingerprints.labeller(work.config.llm, work.config.label)
    kept = work.answers.sub(f"fidelity-{content_hash('labels', decides, {})[:8]}")
    model = work.engines.language_model(llm)
    pool = RetryingPool(model, work.say, lambda task: f"neuron {task[0]}", llm.replicas.max)
    return KeepingPool(pool, kept, trials.dump_annotations, trials.load_annotations)


def score_until_informative(candidates: pd.DataFrame, setting: Setting) -> Tried:
    """Score a candidates table; a neuron with no informative candidate gets new ones, up to ROUNDS times."""
    tried = _score(candidates, setting)
    for turn in range(1, ROUNDS + 1):
        if neurons := tried.uninformative():
            written, usage = _write_again(neurons, turn, setting)
            again = _score(written, setting)
            tried += replace(again, usage=again.usage + usage, asked_again=len(neurons))
    return tried


def _score(candidates: pd.DataFrame, setting: Setting) -> Tried:
    options, label = setting.options.score_fidelity, setting.options.label
    source = setting.documents or setting.texts
    shown = candidates if setting.documents is None else _shown_documents(candidates)
    planned = trials.plan(source.corpus, shown, options)
    texts = source.read({i for trial in planned for i in trial.rows})
    pool = setting.labeller()
    scored, usage = trials.score_candidates(pool, planned, texts, options, label, setting.track)
    failed = {(one.neuron_idx, one.candidate) for one in scored if one.true_of_all}
    pairs = zip(candidates["neuron_idx"], candidates["candidate"], strict=True)
    is_failed = np.array([pair in failed for pair in pairs], dtype=bool)
    status = candidates["status"].mask(is_failed, int(Status.TRUE_OF_ALL))
    return Tried(candidates.assign(status=status), scored, texts, usage)


def _shown_documents(candidates: pd.DataFrame) -> pd.DataFrame:
    """Return candidates with the documents of the texts that they were written from."""
    positives, negatives = (
        candidates[name].map(lambda rows: first_of_documents(np.asarray(rows, dtype=np.int64)))
        for name in ("positives", "negatives")
    )
    return candidates.assign(positives=positives, negatives=negatives)


def _write_again(neurons: Sequence[int], turn: int, setting: Setting) -> tuple[pd.DataFrame, Usage]:
    """Return new candidates of some neurons, numbered after the others, and the tokens they took."""
    first = setting.options.interpret
    options = first.model_copy(update={"advanced": OTHER_TEXTS, "seed": first.seed + turn})
    asks = [
        replace(ask, candidate=ask.candidate + turn * options.n_candidates)
        for ask in interpret.plan(setting.texts.corpus, neurons, options)
    ]
    texts = setting.texts.read({i for ask in asks for i in (*ask.positives, *ask.negatives)})
    return interpret.write_candidates(setting.namer(), asks, texts, options, setting.track)


def to_table(scored: Sequence[Scored]) -> pa.Table:
    """Return the fidelity table: measures on all texts, and what the choice was made by."""
    rows = [
        {
            "neuron_idx": one.neuron_idx,
            "candidate": one.candidate,
            "threshold": one.threshold,
            **one.whole.columns(),
            "choosing_f1": one.choosing.f1,
            "choosing_f1_corpus": one.choosing.f1_corpus,
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

    No sentence is taken twice: it would be labelled twice, and its effect shared out between two columns that
    are equal. A neuron none of whose sentences could be scored keeps the first usable one. One all of whose
    sentences say the target in other words keeps the best of them, with a status that says so; one with no
    usable sentence keeps none, and a status that says why. `unplaced` is the threshold where none could be
    placed.
    """
    best, taken = list[dict[str, object]](), set[object]()
    for neuron in selection["neuron_idx"]:
        mine = candidates[candidates["neuron_idx"] == neuron]
        repeats = mine["interpretation"].isin(taken)
        best.append(_best(mine.assign(status=mine["status"].mask(repeats, int(Status.REPEATS))), scored))
        if (sentence := best[-1]["interpretation"]) is not None:
            taken.add(sentence)
    hypotheses = pd.concat([selection.reset_index(drop=True), pd.DataFrame(best)], axis=1)
    hypotheses.insert(0, "hypothesis_id", np.arange(len(hypotheses)))
    more = [field.name for field in schema.OPTIONAL if field.name in hypotheses]
    hypotheses = hypotheses.reindex(columns=[*schema.HYPOTHESES.names, *more])
    return hypotheses.assign(threshold=hypotheses["threshold"].astype(float).fillna(unplaced))


def _best(candidates: pd.DataFrame, scored: Sequence[Scored]) -> dict[str, object]:
    status = Status.OK if (candidates["status"] == Status.OK).any() else Status.RESTATES
    named = candidates[candidates["status"] == status]
    if named.empty:
        statuses = [Status(int(code)) for code in candidates["status"]] or [Status.NO_EXAMPLES]
        first = [status for status in (Status.REPEATS, Status.TRUE_OF_ALL) if status in statuses]
        why = [*first, *statuses][0]
        return {"interpretation": None, "status": why.name.lower()}
    neuron = named["neuron_idx"].iloc[0]
    mine = [one for one in scored if one.neuron_idx == neuron and one.candidate in set(named["candidate"])]
    winner = best_candidate([one.choosing for one in mine])
    if winner is None:
        return {"interpretation": named["interpretation"].iloc[0], "status": "unscored"}
    best = mine[winner]
    sentence = named.loc[named["candidate"] == best.candidate, "interpretation"].iloc[0]
    measures = best.reporting.columns()
    measures["f1_fidelity_score"] = measures.pop("f1")
    return {
        "interpretation": sentence,
        "status": status.name.lower(),
        "threshold": best.threshold,
        **measures,
    }


def ranked(selection: pd.DataFrame, source_sae: str, method: str) -> pd.DataFrame:
    """Return the selected neurons of a selection table, best first, with where they come from."""
    chosen = selection.dropna(subset="rank").sort_values("rank").rename(columns={"score": "selection_score"})
    return chosen.assign(source_sae=source_sae, selection_method=method).drop(
        columns=["rank", "state", "turns_with"], errors="ignore"
    )
