"""All sections of a run, and those of `hypsae annotate`."""

from typing import Self

from pydantic import model_validator

from hypsae_ray.config.annotate import Annotate
from hypsae_ray.config.data import Data
from hypsae_ray.config.embed import Embed
from hypsae_ray.config.evaluate import Evaluate
from hypsae_ray.config.interpret import Interpret
from hypsae_ray.config.label import Label
from hypsae_ray.config.llm import Llm
from hypsae_ray.config.replicas import Replicas
from hypsae_ray.config.report import Report
from hypsae_ray.config.score_fidelity import ScoreFidelity
from hypsae_ray.config.select import Select
from hypsae_ray.config.train_sae import SAE_SIZES, TrainSae
from hypsae_ray.config.types import Delimiter, Encoding, Runtime, Section


class AnnotateJob(Section):
    """Hypotheses and texts of any origin: what `hypsae annotate` runs."""

    hypotheses: Runtime[str]
    """CSV, Parquet or JSONL file with a column interpretation or hypothesis."""
    data: Runtime[str]
    """File, glob or folder of JSONL, CSV or Parquet: the texts."""
    encoding: Encoding | None = None
    """Encoding of `data` if it is JSON or CSV; see `Data`."""
    delimiter: Delimiter | None = None
    """What stands between cells of `data` if it is CSV; see `Data`."""
    text: str = "text"
    """Column of the text."""
    id: str | None = None
    """Column of an id to carry along; null: none."""
    llm: Llm = Llm()
    """The model that labels."""
    label: Label = Label()
    """How it is asked."""
    annotate: Annotate = Annotate()
    """Shards, cuts, mask and tries."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        _refuse_what_a_run_knows(self.annotate)
        return self


class EvaluateJob(Section):
    """Annotations and a target: what `hypsae evaluate` tests."""

    data: Data
    """The rows that were annotated, and their columns."""
    fixed_effects: tuple[str, ...] = ()
    """Columns of names whose levels are absorbed, in linear models."""
    evaluate: Evaluate = Evaluate()
    """The tests."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        _check_evaluate(self.data, self.evaluate)
        _refuse_gold(self.evaluate)
        return self


class ReplicateJob(Section):
    """Other texts for the hypotheses of a run: what `hypsae replicate` labels and tests."""

    data: Data
    """The texts, and their columns."""
    llm: Llm = Llm()
    """The model that labels."""
    label: Label = Label()
    """How it is asked."""
    annotate: Annotate = Annotate()
    """Sample, shards, cuts and tries."""
    evaluate: Evaluate = Evaluate()
    """The tests."""

    @property
    def testing(self) -> EvaluateJob:
        """The tests as a job of `hypsae evaluate`."""
        return EvaluateJob(data=self.data, evaluate=self.evaluate)

    def labelling(self, hypotheses: str) -> AnnotateJob:
        """Return the labelling as a job of `hypsae annotate`, with the path of a file of hypotheses."""
        fields = ("text", "id", "encoding", "delimiter")
        reading = {name: getattr(self.data, name) for name in fields}
        asking = {name: getattr(self, name) for name in ("llm", "label", "annotate")}
        return AnnotateJob(hypotheses=hypotheses, data=self.data.train, **reading, **asking)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        _check_evaluate(self.data, self.evaluate)
        _refuse_gold(self.evaluate)
        _refuse_what_a_run_knows(self.annotate)
        return self


class NamingOptions(Section):
    """How the functions for notebooks name neurons and score their names."""

    interpret: Interpret = Interpret()
    """Examples, wording and sampling."""
    score_fidelity: ScoreFidelity = ScoreFidelity()
    """Texts that names are scored on."""
    label: Label = Label()
    """How these texts are labelled."""


