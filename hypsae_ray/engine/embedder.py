"""sentence-transformers as an `Embedder`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from hypsae_ray.boundary import Embedded
from hypsae_ray.config import Embed, Replicas
from hypsae_ray.engine.carried_code import code_arguments, load_error
from hypsae_ray.engine.identity import versions_of
from hypsae_ray.engine.locate import locate
from hypsae_ray.engine.precision import dtype_of_embedder
from hypsae_ray.engine.shortening import scaled, shortened
from hypsae_ray.engine.token_limit import TokenLimit
from hypsae_ray.errors import ConfigError


class SentenceEmbedder:
    """One sentence-transformers model inside this process.

    With `layer`, the states of an inner layer are averaged over the tokens of a text (padding left out)
    instead of the model's own pooling of its last one.

    Raises:
        ModelError: the model is not found, does not load, has no safetensors, or needs code of its own that
            is not trusted.
        ConfigError: the model has no such layer, the layer no MLP block, the code is not what is trusted, or
            the model cannot read as many tokens, or not in chunks.
    """

    def __init__(self, options: Embed) -> None:
        self._options = options
        device = options.device if options.device != "auto" else _best_device(options.replicas)
        dtype, self.remark = dtype_of_embedder(options, device)
        libraries = versions_of("sentence-transformers", "transformers", "torch")
        self.versions = {**libraries, "precision": dtype}
        try:
            self._model = SentenceTransformer(
                locate(options.model),
                device=device,
                model_kwargs={"dtype": getattr(torch, dtype), "use_safetensors": True},
                **code_arguments(options),
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise load_error("sentence-transformers cannot load", options, error) from error
        self._limit = _set_limit(self._model, options)
        self._pooled = None if options.layer is None else _find_block(self._model, options)

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Return the embeddings; each text goes through the model once, in batches of like length."""
        distinct = list(dict.fromkeys(texts))
        long = self._limit.exceeded(distinct)
        if self._options.long_texts == "mean_of_chunks":
            vectors, long = self._averaged(distinct, long), np.zeros_like(long)
        else:
            vectors = self._forward(distinct)
        place = {text: i for i, text in enumerate(distinct)}
        rows = [place[text] for text in texts]
        return Embedded(vectors[rows], np.where(long[rows], self._limit.at, 0).astype(np.int32))

    def _averaged(self, texts: list[str], long: np.ndarray) -> np.ndarray:
        """Embed long texts piece by piece; a text is the mean of its pieces, weighted by tokens."""
        pieces = [
            self._limit.pieces(text) if is_long else [(text, 1)]
            for text, is_long in zip(texts, long, strict=True)
        ]
        vectors = self._forward([piece for its in pieces for piece, _ in its])
        weights = np.array([n for its in pieces for _, n in its], dtype=np.float32)[:, None]
        starts = np.cumsum([0, *map(len, pieces[:-1])])
        means = np.add.reduceat(vectors * weights, starts) / np.add.reduceat(weights, starts)
        return scaled(means) if self._options.normalize else means

    def _forward(self, texts: list[str]) -> np.ndarray:
        return shortened(self._computed(texts), self._options)

    def _computed(self, texts: list[str]) -> np.ndarray:
        texts = [self._options.prompt + text for text in texts]
        if self._pooled is None:
            encoded = self._model.encode(  # sorts by length itself
                texts, batch_size=self._options.batch_size, show_progress_bar=False, convert_to_numpy=True
            )
            vectors = np.asarray(encoded, dtype=np.float32)
            return scaled(vectors) if self._options.normalize else vectors
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        size = self._options.batch_size
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
            self._model(features)  # the hook takes what is wanted on the way
        finally:
            hook.remove()
        weights = features["attention_mask"].unsqueeze(-1).float()
        mean = (states[0].float() * weights).sum(1) / weights.sum(1)
        if self._options.normalize:
            mean = torch.nn.functional.normalize(mean, dim=-1)
        return mean.cpu().numpy()


def _set_limit(model: SentenceTransformer, options: Embed) -> TokenLimit:
    """Have the model read as many tokens as the config says."""
    if options.max_tokens is not None:
        most = getattr(getattr(model[0], "auto_model", None), "config", None)
        most = getattr(most, "max_position_embeddings", None)
        if most is not None and options.max_tokens > most:
            raise ConfigError(
                f"embed.max_tokens {options.max_tokens}: {options.model} reads {most} at the most"
            )
        model.max_seq_length = options.max_tokens
    if options.long_texts == "mean_of_chunks" and not getattr(model.tokenizer, "is_fast", False):
        raise ConfigError(
            f"embed.long_texts mean_of_chunks: the tokenizer of {options.model} does not say where tokens are"
        )
    return TokenLimit(model.tokenizer, model.max_seq_length, options.prompt)


def _best_device(replicas: Replicas) -> str:
    # An actor that reserves no GPU may see those of others all the same (Ray 2.60).
    allowed = replicas.gpus > 0 or replicas.max == 0
    return "cuda" if allowed and torch.cuda.is_available() else "cpu"


def _find_block(model: SentenceTransformer, options: Embed) -> torch.nn.Module:
    """Return the module whose output is pooled: a whole layer, or its MLP block."""
    layers = _layers(model[0].auto_model)
    index = options.layer or 0
    if not -len(layers) <= index < len(layers):
        raise ConfigError(f"embed.layer {index}: {options.model} has {len(layers)} layers")
    layer = layers[index]
    if options.component == "hidden_states":
        return layer
    # Decoders and ModernBERT call it `mlp`, DistilBERT `ffn`. BERT's `output` adds the residual and
    # normalises after its `dense`, which is where the MLP itself ends.
    for name in ("mlp", "ffn", "output.dense"):
        if name in dict(layer.named_modules()):
            return layer.get_submodule(name)
    raise ConfigError(f"embed.component mlp: no MLP block is known in the layers of {options.model}")


def _layers(model: Any) -> torch.nn.ModuleList:
    """Return the longest list of like modules: the transformer's layers, whatever the model calls them."""
    stacks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    if not stacks:
        raise ConfigError("embed.layer: this model has no stack of layers")
    return max(stacks, key=len)
