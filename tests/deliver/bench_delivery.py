"""From the end of the sound to whoever is woken by it: the whole daemon, a real broker on loopback.

    python -m tests.deliver.bench_delivery [EVENTS]

A rendered valve and noise take turns, a clip each, so that each clip raises or ends an alarm. The clock runs from the
moment at which the daemon has the last block of the clip until a subscriber has the event: scoring, the commit, the
broker. The same again with a store in memory: the ratio is what the disk costs.
"""

from __future__ import annotations

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from edge_asd.bundle import BUILTIN
from edge_asd.capture.opening import SourceSpec, open_source
from edge_asd.config import Config
from edge_asd.daemon import Daemon, Nobody
from tests.conftest import Broker, until
from tests.example import noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_asd.alarm.alarm import Alarm, Policy, Transition
    from edge_asd.score.clip import ClipScore
    from edge_asd.signal.segment import Block

RATE, CLIP_S, SPEED = 16_000, 10, 12.0


class Watch(Nobody):
    """When the daemon had what it needed for a score, and for an event."""

    def __init__(self) -> None:
        self.at = 0.0
        self.scores: list[float] = []
        self.events: list[float] = []

    def heard(self, source: str, block: Block) -> None:  # noqa: ARG002 - there is one
        """The clock starts."""
        self.at = time.monotonic()

    def scored(self, machine: str, clip: ClipScore, policy: Policy) -> None:  # noqa: ARG002 - same
        """A score will leave."""
        self.scores.append(self.at)

    def changed(self, machine: str, transition: Transition, alarm: Alarm, clip: ClipScore) -> None:  # noqa: ARG002 - same
        """An event leaves."""
        self.events.append(self.at)


def latencies(broker: Broker, sound: Path, state: Path | None, events: int) -> dict[str, NDArray[np.float64]]:
    """Seconds from sound to subscriber, of scores and of events."""
    watch = Watch()
    recorder = broker.subscribe("edge_asd/v1/bench/machine/valve/+")
    daemon = Daemon(
        Config(
            node="bench",
            state_dir=state,
            flood_limit=0,
            mqtt={"host": "127.0.0.1", "port": broker.port},
            metrics={"listen": ""},
            sources={"mic": {"input": f"file:{sound}", "loop": True, "speed": SPEED}},
            machines={
                "valve": {
                    "source": "mic",
                    "bundle": str(BUILTIN),
                    "head": "rendered/valve/00",
                    "alarm": {"on_delay": 1, "off_delay": 1, "chatter_clips": 0},
                }
            },
        ),
        watch,
    )
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(daemon.run)
        until(lambda: ended.done() or len(watch.events) >= events, 1000, "too few events")
        daemon.stop()
        ended.result(30)
    came = {kind: [m.time for m in recorder.messages if m.topic.endswith(f"/{kind}")] for kind in ("score", "event")}
    left = {"score": watch.scores, "event": watch.events}
    # the first of each pays for what is done once
    return {kind: np.subtract(came[kind], left[kind][: len(came[kind])])[1:] for kind in came}


def main(events: int = 60) -> None:
    """Both ways, as a table."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        broker = Broker(place)
        broker.start()
        sound = place / "turns.wav"
        soundfile.write(sound, np.concatenate([_valve(), noise(1, CLIP_S * RATE, 0.1)]), RATE)
        disk = latencies(broker, sound, place / "state", events)
        memory = latencies(broker, sound, None, events)
        broker.close()
    print("what      n    p50 ms  p99 ms  p50 with the store in memory, ratio")
    for kind, seconds in disk.items():
        p50, p99 = 1e3 * np.quantile(seconds, (0.5, 0.99))
        other = 1e3 * float(np.median(memory[kind]))
        print(f"{kind:6} {len(seconds):4}  {p50:7.1f} {p99:7.1f}  {other:7.1f}  {p50 / other:.2f}")


def _valve() -> NDArray[np.float32]:
    """A clip of a healthy one."""
    source, pieces = open_source(SourceSpec("render:valve", speed=0), RATE), []
    while sum(map(len, pieces)) < CLIP_S * RATE:
        if block := source.read():
            pieces.append(block.samples)
    return np.concatenate(pieces)[: CLIP_S * RATE]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
