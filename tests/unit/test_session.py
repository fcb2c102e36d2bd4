"""What a session holds in this process, and when it lets go of it."""

import gc
import weakref

import pytest

from hypsae_ray.cluster.session import Session
from hypsae_ray.config import AdvancedEmbed, Embed, Llm, Replicas

HERE = Replicas(min=0, max=0)
EMBED, KEYWORDS = Embed(replicas=HERE), Llm(engine="keywords", replicas=HERE)


def embed(model, texts: list[str]):
    return weakref.ref(model), model.embed(texts).vectors.shape


@pytest.fixture
def session():
    with Session() as session:
        yield session


def test_the_embedder_is_freed_before_another_model_loads(session: Session):
    ((embedder, shape),) = session.embedder(EMBED).map(embed, [["rain", "bread"]])
    assert shape == (2, 384)
    ((again, _),) = session.embedder(EMBED.model_copy()).map(embed, [["rain"]])
    session.release()  # a stage that trains or counts frees actors; the model here stays loaded
    ((later, _),) = session.embedder(EMBED).map(embed, [["rain"]])
    assert embedder() is again() is later() is not None
    session.language_model(KEYWORDS)
    assert embedder() is None


def test_a_model_with_other_options_and_the_end_of_a_session_free_it_too(session: Session):
    ((first, _),) = session.embedder(EMBED).map(embed, [["rain"]])
    ((second, _),) = session.embedder(EMBED.model_copy(update={"advanced": AdvancedEmbed(layer=-2)})).map(
        embed, [["rain"]]
    )
    assert first() is None
    assert second() is not None
    session.close()
    gc.collect()
    assert second() is None
