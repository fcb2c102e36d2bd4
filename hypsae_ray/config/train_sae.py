"""Section `train_sae`."""

import math
from typing import Any, NamedTuple, Self

from pydantic import model_validator

from hypsae_ray.config.replicas import Replicas
from hypsae_ray.config.types import Amount, Count, Positive, PositiveAmount, Runtime, Section


class SaeShape(NamedTuple):
    """Sizes of an SAE: neurons, those that may fire per text, and prefix lengths."""

    n_neurons: int
    k: int
    prefix_lengths: tuple[int, ...]


# Up to so many training texts. The sizes are those that hypothesaes advises for 1,000, 10,000 and 100,000
# texts, with the borders near the geometric means.
SAE_SIZES = (
    (3_000, SaeShape(64, 4, (16, 64))),
    (30_000, SaeShape(256, 8, (32, 256))),
    (math.inf, SaeShape(1024, 8, (128, 1024))),
)

# Neurons that may fire on a sentence, in three SAEs. Means over three seeds, 64 neurons each: of 24 planted
# concepts 21 have a neuron, and of 10 chosen neurons 9 stand for one (a single SAE with 3: 15 and 6; of whole
# texts, with 4: 9 and 5). Of the stars of reviews ten predict 0.41 (0.38; 0.23). See jobs/README.md.
SENTENCE_K = (1, 2, 4)


class AdvancedSae(Section):
    """Section `train_sae.advanced`."""

    batch_topk: bool = False
    """Keep the k x batch largest activations of a batch, and learn a threshold to use afterwards."""
    aux_k: Count | None = None
    """Dead neurons that try to explain the residual; null: 2 x k, at most n_neurons; 0: none."""
    aux_weight: Amount = 1 / 32
    """Weight of the aux-k term in the loss."""
    multi_k: Positive | None = None
    """Neurons in a second, less sparse reconstruction; null: none."""
    multi_weight: Amount = 0.125
    """Weight of the multi-k term, if there is one."""
    first_k: Positive = 3
    """Neurons that are trained per text in the first step, as a multiple of k; over the first n_neurons steps
    it falls to 1. 1: always k."""
    dead_after: Positive = 256
    """Training steps without firing after which a neuron counts as dead."""
    clip_norm: PositiveAmount = 1.0
    """Gradients are scaled down to this norm."""


