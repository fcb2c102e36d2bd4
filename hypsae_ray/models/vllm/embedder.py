"""vLLM's pooling runner as an `Embedder`: for models of billions of weights, split over GPUs or not."""

from typing import Any

import numpy as np

from hypsae_ray.config import Embed
from hypsae_ray.errors import ConfigError, EngineDiedError
from hypsae_ray.models.embedding import LocalEmbedder, scaled
from hypsae_ray.models.identity import versions_of
from hypsae_ray.models.remote_code import load_error
from hypsae_ray.models.vllm.model import engine_arguments, set_environment


class VllmEmbedder(LocalEmbedder):
    """One vLLM engine inside this process.

    Raises:
        ModelError: the model is not found, or vLLM does not load it; the message holds vLLM's reason.
        ConfigError: the model carries other code than is trusted, or cannot be read in chunks.
    """

    def __init__(self, options: Embed) -> None:
        set_environment(options.as_llm())
        import vllm

        try:
            self._llm: Any = vllm.LLM(**pooling_arguments(options))
        except ConfigError:  # about code that the model carries
            raise
        except Exception as error:
            raise load_error("vLLM cannot load", options, error) from error
        dtype = str(self._llm.model_config.dtype).removeprefix("torch.")
        self.versions = {**versions_of("vllm", "torch", "transformers"), "precision": dtype}
        super().__init__(options, self._llm.get_tokenizer(), self._llm.model_config.max_model_len)

    def computed(self, texts: list[str]) -> np.ndarray:
        """Return what the model makes of texts that stand after their prompt, (n, d) float32.

        Raises:
            EngineDiedError: the engine broke down.
        """
        ids = self._tokenizer(texts, truncation=True, max_length=self._limit)["input_ids"]
        prompts = [{"prompt_token_ids": tokens} for tokens in ids]
        try:
            outputs = self._llm.embed(prompts, use_tqdm=False)
        except Exception as error:
            raise EngineDiedError(f"vLLM broke down: {type(error).__name__}: {error}") from error
        vectors = np.array([output.outputs.embedding for output in outputs], dtype=np.float32)
        return scaled(vectors) if self.options.normalize else vectors

    def close(self) -> None:
        """End the engine, and free its memory; no other method can be called afterwards."""
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        cleanup_dist_env_and_memory()


def pooling_arguments(options: Embed) -> dict[str, Any]:
    """Return the arguments of vllm.LLM for an embedding model; where they are None, vLLM decides."""
    left_to_vllm = dict.fromkeys(("max_num_batched_tokens", "enable_prefix_caching"))
    return {
        **engine_arguments(options.as_llm()),
        **left_to_vllm,
        "runner": "pooling",
        "max_model_len": options.max_tokens,
        **options.engine_args,
    }
