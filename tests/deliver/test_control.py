from __future__ import annotations

import getpass
import json
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from edge_asd.deliver.control import NAME, Control, ask
from edge_asd.errors import ConfigError
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    control = Control(tmp_path)
    yield control
    control.close()


def test_a_request_is_answered_and_says_who_asks(control: Control, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(ask, tmp_path, "ack", {"machine": "pump1"})
        asked = until(lambda: list(control.asked()), 5, "nobody asked")[0]
        assert (asked.verb, asked.body, asked.by) == ("ack", {"machine": "pump1"}, getpass.getuser())
        asked.answer(json.dumps({"status": "ok"}).encode())
        assert reply.result(5) == {"status": "ok"}


def test_only_its_owner_may_command(control: Control, tmp_path: Path) -> None:  # noqa: ARG001 - it must run
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_a_path_longer_than_a_sockets_works_too(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    control = Control(deep)
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(ask, deep, "ack", {})
        until(lambda: list(control.asked()), 5, "nobody asked")[0].answer(b"{}")
        assert reply.result(5) == {}
    control.close()


@pytest.mark.parametrize("said", [b"", b"no json\n", b"[]\n", b'{"verb": "ack"}\n', b"x" * 100_000], ids=len)
def test_nonsense_is_hung_up_on_and_the_next_is_heard(control: Control, tmp_path: Path, said: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(tmp_path / NAME))
        stranger.sendall(said)
        assert list(control.asked()) == []
    test_a_request_is_answered_and_says_who_asks(control, tmp_path)


def test_where_no_daemon_runs_that_is_said_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no daemon answers at .*control\.sock.*is edge-asd running"):
        ask(tmp_path, "ack", {})


def test_the_socket_of_a_killed_daemon_is_in_nobodys_way(tmp_path: Path) -> None:
    Control(tmp_path)._socket.close()  # noqa: SLF001 - as a kill leaves it
    Control(tmp_path).close()
    assert not (tmp_path / NAME).exists()
