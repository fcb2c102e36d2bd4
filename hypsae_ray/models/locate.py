"""Finding model weights: a local folder, a Python package that carries them, or a hub name."""

import importlib.util
import os
import re
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hypsae_ray.errors import ModelError

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def locate(name: str) -> str:
    """Return a folder with a model in it, or `name` itself if it must be a hub name.

    A package may carry a folder `model/` (sentence-transformers layout) or one .gguf file, which is turned
    into a Hugging Face folder once and kept in the cache folder.

    Raises:
        ModelError: `name` is neither a folder, nor such a package, nor shaped like a hub name.
    """
    if (folder := local_folder(name)) is not None:
        return str(folder)
    if is_hub_name(name):
        return name
    carried = carried_by(name)
    if carried is None:
        raise ModelError(
            f"model {name!r}: no such folder, no installed package that carries a model, "
            "and not a hub name of the form owner/name"
        )
    if carried.suffix == ".gguf":
        carried = _unpacked(carried, f"{carried.stem}-{release_of(name)}")
    return str(carried)


def local_folder(name: str) -> Path | None:
    """Return the folder whose path a name is, or None."""
    folder = Path(name).expanduser()
    return folder.resolve() if folder.is_dir() else None


def is_hub_name(name: str) -> bool:
    """Tell whether a name can be one of the hub: owner/name, and no folder.

    >>> [is_hub_name(name) for name in ("owner/name", "/models/name", "~/name", "./name", "a/b/c", "name")]
    [True, False, False, False, False, False]
    """
    return bool(_HUB_NAME.fullmatch(name)) and local_folder(name) is None


def lacking_model(name: str, revision: str | None) -> str:
    """Return why a model is out of reach of this process; nothing if it is there, or its hub answers."""
    if local_folder(name) is not None or carried_by(name) is not None:
        return ""
    if not is_hub_name(name):
        return f"has no model {name!r}: no such folder, and no installed package that carries it"
    from transformers.utils.hub import cached_file

    try:
        cached_file(name, "config.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        return f"cannot reach the model {name!r}: {str(error).splitlines()[0]}"
    return ""


def carried_by(name: str) -> Path | None:
    """Return the model folder, or the .gguf file, of an installed package; None if `name` is none."""
    package = name.replace("-", "_")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0])
    if (folder / "model").is_dir():
        return folder / "model"
    return next(iter(sorted(folder.glob("*.gguf"))), None)


def release_of(package: str) -> str:
    """Return the version of an installed package; nothing if it only lies on the path."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _unpacked(gguf: Path, name: str) -> Path:
    folder = cache_folder() / name
    if (folder / "config.json").exists():
        return folder
    cache_folder().mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=cache_folder(), prefix=f".{gguf.stem}."))
    _unpack(gguf, draft)
    try:
        draft.rename(folder)
    except OSError:  # another process was first; its folder is the same
        shutil.rmtree(draft)
    return folder


def _unpack(gguf: Path, folder: Path) -> None:
    """Write weights, config and tokenizer of a GGUF file as a Hugging Face folder (22 s for 135M weights)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        trust_remote_code=False,
    )
    vars(model.config).pop("quantization_config", None)  # vLLM would look for quantized weights
    model.bfloat16().save_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.save_pretrained(folder)


def cache_folder() -> Path:
    """Return where unpacked models are kept: $HYPSAE_CACHE, else hypsae_ray in the user's cache folder."""
    if chosen := os.environ.get("HYPSAE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hypsae_ray"
