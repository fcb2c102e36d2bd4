import pytest
import torch
from sklearn.metrics import r2_score
from torch import Tensor

from hypsae_ray.config import TrainSae
from hypsae_ray.sae.collective import Collective
from hypsae_ray.sae.losses import Objective, batch_floor, moments, normalizer, reconstruction_loss
from hypsae_ray.sae.model import SparseAutoencoder

DIM, M, K = 5, 12, 3


def setup(n: int = 64, **options) -> tuple[SparseAutoencoder, Tensor, Objective]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, DIM, generator=generator) + 3
    prefixes = options.pop("prefix_lengths", (4, M))
    config = TrainSae(n_neurons=M, k=K, prefix_lengths=prefixes, advanced={"aux_weight": 0, **options})
    sae = SparseAutoencoder(
        DIM, M, K, prefix_lengths=config.shape.prefix_lengths, batch_topk=config.advanced.batch_topk
    )
    sae.initialize(x.median(0).values, generator)
    center = x.mean(0)
    return sae, x, Objective(config, center, (x - center).square().sum(1).mean(), Collective())


def never_fired() -> Tensor:
    return torch.zeros(M, dtype=torch.int64)


def unexplained(x: Tensor, x_hat: Tensor) -> float:
    return 1 - r2_score(x.numpy(), x_hat.detach().numpy(), multioutput="variance_weighted")


def reconstruct(sae: SparseAutoencoder, x: Tensor, k: int, neurons: slice = slice(None)) -> Tensor:
    scores = (x - sae.b_in) @ sae.encoder.T + sae.b_neuron
    fired = torch.zeros_like(scores).scatter(1, scores.topk(k).indices, 1.0) * scores.relu()
    return fired[:, neurons] @ sae.decoder[neurons] + sae.b_in


def test_main_term_is_the_share_of_variance_that_prefixes_miss() -> None:
    sae, x, objective = setup()
    prefixes = [reconstruct(sae, x, K, slice(0, p)) for p in (4, M)]
    expected = sum(unexplained(x, x_hat) for x_hat in prefixes) / 2
    loss = objective(sae, x, never_fired())
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-5)
    assert float(loss.main) == pytest.approx(expected, rel=1e-5)
    assert float(reconstruction_loss(sae, x, objective)) == pytest.approx(expected, rel=1e-5)


def test_multi_k_adds_a_denser_reconstruction() -> None:
    sae, x, objective = setup(multi_k=6, multi_weight=0.125)
    loss = objective(sae, x, never_fired())
    added = 0.125 * unexplained(x, reconstruct(sae, x, 6))
    assert float(loss.total.detach()) - float(loss.main) == pytest.approx(added, rel=1e-4)


@pytest.mark.parametrize("n_dead", [1, 2, 5])
def test_aux_k_lets_dead_neurons_explain_the_residual(n_dead: int) -> None:
    sae, x, objective = setup(aux_k=2, aux_weight=0.5, dead_after=10)
    with torch.no_grad():
        sae.encoder[:n_dead] *= 0.01  # scores so small that others always lead
        sae.b_neuron[:n_dead] = 0.001
        sae.b_neuron[n_dead:] = 5
    loss = objective(sae, x, torch.where(torch.arange(M) < n_dead, 100, 0))
    assert loss.silent[:n_dead].tolist() == [101] * n_dead
    scores = ((x - sae.b_in) @ sae.encoder.T + sae.b_neuron)[:, :n_dead]
    top = scores.topk(min(2, n_dead))
    weights = torch.zeros_like(scores).scatter(1, top.indices, top.values.relu())
    added = 0.5 * unexplained((x - sae(x)).detach(), weights @ sae.decoder[:n_dead])
    assert float(loss.total.detach()) - float(loss.main) == pytest.approx(added, rel=1e-4)
    loss.total.backward()
    assert sae.encoder.grad is not None and sae.encoder.grad[:n_dead].any()


@pytest.mark.parametrize("n", [1, 2, 64])
@pytest.mark.parametrize("batch_topk", [False, True])
@pytest.mark.parametrize("constant", [False, True])
def test_finite_for_any_batch(n: int, batch_topk: bool, constant: bool) -> None:
    options = {"aux_weight": 1, "dead_after": 1, "multi_k": 5, "batch_topk": batch_topk}
    sae, x, objective = setup(64, **options)
    batch = x[:1].repeat(n, 1) if constant else x[:n]
    loss = objective(sae, batch, torch.full((M,), 9))
    loss.total.backward()
    assert 0 <= float(loss.total.detach()) < 50
    assert all(w.grad is not None and w.grad.isfinite().all() for w in sae.parameters())


def test_normalizer_by_hand() -> None:
    x = torch.tensor([[0.0, 0.0], [2.0, 4.0]])
    assert float(normalizer(moments(x), torch.tensor(1.0))) == pytest.approx(10)  # 2 x (1 + 4) about (1, 2)
    assert float(normalizer(moments(x[1:]), torch.tensor(7.0))) == pytest.approx(7)
    assert float(normalizer(moments(x[[1, 1, 1]]), torch.tensor(7.0))) == pytest.approx(21)
    assert float(normalizer(moments(x[[1, 1, 1]]), torch.tensor(0.0))) == pytest.approx(3)


def test_moments_add_up() -> None:
    x = torch.randn(30, DIM, generator=torch.Generator().manual_seed(2))
    parts = moments(x[:11]) + moments(x[11:]) + moments(x[:0])
    torch.testing.assert_close(parts, moments(x), rtol=1e-5, atol=1e-5)


def test_batch_floor_is_the_last_of_the_kept_scores() -> None:
    scores = torch.tensor([[5.0, 1.0, -1.0], [4.0, 3.0, 2.0]])
    assert float(batch_floor(scores, 2, Collective())) == 2.0  # 5 4 3 2 are kept
    assert float(batch_floor(-scores, 2, Collective())) == 1.0  # of -(-1) and three below 0
    assert float(batch_floor(-scores.abs(), 2, Collective())) == torch.inf


def test_batch_topk_keeps_k_per_row_on_average() -> None:
    sae, x, objective = setup(batch_topk=True)
    scores = sae.scores(x)
    firing, floor = objective._fire(sae, x, scores, K)
    assert int((firing.values > 0).sum()) == min(K * len(x), int((scores > 0).sum()))
    assert floor is not None and float(firing.values.detach().min()) == float(floor)


@pytest.mark.parametrize("batch_size", [1, 9, 1000])
def test_the_validation_loss_does_not_depend_on_batches(batch_size: int) -> None:
    sae, x, objective = setup()
    whole = float(reconstruction_loss(sae, x, objective))
    assert float(reconstruction_loss(sae, x, objective, batch_size)) == pytest.approx(whole, rel=1e-5)
