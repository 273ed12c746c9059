"""What the person at the box types to listen to what was kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from edge_asd.judgement import FOLDER as LABELS
from edge_asd.judgement import keep
from edge_asd.observe.evidence import FOLDER, Archive
from tests.example import noise
from tests.test_judgement import FALSE, TRUE

if TYPE_CHECKING:
    from pathlib import Path

RATE = 16_000
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
FIRST, SECOND, THIRD = "pump1/20261125T120000.000000Z", "fan2/20261125T120001.000000Z", "pump1/20261125T120002.000000Z"
WHY = {"score": 6.5, "bands": {"125": 0.25, "2500": 0.5}, "indicators": {"level": 0.75, "crest": 0.25}}


def clips(state: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_asd", "clips", *map(str, arguments), "--state", str(state)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=os.environ | environment
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Of a daemon that kept three recordings, the second because somebody asked for it."""
    archive = Archive(tmp_path / "state" / FOLDER, 10**7)
    for number, machine in enumerate(("pump1", "fan2", "pump1")):
        about = {"event_id": f"b-event-{number}" if machine == "pump1" else None, "evidence": WHY, "began": "2026"}
        archive.keep(machine, noise(number, RATE), RATE, NOON + timedelta(seconds=number), about)
    return tmp_path / "state"


def test_what_was_kept_is_listed_the_oldest_first_with_why(state: Path) -> None:
    lines = clips(state, "list").stdout.splitlines()
    assert [line.split()[0] for line in lines[-3:]] == [FIRST, SECOND, THIRD]
    assert "2500 Hz 50 %, 125 Hz 25 %, level 75 %" in lines[-1]
    assert lines[-1].split()[-1] == "b-event-2"
    assert lines[-2].rstrip().endswith("asked for")


def test_programs_are_told_all_that_is_known_one_object_a_line(state: Path) -> None:
    told = [json.loads(line) for line in clips(state, "list", "--machine", "pump1", "--json").stdout.splitlines()]
    assert [clip["clip"] for clip in told] == [FIRST, THIRD]
    assert [clip["evidence"] for clip in told] == [WHY, WHY]


def test_what_was_said_of_an_alarm_stands_beside_its_sound(state: Path) -> None:
    keep(state, replace(FALSE, alarm_id="b-event-2"))
    keep(state, replace(TRUE, alarm_id="b-event-0"))
    (state / LABELS / "pump1" / "damaged.json").write_text("{")
    lines = clips(state, "list").stdout.splitlines()[-3:]
    assert [line.split()[-2:] for line in (lines[0], lines[2])] == [["true", "b-event-0"], ["false", "b-event-2"]]
    told = [json.loads(line)["verdict"] for line in clips(state, "list", "--json").stdout.splitlines()]
    assert told == [True, None, False]


def test_a_clip_whose_description_is_damaged_is_still_listed(state: Path) -> None:
    (state / FOLDER / f"{FIRST}.json").write_text("{")
    assert FIRST in clips(state, "list").stdout


def test_where_nothing_was_kept_it_is_said_how_to(tmp_path: Path) -> None:
    assert "[evidence] enabled = true" in clips(tmp_path, "list").stdout


def test_clips_are_exported_by_name_or_event_and_are_the_same_bytes(state: Path, tmp_path: Path) -> None:
    done = clips(state, "export", FIRST, "b-event-2", "--to", tmp_path / "stick")
    exported = {file.name: file.read_bytes() for file in (tmp_path / "stick").iterdir()}
    assert exported == {
        f"{name.replace('/', '-')}.{kind}": (state / FOLDER / f"{name}.{kind}").read_bytes()
        for name in (FIRST, THIRD)
        for kind in ("flac", "json")
    }
    assert len(done.stdout.splitlines()) == 4


def test_those_deleted_are_gone_and_no_others(state: Path) -> None:
    assert clips(state, "delete", FIRST).stdout == f"deleted {FIRST}\n"
    assert {file.stem for file in (state / FOLDER).glob("*/*")} == {SECOND[5:], THIRD[6:]}
    clips(state, "delete", "--all")
    assert not list((state / FOLDER).glob("*/*"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["play", "../../etc/passwd"], "no clip '../../etc/passwd' was kept among 3; `edge-asd clips list` shows them"),
        (["export", "pump9", "--to", "."], "no clip 'pump9' was kept among 3"),
        (["export", FIRST, "--to", "/dev/null"], "cannot be copied to /dev/null"),
        (["delete"], "say which clips to delete, or --all"),
        (["delete", FIRST, "--all"], "say which clips to delete, or --all"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(state: Path, arguments: list[str], told: str) -> None:
    done = clips(state, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr
    assert len(list((state / FOLDER).glob("*/*"))) == 6


def test_a_clip_is_played_as_a_wav_that_every_player_reads(state: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "aplay").write_text(f'#!/bin/sh\nexec /bin/cp "$1" {tmp_path}/played.wav\n')
    (folder / "aplay").chmod(0o755)

    assert clips(state, "play", "b-event-0", PATH=str(folder)).returncode == 0
    played, rate = soundfile.read(tmp_path / "played.wav", dtype="float32")
    assert rate == RATE
    assert np.abs(played - noise(0, RATE)).max() <= 2**-15


def test_without_a_player_or_with_one_that_fails_it_is_said_how_to_hear_it(state: Path, tmp_path: Path) -> None:
    done = clips(state, "play", FIRST, PATH=str(tmp_path))
    assert done.returncode == 1
    assert "neither paplay nor aplay is here" in done.stderr
    (tmp_path / "paplay").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "paplay").chmod(0o755)
    done = clips(state, "play", FIRST, PATH=str(tmp_path))
    assert done.returncode == 1
    assert "`edge-asd clips export` copies" in done.stderr
