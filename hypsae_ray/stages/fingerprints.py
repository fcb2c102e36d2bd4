"""Fingerprints: what decides the content of each stage, in addition to its inputs, and so its hash."""

import hashlib
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from hypsae_ray.config import Annotate, AnnotateJob, Config, Label, Llm
from hypsae_ray.data.files import DataFile, find_files
from hypsae_ray.data.own_vectors import find_vector_files
from hypsae_ray.models.identity import content_of, pin
from hypsae_ray.models.prompts.wording import template_fingerprint
from hypsae_ray.run_log import LOG
from hypsae_ray.store.artifacts import Folder

COMMITS = "commits.json"
S = TypeVar("S", Config, AnnotateJob)


def section(name: str) -> Callable[[Config], dict[str, Any]]:
    """Return what picks a section of the config."""
    return lambda config: getattr(config, name).content()


def reading(config: Config) -> dict[str, Any]:
    """Return what decides which rows are used, and what is stored of them: own vectors are part of a row."""
    own = {"vectors": config.embed.content()} if config.embed.engine == "column" else {}
    return {**config.data.content(), **own}


def embedding(config: Config) -> dict[str, Any]:
    """Return what decides the embeddings of given texts."""
    return content_of(config.embed)


def embedding_holdout(config: Config) -> dict[str, Any]:
    """Return what decides which holdout texts are embedded, and how."""
    sample = config.annotate.sample
    drawn = sample.content() if sample and only_drawn(config.annotate) else None
    return {**embedding(config), "max_rows": drawn}  # as 0.1 called it: hashes stay


def only_drawn(options: Annotate) -> bool:
    """Whether rows that are not drawn to be labelled are not embedded: nothing is predicted of them."""
    sample = options.sample
    return sample is not None and not sample.proxies and options.minutes is None


def selecting(config: Config) -> dict[str, Any]:
    """Return what decides which neurons are selected.

    Raises:
        ConfigError: there is no such selection function.
    """
    given = {"given": known} if (known := config.given_to_select) else {}  # hashes from before it stay
    return {**config.select.content(), "source": _source(config.select.function), **given}


def naming(config: Config) -> dict[str, Any]:
    """Return what decides the sentences of given neurons."""
    return {**config.naming.content(), **_asking(config.interpreter)}


def scoring(config: Config) -> dict[str, Any]:
    """Return what decides the fidelity of given sentences."""
    labelling = {"labeller": labeller(config.llm, config.label), "threshold": config.label.threshold}
    means = {"target_means": config.data.target_means} if config.data.target_means else {}
    whole = {"documents": True} if config.data.labels_documents else {}
    return {**config.score_fidelity.content(), **labelling, **means, **whole}


def annotating(config: Config | AnnotateJob) -> dict[str, Any]:
    """Return what decides the annotations of given texts with given hypotheses.

    Raises:
        InputError: there is a mask, but it cannot be read.
    """
    options = config.annotate
    mask = [file.digest() for file in find_files(options.mask)] if options.mask else []
    small = options.sample.llm if options.sample else None
    proxy = {"proxy": labeller(small, config.label)} if small else {}
    return {**options.content(), "mask": mask, "labeller": labeller(config.llm, config.label), **proxy}


def evaluating(config: Config) -> dict[str, Any]:
    """Return what decides the tests of given labels; without labels of people, hashes are as before.

    Raises:
        InputError: there are labels of people, but their file cannot be read.
    """
    files = find_files(config.evaluate.gold) if config.evaluate.gold else []
    gold = {"gold": [file.digest() for file in files]} if files else {}
    return {**config.evaluate.content(), **gold}


def labeller(llm: Llm, label: Label) -> dict[str, Any]:
    """Return what decides an answer to a given question about a given text."""
    return {**_asking(llm), "label": label.content()}


def _asking(llm: Llm) -> dict[str, Any]:
    return {"llm": content_of(llm), "prompts": template_fingerprint()}


def pinned(config: S, commits: MutableMapping[str, str]) -> S:
    """Return a config in which the revision of each hub model is a commit; new ones are added to `commits`.

    Raises:
        ModelError: neither the hub nor its cache on this machine has a commit.
    """
    llms: dict[str, Any] = {"llm": pin(config.llm, commits)}
    if isinstance(config, Config):
        llms["embed"] = pin(config.embed, commits)
        if (namer := config.interpret.llm) is not None:
            llms["interpret"] = config.interpret.model_copy(update={"llm": pin(namer, commits)})
        if (sample := config.annotate.sample) is not None and sample.llm is not None:
            sample = sample.model_copy(update={"llm": pin(sample.llm, commits)})
            llms["annotate"] = config.annotate.model_copy(update={"sample": sample})
    return config.model_copy(update=llms)


def known_commits(out: Folder) -> dict[str, str]:
    """Return the commits that hub models had when they were first used in a run folder."""
    return out.read_json(COMMITS) if out.has(COMMITS) else {}


def remember_commits(commits: Mapping[str, str], out: Folder) -> None:
    """Keep the commits of hub models for the next run in this folder, which loads the same ones."""
    if commits and commits != known_commits(out):
        out.write_json(COMMITS, dict(commits))


def _source(function: str | None) -> str:
    """Return the hash of the module of a custom selection function, helpers and constants included."""
    if function is None:
        return ""
    from hypsae_ray.neurons.selection import import_function

    import_function(function)
    file = import_module(function.partition(":")[0]).__file__
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def training_texts(config: Config) -> dict[str, Any]:
    """Return what decides which texts train: no other column, unless rows are dropped or split off by it."""
    data = config.data.content()
    if config.data.on_bad_rows == "drop":
        return {name: value for name, value in data.items() if name not in ("overlap", "near_copy")}
    split_by = ("holdout_fraction", "group") if config.data.holdout is None else ()
    split_by = split_by or (("group",) if config.data.rule == "difference" else ())
    chunk = data["chunk"] and {name: of for name, of in data["chunk"].items() if name != "labels"}
    columns = ("text", "text_a", "text_b", "encoding", "delimiter", "val_fraction", "shard_rows", *split_by)
    return {**{name: data[name] for name in columns if name in data}, "chunk": chunk}


def input_digests(config: Config, out: Folder) -> dict[str, str]:
    """Return the hash of every input file of a run; see `file_digests`."""
    paths = {"train": config.data.train, "val": config.data.val, "holdout": config.data.holdout}
    files = {split: find_files(path) for split, path in paths.items() if path}
    own = config.embed.files.paths if config.embed.files else {}
    files |= {f"{split}/vectors": find_vector_files(path) for split, path in own.items()}
    return file_digests(files, out)


def file_digests(files: Mapping[str, Sequence[DataFile]], out: Folder) -> dict[str, str]:
    """Return the hash of every file of some datasets; those that have not changed are not read again.

    Raises:
        InputError: a file cannot be read.
    """
    known = out.read_json("inputs.json") if out.has("inputs.json") else {}
    digests = {}
    for split, found in files.items():
        for number, file in enumerate(found):
            stamp = file.stamp()
            digests[f"{split}/{number}"] = known.get(stamp) or file.digest()
            known[stamp] = digests[f"{split}/{number}"]
    if set(out.names()) - {LOG}:  # kept once there is a run folder; its log is there before
        out.write_json("inputs.json", known)
    return digests
