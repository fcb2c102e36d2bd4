"""The training loop, the same on one worker and on many.

1. Every epoch has one permutation of all N rows, drawn from (seed, epoch). Step b takes the batch_size rows
   perm[b B : (b + 1) B], wherever they are; the last, shorter batch is used too.
2. Worker r of W holds rows r, r + W, r + 2W, ... in memory. It computes its share of the batch's loss and
   gradient; shares are summed over workers (`sae.losses`), so W workers take the step that one would.
3. The first M steps train more than k neurons per row, a number that falls to k (`trained_k`).
4. Adam, on the gradient without the part along each decoder row, clipped; then decoder rows go back to
   length 1 (Bricken et al. 2023, "Towards Monosemanticity").
5. After each epoch the loss on validation rows decides: `patience` epochs without a lower one end training,
   and the weights of the best epoch are restored. Without validation rows, the training loss decides.

The order of rows depends on (seed, epoch) alone, and the number of a step follows from the epochs in a
snapshot, so training that resumes from one takes the steps of one that never stopped, whatever the number of
workers then.
"""

import math
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from hypsae_ray.config import TrainSae
from hypsae_ray.errors import InputError, StageError
from hypsae_ray.sae.collective import Collective
from hypsae_ray.sae.losses import Objective, reconstruction_loss
from hypsae_ray.sae.model import SparseAutoencoder

# Rows that the median in b_in is taken of. The median of 16,384 rows is within about 1 % of a standard
# deviation of the median of all, and training moves b_in anyway.
_MEDIAN_ROWS = 16_384
# Rows per block in sums over all rows: keeps temporary copies small.
_BLOCK_ROWS = 65_536


@dataclass(frozen=True)
class WorkerRows:
    """One worker's rows of a set of embeddings.

    Attributes:
        rows: (n, d), any float type; row i is row i x world + rank of the whole set.
        total: rows in the whole set (N).
    """

    rows: np.ndarray
    total: int

    @classmethod
    def of(cls, rows: np.ndarray, rank: int = 0, world: int = 1) -> "WorkerRows":
        """Return the rows of worker `rank` of the whole set of rows (N, d)."""
        return cls(rows[rank::world], len(rows))


@dataclass(frozen=True)
class Epoch:
    """The result of one pass over the training rows.

    Attributes:
        epoch: number, from 0.
        train_loss: main loss while training, the mean over batches by rows; without the other terms.
        val_loss: main loss on all validation rows after the epoch; None without validation rows.
        dead: neurons that have not fired on any training row for more than `dead_after` steps.
        seconds: wall-clock seconds, validation included.
    """

    epoch: int
    train_loss: float
    val_loss: float | None
    dead: int
    seconds: float

    @property
    def loss(self) -> float:
        """The loss that decides when to stop: on validation rows if there are any."""
        return self.train_loss if self.val_loss is None else self.val_loss


@dataclass(frozen=True)
class Trained:
    """A trained SAE with the weights of its best epoch, and the record of all epochs."""

    sae: SparseAutoencoder
    history: tuple[Epoch, ...]

    @property
    def best(self) -> Epoch:
        """The epoch whose weights the SAE has."""
        return min(self.history, key=lambda epoch: epoch.loss)


LoadRows = Callable[[int, int], tuple[WorkerRows, WorkerRows]]
"""Called in worker `rank` of `world`, returns its training and validation rows; picklable."""


@dataclass(frozen=True)
class Progress:
    """What a caller of `train` sees after each epoch.

    Attributes:
        epoch: the record of the epoch that ended.
        improved: it is the best one so far.
        sae: the model itself, which training goes on changing.
        snapshot: bytes that `train` can resume from; to be taken when `improved`, before the next epoch.
    """

    epoch: Epoch
    improved: bool
    sae: SparseAutoencoder
    snapshot: Callable[[], bytes]


OnEpoch = Callable[[Epoch], None]


def train(
    own: WorkerRows,
    val: WorkerRows | None,
    options: TrainSae,
    collective: Collective | None = None,
    on_epoch: Callable[[Progress], None] | None = None,
    resume: bytes | None = None,
) -> Trained:
    """Train an SAE on embeddings.

    Neither reads nor changes any global random state. Every worker calls this and gets the same result.

    Args:
        own: this worker's training rows.
        val: this worker's validation rows; None (or a total of 0): early stopping on the training loss.
        options: sizes, loss weights, seed; `workers` and the other runtime fields are not used.
        collective: the workers and this one's device; None: this process alone, on the CPU.
        on_epoch: called after each epoch, on every worker.
        resume: a snapshot of an earlier run on the same rows with the same options.

    Raises:
        InputError: there are no rows, or some hold NaN or infinite values.
        StageError: the loss became NaN or infinite, or the snapshot is none.
    """
    run = _Run(own, val, options, collective or Collective())
    if resume is not None:
        run.restore(resume)
    while not run.finished:
        progress = run.next_epoch()
        if on_epoch is not None:
            on_epoch(progress)
    run.sae.load_state_dict(run.best_weights)
    return Trained(run.sae, tuple(run.history))


