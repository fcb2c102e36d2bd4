"""The steps as a notebook uses them: arrays in, arrays out."""

import numpy as np
import pandas as pd
import pytest

import hypsae_ray as hr
from hypsae_ray.config import Embed, Llm, Replicas, Select, TrainSae
from hypsae_ray.demo import grammar
from hypsae_ray.errors import InputError

HERE = Replicas(min=0, max=0)
KEYWORDS = Llm(engine="keywords", replicas=HERE)


@pytest.fixture(scope="module")
def demo() -> grammar.Demo:
    return grammar.generate(n_train=300, n_holdout=150, seed=2)


def test_from_texts_to_tested_hypotheses(demo: grammar.Demo):
    texts, stars = demo.train["text"].tolist(), demo.train["stars"].to_numpy(float)
    with hr.Session() as session:
        vectors = hr.embed(texts, Embed(replicas=HERE), engines=session)
        sae = hr.train_sae(vectors, options=TrainSae(n_neurons=32, k=4, max_epochs=20, batch_size=64))
        fired = hr.activations(sae, vectors)
        found = hr.generate_hypotheses(texts, stars, fired, KEYWORDS, Select(n=6), engines=session)
        p_yes = hr.annotate(demo.holdout["text"].tolist(), found, KEYWORDS, engines=session)
    result = hr.evaluate_hypotheses(
        p_yes, demo.holdout["stars"], task="regression", hypotheses=found, alpha=0.05
    )
    assert vectors.shape == (300, 384)
    assert fired.shape == (300, 32)
    assert (np.diff(fired.indptr) <= 4).all()
    assert len(found) == len(result.table) == p_yes.shape[1] == 6
    assert result.table["hypothesis"].tolist() == found["interpretation"].tolist()
    column = int(found.index[found["interpretation"].notna()][0])
    yes = p_yes[column] >= 0.5
    stars_out = demo.holdout["stars"]
    assert result.table["separation_score"][column] == pytest.approx(
        stars_out[yes].mean() - stars_out[~yes].mean()
    )
    by_hand = np.corrcoef(fired[:, [int(found["neuron_idx"][0])]].toarray().ravel(), stars)[0, 1]
    assert found["target_correlation"][0] == pytest.approx(by_hand)


def test_interpretation_of_named_neurons():
    texts = [f"the soup number {i} was hot" for i in range(40)] + [
        f"a dog ran past {i} trees" for i in range(40)
    ]
    import scipy.sparse as sp

    fired = sp.csr_matrix(np.array([[1.0, 0.0]] * 40 + [[0.0, 2.0]] * 40, dtype=np.float32))
    table = hr.interpret_neurons(texts, fired, [1, 0], KEYWORDS)
    assert table["neuron_idx"].tolist() == [1, 0]
    assert '"dog"' in table["interpretation"][0] or "ran" in table["interpretation"][0]
    assert table["f1_fidelity_score"].tolist() == [1.0, 1.0]


def test_annotations_of_sentences_and_of_tables():
    texts = ["a rude waiter", "a kind cook", ""]
    direct = hr.annotate(texts, ['mentions "rude"', None], KEYWORDS)
    assert direct[0].tolist() == [1.0, 0.0, 0.0]
    assert direct[1].isna().all()
    table = pd.DataFrame({"interpretation": ['mentions "rude"', None]})
    pd.testing.assert_frame_equal(hr.annotate(texts, table, KEYWORDS), direct)
    with pytest.raises(InputError, match="no column 'interpretation' or 'hypothesis'"):
        hr.annotate(texts, pd.DataFrame({"x": [1]}), KEYWORDS)


def test_an_sae_goes_to_disk_and_back(demo_run):
    (folder,) = (demo_run / "stages").glob("train_sae-*")
    sae = hr.load_sae(str(folder))
    (embeddings,) = (demo_run / "stages").glob("embed-*")
    from hypsae_ray.artifacts import Folder
    from hypsae_ray.stages.embed import to_vectors
    from hypsae_ray.stages.workspace import read_activations

    table = Folder.at(embeddings).read_tables("train-")
    row_ids, stored = read_activations(Folder.at(folder), "train", sae.n_neurons)
    fresh = hr.activations(sae, to_vectors(table))[np.argsort(table["row_id"].to_numpy())]
    assert sorted(table["row_id"].to_pylist()) == row_ids.tolist()
    np.testing.assert_allclose(stored.toarray(), fresh.toarray(), atol=1e-6)
