"""Eight machines on a computer that has better things to do: ``python -m tests.soak.many --minutes 10``.

A daemon hears eight rendered machines in real time while somebody else keeps a core busy (``--share 0.05``: while it
gets only that share of the time itself). Every second that has passed must have been heard, and each one heard must
be scored, counted as shed, or wait, and no more may wait than is promised.

``--segments 1000000`` instead scores as fast as it can and looks at memory, descriptors and threads.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import soundfile
from prometheus_client.parser import text_string_to_metric_families

from edge_asd.config import Config
from edge_asd.daemon import Daemon
from edge_asd.render.machine import Condition
from edge_asd.render.performance import Performance, machine
from edge_asd.render.room import Room
from edge_asd.score.listener import Listener
from edge_asd.score.part import STATISTICS_PARTS
from edge_asd.score.queue import WAIT_S
from edge_asd.signal.segment import Windows
from tests.conftest import free_port, until
from tests.example import NETWORK_PARTS, bundle, embed, front_end, head, noise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RATE = 16_000
MACHINES = 8
KINDS = ("fan", "valve")
"""that the built-in bundle knows"""
CLIP_S = 10.0
MOST_BEHIND_S = 3.0
"""audio that has happened and was not heard: the source itself, the loop's round, this program's own delay"""
SHARE_S = 0.2
"""in which a daemon that is held back has its share once"""
SMALL = Windows(sample_rate=RATE, segment=1_600, clip=6_400, segments=10)
"""so that a million segments take minutes"""
LOOKS = 20
"""at the process, in an accelerated run"""
MOST_SLOPE_MB = 1.0
"""per 100,000 segments"""

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass
class Outcome:
    """What the daemon's own counts say at the end."""

    passed_s: float
    heard_s: list[float]
    """by machine"""
    lost: float
    clips: dict[str, float]
    """by outcome, of all machines"""
    accounted_s: list[float]
    """scored, shed and skipped, by machine"""
    late: dict[float, float]
    """clips whose score came within so many seconds"""
    resident_mb: float

    @property
    def unheard_s(self) -> float:
        """Audio that has happened and that the daemon had not taken in, of the worst machine."""
        return self.passed_s - min(self.heard_s)

    @property
    def waiting_s(self) -> float:
        """Audio taken in of which nothing has become yet, of the worst machine; a clip in progress is part of it."""
        return max(heard - told for heard, told in zip(self.heard_s, self.accounted_s, strict=True))

    @property
    def well(self) -> bool:
        """Nothing lost, nothing behind, nothing unaccounted for."""
        waits = -0.1 < self.waiting_s < 2 * CLIP_S + WAIT_S
        heard = not self.lost and self.unheard_s < MOST_BEHIND_S
        return heard and waits and self.clips["scored"] > 0 and not self.clips["error"] and not self.clips["gap"]

    def within(self, share: float) -> float:
        """Seconds within which such a share of the scores came; infinite beyond the last bucket or without any."""
        whole = self.late[float("inf")]
        enough = (seconds for seconds, clips in self.late.items() if clips and clips >= share * whole)
        return min(enough, default=float("inf"))

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {number:.0f}" for name, number in self.clips.items() if number)
        return "\n".join(
            [
                f"{len(self.heard_s)} machines for {self.passed_s:.0f} s; samples lost {self.lost:.0f}",
                f"not yet heard at most {self.unheard_s:.2f} s, heard and waiting at most {self.waiting_s:.1f} s",
                f"clips: {counts}",
                f"scores within {self.within(0.5):g} s (p50), {self.within(0.99):g} s (p99) of the clip's last sample",
                f"resident memory {self.resident_mb:.0f} MB",
            ]
        )


