"""The Matryoshka top-k sparse autoencoder: embeddings (n, d) in, a few firing neurons per row out.

1. Score.  Every neuron scores an embedding x (d,):  s = W_enc (x - b_in) + b_neuron,  (M,).
2. Fire.  The k largest scores stay, the rest become 0, and ReLU cuts what is left below 0 (top-k: Gao et
   al. 2024, arXiv 2406.04093). With batch top-k it is the k x n largest scores of a batch of n rows, so that
   a row may use more neurons than another; afterwards a learned threshold replaces the batch, and each row is
   treated alone (Bussmann, Leask, Nanda 2024, arXiv 2412.06410).
3. Reconstruct.  x_hat_p = W_dec[:, :p] a[:p] + b_in for each prefix length p; the last one is M. Training
   makes each prefix a usable autoencoder by itself, so early neurons learn broad features and late ones
   detail (Matryoshka: Bussmann et al. 2025, arXiv 2503.17547).
4. Start.  W_enc = W_dec^T with unit decoder columns in random directions; b_in is the per-dimension median
   of the training rows; b_neuron is 0.

`sae.losses` says what is minimised, `sae.training` how. The use of such neurons as hypotheses is that of
Movva, Peng, Garg, Kleinberg, Pierson 2025, arXiv 2502.04382.

Of n x M activations only about n x k are not 0, so none of the steps after the scores is done densely:
firing entries are kept as sorted positions in the flattened (n, M) matrix, and every product with them is an
`embedding_bag`, which reads only the rows of W_dec that fired. At n 512, d 384, M 1024, k 8 on one core,
decoding forward and backward takes 0.65 ms that way and 7.7 ms as dense products.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import safetensors.torch
import scipy.sparse
import torch
from torch import Tensor, nn
from torch.nn import functional

from hypsae_ray.errors import InputError, ModelError

# How far the batch top-k threshold moves towards each batch: a mean over about the last 10. The k x n-th
# largest of n x M scores hardly varies between batches, but drifts while weights grow, and a slower mean
# (hypothesaes: 0.01) lags so far behind that the validation loss rises while the training loss still falls.
_THRESHOLD_RATE = 0.1


@dataclass(frozen=True)
class Firing:
    """The entries of an (n, M) activation matrix that may differ from 0.

    Attributes:
        flat: (nnz,) int64, ascending: row x M + neuron.
        values: (nnz,) activations, at least 0.
        n_rows: n.
        n_neurons: M.
    """

    flat: Tensor
    values: Tensor
    n_rows: int
    n_neurons: int

    @property
    def neurons(self) -> Tensor:
        """(nnz,) int64: the neuron of each entry."""
        return self.flat % self.n_neurons

    def counts(self) -> Tensor:
        """Return (M,) float64: on how many rows each neuron fires above 0."""
        fired = self.neurons[self.values.detach() > 0]
        return torch.bincount(fired, minlength=self.n_neurons).double()

    def to_scipy(self) -> scipy.sparse.csr_matrix:
        """Return the entries above 0 as CSR (n, M) float32 with ascending columns."""
        positive = self.values.detach() > 0
        rows, columns = divmod(self.flat[positive].cpu().numpy(), self.n_neurons)
        values = self.values.detach()[positive].cpu().numpy()
        ends = np.searchsorted(rows, np.arange(self.n_rows + 1))
        return scipy.sparse.csr_matrix((values, columns, ends), shape=(self.n_rows, self.n_neurons))


class SparseAutoencoder(nn.Module):
    """The weights, and the forward pass in steps that the loss can reuse.

    Gradients reach the weights, never the embeddings.

    Attributes:
        encoder: (M, d), row j scores neuron j.
        decoder: (M, d), row j is the unit direction that neuron j adds (column j of W_dec).
        b_in: (d,), the point that embeddings are measured from.
        b_neuron: (M,).
        threshold: () score above which a neuron fires after training with batch top-k.
    """

    threshold: Tensor

    def __init__(
        self,
        dim: int,
        n_neurons: int,
        k: int,
        *,
        prefix_lengths: Sequence[int] = (),
        batch_topk: bool = False,
    ) -> None:
        super().__init__()
        self.dim, self.n_neurons, self.k = dim, n_neurons, k
        self.prefix_lengths = tuple(prefix_lengths) or (n_neurons,)
        self.batch_topk = batch_topk
        self.encoder = nn.Parameter(torch.zeros(n_neurons, dim))
        self.decoder = nn.Parameter(torch.zeros(n_neurons, dim))
        self.b_in = nn.Parameter(torch.zeros(dim))
        self.b_neuron = nn.Parameter(torch.zeros(n_neurons))
        self.register_buffer("threshold", torch.zeros(()))

    @torch.no_grad()
    def initialize(self, b_in: Tensor, generator: torch.Generator) -> None:
        """Set the weights that training starts from (step 4 above), with the median `b_in` (d,).

        The generator is on the CPU, so that every device starts from the same weights.
        """
        directions = torch.randn(self.n_neurons, self.dim, generator=generator)
        self.decoder.copy_(functional.normalize(directions, dim=1))
        self.encoder.copy_(self.decoder)
        self.b_in.copy_(b_in)
        self.b_neuron.zero_()
        self.threshold.zero_()

    @torch.no_grad()
    def scores(self, x: Tensor) -> Tensor:
        """Return (n, M) scores before top-k, without a graph: `fire` adds the gradient where it is needed."""
        return functional.linear(x, self.encoder, self._offset())

    def fire(self, x: Tensor, scores: Tensor, flat: Tensor) -> Firing:
        """Return the activations at the chosen positions of `scores(x)`, with gradients to the weights."""
        picked = scores.reshape(-1)[flat]
        values = _Pick.apply(x, self.encoder, self._offset(), picked, flat)
        return Firing(flat, functional.relu(values), x.shape[0], self.n_neurons)

    def encode(self, x: Tensor) -> Firing:
        """Return the activations of embeddings (n, d) by the rule used after training."""
        scores = self.scores(x)
        flat = above(scores, self.threshold, strict=True) if self.batch_topk else largest(scores, self.k)
        return self.fire(x, scores, flat)

    def combine(self, firing: Firing, bounds: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Return the sums (n, d) of decoder rows times activations of n rows, one per block of neurons.

        `bounds` are where each block ends, ascending; the last one is M.
        """
        if firing.n_rows == 0:
            return (self.decoder[:0] * firing.values.sum(),) * len(bounds)
        # Positions ascend, so entries of one row and one block of neurons lie side by side: one bag each.
        starts = torch.tensor((0, *bounds[:-1]), device=firing.flat.device)
        rows = torch.arange(firing.n_rows, device=firing.flat.device)
        edges = (rows[:, None] * self.n_neurons + starts).reshape(-1)
        bags = _bags(firing.neurons, self.decoder, _ends(firing.flat, edges), firing.values)
        return bags.view(firing.n_rows, len(bounds), self.dim).unbind(1)

    def errors(self, x: Tensor, firing: Firing) -> list[Tensor]:
        """Return x_hat_p - x (n, d) for each prefix of the neurons, the last one for all."""
        return list(accumulate(self.combine(firing, self.prefix_lengths), initial=self.b_in - x))[1:]

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstruction (n, d) of embeddings (n, d) from all neurons."""
        return self.combine(self.encode(x), (self.n_neurons,))[0] + self.b_in

    @torch.no_grad()
    def learn_threshold(self, smallest: Tensor) -> None:
        """Move the batch top-k threshold towards the smallest activation kept in a batch.

        The first batch sets it: an average that starts at 0 would let too much fire after a short training.
        """
        moved = torch.lerp(self.threshold, smallest, _THRESHOLD_RATE)
        moved = torch.where(self.threshold == 0, smallest, moved)
        self.threshold.copy_(torch.where(smallest.isfinite(), moved, self.threshold))

    @torch.no_grad()
    def renormalize(self) -> None:
        """Scale every decoder row back to length 1."""
        self.decoder.copy_(functional.normalize(self.decoder, dim=1))

    @torch.no_grad()
    def project_gradient(self) -> None:
        """Take out of the decoder's gradient what would only change the lengths of its rows."""
        gradient = self.decoder.grad
        if gradient is not None:
            gradient -= (gradient * self.decoder).sum(1, keepdim=True) * self.decoder

    def _offset(self) -> Tensor:
        # W (x - b_in) + b is W x + (b - W b_in): no gradient of the size of x is ever needed for b_in.
        return self.b_neuron - self.encoder @ self.b_in


