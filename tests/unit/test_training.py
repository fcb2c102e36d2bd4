import contextlib
import io
import math
import pickle
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesaes.sae import SparseAutoencoder as ReferenceSae
from torch import Tensor

from hypsae_ray.config import AdvancedSae, TrainSae
from hypsae_ray.errors import InputError, StageError
from hypsae_ray.sae.model import activations
from hypsae_ray.sae.training import Progress, Trained, WorkerRows, permutation, train
from tests.deadline import DEADLINE_S

DIM = 8


def options(**changes) -> TrainSae:
    base = {"n_neurons": 24, "k": 3, "prefix_lengths": (6, 24), "batch_size": 50, "max_epochs": 4}
    advanced = {name: value for name, value in changes.items() if name in AdvancedSae.model_fields}
    fields = {name: value for name, value in changes.items() if name not in advanced}
    return TrainSae(**{**base, **fields}, advanced=AdvancedSae(**advanced))


def planted(n: int = 301, noise: float = 0.05, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, DIM) that are sparse non-negative sums of 6 unit directions (6, DIM), and the directions."""
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, DIM)))[0][:6]
    rng = np.random.default_rng(seed)
    codes = rng.uniform(0.5, 1.5, (n, 6)) * (rng.random((n, 6)) < 0.2)
    return (codes @ directions + noise * rng.normal(size=(n, DIM))).astype(np.float32), directions


def run(x: np.ndarray, config: TrainSae, val: np.ndarray | None = None, **more) -> Trained:
    return train(WorkerRows.of(x), None if val is None else WorkerRows.of(val), config, **more)


def losses(trained: Trained) -> list[float]:
    return [epoch.loss for epoch in trained.history]


def unexplained(trained: Trained, x: np.ndarray, prefixes: tuple[int, ...]) -> float:
    """The validation loss, made from the stored activations in numpy."""
    fired = activations(trained.sae, x).toarray()
    decoder, b_in = (t.detach().numpy() for t in (trained.sae.decoder, trained.sae.b_in))
    missed = [((x - b_in - fired[:, :p] @ decoder[:p]) ** 2).sum() for p in prefixes]
    return float(np.mean(missed) / ((x - x.mean(0)) ** 2).sum())


@dataclass
class Team:
    """A collective of threads of this process: member r of `world` waits for the others at every sum."""

    rank: int
    parts: list[list[Tensor]]
    barrier: threading.Barrier
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def world(self) -> int:
        return len(self.parts)

    def sum(self, *tensors: Tensor) -> None:
        self.parts[self.rank] = [t.detach().clone() for t in tensors]
        self.barrier.wait()
        totals = [torch.stack(group).sum(0) for group in zip(*self.parts, strict=True)]
        self.barrier.wait()
        with torch.no_grad():
            for tensor, total in zip(tensors, totals, strict=True):
                tensor.copy_(total)

    def gather(self, rows: Tensor) -> Tensor:
        self.parts[self.rank] = [rows.detach().clone()]
        self.barrier.wait()
        together = torch.cat([part[0] for part in self.parts])
        self.barrier.wait()
        return together


def run_team(world: int, x: np.ndarray, val: np.ndarray, config: TrainSae) -> list[Trained]:
    parts, barrier = [[] for _ in range(world)], threading.Barrier(world, timeout=DEADLINE_S)
    results: dict[int, Trained] = {}

    def work(rank: int) -> None:
        team = Team(rank, parts, barrier)
        results[rank] = train(WorkerRows.of(x, rank, world), WorkerRows.of(val, rank, world), config, team)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[rank] for rank in range(world)]


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("changes", [{}, {"batch_topk": True}, {"multi_k": 6, "dead_after": 2}])
def test_any_number_of_workers_takes_the_same_steps(world: int, changes: dict) -> None:
    x, val = planted()[0], planted(99, seed=5)[0]
    one, team = run(x, options(**changes), val), run_team(world, x, val, options(**changes))
    for member in team:
        assert losses(member) == pytest.approx(losses(one), rel=1e-4)
        assert [e.train_loss for e in member.history] == pytest.approx(
            [e.train_loss for e in one.history], rel=1e-4
        )
        assert [e.dead for e in member.history] == [e.dead for e in one.history]
        assert torch.equal(member.sae.decoder, team[0].sae.decoder)


def test_a_last_batch_of_one_row_where_the_reference_ends_in_nan() -> None:
    x = planted(101)[0]
    reference = ReferenceSae(DIM, 24, 3, prefix_lengths=[6, 24], device="cpu")
    with contextlib.redirect_stdout(io.StringIO()):
        history = reference.fit(torch.from_numpy(x), batch_size=50, n_epochs=2, show_progress=False)
    assert math.isnan(history["train_loss"][-1]) and reference.decoder.weight.isnan().all()
    ours = run(x, options(max_epochs=2))
    assert all(math.isfinite(loss) for loss in losses(ours))
    assert all(weight.isfinite().all() for weight in ours.sae.parameters())


@pytest.mark.parametrize("n", [1, 2, 3, 51])
@pytest.mark.parametrize("batch_topk", [False, True])
def test_any_number_of_rows(n: int, batch_topk: bool) -> None:
    x = planted(n)[0]
    trained = run(x, options(batch_topk=batch_topk, dead_after=1), x[:1])
    assert all(math.isfinite(loss) for loss in losses(trained))


def test_rows_that_are_all_the_same() -> None:
    trained = run(np.ones((120, DIM), np.float32), options(), np.ones((3, DIM), np.float32))
    assert losses(trained)[-1] == pytest.approx(0, abs=1e-3)


def test_the_best_weights_come_back() -> None:
    x, val = planted(200)[0], planted(60, noise=0.6, seed=9)[0]
    config = options(max_epochs=60, patience=4, learning_rate=0.05, batch_size=20)
    trained = run(x, config, val)
    assert losses(trained)[-1] > min(losses(trained))  # so that there is something to restore
    assert trained.best.loss == min(losses(trained))
    assert unexplained(trained, val, config.shape.prefix_lengths) == pytest.approx(
        trained.best.loss, rel=1e-4
    )


def test_patience_counts_epochs_without_a_lower_loss() -> None:
    x, val = planted(200)[0], planted(60, noise=0.6, seed=9)[0]
    trained = run(x, options(max_epochs=60, patience=2, learning_rate=0.05, batch_size=20), val)
    seen = losses(trained)
    assert len(seen) < 60
    assert min(seen) == seen[-3] and not any(
        min(seen[i + 1 : i + 3]) >= min(seen[: i + 1]) for i in range(len(seen) - 3)
    )


def test_without_validation_rows_the_training_loss_decides() -> None:
    x = planted()[0]
    trained = run(x, options())
    assert all(epoch.val_loss is None and epoch.loss == epoch.train_loss for epoch in trained.history)
    empty = train(WorkerRows.of(x), WorkerRows.of(x[:0]), options())
    assert losses(empty) == losses(trained)


def test_the_seed_decides_and_global_random_state_does_not() -> None:
    x, val = planted()[0], planted(50, seed=5)[0]
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first = run(x, options(), val)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist()
    assert torch.equal(before[0], after[0]) and before[1] == after[1]
    torch.manual_seed(2)
    second, third = run(x, options(), val), run(x, options(seed=1), val)
    assert losses(first) == losses(second) != losses(third)
    assert torch.equal(first.sae.encoder, second.sae.encoder)


def test_permutations() -> None:
    assert sorted(permutation(100, 3, 0).tolist()) == list(range(100))
    draws = {tuple(permutation(100, seed, draw).tolist()) for seed in (-1, 0, 1) for draw in (0, 1)}
    assert len(draws) == 6


def test_dead_counts_come_from_training_rows_only() -> None:
    # More neurons than rows can keep alive: some die, whatever is validated in between.
    x, val = planted()[0], planted(500, seed=5)[0]
    config = options(n_neurons=64, prefix_lengths=(), dead_after=8, aux_k=0, patience=9, max_epochs=3)
    with_val, without = run(x, config, val), run(x, config)
    assert [e.dead for e in with_val.history] == [e.dead for e in without.history]
    assert with_val.history[-1].dead > 0
    # The reference counts validation batches too: a neuron was silent for more than the 18 training steps.
    reference = ReferenceSae(DIM, 64, 3, device="cpu")
    with contextlib.redirect_stdout(io.StringIO()):
        reference.fit(
            *(torch.from_numpy(rows) for rows in (x[:300], val)),
            batch_size=50,
            n_epochs=3,
            show_progress=False,
        )
    assert int(reference.steps_since_activation.max()) > 3 * 6


def test_a_dead_neuron_is_one_that_was_silent_for_longer_than_dead_after() -> None:
    x = planted(300)[0]
    steps: list[Progress] = []
    config = options(n_neurons=64, prefix_lengths=(), aux_k=0, batch_size=300, dead_after=2, max_epochs=6)
    trained = run(x, config, on_epoch=steps.append)
    # One step an epoch: nobody can be dead before the third.
    assert [e.dead for e in trained.history[:2]] == [0, 0]
    assert trained.history[-1].dead > 0


def test_resumed_training_is_the_training_that_was_not_stopped() -> None:
    x, val = planted()[0], planted(50, seed=5)[0]
    config = options(max_epochs=6, batch_topk=True, dead_after=3)
    snapshots: dict[int, bytes] = {}

    def keep(progress: Progress) -> None:
        if progress.improved:
            snapshots[progress.epoch.epoch] = progress.snapshot()

    whole = run(x, config, val, on_epoch=keep)
    resumed = run(x, config, val, resume=snapshots[1])
    assert losses(resumed) == losses(whole)
    assert config.shape.n_neurons > 2 * 7  # so the snapshot is of the steps that train more than k
    assert resumed.history[:2] == whole.history[:2]  # to the last bit of the seconds
    assert torch.equal(resumed.sae.decoder, whole.sae.decoder)


class Bomb:
    """Unpickling it leaves a file."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return (open, (self.mark, "w"))


