"""Which model a name in the config stands for: what answers and embeddings belong to.

A hub model is its commit, a model that a Python package carries its name and version, a folder the content of
its files. Where a model lies and when its files were written does not change what it answers.
"""

import hashlib
import os
import re
from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from hypsae_ray.config import Embed, Llm
from hypsae_ray.errors import HypsaeError, ModelError
from hypsae_ray.models.locate import cache_folder, carried_by, is_hub_name, local_folder, release_of
from hypsae_ray.store.artifacts import Folder

HUB_ANSWER_S = 10
AUTO = "auto"
_COMMIT = re.compile("[0-9a-f]{40}")
Options = TypeVar("Options", bound=Embed | Llm)


def content_of(options: Embed | Llm) -> dict[str, Any]:
    """Return the fields that decide what a model gives, with the identity of the model in place of its name.

    A hub name stays: `pin` has made its revision a commit.
    """
    content = options.content()
    return {**content, "model": _identity(options.model)} if _is_loaded(options) else content


def pin(options: Options, commits: MutableMapping[str, str]) -> Options:
    """Return options whose revision is the commit of their hub model; others as they are.

    The model `auto` of an endpoint is the one that its server has. `commits` are those that are known, by
    "owner/name@revision"; new ones are entered.

    Raises:
        ModelError: neither the hub nor its cache on this machine knows the commit.
        ConfigError: a server has not just one model.
    """
    if isinstance(options, Llm) and options.endpoint and options.model == AUTO:
        from hypsae_ray.models.endpoint.server import only_model

        return options.model_copy(update={"model": only_model(options.endpoint)})
    if not _is_loaded(options) or not is_hub_name(options.model):
        return options
    revision = options.trust_remote_code or options.revision or "main"
    if not _COMMIT.fullmatch(revision):
        key = f"{options.model}@{revision}"
        revision = commits[key] = commits.get(key) or _commit_of(options.model, revision)
    return options.model_copy(update={"revision": revision})


def versions_of(*libraries: str) -> dict[str, str]:
    """Return the versions of installed libraries; vLLM for the CPU is a package of its own."""
    found = {name: release_of(name) or release_of(f"{name}-cpu") for name in libraries}
    return {name: release for name, release in found.items() if release}


def _is_loaded(options: Embed | Llm) -> bool:
    """Whether these options load weights: an endpoint, keywords and own vectors load none."""
    return options.engine in ("sentence_transformers", "vllm")


def _commit_of(model: str, revision: str) -> str:
    """Return the commit of a revision, from the hub, else as it was when the model was last downloaded."""
    from huggingface_hub import HfApi

    try:
        found = HfApi().model_info(model, revision=revision, timeout=HUB_ANSWER_S).sha
    except Exception as error:  # of the hub, of its client, of the network: each has its own
        reason = " ".join(str(error).split()) or type(error).__name__
        found = _cached_commit(model, revision)
        if found is None:
            raise ModelError(
                f"model {model!r}: neither the hub ({reason[:200]}) nor its cache on this machine knows "
                f"which commit its revision {revision} is; download it here, or give revision: <its commit>"
            ) from None
    assert found, f"the hub knows no commit of {model}"
    return found


def _cached_commit(model: str, revision: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    for folder in (None, os.getenv("SENTENCE_TRANSFORMERS_HOME")):
        for name in ("config.json", "modules.json"):
            found = try_to_load_from_cache(model, name, cache_dir=folder, revision=revision)
            if isinstance(found, str):
                return Path(found).parent.name
    return None


def _identity(model: str) -> str:
    if (folder := local_folder(model)) is not None:
        return f"files {folder_digest(folder)}"
    carried = carried_by(model)
    if carried is None:
        return model
    if release := release_of(model):
        return f"package {model} {release}"
    return f"files {folder_digest(carried if carried.is_dir() else carried.parent)}"


def folder_digest(folder: Path) -> str:
    """Return the hex SHA-256 of the files of a folder, their names and contents; what is hidden is left out.

    Files are read again only where one has another size or time than before.
    """
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and _counts(file, folder)]
    stats = [(str(file.relative_to(folder)), file.stat()) for file in files]
    return _digest(folder, tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))


def _counts(file: Path, folder: Path) -> bool:
    parts = file.relative_to(folder).parts
    return not any(part.startswith(".") or part == "__pycache__" for part in parts) and file.suffix != ".md"


@cache
def _digest(folder: Path, files: tuple[tuple[str, int, int], ...]) -> str:
    """Return the digest of files, by name, size and time; kept in the cache folder, if it can be written."""
    key = hashlib.sha256(repr((str(folder.resolve()), files)).encode()).hexdigest()
    kept = Folder.at(cache_folder() / "digests")
    if kept.has(key):
        return kept.read_bytes(key).decode()
    with ThreadPoolExecutor() as pool:
        digests = pool.map(_file_digest, [folder / name for name, _, _ in files])
        lines = [f"{digest} {name}\n" for (name, _, _), digest in zip(files, digests, strict=True)]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    with suppress(OSError, HypsaeError):
        kept.write_bytes(key, digest.encode())
    return digest


def _file_digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
