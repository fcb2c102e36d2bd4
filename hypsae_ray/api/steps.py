"""The steps as functions for notebooks: arrays and data frames in, arrays and data frames out.

Each function starts what it needs and frees it again. To keep a model loaded over several calls, make one
`Session` and pass it as `engines`. A model whose `replicas` are 0 runs in this process; the defaults of
the config start actors in Ray.

Texts and numbers may come in any list, Series or 1-D array. What cannot be used is refused in one line, with
the name of the argument, the position, the value and what is expected.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hypsae_ray.cluster.engines import Engines
from hypsae_ray.cluster.session import Session
from hypsae_ray.commands import runner
from hypsae_ray.config import UNPLACED, Config, Embed, Llm, NamingOptions, Replicas, Select, TrainSae
from hypsae_ray.config.loading import parse
from hypsae_ray.data import arguments, columns, controls, rows
from hypsae_ray.data.arguments import Rows, index_of
from hypsae_ray.data.words import Cut, truncate_words
from hypsae_ray.errors import ConfigError, InputError, RefusedTextError
from hypsae_ray.labels.read import StoredLabels, find_annotations
from hypsae_ray.labels.retries import RetryingPool
from hypsae_ray.models.pool import Pool
from hypsae_ray.models.protocols import Embedded, Embedder, LanguageModel
from hypsae_ray.neurons import selection
from hypsae_ray.neurons import stability as stabilities
from hypsae_ray.neurons.corpus import Corpus
from hypsae_ray.neurons.given import Given
from hypsae_ray.sae import model as saes
from hypsae_ray.sae.training import WorkerRows
from hypsae_ray.stages import annotate as annotating
from hypsae_ray.stages import interpret as naming
from hypsae_ray.stages import score_fidelity as scoring
from hypsae_ray.stages import select as selecting
from hypsae_ray.stages import train_sae as training
from hypsae_ray.stages.embed import CUT_ADVICE, count_cut
from hypsae_ray.stages.texts import sentences_of
from hypsae_ray.store import schema
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.stage_tables import top_rows

S = TypeVar("S")
T = TypeVar("T")
IN_THIS_PROCESS = Replicas(min=0, max=0)
TEXTS_TO_EMBED, TEXTS_TO_LABEL = 2048, 256  # in one task


def embed(texts: Sequence[str], options: Embed | None = None, engines: Engines | None = None) -> np.ndarray:
    """Return the embeddings of texts, (n, d) float32.

    Args:
        texts: n texts, none of them missing or blank; equal ones go through the model once per task.
        options: model and how to use it; None: the default model in this process.
        engines: a Session to keep the model loaded in.

    Raises:
        InputError: some texts cannot be used.
        ModelError: the model is not found or does not load.
    """
    options = _checked("options", options or Embed(replicas=IN_THIS_PROCESS), Embed)
    given = arguments.texts("texts", texts)
    with _engines(engines) as held:
        done = _in_parts(held.embedder(options), _embed, given, TEXTS_TO_EMBED)
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
        embeddings: training rows, an array, a DataFrame or a list of rows.
        val_embeddings: rows for early stopping; None: it looks at the training loss.
        options: sizes and training; what of the sizes is left empty follows n. None: the defaults. `seeds`
            is for runs: here one SAE is trained (see `stability`).
        engines: a Session.

    Raises:
        InputError: there are no rows, some are not finite, or the two differ in d.
        ConfigError: `options` have several k.
    """
    train = arguments.vectors("embeddings", embeddings)
    val = np.zeros((0, train.shape[1]), dtype=np.float32)
    if val_embeddings is not None:
        val = arguments.vectors("val_embeddings", val_embeddings)
    if val.shape[1] != train.shape[1]:
        raise InputError(f"val_embeddings: {val.shape[1]} columns, but embeddings has {train.shape[1]}")
    options = _checked("options", options or TrainSae(), TrainSae)
    if isinstance(options.k, tuple):
        raise ConfigError(f"options.k {list(options.k)}: several k are for runs; train an SAE for each")
    with _engines(engines) as held:
        load = partial(_load_rows, train, val)
        return held.train_sae(load, options.sized(len(train)), lambda _: None).sae


