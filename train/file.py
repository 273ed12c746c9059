"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


PART = ".part"
"""how the names of unfinished files end"""


def write_whole(path: Path, content: bytes) -> None:
    """A file that is interrupted while it is written never gets its name; its folder is made.

    Raises:
        OSError: it cannot be written; names it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    with _named(path):
        try:
            part.write_bytes(content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def append(path: Path, line: str) -> None:
    """One more line.

    Raises:
        OSError: it cannot be written; names the file.
    """
    with _named(path), path.open("a") as file:
        file.write(line + "\n")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """A full disk does not say which file it was that did not fit."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
