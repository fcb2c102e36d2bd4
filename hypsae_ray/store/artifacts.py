"""Where results live: folders on any filesystem, content hashes, and the manifest that says "done".

A stage writes its tables into `stages/<stage>-<hash8>/` and its `manifest.json` last, so a folder with a
manifest is whole and one without is unfinished work that a later run may go on with. Files appear whole
or not at all: on a local disk by a rename, on an object store because one PUT is one object.
"""

import errno
import hashlib
import io
import json
import os
import re
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from hypsae_ray.errors import ConfigError, StageError, UsageError
from hypsae_ray.secrets import find_secret
from hypsae_ray.store import schema
from hypsae_ray.store.usage import Usage

MANIFEST = "manifest.json"
ROWS_PER_GROUP = 512  # what a reader of a few rows must read at the least
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM)
# Errors that remain on another try; any other may pass, such as a file server that does not answer.
_LASTING = (
    *_FORBIDDEN,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
    errno.EIO,
)
_REFUSED_BY_S3 = re.compile(
    r"AWS Error (NO_SUCH_BUCKET|ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH)"
)


@contextmanager
def explained(path: str, done: str) -> Iterator[None]:
    """Turn an error of the operating system about a path into one line: it cannot be "read", or "written".

    Raises:
        UsageError: there is no such path, or it does not allow what is done.
        StageError: the disk is full.
        OSError: anything else; it may pass.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            message = f"{path}: the disk is full: {error}; finished files are kept"
            raise StageError(message) from None
        missing = error.errno == errno.ENOENT and done == "written"
        refused = _REFUSED_BY_S3.search(str(error))
        if not (missing or refused or error.errno in _LASTING):
            raise
        why = refused[1].lower().replace("_", " ") if refused else _why(path, error)
        raise UsageError(f"{path}: cannot be {done}: {why}; {_advice(error)}") from None


def _why(path: str, error: OSError) -> str:
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        for part in (Path(path), *Path(path).parents):
            if part.is_file():
                return f"{part} is a file, not a folder"
    return os.strerror(error.errno or errno.EIO).lower()


def _advice(error: OSError) -> str:
    if error.errno in _FORBIDDEN:
        return "choose another path, or give this user the right to use it"
    return "check the disk, or choose another path" if error.errno == errno.EIO else "choose another path"


@dataclass(frozen=True)
class Folder:
    """A folder, local or on any filesystem that pyarrow.fs knows; it need not exist yet. Picklable."""

    filesystem: pafs.FileSystem
    path: str

    @classmethod
    def at(cls, path: str | Path) -> "Folder":
        """Open a local path or a URI such as s3://bucket/run.

        Raises:
            ConfigError: the URI holds a secret, or names no filesystem that pyarrow knows.
        """
        text = str(path)
        if reason := find_secret(text):
            raise ConfigError(f"{text}: {reason}")
        try:
            if "://" not in text:
                return cls(pafs.LocalFileSystem(), str(Path(text).expanduser().absolute()))
            return cls(*pafs.FileSystem.from_uri(text))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, RuntimeError) as error:
            raise ConfigError(f"{text}: cannot be opened: {error}") from None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> "Folder":
        """The folder that this one is in."""
        return Folder(self.filesystem, self.path.rpartition("/")[0])

    def exists(self) -> bool:
        """Tell whether this folder is there; on an object store it is where an object is in it."""
        with explained(self.path, "read"):
            return self.filesystem.get_file_info(self.path).type == pafs.FileType.Directory

    def sub(self, name: str) -> "Folder":
        """Return the folder `name` inside this one."""
        return Folder(self.filesystem, f"{self.path}/{name}")

    def names(self, prefix: str = "", suffix: str = "") -> list[str]:
        """Return the names of the files right in this folder, sorted; none if it does not exist."""
        with explained(self.path, "read"):
            found = self.filesystem.get_file_info(pafs.FileSelector(self.path, allow_not_found=True))
        names = sorted(info.base_name for info in found if info.is_file)
        return [name for name in names if name.startswith(prefix) and name.endswith(suffix)]

    def has(self, name: str) -> bool:
        """Tell whether the file exists."""
        with explained(self.path, "read"):
            return self.filesystem.get_file_info(f"{self.path}/{name}").is_file

    def remove(self, name: str) -> None:
        """Delete one file of this folder, if it exists."""
        if self.has(name):
            with explained(self.path, "written"):
                self.filesystem.delete_file(f"{self.path}/{name}")

    def delete(self) -> None:
        """Delete this folder and all in it, if it exists."""
        with explained(self.path, "written"):
            if self.filesystem.get_file_info(self.path).type != pafs.FileType.NotFound:
                self.filesystem.delete_dir(self.path)

    def open(self, name: str) -> pa.NativeFile:
        """Open a file for reading at any position; the caller closes it."""
        with explained(f"{self.path}/{name}", "read"):
            return self.filesystem.open_input_file(f"{self.path}/{name}")

    def read_bytes(self, name: str) -> bytes:
        """Return the whole file."""
        return self._read(name).to_pybytes()

    def _read(self, name: str) -> pa.Buffer:
        """Return the whole file in memory of Arrow's own; what a stream reads would be a Python object."""
        with explained(f"{self.path}/{name}", "read"), self.open(name) as file:
            return file.read_buffer()

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file so that it is seen whole or not at all.

        Raises:
            UsageError: this folder cannot be made, or not be written to.
            StageError: the disk is full.
        """
        with explained(self.path, "written"):
            if not isinstance(self.filesystem, pafs.LocalFileSystem):
                self._pour(name, content)
                return
            self.filesystem.create_dir(self.path, recursive=True)
            draft = f".{name}.{uuid.uuid4().hex}"
            try:
                self._pour(draft, content)
                self._put(draft, name, content)
            finally:
                with suppress(OSError):
                    Path(f"{self.path}/{draft}").unlink(missing_ok=True)

    @contextmanager
    def writing(self, name: str) -> Iterator[pa.NativeFile]:
        """Open a file to write piece by piece; it is seen when it is closed, and not at all after an error.

        Raises:
            UsageError: this folder cannot be made, or not be written to.
            StageError: the disk is full.
        """
        local = isinstance(self.filesystem, pafs.LocalFileSystem)
        draft = f".{name}.{uuid.uuid4().hex}" if local else name
        with explained(self.path, "written"):
            try:
                if local:
                    self.filesystem.create_dir(self.path, recursive=True)
                with self.filesystem.open_output_stream(f"{self.path}/{draft}", compression=None) as stream:
                    yield stream
                if local:
                    self.filesystem.move(f"{self.path}/{draft}", f"{self.path}/{name}")
            except BaseException:
                with suppress(OSError):
                    self.filesystem.delete_file(f"{self.path}/{draft}")
                raise

    def _put(self, draft: str, name: str, content: bytes) -> None:
        """Rename a draft; a mounted bucket may not know how to, but shows a file when it is closed."""
        try:
            self.filesystem.move(f"{self.path}/{draft}", f"{self.path}/{name}")
        except OSError as error:
            if error.errno in _FULL:
                raise
            self._pour(name, content)

    def _pour(self, name: str, content: bytes) -> None:
        with self.filesystem.open_output_stream(f"{self.path}/{name}", compression=None) as stream:
            stream.write(content)

    def read_json(self, name: str) -> Any:
        """Return the parsed content of a JSON file."""
        return json.loads(self.read_bytes(name))

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file for people to read: indented, keys in the given order."""
        self.write_bytes(name, json.dumps(value, indent=2, default=str).encode())

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Return one Parquet file as a table, or some of its columns, in this order.

        No Python object holds its bytes: a thread of Arrow that let go of one while the program ended aborted
        3 of 320 finished runs, next to three busy processes (pyarrow 26; apache/arrow issues 34314, 50482).
        `pq.read_table` takes twice the time: it reads by way of a dataset.
        """
        table = pq.ParquetFile(pa.BufferReader(self._read(name))).read(columns, use_threads=False)
        return table if columns is None else table.select(columns)

    def read_rows(self, name: str, start: int, rows: int, columns: list[str]) -> pa.Table:
        """Return some rows of one Parquet file, reading the row groups that hold them."""
        with self.open(name) as file:
            parquet = pq.ParquetFile(file)
            n_groups = parquet.num_row_groups
            ends = list(accumulate(parquet.metadata.row_group(i).num_rows for i in range(n_groups)))
            first, last = bisect_right(ends, start), bisect_left(ends, start + rows)
            table = parquet.read_row_groups(range(first, min(last + 1, n_groups)), columns, use_threads=False)
        return table.slice(start - (ends[first - 1] if first else 0), rows)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write a table as one Parquet file."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", row_group_size=ROWS_PER_GROUP)
        self.write_bytes(name, buffer.getvalue())

    def write_table_once(self, name: str, table: pa.Table) -> bool:
        """Write a table as one Parquet file unless it exists; return whether it was written.

        Of two writers at the same moment the later one replaces the file, so both must have the same to say.
        """
        if self.has(name):
            return False
        self.write_table(name, table)
        return True

    def count_rows(self, name: str) -> int:
        """Return the number of rows of one Parquet file, which its footer knows."""
        with self.open(name) as file:
            return pq.ParquetFile(file).metadata.num_rows

    def tables(self, prefix: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Yield the Parquet files whose names start with `prefix`, one at a time, in order of name."""
        for name in self.names(prefix, ".parquet"):
            yield self.read_table(name, columns)

    def read_tables(self, prefix: str, columns: list[str] | None = None) -> pa.Table:
        """Return all Parquet files whose names start with `prefix` as one table.

        Raises:
            FileNotFoundError: there is no such file.
        """
        found = list(self.tables(prefix, columns))
        if not found:
            raise FileNotFoundError(f"{self.path}: no {prefix}*.parquet")
        return pa.concat_tables(found)


