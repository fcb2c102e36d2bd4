"""Section `data`."""

from typing import Any, Literal, Self

from pydantic import ConfigDict, model_validator

from hypsae_ray.config.types import (
    Count,
    Delimiter,
    Encoding,
    Fraction,
    Language,
    Positive,
    Runtime,
    Section,
)


class Chunk(Section):
    """Documents in chunks of words or sentences: chunks are embedded and named, documents are tested."""

    words: Positive = 150
    """Words in a chunk at the most; each character of a script without spaces (Chinese, Japanese, Thai) is
    one. 150 of English are about 200 tokens: a model that reads 256 sees each chunk to its end."""
    overlap: Count = 15
    """Words that a chunk shares with the one before it, where a text or sentence has more than `words`."""
    sentences: Positive | None = None
    """Sentences in a chunk; null: it is as long as `words` allows. Neurons of single sentences are about one
    thing each, those of whole texts about a mixture."""
    language: Language = "en"
    """ISO code of the language whose abbreviations do not end a sentence (en, de, zh). One without rules of
    its own has those of English."""
    labels: Literal["any", "mean", "max", "whole"] = "any"
    """What is labelled. whole: documents as they are, also those that names are scored on; they are embedded
    in chunks. Else their chunks, and labels become one of the document. any: 1 if a chunk of it has 1. mean:
    the share of its chunks with label 1 enters the joint model. max: the highest p_yes of its chunks does."""

    @model_validator(mode="after")
    def _advances(self) -> Self:
        if self.overlap >= self.words:
            raise ValueError(f"overlap ({self.overlap}) must be below words ({self.words})")
        return self