def crowd(seconds: float, folder: Path, *, share: float = 1.0) -> Outcome:
    """So long in real time; ``share`` is what the daemon gets of the time."""
    port = free_port()
    command = [sys.executable, "-m", "edge_asd", "run", "--config", str(_written(folder, port))]
    with (folder / "daemon.log").open("wb") as log, subprocess.Popen(command, stderr=log) as daemon:
        try:
            until(lambda: min(_by_machine(_asked(port), "heard"), default=0), 60, (folder / "daemon.log").read_text)
            with busy(), held_back(daemon, share):
                before, began = _by_machine(_asked(port), "heard"), time.monotonic()
                time.sleep(seconds)
            passed = time.monotonic() - began
            return _outcome(_asked(port), passed + min(before), psutil.Process(daemon.pid).memory_info().rss / 1e6)
        finally:
            daemon.kill()


def _written(folder: Path, port: int) -> Path:
    lines = ['node = "crowd"', f'state_dir = "{folder}/state"', f'metrics.listen = "127.0.0.1:{port}"']
    for number in range(MACHINES):
        kind = KINDS[number % len(KINDS)]
        lines += [
            f'sources.mic{number} = {{ input = "file:{_rendered(folder, kind, number)}", loop = true }}',
            f'machines.m{number} = {{ source = "mic{number}", head = "rendered/{kind}/00" }}',
        ]
    (folder / "crowd.toml").write_text("\n".join(lines))
    return folder / "crowd.toml"


def _rendered(folder: Path, kind: str, number: int) -> Path:
    """A file, lest the daemon that is held back spends its time on rendering."""
    performance = Performance(machine(kind, number), Room(number=number), seed=0, rate=RATE)
    path = folder / f"{kind}{number}.wav"
    soundfile.write(path, performance.render(20 * RATE, Condition()), RATE)
    return path


