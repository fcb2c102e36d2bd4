"""What one device does a second in `embed` and in `train_sae`: the CPU, and a GPU where there is one.

    python jobs/bench_device.py [--devices cpu cuda] [--dtypes float32 bfloat16] [--neurons 1024]
    python jobs/bench_device.py --backends torch onnx openvino --batch-sizes    # where they are installed

Texts of --words words are embedded for --seconds, after a first batch that is not timed. The SAE is trained
for three epochs on --rows random embeddings, which cost what real ones do, and the fastest epoch counts,
validation included. Prints one JSON line with a table of cases:

- per_s: texts, or rows, a second;
- cosine: the lowest, of the first batch, to what torch gives on the CPU in float32;
- memory_gib: the most that the GPU held (torch's own count); null on a CPU.
"""

import argparse
import itertools
import json
import os
import platform
import time
from typing import Any

import numpy as np
import pandas as pd
import torch

from hypsae_ray.config import Embed, TrainSae
from hypsae_ray.models.sentence_embedder import SentenceEmbedder
from hypsae_ray.sae.collective import Collective
from hypsae_ray.sae.training import Epoch, WorkerRows, train

TEXTS_AT_ONCE = 4096
EPOCHS = 3
WORDS = "the bread was warm and a waiter kind but slow while we sat by an open door in the rain"


def main() -> None:
    """Run all cases, and print the table."""
    options = _options()
    every = itertools.product(options.devices, options.dtypes, options.backends)
    cases = [_embed(options, *case) for case in every]
    cases += [_train(options, device, size) for device in options.devices for size in options.batch_sizes]
    table = pd.DataFrame(cases)
    print(table.to_string(index=False), flush=True)
    print(json.dumps({"devices": _names(), "cases": json.loads(table.to_json(orient="records"))}))


def _embed(options: argparse.Namespace, device: str, dtype: str, backend: str) -> dict[str, Any]:
    size = options.embed_batch
    wanted: Any = {"device": device, "dtype": dtype, "advanced": {"backend": backend}}
    model = SentenceEmbedder(Embed(model=options.model, batch_size=size, **wanted))
    rng = np.random.default_rng(0)
    texts = (" ".join(rng.choice(WORDS.split(), options.words)) for _ in itertools.count())
    first = list(itertools.islice(texts, size))
    vectors = model.embed(first).vectors
    torchs = SentenceEmbedder(Embed(model=options.model, device="cpu")).embed(first).vectors
    cosine = round(float((vectors * torchs).sum(1).min()), 6)
    _forget_memory(device)
    done, seconds = 0, 0.0
    at_once = TEXTS_AT_ONCE if device != "cpu" else size
    while seconds < options.seconds:
        batch = list(itertools.islice(texts, at_once))
        started = time.perf_counter()
        model.embed(batch)
        seconds += time.perf_counter() - started
        done += len(batch)
    return {**_case("embed", device, dtype, size, done / seconds), "backend": backend, "cosine": cosine}


def _train(options: argparse.Namespace, device: str, size: int) -> dict[str, Any]:
    x = np.random.default_rng(0).normal(size=(options.rows, options.dim)).astype(np.float32)
    sae = TrainSae(
        n_neurons=options.neurons,
        k=options.k,
        prefix_lengths=(options.neurons // 8, options.neurons),
        batch_size=size,
        max_epochs=EPOCHS,
        patience=EPOCHS,
    )
    _forget_memory(device)
    held_out = WorkerRows.of(x[: options.rows // 10])
    epochs: list[Epoch] = []
    train(
        WorkerRows.of(x),
        held_out,
        sae,
        Collective(torch.device(device)),
        lambda now: epochs.append(now.epoch),
    )
    return _case("train_sae", device, "float32", size, options.rows / min(e.seconds for e in epochs))


def _forget_memory(device: str) -> None:
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()


def _case(stage: str, device: str, dtype: str, batch_size: int, rate: float) -> dict[str, Any]:
    held = None if device == "cpu" else round(torch.cuda.max_memory_allocated() / 2**30, 2)
    known = {"stage": stage, "device": device, "dtype": dtype, "batch_size": batch_size}
    return {**known, "per_s": float(f"{rate:.3g}"), "memory_gib": held}


def _names() -> dict[str, str]:
    gpu = {"cuda": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {"cpu": f"{os.cpu_count()} x {platform.machine()}, {torch.get_num_threads()} threads", **gpu}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    found = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--devices", nargs="+", default=found)
    parser.add_argument("--dtypes", nargs="+", default=["float32"], help="precisions to embed in")
    parser.add_argument("--backends", nargs="+", default=["torch"], help="what computes embeddings")
    parser.add_argument("--batch-sizes", type=int, nargs="*", default=[512], help="rows per step of training")
    parser.add_argument("--model", default=Embed().model)
    numbers = {
        "words": 90,
        "embed_batch": 64,
        "seconds": 10,
        "rows": 100_000,
        "dim": 384,
        "neurons": 1024,
        "k": 8,
    }
    for name, default in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    return parser.parse_args()


if __name__ == "__main__":
    main()
