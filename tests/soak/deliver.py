"""Does every alarm arrive, exactly once, whatever is killed? ``python -m tests.soak.deliver --kills 200``.

A daemon hears machines that go wrong and recover without end. It is killed without warning, again and again, while the
broker comes and goes: killed and restarted without memory, frozen, absent, cut off in the middle of a word. Whoever
subscribes and drops repeats by their id must end with what the daemon's own log says, once each, without a gap.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import soundfile

from edge_asd.deliver.store import FILE, read_history
from tests.conftest import Broker, until
from tests.deliver.cable import Cable
from tests.example import bundle, noise

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


RATE = 16_000
NODE = "soak"
MACHINES = 3
SPEED = 6.0
BACK_S = 10.0
"""retained topics must be there again"""
QUIET_S = 4.0
"""without an event, and all is told"""
SETTINGS = """
node = "{NODE}"
state_dir = "{state}"
trust.allow_unsigned = true
metrics.listen = ""
flood_limit = 0
mqtt = {{ host = "127.0.0.1", port = {port} }}
"""
MACHINE = """
sources.mic{n} = {{ input = "file:{folder}/mic{n}.wav", loop = true, speed = {SPEED} }}
machines.pump{n} = {{ source = "mic{n}", bundle = "{folder}/toy.asd", alarm = {{ on_delay = 1, off_delay = 1 }} }}
"""


@dataclass
class Outcome:
    """What is left when the dust settles."""

    kills: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    logged: int = 0
    """events the daemon says there were"""
    received: int = 0
    """of them, by id"""
    repeats: int = 0
    """copies that the subscriber dropped by id"""
    late: int = 0
    missing: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    """received, but not in the log"""
    gaps: list[int] = field(default_factory=list)
    not_alternating: list[str] = field(default_factory=list)
    back_s: list[float] = field(default_factory=list)
    """from the mending of the line to the retained topics"""
    resident_mb: list[float] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Every event once, and nothing else."""
        wrong = (self.missing, self.strange, self.gaps, self.not_alternating)
        return not any(wrong) and self.logged > 0 and max(self.back_s, default=0) < BACK_S

    def __str__(self) -> str:
        wrong = {"missing": self.missing, "strange": self.strange, "gaps": self.gaps, "odd": self.not_alternating}
        counts, examples = {k: len(v) for k, v in wrong.items()}, {k: v[:5] for k, v in wrong.items() if v}
        lines = [
            f"daemon killed {self.kills} times; broker {dict(self.troubles)}",
            f"events logged {self.logged}, received {self.received}, dropped by id {self.repeats}, late {self.late}",
            f"wrong: {counts} {examples or ''}",
        ]
        if self.back_s:
            back = np.median(self.back_s), max(self.back_s), len(self.back_s)
            lines.append("retained topics back after {:.1f} s, at most {:.1f} s, of {} times".format(*back))
        if self.resident_mb:
            lines.append(f"resident memory {min(self.resident_mb):.0f} to {max(self.resident_mb):.0f} MB")
        return "\n".join(lines)