def activations(
    sae: saes.SparseAutoencoder, embeddings: np.ndarray, batch_size: int = 16_384
) -> sp.csr_matrix:
    """Return the activation of each neuron on each text: CSR (n, M) float32, values above 0 only.

    Args:
        sae: of M neurons.
        embeddings: (n, d), an array, a DataFrame or a list of rows.
        batch_size: rows at a time.

    Raises:
        InputError: the SAE has another d, or some rows are not finite.
    """
    return saes.activations(sae, arguments.vectors("embeddings", embeddings), batch_size)


def stability(activations: sp.csr_matrix, others: Sequence[sp.csr_matrix]) -> np.ndarray:
    """Return how well each neuron of an SAE is found again in others, (M,), 0 to 1; NaN if it never varies.

    It is the highest correlation of its activations with those of any neuron of another SAE, on average over
    the others: SAEs of the same embeddings with another `seed` in their options.

    Args:
        activations: (n, M), as `hypsae_ray.activations` returns them; any sparse or dense table will do.
        others: (n, M) of each of the other SAEs, on the same texts.

    Raises:
        InputError: there are no others, or one has other rows.
    """
    mine, theirs = sp.csr_matrix(activations), [sp.csr_matrix(other) for other in others]
    if not theirs:
        raise InputError("others: it is empty; expected activations of at least one other SAE")
    for number, other in enumerate(theirs):
        if other.shape[0] != mine.shape[0]:
            raise InputError(f"others[{number}]: {other.shape[0]} rows, but activations has {mine.shape[0]}")
    return stabilities.stability(mine, theirs)


def load_sae(path: str) -> saes.SparseAutoencoder:
    """Read an SAE: the `train_sae` folder of a run, or a `hypothesaes` .pt checkpoint (weights only).

    Of a run with several k, each SAE has a folder of its own in that one: k1, k2 and so on.

    Raises:
        ModelError: it is neither.
    """
    path = os.fspath(path)
    if path.endswith(".pt"):
        parent, _, name = path.rpartition("/")
        return saes.from_hypothesaes(Folder.at(parent or ".").read_bytes(name))
    return training.load_sae(Folder.at(path))


def top_texts(
    texts: Sequence[str], activations: sp.csr_matrix, neurons: Sequence[int], n: int = 3
) -> pd.DataFrame:
    """Return the texts with the highest activations: neuron_idx, activation, text; up to n each.

    Args:
        texts: n texts, none of them missing or blank.
        activations: (n, M), as `hypsae_ray.activations` returns them; any sparse or dense table will do.
        neurons: which ones, from 0 to M - 1.
        n: texts per neuron at the most.

    Raises:
        InputError: parts cannot be used, or do not fit together.
    """
    given = np.array(arguments.texts("texts", texts), dtype=object)
    fired = sp.csc_matrix(_fired(activations, _rows_of(texts, given.tolist())))
    tables = []
    for neuron in _neurons(neurons, fired.shape[1]):
        positions = top_rows(fired, neuron)
        strength = fired[:, [neuron]].toarray().ravel()[positions]
        shown = pd.DataFrame({"neuron_idx": neuron, "activation": strength, "text": given[positions]})
        tables.append(shown.drop_duplicates("text").head(n))
    return pd.concat(tables, ignore_index=True)