class Config(Section):
    """A whole run."""

    data: Data
    embed: Embed = Embed()
    train_sae: TrainSae = TrainSae()
    select: Select = Select()
    llm: Llm = Llm()
    label: Label = Label()
    interpret: Interpret = Interpret()
    score_fidelity: ScoreFidelity = ScoreFidelity()
    annotate: Annotate = Annotate()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        n_neurons = self.train_sae.given_neurons or SAE_SIZES[0][1].n_neurons
        n_neurons *= len(self.train_sae.each)
        if self.select.n > n_neurons:
            raise ValueError(
                f"select.n ({self.select.n}) is above train_sae.n_neurons ({n_neurons}): "
                "more neurons selected than exist"
            )
        namer = self.interpreter
        if namer.engine == "vllm" and self.interpret.max_tokens >= namer.max_model_len:
            raise ValueError(
                f"interpret.max_tokens ({self.interpret.max_tokens}) leaves no room for a prompt in "
                f"max_model_len ({namer.max_model_len})"
            )
        _check_evaluate(self.data, self.evaluate)
        self._check_sample()
        self._check_select()
        self._check_vectors()
        if self.evaluate.gold is not None:
            require_whole_texts(self.data, "evaluate.gold")
        own = "column" if self.embed.engine == "column" else None
        by_row = {"annotate.mask": self.annotate.mask, "embed.engine": own}
        if self.data.rule and (given := [name for name, one in by_row.items() if one is not None]):
            many = "which data.chunk splits" if self.data.chunk else "which have two texts each"
            raise ValueError(f"{given[0]} is about rows of the data, {many}: leave out one")
        return self

    def _check_vectors(self) -> None:
        if self.embed.engine != "column":
            return
        if self.data.target_means:
            raise ValueError("data.target_means needs a model in embed, to compare sentences by")
        if self.embed.files is None:
            data = self.data
            used = {*data.text_columns, data.target, data.id, data.group, *data.covariates}
            if self.embed.column in used:
                raise ValueError(f"embed.column {self.embed.column!r} is a column that section data uses")
            return
        given = self.embed.files.paths
        for source in ("val", "holdout"):
            if (source in given) != (getattr(self.data, source) is not None):
                raise ValueError(
                    f"embed.files.{source} and data.{source} belong together: name both or neither "
                    "(rows that are split off train have their vectors with it)"
                )

    def _check_sample(self) -> None:
        sample = self.annotate.sample
        if sample is None or sample.half_width is None:
            return
        if self.data.rule is not None and not self.data.labels_documents:
            raise ValueError("annotate.sample.half_width needs labels of whole texts: give rows, or a share")
        if beyond := [one for one in sample.hypotheses if one >= self.select.n]:
            raise ValueError(f"annotate.sample.hypotheses: there is no hypothesis {beyond[0]} (select.n)")

    def _check_select(self) -> None:
        if self.select.interactions and not (self.data.covariates and self.evaluate.covariates):
            raise ValueError("select.interactions needs data.covariates, and evaluate.covariates")

    @property
    def given_to_select(self) -> dict[str, str | tuple[str, ...]]:
        """What is held fixed while neurons are selected, by its place in `data`: the columns' names."""
        if self.select.given == "none" or self.select.method == "custom":
            return {}
        held = {
            "covariates": self.data.covariates if self.evaluate.covariates else (),
            "weight": self.data.weight,
            "group": self.data.group if self.evaluate.absorb_group else None,
        }
        return {place: columns for place, columns in held.items() if columns}

    @property
    def interpreter(self) -> Llm:
        """The model that names neurons."""
        return self.interpret.llm or self.llm

    @property
    def naming(self) -> Interpret:
        """Section `interpret`, with the number of examples that the model reads."""
        return self.interpret.read_by(self.interpreter)

    @property
    def uses_llm(self) -> bool:
        """Whether any stage asks a real language model."""
        return {self.llm.engine, self.interpreter.engine} != {"keywords"}

    def with_keywords(self) -> "Config":
        """Return this config with keywords instead of every LLM.

        Unless the config itself asks for keywords, they work in this process, as the baseline of a run.
        """
        here = Llm(engine="keywords", replicas=Replicas(min=0, max=0))
        llm = here if self.uses_llm else self.llm
        changed: dict[str, Section] = {
            "llm": llm,
            "interpret": self.interpret.model_copy(update={"llm": None}),
            "annotate": self._annotate_at_once,
        }
        if self.uses_llm:  # people labelled what the LLM's sentences say, not those of keywords
            changed["evaluate"] = self.evaluate.model_copy(update={"gold": None})
        return self.model_copy(update=changed)

    @property
    def _annotate_at_once(self) -> Annotate:
        """Section `annotate` for keywords, which take milliseconds: no limit of time or cost.

        As a baseline of an LLM no half width either: these say how many rows the LLM labels.
        """
        sample = self.annotate.sample
        if sample is not None and self.uses_llm:
            limited = self.annotate.minutes is not None or sample.half_width is not None
            sample = None if limited else sample.model_copy(update={"llm": None})
        elif self.annotate.minutes is not None:
            sample = None
        return self.annotate.model_copy(update={"sample": sample})


def _refuse_gold(evaluate: Evaluate) -> None:
    if evaluate.gold is not None:
        raise ValueError("evaluate.gold is about the labels of a run: hypsae run --evaluate.gold FILE")


def _refuse_what_a_run_knows(annotate: Annotate) -> None:
    """Raise ValueError if a sample needs the neurons or the target of a run."""
    sample = annotate.sample
    if sample is not None and sample.llm is not None:
        raise ValueError("annotate.sample.llm predicts labels in a run, not in a job of its own")
    if sample is not None and sample.half_width is not None:
        raise ValueError(
            "annotate.sample.half_width is about coefficients, and a job of `hypsae annotate` has no "
            "target: give rows, a share, minutes or a cost"
        )


def require_whole_texts(data: Data, what: str) -> None:
    """Raise ValueError if texts are labelled in parts, or in pairs, which people do not label."""
    if data.rule is not None and not data.labels_documents:
        parts = "chunks (data.chunk.labels: whole labels documents)" if data.chunk else "pairs of texts"
        raise ValueError(f"{what} needs labels of whole texts, and this run labels {parts}")


def _check_evaluate(data: Data, evaluate: Evaluate) -> None:
    """Raise ValueError if the tests do not fit the columns of the data."""
    by_group = {"absorb_group": evaluate.absorb_group, "cov_type cluster": evaluate.cov_type == "cluster"}
    if data.group is None and (asked := [name for name, one in by_group.items() if one]):
        raise ValueError(f"evaluate: {asked[0]} needs data.group")
    if evaluate.absorb_group and data.task != "regression":
        raise ValueError(
            "evaluate.absorb_group needs data.task regression: linear models alone absorb fixed effects"
        )
    if reserved := [name for name in data.covariates if name == "constant" or name.startswith("#")]:
        raise ValueError(f"data.covariates: {reserved[0]!r} is a name that the joint model uses itself")
