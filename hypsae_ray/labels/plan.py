"""What is to be labelled: the distinct texts, the pairs that are not annotated yet, and what they will cost.

What is left to do is what is wanted less what the names of finished shards say is annotated. Memory holds
8 bytes per row and a byte per distinct text (with a mask, per pair), while texts are registered 60 bytes of
each, and one table at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from hypsae_ray.config import Annotate, Label, Llm
from hypsae_ray.data.arrays import Ints, hash_ids, largest_drawn
from hypsae_ray.data.chunks import documents_of
from hypsae_ray.data.mask import Mask
from hypsae_ray.data.words import truncate_words
from hypsae_ray.labels.annotations import AnnotationStore
from hypsae_ray.labels.draw import DrawnRows
from hypsae_ray.labels.shards import Pairs, Shard, cut
from hypsae_ray.labels.texts import FILE_ROWS, Positions, TextFile, register, slices
from hypsae_ray.models.prompts.lengths import LAYOUTS, Estimate, Layout, Lengths, estimate, measure
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.progress import read_heartbeat


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
        labeller: what decides an annotation other than text, question, layout and cut, JSON-ready.
        answers: folder in which all annotations of a run are kept.
        out: where the annotations go.
        chunked: rows are chunks of documents, or texts of pairs, which are drawn whole.
        first_only: of a sample in waves, label the first one.
        up_to: the largest hash of a row that is labelled, where time is limited; None: all that are drawn.
        drawn: the rows of all waves, once they are known.
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
    first_only: bool = False
    up_to: np.uint64 | None = None
    drawn: DrawnRows | None = None

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
        """Yield the tables of rows with their names, of a sample the rows that are drawn."""
        limit = self._limit[0]
        for name in self.rows.names(self.prefix, ".parquet"):
            table = self.rows.read_table(name, list({*columns, "row_id"}))
            if self.drawn is not None:
                table = table.filter(self.drawn.positions(table["row_id"].to_numpy())[0])
            elif limit is not None:
                table = table.filter(self.hashes(table) <= limit)
            if len(table):
                yield name, table.select(list(columns))

    @property
    def is_sample(self) -> bool:
        """Whether rows have a probability to be labelled."""
        return self.options.sample is not None or self.drawn is not None

    def drawn_columns(self, row_ids: Ints) -> dict[str, np.ndarray]:
        """Return the probability of labelled rows (n,) to be drawn, and whether they were drawn uniformly."""
        if self.drawn is not None:
            at = self.drawn.positions(row_ids)[1]
            return {"probability": self.drawn.probability[at], "uniform": self.drawn.uniform[at]}
        share = self._limit[1]
        return {"probability": np.full(len(row_ids), share), "uniform": np.ones(len(row_ids), dtype=bool)}

    @cached_property
    def _limit(self) -> tuple[np.uint64 | None, float]:
        """The largest hash of a row that is labelled, None if all are; and the share of rows that are."""
        sample, limit = self.options.sample, self.up_to
        if limit is None and sample is None:
            return None, 1.0
        tables = self.rows.tables(self.prefix, ["row_id"])
        hashes = np.sort(np.concatenate([self.hashes(table) for table in tables]))
        # Each once. np.unique of numpy 2.3 takes 17 s and 470 MB for 10 million; this a fifth of a second.
        hashes = hashes[np.diff(hashes, prepend=~hashes[:1]) != 0]
        if limit is None and sample is not None:
            size = sample.size(len(hashes))
            size = min(sample.first, size) if self.first_only else size
            limit = largest_drawn(hashes, size) if size < len(hashes) else None
        return limit, 1.0 if limit is None else float((hashes <= limit).mean())

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
        files: of the distinct texts.
        positions: (n,) of the text of each row of the job, NO_TEXT where it has none.
        lengths: tokens in the parts of prompts, of a sample of the texts.
        label: how to ask, the layout settled.
        store: where the annotations are.
        wanted: by position of a text, the pairs (texts, H), or (texts, 1) for all questions alike.
        shards: that are to be computed.
        pairs: in these shards.
    """

    job: Job
    mask: Mask | None
    files: tuple[TextFile, ...]
    positions: Positions
    lengths: Lengths
    label: Label
    store: AnnotationStore
    wanted: Pairs
    shards: tuple[Shard, ...] = ()
    pairs: int = 0

    @property
    def annotated(self) -> int:
        """Wanted pairs that are annotated already."""
        return int(self.wanted.sum()) * (len(self.job.distinct) // self.wanted.shape[1]) - self.pairs

    @property
    def estimate(self) -> Estimate:
        """Pairs and tokens of the shards to be computed."""
        return estimate(self.lengths, self.pairs, _layout(self.label))

    @property
    def n_texts(self) -> int:
        """Distinct texts that are to be labelled, annotated or not."""
        return int(self.wanted.any(axis=1).sum())

    @property
    def rate(self) -> float | None:
        """Pairs per second of a replica, as the config says or the last job of this labeller measured."""
        if self.job.options.rate:
            return self.job.options.rate
        last = read_heartbeat(self.job.answers)
        if last is None or last.labeller != self.store.folder.name or not last.pairs:
            return None
        return last.rate / max(last.workers, 1)

    @property
    def missing(self) -> Iterator[tuple[TextFile, slice, Pairs]]:
        """The files of texts, their positions, and the pairs (rows, H) that are wanted and not annotated."""
        for file, rows in slices(self.files):
            if self.wanted[rows].any():
                yield file, rows, self.wanted[rows] & ~self.store.annotated(file, self.job.distinct)


def make_plan(job: Job) -> Plan:
    """Register the texts, settle the layout, and find what is to be done.

    Raises:
        InputError: there is a mask, but it cannot be used.
        ModelError: the model is not found.
    """
    mask = Mask.read(job.options.mask, len(job.questions)) if job.options.mask else None
    if mask is not None and mask.probability is not None:
        job, mask = replace(job, drawn=DrawnRows.of(mask.row_ids, mask.probability)), None
    file_rows = max(1, FILE_ROWS // job.options.shard_rows) * job.options.shard_rows
    texts = register(job.answers, job.tables, file_rows)
    sample = [truncate_words(text, job.options.max_words) for text in texts.sample]
    lengths = measure(job.llm, job.label, sample, job.distinct)
    label, store = _settle(job, lengths)
    none = np.zeros((0, 1), dtype=bool)
    return _with_shards(Plan(job, mask, texts.files, texts.positions, lengths, label, store, none))


def _with_shards(plan: Plan) -> Plan:
    """Return a plan with what its job wants, and the shards that are missing of it."""
    job, plan = plan.job, replace(plan, wanted=_wanted_pairs(plan))
    shards: list[Shard] = []
    n_pairs = 0
    for file, _, pairs in plan.missing:
        shards += cut(file, pairs, job.distinct, job.options.shard_rows)
        n_pairs += int(pairs.sum())
    return replace(plan, shards=tuple(shards), pairs=n_pairs)


def _wanted_pairs(plan: Plan) -> Pairs:
    """Return the wanted pairs by position of a text; see `Plan.wanted`."""
    job, n_texts = plan.job, sum(file.rows for file in plan.files)
    # Rows without a text have position -1: their pairs are in the last row, which is left out.
    wanted = np.zeros((n_texts + 1, 1 if plan.mask is None else len(job.distinct)), dtype=bool)
    if plan.mask is None:
        wanted[plan.positions] = True
        return wanted[:-1]
    start = 0
    for _, table in job.tables(["row_id"]):
        positions = plan.positions[start : start + len(table)]
        by_hypothesis = plan.mask.of(table["row_id"].to_numpy(), len(job.questions))
        for hypothesis, column in enumerate(job.columns):
            if column is not None:
                wanted[positions[by_hypothesis[:, hypothesis]], column] = True
        start += len(table)
    return wanted[:-1]


def first_rows(plan: Plan, n_pairs: float) -> Plan:
    """Return the plan of the rows that come first by their hash: as many as lack `n_pairs`, one at least.

    Args:
        plan: of all rows; what was annotated since it was made is seen.
        n_pairs: pairs to ask. Rows of which all are annotated are in as well, up to the last one asked.
    """
    plan.store.refresh()
    lacks = np.zeros(len(plan.wanted) + 1, dtype=np.int64)  # the last: of rows without a text
    for _, rows, pairs in plan.missing:
        lacks[rows] = pairs.sum(axis=1)
    hashes = np.concatenate([plan.job.hashes(table) for _, table in plan.job.tables(["row_id"])])
    order = np.argsort(hashes, kind="stable")
    asked = np.cumsum(lacks[plan.positions][order])
    limit = max(n_pairs, asked[np.argmax(asked > 0)])  # one row at least
    up_to = hashes[order][int(np.searchsorted(asked, limit, side="right")) - 1]
    job, positions = replace(plan.job, up_to=up_to), plan.positions[hashes <= up_to]
    return _with_shards(replace(plan, job=job, positions=positions))


def describe(plan: Plan) -> str:
    """Return in one line what is to be asked, and what it takes."""
    tokens, price = plan.estimate, plan.job.options.price_per_hour
    words = [f"{plan.n_texts:,} texts x {len(plan.job.distinct):,} questions", f"{plan.pairs:,} pairs to ask"]
    if plan.annotated:
        words[-1] += f" ({plan.annotated:,} more are annotated already)"
    if tokens.prompt_tokens:
        words.append(f"about {tokens.prompt_tokens:,} prompt tokens ({tokens.computed_tokens:,} not shared)")
    words.append(f"{len(plan.shards):,} shards")
    if plan.pairs and (minutes := plan.job.options.minutes):
        words.append(f"as many rows as fit {minutes:g} min (annotate.sample)")
    if plan.job.first_only and (width := plan.job.options.sample) and width.half_width:
        words.append(f"then as many rows as a half width of {width.half_width:g} takes")
    if plan.rate and plan.pairs:
        hours = tokens.hours(plan.rate)
        words.append(f"{hours:,.2f} replica hours at {plan.rate:,.1f} pairs per second")
        words += [] if price is None else [f"at a price of {hours * price:,.2f}"]
    sample = plan.lengths
    if plan.job.label.layout == "auto" and sample.block and sample.pairs:
        cost = {layout: (sample.prompts - sample.cached(layout)) / sample.pairs for layout in LAYOUTS}
        per_pair = ", ".join(f"{tokens:.0f} {layout}" for layout, tokens in cost.items())
        words.append(f"{plan.label.layout} (tokens to compute per pair: {per_pair})")
    return ", ".join(words)


def _settle(job: Job, lengths: Lengths) -> tuple[Label, AnnotationStore]:
    """Return how to ask and where such annotations are; those that are there decide an `auto`."""
    decides = {**job.labeller, "layout": "", "max_words": job.options.max_words}
    stores = {layout: AnnotationStore(job.answers, {**decides, "layout": layout}) for layout in LAYOUTS}
    begun = [layout for layout in LAYOUTS if stores[layout].begun]
    layout: Layout = _layout(job.label)
    if job.label.layout == "auto":
        layout = begun[0] if len(begun) == 1 else lengths.cheaper
    return job.label.model_copy(update={"layout": layout}), stores[layout]


def _layout(label: Label) -> Layout:
    return "question_first" if label.layout == "question_first" else "text_first"