def interpret_neurons(
    texts: Sequence[str],
    activations: sp.csr_matrix,
    neurons: Sequence[int],
    llm: Llm,
    options: NamingOptions | None = None,
    engines: Engines | None = None,
) -> pd.DataFrame:
    """Name neurons, and score each name on other texts.

    Args:
        texts: n texts, none of them missing or blank.
        activations: (n, M), as `hypsae_ray.activations` returns them; any sparse or dense table will do.
        neurons: which ones, from 0 to M - 1.
        llm: the model that names and labels.
        options: examples, wording, sampling; None: the defaults of the config.
        engines: a Session to keep the model loaded in.

    Returns:
        One row per neuron, in order: neuron_idx, interpretation (None if there is none), status,
        threshold (p_yes from which a label is a yes), f1_fidelity_score, precision, recall, correlation,
        n (texts), precision_corpus and f1_corpus (where firing texts are as rare as in `texts`), with 95 %
        intervals f1_ci_low, f1_ci_high, and so on for precision, recall and f1_corpus. Of several candidates
        the best is measured on texts that had no part in the choice, where there are enough.

    Raises:
        InputError: parts cannot be used, or do not fit together.
    """
    given = arguments.texts("texts", texts)
    fired = _fired(activations, _rows_of(texts, given))
    chosen = pd.DataFrame({"neuron_idx": _neurons(neurons, fired.shape[1])})
    table = _name(chosen, given, fired, llm, options or NamingOptions(), engines)
    names = ["neuron_idx", "interpretation", "status", "threshold", "f1_fidelity_score"]
    return table[[*names, *schema.MEASURES.names]]


def generate_hypotheses(
    texts: Sequence[str],
    target: Sequence[float] | np.ndarray,
    activations: sp.csr_matrix,
    llm: Llm,
    select: Select | None = None,
    options: NamingOptions | None = None,
    engines: Engines | None = None,
    *,
    covariates: pd.DataFrame | None = None,
    fixed_effects: Sequence[Any] | np.ndarray | None = None,
    weights: Sequence[float] | np.ndarray | None = None,
) -> pd.DataFrame:
    """Select the neurons that predict the target, and name them.

    Args:
        texts: n training texts, none of them missing or blank.
        target: (n,) finite numbers; all of them 0 or 1 makes it a classification. A Series is put into the
            order of `texts` by its index, if both have one.
        activations: (n, M), as `hypsae_ray.activations` returns them; any sparse or dense table will do.
        llm: the model that names and labels.
        select: how neurons are selected; None: the defaults of the config.
        options: examples, wording, sampling; None: the defaults of the config.
        engines: a Session to keep the model loaded in.
        covariates: (n, C) to hold fixed while neurons are selected; what is not all numbers becomes one
            column per level but the most frequent one.
        fixed_effects: (n,) groups within which neurons are compared; a row without one is a group of its own.
        weights: (n,) above 0.

    Returns:
        The hypotheses table, best neuron first. `evaluate_hypotheses` takes thresholds from it.

    Raises:
        InputError: parts cannot be used, or do not fit together.
    """
    given = arguments.texts("texts", texts)
    texts_rows = _rows_of(texts, given)
    values = texts_rows.take("target", arguments.numbers("target", target), index_of(target))
    if np.ptp(values) == 0:
        raise InputError(f"target: it is {values[0]:g} on every row: nothing to predict")
    fired = _fired(activations, texts_rows)
    section, task = _checked("select", select or Select(), Select), rows.guess_task(values)
    if section.interactions and covariates is None:
        raise InputError("select: interactions needs covariates")
    known = _known(texts_rows, covariates, fixed_effects, weights) if section.given == "auto" else None
    chosen = selection.select(fired, values, section, task, known)
    table = selecting.to_table(chosen, selecting.target_correlation(fired, values)).to_pandas()
    ranked = scoring.ranked(table, f"M={fired.shape[1]}", section.method)
    return _name(ranked, given, fired, llm, options or NamingOptions(), engines)


def _known(texts_rows: Rows, covariates: Any, fixed_effects: Any, weights: Any) -> Given | None:
    """Return what is held fixed, in the order of the texts; None where nothing is."""
    if covariates is None and fixed_effects is None and weights is None:
        return None
    table = pd.DataFrame(index=range(texts_rows.n)) if covariates is None else covariates
    encoded = controls.encode(arguments.table("covariates", table, "a DataFrame"))
    place = None if covariates is None else index_of(covariates)
    codes, each = None, None
    if fixed_effects is not None:
        read, _ = arguments.codes("fixed_effects", fixed_effects)
        codes = texts_rows.take("fixed_effects", read, index_of(fixed_effects))
    if weights is not None:
        each = arguments.numbers("weights", weights, "a number above 0", lambda values: values > 0)
        each = texts_rows.take("weights", each, index_of(weights))
    return Given(texts_rows.take("covariates", encoded.values, place), encoded.names, each, codes)


