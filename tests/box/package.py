"""The Debian package of this checkout, and others that differ from it in what a test says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Package:
    """A file that dpkg installs."""

    file: Path

    @property
    def version(self) -> str:
        """As Debian orders it."""
        return _said("dpkg-deb", "--field", self.file, "Version")

    @property
    def architecture(self) -> str:
        """Debian's name of it."""
        return _said("dpkg-deb", "--field", self.file, "Architecture")

    def next(self, ruin: Callable[[Path], object] = lambda _: None) -> Package:
        """The same as a later version with other default settings, or what a mistake makes of its tree."""
        upstream, _, revision = self.version.rpartition("-")
        version = f"{upstream}-{int(revision) + 1}"
        tree = self.file.with_suffix(f".{version}")
        _said("dpkg-deb", "--raw-extract", self.file, tree)
        for script in (tree / "DEBIAN").iterdir():
            script.write_text(script.read_text().replace(self.version, version))
        with (tree / "usr/share/edge_asd/edge-asd.toml").open("a") as settings:
            settings.write(f"# of {version}\n")
        ruin(tree)
        made = self.file.with_name(f"edge-asd_{version}_{self.architecture}.deb")
        _said("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, made)
        shutil.rmtree(tree)
        return Package(made)


def build(architecture: str, into: Path) -> Package:
    """As whoever hands it out does.

    Raises:
        AssertionError: it cannot be built.
    """
    _said(sys.executable, ROOT / "deploy" / "package.py", "deb", "--arch", architecture, "--out", into)
    (file,) = into.glob("*.deb")
    return Package(file)


def _said(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"{command[0]} failed: {done.stdout}{done.stderr}"
        raise AssertionError(msg)
    return done.stdout.strip()
