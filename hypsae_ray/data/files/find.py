"""Which files a place means, what their names say of them, and their bytes."""

import fnmatch
import hashlib
import io
import lzma
from collections.abc import Iterator
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
NULL_KEY = "__HIVE_DEFAULT_PARTITION__"
SIGNS = "*?["
_BLOCK = 1 << 22


@dataclass(frozen=True)
class DataFile:
    """One file of a dataset.

    Attributes:
        filesystem: where it lies.
        path: its path there.
        encoding: as the user set it; None: to be found.
        delimiter: of a CSV, as the user set it; None: to be found.
        alone: whether it is the whole dataset.
    """

    filesystem: pafs.FileSystem = field(compare=False)
    path: str
    encoding: str | None = None
    delimiter: str | None = None
    alone: bool = True

    @property
    def ending(self) -> str | None:
        """The key of FORMATS that its name ends in, in any case and before that of a compression; or None."""
        name = self.path.lower()
        name = name.removesuffix(self._compressed or "")
        return next((ending for ending in FORMATS if name.endswith(ending)), None)

    @property
    def format(self) -> str | None:
        """json, csv or parquet; None if it is none of these."""
        return FORMATS.get(self.ending or "")

    @property
    def _compressed(self) -> str | None:
        return next((ending for ending in COMPRESSIONS if self.path.lower().endswith(ending)), None)

    @property
    def keys(self) -> dict[str, str | None]:
        """What the names of its folders say, as Hive and Spark write them: a/year=2024/ is year, 2024."""
        parts = [part.partition("=") for part in self.path.split("/")[:-1]]
        values = {unquote(name): unquote(value) for name, sign, value in parts if name and sign}
        return {name: None if value == NULL_KEY else value for name, value in values.items()}

    def stamp(self) -> str:
        """Return a name that changes with the file's path, size or time of change.

        Raises:
            InputError: the file cannot be reached.
        """
        with reading(self):
            info = self.filesystem.get_file_info(self.path)
        return f"{self.path} {info.size} {info.mtime_ns}"

    def digest(self) -> str:
        """Return a hex SHA-256 of the file's content, and of what its name says about it.

        Raises:
            InputError: the file cannot be read.
        """
        digest = hashlib.sha256(repr((self.ending, self.keys)).encode())
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


@contextmanager
def reading(file: DataFile) -> Iterator[None]:
    """Turn what goes wrong while a file is read into one line.

    Raises:
        InputError: names the file and the reason.
    """
    try:
        yield
    except (OSError, EOFError, lzma.LZMAError, UnicodeError, pa.ArrowException) as error:
        raise InputError(f"{file.path}: cannot be read: {one_line(error)}") from None


def one_line(error: Exception) -> str:
    """Return what an error says, in at most 300 characters."""
    return " ".join(str(error).split())[:300]


def find_files(place: str, encoding: str | None = None, delimiter: str | None = None) -> list[DataFile]:
    """List the files of a dataset, sorted by path.

    Args:
        place: a file, a folder with all below it, or a glob (** for folders at any depth) of files, or of
            folders if no file matches; a local path or a URI. What exists under the very name is no glob. In
            a folder, what is hidden (. or _ before a name) is left out.
        encoding: of text files; None: found for each.
        delimiter: of CSV files; None: found for each.

    Raises:
        InputError: there is no such file, none in a format that can be read, or the place cannot be listed.
    """
    if not place.strip():
        raise InputError(f"{place!r}: the name of a file or folder is empty")
    try:
        folder = Folder.at(place)
        paths = _paths(folder)
    except ConfigError as error:
        raise InputError(str(error)) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{place}: cannot be listed: {one_line(error)}") from None
    if not paths:
        raise InputError(f"{place}: no such file or folder, or nothing matches")
    found = [DataFile(folder.filesystem, path) for path in paths]
    wanted = [file.path for file in found if file.format]
    if not wanted:
        names = ", ".join(path.rpartition("/")[2] for path in paths[:3])
        raise InputError(
            f"{place}: no JSONL, CSV or Parquet file, but {names}; save the data as one of these "
            f"(endings: {', '.join(FORMATS)}, compressed too: {', '.join(COMPRESSIONS)})"
        )
    alone = len(wanted) == 1
    return [DataFile(folder.filesystem, path, encoding, delimiter, alone) for path in wanted]


def _paths(folder: Folder) -> list[str]:
    """Return the paths of the files that a place means, sorted."""
    parts = folder.path.split("/")
    fixed = _fixed(folder, parts)
    if fixed < len(parts):
        base, pattern = "/".join(parts[:fixed]), parts[fixed:]
        inside = _inside(folder.filesystem, base)
        whole = [path for path in inside if _match_parts(path.split("/"), pattern)]
        below = [path for path in inside if _matches_folder(path.split("/"), pattern)]
        return [f"{base}/{path}" for path in whole or below]
    if folder.filesystem.get_file_info(folder.path).is_file:
        return [folder.path]
    return [f"{folder.path}/{path}" for path in _inside(folder.filesystem, folder.path) if not _hidden(path)]


def _fixed(folder: Folder, parts: list[str]) -> int:
    """Return how many parts of a path are names: those before a sign of a glob, or more if they exist."""
    signs = [number for number, part in enumerate(parts) if any(sign in part for sign in SIGNS)]
    longer = range(len(parts), signs[0], -1) if signs else ()
    infos = folder.filesystem.get_file_info(["/".join(parts[:end]) for end in longer])
    found = [end for end, info in zip(longer, infos, strict=True) if info.type != pafs.FileType.NotFound]
    return found[0] if found else signs[0] if signs else len(parts)


def _inside(filesystem: pafs.FileSystem, base: str) -> list[str]:
    """Return the paths of all files below a folder, from there on, sorted."""
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
