"""What labellers said, kept so that no pair of text and question is ever paid for twice.

    answers/
        texts-<number>-<rows>-<hash8>.parquet       distinct texts, in the order in which they came
        <labeller>/                                 hash of what decides an answer: model, wording, sampling
            labeller.json                           the same in words
            questions-<hash8>.json                  questions that were asked together
            shard-<part>-<start>-<rows>-<questions>[-<pairs>].parquet
        fidelity-<labeller>/task-<hash16>           labels of training texts, for stage `score_fidelity`

Texts are only ever added, so a shard is a fixed set of rows of one part. Its name says which rows and which
questions, and with a mask a hash of the pairs: what is there is read off the list of names. A shard is
written whole by the actor that computed it, and never again once it is there; of two at the same moment
either one's answers stay.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hypsae_ray.labels.pairs import Block, Pairs
from hypsae_ray.labels.text_index import UNKNOWN, Places, TextIndex
from hypsae_ray.models.protocols import ANNOTATION_ARRAYS, Annotations
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import Status

PART_ROWS = 4096
VERSION = 1  # raise it when a stored answer means something else: all are asked anew then
_PART = re.compile(r"texts-(?P<number>\d+)-(?P<rows>\d+)-(?P<digest>[0-9a-f]{8})\.parquet")
_SHARD = re.compile(
    r"shard-(?P<part>\d+-[0-9a-f]{8})-(?P<start>\d+)-(?P<rows>\d+)-(?P<questions>[0-9a-f]{8})"
    r"(?P<pairs>-[0-9a-f]{8})?\.parquet"
)


@dataclass(frozen=True)
class Part:
    """One file of texts."""

    number: int
    rows: int
    digest: str

    @property
    def key(self) -> str:
        """How shards name it."""
        return f"{self.number:05d}-{self.digest}"

    @property
    def name(self) -> str:
        """Its file."""
        return f"texts-{self.number:05d}-{self.rows}-{self.digest}.parquet"


@dataclass(frozen=True)
class Shard:
    """Some rows of a part, and the questions about them: one file of answers.

    `asked` holds the pairs (rows, questions), packed into bits, where they are not all of them.
    """

    part: Part
    start: int
    rows: int
    questions: str
    asked: bytes | None = None

    @property
    def name(self) -> str:
        """Its file."""
        pairs = f"-{_hash8(self.asked)}" if self.asked is not None else ""
        return f"shard-{self.part.key}-{self.start:06d}-{self.rows}-{self.questions}{pairs}.parquet"

    def pairs(self, n_questions: int) -> Pairs | None:
        """Return the pairs to ask (rows, n_questions); None for all."""
        if self.asked is None:
            return None
        bits = np.unpackbits(np.frombuffer(self.asked, dtype=np.uint8), count=self.rows * n_questions)
        return bits.astype(bool).reshape(self.rows, n_questions)

    def only(self, pairs: Pairs) -> "Shard":
        """Return the shard of these pairs (rows, questions) alone."""
        return replace(self, asked=np.packbits(pairs).tobytes())


class Texts:
    """The distinct texts of `answers/`, and where each of them is.

    A place is the position of a part in `parts`, shifted left by 32 bits, plus the row in it.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.parts: list[Part] = []
        self._index = TextIndex()
        self._held: dict[bytes, str] = {}
        for name in folder.names("texts-", ".parquet"):
            if found := _PART.fullmatch(name):
                self._enter(Part(int(found["number"]), int(found["rows"]), found["digest"]), self._ids(name))

    def add(self, texts: Mapping[bytes, str], part_rows: int) -> None:
        """Take in texts by id; new ones are written when `part_rows` of them have come, or by `flush`."""
        places = self._index.find(list(texts))
        new = {i: t for (i, t), place in zip(texts.items(), places, strict=True) if place == UNKNOWN}
        for text_id in [i for i in new if i not in self._held]:
            self._held[text_id] = new[text_id]
            if len(self._held) == part_rows:
                self.flush()

    def flush(self) -> None:
        """Write the texts that are held as one more part."""
        if not self._held:
            return
        ids = list(self._held)
        number = self.parts[-1].number + 1 if self.parts else 0
        part = Part(number, len(ids), _hash8(b"".join(ids)))
        table = pa.table({"text_id": pa.array(ids, pa.binary(16)), "text": list(self._held.values())})
        self.folder.write_table(part.name, table)
        self._held = {}
        self._enter(part, ids)

    def find(self, ids: Sequence[bytes]) -> Places:
        """Return the place of each text, UNKNOWN where it is not there."""
        return self._index.find(ids)

    def _enter(self, part: Part, ids: list[bytes]) -> None:
        first = len(self.parts) << 32
        new = np.flatnonzero(self._index.find(ids) == UNKNOWN)  # two jobs may have written the same text
        self._index.add([ids[i] for i in new], first + new)
        self.parts.append(part)

    def _ids(self, name: str) -> list[bytes]:
        with self.folder.open(name) as file:
            return pq.ParquetFile(file).read(columns=["text_id"], use_threads=False)["text_id"].to_pylist()