def largest(scores: Tensor, k: int) -> Tensor:
    """Return the flat positions of the k largest entries of each row of (n, M), ascending."""
    n_rows, n_neurons = scores.shape
    # torch looks through a row once for each 64 columns at the most, else it sorts; numpy's partition is then
    # five times as fast on a CPU (512 x 256, k 8, one core: 0.22 ms and 1.13 ms).
    if k < n_neurons < 64 * k and not scores.is_cuda:
        table = scores.numpy()
        kth = np.partition(table, n_neurons - k, axis=1)[:, n_neurons - k, None]
        flat = np.flatnonzero(table >= kth)
        if len(flat) == n_rows * k:  # no other score is equal to a row's k-th largest
            return torch.from_numpy(flat)
    neurons = scores.topk(k, dim=1).indices.sort(dim=1).values
    return (neurons + torch.arange(n_rows, device=scores.device)[:, None] * n_neurons).reshape(-1)


def above(scores: Tensor, floor: Tensor, *, strict: bool) -> Tensor:
    """Return the flat positions, ascending, of entries above 0 and above (or, if not strict, at) `floor`."""
    flat = scores.reshape(-1)
    kept = flat > floor if strict else flat >= floor
    return (kept & (flat > 0)).nonzero().squeeze(1)


def activations(
    sae: SparseAutoencoder, embeddings: np.ndarray, batch_size: int = 16_384
) -> scipy.sparse.csr_matrix:
    """Return the activations of embeddings (n, d) as CSR (n, M) float32, columns ascending in each row.

    Only entries above 0 are stored, and no more than batch_size x M scores exist at any time.

    Raises:
        InputError: the embeddings do not have the SAE's number of dimensions.
    """
    if embeddings.ndim != 2 or embeddings.shape[1] != sae.dim:
        raise InputError(f"embeddings have shape {embeddings.shape}, but the SAE reads (n, {sae.dim})")
    parts = [scipy.sparse.csr_matrix(np.zeros((0, sae.n_neurons), dtype=np.float32))]
    with torch.no_grad():
        for start in range(0, len(embeddings), batch_size):
            batch = np.ascontiguousarray(embeddings[start : start + batch_size], dtype=np.float32)
            parts.append(sae.encode(torch.from_numpy(batch).to(sae.b_in.device)).to_scipy())
    return scipy.sparse.csr_matrix(scipy.sparse.vstack(parts, format="csr"))


