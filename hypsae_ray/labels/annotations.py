"""Stored annotations, so that no pair of text and question is ever paid for twice.

    answers/
        texts-<number>-<rows>-<hash8>.parquet   distinct texts (see `labels.texts`)
        <labeller>/                             hash of what decides an annotation: model, wording, sampling
            labeller.json                       the same in words
            questions-<hash8>.json              questions that were asked together
            shard-<texts>-<start>-<rows>-<questions>[-<pairs>].parquet
        fidelity-<labeller>/task-<hash16>       annotations of training texts, for stage `score_fidelity`

A shard is a fixed set of rows of one file of texts. Its name says which rows and which questions, and with a
mask a hash of the pairs: what is annotated is read off the list of names. A shard is written whole by the
actor that computed it, and never again once it is there. Of two writers at the same moment the later one's
file stays.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from hypsae_ray.labels.shards import Pairs, Shard, hash8, questions_key
from hypsae_ray.labels.texts import TextFile
from hypsae_ray.models.protocols import ANNOTATION_ARRAYS, Annotations
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import Status

VERSION = 1  # raise it when a stored annotation means something else: all pairs are asked anew then
_SHARD = re.compile(
    r"shard-(?P<texts>\d+-[0-9a-f]{8})-(?P<start>\d+)-(?P<rows>\d+)-(?P<questions>[0-9a-f]{8})"
    r"(?P<pairs>-[0-9a-f]{8})?\.parquet"
)


class AnnotationStore:
    """The annotations of one labeller, in the folder `answers/`.

    The labeller is all that decides an annotation other than text and question, JSON-ready.
    """

    def __init__(self, root: Folder, labeller: Mapping[str, Any]) -> None:
        self._labeller = {**labeller, "version": VERSION}
        self.folder = root.sub(hash8(json.dumps(self._labeller, sort_keys=True).encode()))
        self.made_with: set[str] = set()
        """Versions of the libraries that made the shards which were read, as far as they are known."""

    @property
    def begun(self) -> bool:
        """Whether anything was ever asked."""
        return self.folder.has("labeller.json")

    def begin(self, shards: Iterable[Shard]) -> None:
        """Write down who the labeller is, and the questions of shards that are to be computed."""
        if not self.begun:
            self.folder.write_json("labeller.json", self._labeller)
        for questions in {shard.questions for shard in shards}.difference(self._questions.values()):
            self.folder.write_json(f"questions-{questions_key(questions)}.json", questions)

    def refresh(self) -> None:
        """Forget what was listed: shards have been written since."""
        for name in ("_shards", "_questions"):
            self.__dict__.pop(name, None)

    def annotated(self, file: TextFile, questions: Sequence[str]) -> Pairs:
        """Return which pairs of a file of texts (rows, H) are annotated, by the names of shards."""
        there = np.zeros((file.rows, len(questions)), dtype=bool)
        for shard in self._shards[file.key]:
            rows, columns, sources = self._overlap(shard, questions)
            if shard["pairs"] is None:
                there[rows, columns] = True
            elif columns:
                status = matrix(self.folder.read_table(shard.string, ["status"]), "status")
                there[rows, columns] |= status[:, sources] != Status.UNASKED
        return there

    def read(self, file: TextFile, questions: Sequence[str]) -> Annotations:
        """Return the annotations of a file of texts (rows, H), PENDING where there is none."""
        found = Annotations.empty(file.rows, len(questions), Status.PENDING)
        for shard in self._shards[file.key]:
            rows, columns, sources = self._overlap(shard, questions)
            if columns:
                table = self.folder.read_table(shard.string)
                asked = matrix(table, "status")[:, sources] != Status.UNASKED
                for name in ANNOTATION_ARRAYS:
                    old, new = getattr(found, name), matrix(table, name)[:, sources]
                    old[rows, columns] = np.where(asked, new, old[rows, columns])
                self.made_with |= made_with(table.schema)
        return found

    @cached_property
    def _shards(self) -> "defaultdict[str, list[re.Match[str]]]":
        """The shards that were there when first asked for, by file of texts."""
        by_file: defaultdict[str, list[re.Match[str]]] = defaultdict(list)
        for shard in filter(None, map(_SHARD.fullmatch, self.folder.names("shard-", ".parquet"))):
            by_file[shard["texts"]].append(shard)
        return by_file

    @cached_property
    def _questions(self) -> dict[str, tuple[str, ...]]:
        """The questions that were asked together, by key."""
        names = self.folder.names("questions-", ".json")
        return {name[10:18]: tuple(self.folder.read_json(name)) for name in names}

    def _overlap(
        self, shard: "re.Match[str]", questions: Sequence[str]
    ) -> tuple[slice, list[int], list[int]]:
        """Return the rows of a shard, and the questions it shares: positions in `questions`, and in it."""
        rows = slice(int(shard["start"]), int(shard["start"]) + int(shard["rows"]))
        position = {question: i for i, question in enumerate(self._questions[shard["questions"]])}
        both = [(i, position[question]) for i, question in enumerate(questions) if question in position]
        return rows, [column for column, _ in both], [source for _, source in both]


def to_columns(annotations: Annotations) -> dict[str, pa.Array]:
    """Return annotations (n, H) as the columns p_yes, p_neither and status of lists of H."""
    width = annotations.status.shape[1]
    types = {"p_yes": pa.float32(), "p_neither": pa.float32(), "status": pa.int8()}
    return {
        name: pa.FixedSizeListArray.from_arrays(pa.array(getattr(annotations, name).ravel(), kind), width)
        for name, kind in types.items()
    }


def read_annotation_table(folder: Folder, name: str) -> tuple[np.ndarray, Annotations]:
    """Return row ids (n,) and annotations (n, H) of one stored table."""
    table = folder.read_table(name)
    p_yes, p_neither, status = (matrix(table, name) for name in ANNOTATION_ARRAYS)
    return table["row_id"].to_numpy(), Annotations(p_yes, p_neither, status)


def matrix(table: pa.Table, column: str) -> np.ndarray:
    """Return a column of lists of H as an array (n, H)."""
    lists = table[column].combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(lists), table.schema.field(column).type.list_size)


def with_facts(table: pa.Table, metadata: Mapping[str, Any]) -> pa.Table:
    """Return a table with facts about its making, JSON-ready, as metadata."""
    return table.replace_schema_metadata({b"hypsae": json.dumps(metadata).encode()})


def made_with(schema: pa.Schema) -> set[str]:
    """Return, as one line, the versions of the libraries that a stored table was made with, if it says so."""
    facts = json.loads((schema.metadata or {}).get(b"hypsae", b"{}"))
    line = ", ".join(f"{name} {release}" for name, release in facts.get("versions", {}).items())
    return {line} if line else set()
