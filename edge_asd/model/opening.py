"""From what the config calls a bundle to one that is open: ``builtin``, ``installed:NAME``, or a path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge_asd.bundle import BUILTIN, open_bundle
from edge_asd.errors import BundleCorrupt, BundleError
from edge_asd.model.shelf import FOLDER, Shelf
from edge_asd.signature import Trust

if TYPE_CHECKING:
    from edge_asd.bundle import Bundle, Opens
    from edge_asd.model.shelf import Installed

INSTALLED = "installed:"


def bundle_path(reference: str, state: Path | None) -> Path:
    """The file that is meant.

    Raises:
        BundleError: none of this name is installed, or there is no state folder to install in.
    """
    if reference == "builtin":
        return BUILTIN
    if not reference.startswith(INSTALLED):
        return Path(reference).expanduser()
    return shelf(state, Trust()).path(reference.removeprefix(INSTALLED))


def shelf(state: Path | None, trust: Trust, opens: Opens = open_bundle) -> Shelf:
    """Where models are installed.

    Raises:
        BundleError: there is no state folder.
    """
    if state is None:
        msg = "installed models lie in state_dir, and there is none; set state_dir, or give the path of a bundle"
        raise BundleError(msg)
    return Shelf(state / FOLDER, trust, opens)


def open_model(reference: str, state: Path | None, trust: Trust, opens: Opens = open_bundle) -> Bundle:
    """Open and verify it; the built-in one came with the program and needs no other's word.

    Raises:
        BundleError: see :func:`edge_asd.bundle.open_bundle`; BundleUntrusted where nobody who is trusted signed it.
    """
    path = bundle_path(reference, state)
    bundle = opens(path, trust=None if path == BUILTIN else trust)
    if reference.startswith(INSTALLED):
        _same(bundle, shelf(state, trust).current(reference.removeprefix(INSTALLED)))
    return bundle


def unsigned(bundle: Bundle) -> bool:
    """Whether nobody vouches for it but who may write to this disk."""
    return bundle.signer is None and bundle.path != BUILTIN


def _same(bundle: Bundle, model: Installed) -> None:
    if bundle.digest != model.digest:
        msg = f"{bundle.path}: is another bundle than was installed; install {model.name} again"
        raise BundleCorrupt(msg)
