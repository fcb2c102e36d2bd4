"""Reading a config: a YAML file, overrides by dotted name, and one clear message if it is refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from hypsae_ray.config import (
    AdvancedEmbed,
    AdvancedInterpret,
    AdvancedSae,
    AnnotateJob,
    Config,
    EvaluateJob,
    ReplicateJob,
    Section,
)
from hypsae_ray.config.types import SECRET, alternatives, section_in
from hypsae_ray.errors import ConfigError
from hypsae_ray.secrets import without_secrets

S = TypeVar("S", bound=Section)
HOW_READ = ("data.encoding", "data.delimiter", "data.decimal", "data.on_bad_rows")
COLUMNS = ("text", "target", "id", "group", "weight", "covariates", "task")  # of a run, for other texts too


def load(path: str | Path, overrides: Mapping[str, str] | None = None) -> Config:
    """Read a YAML file; overrides are by dotted name, written as in YAML ("8", "null", "[32, 64]").

    Raises:
        ConfigError: the file cannot be read, or what it says is refused; the message names each field.
    """
    tree = _read(path)
    for name, value in (overrides or {}).items():
        _override(tree, name, value, Config)
    return parse(tree, str(path))


def load_job(path: str | Path | None, fields: Mapping[str, Any], overrides: Mapping[str, str]) -> AnnotateJob:
    """Read how to label from a config file, that of a run too; `fields` say what. Errors are those of `load`.

    Of the file the sections llm, label and annotate are read; without one, their defaults hold.
    """
    whole = _read(path) if path is not None else {}
    tree = {name: whole[name] for name in ("llm", "label", "annotate") if name in whole} | dict(fields)
    for name, value in overrides.items():
        _override(tree, name, value, AnnotateJob)
    return _validate(AnnotateJob, tree, str(path or "hypsae annotate"))


def load_evaluation(fields: Mapping[str, Any], overrides: Mapping[str, str]) -> EvaluateJob:
    """Read what to test; overrides are fields of evaluate, and HOW_READ. Errors are those of `load`."""
    tree = {**fields, "data": dict(fields["data"])}
    for name, value in overrides.items():
        if name not in HOW_READ and not name.startswith("evaluate."):
            can_be = f"only {', '.join(HOW_READ)}, and fields of evaluate"
            raise ConfigError(f"--{name}: {can_be} can be set here, such as --evaluate.alpha 0.05")
        _override(tree, name, value, EvaluateJob)
    return _validate(EvaluateJob, tree, "hypsae evaluate")


def load_replication(
    config: Config, texts: str, columns: Mapping[str, Any], overrides: Mapping[str, str]
) -> ReplicateJob:
    """Read how the hypotheses of a run are labelled and tested on other texts. Errors are those of `load`.

    Sections llm, label, annotate and evaluate are those of the run, and so are COLUMNS, unless `columns` or
    an override differs. Sample, mask and gold labels of the run are about its own rows, and do not apply.
    """
    whole = config.model_dump(mode="json")
    tree = {name: whole[name] for name in ("llm", "label", "annotate", "evaluate")}
    tree["annotate"] |= {"sample": None, "mask": None}
    tree["evaluate"] |= {"gold": None}
    named = {name: whole["data"][name] for name in COLUMNS}
    tree["data"] = {"train": texts, "holdout": texts, **named, **columns}
    can_be = {*HOW_READ, *(f"data.{name}" for name in COLUMNS)}
    for name, value in overrides.items():
        if name == "label.threshold":
            raise ConfigError(f"--{name}: the thresholds of a replication are those of the run")
        if name not in can_be and name.partition(".")[0] not in ("llm", "label", "annotate", "evaluate"):
            raise ConfigError(
                f"--{name}: only fields of llm, label, annotate and evaluate can be set here, and "
                f"{', '.join(sorted(can_be))}"
            )
        _override(tree, name, value, ReplicateJob)
    return _validate(ReplicateJob, tree, "hypsae replicate")


def with_llm(config: Config, overrides: Mapping[str, str]) -> Config:
    """Return a config with other fields of section llm, by dotted name. Errors are those of `load`."""
    return _with_section(config, overrides, "llm", "--llm.model NAME")


def with_report(config: Config, overrides: Mapping[str, str]) -> Config:
    """Return a config with other fields of section report, by dotted name. Errors are those of `load`."""
    return _with_section(config, overrides, "report", "--report.texts none")


def _with_section(config: Config, overrides: Mapping[str, str], section: str, example: str) -> Config:
    tree = config.model_dump(mode="json")
    for name, value in overrides.items():
        if not name.startswith(f"{section}."):
            raise ConfigError(f"--{name}: only fields of {section} can be set here, such as {example}")
        _override(tree, name, value, Config)
    return parse(tree, "the run's config") if overrides else config


def _read(path: str | Path) -> dict[str, Any]:
    try:
        tree = read_yaml(Path(path).expanduser().read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except RepeatedKeyError as error:
        raise ConfigError(f"{path}: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        seen = "is empty" if tree is None else f"holds {json.dumps(tree, default=str)[:60]}"
        raise ConfigError(f"{path}: {seen}; expected sections such as data, embed, train_sae")
    return tree


class RepeatedKeyError(yaml.YAMLError):
    """A key is repeated in a mapping; the message names it and both lines."""


class _Loader(yaml.SafeLoader):
    """Refuses a repeated key, of which YAML itself takes the last; << may still override merged keys."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            this, line = (key.tag, str(key.value)), key.start_mark.line + 1
            if this in lines:
                message = f"{key.value} is repeated, on lines {lines[this]} and {line}: remove one"
                raise RepeatedKeyError(message)
            lines[this] = line
        return node


