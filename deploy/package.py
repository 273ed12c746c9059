"""What is handed out, made from a checkout: one command each, the same bytes from the same commit.

    python3 deploy/package.py wheel
    python3 deploy/package.py deb --arch arm64     # on any machine; amd64 by default
    python3 deploy/package.py sbom                 # CycloneDX, from uv.lock
    python3 deploy/package.py release              # all of it for both architectures, and SHA256SUMS
    python3 deploy/package.py tree --into DIR      # what runs, without Debian around it: the container's step

Files come into dist/. Dependencies are those of uv.lock, wheels only, checked against its digests; nothing is compiled.
"""
# ruff: noqa: INP001 - a script, no package

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
import uuid
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from start import UV, provide_uv

ROOT = Path(__file__).resolve().parents[1]
DEBIAN = ROOT / "deploy" / "debian"
PYTHON = "3.11"  # of Debian 12; the compiled dependencies are for it and no other
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
LEFT_OUT = ("**/tests", "bin", "**/*.pyi", "**/.lock")  # nothing reads them on a device
PLACES = {  # of the package, and where it comes from
    "usr/bin/edge-asd": "deploy/debian/edge-asd",
    "usr/lib/edge_asd/lay": "deploy/debian/lay",
    "usr/lib/edge_asd/trial": "deploy/debian/trial.py",
    "usr/lib/systemd/system/edge-asd.service": "systemd/edge-asd.service",
    "usr/lib/systemd/system/edge-asd-trial.service": "systemd/edge-asd-trial.service",
    "usr/lib/modules-load.d/edge-asd.conf": "systemd/modules-load.conf",
    "usr/share/doc/edge-asd/copyright": "LICENSE",
    "usr/share/doc/edge-asd/SECURITY.md": "SECURITY.md",
    "usr/share/doc/edge-asd/examples/10-clock.conf": "systemd/10-clock.conf",
    "usr/share/doc/edge-asd/examples/10-gpu.conf": "systemd/10-gpu.conf",
    "usr/share/edge_asd/edge-asd.toml": "deploy/edge-asd.toml",
}
CONTROL = """\
Package: edge-asd
Version: {version}
Architecture: {arch}
Maintainer: edge_asd maintainers <edge-asd@localhost>
Installed-Size: {kib}
Depends: python3 (>= {python}~), python3 (<< {above}~), libportaudio2
Suggests: alsa-utils, mosquitto
Section: misc
Priority: optional
Description: hears a machine going wrong
 A small computer beside a machine listens to a microphone, compares what it
 hears with how the machine sounded when all was well, and raises an alarm
 over MQTT. Scores go to Prometheus.
"""


class Edition(NamedTuple):
    """Which package it is to be."""

    version: str
    """as Debian orders it: upstream's, a hyphen, ours"""
    arch: str
    """as Debian calls it"""


def main() -> None:
    """Make what was asked for and say where it lies."""
    arguments = _arguments()
    os.environ["SOURCE_DATE_EPOCH"] = str(_epoch())
    os.environ["TZ"] = "UTC"
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    match arguments.command:
        case "tree":
            tree(arguments.into, arguments.arch)
        case "wheel":
            _tell(wheel(out))
        case "sbom":
            _tell(sbom(out))
        case "deb":
            _tell(deb(out, Edition(_version(arguments.revision), arguments.arch)))
        case _:
            release(out, arguments.revision)


def wheel(out: Path) -> Path:
    """The program alone; pip fetches what it depends on."""
    with tempfile.TemporaryDirectory() as folder:
        _uv("build", "--quiet", "--wheel", "--out-dir", folder, ROOT)
        (built,) = Path(folder).glob("*.whl")
        return Path(shutil.copy(built, out / built.name))


def tree(into: Path, arch: str) -> None:
    """An environment that runs wherever it lies, with all dependencies: ``into/bin/python -I -m edge_asd``."""
    site = into / "lib" / f"python{PYTHON}" / "site-packages"
    site.mkdir(parents=True)
    _depend(site, arch)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel(Path(folder))) as ours:
        ours.extractall(site)
    for pattern in LEFT_OUT:
        for found in sorted(site.glob(pattern)):
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    (into / "bin").mkdir()
    (into / "bin" / "python").symlink_to("/usr/bin/python3")
    (into / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")


def deb(out: Path, edition: Edition) -> Path:
    """For Debian 12 and what shares its Python; nothing is fetched when it is installed."""
    path = out / f"edge-asd_{edition.version}_{edition.arch}.deb"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tree(root / "usr/lib/edge_asd/payload", edition.arch)
        _furnish(root, edition)
        _govern(root, edition)
        _date(root)
        # level 9 of zstd: xz saves a sixth more and takes ten times as long on the device
        _run("dpkg-deb", "--root-owner-group", "-Zzstd", "-z9", "--build", root, path)
    return path


def sbom(out: Path) -> Path:
    """What is inside, for whoever must know when it has a hole; a library within a wheel has no line of its own."""
    path = out / f"edge-asd_{_upstream()}.cdx.json"
    with tempfile.TemporaryDirectory() as folder:
        known = Path(folder, "all.json")
        _uv(
            *("export", "--quiet", "--frozen", "--no-default-groups", "--format", "cyclonedx1.5"),
            *("--project", ROOT, "--output-file", known),
        )
        _depend(site := Path(folder, "site"), "amd64")
        inside = {distribution.name for distribution in site.glob("*.dist-info")}
        bill = json.loads(known.read_text("utf-8"))
    path.write_text(json.dumps(_only(bill, inside), indent=2) + "\n", "utf-8")
    return path


def release(out: Path, revision: int) -> None:
    """Everything, and the digests to check it by: ``sha256sum --check SHA256SUMS``."""
    made = [wheel(out), sbom(out), *(deb(out, Edition(_version(revision), arch)) for arch in MACHINES)]
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in made]
    sums = out / "SHA256SUMS"
    sums.write_text("".join(lines))
    for path in (*made, sums):
        _tell(path)


