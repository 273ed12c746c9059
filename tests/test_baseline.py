from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from edge_asd.baseline import FOLDER, LOOK_S, Binding, Commissioned, keep, read
from edge_asd.capture.source import SourceState
from edge_asd.config import Config
from edge_asd.daemon import Daemon
from edge_asd.errors import ConfigError
from edge_asd.observe.clock import Clock
from edge_asd.signal.profile import OFF, RUNNING, profile
from edge_asd.signal.segment import Windows
from tests.example import SECOND, bundle, noise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RATE = 16_000
NOISE, LATER = noise(3, 30 * RATE), noise(4, 120 * RATE)
EAR = Binding("microphone:usb-path:1-1", 0, RATE)
FIRST = Commissioned(
    "press", EAR, "ab" * 32, "toy/noise/00", 1, "2026-11-25T04:00:00.000Z", {RUNNING: profile(NOISE, RATE)}
)


def test_what_is_kept_is_read_again_and_the_one_before_stays_beside_it(tmp_path: Path) -> None:
    path = keep(tmp_path, FIRST)
    assert read(tmp_path, "press") == FIRST

    second = FIRST.then(replace(FIRST, created="2026-11-25T05:00:00.000Z"))
    assert keep(tmp_path, second) == path
    assert read(tmp_path, "press") == second
    assert second.version == 2
    before = path.with_suffix(".previous.json")
    assert json.loads(before.read_text())["created"] == FIRST.created
    assert sorted(path.parent.iterdir()) == sorted([path, before])


def test_states_are_gathered_at_one_ear_and_forgotten_at_another() -> None:
    off = replace(FIRST, states={OFF: profile(NOISE / 10, RATE)})
    elsewhere = replace(off, ear=replace(EAR, channel=2))

    assert set(FIRST.then(off).states) == {RUNNING, OFF}
    assert set(FIRST.then(elsewhere).states) == {OFF}
    assert FIRST.then(elsewhere).ear.other(EAR) == "channel 2 and not 0"


def test_nothing_is_kept_of_a_machine_that_was_never_heard(tmp_path: Path) -> None:
    assert read(tmp_path, "press") is None


@pytest.mark.parametrize(
    "damage", ["", "[]", "{}", '{"schema": "edge_asd.commissioned/9"}', '{"schema": 3, "states": []}']
)
def test_a_damaged_profile_is_refused_with_what_to_do(tmp_path: Path, damage: str) -> None:
    keep(tmp_path, FIRST).write_text(damage)
    with pytest.raises(ConfigError, match=r"press\.json: cannot be read .*edge-asd commission press"):
        read(tmp_path, "press")


def test_every_field_that_is_missing_is_noticed(tmp_path: Path) -> None:
    path = keep(tmp_path, FIRST)
    whole = json.loads(path.read_text())
    for name in whole:
        path.write_text(json.dumps({key: value for key, value in whole.items() if key != name}))
        with pytest.raises(ConfigError, match="cannot be read"):
            read(tmp_path, "press")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    with pytest.raises(ConfigError, match="cannot be written"):
        keep(tmp_path, FIRST)


# In the daemon --------------------------------------------------------------------------------------------------------


class Box:
    """A daemon that hears a file as fast as it likes, a second a step."""

    def __init__(self, folder: Path, sound: np.ndarray, windows: Windows = SECOND) -> None:
        soundfile.write(folder / "mic.wav", np.clip(sound, -1, 1), RATE, "FLOAT")
        self.now, self.input = 0.0, f"file:{folder / 'mic.wav'}"
        machine = {"source": "mic", "bundle": str(bundle(folder / "toy.asd", windows))}
        self.daemon = Daemon(
            Config(
                state_dir=folder / "state",
                metrics={"listen": ""},
                sources={"mic": {"input": self.input, "speed": 0}},
                machines={"press": machine},
            ),
            clock=Clock(lambda: self.now),
        )
        self.ear, self.ward = self.daemon.ears["mic"], self.daemon.wards["press"]

    def commissioned(self, **other: object) -> Commissioned:
        """At this ear, unless told otherwise."""
        known = replace(FIRST, ear=Binding(self.input, 0, RATE), bundle_sha256=self.ward.digest)
        return replace(known, **other)

    def hear(self, seconds: int) -> None:
        """So much of the file."""
        until = self.ear.heard + seconds * RATE
        while self.ear.heard < until:
            self.now += 1
            self.daemon.step()


