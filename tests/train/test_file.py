from __future__ import annotations

import resource
from pathlib import Path

import pytest

from train.file import append, write_whole

pytestmark = pytest.mark.train


def test_a_file_is_replaced_and_its_folder_made(tmp_path: Path) -> None:
    for content in (b"old and long", b"new"):
        write_whole(tmp_path / "a" / "b.txt", content)
        assert (tmp_path / "a" / "b.txt").read_bytes() == content


def test_what_cannot_be_written_whole_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_whole(tmp_path / "b.txt", b"old")
    with pytest.raises(TypeError):
        write_whole(tmp_path / "b.txt", None)  # type: ignore[arg-type]
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("b.txt", b"old")]


def test_a_file_that_does_not_fit_is_named(tmp_path: Path) -> None:
    """A device that is always full for a line; for a whole file, which is renamed, a limit on the size of files."""
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        append(Path("/dev/full"), "much")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with pytest.raises(OSError, match=rf"File too large: '{tmp_path}/b.txt'"):
            write_whole(tmp_path / "b.txt", bytes(2**21))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
