"""What training minimises, as sums over rows, so that any split of a batch over workers gives one value.

Of a global batch of n rows x, with prefix reconstructions x_hat_p and P prefixes:

1. Main.  (1/P) sum_p  sum |x - x_hat_p|^2 / sum |x - mean(x)|^2: the share of the batch's variance that a
   prefix misses, averaged over prefixes (Matryoshka: Bussmann et al. 2025, arXiv 2503.17547).
2. Multi-k.  + multi_weight x the same share for a second reconstruction with multi_k > k neurons per row
   (O'Neill et al. 2024, arXiv 2408.00657).
3. Aux-k.  + aux_weight x  sum |e - e_hat|^2 / sum |e - mean(e)|^2, where e = x - x_hat_M is held fixed and
   e_hat is made by the aux_k dead neurons with the largest scores: they learn what the others miss (Gao et
   al. 2024, arXiv 2406.04093). The term is left out while no neuron is dead.

Early in training (`training.trained_k`) the minimised term 1 is of a reconstruction with more than k neurons
per row. What is reported, counted as firing and compared between epochs is always that with k.

The denominators do not depend on the weights being trained, so each worker can divide its own sums by the
global denominator: the shares add up to the loss, and their gradients to its gradient.

A batch of one row, or of equal rows, has no variance of its own. `normalizer` then falls back on the variance
of all training rows, so the loss is finite for every batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hypsae_ray.config import TrainSae
from hypsae_ray.sae.collective import Collective
from hypsae_ray.sae.model import Firing, SparseAutoencoder, above, largest

# A batch whose variance is under this share of the usual one is taken to have none: what is left of it may be
# rounding (about 1e-7 of the squares), and dividing by it would let one odd batch outweigh all others.
_NO_SPREAD = 0.01


@dataclass(frozen=True)
class Loss:
    """The loss of one global batch.

    Attributes:
        total: () this worker's share of terms 1 to 3, with gradients.
        main: () this worker's share of term 1, with the SAE's own k.
        silent: (M,) int64, steps since each neuron last fired, this batch included.
        smallest: () smallest activation kept in the whole batch; only with batch top-k.
    """

    total: Tensor
    main: Tensor
    silent: Tensor
    smallest: Tensor | None


@dataclass(frozen=True)
class Objective:
    """The loss for one set of training rows.

    Attributes:
        options: weights and sizes of the terms.
        center: (d,) mean of all training rows; sums of squares are taken about it, to keep their digits.
        variance: () mean squared distance of training rows from `center`.
        collective: the workers that share each batch.
    """

    options: TrainSae
    center: Tensor
    variance: Tensor
    collective: Collective

    def __call__(self, sae: SparseAutoencoder, x: Tensor, silent: Tensor, k: int | None = None) -> Loss:
        """Return the loss of a batch, of which `x` (n, d) are this worker's rows, none if another has some.

        `silent` (M,) int64 are the steps since each neuron last fired, before this batch. `k` are the neurons
        per row in the term 1 that is minimised; None: the SAE's own.
        """
        scores = sae.scores(x)
        firing, smallest = self._fire(sae, x, scores, sae.k)
        errors = sae.errors(x, firing)
        missed = errors[-1].detach()
        spread, left, fired = moments(x - self.center), moments(missed), firing.counts()
        self.collective.sum(spread, left, fired)
        unit = normalizer(spread, self.variance)
        silent = torch.where(fired > 0, 0, silent + 1)
        main = squares(errors).mean() / unit
        total = main
        if k is not None and k != sae.k:
            total = squares(sae.errors(x, self._fire(sae, x, scores, k)[0])).mean() / unit
        total = total + self._multi(sae, x, scores) / unit
        total = total + self._aux(sae, x, scores, missed, silent) / normalizer(left, left[1] / left[0])
        return Loss(total, main.detach(), silent, smallest)

    def _fire(
        self, sae: SparseAutoencoder, x: Tensor, scores: Tensor, k: int
    ) -> tuple[Firing, Tensor | None]:
        if not sae.batch_topk:
            return sae.fire(x, scores, largest(scores, k)), None
        smallest = batch_floor(scores, k, self.collective)
        return sae.fire(x, scores, above(scores, smallest, strict=False)), smallest

    def _multi(self, sae: SparseAutoencoder, x: Tensor, scores: Tensor) -> Tensor:
        k, weight = self.options.advanced.multi_k, self.options.advanced.multi_weight
        if k is None or weight == 0:
            return x.new_zeros(())
        (added,) = sae.combine(sae.fire(x, scores, largest(scores, k)), (sae.n_neurons,))
        return weight * squares([added + (sae.b_in - x)]).sum()

    def _aux(
        self, sae: SparseAutoencoder, x: Tensor, scores: Tensor, missed: Tensor, silent: Tensor
    ) -> Tensor:
        dead = silent > self.options.advanced.dead_after
        if self.options.n_aux == 0 or self.options.advanced.aux_weight == 0 or not bool(dead.any()):
            return x.new_zeros(())
        # Where fewer than n_aux neurons are dead, living ones are taken too, and then set to 0.
        flat = largest(scores.masked_fill(~dead, -torch.inf), self.options.n_aux)
        firing = sae.fire(x, scores, flat)
        firing = replace(firing, values=firing.values * dead[firing.neurons])
        (added,) = sae.combine(firing, (sae.n_neurons,))
        return self.options.advanced.aux_weight * squares([added + missed]).sum()


def moments(x: Tensor) -> Tensor:
    """Return (2 + d,) float64: rows, sum of squares, sum per dimension of (n, d); additive over workers."""
    count = x.new_full((1,), x.shape[0], dtype=torch.float64)
    return torch.cat([count, squares([x]).double(), x.sum(0).double()])


def normalizer(total: Tensor, variance: Tensor) -> Tensor:
    """Return the number () that a sum of squared errors over a batch is divided by.

    It is the sum of squared distances from the batch's own mean; where that is (nearly) 0, rows x `variance`;
    where that is 0 too (all training rows are equal), the number of rows.

    Args:
        total: (2 + d,) `moments` summed over all workers, at least one row.
        variance: () mean squared distance that rows usually have.
    """
    count, usual = total[0], total[0] * variance
    spread = total[1] - total[2:].square().sum() / count
    fallback = torch.where(usual > 0, usual, count)
    return torch.where(spread > _NO_SPREAD * fallback, spread, fallback).float()


def squares(errors: Sequence[Tensor]) -> Tensor:
    """Return (P,): the sum of squares of each of P tensors (n, d)."""
    return torch.stack([torch.dot(error.reshape(-1), error.reshape(-1)) for error in errors])


@torch.no_grad()
def batch_floor(scores: Tensor, k: int, collective: Collective) -> Tensor:
    """Return the smallest score () above 0 among the k x n largest of a batch; infinity if none is above 0.

    `scores` are those of this worker's rows (., M); n counts the rows of all workers.
    """
    rows = scores.new_full((1,), scores.shape[0], dtype=torch.float64)
    collective.sum(rows)
    total = k * int(rows)
    mine = scores.reshape(-1).topk(min(total, scores.numel())).values
    kept = collective.gather(mine).topk(total).values
    return torch.where(kept > 0, kept, torch.inf).min()


@torch.no_grad()
def reconstruction_loss(
    sae: SparseAutoencoder, rows: Tensor, objective: Objective, batch_size: int = 4_096
) -> Tensor:
    """Return term 1 () of one set of rows taken as one batch, by the rule used after training.

    It is made of sums over all rows of all workers, so neither batch_size nor the number of workers
    changes it. `rows` (n, d) are this worker's.
    """
    missed = rows.new_zeros(len(sae.prefix_lengths), dtype=torch.float64)
    spread = rows.new_zeros(2 + sae.dim, dtype=torch.float64)
    for x in rows.split(batch_size):
        missed += squares(sae.errors(x, sae.encode(x)))
        spread += moments(x - objective.center)
    objective.collective.sum(missed, spread)
    return missed.mean() / normalizer(spread, objective.variance)
