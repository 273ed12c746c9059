"""What may be skipped, and when even that fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = """
import pytest

@pytest.mark.recordings
def test_that_needs_recordings(recordings):
    assert recordings.is_dir()

def test_that_is_measured(benchmark):
    benchmark(int)

def test_that_needs_nothing():
    pass
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A checkout with three tests and our rules."""
    (tmp_path / "tests").mkdir()
    shutil.copy(HERE.parent / "pyproject.toml", tmp_path)
    shutil.copy(HERE / "conftest.py", tmp_path / "tests")
    (tmp_path / "tests" / "test_three.py").write_text(TESTS)
    return tmp_path


def run(suite: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("EDGE_ASD_", "PYTEST_"))}
    return subprocess.run(
        command, cwd=suite, env={**surroundings, **environment}, capture_output=True, text=True, check=False
    )


def test_without_recordings_their_tests_are_skipped_with_the_way_out(suite: Path) -> None:
    done = run(suite, EDGE_ASD_DATA=str(suite / "nowhere"))
    assert done.returncode == 0, done.stdout
    assert f"no recordings at {suite / 'nowhere'}: point EDGE_ASD_DATA to a folder of data sets" in done.stdout


def test_where_nothing_may_be_skipped_it_fails_and_is_named(suite: Path) -> None:
    done = run(suite, EDGE_ASD_DATA=str(suite / "nowhere"), EDGE_ASD_NO_SKIPS="1")
    assert done.returncode == 1, done.stdout
    named = [line for line in done.stdout.splitlines() if line.startswith("EDGE_ASD_NO_SKIPS")]
    assert len(named) == 1
    assert named[0].endswith("tests/test_three.py::test_that_needs_recordings")


def test_with_recordings_nothing_is_missing(suite: Path) -> None:
    done = run(suite, EDGE_ASD_DATA=str(suite), EDGE_ASD_NO_SKIPS="1")
    assert done.returncode == 0, done.stdout
    assert "2 passed, 1 skipped" in done.stdout
