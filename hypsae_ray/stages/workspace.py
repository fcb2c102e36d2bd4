"""What a stage is given: the config, the folders of the stages before it, its own folder, and engines."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from hypsae_ray.cluster.engines import Engines
from hypsae_ray.config import Config
from hypsae_ray.neurons.corpus import Corpus
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.stage_tables import read_activations, read_column, read_texts

T = TypeVar("T")
Track = Callable[[Iterable[Any], int, str], Iterator[Any]]


@dataclass(frozen=True)
class Input:
    """A finished stage: its folder, and the facts of its manifest."""

    folder: Folder
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Workspace:
    """All that a stage may use.

    Attributes:
        config: the whole config; a stage reads its own sections.
        inputs: the finished stages before it, by name.
        decides: what of the config decides its content.
        out: where its tables go.
        answers: where the answers of language models are kept, for all stages and configs of a run folder.
        engines: models and SAE training.
        track: wraps an iterable of a known length in a progress bar: track(iterable, total, unit).
        say: prints one line to the user.
    """

    config: Config
    inputs: Mapping[str, Input]
    decides: Mapping[str, Any]
    out: Folder
    answers: Folder
    engines: Engines
    track: Track
    say: Callable[[str], None]


def read_corpus(work: Workspace) -> Corpus:
    """Read the training texts' ids and activations of a run."""
    sae = work.inputs["train_sae"]
    row_ids, fired = read_activations(sae.folder, "train", sae.facts["n_neurons"])
    text_ids = read_column(work.inputs["data"].folder, "train", "text_id")
    return Corpus.of(row_ids, text_ids.loc[row_ids], fired)


def read_texts_by_id(work: Workspace, row_ids: Iterable[int]) -> dict[int, str]:
    """Return the training texts of some rows."""
    texts = read_texts(work.inputs["data"].folder, "train", row_ids)
    return dict(zip(texts.index.tolist(), texts, strict=True))
