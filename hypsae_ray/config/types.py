"""What sections share: their base class, and types of fields."""

import codecs
import inspect
from itertools import chain
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from hypsae_ray.secrets import find_secret

T = TypeVar("T")


class _RuntimeMark:
    """Metadata of a field that does not decide the content of any result."""


Runtime = Annotated[T, _RuntimeMark()]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Examples = Annotated[int, Field(ge=4)]
Amount = Annotated[float, Field(ge=0)]
PositiveAmount = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]

NodeLabels = dict[str, str]

SECRET = "secret"  # type of pydantic errors whose input is not shown


def _encoding(name: str) -> str:
    try:
        known = codecs.lookup(name)
        "".encode(name)  # not one of bytes to bytes, such as base64
    except LookupError:
        raise ValueError("Python knows no such encoding; examples are utf-8, cp1252, shift_jis") from None
    return known.name


def _delimiter(character: str) -> str:
    character = {"\\t": "\t", "tab": "\t"}.get(character, character)
    if len(character) != 1 or character in '"\r\n':
        raise ValueError("expected one character, such as ; or tab")
    return character


def _language(value: str) -> str:
    if not (value.isascii() and value.isalpha() and value.islower() and len(value) in (2, 3)):
        raise ValueError("expected a code of a language, two or three letters such as en")
    return value


Encoding = Annotated[str, AfterValidator(_encoding)]
Delimiter = Annotated[str, AfterValidator(_delimiter)]
Language = Annotated[str, AfterValidator(_language)]


def _threshold(value: Any) -> float | str:
    try:
        if value == "auto" or 0 < float(value) < 1:
            return value if value == "auto" else float(value)
    except (TypeError, ValueError):
        pass
    raise ValueError("expected auto, or a number above 0 and below 1")


Threshold = Annotated[float | Literal["auto"], PlainValidator(_threshold)]


class Section(BaseModel):
    """Base of all sections: immutable; unknown keys and secrets are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _as_people_write(cls, tree: Any) -> Any:
        """Take a section, list or mapping left empty for its defaults, and one value for a list of one."""
        if not isinstance(tree, dict):
            return tree
        fields = {name: field.annotation for name, field in cls.model_fields.items()}
        return {
            name: _listed(fields.get(name), value)
            for name, value in tree.items()
            if value is not None or not _may_be_left_empty(fields.get(name))
        }

    @field_validator("*")
    @classmethod
    def _no_secret(cls, value: Any) -> Any:
        if reason := find_secret(value):
            raise PydanticCustomError(SECRET, "{reason}", {"reason": reason})
        return value

    def content(self) -> dict[str, Any]:
        """Return the fields that decide a result, JSON-ready: all but the `Runtime` ones."""
        dumped = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if any(isinstance(mark, _RuntimeMark) for mark in field.metadata):
                del dumped[name]
            elif isinstance(value, Section):
                dumped[name] = value.content()
        dumped.update(dumped.pop("advanced", {}))  # where a field stands decides no result
        return dumped


def alternatives(kind: Any) -> tuple[Any, ...]:
    """Return what a type allows: those of a union, the words of a Literal."""
    if get_origin(kind) is Annotated:
        return alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return tuple(chain.from_iterable(map(alternatives, get_args(kind))))
    return get_args(kind) if get_origin(kind) is Literal else (kind,)


def section_in(field: FieldInfo | None) -> type[Section] | None:
    """Return the section that a field holds, if there is one."""
    return next(filter(_is_section, alternatives(field and field.annotation)), None)


def _is_section(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, Section)


def _may_be_left_empty(kind: Any) -> bool:
    return _is_section(kind) or get_origin(kind) in (tuple, dict)


def _listed(kind: Any, value: Any) -> Any:
    is_list = get_origin(kind) is tuple and Ellipsis in get_args(kind)
    return [value] if is_list and not isinstance(value, (list, tuple, dict)) else value
