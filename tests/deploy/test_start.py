"""The first command anybody types: it hands on what it was given and says what it cannot do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "start.py"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout that is set up already, by programs that only tell what they were asked."""
    (tmp_path / "deploy").mkdir()
    shutil.copy(SCRIPT, tmp_path / "deploy")
    program(tmp_path / ".venv-uv/bin/uv", 'echo "uv $*"')
    program(tmp_path / ".venv/bin/edge-asd", 'echo "edge-asd $*"; exit 7')
    program(tmp_path / ".venv/bin/pytest", 'echo "pytest $* in $PWD"')
    return tmp_path


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def start(clone: Path, *words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(clone / "deploy/start.py"), *words]
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)


def test_the_demo_gets_its_options_and_gives_its_exit_code(clone: Path) -> None:
    done = start(clone, "demo", "--json", "--mqtt", "localhost:1883")
    assert done.stdout.splitlines()[-1] == "edge-asd demo --json --mqtt localhost:1883"
    assert done.returncode == 7


def test_the_demo_brings_no_torch_and_takes_none_away(clone: Path) -> None:
    asked = start(clone, "demo").stdout.splitlines()[0]
    assert "--no-default-groups" in asked
    assert "--inexact" in asked


def test_the_python_that_runs_the_script_is_the_one_that_is_used(clone: Path) -> None:
    asked = start(clone, "demo").stdout.splitlines()[0]
    assert f"--no-python-downloads --python {sys.executable}" in asked


def test_the_tests_run_in_the_checkout_once_the_packages_are_there(clone: Path, tmp_path: Path) -> None:
    program(tmp_path / "debian/dpkg-query", "printf installed")
    done = start(clone, "test", "-k", "ring", path=f"{tmp_path / 'debian'}:/usr/bin:/bin")
    assert done.stdout.splitlines()[-1] == f"pytest -k ring in {clone}"
    assert done.returncode == 0


def test_without_apt_the_missing_packages_are_named_in_one_line(clone: Path, tmp_path: Path) -> None:
    done = start(clone, "test", path=str(tmp_path / "nothing"))
    assert done.returncode == 1
    assert done.stderr.startswith("missing from the system; as root: apt install mosquitto prometheus")
    assert len(done.stderr.splitlines()) == 1


def test_a_step_that_fails_ends_it_with_its_exit_code(clone: Path) -> None:
    program(clone / ".venv-uv/bin/uv", "exit 3")
    assert start(clone, "demo").returncode == 3


def test_an_unknown_command_is_refused(clone: Path) -> None:
    done = start(clone, "bake")
    assert done.returncode == 2
    assert "invalid choice: 'bake'" in done.stderr
