"""All fields with their defaults as YAML, each under its documentation: what `hypsae config` prints."""

import json
import textwrap
from collections.abc import Iterable, Iterator

from pydantic_core import PydanticUndefined

from hypsae_ray.config.run import Config
from hypsae_ray.config.types import Section, section_in

WIDTH = 110
_HEAD = """\
# All fields with their defaults. Required are data.train, data.target, and data.holdout or
# data.holdout_fraction; every other line may be removed.
"""


def documented_defaults() -> str:
    """Return a config as YAML in which only what `data` requires is left empty.

    A section that is null by default follows as a comment, the first time that its type occurs.
    """
    return _HEAD + "\n".join(_fields(Config, None, set())) + "\n"


def _fields(kind: type[Section], default: Section | None, shown: set[type[Section]]) -> Iterator[str]:
    """Yield the lines of a section; `shown` collects the types of those that were printed."""
    shown.add(kind)
    for name, field in kind.model_fields.items():
        value = field.default if default is None else getattr(default, name)
        is_empty, section = value is PydanticUndefined, section_in(field)
        yield from ["", *_comment(field.description or (section and section.__doc__) or "")]
        if section is not None and (is_empty or isinstance(value, Section)):
            yield f"{name}:"
            yield from _after("  ", _fields(section, None if is_empty else value, shown))
            continue
        yield f"{name}:" if is_empty else f"{name}: {json.dumps(value, ensure_ascii=False)}"
        if section is not None and section not in shown:
            yield from _after("# ", [f"{name}:", *_after("  ", _fields(section, None, shown))])


def _after(prefix: str, lines: Iterable[str]) -> Iterator[str]:
    return (f"{prefix}{line}".rstrip() for line in lines)


def _comment(text: str) -> list[str]:
    first = text.partition("\n\n")[0]
    return textwrap.wrap(first, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
