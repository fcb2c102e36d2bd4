"""The steps as functions for notebooks: arrays and data frames in, arrays and data frames out.

Each function starts what it needs and frees it again. To keep a model loaded over several calls, make one
`Session` and pass it as `engines`. A model whose `replicas` are 0 runs in this process; the defaults of
the config start actors in Ray.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from pydantic import ValidationError

from hypsae_ray import runner, schema
from hypsae_ray.artifacts import Folder
from hypsae_ray.boundary import Embedder, Engines, LanguageModel
from hypsae_ray.config import (
    Config,
    Embed,
    Evaluate,
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
from hypsae_ray.core import inference, rows, selection
from hypsae_ray.core import sae as saes
from hypsae_ray.core.controls import encode as encode_covariates
from hypsae_ray.core.multiplicity import Correction
from hypsae_ray.core.prompts import truncate_words
from hypsae_ray.core.sample import LabelArray, Labels, Sample, codes_of
from hypsae_ray.core.training import Shard
from hypsae_ray.engine.session import Session
from hypsae_ray.errors import ConfigError, InputError
from hypsae_ray.stages import annotate as annotating
from hypsae_ray.stages import interpret as naming
from hypsae_ray.stages import score_fidelity as scoring
from hypsae_ray.stages import select as selecting
from hypsae_ray.stages import train_sae as training
from hypsae_ray.stages.corpus import Corpus
from hypsae_ray.stages.stored_labels import StoredLabels

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
    return np.concatenate([parts[start] for start in sorted(parts)])


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
    questions = tuple(_sentences(hypotheses))
    cut = [truncate_words(text, max_words) for text in texts]
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
        out: folder of the result, a local path or a URI.

    Raises:
        InputError: there are no annotations.
    """
    folder = Folder.at(out).sub("annotations")
    if not folder.names("annotations-", ".parquet"):
        raise InputError(f"{out}: there are no annotations here")
    row_ids, p_yes, _ = annotating.read_annotations(folder)
    return pd.DataFrame(p_yes, index=pd.Index(row_ids, name="row_id"))


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
    settings = _evaluate_options({"alpha": alpha, "correction": correction, **options})
    sentences = None if hypotheses is None else _sentences(hypotheses)
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


def _evaluate_options(fields: dict[str, Any]) -> Evaluate:
    try:
        return Evaluate(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "evaluate_hypotheses"
        raise ConfigError(f"{where}: {first['msg']}") from None


def _labels(annotations: pd.DataFrame | np.ndarray | str, task: inference.Task, threshold: float) -> Labels:
    if isinstance(annotations, str):
        folder = Folder.at(annotations)
        folder = folder if folder.names("annotations-", ".parquet") else folder.sub("annotations")
        if not folder.names("annotations-", ".parquet"):
            raise InputError(f"{annotations}: there are no annotations here")
        return StoredLabels(folder, threshold)
    values = np.asarray(annotations, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"annotations {values.shape} must be a table (n, H)")
    if task == "pairwise":
        return LabelArray(values)
    if ((values < 0) | (values > 1)).any():
        raise ValueError("annotations must be within 0 and 1, or NaN")
    return LabelArray(annotating.to_labels(values, threshold))


def _effect_codes(fixed_effects: pd.DataFrame | Sequence[Any] | np.ndarray) -> np.ndarray:
    frame = pd.DataFrame(fixed_effects)
    return np.stack([codes_of(frame[name]) for name in frame.columns], axis=1)


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


def _embed(model: Embedder, task: tuple[int, list[str]]) -> tuple[int, np.ndarray]:
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
        pool = held.language_model(llm)
        candidates, _ = naming.write_candidates(pool, asks, by_id, options, _untracked)
        trials = scoring.plan(corpus, candidates, settings.score_fidelity)
        options = settings.score_fidelity
        scored, _ = scoring.score_candidates(pool, trials, by_id, options, settings.label, _untracked)
    return scoring.choose(chosen, candidates, scored)


def _untracked(items: Iterable[Any], _total: int, _unit: str) -> Iterator[Any]:
    return iter(items)


def _sentences(hypotheses: Sequence[str | None] | pd.DataFrame) -> list[str | None]:
    if isinstance(hypotheses, pd.DataFrame):
        column = next((c for c in ("interpretation", "hypothesis") if c in hypotheses), None)
        if column is None:
            raise InputError("hypotheses: no column 'interpretation' or 'hypothesis'")
        hypotheses = hypotheses[column].tolist()
    return [None if pd.isna(sentence) else str(sentence) for sentence in hypotheses]
