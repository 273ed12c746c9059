"""Zips that mean no good, made by Python's own zipfile or by hand."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.archive import LARGEST, MOST, read_archive, store
from edge_asd.errors import BundleCorrupt, BundleError

if TYPE_CHECKING:
    from pathlib import Path

names = st.from_regex(r"[a-zA-Z0-9_-]{1,8}(\.[a-z0-9]{1,8}){0,2}", fullmatch=True)
SMALL = {"CARD.md": b"# Card\n", "manifest.json": b"{}"}


def archive(*entries: tuple[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    """As somebody's zip program would write it, in this order."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as file:
        file.comment = comment
        for name, content in entries:
            file.writestr(zipfile.ZipInfo(name), content, compress_type=method)
    return written.getvalue()


def refusal(folder: Path, content: bytes) -> str:
    """Why it is not read."""
    path = folder / "b.asd"
    path.write_bytes(content)
    with pytest.raises(BundleCorrupt) as refused:
        read_archive(path, {})
    before, _, after = str(refused.value).partition("(")
    assert before == f"{path} is no bundle, or is damaged "
    assert after.endswith("); copy it here again")
    return after.removesuffix("); copy it here again")


@settings(max_examples=40)
@given(st.dictionaries(names, st.binary(max_size=300), min_size=1, max_size=5))
def test_what_is_stored_is_read_and_is_a_zip_to_others(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.asd"
    store(path, files)

    assert read_archive(path, {}) == files
    with zipfile.ZipFile(path) as other:
        assert other.testzip() is None
        assert {name: other.read(name) for name in other.namelist()} == files


def test_every_byte_counts(tmp_path: Path) -> None:
    """Each of them, set to each of three other values: there is no place where a change goes unseen."""
    path = tmp_path / "b.asd"
    store(path, SMALL)
    whole = path.read_bytes()

    for place, byte in enumerate(whole):
        for change in (0x01, 0x80, 0xFF):
            path.write_bytes(whole[:place] + bytes([byte ^ change]) + whole[place + 1 :])
            with pytest.raises(BundleCorrupt):
                read_archive(path, {})


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "..", ".hidden", "a\0b", "ä", ""])
def test_a_name_that_could_be_a_path_is_refused(tmp_path: Path, name: str) -> None:
    content = archive(("CARD.md", b""), ("x" * len(name.encode()), b"x"))

    said = refusal(tmp_path, content.replace(b"x" * len(name.encode()) + b"x", name.encode() + b"x", 1))

    assert said.startswith("a file in it is called ")


def test_a_name_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    content = archive(("CARD.md", b"good"), ("CARD.me", b"evil")).replace(b"CARD.me", b"CARD.md")

    assert refusal(tmp_path, content) == "it holds CARD.md twice"


def test_more_files_than_any_bundle_has_are_refused(tmp_path: Path) -> None:
    store(tmp_path / "most.asd", {f"{number:03}": b"" for number in range(MOST)})
    assert len(read_archive(tmp_path / "most.asd", {})) == MOST

    content = archive(*((f"{number:03}", b"") for number in range(MOST + 1)))
    assert refusal(tmp_path, content) == f"it holds more than {MOST} files"


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_is_not_unpacked(tmp_path: Path, method: int) -> None:
    """A hundred megabytes of zeros, a few kilobytes packed."""
    content = archive(("heads.safetensors", bytes(100_000_000)), method=method)
    assert len(content) < 200_000

    assert refusal(tmp_path, content) == "heads.safetensors is compressed"


def test_a_file_that_claims_more_than_there_is_is_refused(tmp_path: Path) -> None:
    content = bytearray(archive(("CARD.md", b"text")))
    content[22:26] = struct.pack("<L", 2**32 - 1)

    assert refusal(tmp_path, bytes(content)).startswith("CARD.md claims 4294967295 bytes, and there are ")


OTHERWISE = "its headers or its directory do not belong to its files"
ODD = {
    "comment": archive(*SMALL.items(), comment=b"hello"),
    "behind": archive(*SMALL.items()) + b"\0",
    "unsorted": archive(*reversed(SMALL.items())),
    "second directory": archive(*SMALL.items()) + archive(*SMALL.items()),
    "overlap": archive(*SMALL.items()).replace(b"\x2c\0\0\0manifest", b"\0\0\0\0manifest"),
    "of its own time": archive(*SMALL.items()).replace(b"\x21\0", b"\x22\0"),
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_what_is_no_part_of_a_file_is_refused(tmp_path: Path, content: bytes) -> None:
    assert refusal(tmp_path, content) == OTHERWISE


def test_what_precedes_the_first_file_is_refused(tmp_path: Path) -> None:
    """A program that is a zip, too."""
    content = b"#!/bin/sh\nrm -rf /\n" + archive(*SMALL.items())

    assert refusal(tmp_path, content) == "it does not begin like one"


def test_what_lies_between_the_files_is_refused(tmp_path: Path) -> None:
    content = archive(*SMALL.items())
    second = content.index(b"PK\x03\x04", 1)

    said = refusal(tmp_path, content[:second] + b"gap" + content[second:])

    assert said == f"at byte {second} there is neither a file nor the directory"


def test_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "b.asd")

    with pytest.raises(BundleCorrupt, match=r"b\.asd is no bundle, or is damaged \(it is no file\)"):
        read_archive(tmp_path / "b.asd", {})


def test_ten_gigabytes_are_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "b.asd").open("wb") as sparse:
        sparse.truncate(10_000_000_000)

    with pytest.raises(BundleError, match=rf"b\.asd: has 10000000000 bytes; a bundle has at most {LARGEST}"):
        read_archive(tmp_path / "b.asd", {})


def test_a_file_over_its_limit_is_named(tmp_path: Path) -> None:
    store(tmp_path / "b.asd", SMALL)

    assert read_archive(tmp_path / "b.asd", {"CARD.md": 7, "else": 0}) == SMALL
    with pytest.raises(BundleError, match=r"b\.asd: CARD\.md has 7 bytes, and may have 6"):
        read_archive(tmp_path / "b.asd", {"CARD.md": 6})
