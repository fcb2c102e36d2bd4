"""The steps as functions for notebooks: arrays and data frames in, arrays and data frames out.

Each function starts what it needs and frees it again. To keep a model loaded over several calls, make one
`Session` and pass it as `engines`. A model whose `replicas` are 0 runs in this process; the defaults of
the config start actors in Ray.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hypsae_ray import runner, schema
from hypsae_ray.artifacts import Folder
from hypsae_ray.boundary import Embedded, Embedder, Engines, LanguageModel
from hypsae_ray.config import (
    Config,
    Embed,
    Interpret,
    Label,
    Llm,
    Replicas,
    ScoreFidelity,
    Section,
    Select,
    TrainSae,
)
from hypsae_ray.config_file import parse
from hypsae_ray.core import rows, selection
from hypsae_ray.core import sae as saes
from hypsae_ray.core.cuts import Cut
from hypsae_ray.core.prompts import truncate_words
from hypsae_ray.core.training import Shard
from hypsae_ray.engine.session import Session
from hypsae_ray.errors import InputError
from hypsae_ray.stages import annotate as annotating
from hypsae_ray.stages import interpret as naming
from hypsae_ray.stages import score_fidelity as scoring
from hypsae_ray.stages import select as selecting
from hypsae_ray.stages import train_sae as training
from hypsae_ray.stages.corpus import Corpus
from hypsae_ray.stages.embed import CUT_ADVICE, count_cut
from hypsae_ray.stages.stored_labels import find_annotations
from hypsae_ray.stages.texts import sentences_of
from hypsae_ray.stages.tries import RetryingPool

IN_THIS_PROCESS = Replicas(min=0, max=0)
TEXTS_PER_TASK = 256


class Settings(Section):
    """Options of naming and scoring, each with the defaults of the config."""

    interpret: Interpret = Interpret()
    score_fidelity: ScoreFidelity = ScoreFidelity()
    label: Label = Label()


def embed(texts: Sequence[str], options: Embed | None = None, engines: Engines | None = None) -> np.ndarray:
    """Return the embeddings of texts, (n, d) float32.

    Args:
        texts: n texts; equal ones go through the model once per task.
        options: model and how to use it; None: the default model in this process.
        engines: a Session to keep the model loaded in.

    Raises:
        ModelError: the model is not found or does not load.
    """
    options = options or Embed(replicas=IN_THIS_PROCESS)
    tasks = [(start, list(texts[start : start + 2048])) for start in range(0, len(texts), 2048)]
    with _engines(engines) as held:
        parts = dict(held.embedder(options).map(_embed, tasks))
    done = [parts[start] for start in sorted(parts)]
    _warn("embed", count_cut(np.concatenate([part.cut_at for part in done])), CUT_ADVICE)
    return np.concatenate([part.vectors for part in done])


def train_sae(
    embeddings: np.ndarray,
    val_embeddings: np.ndarray | None = None,
    options: TrainSae | None = None,
    engines: Engines | None = None,
) -> saes.SparseAutoencoder:
    """Train an SAE on embeddings (n, d) and return it with the weights of its best epoch.

    Args:
        embeddings: training rows.
        val_embeddings: rows for early stopping; None: it looks at the training loss.
        options: sizes and training; None: the defaults of the config.
        engines: a Session.

    Raises:
        InputError: there are no rows, or some are not finite.
    """
    empty = np.zeros((0, embeddings.shape[1]), dtype=np.float32)
    load = _InMemory(embeddings, empty if val_embeddings is None else val_embeddings)
    with _engines(engines) as held:
        return held.train_sae(load, options or TrainSae(), lambda _: None).sae


def load_sae(place: str) -> saes.SparseAutoencoder:
    """Read an SAE: the `train_sae` folder of a run, or a `hypothesaes` .pt checkpoint (weights only).

    Raises:
        ModelError: it is neither.
    """
    if place.endswith(".pt"):
        parent, _, name = place.rpartition("/")
        return saes.from_hypothesaes(Folder.at(parent or ".").read_bytes(name))
    return training.load(Folder.at(place))


def interpret_neurons(
    texts: Sequence[str],
    activations: sp.csr_matrix,
    neurons: Sequence[int],
    llm: Llm,
    settings: Settings | None = None,
    engines: Engines | None = None,
) -> pd.DataFrame:
    """Name neurons, and score each name on other texts.

    Args:
        texts: n texts.
        activations: (n, M), as `hypsae_ray.activations` returns them.
        neurons: which ones.
        llm: the model that names and labels.
        settings: examples, wording, sampling.
        engines: a Session to keep the model loaded in.

    Returns:
        One row per neuron, in order: neuron_idx, interpretation (None if there is none), status,
        f1_fidelity_score, precision, recall, correlation, n (texts), precision_corpus and f1_corpus (where
        firing texts are as rare as in `texts`), with 95 % intervals f1_ci_low, f1_ci_high, and so on for
        precision, recall and f1_corpus. Of several candidates the best is measured on texts that had no part
        in the choice, where there are enough.
    """
    chosen = pd.DataFrame({"neuron_idx": list(neurons)})
    table = _name(chosen, texts, activations, llm, settings or Settings(), engines)
    return table[["neuron_idx", "interpretation", "status", "f1_fidelity_score", *schema.MEASURES.names]]


def generate_hypotheses(
    texts: Sequence[str],
    target: Sequence[float] | np.ndarray,
    activations: sp.csr_matrix,
    llm: Llm,
    select: Select | None = None,
    settings: Settings | None = None,
    engines: Engines | None = None,
) -> pd.DataFrame:
    """Select the neurons that predict the target, and name them.

    Args:
        texts: n training texts.
        target: (n,) finite numbers; all of them 0 or 1 makes it a classification.
        activations: (n, M), as `hypsae_ray.activations` returns them.
        llm: the model that names and labels.
        select: how neurons are selected; None: the defaults of the config.
        settings: examples, wording, sampling.
        engines: a Session to keep the model loaded in.

    Returns:
        The hypotheses table, best neuron first.
    """
    values = np.asarray(target, dtype=np.float64)
    if not np.isfinite(values).all() or len(values) != len(texts):
        raise InputError(f"target: expected {len(texts)} finite numbers, one per text")
    options, task = select or Select(), rows.guess_task(values)
    chosen = selection.select(activations, values, options, task)
    table = selecting.to_table(chosen, selecting.target_correlation(activations, values, task)).to_pandas()
    ranked = scoring.ranked(table, f"M={activations.shape[1]}", options.method)
    return _name(ranked, texts, activations, llm, settings or Settings(), engines)


def annotate(
    texts: Sequence[str],
    hypotheses: Sequence[str | None] | pd.DataFrame,
    llm: Llm,
    *,
    max_words: int = 512,
    engines: Engines | None = None,
) -> pd.DataFrame:
    """Return P(yes) of every text for every hypothesis: (n, H), NaN where there is no label.

    Args:
        texts: n texts.
        hypotheses: H sentences, or a table with a column `interpretation` or `hypothesis`.
        llm: the model that labels.
        max_words: texts are cut after this many words.
        engines: a Session to keep the model loaded in.
    """
    questions = tuple(sentences_of(hypotheses))
    cut = [truncate_words(text, max_words) for text in texts]
    _warn("annotate", Cut.at_words(texts, max_words), "labels are for their beginnings; see max_words")
    starts = range(0, len(cut), TEXTS_PER_TASK)
    tasks = [(start, cut[start : start + TEXTS_PER_TASK], questions) for start in starts]
    with _engines(engines) as held:
        parts = dict(held.language_model(llm).map(_annotate, tasks))
    p_yes = [parts[start] for start in sorted(parts)] or [np.zeros((0, len(questions)))]
    return pd.DataFrame(np.concatenate(p_yes), columns=range(len(questions)))


def load_annotations(out: str) -> pd.DataFrame:
    """Return what `hypsae annotate` wrote: P(yes), (n, H) by row_id, NaN where there is no label.

    Rows are those of the data in their order; columns are the hypotheses in theirs.

    Args:
        out: folder of the result, a local path or a URI: of the job that ended last in it; or one of its
            folders annotations-*, of any job.

    Raises:
        InputError: there are no annotations.
    """
    row_ids, p_yes, _ = annotating.read_annotations(find_annotations(out))
    return pd.DataFrame(p_yes, index=pd.Index(row_ids, name="row_id"))


def run(config: Config | dict[str, Any], out: str, *, until: str | None = None) -> runner.Run:
    """Run the whole pipeline; a config may be nested dicts, as in YAML. See `runner.run`."""
    settings = config if isinstance(config, Config) else parse(config, "config")
    return runner.run(settings, out, until=until)


@dataclass(frozen=True)
class _InMemory:
    """Training and validation rows that are there already."""

    train: np.ndarray
    val: np.ndarray

    def __call__(self, rank: int, world: int) -> tuple[Shard, Shard]:
        return Shard.of(self.train, rank, world), Shard.of(self.val, rank, world)


@contextmanager
def _engines(given: Engines | None) -> Iterator[Engines]:
    if given is not None:
        yield given
        return
    with Session() as session:
        yield session


def _warn(what: str, cut: Cut, advice: str, stacklevel: int = 3) -> None:
    """Tell whoever called a function of this module that texts were cut, if any was."""
    if cut.texts:
        warnings.warn(f"{what}: {cut}; {advice}", stacklevel=stacklevel)


def _embed(model: Embedder, task: tuple[int, list[str]]) -> tuple[int, Embedded]:
    start, texts = task
    return start, model.embed(texts)


def _annotate(
    model: LanguageModel, task: tuple[int, list[str], tuple[str | None, ...]]
) -> tuple[int, np.ndarray]:
    start, texts, questions = task
    return start, annotating.score_named(model, texts, questions).p_yes


def _name(
    chosen: pd.DataFrame,
    texts: Sequence[str],
    activations: sp.csr_matrix,
    llm: Llm,
    settings: Settings,
    engines: Engines | None,
) -> pd.DataFrame:
    corpus = Corpus.of(np.arange(len(texts)), rows.text_ids(pd.Series(list(texts))), activations)
    by_id = dict(enumerate(texts))
    options = settings.interpret.read_by(llm)
    asks = naming.plan(corpus, chosen["neuron_idx"].tolist(), options)
    with _engines(engines) as held:
        pool = RetryingPool(held.language_model(llm))
        candidates, _ = naming.write_candidates(pool, asks, by_id, options, _untracked)
        shown = [by_id[i] for i in sorted({i for ask in asks for i in (*ask.positives, *ask.negatives)})]
        _warn("naming", Cut.at_words(shown, options.max_words), "see interpret.max_words", stacklevel=4)
        trials = scoring.plan(corpus, candidates, settings.score_fidelity)
        options = settings.score_fidelity
        scored, _ = scoring.score_candidates(pool, trials, by_id, options, settings.label, _untracked)
    return scoring.choose(chosen, candidates, scored)


def _untracked(items: Iterable[Any], _total: int, _unit: str) -> Iterator[Any]:
    return iter(items)
