"""In which encoding a file's bytes are text: UTF-8 if all are, else by a byte order mark or a guess."""

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import IO, BinaryIO

from hypsae_ray.data.files.find import DataFile
from hypsae_ray.errors import InputError

SETTING = "data.encoding (of hypsae annotate: --encoding)"
_BLOCK = 1 << 20
_SAMPLE = 1 << 16  # charset-normalizer takes some ms per KiB, and looks at parts of a longer sample anyway
_BOMS = (  # that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What spreadsheets and surveys write, the commonest first, which wins where several explain the bytes equally
# well. The Windows code pages hold what ISO 8859 has.
_CANDIDATES = (
    *("cp1252", "cp1251", "cp1250", "cp1254", "cp1253", "cp1255", "cp1256"),
    *("gb18030", "cp932", "big5", "cp949", "euc_jp", "koi8_r"),
)


@dataclass(frozen=True)
class Dialect:
    """How bytes become rows: the encoding in Python's words, and a CSV's delimiter (None: one column)."""

    encoding: str
    delimiter: str | None = None

    @property
    def is_utf8(self) -> bool:
        """Whether the text is UTF-8, of which ASCII is a part."""
        return self.encoding in ("utf-8", "utf-8-sig")

    def __str__(self) -> str:
        """Return it in words, for messages."""
        names = {"\t": "tab", None: "none: one column"}
        return f"delimiter {names.get(self.delimiter, repr(self.delimiter))}, encoding {self.encoding}"


@contextmanager
def open_text(file: DataFile, encoding: str) -> Iterator[IO[str]]:
    """Open a file as text, line ends as they are.

    Raises:
        InputError: the file is not in that encoding; names the line.
    """
    with file.open() as stream, io.TextIOWrapper(stream, encoding, newline="") as lines:
        try:
            yield lines
        except UnicodeDecodeError:
            raise _not_in(file, encoding) from None


def find_encoding(file: DataFile) -> str:
    """Return the encoding of a text file, which is read as far as it is UTF-8.

    Raises:
        InputError: no encoding explains the bytes, or the text is UTF-8 with some broken bytes in it.
    """
    with file.open() as stream:
        head = stream.read(_BLOCK)
        bom = next((name for bom, name in _BOMS if head.startswith(bom)), None)
        if file.encoding is not None:
            return bom if bom and codecs.lookup(file.encoding).name.startswith("utf") else file.encoding
        return bom or _utf16_without_bom(head) or _as_utf8(file, head, stream)


def _utf16_without_bom(head: bytes) -> str | None:
    """Return which UTF-16 puts a NUL next to each ASCII letter, if the bytes look like it."""
    even, odd = head[0:4096:2].count(0), head[1:4096:2].count(0)
    if max(even, odd) <= min(len(head), 4096) / 10:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _as_utf8(file: DataFile, head: bytes, stream: BinaryIO) -> str:
    """Return utf-8 if all bytes are, else the likeliest other encoding."""
    decoder, multibyte = codecs.getincrementaldecoder("utf-8")(), 0
    for block in chain([head], iter(lambda: stream.read(_BLOCK), b""), [b""]):
        try:
            multibyte += len(block) - len(decoder.decode(block, final=not block))
        except UnicodeDecodeError as error:
            start = error.object.rfind(b"\n", 0, error.start) + 1
            multibyte += error.start - len(error.object[: error.start].decode())
            return _guess(file, _non_ascii_lines(error.object[start:] + stream.read(_BLOCK)), multibyte)
    return "utf-8"


def _non_ascii_lines(block: bytes) -> bytes:
    """Return the lines that hold more than ASCII, up to _SAMPLE bytes: others tell no candidates apart."""
    sample = bytearray()
    for line in block.splitlines(keepends=True):
        if not line.isascii() and len(sample) < _SAMPLE:
            sample += line
    return bytes(sample)


def _guess(file: DataFile, sample: bytes, multibyte: int) -> str:
    """Return the likeliest encoding of lines; before them, UTF-8 had `multibyte` bytes more than letters."""
    from charset_normalizer import from_bytes

    as_utf8 = sample.decode("utf-8", errors="replace")
    broken = as_utf8.count("\N{REPLACEMENT CHARACTER}")
    if multibyte + len(re.findall(r"[^\x00-\x7f\ufffd]", as_utf8)) >= broken:
        raise _not_in(file, "utf-8")
    matches = list(from_bytes(sample, cp_isolation=list(_CANDIDATES)))
    best = [m for m in matches if (m.chaos, m.coherence) == (matches[0].chaos, matches[0].coherence)]
    names = {name for match in best for name in match.could_be_from_charset}
    found = next((name for name in _CANDIDATES if name in names), None)
    if found is None:
        raise InputError(f"{file.path}: not UTF-8, and no other encoding fits: set {SETTING}")
    return found


def _not_in(file: DataFile, encoding: str) -> InputError:
    """Return an error that names the first line that is not in an encoding."""
    decoder, line, found = codecs.getincrementaldecoder(encoding)(), 1, b""
    with file.open() as stream:
        for block in chain(iter(lambda: stream.read(_BLOCK), b""), [b""]):
            try:
                line += decoder.decode(block, final=not block).count("\n")
            except UnicodeDecodeError as error:
                found = error.object[error.start : error.end]
                line += error.object[: error.start].decode(encoding, errors="replace").count("\n")
                break
    return InputError(
        f"{file.path}: cannot be read: line {line} holds the byte 0x{found.hex()}, which is not {encoding}: "
        f"mend the line, or set {SETTING}"
    )
