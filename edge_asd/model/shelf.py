"""The models that are installed on this computer, and which of each name is in use.

In ``STATE/models`` lies each as ``DIGEST.asd``, the first 16 hex digits of what it is known by, beside ``shelf.json``,
which says what is there and which of a name is current. That file is put in its place whole, and after everything it
names: whatever happens in between, the shelf is as it was before or as it is after. What it does not name is swept away
by the next change. Of one name there are at most three: the current one, the previous, and a candidate.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from edge_asd.archive import LARGEST, settle, sync
from edge_asd.bundle import manifest_digest, open_bundle, read_contents
from edge_asd.errors import BundleCorrupt, BundleError
from edge_asd.model.index import Index, file_of, moment, refuse_before, refuse_older, with_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_asd.bundle import Bundle, Opens
    from edge_asd.model.index import Role, Slot
    from edge_asd.signature import Trust

FOLDER = "models"
"""within the state folder"""
INDEX, LOCK = "shelf.json", "lock"
ROOM = 2**20
"""bytes of the disk that an installed model must leave"""
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}")


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
    role: Role
    """``previous`` is what a rollback leads to, ``candidate`` what waits to be activated"""
    pinned: bool
    """whether its name is"""
    path: Path


@dataclass(frozen=True, slots=True)
class Shelf:
    """Any process may read and change it at any time; changes wait for each other."""

    folder: Path
    """``STATE/models``; made when something is installed"""
    trust: Trust
    opens: Opens = open_bundle
    """how one that comes in is put to the test"""

    # What there is

    def list(self) -> tuple[Installed, ...]:
        """All, by name; of one name the current first, then previous, then candidate.

        Raises:
            BundleError: what the shelf says of itself cannot be read.
        """
        slots = sorted(self._index().slots.items())
        return tuple(model for name, slot in slots for model in self._models(name, slot))

    def current(self, name: str) -> Installed:
        """The one in use of a name.

        Raises:
            BundleError: there is none of this name.
        """
        return self._models(name, self._slot(self._index(), name))[0]

    def path(self, name: str) -> Path:
        """The file of the current one; raises what :meth:`current` does."""
        return self.current(name).path

    def find(self, name: str, digest: str | None = None) -> Installed:
        """One by the first digits of its digest; without, the candidate.

        Raises:
            BundleError: there is none such, or several.
        """
        models = self._models(name, self._slot(self._index(), name))
        meant = [m for m in models if (m.digest.startswith(digest) if digest else m.role == "candidate")]
        if len(meant) != 1:
            wanted = f"one model {name} whose digest begins with {digest}" if digest else f"a candidate of {name}"
            there = ", ".join(f"{m.digest[:16]} ({m.role}, version {m.version})" for m in models)
            msg = f"there is not {wanted}; installed: {there}"
            raise BundleError(msg)
        return meant[0]

    # What changes it

    def install(self, file: Path) -> Installed:
        """Copy a bundle in, prove it, and put it on the shelf; ``file`` is left alone.

        Its digests and signature hold, and each of its heads has scored its golden waveform on this computer. The first
        of a name is current at once; another is a candidate until it is activated, and takes the place of the candidate
        before it. What is there already keeps its role.

        Raises:
            BundleError: it is missing, no bundle, of another schema, too large, or its name cannot be used.
            BundleCorrupt: a byte of it is not what it was.
            BundleUntrusted: nobody who is trusted signed it.
            BundleOutdated: its name is pinned, and the current one was created later.
            GoldenMismatch: this computer gets other numbers.
        """
        with self._change() as index:
            staged = self._staged(file)
            try:
                bundle = self._proven(staged, index, file)
                settle(staged, self.folder / file_of(bundle.digest))
            finally:
                staged.unlink(missing_ok=True)
            name = bundle.manifest.name
            slot = with_bundle(index.slots.get(name), bundle)
            self._write(index.holding(name, slot))
        return self.find(name, bundle.digest)

    def activate(self, name: str, digest: str | None = None) -> Installed:
        """Make it the current one; what was becomes the previous. Chosen as by :meth:`find`; verified again.

        Raises:
            BundleError: there is none such.
            BundleCorrupt: it does not lie there as it was installed.
            BundleUntrusted: who signed it is not trusted any more.
            BundleOutdated: the name is pinned, and the current one was created later.
        """
        with self._change() as index:
            slot, chosen = self._slot(index, name), self.find(name, digest)
            if chosen.role != "current":
                self._verify(chosen)
                refuse_older(slot, slot.models[chosen.digest].created, chosen.path)
                waits = slot.candidate if slot.candidate != chosen.digest else None
                slot = slot.arranged(slot.models, chosen.digest, slot.current, waits)
                self._write(index.holding(name, slot))
        return self.current(name)

    def rollback(self, name: str) -> Installed:
        """Current and previous change places; the one that is current now comes back.

        A pinned name goes no further back than to where it was pinned.

        Raises:
            BundleError: there is no previous one.
            BundleCorrupt, BundleUntrusted: it cannot be used any more.
            BundleOutdated: the name was pinned when a later one than the previous was current.
        """
        with self._change() as index:
            slot = self._slot(index, name)
            previous = next((m for m in self._models(name, slot) if m.role == "previous"), None)
            if previous is None:
                msg = f"no model was current before {name} {slot.current[:16]}; there is nothing to go back to"
                raise BundleError(msg)
            self._verify(previous)
            refuse_before(slot.pinned, slot.models[previous.digest].created, previous.path)
            slot = slot.arranged(slot.models, previous.digest, slot.current, slot.candidate)
            self._write(index.holding(name, slot))
        return self.current(name)

    def pin(self, name: str) -> Installed:
        """From now on nothing that was created before the current one is let in or activated.

        Raises:
            BundleError: there is none of this name.
        """
        with self._change() as index:
            slot = self._slot(index, name)
            pinned = slot.model_copy(update={"pinned": slot.models[slot.current].created})
            self._write(index.holding(name, pinned))
        return self.current(name)

    def unpin(self, name: str) -> Installed:
        """Let older ones in again; raises what :meth:`pin` does."""
        with self._change() as index:
            slot = self._slot(index, name)
            self._write(index.holding(name, slot.model_copy(update={"pinned": None})))
        return self.current(name)

    def prune(self) -> tuple[Installed, ...]:
        """Delete the candidates; what is current or previous stays. Those that went come back."""
        with self._change() as index:
            going = tuple(model for model in self.list() if model.role == "candidate")
            slots = {n: s.arranged(s.models, s.current, s.previous, None) for n, s in index.slots.items()}
            self._write(Index(slots=slots))
        return going

    # How it is kept

    @contextmanager
    def _change(self) -> Iterator[Index]:
        """The index as it is, while nobody else changes it; before and after, what it does not name is swept away."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            sync(self.folder.parent)
            with (self.folder / LOCK).open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._give(self.folder, self.folder / LOCK)
                index = self._index()
                self._sweep(index)
                yield index
                self._sweep(self._index())
        except OSError as error:
            msg = f"{self.folder}: models cannot be changed: {error}; is there room, and may this user write there?"
            raise BundleError(msg) from error

    def _staged(self, file: Path) -> Path:
        """A copy within the folder, which nobody changes while it is proven."""
        staged = self.folder / "incoming.partial"
        try:
            size = file.stat().st_size
        except OSError as error:
            msg = f"{file}: cannot be installed: {(error.strerror or str(error)).lower()}"
            raise BundleError(msg) from error
        if not file.is_file() or size > LARGEST:
            msg = f"{file}: is no file, or has {size} bytes; a bundle has at most {LARGEST}"
            raise BundleError(msg)
        if (free := shutil.disk_usage(self.folder).free) < size + ROOM:
            msg = f"{file}: has {size} bytes, and {self.folder} has room for {free}; make room there"
            raise BundleError(msg)
        shutil.copyfile(file, staged)
        return staged

    def _proven(self, staged: Path, index: Index, file: Path) -> Bundle:
        """Opened, after everything that could speak against it; its name and time first, which cost nothing."""
        try:
            manifest = read_contents(staged, self.trust).manifest
            _refuse_name(manifest.name, staged)
            created = moment(manifest.created, staged)
            if slot := index.slots.get(manifest.name):
                refuse_older(slot, created, staged)
            bundle = self.opens(staged, trust=self.trust)
            for head in bundle.heads:
                bundle.scorer(head)
        except BundleError as error:
            raise type(error)(str(error).replace(str(staged), str(file))) from error  # the person knows that path
        return bundle

    def _verify(self, model: Installed) -> None:
        if manifest_digest(read_contents(model.path, self.trust).manifest) != model.digest:
            msg = f"{model.path}: is another bundle than was installed; install {model.name} again"
            raise BundleCorrupt(msg)

    def _index(self) -> Index:
        path = self.folder / INDEX
        try:
            return Index.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return Index()
        except (OSError, ValidationError) as error:
            msg = f"{path}: cannot be read ({_line(error)}); delete {self.folder} and install the models again"
            raise BundleError(msg) from error

    def _write(self, index: Index) -> None:
        partial = self.folder / f"{INDEX}.partial"
        partial.write_text(index.model_dump_json(by_alias=True, indent=1) + "\n", "utf-8")
        self._give(*(self.folder / name for name in index.files), partial)
        settle(partial, self.folder / INDEX)

    def _give(self, *paths: Path) -> None:
        """What root installs must be the daemon's, whose folder it lies in."""
        if os.geteuid() == 0:
            owner = self.folder.parent.stat()
            for path in paths:
                os.chown(path, owner.st_uid, owner.st_gid)

    def _sweep(self, index: Index) -> None:
        keep = index.files | {INDEX, LOCK}
        for path in self.folder.iterdir():
            if path.name not in keep and path.suffix in {".asd", ".partial"}:
                path.unlink(missing_ok=True)

    def _slot(self, index: Index, name: str) -> Slot:
        if name in index.slots:
            return index.slots[name]
        there = f"installed: {', '.join(sorted(index.slots))}" if index.slots else "none is"
        msg = f"no model {name!r} is installed in {self.folder} ({there}); edge-asd model install FILE puts one there"
        raise BundleError(msg)

    def _models(self, name: str, slot: Slot) -> tuple[Installed, ...]:
        return tuple(
            Installed(
                name,
                slot.models[digest].version,
                slot.models[digest].created.isoformat(),
                digest,
                slot.models[digest].signer,
                role,
                slot.pinned is not None,
                self.folder / file_of(digest),
            )
            for role, digest in slot.roles.items()
        )


def _refuse_name(name: str, path: Path) -> None:
    if not _NAME.fullmatch(name):
        msg = f"{path}: is called {name!r}; a name to install has 1 to 64 letters, digits, '.', '_' and '-'"
        raise BundleError(msg)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
