"""Two machines in front of one microphone of two channels."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from edge_asd.capture.source import SourceState
from edge_asd.config import Config
from edge_asd.daemon import Daemon, Nobody
from tests.example import bundle, noise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_asd.alarm.alarm import Policy
    from edge_asd.score.clip import ClipScore
    from tests.conftest import PulseMicrophone

RATE = 16_000
LEVELS = {"left": 0.1, "right": 0.01}


@dataclass
class Levels(Nobody):
    """Remembers how loud each clip was."""

    heard_dbfs: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def scored(self, machine: str, clip: ClipScore, policy: Policy) -> None:  # noqa: ARG002 - as an audience is told
        """A clip got its score."""
        self.heard_dbfs[machine].append(clip.level_dbfs)


@pytest.fixture
def audience() -> Levels:
    return Levels()


@pytest.fixture
def daemon(pulse_pair: PulseMicrophone, tmp_path: Path, audience: Levels) -> Iterator[Daemon]:
    """It listens to a loud machine on the left and to a faint one on the right."""
    bundle(tmp_path / "toy.asd")
    sound = np.stack([noise(seed, 60 * RATE, level) for seed, level in enumerate(LEVELS.values())], axis=1)
    soundfile.write(tmp_path / "pair.wav", sound, RATE)
    pulse_pair.play(tmp_path / "pair.wav")
    sources = {name: {"input": "microphone:name:default", "channel": n} for n, name in enumerate(LEVELS, 1)}
    machines = {name: {"source": name, "bundle": str(tmp_path / "toy.asd")} for name in LEVELS}
    config = Config(node="node1", state_dir=None, metrics={"listen": ""}, sources=sources, machines=machines)
    daemon = Daemon(config, audience)
    yield daemon
    for ear in daemon.ears.values():
        ear.close()


def children() -> list[int]:
    """That capture."""
    here = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text(encoding="utf-8").split()
    return [int(pid) for pid in here if b"edge_asd.capture.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.system
def test_each_is_scored_by_its_own_channel_through_one_child_and_again_after_it_was_shot(
    daemon: Daemon, audience: Levels, eventually: Callable[..., Any]
) -> None:
    def scored(clips: int) -> bool:
        daemon.step()
        return all(len(audience.heard_dbfs[name]) >= clips for name in LEVELS)

    def all_are(state: SourceState) -> bool:
        daemon.step()
        return all(ear.state is state for ear in daemon.ears.values())

    eventually(lambda: scored(3), 20, "clips of both")
    (child,) = children()
    os.kill(child, signal.SIGKILL)
    eventually(lambda: all_are(SourceState.LOST), 10, "both to be lost")
    audience.heard_dbfs.clear()
    eventually(lambda: scored(2), 20, "clips of both, again")

    assert len(children()) == 1
    for name, level in LEVELS.items():
        assert audience.heard_dbfs[name][-1] == pytest.approx(20 * np.log10(level), abs=4), name
