from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edge_asd.cost import cost
from edge_asd.errors import HeadUnknown
from tests.example import MACHINE, bundle

if TYPE_CHECKING:
    from pathlib import Path


def test_a_real_daemon_is_looked_at_from_its_start_to_its_memory(tmp_path: Path) -> None:
    """How much it may cost is the footprint's test; here the numbers must be of the daemon, and of nothing else."""
    options = ("--bundle", tmp_path / "toy.asd", "--machines", 2, "--seconds", 2, "--json")
    bundle(tmp_path / "toy.asd")
    command = [sys.executable, "-m", "edge_asd", "cost", *map(str, options)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout)

    assert 0 < found["ready_s"] < 60
    assert found["first_score_s"] > 0
    assert 0 < found["cpu"] < 1.5
    assert found["cpu_per_machine"] == found["cpu"] / found["machines"] == found["cpu"] / 2
    assert 20e6 < found["memory_bytes"] < 300e6
    assert found["capture_bytes"] == 0, "a recording needs no capture process"


def test_a_head_that_is_not_there_is_told_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(HeadUnknown, match=f"choose one of {MACHINE}"):
        cost(bundle(tmp_path / "toy.asd"), "x/y/00")
