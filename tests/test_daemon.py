"""The whole daemon: a file in, messages at a real broker out. Time is the test's own wherever it matters."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from edge_asd.bundle import open_bundle
from edge_asd.capture.file import read_audio
from edge_asd.capture.source import Loss, SourceState
from edge_asd.config import Config
from edge_asd.daemon import Daemon, Nobody, stopped_by_signals
from edge_asd.deliver.publisher import NullPublisher
from edge_asd.errors import BundleError, ConfigError, HeadUnknown, SourceError
from edge_asd.observe.notify import Notifier
from edge_asd.score.queue import WAIT_S
from edge_asd.signal.segment import Block, Windows
from tests.clock import Time
from tests.conftest import PATIENCE, free_port, until
from tests.example import MACHINE, SECOND, bundle, embed, noise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from edge_asd.alarm.alarm import Alarm, Policy, Transition
    from edge_asd.deliver.message import Message
    from edge_asd.score.clip import ClipScore
    from tests.conftest import Broker, Recorder

RATE = 16_000
TOPIC = "edge_asd/v1/node1"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith(("EDGE_ASD__", "CREDENTIALS_", "NOTIFY_", "WATCHDOG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EDGE_ASD__TRUST__ALLOW_UNSIGNED", "true")  # of bundles that tests make


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that judges seconds."""
    return bundle(tmp_path_factory.mktemp("bundle") / "toy.asd")


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """What a service tells systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(0)
        yield listener


def said(systemd: socket.socket) -> list[str]:
    """Everything since the last time."""
    words = []
    with suppress(BlockingIOError):
        while True:
            words.append(systemd.recv(4096).decode())
    return words


@dataclass
class Watcher(Nobody):
    """Remembers, and lets a second pass for each second it hears."""

    time: Time | None = None
    heard_blocks: list[Block] = field(default_factory=list)
    clips: dict[str, list[ClipScore]] = field(default_factory=dict)
    changes: list[Transition] = field(default_factory=list)

    def heard(self, source: str, block: Block) -> None:  # noqa: ARG002 - as an audience is told
        """Audio came in."""
        self.heard_blocks.append(block)
        if self.time:
            self.time.now += block.samples.size / RATE

    @property
    def heard_until(self) -> int:
        """Index behind the newest sample."""
        last = self.heard_blocks[-1:]
        return last[0].start + last[0].samples.size if last else 0

    def scored(self, machine: str, clip: ClipScore, policy: Policy) -> None:  # noqa: ARG002 - same
        """A clip got its score."""
        self.clips.setdefault(machine, []).append(clip)

    def changed(self, machine: str, transition: Transition, alarm: Alarm, clip: ClipScore) -> None:  # noqa: ARG002 - same
        """An alarm was raised, or returned."""
        self.changes.append(transition)


class Told(NullPublisher):
    """Remembers what was to be published."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def publish(self, message: Message) -> None:
        """Keep it."""
        self.messages.append(message)

    def payloads(self, ending: str) -> list[str]:
        """Of the topics that end so."""
        return [m.payload.decode() for m in self.messages if m.topic.endswith(ending)]


def config(bundle: Path, broker: Broker | None = None, **inputs: str | dict[str, object]) -> Config:
    """One machine a source, named alike."""
    sources = {n: {"input": i, "speed": 1.0} if isinstance(i, str) else i for n, i in inputs.items()}
    mqtt = {"host": broker.host, "port": broker.port} if broker else None
    machines = {name: {"source": name, "bundle": str(bundle)} for name in sources}
    listen = {"listen": "127.0.0.1:0"}
    return Config(node="node1", state_dir=None, mqtt=mqtt, metrics=listen, sources=sources, machines=machines)


def wav(path: Path, samples: np.ndarray, subtype: str = "PCM_16") -> str:
    """Written; as an input."""
    soundfile.write(path, samples, RATE, subtype)
    return f"file:{path}"


