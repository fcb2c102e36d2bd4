"""`run.log`: what libraries and their processes print during a run, away from its own lines."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TextIO

import pyarrow.fs as pafs

from hypsae_ray.console import Console
from hypsae_ray.store.artifacts import Folder

LOG = "run.log"


@contextmanager
def own_console(out: Folder) -> Iterator[Console]:
    """Give a console that has stdout and stderr for itself; all else that is printed goes into run.log.

    This is done by file descriptors, so that it holds for C++ code and for processes that are started
    meanwhile. The log lies in the run folder; where that is not on this machine or cannot be written, in a
    temporary file. One in which nothing was printed is removed. An error names the log.
    """
    made = _missing(out)
    with _open(out) as log, ExitStack() as stack:
        before = log.tell()
        own = Console(stack.enter_context(_kept(sys.stderr)), stack.enter_context(_kept(sys.stdout)))
        stack.callback(_tidy, Path(log.name), made)
        try:
            with _diverted(log):
                yield own
        except Exception:
            if log.seek(0, os.SEEK_END) > before:
                own.say(f"what libraries printed before this is in {log.name}")
            raise


def _missing(out: Folder) -> list[Path]:
    """Return the folders that are there only once the run folder is made, the inner one first."""
    path = Path(out.path)
    return [folder for folder in (path, *path.parents) if not folder.exists()] if _is_local(out) else []


def _is_local(out: Folder) -> bool:
    return isinstance(out.filesystem, pafs.LocalFileSystem)


def _open(out: Folder) -> IO[bytes]:
    if _is_local(out):
        with suppress(OSError):
            Path(out.path).mkdir(parents=True, exist_ok=True)
            return (Path(out.path) / LOG).open("ab")
    return tempfile.NamedTemporaryFile("ab", prefix="hypsae-", suffix=f"-{LOG}", delete=False)


def _tidy(log: Path, made: list[Path]) -> None:
    """Remove a log that is empty, and the folders that were made for nothing else."""
    if log.exists() and log.stat().st_size == 0:
        log.unlink()
        with suppress(OSError):  # one that holds something
            for folder in made:
                folder.rmdir()


@contextmanager
def _kept(stream: TextIO) -> Iterator[TextIO]:
    """Give a stream that goes on where this one goes now."""
    try:
        number = os.dup(stream.fileno())
    except (OSError, ValueError):  # one of Python's own, such as a test's: nothing is diverted from it
        yield stream
        return
    with os.fdopen(number, "w", buffering=1, encoding=stream.encoding, errors=stream.errors) as kept:
        yield kept


@contextmanager
def _diverted(log: IO[bytes]) -> Iterator[None]:
    """Send file descriptors 1 and 2 into a file."""
    with ExitStack() as stack:
        for number in (1, 2):
            kept = os.dup(number)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, number)
        stack.callback(_flush)
        _flush()
        for number in (1, 2):
            os.dup2(log.fileno(), number)
        yield


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
