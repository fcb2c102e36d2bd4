"""What sections `embed` and `llm` share: a model, the engine that runs it, and its replicas."""

from typing import Any, Self

from pydantic import model_validator

from hypsae_ray.config.endpoint import Endpoint
from hypsae_ray.config.replicas import Replicas
from hypsae_ray.config.types import Commit, Positive, Runtime, Section

# Arguments of vLLM 0.29 that decide how it loads, logs and recovers, and no answer.
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


class Model(Section):
    """A model, the engine that runs it, and its replicas."""

    engine: str
    """What computes."""
    model: str
    """Which model."""
    endpoint: Runtime[Endpoint | None] = None
    """The server, for engine endpoint."""
    revision: str | None = None
    """Revision of a hub model; null: that of trust_remote_code, or main. A branch or tag is resolved to a
    commit when the run folder is created; every replica loads that commit, and hashes hold it."""
    trust_remote_code: Commit | None = None
    """Commit (40 hex digits) of a hub model whose own code may run here; for a local folder, the digest of
    its code, which the refusal names. null: no code of a model runs."""
    tensor_parallel_size: Runtime[Positive] = 1
    """For vllm: GPUs of one node that each layer is split over."""
    engine_args: dict[str, Any] = {}
    """For vllm: any other argument of vllm.LLM, under vLLM's own name. They are part of hashes, except those
    that only say how vLLM loads and logs."""
    replicas: Runtime[Replicas] = Replicas()
    """Copies of the model."""

    @model_validator(mode="after")
    def _has_its_server_and_one_revision(self) -> Self:
        if (self.engine == "endpoint") != (self.endpoint is not None):
            raise ValueError("engine endpoint and a section endpoint need each other: give both or neither")
        # Transformers takes code from the revision that it takes weights from, and a branch can be moved.
        trusted, revision = self.trust_remote_code, self.revision
        if trusted is not None and revision not in (None, trusted):
            raise ValueError(
                f"trust_remote_code ({trusted}) is not revision ({revision}): weights and code come from one "
                "commit; leave out revision"
            )
        return self

    def content(self) -> dict[str, Any]:
        """Return the fields that decide a result, without the arguments of vLLM that do not."""
        args = {name: value for name, value in self.engine_args.items() if name not in WITHOUT_EFFECT}
        return {**super().content(), "engine_args": args}
