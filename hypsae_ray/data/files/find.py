"""Which files a path means, what their names tell, their bytes, and finding a column by its name."""

import fnmatch
import hashlib
import io
import lzma
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, cast
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from hypsae_ray.errors import ConfigError, InputError
from hypsae_ray.store.artifacts import Folder

FORMATS = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz"}
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
WILDCARDS = "*?["
_NAMES_SHOWN = 30
_BLOCK = 1 << 22


@dataclass(frozen=True)
class DataFile:
    """One file of a dataset; encoding and delimiter are as the user set them, None: to be found."""

    filesystem: pafs.FileSystem = field(compare=False)
    path: str
    encoding: str | None = None
    delimiter: str | None = None
    alone: bool = True  # whether it is the whole dataset

    @property
    def ending(self) -> str | None:
        """The key of FORMATS that its name ends in, in any case and before that of a compression; or None."""
        name = self.path.lower().removesuffix(self._compressed or "")
        return next((ending for ending in FORMATS if name.endswith(ending)), None)

    @property
    def format(self) -> str:
        """json, csv or parquet; "" if it is none of these."""
        return FORMATS.get(self.ending or "", "")

    @property
    def _compressed(self) -> str | None:
        return next((ending for ending in COMPRESSIONS if self.path.lower().endswith(ending)), None)

    @property
    def partitions(self) -> dict[str, str | None]:
        """Columns that its folders name, as Hive and Spark write them: a/year=2024/ is year, 2024."""
        parts = [part.partition("=") for part in self.path.split("/")[:-1]]
        values = {unquote(name): unquote(value) for name, sign, value in parts if name and sign}
        return {name: None if value == NULL_PARTITION else value for name, value in values.items()}

    def stamp(self) -> str:
        """Return a name that changes with the file's path, size or time of change.

        Raises:
            InputError: the file cannot be reached.
        """
        with reading(self):
            info = self.filesystem.get_file_info(self.path)
        return f"{self.path} {info.size} {info.mtime_ns}"

    def digest(self) -> str:
        """Return a hex SHA-256 of the file's content, its ending and its partitions.

        Raises:
            InputError: the file cannot be read.
        """
        digest = hashlib.sha256(repr((self.ending, self.partitions)).encode())
        with reading(self), self.filesystem.open_input_stream(self.path, compression=None) as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()

    def open(self) -> BinaryIO:
        """Open the file for reading from its start, decompressed."""
        kind = COMPRESSIONS.get(self._compressed or "")
        raw = self.filesystem.open_input_stream(self.path, compression=None if kind == "xz" else kind)
        if kind == "xz":
            return cast(BinaryIO, lzma.LZMAFile(cast(BinaryIO, raw)))
        return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, raw)))

    def find_column(self, name: str, counts: Mapping[str, int], hint: str = "") -> str:
        """Return a column's name in the file: the same, or the only one that differs in blanks around it.

        `counts` says how often the file has each name; `hint` ends the message if there is no such column.

        Raises:
            InputError: there is no such column, or more than one.
        """
        found = [name] if name in counts else [own for own in counts if own.strip() == name.strip()]
        if not found:
            raise self.no_column(name, counts, hint)
        if len(found) > 1 or counts[found[0]] > 1:
            times = sum(counts[own] for own in found)
            raise InputError(
                f"{self.path}: column {name!r} stands {times} times in the file: which one is meant? "
                "Take out or rename the others"
            )
        return found[0]

    def no_column(self, name: str, names: Iterable[str], hint: str = "") -> InputError:
        """Return an error that says which columns the file has."""
        names = list(names)
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        has = f"{', '.join(names[:_NAMES_SHOWN])}{more}" if names else "none"
        return InputError(f"{self.path}: no column {name!r}; it has {has}{hint}")