def listens(daemon: Daemon) -> bool:
    """Connected, and its sources were opened: time that passes before they are is never heard."""
    opened = all(ward.online is not None for ward in daemon.wards.values())
    return opened and daemon.publisher.traffic().connected


@contextmanager
def running(daemon: Daemon) -> Iterator[None]:
    """In a thread, connected to its broker; ends with the daemon."""
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(daemon.run)
        try:
            until(lambda: ended.done() or listens(daemon), PATIENCE, "no connection")
            yield
        except BaseException:
            daemon.stop()
            raise
        ended.result(4 * PATIENCE)


def perform(config: Config) -> tuple[Daemon, Watcher]:
    """Play the sources to their end, as time passes by what is heard."""
    time = Time()
    watcher = Watcher(time)
    daemon = Daemon(config, watcher, clock=time.clock)
    if config.mqtt is None:
        daemon.step()  # opens the sources
        time.now += 1
        daemon.run()
    else:
        with running(daemon):
            time.now += 1
    return daemon, watcher


def received(recorder: Recorder, ending: str) -> list[dict]:
    """Payloads of the topics that end so, once the daemon has stopped."""
    recorder.wait_for(lambda m: m.topic == f"{TOPIC}/status" and m.payload == b"stopped")
    return [message.json() for message in recorder.messages if message.topic.endswith(ending)]


# From sound to messages -----------------------------------------------------------------------------------------------


@pytest.mark.system
def test_what_arrives_is_what_scoring_each_ten_seconds_of_the_file_says(tmp_path: Path, broker: Broker) -> None:
    windows = Windows()
    path = bundle(tmp_path / "ten.asd", windows)
    recorder = broker.subscribe(f"{TOPIC}/#")
    source = wav(tmp_path / "mic.wav", noise(500, 35 * RATE))
    perform(config(path, broker, pump1=source))

    scores, scorer = received(recorder, "machine/pump1/score"), open_bundle(path).scorer(MACHINE)
    sound = read_audio(tmp_path / "mic.wav", RATE)
    pieces = [scorer.score(sound[start : start + windows.clip]) for start in (0, 160_000, 320_000)]
    assert len(scores) == 3
    for number, (score, piece) in enumerate(zip(scores, pieces, strict=True), 1):
        assert score["score"] == piece.surprise
        assert score["parts"] == {part.name: part.z for part in piece.parts}
        assert (score["level_dbfs"], score["health_index"]) == (piece.level_dbfs, piece.health_index)
        assert (score["seq"], score["clip_seconds"], score["threshold"]) == (number, 10.0, scorer.alarm)
    ends = [datetime.fromisoformat(score["ts"]) for score in scores]
    assert [(b - a).total_seconds() for a, b in pairwise(ends)] == [10, 10]


@pytest.mark.system
def test_a_stretch_of_strange_sound_raises_one_alarm_and_it_returns(toy: Path, tmp_path: Path, broker: Broker) -> None:
    loud = [noise(600, 5 * RATE), noise(601, 5 * RATE, level=0.2), noise(602, 12 * RATE)]
    recorder = broker.subscribe(f"{TOPIC}/#")
    _, watcher = perform(config(toy, broker, pump1=wav(tmp_path / "mic.wav", np.concatenate(loud))))

    events = received(recorder, "machine/pump1/event")
    assert [event["event"] for event in events] == watcher.changes == ["activated", "returned"]
    assert events[0]["alarm_id"] == events[0]["id"] == events[1]["alarm_id"]
    assert events[0]["evidence"]["clips_over"] == 3
    assert len(received(recorder, "machine/pump1/score")) == len(watcher.clips["pump1"]) == 22
    raised, since = (datetime.fromisoformat(when) for when in (events[0]["ts"], events[0]["alarm"]["since"]))
    assert (raised - since).total_seconds() == 3
    late = broker.subscribe(f"{TOPIC}/machine/pump1/#").wait_for(lambda m: m.topic.endswith("alarm")).json()
    assert (late["alarm"]["state"], late["alarm"]["repeat_count"], late["id"]) == ("rtn_unacked", 1, events[1]["id"])