def by_part(places: Places) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield each part that any of some places (n,) is in: its position, which ones, and their rows in it."""
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    last = int(ordered[-1] >> 32) if len(ordered) else UNKNOWN
    ends = np.searchsorted(ordered, np.arange(last + 2) << 32)  # before the first one are the UNKNOWN
    for position, (start, end) in enumerate(pairwise(ends.tolist())):
        if start < end:
            yield position, order[start:end], ordered[start:end] & 0xFFFFFFFF


class Answers:
    """The answers of one labeller.

    Args:
        root: the folder `answers/`.
        labeller: all that decides an answer beside text and question, JSON-ready.
    """

    def __init__(self, root: Folder, labeller: Mapping[str, Any]) -> None:
        self._labeller = {**labeller, "version": VERSION}
        self.folder = root.sub(_hash8(json.dumps(self._labeller, sort_keys=True).encode()))
        self.made_with: set[str] = set()
        """Versions of the libraries that made the shards which were read, as far as they are known."""

    def begin(self) -> None:
        """Write down who the labeller is."""
        if not self.folder.has("labeller.json"):
            self.folder.write_json("labeller.json", self._labeller)

    @property
    def begun(self) -> bool:
        """Whether anything was ever asked."""
        return self.folder.has("labeller.json")

    def done(self, part: Part, questions: Sequence[str]) -> Pairs:
        """Return which pairs of a part (rows, H) are answered, by the names that `listing` found."""
        answered = np.zeros((part.rows, len(questions)), dtype=bool)
        for found in self.listing[part.key]:
            rows, columns, sources = self._about(found, questions)
            if found["pairs"] is None:
                answered[rows, columns] = True
            elif columns:
                status = matrix(self.folder.read_table(found.string, ["status"]), "status")
                answered[rows, columns] |= status[:, sources] != Status.UNASKED
        return answered

    @cached_property
    def listing(self) -> "defaultdict[str, list[re.Match[str]]]":
        """The shards that were there when first asked for, by part."""
        by_part: defaultdict[str, list[re.Match[str]]] = defaultdict(list)
        for name in self.folder.names("shard-", ".parquet"):
            if found := _SHARD.fullmatch(name):
                by_part[found["part"]].append(found)
        return by_part

    @cached_property
    def sets(self) -> dict[str, tuple[str, ...]]:
        """The questions that were asked together, by hash."""
        names = self.folder.names("questions-", ".json")
        return {name[10:18]: tuple(self.folder.read_json(name)) for name in names}

    def refresh(self) -> None:
        """Forget the listing: shards have been written since."""
        for name in ("listing", "sets"):
            self.__dict__.pop(name, None)

    def shard(self, part: Part, block: Block, questions: Sequence[str]) -> Shard:
        """Return the shard that will hold a block of pairs; its questions are written down first."""
        asked_here = tuple(questions[column] for column in block.columns)
        key = _hash8(json.dumps(asked_here).encode())
        if key not in self.sets:
            self.folder.write_json(f"questions-{key}.json", asked_here)
            self.sets[key] = asked_here
        pairs = None if block.whole else np.packbits(block.asked).tobytes()
        return Shard(part, block.start, len(block.asked), key, pairs)

    def read(self, part: Part, questions: Sequence[str]) -> Annotations:
        """Return what is known about a part: (rows, H), PENDING where nothing is."""
        known = Annotations.empty(part.rows, len(questions), Status.PENDING)
        for found in self.listing[part.key]:
            rows, columns, sources = self._about(found, questions)
            if columns:
                table = self.folder.read_table(found.string)
                _enter(known, rows, columns, table, sources)
                self.made_with |= made_with(table.schema)
        return known

    def _about(self, found: "re.Match[str]", questions: Sequence[str]) -> tuple[slice, list[int], list[int]]:
        """Return the rows of a shard, which of the questions it asked, and where they stand in it."""
        rows = slice(int(found["start"]), int(found["start"]) + int(found["rows"]))
        return rows, *_matching(questions, self.sets[found["questions"]])


def to_table(scores: Annotations, metadata: Mapping[str, Any]) -> pa.Table:
    """Return a shard's table of scores (n, H), with facts about its making as metadata."""
    return with_facts(pa.table(annotation_columns(scores)), metadata)