@contextmanager
def busy() -> Iterator[None]:
    """Somebody keeps a core busy."""
    core = min(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as hog:
        os.sched_setaffinity(hog.pid, {core})
        try:
            yield
        finally:
            hog.kill()


@contextmanager
def held_back(process: subprocess.Popen[bytes], share: float) -> Iterator[None]:
    """It may run for this share of the time only, as under a quota of the system."""
    ended = threading.Event()

    def hold() -> None:
        while not ended.is_set():
            process.send_signal(signal.SIGSTOP)
            time.sleep((1 - share) * SHARE_S)
            process.send_signal(signal.SIGCONT)
            time.sleep(share * SHARE_S)

    holder = threading.Thread(target=hold if share < 1 else lambda: None)
    holder.start()
    try:
        yield
    finally:
        ended.set()
        holder.join()


def _asked(port: int) -> Series:
    """Everything the daemon counts; nothing while it does not answer yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
            families = text_string_to_metric_families(page.read().decode())
    except urllib.error.URLError:
        return {}
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def _by_machine(series: Series, what: str) -> list[float]:
    """Seconds that each machine's source has heard, or that have become of them something one can count."""
    if what == "heard":
        return [n / RATE for (name, _), n in sorted(series.items()) if name == "edge_asd_audio_frames_total"]
    clips: dict[str, float] = {}
    for (name, labels), number in series.items():
        if name == "edge_asd_clips_total":
            machine = dict(labels)["machine"]
            clips[machine] = clips.get(machine, 0.0) + CLIP_S * number
    return [clips[machine] for machine in sorted(clips)]


def _outcome(series: Series, passed: float, resident: float) -> Outcome:
    clips: dict[str, float] = {}
    late: dict[float, float] = {}
    for (name, labels), number in series.items():
        if name == "edge_asd_clips_total":
            outcome = dict(labels)["outcome"]
            clips[outcome] = clips.get(outcome, 0.0) + number
        if name == "edge_asd_end_to_end_latency_seconds_bucket":
            bound = float(dict(labels)["le"])
            late[bound] = late.get(bound, 0.0) + number
    lost = sum(number for (name, _), number in series.items() if name == "edge_asd_audio_frames_lost_total")
    return Outcome(passed, _by_machine(series, "heard"), lost, clips, _by_machine(series, "accounted"), late, resident)


# As fast as it can ---------------------------------------------------------------------------------------------------


@dataclass
class Look:
    """At a process."""

    segments: int
    resident_mb: float
    descriptors: int
    threads: int


@dataclass
class Growth:
    """What a process has come to need."""

    looks: list[Look] = field(default_factory=list)
    seconds: float = 0.0
    shed: float = 0.0

    @property
    def slope_mb(self) -> float:
        """Memory per 100,000 segments, once it is warm."""
        warm = self.looks[len(self.looks) // 4 :]
        line = np.polyfit([look.segments / 1e5 for look in warm], [look.resident_mb for look in warm], 1)
        return float(line[0])

    @property
    def steady(self) -> bool:
        """No more descriptors and threads at the end than at the first look; nothing shed."""
        first, last = self.looks[0], self.looks[-1]
        return (first.descriptors, first.threads) == (last.descriptors, last.threads) and not self.shed

    def __str__(self) -> str:
        first, last = self.looks[0], self.looks[-1]
        return "\n".join(
            [
                f"{last.segments} segments in {self.seconds:.0f} s; clips shed {self.shed:.0f}",
                f"resident memory {first.resident_mb:.1f} to {last.resident_mb:.1f} MB",
                f"once warm {self.slope_mb:+.2f} MB per 100,000 segments",
                f"descriptors {first.descriptors} to {last.descriptors}, threads {first.threads} to {last.threads}",
            ]
        )


def hurry(segments: int, folder: Path, say: Callable[[str], None] = lambda _: None) -> Growth:
    """Score so many segments of four machines as fast as they are read."""
    daemon, growth, began = _small(folder), Growth(), time.monotonic()
    for look in range(1, LOOKS + 1):
        while (done := _scored(daemon)) < segments * look / LOOKS:
            daemon.step()
        growth.looks.append(_look(int(done)))
        say(str(growth.looks[-1]))
    growth.seconds = time.monotonic() - began
    growth.shed = _sum(daemon, "edge_asd_clips_total", "overload")
    for ear in daemon.ears.values():
        ear.close()
    return growth


def _small(folder: Path) -> Daemon:
    """Machines whose clips are short, and whose network is small."""
    toy = bundle(folder / "toy.asd", SMALL)
    soundfile.write(folder / "mic.wav", noise(1, 60 * RATE), RATE)
    source = {"input": f"file:{folder}/mic.wav", "loop": True, "speed": 0.0}
    names = [f"m{number}" for number in range(4)]
    daemon = Daemon(
        Config.model_validate(
            {
                "state_dir": folder / "state",
                "metrics": {"listen": ""},
                "sources": dict.fromkeys(names, source),
                "machines": {name: {"source": name, "bundle": str(toy)} for name in names},
                "trust": {"allow_unsigned": True},
            }
        )
    )
    fitted = head(SMALL, {**STATISTICS_PARTS, **NETWORK_PARTS}, embed)
    for ward in daemon.wards.values():
        ward.listener = Listener(SMALL, front_end(SMALL), fitted, ward.listener.alarm, embed)
    return daemon


def _scored(daemon: Daemon) -> float:
    return _sum(daemon, "edge_asd_segments_total", "scored")


def _sum(daemon: Daemon, series: str, outcome: str) -> float:
    ask = daemon.metrics.registry.get_sample_value
    return sum(ask(series, {"machine": name, "outcome": outcome}) or 0.0 for name in daemon.wards)


def _look(segments: int) -> Look:
    process = psutil.Process()
    return Look(segments, process.memory_info().rss / 1e6, process.num_fds(), process.num_threads())


def main() -> None:
    """As a command, with the counts printed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--share", type=float, default=1.0, help="of the time that the daemon gets")
    parser.add_argument("--segments", type=int, default=0, help="instead: so many, as fast as they are scored")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.segments:
            growth = hurry(asked.segments, Path(folder), lambda text: print(text, flush=True))
            print(growth)
            sys.exit(0 if growth.steady and growth.slope_mb < MOST_SLOPE_MB else 1)
        outcome = crowd(60 * asked.minutes, Path(folder), share=asked.share)
    print(outcome)
    sys.exit(0 if outcome.well else 1)


if __name__ == "__main__":
    main()
