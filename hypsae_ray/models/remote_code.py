"""Code that comes with a model's weights: it runs only if the config names the very commit that it is from.

A commit of a hub cannot be changed later, a branch or a tag can. A local folder has no commit, so the digest
of its Python files stands for one. Code that a model borrows from another repository is refused in any case:
vLLM and sentence-transformers pass a revision for it on some of their ways only, and on the others run the
newest.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypsae_ray.config import Embed, Llm
from hypsae_ray.errors import ConfigError, ModelError
from hypsae_ray.models.locate import locate

_BORROWED = re.compile(r'"([\w.-]+/[\w.-]+)--')  # "owner/other--modeling.Model", as in an auto_map


def code_arguments(options: Embed | Llm) -> dict[str, Any]:
    """Return the arguments revision and trust_remote_code for a library that loads a model.

    Raises:
        ConfigError: there is other code than the config trusts.
        OSError: the model is out of reach.
    """
    trusted = options.trust_remote_code
    if trusted is None:
        return {"revision": options.revision, "trust_remote_code": False}
    located = locate(options.model)
    if Path(located).is_dir() and digest(Path(located)) != trusted:
        raise ConfigError(f"{options.model!r}: {_to_trust(options.model)}, not {trusted}")
    for repository in _borrowed_from(located, trusted):
        raise ConfigError(f"{options.model!r} runs code of {repository}, which no commit in a config can pin")
    return {"revision": trusted, "trust_remote_code": True}


def load_error(what: str, options: Embed | Llm, error: Exception) -> ModelError:
    """Return the error of a model that does not load; if its code is not trusted, with what would do so."""
    asks = "trust_remote_code" in str(error) and options.trust_remote_code is None
    advice = f"\nto let it run, read it first: {_to_trust(options.model)}" if asks else ""
    return ModelError(f"{what} {options.model!r}: {error}{advice}")


def digest(folder: Path) -> str:
    """Return 40 hex digits that stand for all Python files of a folder, their names and contents."""
    whole = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        whole.update(f"{file.relative_to(folder)}\n{file.stat().st_size}\n".encode() + file.read_bytes())
    return whole.hexdigest()[:40]


def _to_trust(model: str) -> str:
    folder = Path(locate(model))
    return f"in the config it is trust_remote_code: {digest(folder) if folder.is_dir() else '<its commit>'}"


def _borrowed_from(model: str, commit: str) -> Iterator[str]:
    """Yield the other repositories whose code a model asks for, in any of its small JSON files."""
    from huggingface_hub import snapshot_download

    names = ("*config*.json", "modules.json")
    is_local = Path(model).is_dir()
    folder = Path(
        model if is_local else snapshot_download(model, revision=commit, allow_patterns=list(names))
    )
    for file in sorted(file for name in names for file in folder.rglob(name)):
        yield from _BORROWED.findall(file.read_text(encoding="utf-8"))
