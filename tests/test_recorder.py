"""The sound of alarms, kept by a daemon that hears a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from edge_asd.alarm.alarm import Transition
from edge_asd.config import Config
from edge_asd.daemon import Daemon, Nobody
from edge_asd.deliver.store import read_history
from edge_asd.observe.clock import Clock
from edge_asd.recorder import MOST_S
from tests.example import bundle, noise

if TYPE_CHECKING:
    from pathlib import Path

RATE = 16_000
QUIET, LOUD = 12, 4
"""seconds of clips of one second each"""


@dataclass
class Watcher(Nobody):
    """Lets time pass as it is heard, and remembers when alarms were raised."""

    now: float = 0.0
    heard_s: float = 0.0
    raised: int = 0

    def heard(self, source: str, block: Any) -> None:  # noqa: ANN401, ARG002 - as an audience is told
        """Audio came in."""
        self.now += block.samples.size / RATE

    def changed(self, machine: str, transition: Transition, alarm: Any, clip: Any) -> None:  # noqa: ANN401, ARG002 - same
        """An alarm was raised, or returned."""
        self.raised += transition is Transition.ACTIVATED


@dataclass
class Heard:
    """A machine that is well for twelve seconds and then is not, heard to its end."""

    folder: Path
    evidence: dict[str, Any]
    state: Path | None
    pieces: tuple[np.ndarray, ...] = (noise(1, QUIET * RATE), noise(2, LOUD * RATE, 0.3))
    on_delay: int = 2

    def __post_init__(self) -> None:
        toy = bundle(self.folder / "toy.asd")
        self.sound = np.concatenate(self.pieces)
        soundfile.write(self.folder / "mic.wav", self.sound, RATE, "PCM_16")
        self.watcher = Watcher()
        began = datetime(2026, 11, 25, tzinfo=UTC)
        clock = Clock(lambda: self.watcher.now, lambda: began + timedelta(seconds=self.watcher.now))
        alarm = {"threshold": 3.0, "on_delay": self.on_delay, "off_delay": 2}
        config = Config(
            node="node1",
            state_dir=self.state,
            metrics={"listen": ""},
            trust={"allow_unsigned": True},
            evidence=self.evidence,
            sources={"mic": {"input": f"file:{self.folder}/mic.wav", "speed": 1.0}},
            machines={"pump1": {"source": "mic", "bundle": str(toy), "alarm": alarm}},
        )
        self.daemon = Daemon(config, self.watcher, clock=clock)
        self.daemon.step()  # opens the source
        self.watcher.now += 1
        self.daemon.run()

    def kept(self, kind: str) -> list[Path]:
        """Files of this kind, the oldest first."""
        return sorted((self.state or self.folder).glob(f"clips/pump1/*.{kind}"))

    def metric(self, name: str, **labels: str) -> float | None:
        """As Prometheus would be told."""
        return self.daemon.metrics.registry.get_sample_value(f"edge_asd_{name}", labels)


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Heard:
    folder = tmp_path_factory.mktemp("heard")
    return Heard(folder, {"enabled": True, "pre_roll_s": 5.0, "free_mb": 0.0}, folder / "state")


def test_an_alarm_keeps_the_clips_that_raised_it_and_what_came_before_to_the_sample(heard: Heard) -> None:
    (file,) = heard.kept("flac")
    samples, rate = soundfile.read(file, dtype="float32")
    start, end = (QUIET - 5) * RATE, (QUIET + 2) * RATE

    assert heard.watcher.raised == 1
    assert rate == RATE
    assert np.abs(samples - np.clip(heard.sound[start:end], -1, 1)).max() <= 2**-14


def test_beside_it_lies_what_the_event_said(heard: Heard) -> None:
    (file,) = heard.kept("json")
    about = json.loads(file.read_text())
    history = [json.loads(entry.body) for entry in read_history(heard.folder / "state" / "edge-asd.db")]
    (event,) = [entry for entry in history if entry["event"] == "activated"]

    assert about["event_id"] == event["id"]
    assert about["evidence"] == event["evidence"]
    assert about["model"] == event["model"]
    assert about["bundle_sha256"] == heard.daemon.wards["pump1"].digest
    assert (about["alarm_begins_s"], about["seconds"]) == (5.0, 7.0)
    assert set(about["evidence"]["bands"]) <= {str(hertz) for hertz in range(8000)}
    assert about["evidence"]["bands"]


def test_what_is_kept_is_counted(heard: Heard) -> None:
    size = sum(file.stat().st_size for file in heard.kept("*"))
    assert heard.metric("clip_store_bytes") == size
    assert heard.metric("clips_kept_total", outcome="ok") == 1


def test_an_alarm_without_quiet_before_it_keeps_what_there_is(tmp_path: Path) -> None:
    loud = Heard(tmp_path, {"enabled": True, "free_mb": 0.0}, tmp_path / "state", (noise(2, LOUD * RATE, 0.3),))
    about = json.loads(loud.kept("json")[0].read_text())
    assert (about["alarm_begins_s"], about["seconds"]) == (0.0, 2.0)


def test_the_sound_of_an_alarm_that_took_long_to_be_one_is_its_end(tmp_path: Path) -> None:
    patience = int(MOST_S) + 10
    pieces = (noise(1, QUIET * RATE), noise(2, patience * RATE, 0.15))
    slow = Heard(tmp_path, {"enabled": True, "free_mb": 0.0}, tmp_path / "state", pieces, on_delay=patience)
    samples, _ = soundfile.read(slow.kept("flac")[0], dtype="float32")
    assert samples.size == MOST_S * RATE
    assert np.abs(samples - np.clip(slow.sound[-samples.size :], -1, 1)).max() <= 2**-14


def test_that_sound_is_kept_is_said_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Heard(tmp_path, {"enabled": True}, tmp_path / "state", (noise(1, RATE),))
    (said,) = [record for record in caplog.records if record.message == "evidence.enabled"]
    assert str(tmp_path / "state" / "clips") in vars(said)["reason"]


def test_unless_it_is_switched_on_nothing_is_kept(tmp_path: Path) -> None:
    off = Heard(tmp_path, {}, tmp_path / "state")
    assert off.watcher.raised == 1
    assert not (tmp_path / "state" / "clips").exists()


@pytest.mark.parametrize("evidence", [{"quota_mb": 1e-3}, {"free_mb": 1e9}], ids=["quota", "floor"])
def test_an_alarm_whose_sound_cannot_be_kept_is_raised_and_scored_on(
    tmp_path: Path, evidence: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    pieces = [noise(n, 3 * RATE, 0.3 if n % 2 else 0.05) for n in range(6)]
    full = Heard(tmp_path, {"enabled": True, "free_mb": 0.0} | evidence, tmp_path / "state", tuple(pieces))
    assert full.watcher.raised == 3
    assert full.metric("clips_kept_total", outcome="failed") == 3
    assert full.metric("clips_total", machine="pump1", outcome="scored") == 18
    assert [record.message for record in caplog.records].count("evidence.lost") == 1
    assert not full.kept("*")
