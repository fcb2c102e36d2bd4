"""What is to be labelled: the distinct texts, the pairs that are not answered yet, and what they will cost.

What is left to do is what is wanted less what the names of finished shards say is answered. Memory holds
24 bytes per distinct text and a bit per row (with a mask, a byte per pair), beside one table at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from heapq import nsmallest
from typing import Any

import numpy as np
import pyarrow as pa

from hypsae_ray.cluster.engines import Engines
from hypsae_ray.config import Annotate, Label, Llm
from hypsae_ray.data.arrays import hash_ids, largest_drawn
from hypsae_ray.data.chunks import documents_of
from hypsae_ray.data.mask import Mask
from hypsae_ray.data.words import truncate_words
from hypsae_ray.labels.annotations import PART_ROWS, Answers, Part, Shard, Texts, by_part
from hypsae_ray.labels.pairs import Pairs, blocks
from hypsae_ray.labels.text_index import UNKNOWN, Places
from hypsae_ray.models.prompts.sharing import LAYOUTS, Estimate, Layout, Lengths, estimate
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.progress import read_beat

SAMPLE = 1024


@dataclass(frozen=True)
class Job:
    """Texts, questions, and who is to be asked.

    Attributes:
        rows: folder of the tables of rows: row_id, text_id (hex), text; both null where a row has no text.
        prefix: what the names of these tables begin with.
        questions: one per hypothesis; None where it has no sentence, two may be equal.
        llm: the model.
        label: how it is asked.
        options: shards, cuts, tries.
        labeller: what decides an answer beside text, question, layout and cut, JSON-ready.
        answers: folder in which all answers of a run are kept.
        out: where the annotations go.
        chunked: rows are chunks of documents, which are drawn whole.
        up_to: the largest hash of a row that is labelled, where time is limited; None: all that are drawn.
    """

    rows: Folder
    prefix: str
    questions: tuple[str | None, ...]
    llm: Llm
    label: Label
    options: Annotate
    labeller: Mapping[str, Any]
    answers: Folder
    out: Folder
    chunked: bool = False
    up_to: np.uint64 | None = None

    @property
    def distinct(self) -> tuple[str, ...]:
        """Each question once."""
        return tuple(dict.fromkeys(question for question in self.questions if question is not None))

    @property
    def columns(self) -> list[int | None]:
        """The position of each hypothesis' question in `distinct`."""
        position = {question: i for i, question in enumerate(self.distinct)}
        return [None if question is None else position[question] for question in self.questions]

    def tables(self, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
        """Yield the tables of rows with their names; of more than max_rows those that are drawn."""
        limits = [limit for limit in (self._largest_drawn, self.up_to) if limit is not None]
        for name in self.rows.names(self.prefix, ".parquet"):
            table = self.rows.read_table(name, list({*columns, "row_id"}))
            if limits:
                table = table.filter(self.hashes(table) <= min(limits))
            if len(table):
                yield name, table.select(list(columns))

    @property
    def n_rows(self) -> int:
        """How many rows are labelled."""
        return sum(len(table) for _, table in self.tables(["row_id"]))

    @cached_property
    def _largest_drawn(self) -> np.uint64 | None:
        """The largest hash of a row that is drawn; None: all are."""
        size, tables = self.options.max_rows, self.rows.tables(self.prefix, ["row_id"])
        if size is None:
            return None
        hashes = np.unique(np.concatenate([self.hashes(table) for table in tables]))
        return largest_drawn(hashes, size) if size < len(hashes) else None

    def hashes(self, table: pa.Table) -> np.ndarray:
        """The hash of what each row is drawn by, (n,): itself, or its document."""
        row_ids = table["row_id"].to_numpy()
        return hash_ids(documents_of(row_ids) if self.chunked else row_ids)


@dataclass(frozen=True)
class Plan:
    """What is to be asked.

    Attributes:
        job: for whom.
        mask: the pairs that may be asked; None: all.
        texts: the distinct texts.
        wanted: by position of a part, the pairs (rows, H), or (rows, 1) for all questions alike.
        lengths: tokens in the parts of prompts, of a sample of the texts.
        label: how to ask, the layout settled.
        answers: where the answers are.
        shards: how many shards are to be computed.
        pairs: pairs in them.
        answered: wanted pairs that are answered already.
    """

    job: Job
    mask: Mask | None
    texts: Texts
    wanted: Mapping[int, Pairs]
    lengths: Lengths
    label: Label
    answers: Answers
    shards: int
    pairs: int
    answered: int

    @property
    def estimate(self) -> Estimate:
        """Pairs and tokens of the shards to be computed."""
        return estimate(self.lengths, self.pairs, _layout(self.label))

    @property
    def n_texts(self) -> int:
        """Distinct texts that are to be labelled, answered or not."""
        return sum(int(pairs.any(axis=1).sum()) for pairs in self.wanted.values())

    @property
    def rate(self) -> float | None:
        """Pairs per second of a replica, as the config says or the last job of this labeller measured."""
        if self.job.options.rate:
            return self.job.options.rate
        beat = read_beat(self.job.answers)
        known = beat is not None and beat.labeller == self.answers.folder.name and beat.pairs > 0
        return beat.rate / max(beat.workers, 1) if beat is not None and known else None

    def todo(self) -> Iterator[Shard]:
        """Yield the shards to compute; what they ask is written down as they come."""
        for part, pairs in _missing(self.job, self.texts, self.wanted, self.answers):
            for block in blocks(pairs, self.job.options.shard_rows):
                yield self.answers.shard(part, block, self.job.distinct)


def make_plan(job: Job, engines: Engines) -> Plan:
    """Register the texts, settle the layout, and find what is to be done.

    Raises:
        InputError: there is a mask, but it cannot be used.
        ModelError: the model is not found.
    """
    mask = Mask.read(job.options.mask, len(job.questions)) if job.options.mask else None
    texts, sample = _register(job)
    lengths = engines.lengths(job.llm, job.label, sample, job.distinct)
    label, answers = _settle(job, lengths)
    return _count(Plan(job, mask, texts, {}, lengths, label, answers, 0, 0, 0))


def _count(plan: Plan) -> Plan:
    """Return a plan with what its job wants, and how much of it is to be done."""
    job, texts, answers = plan.job, plan.texts, plan.answers
    wanted = _wanted(job, texts, plan.mask)
    asked = [
        block.asked
        for _, pairs in _missing(job, texts, wanted, answers)
        for block in blocks(pairs, job.options.shard_rows)
    ]
    n_pairs = sum(int(pairs.sum()) for pairs in asked)
    every = sum(int(pairs.sum()) * (len(job.distinct) // pairs.shape[1]) for pairs in wanted.values())
    return replace(plan, wanted=wanted, shards=len(asked), pairs=n_pairs, answered=every - n_pairs)


def first_rows(plan: Plan, n_pairs: float) -> Plan:
    """Return the plan of the rows that come first by their hash and lack so many answers, at least one row.

    Args:
        plan: of all rows; what was answered since it was made is seen.
        n_pairs: answers to ask for. Rows that have all of theirs are in as well, up to the last one asked.
    """
    plan.answers.refresh()
    missing = _missing(plan.job, plan.texts, plan.wanted, plan.answers)
    lacks = {
        position: pairs.sum(axis=1) for position, (_, pairs) in zip(sorted(plan.wanted), missing, strict=True)
    }
    tables = [_lacking(plan, table, lacks) for _, table in plan.job.tables(["row_id", "text_id"])]
    hashes, lacking = (np.concatenate(column) for column in zip(*tables, strict=True))
    order = np.argsort(hashes, kind="stable")
    asked = np.cumsum(lacking[order])
    limit = max(n_pairs, asked[np.argmax(asked > 0)])  # one row at least
    last = int(np.searchsorted(asked, limit, side="right")) - 1
    return _count(replace(plan, job=replace(plan.job, up_to=hashes[order][last])))


def _lacking(plan: Plan, table: pa.Table, lacks: Mapping[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the hash of each row of a table (n,), and how many answers about its text are missing (n,)."""
    missing = np.zeros(len(table), dtype=np.int64)
    for position, mine, rows in by_part(find_places(plan.texts, table)):
        missing[mine] = lacks[position][rows]
    return plan.job.hashes(table), missing


def describe(plan: Plan) -> str:
    """Return in one line what is to be asked, and what it takes."""
    tokens, price = plan.estimate, plan.job.options.price_per_hour
    words = [f"{plan.n_texts:,} texts x {len(plan.job.distinct):,} questions", f"{plan.pairs:,} pairs to ask"]
    if plan.answered:
        words[-1] += f" ({plan.answered:,} more are answered already)"
    if tokens.prompt_tokens:
        words.append(f"about {tokens.prompt_tokens:,} prompt tokens ({tokens.computed_tokens:,} not shared)")
    words.append(f"{plan.shards:,} shards")
    if plan.pairs and (minutes := plan.job.options.max_minutes):
        words.append(f"as many rows as fit {minutes:g} min (annotate.max_minutes)")
    if plan.rate and plan.pairs:
        hours = tokens.hours(plan.rate)
        words.append(f"{hours:,.2f} replica hours at {plan.rate:,.1f} pairs per second")
        words += [] if price is None else [f"at a price of {hours * price:,.2f}"]
    if plan.job.label.layout == "auto" and plan.lengths.block and plan.lengths.pairs:
        words.append(f"{plan.label.layout} (tokens to compute per pair: {_per_pair(plan.lengths)})")
    return ", ".join(words)


def _settle(job: Job, lengths: Lengths) -> tuple[Label, Answers]:
    """Return how to ask and where such answers are; answers that are there already decide an `auto`."""
    stores: dict[Layout, Answers] = {layout: _answers(job, layout) for layout in LAYOUTS}
    begun: list[Layout] = [layout for layout in LAYOUTS if stores[layout].begun]
    layout: Layout = _layout(job.label)
    if job.label.layout == "auto":
        layout = begun[0] if len(begun) == 1 else lengths.cheaper
    return job.label.model_copy(update={"layout": layout}), stores[layout]


def _layout(label: Label) -> Layout:
    return "question_first" if label.layout == "question_first" else "text_first"


def _per_pair(lengths: Lengths) -> str:
    cost = {layout: (lengths.prompts - lengths.cached(layout)) / lengths.pairs for layout in LAYOUTS}
    return ", ".join(f"{tokens:.0f} {layout}" for layout, tokens in cost.items())


def _answers(job: Job, layout: Layout) -> Answers:
    decides = {**job.labeller, "layout": layout, "max_words": job.options.max_words}
    return Answers(job.answers, decides)


def _register(job: Job) -> tuple[Texts, list[str]]:
    """Take in all texts; return them, and a sample: those with the least hashes, which is a random one."""
    texts = Texts(job.answers)
    least: dict[bytes, str] = {}
    part_rows = max(1, PART_ROWS // job.options.shard_rows) * job.options.shard_rows
    for _, table in job.tables(["text_id", "text"]):
        there = table.filter(table["text_id"].is_valid())
        found = dict(
            zip(map(bytes.fromhex, there["text_id"].to_pylist()), there["text"].to_pylist(), strict=True)
        )
        texts.add(found, part_rows)
        least |= found
        least = {text_id: least[text_id] for text_id in nsmallest(SAMPLE, least)}
    texts.flush()
    return texts, [truncate_words(text, job.options.max_words) for text in least.values()]


def _wanted(job: Job, texts: Texts, mask: Mask | None) -> dict[int, Pairs]:
    """Return the pairs that are wanted of each part, by its position."""
    wanted: dict[int, Pairs] = {}
    for _, table in job.tables(["row_id", "text_id"]):
        places, pairs = find_places(texts, table), _asked(job, table, mask)
        for position, mine, rows in by_part(places):
            shape = (texts.parts[position].rows, pairs.shape[1])
            held = wanted.setdefault(position, np.zeros(shape, dtype=bool))
            np.logical_or.at(held, rows, pairs[mine])
    return wanted


def _asked(job: Job, table: pa.Table, mask: Mask | None) -> Pairs:
    """Return which distinct questions each row is asked: (n, H), or (n, 1) for all alike."""
    if mask is None:
        return np.ones((len(table), 1), dtype=bool)
    by_hypothesis = mask.of(table["row_id"].to_numpy(), len(job.questions))
    asked = np.zeros((len(table), len(job.distinct)), dtype=bool)
    for hypothesis, column in enumerate(job.columns):
        if column is not None:
            asked[:, column] |= by_hypothesis[:, hypothesis]
    return asked


def find_places(texts: Texts, table: pa.Table) -> Places:
    """Return where the text of each row of a table is; UNKNOWN where a row has none."""
    ids = table["text_id"].to_pylist()
    places = np.full(len(ids), UNKNOWN, dtype=np.int64)
    there = [i for i, text_id in enumerate(ids) if text_id is not None]
    places[there] = texts.find([bytes.fromhex(ids[i]) for i in there])
    return places


def _missing(
    job: Job, texts: Texts, wanted: Mapping[int, Pairs], answers: Answers
) -> Iterator[tuple[Part, Pairs]]:
    """Yield the parts with the pairs (rows, H) that are wanted and not answered."""
    for position, pairs in sorted(wanted.items()):
        part = texts.parts[position]
        yield part, pairs & ~answers.done(part, job.distinct)
