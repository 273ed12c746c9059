"""What is handed out, built as a person builds it."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
from email.parser import Parser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy" / "package.py"
X86_64, AARCH64 = 0x3E, 0xB7  # e_machine of ELF
BUILTIN = """
from edge_asd.bundle import BUILTIN, open_bundle
import edge_asd
print(edge_asd.__file__, *open_bundle(BUILTIN).heads)
"""


def package(*words: str | Path, umask: int = 0o022) -> Path:
    """Run the script; the last file that it has made."""
    done = subprocess.run(
        [sys.executable, SCRIPT, *words], check=True, stdout=subprocess.PIPE, text=True, umask=umask, cwd="/"
    )
    return Path(done.stdout.split()[-1])


def unpacked(deb: Path, into: Path) -> Path:
    subprocess.run(["dpkg-deb", "--raw-extract", deb, into], check=True)
    return into


def machines(folder: Path) -> Iterator[int]:
    """For which processor each library and program is."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                head = file.read(20)
            if head.startswith(b"\x7fELF"):
                yield struct.unpack_from("<H", head, 18)[0]


@pytest.fixture(scope="module")
def amd64(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package("deb", "--arch", "amd64", "--out", tmp_path_factory.mktemp("amd64"))


@pytest.fixture(scope="module")
def inside(amd64: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(amd64, tmp_path_factory.mktemp("inside") / "root")


def test_the_same_commit_makes_the_same_bytes_whoever_builds_it(amd64: Path, tmp_path: Path) -> None:
    again = package("deb", "--arch", "amd64", "--out", tmp_path, umask=0o077)

    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(amd64.read_bytes()).digest()


def test_the_package_for_arm64_has_no_other_machines_code(tmp_path: Path) -> None:
    deb = package("deb", "--arch", "arm64", "--revision", "2", "--out", tmp_path)
    root = unpacked(deb, tmp_path / "root")

    control = Parser().parsestr((root / "DEBIAN" / "control").read_text())
    assert (control["Package"], control["Architecture"]) == ("edge-asd", "arm64")
    assert control["Version"].endswith("-2")
    assert set(machines(root)) == {AARCH64}


def test_it_wants_the_python_that_it_was_made_for_and_nothing_from_the_network(inside: Path) -> None:
    control = Parser().parsestr((inside / "DEBIAN" / "control").read_text())
    scripts = "".join((inside / "DEBIAN" / name).read_text() for name in ("postinst", "prerm", "postrm"))

    assert control["Depends"] == "python3 (>= 3.11~), python3 (<< 3.12~), libportaudio2"
    assert not [word for word in ("pip", "uv ", "curl", "wget", "http") if word in scripts]
    assert set(machines(inside)) == {X86_64}


def test_the_settings_are_not_dpkgs_which_would_ask_about_them(inside: Path) -> None:
    assert not (inside / "etc").exists()
    assert not (inside / "DEBIAN" / "conffiles").exists()
    assert (inside / "usr/share/edge_asd/edge-asd.toml").read_bytes() == (ROOT / "deploy/edge-asd.toml").read_bytes()


def test_dpkg_can_tell_every_file_that_was_changed_later(inside: Path) -> None:
    told = dict(reversed(line.split("  ", 1)) for line in (inside / "DEBIAN/md5sums").read_text().splitlines())
    files = {path for path in inside.rglob("*") if path.is_file() and not path.is_symlink()}

    assert {inside / name for name in told} == {path for path in files if inside / "DEBIAN" not in path.parents}
    some = next(iter(told))
    assert told[some] == hashlib.md5((inside / some).read_bytes()).hexdigest()  # noqa: S324 - dpkg's


def test_what_it_lays_proves_its_bundle_with_debians_python_alone(inside: Path, tmp_path: Path) -> None:
    library = inside / "usr/lib/edge_asd"
    surroundings = {"EDGE_ASD_PAYLOAD": str(library / "payload"), "EDGE_ASD_ROOT": str(tmp_path), "PATH": os.defpath}
    subprocess.run([library / "lay", "1"], env=surroundings, check=True)
    python = tmp_path / "current" / "bin" / "python"
    said = subprocess.run([python, "-I", "-c", BUILTIN], env={}, cwd="/", capture_output=True, text=True, check=True)

    home, *heads = said.stdout.split()
    assert Path(home).is_relative_to(tmp_path)
    assert heads == ["rendered/fan/00", "rendered/valve/00"]


def test_the_bill_of_materials_lists_what_is_inside_and_nothing_else(inside: Path, tmp_path: Path) -> None:
    bill = json.loads(package("sbom", "--out", tmp_path).read_text())

    listed = {(part["name"].replace("-", "_"), part["version"]) for part in bill["components"]}
    site = inside / "usr/lib/edge_asd/payload/lib/python3.11/site-packages"
    present = {tuple(path.name.removesuffix(".dist-info").split("-")) for path in site.glob("*.dist-info")}
    assert listed == {(name, version) for name, version in present if name != "edge_asd"}
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "edge-asd")
    refs = {part["bom-ref"] for part in (*bill["components"], bill["metadata"]["component"])}
    assert refs == {need["ref"] for need in bill["dependencies"]}
    assert all(set(need["dependsOn"]) <= refs for need in bill["dependencies"])
