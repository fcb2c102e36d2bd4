"""Stage `interpret`: candidate sentences for each selected neuron, written from texts that make it fire.

What a model wrote is kept as it comes, a file per task, so that a run that is stopped asks only for the rest.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from hypsae_ray import schema
from hypsae_ray.artifacts import Outcome
from hypsae_ray.boundary import Answer, LanguageModel, NamingPrompt, Pool, Sampling, Usage
from hypsae_ray.config import Interpret
from hypsae_ray.core.cuts import Cut
from hypsae_ray.core.prompts import parse_name, truncate_words
from hypsae_ray.core.sampling import naming_examples
from hypsae_ray.schema import UNANSWERED, Status
from hypsae_ray.stages.corpus import Corpus, read_corpus, read_texts_by_id
from hypsae_ray.stages.tries import KeepingPool, RetryingPool
from hypsae_ray.stages.workspace import Track, Workspace

PROMPTS_PER_TASK = 32


@dataclass(frozen=True)
class Ask:
    """One candidate to be written: for which neuron, and from which texts (row ids)."""

    neuron_idx: int
    candidate: int
    positives: tuple[int, ...]
    negatives: tuple[int, ...]

    @property
    def possible(self) -> bool:
        """Whether there are texts of both kinds."""
        return bool(self.positives and self.negatives)


def run(work: Workspace) -> Outcome:
    """Write candidates with the rows each was written from; facts: how many of each status, texts shown."""
    options = work.config.naming
    selection = work.inputs["select"].folder.read_table("selection.parquet").to_pandas()
    neurons = selection.dropna(subset="rank").sort_values("rank")["neuron_idx"]
    asks = plan(read_corpus(work), neurons.tolist(), options)
    texts = read_texts_by_id(work, {i for ask in asks for i in (*ask.positives, *ask.negatives)})
    llm = work.config.interpreter
    pool = RetryingPool(work.engines.language_model(llm), work.say, _describe, llm.replicas.max)
    kept = KeepingPool(pool, work.out, dump_answers, load_answers)
    candidates, usage = write_candidates(kept, asks, texts, options, work.track)
    table = pa.Table.from_pandas(candidates, schema=schema.CANDIDATES, preserve_index=False)
    work.out.write_table("candidates.parquet", table)
    shown = [len(ask.positives) + len(ask.negatives) for ask in asks if ask.possible]
    facts = {
        "statuses": count_statuses(candidates["status"]),
        "texts_shown": float(np.median(shown)) if shown else None,
        "cut": Cut.at_words(texts.values(), options.max_words).facts(),
    }
    return Outcome(len(candidates), usage, facts=facts)


def plan(corpus: Corpus, neurons: Sequence[int], options: Interpret) -> list[Ask]:
    """Choose the texts for each candidate of each neuron, seeded for each neuron on its own."""
    asks = []
    for neuron in neurons:
        rng = np.random.default_rng([options.seed, neuron])
        for c, examples in enumerate(naming_examples(corpus.activation(neuron), options, rng)):
            shown = (corpus.row_ids[rows].tolist() for rows in (examples.positives, examples.negatives))
            asks.append(Ask(neuron, c, *map(tuple, shown)))
    return asks


def write_candidates(
    pool: Pool[LanguageModel],
    asks: Sequence[Ask],
    texts: Mapping[int, str],
    options: Interpret,
    track: Track,
) -> tuple[pd.DataFrame, Usage]:
    """Have a model write every candidate.

    Args:
        pool: where the model is.
        asks: what `plan` returned.
        texts: text by row id.
        options: wording, cutting and sampling.
        track: progress.

    Returns:
        The candidates table, in the order of `asks`, and the tokens used. Candidates of a task that failed
        each time are SET_ASIDE.
    """
    possible = [k for k, ask in enumerate(asks) if ask.possible]
    prompts = [(k, to_prompt(asks[k], texts, options)) for k in possible]
    chunks = [prompts[i : i + PROMPTS_PER_TASK] for i in range(0, len(prompts), PROMPTS_PER_TASK)]
    answers = [Answer("", Status.NO_EXAMPLES)] * len(asks)
    for done in track(pool.map(generate, chunks, _set_aside) if chunks else (), len(chunks), "task"):
        for k, answer in done:
            answers[k] = answer
    rows = [_row(ask, answer) for ask, answer in zip(asks, answers, strict=True)]
    usage = reduce(add, (answer.usage for answer in answers), Usage())
    return pd.DataFrame(rows, columns=schema.CANDIDATES.names), usage


def to_prompt(ask: Ask, texts: Mapping[int, str], options: Interpret) -> NamingPrompt:
    """Return the prompt of one candidate, with a sampling seed of its own."""
    seed = int(np.random.SeedSequence([options.seed, ask.neuron_idx, ask.candidate]).generate_state(1)[0])
    return NamingPrompt(
        positives=tuple(truncate_words(texts[i], options.max_words) for i in ask.positives),
        negatives=tuple(truncate_words(texts[i], options.max_words) for i in ask.negatives),
        instructions=options.instructions,
        sampling=Sampling(options.temperature, options.max_tokens, seed % 2**31, options.thinking),
    )


def generate(model: LanguageModel, task: list[tuple[int, NamingPrompt]]) -> list[tuple[int, Answer]]:
    """Answer the prompts of one task; each keeps its number."""
    answers = model.generate([prompt for _, prompt in task])
    return [(k, answer) for (k, _), answer in zip(task, answers, strict=True)]


def dump_answers(done: list[tuple[int, Answer]]) -> bytes | None:
    """Return the answers of a task as JSON; None if some got none: the next run asks again."""
    if any(answer.status in UNANSWERED for _, answer in done):
        return None
    rows = [(k, answer.text, int(answer.status), vars(answer.usage)) for k, answer in done]
    return json.dumps(rows).encode()


def load_answers(content: bytes) -> list[tuple[int, Answer]]:
    """Return what `dump_answers` wrote."""
    rows = json.loads(content)
    return [(k, Answer(text, Status(status), Usage(**usage))) for k, text, status, usage in rows]


def _set_aside(task: list[tuple[int, NamingPrompt]], _reason: str) -> list[tuple[int, Answer]]:
    return [(k, Answer("", Status.SET_ASIDE)) for k, _ in task]


def _describe(task: list[tuple[int, NamingPrompt]]) -> str:
    return f"{len(task)} candidates"


def read_answer(answer: Answer) -> tuple[str | None, Status]:
    """Return the sentence in an answer, and a status that says why there is none.

    Of an answer that hit its token limit, the lines that had ended are still good.
    """
    if answer.status not in (Status.OK, Status.TRUNCATED):
        return None, answer.status
    cut = answer.status == Status.TRUNCATED
    name = parse_name(answer.text.rpartition("\n")[0] if cut else answer.text)
    if name is None:
        return None, Status.TRUNCATED if cut else Status.UNPARSABLE
    return name, Status.OK


def _row(ask: Ask, answer: Answer) -> dict[str, Any]:
    name, status = read_answer(answer)
    return {
        "neuron_idx": ask.neuron_idx,
        "candidate": ask.candidate,
        "interpretation": name,
        "status": int(status),
        "positives": list(ask.positives),
        "negatives": list(ask.negatives),
    }


def count_statuses(statuses: Iterable[int]) -> dict[str, int]:
    """Return how often each status stands in a column, by lower-case name."""
    counts = Counter(Status(code) for code in statuses)
    return {status.name.lower(): counts[status] for status in sorted(counts)}
