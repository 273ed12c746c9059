"""Does a daemon always know when it is deaf, and hear again? ``python -m tests.soak.listen --times 200``.

Four microphones of a real PulseAudio, heard through ALSA and PortAudio. Beside them stands another source, first and
the default, that is far too loud: whoever hears it instead of a lost microphone is found out. The microphones are
unloaded and loaded again, muted, left without sound, overdriven; the server is killed; the children that listen are
frozen, shot, and made to turn in circles. Each time the machine must be offline soon, be scored again soon after the
mending, and never alarm, and every sample that was ever written into a ring be read or counted as lost.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import soundfile

from tests.conftest import Broker, Service, free_port, until
from tests.example import bundle, noise
from tests.soak.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RATE = 16_000
NODE = "soak"
MICROPHONES = 4
DETECTED_S, RECOVERED_S, CHILD_S = 10.0, 15.0, 5.0
"""at most: from the fault to offline, from the mending to a score, from the fault of a child to sound"""
CLIP_S = 1.0
"""from sound to a score"""
PATIENCE_S = 60.0
LOUD_DBFS = -20.0
"""between the microphones and the source beside them"""
CHILD_FAULTS = {"hung": signal.SIGSTOP, "dead": signal.SIGSEGV, "spinning": signal.SIGUSR1}
SPIN = """
import signal, sys

def spin(*_):
    while True:
        pass

if "edge_asd.capture.child" in sys.orig_argv:
    signal.signal(signal.SIGUSR1, spin)
"""
"""as ``sitecustomize``: every child turns in circles when it is told to"""
MIXED = (
    ("hung", "dead", "spinning", "silent"),
    ("clipped", "silent", "muted", "hung"),
    ("muted", "clipped", "silent", "clipped"),
)
"""no microphone loses its child twice within a minute: the second time its ear waits twice as long, as it should"""
SETTINGS = """
node = "{NODE}"
state_dir = "{folder}/state"
trust.allow_unsigned = true
metrics.listen = "127.0.0.1:{metrics}"
mqtt = {{ host = "127.0.0.1", port = {port} }}
"""
MACHINE = """
sources.mic{n}.input = "microphone:name:mic{n}"
machines.pump{n} = {{ source = "mic{n}", bundle = "{folder}/toy.asd" }}
"""
PCM = 'pcm.mic{n} {{\n  type pulse\n  server "{server}"\n  device "mic{n}.monitor"\n}}\n'


@dataclass(frozen=True)
class Episode:
    """One fault of one microphone."""

    fault: str
    microphone: int
    detected_s: float
    """from the fault to the machine's being offline"""
    recovered_s: float
    """from the mending to the first score"""
    written: int
    """samples, by all children that ever listened to it; all of them read or counted as lost"""

    @property
    def well(self) -> bool:
        """Soon enough."""
        limit = CHILD_S + CLIP_S if self.fault in CHILD_FAULTS else RECOVERED_S
        return self.detected_s < DETECTED_S and self.recovered_s < limit


@dataclass
class Outcome:
    """What happened."""

    episodes: list[Episode] = field(default_factory=list)
    alarms: int = 0
    strange: int = 0
    """clips of a source that nobody named"""
    scores: int = 0
    online: int = 0
    """machines, at the end"""
    descriptors: list[int] = field(default_factory=list)
    clients: list[int] = field(default_factory=list)
    """of the sound server"""

    @property
    def written(self) -> int:
        """Samples that were ever written for all."""
        latest = {episode.microphone: episode.written for episode in self.episodes}
        return sum(latest.values())

    @property
    def well(self) -> bool:
        """Never deaf without a word, never an alarm, never another source in the place of a microphone."""
        quiet = not self.alarms and not self.strange and self.online == MICROPHONES
        quiet = quiet and max(self.clients) < 2 * min(self.clients)  # those that come and go, and nobody who stays
        return quiet and bool(self.episodes) and all(episode.well for episode in self.episodes)

    def __str__(self) -> str:
        by_fault: dict[str, list[Episode]] = defaultdict(list)
        for episode in self.episodes:
            by_fault[episode.fault].append(episode)
        lines = [f"{'fault':10} times  detected s: median, most  recovered s: median, most"]
        lines += [_line(fault, episodes) for fault, episodes in by_fault.items()]
        lines += [
            f"late: {[episode for episode in self.episodes if not episode.well]}",
            f"{self.scores} clips scored, {self.alarms} alarms, {self.strange} clips of another source",
            f"{self.written} samples written, every one read or counted as lost",
            f"{self.online} machines online at the end, descriptors {min(self.descriptors)} to {max(self.descriptors)}",
            f"clients of the sound server {min(self.clients)} to {max(self.clients)}",
        ]
        return "\n".join(lines)


