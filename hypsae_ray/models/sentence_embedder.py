"""sentence-transformers as an `Embedder`."""

from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from hypsae_ray.config import Embed, Replicas
from hypsae_ray.errors import ConfigError
from hypsae_ray.models.embedding import LocalEmbedder, scaled
from hypsae_ray.models.identity import versions_of
from hypsae_ray.models.locate import locate
from hypsae_ray.models.precision import dtype_of_embedder
from hypsae_ray.models.remote_code import code_arguments, load_error

_PACKAGES = {"torch": (), "onnx": ("optimum-onnx", "onnxruntime"), "openvino": ("optimum-intel", "openvino")}
_OPENVINO_NAMES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


class SentenceEmbedder(LocalEmbedder):
    """One sentence-transformers model inside this process.

    With `layer`, the states of an inner layer are averaged over the tokens of a text (padding left out)
    instead of the model's own pooling of its last one.

    Raises:
        ModelError: the model is not found, does not load, has no safetensors, or needs code of its own that
            is not trusted.
        ConfigError: the model has no such layer, the layer no MLP block, the code is not what is trusted, or
            the model cannot read as many tokens, or not in chunks; or the packages of the backend are not
            installed.
    """

    def __init__(self, options: Embed) -> None:
        device = options.device if options.device != "auto" else _best_device(options.replicas)
        dtype, self.remark = dtype_of_embedder(options, device)
        backend = options.advanced.backend
        runtime = _PACKAGES[backend]
        if any(name not in versions_of(name) for name in runtime):
            raise ConfigError(
                f"embed.advanced.backend {backend}: its packages are not installed: run "
                f"pip install 'hypsae-ray[{backend}]' in a virtual environment of its own "
                "(vLLM wants a newer transformers)"
            )
        libraries = versions_of("sentence-transformers", "transformers", "torch", *runtime)
        self.versions = {**libraries, "precision": dtype}
        try:
            self._model = SentenceTransformer(
                locate(options.model),
                device=device,
                backend=backend,
                model_kwargs=_model_arguments(backend, dtype),
                **code_arguments(options),
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise load_error("sentence-transformers cannot load", options, error) from error
        _set_limit(self._model, options)
        super().__init__(options, self._model.tokenizer, self._model.max_seq_length)
        self._pooled = None if options.advanced.layer is None else _find_block(self._model, options)

    def computed(self, texts: list[str]) -> np.ndarray:
        """Return what the model makes of texts that stand after their prompt, (n, d)."""
        if self._pooled is None:
            encoded = self._model.encode(  # sorts by length itself
                texts, batch_size=self.options.batch_size, show_progress_bar=False, convert_to_numpy=True
            )
            vectors = np.asarray(encoded, dtype=np.float32)
            return scaled(vectors) if self.options.normalize else vectors
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        size = self.options.batch_size
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        pooled = np.concatenate([self._pool_layer([texts[i] for i in batch]) for batch in batches])
        return pooled[np.argsort(order)]

    @torch.inference_mode()
    def _pool_layer(self, texts: list[str]) -> np.ndarray:
        """Return the mean of one block's output over the tokens of each text, (n, d)."""
        states: list[Any] = []
        assert self._pooled is not None
        hook = self._pooled.register_forward_hook(
            lambda _module, _args, output: states.append(output[0] if isinstance(output, tuple) else output)
        )
        features = self._model.preprocess(texts)
        features = {k: v.to(self._model.device) for k, v in features.items() if isinstance(v, torch.Tensor)}
        try:
            self._model(features)  # the hook keeps the states on the way
        finally:
            hook.remove()
        weights = features["attention_mask"].unsqueeze(-1).float()
        mean = (states[0].float() * weights).sum(1) / weights.sum(1)
        if self.options.normalize:
            mean = torch.nn.functional.normalize(mean, dim=-1)
        return mean.cpu().numpy()


def _model_arguments(backend: str, dtype: str) -> dict[str, Any]:
    if backend == "openvino":  # by itself it would take bfloat16 where the CPU has instructions for it
        return {"ov_config": {"INFERENCE_PRECISION_HINT": _OPENVINO_NAMES[dtype]}}
    return {"dtype": getattr(torch, dtype), "use_safetensors": True} if backend == "torch" else {}


def _set_limit(model: SentenceTransformer, options: Embed) -> None:
    """Set the number of tokens that the model reads to that of the config, if it names one."""
    if options.max_tokens is None:
        return
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    most = getattr(config, "max_position_embeddings", None)
    if most is not None and options.max_tokens > most:
        raise ConfigError(f"embed.max_tokens {options.max_tokens}: {options.model} reads {most} at the most")
    model.max_seq_length = options.max_tokens


def _best_device(replicas: Replicas) -> str:
    # An actor that reserves no GPU may see those of others all the same (Ray 2.60).
    allowed = replicas.gpus > 0 or replicas.max == 0
    return "cuda" if allowed and torch.cuda.is_available() else "cpu"


def _find_block(model: SentenceTransformer, options: Embed) -> torch.nn.Module:
    """Return the module whose output is pooled: a whole layer, or its MLP block."""
    layers = _layers(model[0].auto_model)
    index = options.advanced.layer or 0
    if not -len(layers) <= index < len(layers):
        raise ConfigError(f"embed.advanced.layer {index}: {options.model} has {len(layers)} layers")
    layer = layers[index]
    if options.advanced.component == "hidden_states":
        return layer
    # Decoders and ModernBERT call it `mlp`, DistilBERT `ffn`. BERT's `output` adds the residual and
    # normalises after its `dense`, which is where the MLP itself ends.
    for name in ("mlp", "ffn", "output.dense"):
        if name in dict(layer.named_modules()):
            return layer.get_submodule(name)
    raise ConfigError(f"embed.advanced.component mlp: no MLP block is known in the layers of {options.model}")


def _layers(model: Any) -> torch.nn.ModuleList:
    """Return the longest list of like modules: the transformer's layers, under any name."""
    stacks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    if not stacks:
        raise ConfigError("embed.advanced.layer: this model has no stack of layers")
    return max(stacks, key=len)
