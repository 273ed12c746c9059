"""The HTTP server of the metrics, asked by real clients: over TLS, with certificates and without, and by idlers."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from contextlib import closing
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from edge_asd.errors import ConfigError
from edge_asd.observe.metric import Metrics
from edge_asd.observe.web import Certificate, MetricServer, Page
from tests.certificate import self_signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAGES: dict[str, Callable[[], Page]] = {
    "/healthz": lambda: Page(well=True, body=b'{"well": true}'),
    "/livez": lambda: Page(well=False, body=b'{"well": false}'),
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    self_signed(folder, "node", "prometheus", "stranger")
    return folder


@pytest.fixture
def plain() -> Iterator[MetricServer]:
    with closing(Metrics("0.1.0", "", 1.0, [], []).serve(port=0, pages=PAGES)) as server:
        yield server


@pytest.fixture
def guarded(certificates: Path) -> Iterator[MetricServer]:
    """Answers to the holder of ``prometheus.pem`` only."""
    ours = Certificate(certificates / "node.pem", certificates / "node.key", certificates / "prometheus.pem")
    with closing(Metrics("0.1.0", "", 1.0, [], []).serve(port=0, certificate=ours, pages=PAGES)) as server:
        yield server


def curl(certificates: Path, server: MetricServer, *options: str, authority: str = "node") -> tuple[int, str]:
    """Exit code and what came."""
    command = ["curl", "--silent", "--max-time", "10", "--cacert", str(certificates / f"{authority}.pem"), *options]
    url = f"https://127.0.0.1:{server.port}/metrics"
    done = subprocess.run([*command, url], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def shown(certificates: Path, name: str) -> tuple[str, ...]:
    """Options of a client that shows a certificate."""
    return "--cert", str(certificates / f"{name}.pem"), "--key", str(certificates / f"{name}.key")


def asked(server: MetricServer, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read()


def test_what_is_well_answers_200_and_what_is_not_503(plain: MetricServer) -> None:
    assert asked(plain, "/healthz") == (HTTPStatus.OK, b'{"well": true}')
    status, body = asked(plain, "/livez")
    assert (status, json.loads(body)) == (HTTPStatus.SERVICE_UNAVAILABLE, {"well": False})


def test_another_path_is_told_what_there_is(plain: MetricServer) -> None:
    status, body = asked(plain, "/")
    assert (status, body) == (HTTPStatus.NOT_FOUND, b"here is /metrics, /healthz, /livez\n")


def test_without_its_certificate_a_client_is_told_nothing(certificates: Path, guarded: MetricServer) -> None:
    assert curl(certificates, guarded)[1] == ""
    assert curl(certificates, guarded, *shown(certificates, "stranger"))[1] == ""
    code, body = curl(certificates, guarded, *shown(certificates, "prometheus"))
    assert code == 0
    assert "edge_asd_build_info" in body


def test_a_client_notices_that_the_node_is_another(certificates: Path, guarded: MetricServer) -> None:
    code, body = curl(certificates, guarded, *shown(certificates, "prometheus"), authority="stranger")
    assert (code, body) == (60, "")  # curl: the peer's certificate cannot be authenticated


def test_clients_that_say_nothing_keep_nobody_waiting(certificates: Path, guarded: MetricServer) -> None:
    idle = [socket.create_connection(("127.0.0.1", guarded.port)) for _ in range(20)]
    try:
        code, body = curl(certificates, guarded, *shown(certificates, "prometheus"))
    finally:
        for connection in idle:
            connection.close()
    assert code == 0
    assert "edge_asd_build_info" in body


def test_nothing_is_printed_about_clients_that_fail(
    certificates: Path, guarded: MetricServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", guarded.port)) as rude:
        rude.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        rude.settimeout(5)
        while rude.recv(4096):
            pass
    curl(certificates, guarded)
    assert capfd.readouterr().err == ""


def test_a_certificate_that_cannot_be_used_is_named(certificates: Path, tmp_path: Path) -> None:
    node, key = certificates / "node.pem", certificates / "node.key"
    (tmp_path / "text.pem").write_text("no certificate")
    for wrong, named in (
        (Certificate(tmp_path / "none.pem", key), "none.pem"),
        (Certificate(node, certificates / "stranger.key"), "stranger.key"),
        (Certificate(node, key, tmp_path / "text.pem"), "metrics.client_ca .*text.pem"),
    ):
        with pytest.raises(ConfigError, match=named):
            wrong.context()


def test_the_context_wants_what_it_says(certificates: Path) -> None:
    node = Certificate(certificates / "node.pem", certificates / "node.key")
    assert node.context().verify_mode is ssl.CERT_NONE
    assert node.context().minimum_version is ssl.TLSVersion.TLSv1_2