def _line(fault: str, episodes: list[Episode]) -> str:
    detected, recovered = ([getattr(e, name) for e in episodes] for name in ("detected_s", "recovered_s"))
    columns = (np.median(detected), max(detected), np.median(recovered), max(recovered))
    return f"{fault:10} {len(episodes):5}" + "{:19.1f} {:6.1f} {:20.1f} {:6.1f}".format(*columns)


class SoundServer:
    """A PulseAudio of our own, its microphones, and what is played into them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700)
        pulse = f"unix:{folder / 'native'}"
        self.environment = os.environ | {
            "HOME": str(folder),  # ALSA looks for .asoundrc here
            "XDG_RUNTIME_DIR": str(folder),
            "PULSE_SERVER": pulse,
            "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))),
        }
        (folder / "sitecustomize.py").write_text(SPIN)
        (folder / ".asoundrc").write_text("".join(PCM.format(n=n, server=pulse) for n in range(MICROPHONES)))
        self._modules: dict[str, str] = {}
        self._players: dict[str, subprocess.Popen[bytes]] = {}
        options = ("--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes", "-n")
        load = f"--load=module-native-protocol-unix socket={folder / 'native'} auth-anonymous=1"
        self._service = Service(
            ("pulseaudio", *options, load), folder / "pulseaudio.log", self._answers, self.environment
        )

    def start(self) -> None:
        """With the other source first."""
        self._service.start()
        for name in ("other", *(f"mic{n}" for n in range(MICROPHONES))):
            self.load(name)

    def kill(self) -> None:
        """And everybody who plays."""
        self._service.kill()
        for name in list(self._players):
            self.hush(name)

    def load(self, name: str) -> None:
        """A microphone is plugged in, with its machine in front of it."""
        self._modules[name] = self.control("load-module", "module-null-sink", f"sink_name={name}", "rate=16000")
        self.play(name, "loud" if name == "other" else "machine")

    def unload(self, name: str) -> None:
        """It is pulled out."""
        self.control("unload-module", self._modules.pop(name))
        self.hush(name)

    def mute(self, name: str, *, on: bool) -> None:
        """The capture switch."""
        self.control("set-source-mute", f"{name}.monitor", str(int(on)))

    def play(self, name: str, what: str) -> None:
        """Instead of what was played before."""
        self.hush(name)
        command = ["paplay", f"--device={name}", str(self.folder.parent / f"{what}.wav")]
        self._players[name] = subprocess.Popen(command, env=self.environment, stderr=subprocess.DEVNULL)

    def hush(self, name: str) -> None:
        """Nothing is played any more."""
        if player := self._players.pop(name, None):
            player.kill()
            player.wait()

    def control(self, *words: str) -> str:
        """As the operator of a desktop would."""
        said = subprocess.run(["pactl", *words], env=self.environment, check=True, capture_output=True, text=True)
        return said.stdout.strip()

    def _answers(self) -> bool:
        asked = subprocess.run(["pactl", "info"], env=self.environment, capture_output=True, check=False)
        return asked.returncode == 0


class Theatre:
    """The daemon, its microphones, and somebody who takes the time."""

    def __init__(self, folder: Path) -> None:
        self.outcome = Outcome()
        self.folder = folder
        bundle(folder / "toy.asd")
        for name, level in {"machine": 0.05, "loud": 0.2, "clipped": 5.0}.items():
            sound = np.tile(np.clip(noise(5, 60 * RATE, level), -1, 1), 10)
            soundfile.write(folder / f"{name}.wav", sound, RATE)
        self.broker = Broker(folder)
        self.broker.start()
        self.heard = self.broker.subscribe(f"edge_asd/v1/{NODE}/machine/#")
        self.server = SoundServer(folder / "pulse")
        self.server.start()
        self.port = free_port()
        self.daemon = self._started()
        self.ledger = Ledger(self.daemon.pid, self.port)

    def _started(self) -> subprocess.Popen[bytes]:
        text = SETTINGS.format(NODE=NODE, folder=self.folder, port=self.broker.port, metrics=self.port)
        text += "".join(MACHINE.format(n=n, folder=self.folder) for n in range(MICROPHONES))
        (self.folder / "soak.toml").write_text(text)
        command = [sys.executable, "-m", "edge_asd", "run", "--config", str(self.folder / "soak.toml")]
        with (self.folder / "daemon.log").open("ab") as log:
            return subprocess.Popen(command, env=self.server.environment, stdout=log, stderr=log)

    def close(self) -> None:
        """Everything, however it ended."""
        self.ledger.close()
        if self.daemon.poll() is None:
            self.daemon.terminate()
            self.daemon.wait(30)
        self.server.kill()
        self.broker.close()

    # What befalls a microphone

    def strike(self, fault: str, n: int) -> None:
        """From now on it is deaf."""
        name = f"mic{n}"
        if fault == "unloaded":
            self.server.unload(name)
        elif fault == "muted":
            self.server.mute(name, on=True)
        elif fault == "silent":
            self.server.hush(name)
        elif fault == "clipped":
            self.server.play(name, "clipped")
        elif fault in CHILD_FAULTS:
            os.kill(self.ledger.child(name), CHILD_FAULTS[fault])

    def mend(self, fault: str, n: int) -> None:
        """What the world owes it; a child is the daemon's to replace."""
        name = f"mic{n}"
        if fault == "unloaded":
            self.server.load(name)
        elif fault == "muted":
            self.server.mute(name, on=False)
        elif fault in {"silent", "clipped"}:
            self.server.play(name, "machine")

    # What is seen of it

    def first(self, after: float, n: int, what: str, payload: bytes = b"") -> float:
        """When a machine first said this, as soon as it does."""
        topic = f"edge_asd/v1/{NODE}/machine/pump{n}/{what}"
        missing = f"{topic} {payload.decode()}; {(self.folder / 'daemon.log').read_text()[-2000:]}"
        return until(lambda: self._said(after, topic, payload), PATIENCE_S, missing)

    def _said(self, after: float, topic: str, payload: bytes) -> float | None:
        for message in list(self.heard.messages):
            if message.topic == topic and message.time > after and (not payload or message.payload == payload):
                return message.time
        return None

    def balance(self, n: int) -> int:
        """Samples that were ever written for it; read + lost is as many."""
        name = f"mic{n}"
        until(lambda: self.ledger.balanced(name), PATIENCE_S, lambda: self.ledger.said(name))
        return self.ledger.written(name)

    def note(self) -> None:
        """How much the daemon holds open."""
        self.outcome.descriptors.append(psutil.Process(self.daemon.pid).num_fds())
        self.outcome.clients.append(len(self.server.control("list", "short", "clients").splitlines()))

    def settle(self) -> None:
        """Count what must not have happened."""
        outcome, messages = self.outcome, list(self.heard.messages)
        scores = [json.loads(message.payload) for message in messages if message.topic.endswith("/score")]
        outcome.scores = len(scores)
        outcome.strange = sum(score["level_dbfs"] > LOUD_DBFS for score in scores)
        outcome.alarms = sum(message.topic.endswith("/event") for message in messages)
        last = {message.topic: message.payload for message in messages if message.topic.endswith("/availability")}
        outcome.online = sum(payload == b"online" for payload in last.values())


