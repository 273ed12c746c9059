from __future__ import annotations

import configparser
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "systemd" / "edge-asd.service"


@pytest.fixture
def unit_here(tmp_path: Path) -> Path:
    """The unit with a program that exists on this computer."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/bin/edge-asd", "/bin/true"))
    return unit


@pytest.mark.system
def test_systemd_understands_every_line(unit_here: Path) -> None:
    verify = subprocess.run(["systemd-analyze", "verify", str(unit_here)], capture_output=True, text=True, check=False)

    ours = [line for line in verify.stderr.splitlines() if unit_here.name in line]
    assert (verify.returncode, ours) == (0, [])


@pytest.mark.system
def test_hardening_does_not_regress(unit_here: Path) -> None:
    security = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit_here)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert security.returncode == 0, security.stdout + security.stderr


def test_a_hanging_or_failed_daemon_is_started_again_but_a_mistake_is_not() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign] - systemd heeds case
    unit.read(UNIT)
    service = unit["Service"]

    assert (service["Type"], service["Restart"], service["RestartPreventExitStatus"]) == ("notify", "always", "78")
    assert service["WatchdogSec"] == "30"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"


def test_the_daemon_may_ask_whether_the_clock_is_synchronised() -> None:
    lines = UNIT.read_text().splitlines()

    assert "ProtectClock=yes" not in lines, (
        "it refuses the question too, and every message would say clock_synced false"
    )
    assert lines.index("SystemCallFilter=~@privileged") < lines.index("SystemCallFilter=adjtimex clock_adjtime")