def annotate(
    texts: Sequence[str],
    hypotheses: Sequence[str | None] | pd.DataFrame,
    llm: Llm,
    *,
    max_words: int = 512,
    engines: Engines | None = None,
) -> pd.DataFrame:
    """Return p_yes of every text for every hypothesis: (n, H), NaN where there is no label.

    Rows have the index of `texts`, if that is a Series. Columns have that of `hypotheses`, if that is a
    Series or a table, else they are 0 to H - 1, and no sentences: two hypotheses may share one.

    Args:
        texts: n texts. As in files, one that is missing, blank or no text has no label, and does not end the
            work: a warning counts them and shows the first.
        hypotheses: H sentences, or a table with a column `interpretation` or `hypothesis`; None: no label.
        llm: the model that labels.
        max_words: texts are cut after this many words.
        engines: a Session to keep the model loaded in.

    Raises:
        InputError: no text can be used, a hypothesis is no text, or either is no list.
    """
    questions = sentences_of(hypotheses)
    given = arguments.column("texts", texts, arguments.TEXTS)
    usable = _usable(given)
    labelled = given[usable].tolist()
    cut = [truncate_words(text, max_words) for text in labelled]
    _warn("annotate", Cut.at_words(labelled, max_words), "labels are for their beginnings; see max_words")
    with _engines(engines) as held:
        pool = held.language_model(_checked("llm", llm, Llm))
        parts = _in_parts(pool, partial(_annotate, questions), cut, TEXTS_TO_LABEL)
    p_yes = np.full((len(given), len(questions)), np.nan, dtype=np.float32)
    if parts:
        p_yes[usable] = np.concatenate(parts)
    names = index_of(hypotheses)
    return pd.DataFrame(p_yes, index=given.index, columns=range(len(questions)) if names is None else names)


def load_annotations(out: str) -> pd.DataFrame:
    """Return what `hypsae annotate` wrote: p_yes, (n, H) by row_id, NaN where there is no label.

    Rows are those of the data in their order; columns are the hypotheses in theirs.

    Args:
        out: folder of the result, a local path or a URI: of the job that ended last in it; or one of its
            folders annotations-*, of any job.

    Raises:
        InputError: there are no annotations.
    """
    row_ids, p_yes = zip(*StoredLabels(find_annotations(out), UNPLACED).tables(), strict=True)
    return pd.DataFrame(np.concatenate(p_yes), index=pd.Index(np.concatenate(row_ids), name="row_id"))


def run(config: Config | dict[str, Any], out: str, *, until: str | None = None) -> runner.Run:
    """Run the whole pipeline; a config may be nested dicts, as in YAML. See `runner.run`."""
    whole = config if isinstance(config, Config) else parse(config, "config")
    return runner.run(whole, out, until=until)


def _usable(texts: "pd.Series[Any]") -> np.ndarray:
    """Return which texts can be labelled, (n,); a warning counts the others.

    Raises:
        InputError: none of them can.
    """
    typed = columns.texts(texts)
    if message := arguments.complaint("texts", texts, typed.reasons, "such rows have no label"):
        if not typed.usable.any():
            raise InputError(message)
        warnings.warn(message, stacklevel=3)
    return typed.usable


def _rows_of(texts: Any, given: list[str]) -> Rows:
    return Rows("texts", len(given), index_of(texts))


def _fired(activations: Any, rows_of_texts: Rows) -> sp.csr_matrix:
    """Return activations (n, M) as CSR, in the order of the texts."""
    index, table = index_of(activations), activations
    if not sp.issparse(activations):
        table = arguments.vectors("activations", activations)
    fired = sp.csr_matrix(table)
    row_of = np.repeat(np.arange(fired.shape[0]), np.diff(fired.indptr))
    bad = np.zeros(fired.shape[0], dtype=bool)
    bad[row_of[~(np.isfinite(fired.data) & (fired.data >= 0))]] = True
    reason = "it holds NaN, infinite or negative values"
    arguments.refuse_rows("activations", bad, pd.RangeIndex(len(bad)) if index is None else index, reason)
    return fired[rows_of_texts.take("activations", np.arange(len(bad)), index)]


