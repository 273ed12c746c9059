"""From a fresh clone to the demo, or to passing tests, with git and python3 alone.

    python3 deploy/start.py demo [options of `edge-asd demo`]
    python3 deploy/start.py test [options of pytest]

Run it again at any time: what is already there is kept, and then it takes a second.
"""
# ruff: noqa: INP001 - a script, no package

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV = ROOT / ".venv-uv" / "bin" / "uv"  # apart from .venv, which it fills
PROGRAMS = ROOT / ".venv" / "bin"
SERVICES = ("mosquitto", "prometheus")
TEST_PACKAGES = (
    *SERVICES,
    "mosquitto-clients",
    "curl",
    "openssl",
    "pulseaudio",
    "pulseaudio-utils",
    "libasound2-plugins",
    "libportaudio2",
    "procps",
    "systemd",
    "systemd-container",
    "debootstrap",
    "qemu-user-static",
    "binfmt-support",
)
INSTALL = """set -e
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d  # tests start services of their own: Debian shall not start one on port 1883
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\\nexit 101\\n' >"$policy" && chmod 755 "$policy"
fi
apt-get update -q
apt-get install -q -y --no-install-recommends "$@"
"""


def main() -> None:
    """Set up what the command needs, then become it."""
    summary, usage = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=summary, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("demo", "test"))
    parser.add_argument("options", nargs=argparse.REMAINDER, help="handed on to the command")
    arguments = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036 - the one file that an older Python may meet
        sys.exit(f"this is Python {sys.version.split()[0]}; at least 3.11 is needed: run it with a newer python3")
    (demo if arguments.command == "demo" else test)(arguments.options)


def demo(options: list[str]) -> None:
    """The daemon's dependencies only; whatever else a developer has installed stays."""
    provide_uv()
    sync("--no-default-groups", "--inexact")
    become("edge-asd", "demo", *options)


def test(options: list[str]) -> None:
    """Everything: the services the tests talk to, and all dependency groups."""
    provide_packages(TEST_PACKAGES)
    provide_uv()
    sync()
    os.chdir(ROOT)
    become("pytest", *options)


def provide_uv() -> None:
    """The package installer uv, in an environment of its own."""
    if UV.exists():
        return
    if importlib.util.find_spec("ensurepip") is None:  # Debian keeps it apart from python3
        provide_packages(("python3-venv",))
    run(sys.executable, "-m", "venv", UV.parents[1])
    run(UV.parent / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv>=0.9")


def sync(*options: str) -> None:
    """What uv.lock names, with the Python that runs this script: none is downloaded."""
    os.environ.pop("VIRTUAL_ENV", None)  # somebody else's
    os.environ["UV_PROJECT_ENVIRONMENT"] = str(PROGRAMS.parent)
    run(UV, "sync", "--project", ROOT, "--frozen", "--no-python-downloads", "--python", sys.executable, *options)


def provide_packages(wanted: tuple[str, ...]) -> None:
    """Debian packages, installed if this user may; else the line that installs them is the last word."""
    missing = [package for package in wanted if not installed(package)]
    if not missing:
        return
    line = shlex.join(["apt", "install", *missing])
    rights = [] if os.geteuid() == 0 else ["sudo"]
    if not shutil.which("apt-get") or (rights and not may_sudo()):
        sys.exit(f"missing from the system; as root: {line}")
    say(line)
    finish([*rights, "sh", "-c", INSTALL, "sh", *missing])
    for service in set(missing).intersection(SERVICES):  # ours to leave as quiet as we found them
        subprocess.run([*rights, "systemctl", "disable", "--quiet", service], check=False, capture_output=True)


def installed(package: str) -> bool:
    """Whether Debian says so."""
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    if not shutil.which(query[0]):
        return False
    return subprocess.run(query, check=False, capture_output=True, text=True).stdout == "installed"


def may_sudo() -> bool:
    """Whether sudo is there and either asks nothing or has somebody to ask."""
    sudo = shutil.which("sudo")
    if sudo is None:
        return False
    return sys.stdin.isatty() or subprocess.run([sudo, "-n", "true"], check=False, capture_output=True).returncode == 0


def run(*command: str | Path) -> None:
    """Say the command, run it, and end with its exit code if it fails."""
    say(shlex.join(str(word) for word in command))
    finish(command)


def finish(command: tuple[str | Path, ...] | list[str]) -> None:
    """Run it to its end; its failure is ours."""
    code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(code)


def become(program: str, *options: str) -> None:
    """Run a program of the environment in place of this one: its exit code, its terminal, its Ctrl-C."""
    path = str(PROGRAMS / program)
    say(shlex.join([path, *options]))
    os.execv(path, [path, *options])  # noqa: S606 - no shell is wanted


def say(step: str) -> None:
    """A step, on standard error: standard output belongs to the command."""
    print(f"==> {step}", file=sys.stderr, flush=True)  # noqa: T201 - what a script does is its output


if __name__ == "__main__":
    main()
