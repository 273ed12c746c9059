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
            subprocess.CalledProcessError: Debian cannot be had; debootstrap said why.
        """
        if not self.folder.exists():
            self._make()
        subprocess.run(["cp", "-a", "--reflink=auto", self.folder, to], check=True)
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
        native = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout
        foreign = () if native.strip() == self.architecture else ("--foreign",)
        included = f"--include={','.join(self.packages)}"
        how = (f"--arch={self.architecture}", *foreign, "--variant=minbase", included)
        _debootstrap("debootstrap", *how, SUITE, str(draft), MIRROR)
        if foreign:
            _debootstrap("chroot", str(draft), "/debootstrap/debootstrap", "--second-stage")
        for needless in NEEDLESS:
            shutil.rmtree(draft / needless, ignore_errors=True)


def _debootstrap(*command: str) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"{' '.join(command)} failed: {(done.stdout + done.stderr)[-2000:]}"
        raise AssertionError(msg)


def emulate(architecture: str) -> None:
    """Let this computer run programs of another architecture, as Debian's qemu-user-static sets it up at boot."""
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], check=True)
    if not (BINFMT / f"qemu-{architecture}").exists():
        subprocess.run(["/usr/sbin/update-binfmts", "--enable", f"qemu-{architecture}"], check=True)