@dataclass(frozen=True)
class Outcome:
    """What a stage did: rows made, tokens used, and facts that later stages or the user need."""

    rows: int
    usage: Usage = field(default_factory=Usage)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The marker of a finished stage."""

    stage: str
    hash: str  # hex SHA-256 of all that decides its content
    seconds: float  # wall time of the run that finished it
    outcome: Outcome

    @property
    def is_final(self) -> bool:
        """Whether every answer came; the next run asks for the others, also where time had run out."""
        facts = self.outcome.facts
        counts = facts.get("answers", {})
        pending = counts.get("pending") or counts.get("set_aside")  # as older manifests name it
        return not (pending or facts.get("rows_unasked"))

    def save(self, folder: Folder) -> None:
        """Write the marker; call it when every other file of the stage is written."""
        usage = self.outcome.usage
        folder.write_json(
            MANIFEST,
            {
                "stage": self.stage,
                "hash": self.hash,
                "seconds": round(self.seconds, 3),
                "rows": self.outcome.rows,
                "tokens": {"prompt": usage.prompt, "cached": usage.cached, "generated": usage.generated},
                "facts": dict(self.outcome.facts),
            },
        )

    @classmethod
    def load(cls, folder: Folder) -> "Manifest | None":
        """Read the marker of a folder; None if the stage is not finished."""
        if not folder.has(MANIFEST):
            return None
        saved = folder.read_json(MANIFEST)
        outcome = Outcome(saved["rows"], Usage(**saved["tokens"]), saved["facts"])
        return cls(saved["stage"], saved["hash"], saved["seconds"], outcome)


def content_hash(stage: str, decides: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Return the hex SHA-256 of what decides a stage: JSON-ready values, and the hash of each input."""
    whole = {"schema": schema.VERSION, "stage": stage, "decides": decides, "inputs": dict(inputs)}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
