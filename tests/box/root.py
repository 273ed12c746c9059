"""Small Debian roots, made once on each computer: one that boots, and one of another architecture."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
BELOW = ("python3", "libportaudio2", "ca-certificates")
"""what the daemon's package depends on: it is installed without a network"""
BOOTED = ("systemd", "systemd-sysv", "dbus", *BELOW)
NEEDLESS = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man")
"""a third of it, never read"""
BINFMT = Path("/proc/sys/fs/binfmt_misc")


@dataclass(frozen=True)
class Root:
    """A Debian of one architecture, for which nothing is installed that nobody asked for."""

    architecture: str
    packages: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where it is kept; another list of packages is another folder."""
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        content = hashlib.sha256("\n".join((SUITE, *self.packages)).encode()).hexdigest()[:12]
        return caches / "edge_asd" / "box" / f"{self.architecture}-{content}"

    def copy(self, to: Path) -> Path:
        """A root to do anything with; the first one on a computer takes a minute or two.

        Raises:
            AssertionError: Debian cannot be had; with what debootstrap said.
        """
        if not self.folder.exists():
            self._make()
        _done("cp", "-a", "--reflink=auto", self.folder, to)
        return to

    def _make(self) -> None:
        """Beside its place until it is whole."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix="draft-"))
        draft.chmod(0o755)
        try:
            self._fill(draft)
            draft.rename(self.folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _fill(self, draft: Path) -> None:
        native = _done("dpkg", "--print-architecture").strip() == self.architecture
        how = ("--variant=minbase", f"--include={','.join(self.packages)}", *(() if native else ("--foreign",)))
        _done("debootstrap", f"--arch={self.architecture}", *how, SUITE, draft, MIRROR)
        if not native:
            _unpack(draft)
        for needless in NEEDLESS:
            shutil.rmtree(draft / needless, ignore_errors=True)


def _unpack(draft: Path) -> None:
    """What debootstrap has fetched, without the packages' scripts: emulated they take minutes, and nothing boots."""
    known = []
    for file in sorted((draft / "var/cache/apt/archives").glob("*.deb")):
        _done("dpkg-deb", "--extract", file, draft)
        name, _, rest = _done("dpkg-deb", "--field", file).partition("\n")
        known.append(f"{name}\nStatus: install ok installed\n{rest}")
    (draft / "var/lib/dpkg/status").write_text("\n".join(known))


def _done(*command: str | Path) -> str:
    """What a program of the administrator said."""
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"{' '.join(map(str, command))} failed: {(done.stdout + done.stderr)[-2000:]}"
        raise AssertionError(msg)
    return done.stdout


def emulate(architecture: str) -> None:
    """Let this computer run programs of another architecture, as Debian's qemu-user-static sets it up at boot."""
    if not (BINFMT / "register").exists():
        _done("mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT)
    if not (BINFMT / f"qemu-{architecture}").exists():
        _done("update-binfmts", "--enable", f"qemu-{architecture}")
