"""Where hypothesaes 2.0.1 computes the right thing, ours is the same for the same weights."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesaes.sae import SparseAutoencoder as ReferenceSae
from torch import Tensor

from hypsae_ray.config import AdvancedSae, TrainSae
from hypsae_ray.sae.collective import Collective
from hypsae_ray.sae.losses import Objective
from hypsae_ray.sae.model import SparseAutoencoder, activations, from_hypothesaes

DIM, M, K = 16, 40, 4


def rows(n: int = 200, seed: int = 0) -> Tensor:
    return torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed)) + 0.5


def pair(folder: Path, **options) -> tuple[ReferenceSae, SparseAutoencoder]:
    """A model that hypothesaes trained a little, and ours, read from the file that it saved."""
    reference = ReferenceSae(DIM, M, K, device="cpu", **options)
    with contextlib.redirect_stdout(io.StringIO()):
        reference.fit(rows(), batch_size=50, n_epochs=3, show_progress=False)
        data = Path(reference.save(str(folder / "sae.pt"))).read_bytes()
    return reference, from_hypothesaes(data)


def objective(x: Tensor, prefix_lengths: tuple[int, ...], **advanced) -> Objective:
    options = AdvancedSae(**{"aux_weight": 0, **advanced})
    config = TrainSae(n_neurons=M, k=K, prefix_lengths=prefix_lengths, advanced=options)
    return Objective(config, x.mean(0), (x - x.mean(0)).square().sum(1).mean(), Collective())


@pytest.mark.parametrize("options", [{}, {"prefix_lengths": [10, M]}, {"use_batch_topk": True}])
def test_activations_and_reconstruction(options: dict, tmp_path: Path) -> None:
    reference, ours = pair(tmp_path, **options)
    reference.eval()
    x = rows(100, seed=1)
    theirs = reference.get_activations(x.numpy(), show_progress=False)
    np.testing.assert_allclose(activations(ours, x.numpy()).toarray(), theirs, atol=1e-5)
    torch.testing.assert_close(ours(x), reference(x)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefixes", [None, [10, M], [5, 20, M]])
@pytest.mark.parametrize("use_batch_topk", [False, True])
def test_loss_and_gradients(prefixes: list[int] | None, use_batch_topk: bool, tmp_path: Path) -> None:
    options = {"prefix_lengths": prefixes, "use_batch_topk": use_batch_topk, "multi_k": 8}
    reference, ours = pair(tmp_path, **options)
    x = rows(64, seed=1)
    reference.train().zero_grad()
    recon, info = reference(x)
    theirs = reference.compute_loss(x, recon, info, aux_coef=0.0, multi_coef=0.125)
    theirs.backward()
    changes = {"multi_k": 8, "prefix_lengths": tuple(prefixes or ()), "batch_topk": use_batch_topk}
    loss = objective(x, **changes)(ours, x, torch.zeros(M, dtype=torch.int64))
    loss.total.backward()
    assert float(loss.total.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    for mine, other in (
        (ours.encoder.grad, reference.encoder.weight.grad),
        (ours.decoder.grad, reference.decoder.weight.grad.T),
        (ours.b_in.grad, reference.input_bias.grad),
        (ours.b_neuron.grad, reference.neuron_bias.grad),
    ):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-6)


def test_aux_term(tmp_path: Path) -> None:
    reference, ours = pair(tmp_path, prefix_lengths=[10, M], aux_k=5, dead_neuron_threshold_steps=20)
    x = rows(64, seed=1)
    for model in (reference, ours):
        with torch.no_grad():
            (model.neuron_bias if model is reference else model.b_neuron)[:8] -= 4
    silent = torch.where(torch.arange(M) < 8, 100, 0)
    reference.steps_since_activation.copy_(silent)
    reference.train()
    recon, info = reference(x)
    theirs = reference.compute_loss(x, recon, info, aux_coef=0.5, multi_coef=0.0)
    options = {"aux_k": 5, "aux_weight": 0.5, "dead_after": 20, "prefix_lengths": (10, M)}
    loss = objective(x, **options)(ours, x, silent)
    assert float(loss.total.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    assert torch.equal(loss.silent, reference.steps_since_activation)
    assert int((loss.silent > 20).sum()) > 0


def test_early_steps_minimise_the_term_of_more_neurons_and_report_that_of_k(tmp_path: Path) -> None:
    reference, ours = pair(tmp_path, prefix_lengths=[10, M])
    x = rows(64, seed=1)
    losses = []
    for k in (3 * K, K):
        reference.k_active_neurons = k
        reference.train().zero_grad()
        losses.append(reference.compute_loss(x, *reference(x), aux_coef=0.0, multi_coef=0.0))
    losses[0].backward()
    config = objective(x, (10, M))
    early = config(ours, x, torch.zeros(M, dtype=torch.int64), 3 * K)
    early.total.backward()
    assert [float(early.total.detach()), float(early.main)] == pytest.approx(
        [float(loss.detach()) for loss in losses], rel=1e-5
    )
    torch.testing.assert_close(ours.encoder.grad, reference.encoder.weight.grad, rtol=1e-3, atol=1e-6)
    assert torch.equal(early.silent, config(ours, x, torch.zeros(M, dtype=torch.int64)).silent)