class Theatre:
    """The machines, the broker at the end of a line that can be cut, and somebody who listens.

    A broker that keeps nothing on disk has forgotten its subscribers when it comes back: what it is sent in the moment
    before they are back is lost, and not by the daemon. So the line is mended after they are.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.dice = folder, random.Random(seed)
        self.broker = Broker(folder)
        self.broker.start()
        self.recorder = self.broker.subscribe(f"edge_asd/v1/{NODE}/#")
        self.cable = Cable(self.broker.port)
        self.outcome = Outcome()
        self.daemon: subprocess.Popen[bytes] | None = None
        self.config = self._written()

    def _written(self) -> Path:
        bundle(self.folder / "toy.asd")
        text = SETTINGS.format(NODE=NODE, state=self.folder / "state", port=self.cable.port)
        for n in range(MACHINES):
            pieces = [noise(7 * n + i, (2 + n) * RATE, 0.2 if i % 2 else 0.05) for i in range(8)]
            soundfile.write(self.folder / f"mic{n}.wav", np.concatenate(pieces), RATE)
            text += MACHINE.format(n=n, folder=self.folder, SPEED=SPEED)
        (self.folder / "soak.toml").write_text(text)
        return self.folder / "soak.toml"

    def quiet(self) -> None:
        """From now on the machines are well."""
        for n in range(MACHINES):
            soundfile.write(self.folder / f"mic{n}.wav", noise(50 + n, 10 * RATE), RATE)

    def start(self) -> None:
        """The daemon, as a person would."""
        command = [sys.executable, "-m", "edge_asd", "run", "--config", str(self.config)]
        with (self.folder / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(command, stdout=log, stderr=log)

    def remember(self) -> None:
        """How much memory it takes."""
        if self.daemon:
            self.outcome.resident_mb.append(psutil.Process(self.daemon.pid).memory_info().rss / 1e6)

    def kill(self) -> None:
        """As a power cut would."""
        if self.daemon and self.daemon.poll() is None:
            self.remember()
            self.daemon.kill()
            self.daemon.wait()
            self.outcome.kills += 1

    def end(self) -> None:
        """Politely; what waits gets its time."""
        if self.daemon:
            self.daemon.send_signal(signal.SIGTERM)
            self.daemon.wait(30)

    def close(self) -> None:
        """Everything, however it ended."""
        if self.daemon and self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()
        self.cable.close()
        self.broker.close()

    # What befalls the broker

    def trouble(self) -> None:
        """Some of it, drawn by lot."""
        fate: Callable[[], None] = self.dice.choice([self.calm, self.killed, self.frozen, self.cut, self.absent])
        self.outcome.troubles[fate.__name__] += 1
        fate()

    def calm(self) -> None:
        """None, for once."""

    def fell(self) -> None:
        """Killed; it has nothing on disk to remember by."""
        self.cable.cut()
        self.broker.kill()

    def killed(self) -> None:
        """And at once restarted."""
        self.fell()
        self.return_broker()

    def signal(self, number: signal.Signals) -> None:
        """To the broker."""
        assert self.broker.service.process
        self.broker.service.process.send_signal(number)

    def frozen(self) -> None:
        """Alive by the look of it; no answer comes."""
        self.signal(signal.SIGSTOP)
        time.sleep(self.dice.uniform(0.5, 3))
        self.signal(signal.SIGCONT)

    def cut(self) -> None:
        """Only the line."""
        self.cable.cut()
        time.sleep(self.dice.uniform(0.1, 1))
        self.cable.mend()

    def absent(self) -> None:
        """For longer than the daemon lives: it starts without a broker, too."""
        self.cable.cut()

    def return_broker(self) -> None:
        """Subscribers first, then the line."""
        self.broker.start()
        until(lambda: self.recorder.present, 15, "the subscriber did not come back")
        self.cable.mend()

    def open_again(self) -> None:
        """After an absence; how long until the retained topics are there?"""
        opened = time.monotonic()
        self.cable.mend()
        wanted = {f"edge_asd/v1/{NODE}/status"} | {f"edge_asd/v1/{NODE}/machine/pump{n}/alarm" for n in range(MACHINES)}

        def there() -> bool:
            new = {m.topic for m in list(self.recorder.messages) if m.time > opened and m.payload != b"offline"}
            return wanted <= new

        until(there, 4 * BACK_S, "the retained topics did not come back")
        self.outcome.back_s.append(time.monotonic() - opened)


def endure(kills: int, folder: Path, seed: int = 0, *, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """So many deaths of the daemon; what the subscriber has at the end against what the daemon has logged."""
    theatre = Theatre(folder, seed)
    try:
        while theatre.outcome.kills < kills:
            theatre.start()
            time.sleep(theatre.dice.uniform(0.3, 3.5))
            theatre.trouble()
            time.sleep(theatre.dice.uniform(0, 2))
            theatre.kill()
            if not theatre.cable.whole and theatre.dice.random() < 0.5:
                theatre.start()
                theatre.open_again()
                theatre.kill()
            say(f"{theatre.outcome.kills} of {kills}")
        drained(theatre)
        settle(theatre)
    finally:
        theatre.close()
    return theatre.outcome


def outlast(outage: float, freeze: float, folder: Path, say: Callable[[str], None]) -> Outcome:
    """One daemon that nobody kills: seconds without a broker, then with a frozen one; what waited is delivered."""
    theatre = Theatre(folder, seed=0)
    try:
        theatre.start()
        until(lambda: len(_received(theatre)) > 5, 60, "no events")
        for name, seconds, strike, mend in (
            ("killed", outage, theatre.fell, theatre.return_broker),
            ("frozen", freeze, partial(theatre.signal, signal.SIGSTOP), partial(theatre.signal, signal.SIGCONT)),
        ):
            theatre.remember()
            strike()
            say(f"broker {name} for {seconds:.0f} s")
            time.sleep(seconds)
            theatre.remember()
            mend()
            theatre.outcome.troubles[name] += 1
            arrived(theatre, _logged(theatre).keys())
            theatre.remember()
        theatre.end()
        drained(theatre)
        settle(theatre)
    finally:
        theatre.close()
    return theatre.outcome


def arrived(theatre: Theatre, ids: Collection[str]) -> None:
    """All of these, though the daemon goes on saying more."""
    until(lambda: _ids(theatre) >= set(ids), 600, "not all has arrived")


def drained(theatre: Theatre) -> None:
    """The machines are well now; the daemon delivers what is left."""
    theatre.quiet()
    theatre.start()
    theatre.open_again()
    until(lambda: not _missing(theatre) and _still(theatre), 180, lambda: f"still missing: {_missing(theatre)}")
    theatre.end()


def settle(theatre: Theatre) -> None:
    """Compare what was received with the daemon's own log."""
    outcome, logged, received = theatre.outcome, _logged(theatre), _received(theatre)
    first = {event["id"]: event for event in reversed(received)}
    outcome.logged, outcome.received = len(logged), len(first)
    outcome.repeats = len(received) - len(first)
    outcome.late = sum(event["late"] for event in first.values())
    outcome.missing = _missing(theatre)
    outcome.strange = sorted(first.keys() - logged.keys())
    numbers = sorted(event["event_seq"] for event in first.values())
    outcome.gaps = sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers))
    by_number = sorted(first.values(), key=lambda event: event["event_seq"])
    for machine in {event["machine"] for event in by_number}:
        turns = [e for e in by_number if e["machine"] == machine and e["event"] in {"activated", "returned"}]
        outcome.not_alternating += [b["id"] for a, b in pairwise(turns) if a["event"] == b["event"]]


