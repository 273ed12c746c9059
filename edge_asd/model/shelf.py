"""The models that are installed on this computer, and which of each name is in use.

In ``STATE/models`` lies each as ``DIGEST.asd``, the first 16 hex digits of what it is known by, and ``shelf.json``,
which says what is there and which of a name is current. That file is put in its place whole, and after everything it
names: whatever happens in between, the shelf is as it was before or as it is after. What it does not name is swept away.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_asd.signature import Trust

FOLDER = "models"
"""within the state folder"""


@dataclass(frozen=True, slots=True)
class Installed:
    """One model on the shelf."""

    name: str
    version: str
    created: str
    """ISO time"""
    digest: str
    """SHA-256 of the manifest, all 64 hex digits: ``Bundle.digest``"""
    signer: str | None
    """id of the trusted key that signed it; None: unsigned, which was allowed"""
    role: str
    """``current``; ``previous``, to which a rollback leads; or ``candidate``"""
    pinned: bool
    """whether its name is"""
    path: Path


@dataclass(frozen=True, slots=True)
class Shelf:
    """Any process may read and change it at any time; changes wait for each other."""

    folder: Path
    """``STATE/models``; made when something is installed"""
    trust: Trust

    def install(self, file: Path) -> Installed:
        """Copy a bundle in, prove it, and put it on the shelf; ``file`` is left alone.

        Its digests and signature hold, and each of its heads has scored its golden waveform on this computer. The first
        of a name is current at once; another is a candidate until it is activated, and takes the place of the candidate
        before it. What is there already stays what it is.

        Raises:
            BundleError: it is missing, no bundle, of another schema, too large for the disk, or its name cannot be used.
            BundleCorrupt: a byte of it is not what it was.
            BundleUntrusted: nobody who is trusted signed it.
            BundleOutdated: its name is pinned, and the current one was created later.
            GoldenMismatch: this computer gets other numbers.
        """
        raise NotImplementedError

    def list(self) -> list[Installed]:
        """All, by name; of one name the current first, then previous, then candidate.

        Raises:
            BundleError: what the shelf says of itself cannot be read.
        """
        raise NotImplementedError

    def current(self, name: str) -> Installed:
        """The one in use of a name.

        Raises:
            BundleError: there is none of this name.
        """
        raise NotImplementedError

    def path(self, name: str) -> Path:
        """The file of the current one; raises what :meth:`current` does."""
        raise NotImplementedError

    def find(self, name: str, digest: str | None = None) -> Installed:
        """One by the first digits of its digest; without, the newest that is not current: the candidate or the previous.

        Raises:
            BundleError: there is none such, or several.
        """
        raise NotImplementedError

    def activate(self, name: str, digest: str | None = None) -> Installed:
        """Make it the current one; what was becomes the previous. Chosen as by :meth:`find`; proven again.

        Raises:
            BundleError: there is none such.
            BundleCorrupt: it does not lie there as it was installed.
            BundleUntrusted: who signed it is not trusted any more.
            BundleOutdated: the name is pinned, and the current one was created later.
        """
        raise NotImplementedError

    def rollback(self, name: str) -> Installed:
        """Current and previous change places; the one that is current now comes back.

        Raises:
            BundleError: there is no previous one.
            BundleOutdated: the name was pinned when a later one than the previous was current.
        """
        raise NotImplementedError

    def pin(self, name: str) -> Installed:
        """From now on nothing that was created before the current one is let in or activated."""
        raise NotImplementedError

    def unpin(self, name: str) -> Installed:
        """Let older ones in again."""
        raise NotImplementedError

    def prune(self) -> list[Installed]:
        """Delete the candidates; what is current or previous stays. Those that went come back."""
        raise NotImplementedError
