from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from train.compare.crew import cores, locally

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.train

ROOT = Path(__file__).parents[3]


def report(job: str) -> str:
    """What a process of its own can tell; or it dies."""
    match job:
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "threads":
            return os.environ["OMP_NUM_THREADS"]
        case "process":
            return str(os.getpid())
    return ""


def wait(job: tuple[Path, str]) -> str:
    """Leave a file for as long as this works, which is for ever."""
    mark = job[0] / job[1]
    try:
        mark.write_text(str(os.getpid()))
        signal.pause()
    finally:
        mark.unlink()
    return ""


def nothing() -> None:
    """Nobody looks."""


def test_a_process_that_is_killed_fails_its_job_and_no_other() -> None:
    ended = dict(locally(report, ["dies", "lives", "process"], 2, nothing))

    assert "status -9" in ended["dies"]
    assert ended["lives"] == ""
    assert int(ended["process"]) != os.getpid()


@pytest.mark.parametrize("workers", [1, 1000])
def test_processes_share_the_cores(workers: int) -> None:
    threads = int(dict(locally(report, ["threads"], workers, nothing))["threads"])

    assert threads == max(1, cores() // workers)


def test_no_more_jobs_are_at_work_than_there_are_workers_and_closing_ends_them(tmp_path: Path) -> None:
    """The third is never begun; the two that were are told to stop, and clean up behind them."""
    jobs, seen, began = [(tmp_path, name) for name in "abc"], set[str](), time.monotonic()

    def look() -> None:
        seen.update(path.name for path in tmp_path.iterdir() if path.read_text())
        if len(seen) > 1 or time.monotonic() > began + 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), closing(locally(wait, jobs, 2, look)) as ends:
        list(ends)

    assert seen == {"a", "b"}
    assert list(tmp_path.iterdir()) == []


FOR_EVER = """
import sys
from pathlib import Path
from tests.train.compare.test_crew import nothing, wait
from train.compare.crew import locally

if __name__ == "__main__":
    list(locally(wait, [(Path(sys.argv[1]), "a")], 1, nothing))
"""


def test_jobs_end_with_a_parent_that_is_killed(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    (tmp_path / "marks").mkdir()
    mark = tmp_path / "marks/a"
    with subprocess.Popen([sys.executable, "-c", FOR_EVER, str(tmp_path / "marks")], cwd=ROOT) as parent:
        eventually(mark.exists, 60, "a job at work")
        parent.kill()

    eventually(lambda: not mark.exists(), 60, "the job's end")
