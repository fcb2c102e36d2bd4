"""`hypothesaes` 2.0.1 in bench_discovery.py: its own functions, prompts and defaults, against `vllm serve`.

The server has the engine arguments of ours; texts, embeddings, M, K and number of hypotheses are the same.
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from discovery_systems import Draw, Found, Rows, Sizes
from kept import Kept
from vllm_server import SERVED, serve, served

from hypsae_ray.config import Llm, TrainSae

NAMING_TOKENS, SCORING_TOKENS = 64, 64
"""Of the reference, which has no limit: a small model may write on until its context is full."""


class Server:
    """`vllm serve`, started when it is first asked, ended by `close`."""

    def __init__(self, llm: Llm) -> None:
        self._llm, self._stack = llm, ExitStack()

    @cached_property
    def url(self) -> str:
        """Where it listens; the reference's client is pointed to it."""
        url = self._stack.enter_context(serve(self._llm))
        os.environ["OPENAI_BASE_URL"] = f"{url}/v1"
        return url

    def close(self) -> None:
        """End it, if it was started."""
        self._stack.close()


@dataclass(frozen=True)
class Reference:
    """`hypothesaes` 2.0.1 in one draw.

    Sentences are scored one by one: an answer that it cannot read after three tries ends its scoring with a
    KeyError, and the fidelity of that sentence is unknown then.

    Attributes:
        draw, sizes, llm: as for ours.
        method: of its `select_neurons`.
        scored: whether sentences are scored; needless where each neuron has one.
        kept: its answers.
    """

    draw: Draw
    sizes: Sizes
    llm: Llm
    method: str
    scored: bool
    kept: Kept

    def found(self, rows: Mapping[str, Rows], server: Server) -> Found:
        """Train, select, name and score.

        Raises:
            TimeoutError: time is up.
        """
        frame = rows["train"].frame
        with redirect_stdout(sys.stderr):
            activations = self._activations(rows)
            neurons = self._select(activations, frame["target"].to_numpy(dtype=float))
            named, scores = self._sentences(frame["text"].tolist(), activations, neurons, server)
        parts = [named, *scores.values()]
        f1 = {neuron: dict.fromkeys(filter(None, named["found"][str(neuron)]), np.nan) for neuron in neurons}
        f1 |= {neuron: scored["found"] for neuron, scored in scores.items()}
        return Found(
            system="reference",
            seed=self.draw.seed,
            hypotheses=pd.DataFrame([_best(neuron, f1[neuron]) for neuron in neurons]),
            firing=activations > 0,
            prompt=sum(part["prompt"] for part in parts),
            generated=sum(part["generated"] for part in parts),
            naming_s=named["seconds"],
            scoring_s=sum(part["seconds"] for part in scores.values()),
        )

    def _select(self, activations: np.ndarray, target: np.ndarray) -> list[int]:
        from hypothesaes.select_neurons import select_neurons

        classes = bool(np.isin(target, (0, 1)).all())
        n = self.sizes.hypotheses
        neurons, _ = select_neurons(activations, target, n, self.method, classification=classes)
        return [int(neuron) for neuron in neurons]

    def _sentences(
        self, texts: list[str], activations: np.ndarray, neurons: list[int], server: Server
    ) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
        """Return the sentences by neuron, and their F1 by neuron; each with what it took."""
        key = f"{self.draw.folder.name} {self.llm.model} {self.llm.dtype} {self.method} {self.sizes}"
        named = self.kept.get(key, ["names"], lambda _: [self._name(texts, activations, neurons, server)])
        sentences = named["names"]["found"]

        def score(asked: list[str]) -> list[dict[str, Any]]:
            return [self._score(texts, activations, int(n), sentences[n], server) for n in asked]

        scores = {
            neuron: self.kept.get(f"{key} scores", [str(neuron)], score)[str(neuron)]
            for neuron in (neurons if self.scored else ())
        }
        return named["names"], scores

    def _activations(self, rows: Mapping[str, Rows]) -> np.ndarray:
        """Train its SAE, or load the one that it kept; return activations of the training texts, (n, M)."""
        from hypothesaes.quickstart import train_sae

        shape = TrainSae(n_neurons=self.sizes.neurons, k=self.sizes.k).sized(len(rows["train"].frame)).shape
        torch.manual_seed(self.draw.seed)  # it takes none
        sae = train_sae(
            rows["train"].vectors,
            shape.n_neurons,
            shape.k,
            matryoshka_prefix_lengths=list(shape.prefix_lengths),
            val_embeddings=rows["val"].vectors,
            checkpoint_dir=str(self.draw.folder / "reference-sae"),
            show_progress=False,
        )
        return sae.get_activations(rows["train"].vectors, show_progress=False)

    def _interpreter(self, server: Server) -> Any:
        from hypothesaes.interpret_neurons import NeuronInterpreter

        assert server.url, "the client reads its address when it is made"
        return NeuronInterpreter(interpreter_model=self.llm.model, annotator_model=self.llm.model)

    def _name(
        self, texts: list[str], activations: np.ndarray, neurons: list[int], server: Server
    ) -> dict[str, Any]:
        from hypothesaes.interpret_neurons import InterpretConfig, LLMConfig, SamplingConfig

        config = InterpretConfig(
            sampling=SamplingConfig(n_examples=self.sizes.naming_examples),
            llm=LLMConfig(temperature=0.7, max_output_tokens=NAMING_TOKENS),  # of its `generate_hypotheses`
            n_candidates=self.sizes.candidates,
        )
        interpreter = self._interpreter(server)
        with _measured(server) as cost:
            found = interpreter.interpret_neurons(texts, activations, neurons, config)
        return {"found": {str(n): names for n, names in found.items()}, **cost}

    def _score(
        self, texts: list[str], activations: np.ndarray, neuron: int, names: list[str], server: Server
    ) -> dict[str, Any]:
        from hypothesaes.interpret_neurons import ScoringConfig

        interpreter, scoring = (
            self._interpreter(server),
            ScoringConfig(n_examples=self.sizes.scoring_examples),
        )
        found: dict[str, float] = {}
        with _measured(server) as cost:
            for name in filter(None, names):
                try:
                    scored = interpreter.score_interpretations(
                        texts,
                        activations,
                        {neuron: [name]},
                        scoring,
                        show_progress=False,
                        max_output_tokens=SCORING_TOKENS,
                    )
                    found[name] = float(scored[neuron][name]["f1"])
                except KeyError:
                    found[name] = float("nan")
        return {"found": found, **cost}


def _best(neuron: int, f1: Mapping[str, float]) -> dict[str, Any]:
    """Return the sentence with the highest fidelity; of those without any, the first."""
    best = max(f1, key=lambda name: np.nan_to_num(f1[name], nan=-1.0), default=None)
    fidelity = np.nan if best is None else f1[best]
    return {"neuron_idx": neuron, "interpretation": best, "threshold": 0.5, "f1_fidelity_score": fidelity}


@contextmanager
def _measured(server: Server) -> Iterator[dict[str, Any]]:
    """Yield a dictionary that holds seconds and tokens once the block has ended."""
    cost: dict[str, Any] = {}
    before, started = served(server.url), time.monotonic()
    yield cost
    after = served(server.url)
    prompt, _, generated = (int(after[name] - before[name]) for name in SERVED)
    cost |= {"seconds": time.monotonic() - started, "prompt": prompt, "generated": generated}