def _arguments() -> argparse.Namespace:
    summary, usage = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=summary, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("wheel", "deb", "sbom", "release", "tree"))
    here = next((arch for arch, machine in MACHINES.items() if machine == platform.machine()), "amd64")
    parser.add_argument("--arch", choices=tuple(MACHINES), default=here)
    parser.add_argument("--revision", type=int, default=1, help="of the package; two of them may lie side by side")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--into", type=Path, help="an absent folder, for `tree`")
    arguments = parser.parse_args()
    if arguments.command == "tree" and (arguments.into is None or arguments.into.exists()):
        parser.error(f"tree wants --into with a folder that is not there yet, got {arguments.into}")
    return arguments


def _depend(site: Path, arch: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        locked = Path(folder, "locked.txt")
        _uv(
            *("export", "--quiet", "--frozen", "--no-default-groups", "--no-emit-project"),
            *("--project", ROOT, "--output-file", locked),
        )
        _uv(
            *("pip", "install", "--quiet", "--target", site, "--requirement", locked, "--require-hashes"),
            *("--no-deps", "--only-binary", ":all:", "--no-python-downloads", "--link-mode", "copy"),
            *("--python", sys.executable, "--python-version", PYTHON),
            *("--python-platform", f"{MACHINES[arch]}-manylinux_2_28"),
        )


def _only(bill: dict[str, Any], inside: set[str]) -> dict[str, Any]:
    """Leave out what uv.lock holds for other systems, and the moment and the number that differ each time."""
    parts = [part for part in bill["components"] if _folder(part) in inside]
    named = {part["bom-ref"] for part in parts} | {bill["metadata"]["component"]["bom-ref"]}
    needs = [
        need | {"dependsOn": [ref for ref in need.get("dependsOn", ()) if ref in named]}
        for need in bill["dependencies"]
        if need["ref"] in named
    ]
    moment = datetime.fromtimestamp(_epoch(), UTC).isoformat()
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(parts, sort_keys=True))
    stable = {"serialNumber": f"urn:uuid:{number}", "metadata": bill["metadata"] | {"timestamp": moment}}
    return bill | stable | {"components": parts, "dependencies": needs}


def _folder(part: dict[str, Any]) -> str:
    return f"{part['name'].replace('-', '_')}-{part['version']}.dist-info"


def _furnish(root: Path, edition: Edition) -> None:
    for place, source in PLACES.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / source, path)
        path.chmod(0o755 if place.startswith(("usr/bin/", "usr/lib/edge_asd/")) else 0o644)
    changes = f"edge-asd ({edition.version}) stable; urgency=medium\n\n  * See CHANGELOG.md of this version.\n"
    with gzip.GzipFile(root / "usr/share/doc/edge-asd/changelog.Debian.gz", "wb", mtime=0) as file:
        file.write(changes.encode())
    wants = root / "usr/lib/systemd/system/multi-user.target.wants/edge-asd-trial.service"
    wants.parent.mkdir()
    wants.symlink_to("../edge-asd-trial.service")  # a trial goes on after a power cut; without one, it is skipped


def _govern(root: Path, edition: Edition) -> None:
    control = root / "DEBIAN"
    control.mkdir()
    for script in ("postinst", "prerm", "postrm"):
        text = (DEBIAN / script).read_text("utf-8").replace("@VERSION@", edition.version)
        (control / script).write_text(text, "utf-8")
        (control / script).chmod(0o755)
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    ours = [path for path in files if control not in path.parents]
    digests = (f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n" for path in ours)  # noqa: S324 - dpkg wants it
    (control / "md5sums").write_text("".join(digests))
    above = f"3.{int(PYTHON.partition('.')[2]) + 1}"
    kib = sum(-(-path.stat().st_size // 1024) for path in ours)
    (control / "control").write_text(CONTROL.format(**edition._asdict(), kib=kib, python=PYTHON, above=above))


def _date(root: Path) -> None:
    """One moment and one set of rights for all, whoever builds it and whatever their umask."""
    moment = _epoch()
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (moment, moment), follow_symlinks=False)


def _version(revision: int) -> str:
    return f"{_upstream()}-{revision}"


def _upstream() -> str:
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    return version


def _epoch() -> int:
    """When the commit was made; without git, when the changes were last written down."""
    if told := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(told)
    git = shutil.which("git")
    asked = [git or "git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    said = subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip() if git else ""
    return int(said or (ROOT / "CHANGELOG.md").stat().st_mtime)


def _uv(*words: str | Path) -> None:
    uv = shutil.which("uv")
    if not uv:
        provide_uv()
    os.environ.pop("VIRTUAL_ENV", None)
    _run(uv or UV, *words)


def _run(program: str | Path, *words: str | Path) -> None:
    if not (path := shutil.which(program)):
        sys.exit(f"{program} is missing here; on Debian: apt install dpkg")
    done = subprocess.run([path, *map(str, words)], check=False, stdout=sys.stderr)
    if done.returncode:
        sys.exit(done.returncode)


def _tell(path: Path) -> None:
    print(f"{path.stat().st_size / 1e6:8.1f} MB  {path}", flush=True)  # noqa: T201 - what a script does is its output


if __name__ == "__main__":
    main()