def read_yaml(text: str) -> Any:
    """Read one YAML document.

    Raises:
        RepeatedKeyError: a key is repeated.
        yaml.YAMLError: it is not YAML.

    >>> read_yaml("{a: 1, b: {c: [2]}}")
    {'a': 1, 'b': {'c': [2]}}
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def parse(tree: Mapping[str, Any], source: str) -> Config:
    """Turn nested mappings into a Config.

    Raises:
        ConfigError: names `source` and each field that is refused, with the reason.
    """
    return _validate(Config, tree, source)


def _validate(kind: type[S], tree: Mapping[str, Any], source: str) -> S:
    try:
        return kind.model_validate(tree)
    except pydantic.ValidationError as error:
        lines = [f"  {_name(e['loc'])}: {_reason(e)}" for e in error.errors()]
        raise ConfigError("\n".join([f"{source}: the config is refused:", *lines])) from None


def _override(tree: dict[str, Any], name: str, value: str, kind: type[Section]) -> None:
    *parents, leaf = name.split(".")
    for part in parents:
        child = tree.get(part)
        if child is None:
            child = tree[part] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"--{name}: {part} is a value, not a section")
        tree = child
    tree[leaf] = _read_value(name, value, kind)


def _read_value(name: str, value: str, kind: type[Section]) -> Any:
    """Read a value as YAML; where the field is a text, what YAML takes for something else stays a text."""
    if value in ("|", ">"):  # of which YAML would make an empty text
        return value
    try:
        read = read_yaml(value)
    except RepeatedKeyError as error:
        raise ConfigError(f"--{name}: {error}") from None
    except yaml.YAMLError:
        if not _is_text(name, kind):
            raise ConfigError(f"--{name}: {json.dumps(value)} is not a YAML value") from None
        return value
    return read if read is None or isinstance(read, str) or not _is_text(name, kind) else value


def _is_text(name: str, section: type[Section]) -> bool:
    """Tell whether a dotted name is a field that holds a text, such as embed.prompt or data.decimal (",")."""
    *parents, leaf = name.split(".")
    for parent in parents:
        section = section_in(section.model_fields.get(parent)) or Section  # which has no fields
    field = section.model_fields.get(leaf)
    return any(one is str or isinstance(one, str) for one in alternatives(field and field.annotation))


def _name(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc) or "config"


# Reasons by the beginning of the type of pydantic's error.
_EXPECTED = {
    "int": "expected a whole number",
    "float": "expected a number",
    "bool": "expected true or false",
    "string_type": "expected a text",
    "tuple": "expected a list",
    "dict": "expected names and values",
    "model": "expected a section, with fields of its own",
    "invalid_key": "unknown key",
}


# Fields of earlier versions, and what to use instead.
_GONE = {
    "score_fidelity.threshold": "label.threshold, which holds for fidelity and labels",
    "evaluate.threshold": "label.threshold, which holds for fidelity and labels",
    "train_sae.workers": "train_sae.replicas.min and train_sae.replicas.max, both set to it",
    "train_sae.min_workers": "train_sae.replicas.min",
    "train_sae.gpus_per_worker": "train_sae.replicas.gpus",
    "train_sae.cpus_per_worker": "train_sae.replicas.cpus",
    "train_sae.accelerator": "train_sae.replicas.accelerator",
    "train_sae.labels": "train_sae.replicas.labels",
    "demo_truth": "hypsae demo-recovery RUN FOLDER, after the run",
    "annotate.max_rows": "annotate.sample.rows",
    "annotate.max_minutes": "annotate.sample.minutes",
    "evaluate.errors": "evaluate.cov_type (auto, HC3, cluster, nonrobust)",
    "evaluate.seed": "evaluate.random_state",
}


def _instead(name: str) -> str | None:
    """Return what to use instead of a field of an earlier version; None if there was none."""
    section, _, field = name.rpartition(".")
    advanced = {"embed": AdvancedEmbed, "train_sae": AdvancedSae, "interpret": AdvancedInterpret}.get(section)
    return f"{section}.advanced.{field}" if advanced and field in advanced.model_fields else _GONE.get(name)


def _reason(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        instead = _instead(_name(error["loc"]))
        return f"no longer a field: use {instead}" if instead else "unknown key"
    if error["type"] == "missing":
        return "required, but missing"
    plain = next((words for kind, words in _EXPECTED.items() if error["type"].startswith(kind)), None)
    reason = plain or error["msg"].removeprefix("Value error, ").replace("Input should", "it must")
    if error["input"] is None:
        return f"{reason}, but it is empty; remove the line for the default"
    # The reason itself names the values of a section; those that are secret must not be named at all.
    if isinstance(error["input"], Mapping) or error["type"] == SECRET:
        return reason
    quote = error["type"] == "string_type" and not isinstance(error["input"], (list, tuple))
    got = without_secrets(json.dumps(error["input"], default=str))[:80]
    return f"{reason} (got {got}{': put it in quotes' if quote else ''})"
