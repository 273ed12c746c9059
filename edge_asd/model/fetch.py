"""Fetch a bundle from a server that the settings allow: over HTTPS, bounded, and only if it is what was ordered.

Whoever may send a command may name an address; whoever answers there may send anything. So the address is compared
with what is allowed before a name is looked up, every byte is counted as it comes, and the digest that was ordered
with it decides. Proxies of the environment are not asked: a node's settings say where it goes.
"""

from __future__ import annotations

import hashlib
import ssl
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from edge_asd.errors import BundleUnfetched

if TYPE_CHECKING:
    from collections.abc import Collection
    from http.client import HTTPMessage, HTTPResponse
    from pathlib import Path
    from typing import IO
    from urllib.parse import SplitResult

LARGEST = 256 * 2**20
"""bytes: what a bundle may hold"""
PATIENCE_S = 20.0
"""between two pieces, and for the connection"""
WHOLE_S = 600.0
"""for all of it"""
PIECE = 2**16
REDIRECTS = 4


def fetch(
    ref: str, sha256: str, to: Path, allowed: Collection[str], ca_file: Path | None = None, *, largest: int = LARGEST
) -> None:
    """Fetch ``ref`` into the file ``to``, which is there afterwards only when it is what was ordered.

    Args:
        ref: address, below one of ``allowed``.
        sha256: of the file, in hex.
        to: a file that nobody else writes.
        allowed: addresses that end in ``/``; what they lead on to must be HTTPS, too.
        ca_file: who vouches for the server, in place of the system's authorities.
        largest: bytes that are read at most.

    Raises:
        BundleUnfetched: the address is not allowed, the server cannot be reached or believed, or what it gives is too
            large or not what was ordered.
    """
    if not permitted(ref, allowed):
        msg = f"{ref}: is not below what the settings allow ({', '.join(allowed) or 'nothing'}); see models.allow"
        raise BundleUnfetched(msg)
    try:
        _download(ref, sha256, to, _opener(ca_file), largest)
    except (OSError, HTTPException, ValueError) as error:
        to.unlink(missing_ok=True)
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        msg = f"{ref}: cannot be fetched: {_said(error)}; is the address right, and the server's certificate known?"
        raise BundleUnfetched(msg) from error
    except BundleUnfetched:
        to.unlink(missing_ok=True)
        raise


def permitted(ref: str, allowed: Collection[str]) -> bool:
    """Whether an address is plain HTTPS and lies below one of these, however it is written."""
    try:
        asked, places = _parts(ref), [_parts(place) for place in allowed]
    except ValueError:
        return False
    path = unquote(asked.path)
    climbs = ".." in path.split("/") or "\\" in path or "%" in path
    return not climbs and any(_server(asked) == _server(p) and asked.path.startswith(p.path) for p in places)


def _parts(address: str) -> SplitResult:
    parts = urlsplit(address)
    clean = address.isascii() and address.isprintable() and " " not in address and "@" not in parts.netloc
    if parts.scheme != "https" or not parts.hostname or parts.port == 0 or parts.fragment or not clean:
        msg = f"{address!r} is no address as https://HOST/PATH"
        raise ValueError(msg)
    return parts


def _server(parts: SplitResult) -> tuple[str | None, int]:
    return parts.hostname, parts.port or 443


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Leads on to another server, never to another protocol."""

    max_redirections = REDIRECTS

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Raises ValueError where the new address is not plain HTTPS."""
        try:
            _parts(newurl)
        except ValueError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(ca_file: Path | None) -> urllib.request.OpenerDirector:
    """That knows no protocol but HTTPS, and no proxy."""
    opener = urllib.request.OpenerDirector()
    context = ssl.create_default_context(cafile=ca_file)
    for handler in (
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
        _OnlyHttps(),
    ):
        opener.add_handler(handler)
    return opener


def _download(ref: str, sha256: str, to: Path, opener: urllib.request.OpenerDirector, largest: int) -> None:
    until, digest, size = time.monotonic() + WHOLE_S, hashlib.sha256(), 0
    with opener.open(ref, timeout=PATIENCE_S) as response, to.open("wb") as file:
        _check_size(ref, int(response.headers.get("Content-Length") or 0), largest)
        while piece := _piece(response, until):
            size += len(piece)
            _check_size(ref, size, largest)
            digest.update(piece)
            file.write(piece)
    if (found := digest.hexdigest()) != sha256.lower():
        msg = f"{ref}: has digest {found}, ordered was {sha256}; order what is there, or have it put back"
        raise BundleUnfetched(msg)


def _piece(response: HTTPResponse, until: float) -> bytes:
    if time.monotonic() > until:
        msg = f"took longer than {WHOLE_S:.0f} s"
        raise TimeoutError(msg)
    return response.read1(PIECE)


def _check_size(ref: str, size: int, largest: int) -> None:
    if size > largest:
        msg = f"{ref}: has {size} bytes or more; at most {largest} are fetched"
        raise BundleUnfetched(msg)


def _said(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return str(reason) or type(error).__name__
