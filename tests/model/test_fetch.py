"""Bundles from a real HTTPS server, and everything a server or a command may try."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from edge_asd.errors import BundleUnfetched
from edge_asd.model.fetch import fetch, permitted
from tests.model.server import ENDLESS, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.model.server import Server

CONTENT = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
LEADS = {
    "/models/moved.asd": "https://127.0.0.1:PORT/elsewhere/pump.asd",
    "/models/plain.asd": "http://127.0.0.1:PORT/elsewhere/pump.asd",
    "/models/local.asd": "file:///etc/hostname",
    "/models/round.asd": "/models/round.asd",
    "/models/endless.asd": ENDLESS,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    files = {"/models/pump.asd": CONTENT, "/elsewhere/pump.asd": CONTENT}
    with serving(tmp_path_factory.mktemp("server"), files, LEADS) as server:
        yield server


def order(server: Server, path: str, to: Path, sha256: str = DIGEST, largest: int = 2**20) -> None:
    """From the folder that is allowed."""
    fetch(server.url(path), sha256, to, [server.url("/models/")], server.ca_file, largest=largest)


def refusal(server: Server, path: str, to: Path, sha256: str = DIGEST, largest: int = 2**20) -> str:
    """Why it was not fetched; nothing of it is left."""
    with pytest.raises(BundleUnfetched) as refused:
        order(server, path, to, sha256, largest)
    assert not to.exists()
    return str(refused.value)


def test_what_was_ordered_arrives(server: Server, tmp_path: Path) -> None:
    order(server, "/models/pump.asd", tmp_path / "new", DIGEST.upper())
    assert (tmp_path / "new").read_bytes() == CONTENT


def test_a_server_may_lead_on_to_another_by_https(server: Server, tmp_path: Path) -> None:
    order(server, "/models/moved.asd", tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/models/plain.asd", "is no address as https://"),
        ("/models/local.asd", "is not allowed"),
        ("/models/round.asd", "cannot be fetched"),
        ("/models/absent.asd", "Not Found"),
    ],
)
def test_nowhere_else_is_gone(server: Server, tmp_path: Path, path: str, said: str) -> None:
    assert said in refusal(server, path, tmp_path / "new")


def test_anything_else_than_what_was_ordered_is_thrown_away(server: Server, tmp_path: Path) -> None:
    said = refusal(server, "/models/pump.asd", tmp_path / "new", "0" * 64)
    assert f"has digest {DIGEST}" in said


def test_a_file_that_says_that_it_is_too_large_is_not_read(server: Server, tmp_path: Path) -> None:
    said = refusal(server, "/models/pump.asd", tmp_path / "new", largest=len(CONTENT) - 1)
    assert f"has {len(CONTENT)} bytes or more; at most {len(CONTENT) - 1}" in said


def test_a_file_without_an_end_is_given_up_at_the_limit(server: Server, tmp_path: Path) -> None:
    assert "at most 1000000 are fetched" in refusal(server, "/models/endless.asd", tmp_path / "new", largest=10**6)


def test_a_server_that_nobody_vouches_for_is_not_spoken_to(server: Server, tmp_path: Path) -> None:
    asked = len(server.asked)
    with pytest.raises(BundleUnfetched, match="certificate verify failed"):
        fetch(server.url("/models/pump.asd"), DIGEST, tmp_path / "new", [server.url("/models/")])
    assert len(server.asked) == asked


def test_a_server_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(BundleUnfetched, match="refused"):
        fetch("https://127.0.0.1:1/pump.asd", DIGEST, tmp_path / "new", ["https://127.0.0.1:1/"])


@pytest.mark.parametrize(
    "ref",
    [
        "https://models.plant/edge/../secret/pump.asd",
        "https://models.plant/edge/%2e%2e/secret/pump.asd",
        "https://models.plant/edge/%252e%252e/secret/pump.asd",
        "https://models.plant/edge/..\\secret",
        "https://models.plant/edgewise/pump.asd",
        "https://models.plant.evil.example/edge/pump.asd",
        "https://models.plant@evil.example/edge/pump.asd",
        "https://models.plant:444/edge/pump.asd",
        "https://models.plant:port/edge/pump.asd",
        "http://models.plant/edge/pump.asd",
        "file:///edge/pump.asd",
        "https:///edge/pump.asd",
        "https://[models.plant/edge/pump.asd",
        "https://models.plant/edge/pump.asd\nHost: evil.example",
        "https://models.plant/edge/pump.asd#part",
        "",
    ],
)
def test_an_address_that_is_not_below_what_is_allowed_is_not_even_looked_up(ref: str, tmp_path: Path) -> None:
    assert not permitted(ref, ["https://models.plant/edge/"])
    with pytest.raises(BundleUnfetched, match=r"models\.allow"):
        fetch(ref, DIGEST, tmp_path / "new", ["https://models.plant/edge/"])


@pytest.mark.parametrize(
    "ref", ["https://models.plant/edge/pump.asd", "https://MODELS.plant:443/edge/a/b.asd", "https://b.example/x?y=1"]
)
def test_an_address_below_one_that_is_allowed_is_permitted(ref: str) -> None:
    assert permitted(ref, ["https://models.plant/edge/", "https://b.example/"])


def test_without_a_place_that_is_allowed_nothing_is() -> None:
    assert not permitted("https://models.plant/edge/pump.asd", [])