def _neurons(neurons: Any, n_neurons: int) -> list[int]:
    expected, there = f"a neuron, 0 to {n_neurons - 1}", np.arange(n_neurons)
    values = arguments.numbers("neurons", neurons, expected, lambda values: np.isin(values, there))
    return values.astype(np.int64).tolist()


def _checked(name: str, value: Any, section: type[S]) -> S:
    if not isinstance(value, section):
        expected = f"hypsae_ray.config.{section.__name__}"
        raise InputError(f"{name}: expected a {expected}, not {columns.shown(value)}")
    return value


def _load_rows(train: np.ndarray, val: np.ndarray, rank: int, world: int) -> tuple[WorkerRows, WorkerRows]:
    return WorkerRows.of(train, rank, world), WorkerRows.of(val, rank, world)


def _engines(given: Engines | None) -> AbstractContextManager[Engines]:
    return Session() if given is None else nullcontext(given)


def _in_parts(
    pool: Pool[Any], work: Callable[[Any, Any], tuple[int, T]], texts: list[str], size: int
) -> list[T]:
    """Return what is made of `size` texts at a time; a task is a position and the texts from there on."""
    tasks = [(start, texts[start : start + size]) for start in range(0, len(texts), size)]
    parts = dict(pool.map(work, tasks))
    return [parts[start] for start, _ in tasks]


def _warn(what: str, cut: Cut, advice: str, stacklevel: int = 3) -> None:
    """Warn the caller of a function of this module if texts were cut."""
    if cut.texts:
        warnings.warn(f"{what}: {cut}; {advice}", stacklevel=stacklevel)


def _embed(model: Embedder, task: tuple[int, list[str]]) -> tuple[int, Embedded]:
    start, texts = task
    try:
        return start, model.embed(texts)
    except RefusedTextError as error:
        raise InputError(f"texts: position {start + error.position}: {error}") from None


def _annotate(
    questions: Sequence[str | None], model: LanguageModel, task: tuple[int, list[str]]
) -> tuple[int, np.ndarray]:
    start, texts = task
    return start, annotating.score_named(model, texts, questions).p_yes


def _name(
    chosen: pd.DataFrame,
    texts: Sequence[str],
    activations: sp.csr_matrix,
    llm: Llm,
    options: NamingOptions,
    engines: Engines | None,
) -> pd.DataFrame:
    corpus = Corpus.of(np.arange(len(texts)), rows.text_ids(pd.Series(list(texts))), activations)
    by_id = dict(enumerate(texts))
    given = _checked("options", options, NamingOptions)
    interpret = given.interpret.read_by(_checked("llm", llm, Llm))
    asks = naming.plan(corpus, chosen["neuron_idx"].tolist(), interpret)
    with _engines(engines) as held:
        pool = RetryingPool(held.language_model(llm))
        candidates, _ = naming.write_candidates(pool, asks, by_id, interpret, _untracked)
        shown = [by_id[i] for i in sorted({i for ask in asks for i in (*ask.positives, *ask.negatives)})]
        _warn("naming", Cut.at_words(shown, interpret.max_words), "see interpret.max_words", stacklevel=4)
        setting = scoring.Setting(
            texts=scoring.Source(corpus, lambda _: by_id),
            labeller=lambda: pool,
            namer=lambda: pool,
            options=given.model_copy(update={"interpret": interpret}),
            track=_untracked,
        )
        tried = scoring.score_until_informative(candidates, setting)
    return scoring.choose(chosen, tried.candidates, tried.scored, given.label.unplaced)


def _untracked(items: Iterable[Any], _total: int, _unit: str) -> Iterator[Any]:
    return iter(items)