class Data(Section):
    """Where the texts are, and which columns mean what."""

    model_config = ConfigDict(coerce_numbers_to_str=True)  # a column may be called 2020

    train: Runtime[str]
    """File, glob or folder of JSONL, CSV or Parquet: the rows that train, select and name neurons."""
    holdout: Runtime[str | None] = None
    """File, glob or folder: the rows that hypotheses are tested on, and nothing else; null: split off
    `train`, see `holdout_fraction`."""
    holdout_fraction: Fraction | None = None
    """Where `holdout` is null: share of `train` that is split off by hash of the text, or of the group if
    `group` is named."""
    val: Runtime[str | None] = None
    """File, glob or folder for early stopping; null: split off `train` by hash of the text."""
    val_fraction: Fraction = 0.1
    """Share of the training texts that is split off when `val` is null; pairs go by group if one is named."""
    overlap: Literal["drop", "error", "keep"] = "drop"
    """Holdout rows whose text, a near copy of it, or group is in the training data. drop: they go to
    rejected.parquet with the reason. error: they end the run before any work. keep: they are only counted."""
    near_copy: Fraction | None = 0.8
    """Jaccard similarity of word 3-shingles from which two texts count as near copies; null: near copies are
    not looked for."""
    encoding: Encoding | None = None
    """Encoding of JSON and CSV files, by Python's name (utf-8, cp1252, shift_jis); null: found per file."""
    delimiter: Delimiter | None = None
    """Delimiter of CSV files: one character, or tab; null: found per file."""
    text: str = "text"
    """Column of the text; of a nested field the dotted name (user.text)."""
    text_a: str | None = None
    """Column of the first text of a pair, where each row has two: `text_a` and `text_b` in place of `text`.
    Texts are embedded, named and labelled each on its own; tests are on differences, first minus second."""
    text_b: str | None = None
    """Column of the second text of a pair."""
    target: str
    """Column of the number that hypotheses predict; of pairs 1 where the first text was chosen, else 0, or a
    difference, first minus second; of multiclass the class, a name or a number."""
    target_means: tuple[str, ...] = ()
    """Sentences that say the target in other words, as a hypothesis would ("expresses a positive experience",
    "expresses a negative experience"). A sentence close to one of them teaches nothing: another one of its
    neuron is taken where there is one, else it is tested, and marked."""
    id: str | None = None
    """Column of a unique id per row; null: rows are numbered in the order of the files."""
    group: str | None = None
    """Column that says which rows belong together (author, document, business); null: none."""
    covariates: tuple[str, ...] = ()
    """Columns to keep in addition to the target, and to hold fixed in the tests. One of which most values are
    no numbers is a category: it becomes a column of 0 and 1 for each level but the most frequent one."""
    weight: str | None = None
    """Column of a weight above 0 per row, of a survey for example; null: none."""
    decimal: Literal[".", ","] | None = None
    """Decimal mark of numbers that a file holds as texts (in CSV all are); the other mark may separate
    thousands. null: a point; a number that could be read either way is refused."""
    task: Literal["auto", "regression", "classification", "count", "pairwise", "multiclass"] = "auto"
    """classification: a target of 0 and 1. count: of 0, 1, 2 and so on. multiclass: of several classes, each
    against the rest. pairwise: two texts a row. auto: pairwise with `text_a` and `text_b`, classification if
    every target value is 0 or 1, else regression."""
    on_bad_rows: Literal["error", "drop"] = "error"
    """error: a bad row ends the run before any work. drop: it goes to rejected.parquet with the reason."""
    chunk: Chunk | None = None
    """Split each text, a document then, into chunks; null: texts stay whole. Chunks have target, weight,
    covariates and group of their document; splits, samples, tests and errors are by document."""
    shard_rows: Positive = 2_000
    """Rows in each stored file of texts."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.holdout is None and self.holdout_fraction is None:
            raise ValueError(
                "nothing to test on: name other texts with holdout: FILE, or split off a share of train with "
                "holdout_fraction: 0.3"
            )
        if self.holdout is not None and self.holdout_fraction is not None:
            raise ValueError(
                f"holdout ({self.holdout}) and holdout_fraction ({self.holdout_fraction}) exclude each "
                "other: remove one of them"
            )
        self._check_pairs()
        weight = [] if self.weight is None else [self.weight]
        parts = [*self.text_columns, self.target, *self.covariates, *weight]
        if repeated := sorted({name for name in parts if parts.count(name) > 1}):
            raise ValueError(
                f"column {repeated[0]!r} is named twice among texts, target, covariates and weight"
            )
        return self

    def _check_pairs(self) -> None:
        if (self.text_a is None) != (self.text_b is None):
            raise ValueError("a pair has two texts: name the columns of both, text_a and text_b")
        if self.text_a is None:
            if self.task == "pairwise":
                raise ValueError("task pairwise needs two texts a row: name their columns, text_a and text_b")
            return
        if self.text != type(self).model_fields["text"].default:
            raise ValueError(
                f"text ({self.text}) is one text a row, text_a and text_b are two: leave out one"
            )
        if self.task not in ("auto", "pairwise"):
            raise ValueError(f"task {self.task} is about single texts: with text_a and text_b it is pairwise")
        if self.chunk is not None:
            raise ValueError("chunk splits single texts: leave it out, or text_a and text_b")

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns of the texts of a row: one, or the two of a pair."""
        if self.text_a is None or self.text_b is None:
            return (self.text,)
        return self.text_a, self.text_b

    @property
    def rule(self) -> Literal["any", "mean", "max", "difference"] | None:
        """How results of texts become one of their row, a document or a pair; None: a row is one text."""
        if len(self.text_columns) > 1:
            return "difference"
        if self.chunk is None:
            return None
        return self.chunk.labels if self.chunk.labels != "whole" else "any"

    @property
    def labels_documents(self) -> bool:
        """Whether documents are labelled whole that are embedded in chunks."""
        return self.chunk is not None and self.chunk.labels == "whole"

    @property
    def embedded_holdout(self) -> Literal["holdout", "holdout_chunks"]:
        """The split whose tables have the holdout as it is embedded: as it is labelled, or in chunks."""
        return "holdout_chunks" if self.labels_documents else "holdout"

    def content(self) -> dict[str, Any]:
        """Return what decides the rows; without pairs as before there were any: hashes stay."""
        content = super().content()
        del content["target_means"]  # it decides no row
        if self.text_a is None:
            del content["text_a"], content["text_b"]
        return content