def to_bytes(sae: SparseAutoencoder) -> tuple[bytes, dict[str, Any]]:
    """Return the weights as safetensors, and the JSON-ready arguments that rebuild the module."""
    weights = {name: tensor.cpu().contiguous() for name, tensor in sae.state_dict().items()}
    config = {
        "dim": sae.dim,
        "n_neurons": sae.n_neurons,
        "k": sae.k,
        "prefix_lengths": list(sae.prefix_lengths),
        "batch_topk": sae.batch_topk,
    }
    return safetensors.torch.save(weights), config


def from_bytes(data: bytes, config: dict[str, Any]) -> SparseAutoencoder:
    """Rebuild on the CPU what `to_bytes` returned.

    Raises:
        ModelError: the bytes are no safetensors, or hold other tensors than the config needs.
    """
    try:
        sae = SparseAutoencoder(**config)
        sae.load_state_dict(safetensors.torch.load(data))
    except Exception as error:  # bytes of any origin: each layer of the reader has errors of its own
        raise ModelError(f"these are not the weights of an SAE of config {config}: {error}") from error
    return sae


def from_hypothesaes(data: bytes) -> SparseAutoencoder:
    """Read a checkpoint (.pt) written by hypothesaes; nothing in it is executed.

    Raises:
        ModelError: the bytes are no such checkpoint, or would need to be unpickled.
    """
    try:
        checkpoint = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        config, state = checkpoint["config"], checkpoint["state_dict"]
        sae = SparseAutoencoder(
            config["input_dim"],
            config["m_total_neurons"],
            config["k_active_neurons"],
            prefix_lengths=config["prefix_lengths"] or (),
            batch_topk=bool(config.get("use_batch_topk", False)),
        )
        weights = {
            "encoder": state["encoder.weight"],
            "decoder": state["decoder.weight"].T.contiguous(),
            "b_in": state["input_bias"],
            "b_neuron": state["neuron_bias"],
            "threshold": state.get("threshold", torch.zeros(())),
        }
        sae.load_state_dict(weights)
    except Exception as error:  # bytes of any origin: the reader fails in as many ways as there are bytes
        raise ModelError(f"not an SAE checkpoint of hypothesaes: {error}") from error
    return sae


class _Pick(torch.autograd.Function):
    """Scores at chosen positions. The backward pass touches those positions only, not all n x M."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:  # pyrefly: ignore[bad-override]  # as PyTorch asks
        x, weight, _, picked, flat = inputs
        ctx.save_for_backward(x, flat)
        ctx.n_neurons = weight.shape[0]
        return picked.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, flat = ctx.saved_tensors
        neurons, order = (flat % ctx.n_neurons).sort(stable=True)
        ends = _ends(neurons, torch.arange(ctx.n_neurons, device=flat.device))
        rows, gradient = (flat // ctx.n_neurons)[order], grads[0][order]
        if x.shape[0] == 0:
            return None, x.new_zeros(ctx.n_neurons, x.shape[1]), x.new_zeros(ctx.n_neurons), None, None
        ones = x.new_ones(x.shape[0], 1)
        bias = _bags(rows, ones, ends, gradient).squeeze(1)
        return None, _bags(rows, x, ends, gradient), bias, None, None


def _bags(indices: Tensor, table: Tensor, ends: Tensor, weights: Tensor) -> Tensor:
    """Return (bags, d): bag i is the weighted sum of table rows indices[ends[i]:ends[i + 1]]."""
    return functional.embedding_bag(
        indices, table, ends, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


def _ends(ascending: Tensor, edges: Tensor) -> Tensor:
    """Return where each bag starts in `ascending`, and after the last start the end of all."""
    starts = torch.searchsorted(ascending, edges)
    return torch.cat([starts, starts.new_full((1,), ascending.numel())])