def _missing(theatre: Theatre) -> list[str]:
    return sorted(_logged(theatre).keys() - _ids(theatre))


def _ids(theatre: Theatre) -> set[str]:
    return {event["id"] for event in _received(theatre)}


def _still(theatre: Theatre) -> bool:
    last = [message.time for message in list(theatre.recorder.messages) if message.topic.endswith("/event")][-1:]
    return not last or time.monotonic() - last[0] > QUIET_S


def _received(theatre: Theatre) -> list[dict[str, Any]]:
    return [json.loads(m.payload) for m in list(theatre.recorder.messages) if m.topic.endswith("/event")]


def _logged(theatre: Theatre) -> dict[str, dict[str, Any]]:
    history = (json.loads(logged.body) for logged in read_history(theatre.folder / "state" / FILE))
    return {event["id"]: event for event in history}


def main() -> None:
    """As a command, with the counts printed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--outage", type=float, default=0, help="instead: seconds without a broker, nobody killed")
    parser.add_argument("--freeze", type=float, default=60, help="with --outage: seconds with a frozen one")
    asked = parser.parse_args()

    def say(text: str) -> None:
        print(text, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        if asked.outage:
            outcome = outlast(asked.outage, asked.freeze, Path(folder), say)
        else:
            outcome = endure(asked.kills, Path(folder), asked.seed, say=say)
    print(outcome)
    sys.exit(0 if outcome.well else 1)


if __name__ == "__main__":
    main()