class TrainSae(Section):
    """The Matryoshka top-k sparse autoencoder."""

    n_neurons: Positive | None = None
    """Neurons in all (M); null: the last of prefix_lengths or, without them, by the number of training texts:
    64 up to 3,000, 256 up to 30,000, 1024 above."""
    k: Positive | tuple[Positive, ...] | None = None
    """Neurons that may fire per text (K); with `advanced.batch_topk`, on average over a batch. Several: an
    SAE with n_neurons for each, and the neurons of all are ranked together. null: 4 of up to 64 neurons, 8 of
    more, and 1, 2 and 4 per sentence (`data.chunk.sentences`)."""
    prefix_lengths: tuple[Positive, ...] = ()
    """Ascending prefix lengths of the Matryoshka loss, the last one n_neurons; empty: only n_neurons, or
    (16, 64), (32, 256) or (128, 1024) where n_neurons follows the number of texts."""
    batch_size: Positive = 512
    """Texts per step over all workers together (the global batch)."""
    learning_rate: PositiveAmount | None = None
    """Step size of Adam; null: 0.05 / sqrt(n_neurons), 0.0063 with 64 neurons and 0.0016 with 1024; with
    batches under 512 less, by the root of their share of 512."""
    max_epochs: Positive = 200
    """Passes over the training texts at the most."""
    patience: Positive = 5
    """Epochs without a lower validation loss after which training stops."""
    seed: Count = 0
    """Seed of the initial weights and of the order of rows."""
    seeds: Positive = 1
    """Seeds trained with: seed, seed + 1 and so on. Neurons are those of the first one; with more than one, a
    column `stability` (0 to 1) says how well each is found again in the others (`neurons.stability`). It
    takes as many times the training; with replicas, the others are trained side by side, one by each."""
    advanced: AdvancedSae = AdvancedSae()
    """Terms of the loss and details of training that rarely need another value."""
    replicas: Runtime[Replicas] = Replicas(min=0, max=0)
    """Workers of Ray Train; min and max 0: training runs in this process, on the CPU. With fewer than max,
    down to min, it begins, and goes on from a snapshot when nodes are lost."""

    def content(self) -> dict[str, Any]:
        """Return what decides the neurons and what is known of them; one SAE is as before there were more."""
        found = super().content()
        return {name: value for name, value in found.items() if name != "seeds" or value > 1}

    @property
    def others(self) -> list[Self]:
        """The options of the other SAEs, if several are trained."""
        more = range(self.seed + 1, self.seed + self.seeds)
        return [self.model_copy(update={"seed": seed, "seeds": 1}) for seed in more]

    def sized(self, n_texts: int, of_sentences: bool = False) -> Self:
        """Return these options with the sizes that were left empty filled in, for so many training texts.

        `of_sentences`: the SAE reads sentences of these texts.

        >>> TrainSae().sized(2_000).shape
        SaeShape(n_neurons=64, k=4, prefix_lengths=(16, 64))
        """
        shape = next(shape for most, shape in SAE_SIZES if n_texts <= most)
        if (n_neurons := self.given_neurons) is not None:
            k = min(4 if n_neurons <= 64 else 8, n_neurons)
            shape = SaeShape(n_neurons, k, self.prefix_lengths or (n_neurons,))
        several = tuple(k for k in SENTENCE_K if k <= shape.n_neurons) if of_sentences else shape.k
        return self.model_copy(update=shape._asdict() | {"k": self.k or several})

    @property
    def each(self) -> list[Self]:
        """The options of each SAE whose neurons are ranked together: one for each k."""
        several = self.k if isinstance(self.k, tuple) else (self.k,)
        return [self.model_copy(update={"k": k}) for k in several]

    @property
    def given_neurons(self) -> int | None:
        """Neurons as given, by n_neurons or the last prefix length; None: neither is."""
        return self.n_neurons or (self.prefix_lengths[-1] if self.prefix_lengths else None)

    @property
    def shape(self) -> "SaeShape":
        """The sizes of one SAE, where none is left empty; see `sized` and `each`."""
        assert self.n_neurons is not None and isinstance(self.k, int), "sized() and each come first"
        return SaeShape(self.n_neurons, self.k, self.prefix_lengths or (self.n_neurons,))

    @property
    def step_size(self) -> float:
        """learning_rate with the default filled in.

        It goes by 1 / sqrt(neurons) (Gao et al. 2024, arXiv 2406.04093, figure 3) and sqrt(batch) (Malladi et
        al. 2022, arXiv 2205.10330). The factor is of planted data and of reviews with 64 and 256 neurons;
        batches above 512 were not tried.

        >>> [round(TrainSae(n_neurons=400, k=8, batch_size=size).step_size, 5) for size in (128, 512)]
        [0.00125, 0.0025]
        """
        share = min(1.0, self.batch_size / 512)
        return self.learning_rate or 0.05 * math.sqrt(share / self.shape.n_neurons)

    @property
    def n_aux(self) -> int:
        """aux_k with the default filled in."""
        shape = self.shape
        return min(2 * shape.k, shape.n_neurons) if self.advanced.aux_k is None else self.advanced.aux_k

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.given_neurons is None:
            self._check_unsized()
        else:
            if isinstance(self.k, tuple) and list(self.k) != sorted(set(self.k)):
                raise ValueError(f"k {list(self.k)} must ascend, each one once")
            for one in self.sized(0).each:
                self._check_sizes(one)
        if self.replicas.gpus and not self.replicas.max:
            raise ValueError(
                "replicas.gpus needs replicas.max: with 0, training runs in this process on the CPU"
            )
        return self

    def _check_unsized(self) -> None:
        given = {"k": self.k, "multi_k": self.advanced.multi_k, "aux_k": self.advanced.aux_k}
        if named := [name for name, value in given.items() if value]:
            raise ValueError(f"{named[0]} is given without n_neurons: give n_neurons too")

    def _check_sizes(self, sized: Self) -> None:
        n_neurons, k, prefixes = sized.shape
        if k > n_neurons:
            raise ValueError(f"k ({k}) is above n_neurons ({n_neurons})")
        if list(prefixes) != sorted(set(prefixes)):
            raise ValueError(f"prefix_lengths {list(prefixes)} must ascend, each one once")
        if prefixes[-1] != n_neurons:
            raise ValueError(f"prefix_lengths end at {prefixes[-1]}, but n_neurons is {n_neurons}")
        if self.advanced.multi_k is not None and not k < self.advanced.multi_k <= n_neurons:
            raise ValueError(f"multi_k ({self.advanced.multi_k}) must lie above k ({k}) and up to n_neurons")
        if sized.n_aux > n_neurons:
            raise ValueError(f"aux_k ({sized.n_aux}) is above n_neurons ({n_neurons})")
