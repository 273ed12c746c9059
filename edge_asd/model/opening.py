"""From what the config calls a bundle to one that is open: ``builtin``, ``installed:NAME``, or a path."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from edge_asd.bundle import Bundle
    from edge_asd.signature import Trust


def bundle_path(reference: str, state: Path | None) -> Path:
    """The file that is meant.

    Raises:
        BundleError: none of this name is installed, or there is no state folder to install in.
    """
    raise NotImplementedError


def open_model(reference: str, state: Path | None, trust: Trust) -> Bundle:
    """Open and verify it; the built-in one came with the program and needs no other's word.

    Raises:
        BundleError: see :func:`edge_asd.bundle.open_bundle`; BundleUntrusted where nobody who is trusted signed it.
    """
    raise NotImplementedError