@pytest.mark.system
@pytest.mark.parametrize(
    ("value", "state"), [(0.0, "silent"), (np.nan, "failed"), (0.5, "stuck")], ids=["zeros", "nan", "constant"]
)
def test_while_there_is_no_sound_the_machine_is_unavailable_and_no_score_is_told(
    toy: Path, tmp_path: Path, broker: Broker, value: float, state: str
) -> None:
    sound = np.concatenate([noise(700, 3 * RATE), np.full(2 * RATE, value, np.float32), noise(701, 8 * RATE)])
    recorder, time, watcher = broker.subscribe(f"{TOPIC}/#"), Time(), Watcher()
    daemon = Daemon(config(toy, broker, pump1=wav(tmp_path / "mic.wav", sound, "FLOAT")), watcher, clock=time.clock)

    def told(already: int, state: str, availability: bytes) -> None:
        for ending, said in (("source/pump1/state", f'"state":"{state}"'.encode()), ("availability", availability)):
            recorder.wait_for(
                lambda m, ending=ending, said=said: (
                    m in recorder.messages[already:] and m.topic.endswith(ending) and said in m.payload
                )
            )

    with running(daemon):
        time.now = 3
        told(0, "ok", b"online")
        already, time.now = len(recorder.messages), 5
        told(already, state, b"offline")
        assert len(watcher.clips["pump1"]) == 3
        already = len(recorder.messages)
        for second in range(6, 14):  # one at a time, lest the ear is well by what comes after a clip
            time.now = float(second)
            until(lambda: watcher.heard_until >= time.now * RATE, PATIENCE, "a second is not heard")
        told(already, "ok", b"online")
        time.now = 13.5
    assert [clip.start for clip in watcher.clips["pump1"]] == [s * RATE for s in (0, 1, 2, 9, 10, 11, 12)], (
        "none until it has been well for five seconds"
    )
    assert len(received(recorder, "machine/pump1/score")) == 7


@pytest.mark.system
def test_a_newcomer_learns_from_retained_messages_what_runs_here(toy: Path, tmp_path: Path, broker: Broker) -> None:
    perform(config(toy, broker, pump1=wav(tmp_path / "mic.wav", noise(1, 2 * RATE))))
    recorder = broker.subscribe(f"{TOPIC}/#")

    info = recorder.wait_for(lambda m: m.topic.endswith("/info")).json()
    assert info["machines"]["pump1"] == {
        "id": "toy",
        "version": "1.2.3",
        "backend": "numpy",
        "precision": "float32",
    }
    assert recorder.wait_for(lambda m: m.topic.endswith("pump1/alarm")).json()["alarm"]["state"] == "normal"
    assert recorder.wait_for(lambda m: m.topic.endswith("/status")).payload == b"stopped"


def test_two_machines_may_share_an_ear(toy: Path, tmp_path: Path) -> None:
    settings = config(toy, mic0=wav(tmp_path / "mic.wav", noise(2, 3 * RATE)))
    machines = {name: {"source": "mic0", "bundle": str(toy)} for name in ("pump1", "pump2")}
    _, watcher = perform(Config(**settings.model_dump() | {"machines": machines}))

    assert len(watcher.clips["pump1"]) == 3
    assert watcher.clips["pump1"] == watcher.clips["pump2"]