class _Run:
    """The state of a training."""

    def __init__(
        self, own: WorkerRows, val: WorkerRows | None, options: TrainSae, collective: Collective
    ) -> None:
        self.options, self.collective, self.total = options, collective, own.total
        self.rows = _on_device(own, collective)
        self.val = _on_device(val, collective) if val is not None and val.total > 0 else None
        self.objective = _objective(self.rows, own.total, options, collective)
        self.sae = _start(self.rows, own.total, options, collective)
        self.optimizer = torch.optim.Adam(self.sae.parameters(), lr=options.step_size, fused=True)
        self.silent = torch.zeros(options.shape.n_neurons, dtype=torch.int64, device=collective.device)
        self.history: list[Epoch] = []
        self.best_weights: dict[str, Tensor] = {}

    @property
    def finished(self) -> bool:
        """Whether the epochs are used up, or the last `patience` ones had no lower loss."""
        if not self.history:
            return False
        since_best = len(self.history) - 1 - min(self.history, key=lambda epoch: epoch.loss).epoch
        return len(self.history) >= self.options.max_epochs or since_best >= self.options.patience

    def next_epoch(self) -> Progress:
        started = time.perf_counter()
        number = len(self.history)
        best = min((epoch.loss for epoch in self.history), default=math.inf)
        train_loss = self._pass(number)
        val = None if self.val is None else float(reconstruction_loss(self.sae, self.val, self.objective))
        dead = int((self.silent > self.options.advanced.dead_after).sum())
        epoch = Epoch(number, train_loss, val, dead, time.perf_counter() - started)
        if not math.isfinite(epoch.train_loss) or not math.isfinite(epoch.loss):
            raise StageError(
                f"the SAE's loss is not finite in epoch {number} (training {train_loss}, validation {val}): "
                "lower train_sae.learning_rate"
            )
        self.history.append(epoch)
        improved = epoch.loss < best
        if improved:
            self._keep_weights()
        return Progress(epoch, improved, self.sae, self.snapshot)

    def snapshot(self) -> bytes:
        """Return all that changes as safetensors, which hold no code, unlike what torch.save writes."""
        tensors = {f"sae.{name}": tensor for name, tensor in self.sae.state_dict().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{name}": tensor for name, tensor in state.items()}
        tensors |= {"silent": self.silent, "history": _from_epochs(self.history)}
        return safetensors.torch.save({name: t.cpu().contiguous() for name, t in tensors.items()})

    def restore(self, snapshot: bytes) -> None:
        try:
            tensors = safetensors.torch.load(snapshot)
            self.sae.load_state_dict(_under("sae.", tensors))
            fresh = self.optimizer.state_dict()  # its groups of parameters follow from the options
            state = {i: _under(f"adam.{i}.", tensors) for i, _ in enumerate(self.sae.parameters())}
            self.optimizer.load_state_dict({**fresh, "state": state})
            self.silent = tensors["silent"].to(self.collective.device)
            self.history = _to_epochs(tensors["history"])
        except Exception as error:  # bytes of any origin: each layer of the reader has errors of its own
            raise StageError(f"this is no snapshot of this training: {error}") from error
        self._keep_weights()

    def _pass(self, number: int) -> float:
        """Take every batch of an epoch once; return the mean main loss."""
        loss = torch.zeros((), dtype=torch.float64, device=self.collective.device)
        batches = permutation(self.total, self.options.seed, number).split(self.options.batch_size)
        for step, batch in enumerate(batches, number * len(batches)):
            x = self.rows[_own(batch, self.collective)]
            loss += self._step(x, trained_k(step, self.options)) * len(batch)
        return float(loss) / self.total

    def _step(self, x: Tensor, k: int) -> Tensor:
        """Move the weights by one batch, with k neurons per row; return its main loss ()."""
        loss = self.objective(self.sae, x, self.silent, k)
        self.silent = loss.silent
        self.optimizer.zero_grad()
        loss.total.backward()
        gradients = [weight.grad for weight in self.sae.parameters() if weight.grad is not None]
        self.collective.sum(*gradients, loss.main)
        self.sae.project_gradient()
        torch.nn.utils.clip_grad_norm_(self.sae.parameters(), self.options.advanced.clip_norm)
        self.optimizer.step()
        self.sae.renormalize()
        if loss.smallest is not None:
            self.sae.learn_threshold(loss.smallest)
        return loss.main

    def _keep_weights(self) -> None:
        self.best_weights = {name: tensor.clone() for name, tensor in self.sae.state_dict().items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _from_epochs(history: list[Epoch]) -> Tensor:
    """Return a history as (epochs, 5) float64, which holds each of its numbers exactly; None is NaN."""
    rows = [[math.nan if value is None else value for value in astuple(epoch)] for epoch in history]
    return torch.tensor(rows, dtype=torch.float64)


def _to_epochs(history: Tensor) -> list[Epoch]:
    return [
        Epoch(int(number), train_loss, None if math.isnan(val_loss) else val_loss, int(dead), seconds)
        for number, train_loss, val_loss, dead, seconds in history.tolist()
    ]


def trained_k(step: int, options: TrainSae) -> int:
    """Return how many neurons per row are trained in step 0, 1, ...: first_k x k at first, k from step M on.

    With k from the start, the neurons that fire early take rows that others would be better for, and few of
    the others have a gradient. More per row sort out first who stands for what.

    >>> options = TrainSae(n_neurons=64, k=4)
    >>> [trained_k(step, options) for step in (0, 16, 32, 48, 64, 500)]
    [12, 10, 8, 6, 4, 4]
    """
    n_neurons, k, _ = options.shape
    left = max(0.0, 1 - step / n_neurons)
    return min(k + round((options.advanced.first_k - 1) * k * left), n_neurons)


def permutation(total: int, seed: int, draw: int) -> Tensor:
    """Return one of the seed's permutations of `total` rows, (total,) int64; the same on every machine."""
    return torch.randperm(total, generator=_generator(seed, draw))


def _generator(seed: int, draw: int) -> torch.Generator:
    # Mixed by SeedSequence: generators seeded with neighbouring numbers need not be independent.
    words = np.random.SeedSequence([abs(seed), int(seed < 0), draw]).generate_state(1, np.uint32)
    return torch.Generator().manual_seed(int(words[0]))


def _own(rows: Tensor, collective: Collective) -> Tensor:
    """Return where this worker keeps those of the given rows that are its own."""
    mine = rows if collective.world == 1 else rows[rows % collective.world == collective.rank]
    return (mine // collective.world).to(collective.device)


def _on_device(own: WorkerRows, collective: Collective) -> Tensor:
    if own.total == 0:
        raise InputError("there are no rows to train an SAE on")
    return torch.as_tensor(own.rows).to(collective.device, torch.float32)


def _objective(rows: Tensor, total: int, options: TrainSae, collective: Collective) -> Objective:
    """Return the loss, with the mean and the variance of all training rows of all workers."""
    sums = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for block in rows.split(_BLOCK_ROWS):
        sums += block.double().sum(0)
    collective.sum(sums)
    center = (sums / total).float()
    squares = torch.zeros(1, dtype=torch.float64, device=rows.device)
    for block in rows.split(_BLOCK_ROWS):
        squares += (block - center).square().sum()
    collective.sum(squares)
    if not bool(squares.isfinite()):
        raise InputError("the training embeddings hold NaN or infinite values")
    return Objective(options, center, (squares / total).squeeze(0), collective)


def _start(rows: Tensor, total: int, options: TrainSae, collective: Collective) -> SparseAutoencoder:
    """Return the SAE before the first step."""
    sae = SparseAutoencoder(
        rows.shape[1],
        *options.shape[:2],
        prefix_lengths=options.shape.prefix_lengths,
        batch_topk=options.advanced.batch_topk,
    ).to(collective.device)
    # Draws 0, 1, ... order the epochs; the last two of the 32-bit range are kept for the start.
    drawn = permutation(total, options.seed, 2**32 - 1)[:_MEDIAN_ROWS]
    sample = collective.gather(rows[_own(drawn, collective)])
    sae.initialize(_median(sample).to(collective.device), _generator(options.seed, 2**32 - 2))
    return sae


def _median(rows: Tensor) -> Tensor:
    """Return the median of each column of (n, d), on the CPU, and of an even n the lower one of the two.

    numpy's partition finds those of 16,384 x 384 in a fifth of the time of torch.median.
    """
    middle = (rows.shape[0] - 1) // 2
    columns = np.ascontiguousarray(rows.cpu().numpy().T)
    columns.partition(middle, axis=1)
    return torch.from_numpy(columns[:, middle].copy())