@contextmanager
def reading(file: DataFile) -> Iterator[None]:
    """Turn what goes wrong while a file is read into one line.

    Raises:
        InputError: names the file and the reason.
    """
    try:
        yield
    except (OSError, EOFError, lzma.LZMAError, UnicodeError, pa.ArrowException) as error:
        raise InputError(f"{file.path}: cannot be read: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    """Return what an error says, in at most 300 characters."""
    return " ".join(str(error).split())[:300]


def find_files(path: str, encoding: str | None = None, delimiter: str | None = None) -> list[DataFile]:
    """List the files of a dataset, sorted by path.

    Args:
        path: a file, a folder with all below it, or a glob (** for folders at any depth) of files, or of
            folders if no file matches; a local path or a URI. A path that exists is no glob. In a folder,
            what is hidden (. or _ before a name) is left out.
        encoding: of text files; None: found for each.
        delimiter: of CSV files; None: found for each.

    Raises:
        InputError: there is no such file, none in a format that can be read, or they cannot be listed.
    """
    if not path.strip():
        raise InputError(f"{path!r}: the name of a file or folder is empty")
    try:
        folder = Folder.at(path)
        paths = _paths(folder)
    except ConfigError as error:
        raise InputError(str(error)) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be listed: {_one_line(error)}") from None
    if not paths:
        raise InputError(f"{path}: no such file or folder, or nothing matches")
    readable = [found for found in paths if DataFile(folder.filesystem, found).format]
    if not readable:
        names = ", ".join(found.rpartition("/")[2] for found in paths[:3])
        raise InputError(
            f"{path}: no JSONL, CSV or Parquet file, but {names}; save the data as one of these "
            f"(endings: {', '.join(FORMATS)}, compressed too: {', '.join(COMPRESSIONS)})"
        )
    alone = len(readable) == 1
    return [DataFile(folder.filesystem, found, encoding, delimiter, alone) for found in readable]


def _paths(folder: Folder) -> list[str]:
    """Return the paths of the files that a path means, sorted."""
    parts = folder.path.split("/")
    n_names = _count_names(folder, parts)
    if n_names < len(parts):
        base, pattern = "/".join(parts[:n_names]), parts[n_names:]
        inside = _inside(folder.filesystem, base)
        whole = [path for path in inside if _match_parts(path.split("/"), pattern)]
        below = [path for path in inside if _matches_folder(path.split("/"), pattern)]
        return [f"{base}/{path}" for path in whole or below]
    if folder.filesystem.get_file_info(folder.path).is_file:
        return [folder.path]
    return [f"{folder.path}/{path}" for path in _inside(folder.filesystem, folder.path) if not _hidden(path)]


def _count_names(folder: Folder, parts: list[str]) -> int:
    """Return how many parts of a path are names: those before a wildcard, or more if they exist."""
    first = next((i for i, part in enumerate(parts) if any(sign in part for sign in WILDCARDS)), len(parts))
    longer = range(len(parts), first, -1)
    infos = folder.filesystem.get_file_info(["/".join(parts[:end]) for end in longer])
    found = (end for end, info in zip(longer, infos, strict=True) if info.type != pafs.FileType.NotFound)
    return next(found, first)


def _inside(filesystem: pafs.FileSystem, base: str) -> list[str]:
    """Return the paths of all files below a folder, relative to it, sorted."""
    selector = pafs.FileSelector(base, recursive=True, allow_not_found=True)
    found = [info.path for info in filesystem.get_file_info(selector) if info.is_file]
    return sorted(path.removeprefix(base).lstrip("/") for path in found)


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/"))


def _matches_folder(parts: list[str], patterns: list[str]) -> bool:
    """Tell whether a folder of a path matches, and nothing below that folder is hidden."""
    ends = [end for end in range(1, len(parts)) if _match_parts(parts[:end], patterns)]
    return bool(ends) and not _hidden("/".join(parts[ends[0] :]))


def _match_parts(parts: list[str], patterns: list[str]) -> bool:
    """Match part by part: * does not cross a slash, ** stands for any number of folders.

    >>> paths = ("x.csv", "b/c/x.csv", "b/x.txt")
    >>> [_match_parts(path.split("/"), ["**", "*.csv"]) for path in paths]
    [True, True, False]
    """
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_match_parts(parts[i:], patterns[1:]) for i in range(len(parts) + 1))
    return (
        bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and _match_parts(parts[1:], patterns[1:])
    )
