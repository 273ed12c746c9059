"""A stored zip with nothing in it but its files: the same files are the same bytes, always.

That makes reading one safe without believing a word of it. Entries are taken in the order in which they lie there, none
is unpacked, and what was read must give every byte of the archive when it is written again. So there is nothing to hide
in, no gap, comment, second directory or overlap, and no byte that can change unseen but those of the files themselves.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zipfile
from typing import IO, TYPE_CHECKING

from edge_asd.errors import BundleCorrupt, BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LARGEST = 256 * 2**20
"""bytes an archive may have: more is a mistake or an attack"""
MOST = 64
"""files in one"""
_NAME = re.compile(r"[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*")
_ENTRY = struct.Struct("<4s5H3L2H")
"""before each file: mark, version, flags, method, time, date, CRC, size packed, size, lengths of name and extra"""
_MARK, _DIRECTORY = b"PK\x03\x04", b"PK\x01\x02"


def store(path: Path, files: Mapping[str, bytes]) -> None:
    """Write beside ``path``, then put it in its place. Same content, same bytes."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        _write(file, files)
    settle(partial, path)


def settle(partial: Path, path: Path) -> None:
    """Put a file that was written in its place: a power cut leaves all of it, or all that was there before."""
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder, before anything else is done."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_archive(path: Path, limits: Mapping[str, int]) -> dict[str, bytes]:
    """The files by name, some of which may have no more than so many bytes.

    Raises:
        FileNotFoundError: there is none.
        BundleError: it, or a file in it, is larger than anything that could be meant.
        BundleCorrupt: it is none, or not as :func:`store` writes it.
    """
    try:
        content = _content(path)
        files = _files(content)
        _compare(content, files)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        msg = f"{path} is no bundle, or is damaged ({error}); copy it here again"
        raise BundleCorrupt(msg) from error
    for name, most in limits.items():
        if (size := len(files.get(name, b""))) > most:
            msg = f"{path}: {name} has {size} bytes, and may have {most}; no bundle of ours needs that, do not use it"
            raise BundleError(msg)
    return files


def _content(path: Path) -> bytes:
    """All bytes; of what has too many, none."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe would have us wait
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            msg = "it is no file"
            raise ValueError(msg)
        if status.st_size > LARGEST:
            msg = f"{path}: has {status.st_size} bytes; a bundle has at most {LARGEST}"
            raise BundleError(msg)
        return file.read(LARGEST)


def _files(content: bytes) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for name, file in _entries(content):
        if name in files:
            msg = f"it holds {name} twice"
            raise ValueError(msg)
        if len(files) == MOST:
            msg = f"it holds more than {MOST} files"
            raise ValueError(msg)
        files[name] = file
    return files


def _entries(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file, as they follow each other; ValueError where that cannot be."""
    at = 0
    while content.startswith(_MARK, at):
        if len(content) < at + _ENTRY.size:
            msg = f"it is cut off after {len(content)} bytes"
            raise ValueError(msg)
        *_, method, _, _, _, _, size, name_length, extra = _ENTRY.unpack_from(content, at)
        start = at + _ENTRY.size + name_length
        name = _plain(content[at + _ENTRY.size : start])
        if method != zipfile.ZIP_STORED:
            msg = f"{name} is compressed"
            raise ValueError(msg)
        at = start + extra + size
        if at > len(content):
            msg = f"{name} claims {size} bytes, and there are {max(len(content) - start - extra, 0)}"
            raise ValueError(msg)
        yield name, content[start + extra : at]
    if not content.startswith(_DIRECTORY, at):
        msg = f"at byte {at} there is neither a file nor the directory" if at else "it does not begin like one"
        raise ValueError(msg)


def _plain(raw: bytes) -> str:
    """A name that could be one of ours; it is never used as a path, and yet must not be one."""
    name = raw.decode("ascii", "backslashreplace")
    if not _NAME.fullmatch(name):
        msg = f"a file in it is called {name[:100]!r}: letters, digits, _, - and . between them are allowed"
        raise ValueError(msg)
    return name


def _compare(content: bytes, files: Mapping[str, bytes]) -> None:
    again = io.BytesIO()
    _write(again, files)
    if again.getbuffer() != content:
        msg = "its headers or its directory do not belong to its files"
        raise ValueError(msg)


def _write(target: IO[bytes], files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name), files[name])
