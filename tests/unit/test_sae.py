import io
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

from hypsae_ray.errors import InputError, ModelError
from hypsae_ray.sae import model as saes
from hypsae_ray.sae.model import SparseAutoencoder


def random_sae(dim: int = 5, n_neurons: int = 12, k: int = 3, seed: int = 0, **options) -> SparseAutoencoder:
    generator = torch.Generator().manual_seed(seed)
    sae = SparseAutoencoder(dim, n_neurons, k, **options)
    sae.initialize(0.1 * torch.randn(dim, generator=generator), generator)
    with torch.no_grad():
        for weight in sae.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return sae


def random_rows(n: int = 40, dim: int = 5, seed: int = 1) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def dense(sae: SparseAutoencoder, x: Tensor) -> Tensor:
    """Activations (n, M) straight from the definition, differentiable."""
    scores = (x - sae.b_in) @ sae.encoder.T + sae.b_neuron
    if sae.batch_topk:
        return torch.where(scores > sae.threshold, scores, 0).relu()
    kept = torch.zeros_like(scores).scatter(1, scores.topk(sae.k).indices, 1.0)
    return (scores * kept).relu()


def by_hand() -> SparseAutoencoder:
    sae = SparseAutoencoder(2, 3, 2, prefix_lengths=(1, 3))
    with torch.no_grad():
        sae.encoder.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
        sae.decoder.copy_(sae.encoder)
        sae.b_in.copy_(torch.tensor([1.0, 0.0]))
        sae.b_neuron.copy_(torch.tensor([0.0, -1.0, 0.0]))
    return sae


def test_by_hand() -> None:
    sae, x = by_hand(), torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    # x - b_in is (2, 4) and (-1, 0): scores (2, 3, -2) and (-1, -1, 1).
    fired = saes.activations(sae, x.numpy()).toarray()
    np.testing.assert_allclose(fired, [[2, 3, 0], [0, 0, 1]])
    np.testing.assert_allclose(sae(x).detach(), [[3, 3], [0, 0]])
    first, all_neurons = sae.errors(x, sae.encode(x))
    np.testing.assert_allclose(first.detach(), [[0, -4], [1, 0]])
    np.testing.assert_allclose(all_neurons.detach(), [[0, -1], [0, 0]])


