"""Stage `interpret`: candidate sentences for each selected neuron, written from texts that make it fire.

Candidates take turns with two questions: what do all texts say, each in its own words, and which topic do
they share? The first finds moods, the second subjects (jobs/README.md). The first is asked about the texts
that fire most, the second about a draw of others, which are less alike (`AdvancedInterpret`); fidelity
decides. A candidate that is no finding (`neurons.names.says_something`), or copies one of its texts, is asked
for again, from the same texts with the other question and another seed; a copy stays if nothing better comes.
What a model wrote is kept as it comes, a file per task, so that a run that is stopped asks only for the rest.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from hypsae_ray.config import Interpret
from hypsae_ray.data.words import Cut, truncate_words
from hypsae_ray.labels.retries import KeepingPool, RetryingPool
from hypsae_ray.labels.work import count_statuses
from hypsae_ray.models.pool import Pool
from hypsae_ray.models.protocols import Answer, LanguageModel, NamingPrompt, Prompt, Sampling
from hypsae_ray.neurons.corpus import Corpus
from hypsae_ray.neurons.names import copies_a_text, parse_name, says_something
from hypsae_ray.neurons.sampling import naming_examples
from hypsae_ray.stages.workspace import Track, Workspace, read_corpus, read_texts_by_id
from hypsae_ray.store import schema
from hypsae_ray.store.artifacts import Outcome
from hypsae_ray.store.schema import UNANSWERED, Status
from hypsae_ray.store.usage import Usage

PROMPTS_PER_TASK = 32
TRIES = 3  # of a candidate
ASKED_AGAIN = (Status.NO_FINDING, Status.UNPARSABLE, Status.TRUNCATED)
Prompts = list[tuple[int, Prompt]]


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


@dataclass(frozen=True)
class Candidate:
    """A sentence, or a status that tells why there is none, after so many tries."""

    interpretation: str | None
    status: Status
    tries: int = 0


def run(work: Workspace) -> Outcome:
    """Write candidates with the rows each was written from; facts: how many of each status, texts shown."""
    options = work.config.naming
    selection = work.inputs["select"].read_table("selection.parquet").to_pandas()
    neurons = selection.dropna(subset="rank").sort_values("rank")["neuron_idx"]
    asks = plan(read_corpus(work), neurons.tolist(), options)
    texts = read_texts_by_id(work, {i for ask in asks for i in (*ask.positives, *ask.negatives)})
    candidates, usage = write_candidates(open_namer(work), asks, texts, options, work.track)
    work.write("candidates.parquet", candidates, schema.CANDIDATES)
    shown = [len(ask.positives) + len(ask.negatives) for ask in asks if ask.possible]
    if unusable := int(candidates["status"].isin(ASKED_AGAIN).sum()):
        work.say(f"interpret: {unusable} of {len(candidates)} candidates are no finding after {TRIES} tries")
    facts = {
        "statuses": count_statuses(candidates["status"].to_numpy()),
        "asked_again": int((candidates["tries"] - 1).clip(lower=0).sum()),
        "texts_shown": float(np.median(shown)) if shown else None,
        "cut": Cut.at_words(texts.values(), options.max_words).facts(),
    }
    return Outcome(len(candidates), usage, facts=facts)


def open_namer(work: Workspace) -> Pool[LanguageModel]:
    """Open the model that names neurons; what it answers is kept in the folder of the stage."""
    llm = work.config.interpreter
    model = work.engines.language_model(llm)
    pool = RetryingPool(model, work.say, lambda task: f"{len(task)} candidates", llm.replicas.max)
    return KeepingPool(pool, work.out, dump_answers, load_answers)


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
    """Have a model write every candidate, from texts by row id.

    Returns:
        The candidates table, in the order of `asks`, and the tokens used. Candidates of a task that failed
        each time are PENDING; those that are no finding after `TRIES` tries have the status of the last one.
    """
    found = [Candidate(None, Status.NO_EXAMPLES)] * len(asks)
    left, usage = [k for k, ask in enumerate(asks) if ask.possible], Usage()
    for attempt in range(TRIES):
        prompts = {k: to_prompt(asks[k], texts, options, attempt) for k in left}
        for k, answer in _ask(pool, list(prompts.items()), track):
            now = Candidate(*read_answer(answer, options.instructions), attempt + 1)
            found[k] = replace(_better(now, found[k]), tries=attempt + 1)
            usage += answer.usage
        left = [k for k in left if _to_improve(found[k], prompts[k])]
    rows = [vars(ask) | vars(candidate) for ask, candidate in zip(asks, found, strict=True)]
    return pd.DataFrame(rows, columns=schema.CANDIDATES.names), usage


def _better(now: Candidate, before: Candidate) -> Candidate:
    """Return a candidate asked for again, or the copy of a text that it was to replace, if it is nothing."""
    return before if now.interpretation is None and before.interpretation is not None else now


def _to_improve(found: Candidate, prompt: NamingPrompt) -> bool:
    if found.interpretation is None:
        return found.status in ASKED_AGAIN
    return copies_a_text(found.interpretation, prompt.positives)


def _ask(pool: Pool[LanguageModel], prompts: Prompts, track: Track) -> Iterator[tuple[int, Answer]]:
    """Yield the answer to each prompt by its number."""
    chunks = [prompts[i : i + PROMPTS_PER_TASK] for i in range(0, len(prompts), PROMPTS_PER_TASK)]
    for done in track(pool.map(generate, chunks, pending), len(chunks), "task") if chunks else ():
        yield from done


def to_prompt(ask: Ask, texts: Mapping[int, str], options: Interpret, attempt: int = 0) -> NamingPrompt:
    """Return the prompt of one candidate, with a sampling seed of its own; another one for each attempt."""
    entropy = np.random.SeedSequence([options.seed, ask.neuron_idx, ask.candidate, attempt])
    seed, rng = int(entropy.generate_state(1)[0]), np.random.default_rng(entropy)

    def shown(rows: tuple[int, ...]) -> tuple[str, ...]:
        greedy_again = attempt and not options.temperature  # else the prefix cache may hold the prompt
        order = rng.permutation(len(rows)) if greedy_again else range(len(rows))
        return tuple(truncate_words(texts[rows[i]], options.max_words) for i in order)

    return NamingPrompt(
        positives=shown(ask.positives),
        negatives=shown(ask.negatives),
        instructions=options.instructions,
        sampling=Sampling(options.temperature, options.max_tokens, seed % 2**31, options.thinking),
        broad=(ask.candidate + attempt) % 2 == 0,
    )


def generate(model: LanguageModel, task: Prompts) -> list[tuple[int, Answer]]:
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


def pending(task: Prompts, _reason: str) -> list[tuple[int, Answer]]:
    """Return the answers of a task that got none."""
    return [(k, Answer("", Status.PENDING)) for k, _ in task]


def read_answer(answer: Answer, instructions: str = "") -> tuple[str | None, Status]:
    """Return the sentence in an answer, and a status that says why there is none.

    Of an answer that hit its token limit, a sentence that had ended is still good. `instructions` are the
    user's part of the prompt, which an answer must not repeat either.
    """
    if answer.status not in (Status.OK, Status.TRUNCATED):
        return None, answer.status
    name, cut = parse_name(answer.text), answer.status == Status.TRUNCATED
    if name is None or (cut and answer.text.rstrip().endswith(name)):
        return None, Status.TRUNCATED if cut else Status.UNPARSABLE
    return (name, Status.OK) if says_something(name, instructions) else (None, Status.NO_FINDING)
