"""The settings of a run as its page shows them: models and data by name, not by a place on some machine."""

from typing import Any

import yaml

from hypsae_ray.config import Config
from hypsae_ray.report.words import file_name

# Fields that may hold paths; of engine_args, under vLLM's own names, any value may be one.
_PATHS = ("model", "train", "val", "holdout", "mask", "gold", "engine_args")


def as_yaml(config: Config) -> str:
    """Return the resolved config as YAML, each absolute path of a model or data file as its last part."""
    return yaml.safe_dump(_shortened(config.model_dump(mode="json")), sort_keys=False)


def _shortened(value: Any, is_path: bool = False) -> Any:
    if isinstance(value, dict):
        return {name: _shortened(one, is_path or name in _PATHS) for name, one in value.items()}
    if isinstance(value, list):
        return [_shortened(one, is_path) for one in value]
    return file_name(value) if is_path and isinstance(value, str) else value
