from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from train.file import write_whole

if TYPE_CHECKING:
    from pathlib import Path

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
