"""Finding model weights: a local folder, a Python package that carries them, or a hub name."""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from hypsae_ray.errors import ModelError


def locate(name: str) -> str:
    """Return a folder with a model in it, or `name` itself if it must be a hub name.

    A package may carry a folder `model/` (sentence-transformers layout) or one .gguf file, which is turned
    into a Hugging Face folder once and kept in the cache folder.

    Raises:
        ModelError: `name` is neither a folder, nor such a package, nor shaped like a hub name.
    """
    if Path(name).is_dir():
        return str(Path(name).resolve())
    if "/" in name:
        return name
    carried = _in_package(name)
    if carried is None:
        raise ModelError(
            f"model {name!r}: no such folder, no installed package that carries a model, "
            "and not a hub name of the form owner/name"
        )
    return str(carried)


def lacking_model(name: str, revision: str | None) -> str:
    """Return why a model is out of reach of this process; nothing if it is there, or its hub answers."""
    if Path(name).is_dir() or _carried(name) is not None:
        return ""
    if "/" not in name:
        return f"has no model {name!r}: no such folder, and no installed package that carries it"
    from transformers.utils.hub import cached_file

    try:
        cached_file(name, "config.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        return f"cannot reach the model {name!r}: {str(error).splitlines()[0]}"
    return ""


def _in_package(name: str) -> Path | None:
    carried = _carried(name)
    return _unpacked(carried) if carried is not None and carried.suffix == ".gguf" else carried


def _carried(name: str) -> Path | None:
    """Return the model folder, or the .gguf file, of an installed package."""
    package = name.replace("-", "_")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0])
    if (folder / "model").is_dir():
        return folder / "model"
    return next(iter(sorted(folder.glob("*.gguf"))), None)


def _unpacked(gguf: Path) -> Path:
    folder = cache_folder() / gguf.stem
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
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def cache_folder() -> Path:
    """Return where unpacked models are kept: $HYPSAE_CACHE, else hypsae_ray in the user's cache folder."""
    if chosen := os.environ.get("HYPSAE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hypsae_ray"
