"""What the person at the box takes along of what was said of alarms."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edge_asd.judgement import FOLDER, keep
from tests.test_judgement import CLIPS, FALSE, TRUE, record

if TYPE_CHECKING:
    from pathlib import Path


def labels(state: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_asd", "labels", "--state", str(state), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A false alarm with its sound, and a true one without."""
    for each in (FALSE, TRUE):
        keep(tmp_path / "state", each)
    record(tmp_path / "state", FALSE.alarm_id)
    return tmp_path / "state"


def test_they_are_listed_with_what_was_said(state: Path) -> None:
    keep(state, replace(TRUE, machine="fan2"))
    lines = labels(state, "--machine", "pump1").stdout.splitlines()
    assert [line.split() for line in lines[-2:]] == [
        ["b-event-1", "pump1", FALSE.event["ts"], "false", "6.50", "forklift", "smith"],
        ["b-event-2", "pump1", TRUE.event["ts"], "true", "6.50", "bearing", "smith"],
    ]


def test_without_any_it_is_said_how_to_make_one(tmp_path: Path) -> None:
    assert "edge-asd label MACHINE EVENT_ID true|false" in labels(tmp_path).stdout


def test_an_export_has_a_line_for_each_with_its_scores(state: Path, tmp_path: Path) -> None:
    done = labels(state, "--export", tmp_path / "taken")
    assert "2 labels" in done.stdout
    lines = [json.loads(line) for line in (tmp_path / "taken" / "labels.jsonl").read_text().splitlines()]
    assert [(line["alarm_id"], line["verdict"], line["score"]) for line in lines] == [
        ("b-event-1", False, 6.5),
        ("b-event-2", True, 6.5),
    ]
    assert [len(line["files"]) for line in lines] == [CLIPS, 0]


def test_one_that_is_damaged_is_named_and_where_nothing_can_be_written_that_is_said(
    state: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("in the way")
    done = labels(state, "--export", tmp_path / "taken")
    assert (done.returncode, "cannot be exported" in done.stderr) == (1, True)
    (state / FOLDER / "pump1" / "b-event-1.json").write_text("{")
    done = labels(state)
    assert done.returncode == 1
    assert "b-event-1.json: cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
