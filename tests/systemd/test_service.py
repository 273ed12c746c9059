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
    assert exposure(unit_here) <= 1.6


def test_a_hanging_or_failed_daemon_is_started_again_but_a_mistake_is_not() -> None:
    unit = configured(UNIT)
    service = unit["Service"]

    assert (service["Type"], service["Restart"], service["RestartPreventExitStatus"]) == ("notify", "always", "78")
    assert service["WatchdogSec"] == "30"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"


@pytest.mark.system
@pytest.mark.parametrize("drop_in", ["10-clock.conf", "10-gpu.conf"])
def test_what_sites_add_is_understood_and_leaves_it_hardened(tmp_path: Path, drop_in: str) -> None:
    both = tmp_path / UNIT.name
    both.write_text(UNIT.read_text().replace("/usr/bin/edge-asd", "/bin/true") + UNIT.with_name(drop_in).read_text())
    verify = subprocess.run(["systemd-analyze", "verify", str(both)], capture_output=True, text=True, check=False)

    assert (verify.returncode, [line for line in verify.stderr.splitlines() if both.name in line]) == (0, [])
    assert exposure(both) <= 1.9


def test_an_upgrade_is_tried_only_while_one_is_on_trial() -> None:
    trial = configured(UNIT.with_name("edge-asd-trial.service"))

    assert trial["Unit"]["ConditionPathExists"] == "/opt/edge_asd/trial"
    assert trial["Unit"]["After"] == UNIT.name


def exposure(unit: Path) -> float:
    """0 to 10, as systemd counts it."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(said.split("Overall exposure level for")[1].split()[1])


def configured(unit: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign] - systemd heeds case
    parser.read(unit)
    return parser
