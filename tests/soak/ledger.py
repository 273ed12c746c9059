"""What the children of a running daemon wrote into their rings, beside what the daemon says it has read and lost."""

from __future__ import annotations

import os
import re
import threading
import urllib.request
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_asd.capture.ring import Reader

LOOK_S = 0.1
"""between two looks at the children; one needs longer than that to open its device"""
RATE = 16_000
COUNTED = re.compile(
    r'^edge_asd_audio_frames(?:_lost)?_total\{(?:reason="(?:overflow|ring_full)",)?source="(\w+)"\} (\S+)$',
    re.MULTILINE,
)


@dataclass
class Life:
    """Of one child: the end of its ring that a bystander has."""

    source: str
    ring: Reader

    @property
    def written(self) -> int:
        """Samples so far, those included that the device lost."""
        while self.ring.read(RATE):
            pass
        return self.ring.index


class Ledger:
    """Follows every child from its birth; a ring can be read after its child's death, but not be found any more."""

    def __init__(self, daemon: int, port: int) -> None:
        """Of the daemon with this process number, and with its metrics at this port."""
        self._daemon, self._port = daemon, port
        self._lives: dict[int, Life] = {}
        self._settled: Counter[str] = Counter()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="ledger")
        self._thread.start()

    def child(self, source: str) -> int:
        """The process that listens to it, the youngest there is."""
        with self._lock:
            self._look()
            return [pid for pid, life in self._lives.items() if life.source == source][-1]

    def balanced(self, source: str) -> bool:
        """At this moment all that was ever written for a source is read or counted as lost.

        Nothing may be on its way: ask again. A single sample that is missing or counted twice is so for ever.
        """
        before = self.written(source)
        told = self._told(source)
        return before == told == self.written(source) and before > 0

    def written(self, source: str) -> int:
        """By all children that ever listened to it."""
        with self._lock:
            self._look()
            return self._settled[source] + sum(life.written for life in self._lives.values() if life.source == source)

    def said(self, source: str) -> str:
        """Both sides."""
        return f"{source}: {self.written(source)} samples written, {self._told(source)} read or counted as lost"

    def close(self) -> None:
        """Let go."""
        self._over.set()
        self._thread.join()
        for life in self._lives.values():
            life.ring.close()

    def _follow(self) -> None:
        while not self._over.wait(LOOK_S):
            with self._lock:
                self._look()

    def _look(self) -> None:
        children = _children(self._daemon)
        for pid in children - self._lives.keys():
            with suppress(OSError, ValueError):  # it is about to begin, or has ended
                self._lives[pid] = _life(pid)
        for pid in self._lives.keys() - children:
            life = self._lives.pop(pid)
            self._settled[life.source] += life.written
            life.ring.close()

    def _told(self, source: str) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return sum(round(float(count)) for name, count in COUNTED.findall(text) if name == source)


def _children(pid: int) -> set[int]:
    try:
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except OSError:
        return set()


def _life(pid: int) -> Life:
    *_, tap, token = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    memory = os.open(f"/proc/{pid}/fd/{int(tap.split(':')[0])}", os.O_RDWR)
    try:
        return Life(token.removeprefix("name:"), Reader(memory))
    finally:
        os.close(memory)