@pytest.mark.parametrize("batch_topk", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_activations_are_the_sparse_form_of_the_definition(batch_topk: bool, batch_size: int) -> None:
    sae, x = random_sae(batch_topk=batch_topk), random_rows()
    sae.threshold.fill_(0.7)
    fired = saes.activations(sae, x.numpy(), batch_size)
    np.testing.assert_allclose(fired.toarray(), dense(sae, x).detach(), atol=1e-6)
    assert fired.dtype == np.float32
    assert fired.has_sorted_indices and (fired.data > 0).all()
    assert all((np.diff(fired[i].indices) > 0).all() for i in range(40))


@pytest.mark.parametrize("shape", [(40, 12), (40, 400), (1, 12), (0, 12)])
@pytest.mark.parametrize("k", [1, 3, 12])
def test_the_largest_scores(shape: tuple[int, int], k: int) -> None:
    scores = random_rows(*shape)
    columns = np.sort(np.argsort(-scores.numpy(), axis=1)[:, :k], axis=1)
    expected = (columns + np.arange(shape[0])[:, None] * shape[1]).ravel()
    np.testing.assert_array_equal(saes.largest(scores, k), expected)


def test_of_equal_scores_no_more_than_k_are_taken() -> None:
    scores = torch.tensor([[1.0, 2.0, 2.0, 2.0], [4.0, 3.0, 2.0, 1.0]])
    flat = saes.largest(scores, 2)
    assert set(flat[:2].tolist()) < {1, 2, 3} and flat[2:].tolist() == [4, 5]
    assert len(saes.largest(torch.zeros(5, 4), 3)) == 15


def test_activations_of_float16_and_of_nothing() -> None:
    sae, x = random_sae(), random_rows().half()
    expected = saes.activations(sae, x.float().numpy())
    assert (saes.activations(sae, x.numpy()) != expected).nnz == 0
    assert saes.activations(sae, np.zeros((0, 5), np.float32)).shape == (0, 12)


def test_activations_refuse_embeddings_of_another_width() -> None:
    with pytest.raises(InputError, match=r"\(3, 4\).*\(n, 5\)"):
        saes.activations(random_sae(), np.zeros((3, 4), np.float32))


@pytest.mark.parametrize("batch_topk", [False, True])
def test_gradients_are_those_of_dense_products(batch_topk: bool) -> None:
    sae, x = random_sae(prefix_lengths=(4, 7, 12), batch_topk=batch_topk), random_rows()
    sae.threshold.fill_(0.5)
    weights = list(sae.parameters())
    sparse = sum(error.square().sum() for error in sae.errors(x, sae.encode(x)))
    fired = dense(sae, x)
    errors = [fired[:, :p] @ sae.decoder[:p] + sae.b_in - x for p in (4, 7, 12)]
    expected = torch.autograd.grad(sum(error.square().sum() for error in errors), weights)
    for ours, theirs in zip(torch.autograd.grad(sparse, weights), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_no_rows_have_gradients_of_zero() -> None:
    sae, x = random_sae(prefix_lengths=(4, 12)), torch.zeros(0, 5)
    errors = sae.errors(x, sae.encode(x))
    assert [error.shape for error in errors] == [(0, 5), (0, 5)]
    sum(error.square().sum() for error in errors).backward()
    assert all(weight.grad is None or not weight.grad.any() for weight in sae.parameters())


def test_start() -> None:
    sae, again = SparseAutoencoder(6, 50, 2), SparseAutoencoder(6, 50, 2)
    for model in (sae, again):
        model.initialize(torch.arange(6.0), torch.Generator().manual_seed(3))
    torch.testing.assert_close(sae.decoder.norm(dim=1), torch.ones(50))
    assert torch.equal(sae.encoder, sae.decoder) and torch.equal(sae.decoder, again.decoder)
    assert torch.equal(sae.b_in, torch.arange(6.0)) and not sae.b_neuron.any()


def test_the_first_batch_sets_the_threshold_and_later_ones_move_it() -> None:
    sae = SparseAutoencoder(2, 3, 1, batch_topk=True)
    sae.learn_threshold(torch.tensor(2.0))
    assert float(sae.threshold) == 2.0
    sae.learn_threshold(torch.tensor(3.0))
    assert float(sae.threshold) == pytest.approx(2.1)
    sae.learn_threshold(torch.tensor(torch.inf))  # a batch in which nothing fired
    assert float(sae.threshold) == pytest.approx(2.1)


def test_bytes_and_back() -> None:
    sae = random_sae(prefix_lengths=(4, 12), batch_topk=True)
    sae.threshold.fill_(0.25)
    data, config = saes.to_bytes(sae)
    back = saes.from_bytes(data, config)
    assert (back.prefix_lengths, back.batch_topk, back.k) == ((4, 12), True, 3)
    assert all(torch.equal(tensor, back.state_dict()[name]) for name, tensor in sae.state_dict().items())


def test_bytes_that_are_no_sae() -> None:
    data, config = saes.to_bytes(random_sae())
    for bad, shape in ((b"", config), (b"nonsense", config), (data, {**config, "dim": 6}), (data, {})):
        with pytest.raises(ModelError, match="not the weights of an SAE"):
            saes.from_bytes(bad, shape)


class Bomb:
    def __reduce__(self) -> tuple:
        return (pytest.fail, ("the pickle was executed",))


def test_no_checkpoint_is_ever_unpickled() -> None:
    other = io.BytesIO()
    torch.save({"weights": torch.zeros(3)}, other)
    bomb = io.BytesIO()
    torch.save({"config": Bomb(), "state_dict": {}}, bomb)
    for bad in (b"", b"nonsense" * 100, pickle.dumps(Bomb()), other.getvalue(), bomb.getvalue()):
        with pytest.raises(ModelError, match="not an SAE checkpoint of hypothesaes"):
            saes.from_hypothesaes(bad)
