"""Which column of a file a name means."""

from collections.abc import Mapping

from hypsae_ray.data.files.find import DataFile
from hypsae_ray.errors import InputError

SHOWN = 30


def find_name(file: DataFile, name: str, there: Mapping[str, int], how: str = "") -> str:
    """Return a column's name in the file: the very name, or the only one that differs in blanks around it.

    Args:
        file: named in messages.
        name: as the user wrote it.
        there: how often each name stands in the file.
        how: what to say about how the file was read, if the name is not found.

    Raises:
        InputError: there is no such column, or it stands twice.
    """
    found = [name] if name in there else [own for own in there if own.strip() == name.strip()]
    if not found:
        raise missing(file, name, there, how)
    if len(found) > 1 or there[found[0]] > 1:
        times = sum(there[own] for own in found)
        raise InputError(
            f"{file.path}: column {name!r} stands {times} times in the file: which one is meant? Take out or "
            "rename the others"
        )
    return found[0]


def missing(file: DataFile, name: str, there: Mapping[str, int], how: str = "") -> InputError:
    """Return an error that says which columns a file has."""
    names = [str(own) for own in there]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    has = f"{', '.join(names[:SHOWN])}{more}" if names else "none"
    return InputError(f"{file.path}: no column {name!r}; it has {has}{how}")