def test_the_daemon_holds_an_ear_to_its_profile_from_the_start(tmp_path: Path) -> None:
    box = Box(tmp_path, 5 * LATER)
    keep(tmp_path / "state", box.commissioned())

    box.hear(25)
    assert box.ear.state is SourceState.SUSPECT
    assert "as when commissioned (running), but +1" in box.ear.reason
    assert not box.daemon.health().well


def test_an_ear_that_is_as_it_was_is_ok_and_proven(tmp_path: Path) -> None:
    box = Box(tmp_path, LATER)
    keep(tmp_path / "state", box.commissioned())

    box.hear(25)
    assert box.ear.state is SourceState.OK
    assert set(box.ear.baseline) == {RUNNING}
    assert box.daemon.health().well


def test_a_profile_that_changes_is_heeded_while_the_daemon_runs(tmp_path: Path) -> None:
    box = Box(tmp_path, 5 * LATER)
    box.hear(5)
    assert box.ear.baseline == {}

    keep(tmp_path / "state", box.commissioned())
    box.hear(round(LOOK_S) + 25)
    assert box.ear.state is SourceState.SUSPECT

    keep(tmp_path / "state", box.commissioned(states={RUNNING: profile(5 * NOISE, RATE)}))
    box.hear(round(LOOK_S) + 15)
    assert box.ear.state is SourceState.OK


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"ear": Binding("microphone:usb-id:1:2", 0, RATE)}, "not the ear that was commissioned: it has input file:"),
        ({"ear": Binding("file:", 0, 48_000)}, "rate 16000 and not 48000"),
        ({"bundle_sha256": "cd" * 32}, "the bundle is not the one"),
    ],
)
def test_another_ear_or_bundle_than_was_commissioned_is_told_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, other: dict[str, object], said: str
) -> None:
    box = Box(tmp_path, 5 * LATER)
    keep(tmp_path / "state", box.commissioned(**other))
    with caplog.at_level(logging.WARNING, "edge_asd"):
        box.hear(25)

    assert said in box.ward.unproven
    assert [record.reason for record in caplog.records if record.message == "ear.uncommissioned"] == [box.ward.unproven]
    assert [check.said for check in box.daemon.health().checks if check.name == "ear of press"] == [box.ward.unproven]
    assert bool(box.ear.baseline) is ("bundle_sha256" in other)  # of another ear nothing is known


def test_a_damaged_profile_does_not_stop_the_daemon(tmp_path: Path) -> None:
    box = Box(tmp_path, LATER)
    keep(tmp_path / "state", box.commissioned()).write_text("{")

    box.hear(12)
    assert box.ear.state is SourceState.OK
    assert "cannot be read" in box.ward.unproven


def covered(sound: np.ndarray) -> np.ndarray:
    hertz = np.fft.rfftfreq(sound.size, 1 / RATE)
    return np.fft.irfft(np.fft.rfft(sound) * 0.1 / (1 + 1j * hertz / 400), sound.size)


@pytest.mark.parametrize("second", [30, 31, 35, 39])
@pytest.mark.parametrize("change", [covered, lambda sound: sound * 5.0], ids=["covered", "gain"])
def test_no_change_of_the_ear_is_an_alarm_of_the_machine_wherever_in_a_clip_it_falls(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], second: int
) -> None:
    box = Box(tmp_path, np.concatenate([LATER[: second * RATE], change(LATER[second * RATE :])]), Windows())
    states = {RUNNING: profile(NOISE, RATE), OFF: profile(NOISE / 10, RATE)}
    keep(tmp_path / "state", box.commissioned(states=states))

    box.hear(90)
    assert box.ear.state is SourceState.SUSPECT
    assert not box.ward.alarm.active


@pytest.mark.parametrize("change", [covered, lambda sound: sound * 5.0], ids=["covered", "gain"])
def test_the_same_change_of_an_ear_that_nobody_commissioned_is_taken_for_the_machine(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    box = Box(tmp_path, np.concatenate([LATER[: 30 * RATE], change(LATER[30 * RATE :])]), Windows())

    box.hear(90)
    assert box.ear.state is SourceState.OK
    assert box.ward.alarm.active


def test_a_strange_sound_of_the_machine_is_an_alarm_and_the_ear_is_well(tmp_path: Path) -> None:
    hiss = np.diff(LATER, prepend=0).astype(np.float32) * 2
    box = Box(tmp_path, np.concatenate([LATER[: 30 * RATE], hiss[30 * RATE :]]), Windows())
    states = {RUNNING: profile(NOISE, RATE), OFF: profile(NOISE / 10, RATE)}
    keep(tmp_path / "state", box.commissioned(states=states))

    box.hear(90)
    assert box.ear.state is SourceState.OK
    assert box.ward.alarm.active