def with_facts(table: pa.Table, metadata: Mapping[str, Any]) -> pa.Table:
    """Return a table with facts about its making, JSON-ready, as metadata."""
    return table.replace_schema_metadata({b"hypsae": json.dumps(metadata).encode()})


def made_with(schema: pa.Schema) -> set[str]:
    """Return, as one line, the versions of the libraries that a stored table was made with, if it says so."""
    facts = json.loads((schema.metadata or {}).get(b"hypsae", b"{}"))
    line = ", ".join(f"{name} {release}" for name, release in facts.get("versions", {}).items())
    return {line} if line else set()


def annotation_columns(scores: Annotations) -> dict[str, pa.Array]:
    """Return scores (n, H) as the columns p_yes, p_neither and status of lists of H."""
    width = scores.status.shape[1]
    kinds = {"p_yes": pa.float32(), "p_neither": pa.float32(), "status": pa.int8()}
    return {
        name: pa.FixedSizeListArray.from_arrays(pa.array(getattr(scores, name).ravel(), kind), width)
        for name, kind in kinds.items()
    }


def read_annotation_table(folder: Folder, name: str) -> tuple[np.ndarray, Annotations]:
    """Return row ids (n,) and scores (n, H) of one stored table of annotations."""
    table = folder.read_table(name)
    p_yes, p_neither, status = (matrix(table, column) for column in ANNOTATION_ARRAYS)
    return table["row_id"].to_numpy(), Annotations(p_yes, p_neither, status)


def _enter(known: Annotations, rows: slice, columns: list[int], table: pa.Table, sources: list[int]) -> None:
    """Copy the answers of a shard; a pair that it did not ask stays as it is."""
    said = {name: matrix(table, name)[:, sources] for name in ANNOTATION_ARRAYS}
    asked = said["status"] != Status.UNASKED
    for name, values in said.items():
        target = getattr(known, name)
        target[rows, columns] = np.where(asked, values, target[rows, columns])


def matrix(table: pa.Table, column: str) -> np.ndarray:
    """Return a column of lists of H as an array (n, H)."""
    lists = table[column].combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(lists), table.schema.field(column).type.list_size)


def _matching(wanted: Sequence[str], there: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the positions of questions in `wanted`, and in `there`, that are in both."""
    place = {question: source for source, question in enumerate(there)}
    both = [(column, place[question]) for column, question in enumerate(wanted) if question in place]
    return [column for column, _ in both], [source for _, source in both]


def _hash8(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]
