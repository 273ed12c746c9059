"""A limit of memory on single processes that the kernel enforces, beside what systemd thinks they may use."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Iterator

MOUNT = Path("/sys/fs/cgroup")
KILLED_S = 30.0


@contextmanager
def limited(process: int, size: int) -> Iterator[None]:
    """What the process takes from now on is at most so many bytes; at the end the kernel has killed it.

    Raises:
        AssertionError: it lives on.
    """
    old = (MOUNT / "memory").is_dir()  # control groups of the first kind, as virtual computers have them
    group = MOUNT / ("memory" if old else "") / f"edge-asd-box-{process}"
    if not old:
        (MOUNT / "cgroup.subtree_control").write_text("+memory")
    group.mkdir()
    (group / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(size))
    (group / "cgroup.procs").write_text(str(process))
    try:
        yield
        until(lambda: not psutil.pid_exists(process), KILLED_S, "a process that needs memory lives without")
        kills = (group / ("memory.oom_control" if old else "memory.events")).read_text()
        assert "oom_kill 1" in kills, kills
    finally:
        until(lambda: not (group / "cgroup.procs").read_text(), KILLED_S, "the group is not empty")
        group.rmdir()