def test_a_snapshot_holds_tensors_and_nothing_to_execute(tmp_path: Path) -> None:
    x, taken = planted()[0], list[bytes]()
    run(x, options(max_epochs=2), on_epoch=lambda progress: taken.append(progress.snapshot()))
    tensors = safetensors.torch.load(taken[1])
    assert {name.partition(".")[0] for name in tensors} == {"sae", "adam", "silent", "history"}
    assert tensors["history"].shape == (2, 5)
    saved = io.BytesIO()
    torch.save({"sae": Bomb(str(tmp_path / "mark"))}, saved)
    other = safetensors.torch.save({"silent": torch.zeros(3)})
    for bad in (pickle.dumps(Bomb(str(tmp_path / "mark"))), saved.getvalue(), other, taken[0][:-1], b""):
        with pytest.raises(StageError, match="no snapshot of this training"):
            run(x, options(), resume=bad)
    assert not (tmp_path / "mark").exists()


def test_planted_directions_are_found() -> None:
    x, directions = planted(4000)
    config = options(n_neurons=12, k=2, prefix_lengths=(6, 12), learning_rate=3e-3, max_epochs=40)
    trained = run(x, config, planted(400, seed=5)[0])
    cosines = trained.sae.decoder.detach().numpy() @ directions.T
    assert (cosines.max(0) > 0.8).all()
    assert trained.best.loss < 0.35
    assert trained.sae.decoder.detach().norm(dim=1).numpy() == pytest.approx(np.ones(12), abs=1e-5)


def test_refused_rows() -> None:
    with pytest.raises(InputError, match="no rows"):
        run(np.zeros((0, DIM), np.float32), options())
    bad = planted()[0].copy()
    bad[7, 3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        run(bad, options())