def act(theatre: Theatre, faults: Sequence[str]) -> None:
    """One fault a microphone, all at about the same time; then all are mended."""
    struck, mended = {}, {}
    for n, fault in enumerate(faults):
        struck[n] = time.monotonic()
        theatre.strike(fault, n)
    offline = {n: theatre.first(at, n, "availability", b"offline") for n, at in struck.items()}
    for n, fault in enumerate(faults):
        mended[n] = struck[n] if fault in CHILD_FAULTS else time.monotonic()
        theatre.mend(fault, n)
    _witness(theatre, faults, struck, offline, mended)


def power_cut(theatre: Theatre) -> None:
    """The sound server is killed and comes back."""
    struck = dict.fromkeys(range(MICROPHONES), time.monotonic())
    theatre.server.kill()
    offline = {n: theatre.first(at, n, "availability", b"offline") for n, at in struck.items()}
    theatre.server.start()
    mended = dict.fromkeys(range(MICROPHONES), time.monotonic())
    _witness(theatre, ["server"] * MICROPHONES, struck, offline, mended)


def _witness(
    theatre: Theatre,
    faults: Sequence[str],
    struck: dict[int, float],
    offline: dict[int, float],
    mended: dict[int, float],
) -> None:
    for n, fault in enumerate(faults):
        scored = theatre.first(max(mended[n], offline[n]), n, "score")
        theatre.first(offline[n], n, "availability", b"online")
        written = theatre.balance(n)
        theatre.outcome.episodes.append(Episode(fault, n, offline[n] - struck[n], scored - mended[n], written))
    theatre.note()


def endure(times: int, folder: Path, *, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """So many unloaded microphones, and some of everything else."""
    theatre = Theatre(folder)
    try:
        for n in range(MICROPHONES):
            theatre.first(0, n, "score")
        theatre.note()
        for faults in MIXED:
            act(theatre, faults)
            say(", ".join(faults))
        for done in range(0, times, MICROPHONES):
            act(theatre, ["unloaded"] * MICROPHONES)
            say(f"{done + MICROPHONES} of {times} unloaded")
        power_cut(theatre)
        say("server killed")
        theatre.settle()
    finally:
        theatre.close()
    return theatre.outcome


def main() -> None:
    """As a command, with the table printed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=200, help="how often a microphone is unloaded")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = endure(asked.times, Path(folder), say=lambda text: print(text, flush=True))
    print(outcome)
    sys.exit(0 if outcome.well else 1)


if __name__ == "__main__":
    main()
