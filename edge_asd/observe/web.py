"""The HTTP server that Prometheus and health checks ask: on loopback unless told, over TLS if wanted.

Each request has a thread of its own, the TLS handshake included: a client that connects and says nothing keeps nobody
else waiting, and is sent away after ``PATIENCE_S``.
"""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass
from http import HTTPStatus
from socket import AF_INET6
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from edge_asd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PATIENCE_S = 10.0
"""with a client that does not say what it wants"""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer to a health check."""

    well: bool
    """200, and 503 if not"""
    body: bytes
    """JSON"""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Who we are, and whom we believe to be who they are."""

    cert: Path
    key: Path
    client_ca: Path | None = None
    """authority of the clients' certificates; with it, none is answered without one"""

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer.

        Raises:
            ConfigError: a file cannot be read, or is not what it should be.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _load(f"metrics.cert {self.cert}, metrics.key {self.key}", lambda: context.load_cert_chain(self.cert, self.key))
        if self.client_ca:
            _load(f"metrics.client_ca {self.client_ca}", lambda: context.load_verify_locations(self.client_ca))
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _load(what: str, load: Callable[[], None]) -> None:
    try:
        load()
    except OSError as error:  # an SSLError is one
        reason = (error.strerror or str(error)).lower()
        msg = f"{what}: cannot be used: {reason}; need PEM files, readable for the service, that belong together"
        raise ConfigError(msg) from error


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    context: ssl.SSLContext | None = None

    def get_request(self) -> tuple[Any, Any]:
        """The handshake is left to the first read, in the client's own thread."""
        connection, address = super().get_request()
        if self.context:
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves, dawdles or cannot prove itself is its own trouble: nothing is logged a scrape."""


class _Server6(_Server):
    address_family = AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = PATIENCE_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it is called by
        """Only changes of state are logged."""


@dataclass(frozen=True, slots=True)
class MetricServer:
    """Answers until it is closed."""

    server: WSGIServer

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server.server_port)

    def close(self) -> None:
        """Give the port back."""
        self.server.shutdown()
        self.server.server_close()


def serve(
    metrics: WSGIApplication,
    host: str,
    port: int,
    certificate: Certificate | None = None,
    pages: Mapping[str, Callable[[], Page]] | None = None,
) -> MetricServer:
    """Answer ``/metrics`` and the pages by their path; port 0 takes a free one.

    Raises:
        ConfigError: somebody else has the port, the address is not ours, or the certificate cannot be used.
    """
    context = certificate.context() if certificate else None
    kind = _Server6 if ":" in host else _Server
    try:
        server = make_server(host, port, _application(metrics, pages or {}), kind, _Quiet)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        msg = f"metrics.listen: cannot listen on {host}:{port} ({reason}); choose another port, or ''"
        raise ConfigError(msg) from error
    server.context = context
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return MetricServer(server)


def _application(metrics: WSGIApplication, pages: Mapping[str, Callable[[], Page]]) -> WSGIApplication:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)
        if path in pages:
            page = pages[path]()
            status = HTTPStatus.OK if page.well else HTTPStatus.SERVICE_UNAVAILABLE
            return _told(start_response, status, "application/json", page.body)
        here = ", ".join(["/metrics", *pages])
        return _told(start_response, HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", f"here is {here}\n".encode())

    return application


def _told(start_response: StartResponse, status: HTTPStatus, kind: str, body: bytes) -> list[bytes]:
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    start_response(f"{status.value} {status.phrase}", headers)
    return [body]