def test_metrics_count_what_was_heard_and_scored(toy: Path, tmp_path: Path) -> None:
    sound = np.concatenate([noise(3, 3 * RATE), np.zeros(RATE // 4, np.float32), noise(4, 7 * RATE)])
    daemon, watcher = perform(config(toy, pump1=wav(tmp_path / "mic.wav", sound)))
    ask = daemon.metrics.registry.get_sample_value

    assert ask("edge_asd_audio_frames_total", {"source": "pump1"}) == sound.size
    assert ask("edge_asd_clips_total", {"machine": "pump1", "outcome": "scored"}) == 6
    assert ask("edge_asd_clips_total", {"machine": "pump1", "outcome": "silent"}) == 1
    assert ask("edge_asd_clips_total", {"machine": "pump1", "outcome": "unfit_source"}) == 4
    assert ask("edge_asd_audio_sample_rate_hertz", {"source": "pump1"}) == RATE
    assert ask("edge_asd_clip_score", {"machine": "pump1"}) == watcher.clips["pump1"][-1].surprise


def test_the_alarm_threshold_is_shared_by_as_many_clips_as_the_config_wants(toy: Path) -> None:
    settings = config(toy, pump1="file:mic.wav").model_dump()
    alarm = open_bundle(toy).manifest.heads[MACHINE].thresholds.alarm
    for own, expected in [({"on_delay": 1}, 3 * alarm), ({"on_delay": 6}, alarm / 2), ({"threshold": 2.5}, 2.5)]:
        settings["machines"]["pump1"]["alarm"] = own
        ward = Daemon(Config(**settings)).wards["pump1"]
        assert ward.policy.threshold == ward.listener.alarm == pytest.approx(expected)


def test_an_ear_knows_its_rate_its_floor_and_whether_it_must_keep_time(toy: Path) -> None:
    heard = {"input": "microphone:name:default", "floor_dbfs": -62.5}
    ears = Daemon(config(toy, pump1=heard, pump2="file:mic.wav", pump3="render:valve")).ears

    assert [(ear.rate, ear.live, ear.floor_dbfs) for ear in ears.values()] == [
        (RATE, True, -62.5),
        (RATE, False, None),
        (RATE, False, None),
    ]


def test_one_episode_is_one_line_in_the_log_and_failed_attempts_are_counted(
    toy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    time = Time()
    daemon, reasons = Daemon(config(toy, pump1="file:unused.wav"), clock=time.clock), iter("abcdefgh")

    def fail() -> Tap:
        raise SourceError(next(reasons))

    daemon.ears["pump1"].open_source = fail
    daemon.publisher = told = Told()
    for _ in range(8):
        daemon.step()
        time.now += 1

    assert [record.message for record in caplog.records if record.message.startswith("source.")] == ["source.lost"]
    attempts, ask = daemon.ears["pump1"].restarts, daemon.metrics.registry.get_sample_value
    assert attempts > 2
    assert len(told.payloads("source/pump1/state")) == attempts, "what is retained has the latest reason"
    assert ask("edge_asd_audio_restarts_total", {"source": "pump1", "outcome": "failed"}) == attempts - 1


# Ears that fail -------------------------------------------------------------------------------------------------------


def test_a_source_that_is_missing_is_told_and_retried_while_the_others_go_on(toy: Path, tmp_path: Path) -> None:
    time, watcher = Time(), Watcher()
    missing = tmp_path / "later.wav"
    inputs = {"pump1": f"file:{missing}", "pump2": wav(tmp_path / "mic.wav", noise(5, 30 * RATE))}
    daemon = Daemon(config(toy, **inputs), watcher, clock=time.clock)
    daemon.publisher = told = Told()

    for _ in range(6):
        daemon.step()
        time.now += 1
    lost = daemon.ears["pump1"]
    assert (lost.state, lost.reason, lost.restarts) == (SourceState.LOST, f"{missing} is no file", 4)
    assert len(watcher.clips["pump2"]) == 5
    assert told.payloads("machine/pump1/availability") == ["offline"]

    wav(missing, noise(6, 5 * RATE))
    for _ in range(5):
        daemon.step()
        time.now += 1
    assert lost.state is SourceState.OK
    assert len(watcher.clips["pump1"]) > 0
    assert told.payloads("machine/pump1/availability") == ["offline", "online"]
    assert len(watcher.clips["pump2"]) == 10


@dataclass
class Tap:
    """A source that runs, stalls or fails as the test wants."""

    runs: bool = True
    trouble: str = ""
    start: int = 0
    ended: bool = False
    loss: Loss = field(default_factory=Loss)
    fill: float = 0.0

    def read(self) -> Block | None:
        """A second, or nothing."""
        if self.trouble:
            raise SourceError(self.trouble)
        if not self.runs:
            return None
        self.start += RATE
        return Block(self.start - RATE, noise(self.start, RATE))

    def close(self) -> None:
        """Nothing to let go of."""


def test_the_watchdog_is_fed_for_scores_and_for_announced_trouble_and_starves_otherwise(
    toy: Path, tmp_path: Path, systemd: socket.socket
) -> None:
    time, tap = Time(), Tap()
    notifier = Notifier(str(tmp_path / "notify"), watchdog_s=4.0)
    daemon = Daemon(config(toy, pump1="file:unused.wav"), clock=time.clock, notifier=notifier)
    daemon.publisher = told = Told()
    daemon.ears["pump1"].open_source = lambda: tap

    def fed(seconds: int) -> list[bool]:
        second = []
        for _ in range(seconds):
            daemon.step()
            second.append("WATCHDOG=1" in said(systemd))
            time.now += 1
        return second

    assert fed(10) == [True] * 10
    tap.runs = False
    assert fed(20) == [True] * 3 + [False] * 17
    assert told.payloads("availability") == ["online", "offline"]
    tap.trouble = "unplugged"
    assert all(fed(40))
    tap.trouble, tap.runs = "", True
    fed(31)
    assert all(fed(5))
    assert told.payloads("availability") == ["online", "offline", "online"]


def test_a_recording_that_has_ended_is_told_and_does_not_starve_the_watchdog_of_the_others(
    toy: Path, tmp_path: Path, systemd: socket.socket
) -> None:
    time = Time()
    inputs = {f"pump{s}": wav(tmp_path / f"{s}.wav", noise(s, s * RATE)) for s in (2, 30)}
    notifier = Notifier(str(tmp_path / "notify"), watchdog_s=4.0)
    daemon = Daemon(config(toy, **inputs), clock=time.clock, notifier=notifier)
    daemon.publisher = told = Told()

    for _ in range(20):
        said(systemd)
        daemon.step()
        assert "WATCHDOG=1" in said(systemd)
        time.now += 1
    assert told.payloads("pump2/availability") == ["offline", "online", "offline"]
    assert '"reason":"the recording has ended"' in told.payloads("source/pump2/state")[-1]
    assert told.payloads("pump30/availability") == ["offline", "online"]


# Many machines --------------------------------------------------------------------------------------------------------


@dataclass
class Slow:
    """A network that takes its time, as the test counts time."""

    time: Time
    seconds: float

    def __call__(self, segment: np.ndarray) -> dict[str, np.ndarray]:
        """Time passes."""
        self.time.now += self.seconds
        return embed(segment)


def slow_down(daemon: Daemon, time: Time, seconds: Mapping[str, float]) -> None:
    """So many seconds a segment for these machines; a clip has three."""
    for name, each in seconds.items():
        ward = daemon.wards[name]
        ward.listener = replace(ward.listener, embed=Slow(time, each))


def pass_time(daemon: Daemon, time: Time, seconds: float, nap: float = 0.05) -> None:
    """The loop, as the daemon runs it."""
    end = time.now + seconds
    while time.now < end:
        daemon.step()
        time.now += nap


def counted(daemon: Daemon, series: str, outcome: str) -> dict[str, float]:
    """By machine."""
    ask = daemon.metrics.registry.get_sample_value
    return {name: ask(f"edge_asd_{series}", {"machine": name, "outcome": outcome}) or 0.0 for name in daemon.wards}


def test_a_bundle_that_fails_is_announced_and_the_other_machines_are_heard(
    toy: Path, tmp_path: Path, systemd: socket.socket
) -> None:
    time, watcher, sound = Time(), Watcher(), wav(tmp_path / "mic.wav", noise(20, 60 * RATE))
    notifier = Notifier(str(tmp_path / "notify"), watchdog_s=4.0)
    settings = config(toy, mic0=sound)
    machines = {name: {"source": "mic0", "bundle": str(toy)} for name in ("bad", "good")}
    whole = Config(**settings.model_dump() | {"machines": machines})
    daemon = Daemon(whole, watcher, clock=time.clock, notifier=notifier)
    daemon.publisher = told = Told()
    listener = daemon.wards["bad"].listener

    def fails(_: np.ndarray) -> dict[str, np.ndarray]:
        msg = "the graph is torn"
        raise RuntimeError(msg)

    pass_time(daemon, time, 3.2, nap=0.1)
    daemon.wards["bad"].listener = replace(listener, embed=fails)
    said(systemd)
    words = []
    for _ in range(20):
        pass_time(daemon, time, 1, nap=0.1)
        words += said(systemd)
    clips, failed = daemon.ears["mic0"].heard // RATE, int(counted(daemon, "clips_total", "error")["bad"])
    assert len(watcher.clips["bad"]) == 4, "the one in progress is still heard by the old one"
    assert len(watcher.clips["good"]) == clips
    assert 0 <= failed + 4 - clips <= 1, "each clip fails once"
    assert counted(daemon, "segments_total", "error") == {"bad": 3 * failed, "good": 0}
    assert told.payloads("bad/availability") == ["offline", "online", "offline"]
    assert told.payloads("good/availability") == ["offline", "online"]
    assert "STATUS=2 machines on numpy, bad: scoring fails: RuntimeError: the graph is torn" in words
    assert words.count("WATCHDOG=1") >= 15, "starting again would mend nothing"
    checks = {check.name: check.said for check in daemon.health().checks if not check.well}
    assert checks == {"machine bad": "scoring fails: RuntimeError: the graph is torn"}

    daemon.wards["bad"].listener = replace(daemon.wards["bad"].listener, embed=None)
    pass_time(daemon, time, 3, nap=0.1)
    assert told.payloads("bad/availability")[-1] == "online"
    assert all(clip.start % RATE == 0 for clip in watcher.clips["bad"])
    assert all(check.well for check in daemon.health().checks)


def test_what_a_slow_computer_cannot_follow_is_shed_clip_by_clip_and_fairly(toy: Path, tmp_path: Path) -> None:
    time, watcher = Time(), Watcher()
    names = [f"pump{n}" for n in range(4)]
    heard = {"input": wav(tmp_path / "mic.wav", noise(23, 30 * RATE)), "loop": True}
    daemon = Daemon(config(toy, **dict.fromkeys(names, heard)), watcher, clock=time.clock)
    daemon.publisher = told = Told()
    slow_down(daemon, time, dict.fromkeys(names, 0.2))

    most = 0.0
    for _ in range(120):
        pass_time(daemon, time, 1)
        most = max(most, *(ward.queue.samples / RATE for ward in daemon.wards.values()))
        assert all(time.now - ear.heard / RATE < 2 for ear in daemon.ears.values()), "capture waits for nobody"
    scored, shed = counted(daemon, "clips_total", "scored"), counted(daemon, "clips_total", "overload")
    assert max(scored.values()) - min(scored.values()) <= 2
    assert sum(scored.values()) == pytest.approx(time.now / 0.6, rel=0.2), "what the computer can do, it does"
    for name, ear in daemon.ears.items():
        assert 0 <= ear.heard / RATE - scored[name] - shed[name] <= 1 + WAIT_S + 1
    assert counted(daemon, "segments_total", "skipped_overload") == {name: 3 * n for name, n in shed.items()}
    assert counted(daemon, "clips_total", "gap") == dict.fromkeys(names, 0), "a clip that was begun is finished"
    assert most <= 1 + WAIT_S
    late = daemon.metrics.registry.get_sample_value(
        "edge_asd_end_to_end_latency_seconds_bucket", {"machine": "pump0", "le": "30.0"}
    )
    assert late == scored["pump0"]
    assert {check.said for check in daemon.health().checks if not check.well} == {
        "this computer is too slow: clips are shed"
    }
    assert told.payloads("event") == []


def test_a_machine_that_is_costly_takes_nothing_from_one_that_is_not(toy: Path, tmp_path: Path) -> None:
    time, watcher = Time(), Watcher()
    inputs = {name: wav(tmp_path / f"{name}.wav", noise(n, 70 * RATE)) for n, name in enumerate(("costly", "cheap"))}
    daemon = Daemon(config(toy, **inputs), watcher, clock=time.clock)
    slow_down(daemon, time, {"costly": 0.9})

    pass_time(daemon, time, 60)
    assert counted(daemon, "clips_total", "overload")["costly"] > 30
    assert counted(daemon, "clips_total", "overload")["cheap"] == 0
    assert len(watcher.clips["cheap"]) >= 58


def test_a_loop_that_was_kept_from_running_takes_in_at_once_all_that_has_come(toy: Path, tmp_path: Path) -> None:
    time, watcher = Time(), Watcher()
    daemon = Daemon(config(toy, pump1=wav(tmp_path / "mic.wav", noise(24, 20 * RATE))), watcher, clock=time.clock)
    for seconds in (0.0, 0.5, 9.0, 0.5):
        time.now += seconds
        daemon.step()

    assert daemon.ears["pump1"].heard == 10 * RATE
    assert len(watcher.clips["pump1"]) + counted(daemon, "clips_total", "overload")["pump1"] == 10


def test_a_recording_that_nobody_hurries_waits_instead_of_being_shed(toy: Path, tmp_path: Path) -> None:
    time, watcher = Time(), Watcher()
    heard = {"input": wav(tmp_path / "mic.wav", noise(21, 30 * RATE)), "speed": 0.0}
    daemon = Daemon(config(toy, pump1=heard), watcher, clock=time.clock)
    slow_down(daemon, time, {"pump1": 5.0})
    daemon.run()

    assert [clip.start for clip in watcher.clips["pump1"]] == list(range(0, 30 * RATE, RATE))


def test_the_delay_of_a_score_is_counted_from_the_last_sample_of_its_clip(toy: Path, tmp_path: Path) -> None:
    time = Time()
    daemon = Daemon(config(toy, pump1=wav(tmp_path / "mic.wav", noise(22, 12 * RATE))), clock=time.clock)
    slow_down(daemon, time, {"pump1": 0.2})
    pass_time(daemon, time, 10)
    ask = daemon.metrics.registry.get_sample_value
    total, count = (ask(f"edge_asd_end_to_end_latency_seconds_{n}", {"machine": "pump1"}) for n in ("sum", "count"))

    assert total
    assert count
    assert 0.2 <= total / count <= 0.8, "the last segment of a clip takes its time, and up to two may wait before it"


# Starting and stopping ------------------------------------------------------------------------------------------------


def test_systemd_is_told_when_it_listens_how_it_is_and_when_it_stops(
    toy: Path, tmp_path: Path, systemd: socket.socket
) -> None:
    time = Time()
    notifier = Notifier(str(tmp_path / "notify"))
    heard = {"input": wav(tmp_path / "mic.wav", noise(8, 2 * RATE)), "speed": 0.0}
    daemon = Daemon(config(toy, pump1=heard, pump2="file:missing.wav"), clock=time.clock, notifier=notifier)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(daemon.run)
        until(lambda: daemon.ears["pump1"].ended, PATIENCE, "the recording does not end")
        daemon.stop()
        ended.result(PATIENCE)
    words = said(systemd)

    assert words[-1] == "STOPPING=1"
    ready = next(word for word in words if word.startswith("READY=1"))
    assert ready.endswith("pump2 lost"), "what is wrong from the start is not painted over"
    assert all("2 machines" in word for word in words if "STATUS=" in word)


def test_a_signal_ends_the_round_and_gives_the_handlers_back(toy: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    endless = {"input": wav(tmp_path / "mic.wav", noise(9, 2 * RATE)), "speed": 0.0, "loop": True}
    watcher = Watcher()
    daemon = Daemon(config(toy, pump1=endless), watcher)
    watcher.scored = lambda *_: os.kill(os.getpid(), signal.SIGTERM)

    with stopped_by_signals(daemon):
        daemon.run()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.system
def test_the_command_line_runs_until_systemd_stops_it(
    toy: Path, tmp_path: Path, broker: Broker, systemd: socket.socket
) -> None:
    metrics = free_port()
    wav(tmp_path / "mic.wav", noise(10, 5 * RATE))
    (tmp_path / "edge-asd.toml").write_text(f"""
        node = "node1"
        mqtt = {{host = "127.0.0.1", port = {broker.port}}}
        metrics.listen = "127.0.0.1:{metrics}"
        sources.mic0 = {{input = "file:{tmp_path}/mic.wav", loop = true, speed = 10}}
        machines.pump1 = {{source = "mic0", bundle = "{toy}"}}
        """)
    recorder = broker.subscribe(f"{TOPIC}/#")
    command = [sys.executable, "-m", "edge_asd", "run", "--config", str(tmp_path / "edge-asd.toml")]
    environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stderr=log, env=environment) as process:
        try:
            until(lambda: any("READY=1" in w for w in said(systemd)), 2 * PATIENCE, (tmp_path / "log").read_text)
            recorder.wait_for(lambda m: m.topic.endswith("pump1/score"))
            with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=PATIENCE) as page:
                assert b'edge_asd_clips_total{machine="pump1",outcome="scored"}' in page.read()
        finally:
            process.terminate()
    log_text = (tmp_path / "log").read_text()

    assert process.returncode == 0, log_text
    assert "Traceback" not in log_text
    recorder.wait_for(lambda m: m.topic.endswith("/status") and m.payload == b"stopped")


def test_a_bundle_that_is_missing_or_does_not_know_the_machine_is_told_at_once(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle at .*nowhere\.asd"):
        Daemon(config(tmp_path / "nowhere.asd", pump1="file:mic.wav"))
    settings = config(toy, pump1="file:mic.wav").model_dump()
    settings["machines"]["pump1"]["head"] = "toy/fan/00"
    with pytest.raises(HeadUnknown, match=f"choose one of {MACHINE}"):
        Daemon(Config(**settings))


def test_an_input_that_cannot_be_is_told_at_once(toy: Path) -> None:
    with pytest.raises(ConfigError, match=r"sources\.pump1: cannot listen to 'pigeon:post'"):
        Daemon(config(toy, pump1="pigeon:post"))
    with pytest.raises(ConfigError, match=r"sources\.pump1: cannot render a machine called 'moon', choose one of fan"):
        Daemon(config(toy, pump1="render:moon"))
    with pytest.raises(ConfigError, match=r"sources\.pump1: a fan has no fault called 'rust', choose one of"):
        Daemon(config(toy, pump1={"input": "render:fan", "fault": "rust"}))


def test_machines_of_one_ear_want_one_rate(toy: Path, tmp_path: Path) -> None:
    slow = bundle(tmp_path / "slow.asd", Windows(sample_rate=8_000, segment=SECOND.segment, clip=SECOND.clip))
    settings = config(toy, mic0="file:mic.wav").model_dump()
    settings["machines"] = {f"pump{n}": {"source": "mic0", "bundle": str(b)} for n, b in enumerate((toy, slow))}

    with pytest.raises(ConfigError, match=r"sources\.mic0: its machines want \[8000, 16000\] hertz"):
        Daemon(Config(**settings))
