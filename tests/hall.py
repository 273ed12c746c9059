"""A machine that is as loud as one likes, and a daemon that hears it, second by second; time is the test's."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_asd.bundle import open_bundle
from edge_asd.capture.source import Loss
from edge_asd.config import Config
from edge_asd.daemon import Daemon, Nobody
from edge_asd.deliver.publisher import NullPublisher
from edge_asd.learn.notebook import Notebook
from edge_asd.observe.clock import Clock
from edge_asd.signal.segment import Block
from tests.conftest import PATIENCE, until
from tests.example import bundle, noise

if TYPE_CHECKING:
    from pathlib import Path

    from edge_asd.alarm.alarm import Policy
    from edge_asd.deliver.message import Message
    from edge_asd.score.clip import ClipScore

RATE = 16_000
LOUD = 0.2
"""four times as loud as what the bundle knows"""


@dataclass
class Noise:
    """A source that gives a second of a machine each time it is asked."""

    level: float = LOUD
    seconds: int = 0
    ended: bool = False
    loss: Loss = field(default_factory=Loss)
    fill: float = 0.0

    def read(self) -> Block:
        """Unbroken, and never at full scale."""
        self.seconds += 1
        return Block((self.seconds - 1) * RATE, self.sound(self.seconds))

    def sound(self, second: int) -> np.ndarray:
        """Of that second."""
        return np.clip(noise(second, RATE, self.level), -0.999, 0.999)

    def close(self) -> None:
        """Nothing to let go of."""


class Ears(Nobody):
    """Remembers the scores."""

    def __init__(self) -> None:
        self.clips: list[ClipScore] = []

    def scored(self, machine: str, clip: ClipScore, policy: Policy) -> None:  # noqa: ARG002 - there is one machine
        """A clip got its score."""
        self.clips.append(clip)


class Told(NullPublisher):
    """Remembers what was published."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def publish(self, message: Message) -> None:
        """Keep it."""
        self.messages.append(message)

    def bodies(self, ending: str) -> list[dict[str, Any]]:
        """Of the topics that end so, oldest first."""
        return [json.loads(message.payload) for message in self.messages if message.topic.endswith(ending)]


class Noted(Daemon):
    """Its journal is open to whoever looks on."""

    def __init__(self, config: Config, ears: Ears, notes: list[tuple[str, dict[str, Any]]], clock: Clock) -> None:
        self.notes = notes
        super().__init__(config, ears, clock=clock)

    def note(self, event: str, said: dict[str, Any]) -> None:
        """Keep it in sight, too."""
        self.notes.append((event, said))
        super().note(event, said)


class Hall:
    """A daemon with one machine, and its notebook."""

    def __init__(self, folder: Path, **settings: Any) -> None:  # noqa: ANN401 - of the config
        self.now, self.ears, self.notes = 0.0, Ears(), list[tuple[str, dict[str, Any]]]()
        self.later = 0.0
        """seconds that the calendar is ahead by, for lessons of days"""
        self.source, self.told = Noise(), Told()
        self.bundle = open_bundle(bundle(folder / "toy.asd"))
        self.notebook = Notebook.of(folder / "state", "press")
        self.config = Config(
            state_dir=folder / "state",
            metrics={"listen": ""},
            trust={"allow_unsigned": True},
            sources={"mic": {"input": "file:unused.wav"}},
            machines={"press": {"source": "mic", "bundle": str(folder / "toy.asd")}},
            **settings,
        )
        began = datetime(2026, 1, 1, tzinfo=UTC)
        self.clock = Clock(lambda: self.now, lambda: began + timedelta(seconds=self.now + self.later))
        self.begin()

    def begin(self) -> None:
        """A daemon over what the one before has left."""
        self.daemon = Noted(self.config, self.ears, self.notes, self.clock)
        self.daemon.ears["mic"].open_source = lambda: self.source
        self.daemon.publisher = self.told

    def end(self) -> None:
        """As its run() does."""
        self.daemon._tutor.close()  # noqa: SLF001 - as its run() does
        self.daemon._school.close()  # noqa: SLF001 - same
        self.daemon._store.close()  # noqa: SLF001 - same

    def hear(self, seconds: int = 1) -> None:
        """So many clips."""
        for _ in range(seconds):
            self.now += 1
            self.daemon.step()

    def until_noted(self, event: str) -> dict[str, Any]:
        """Listen until that is written into the journal."""

        def noted() -> dict[str, Any] | None:
            self.hear()
            return dict(self.notes).get(event)

        return until(noted, PATIENCE, lambda: f"{event}: {self.notes}")

    @property
    def speaks(self) -> str:
        """Version of what judges the machine."""
        return self.daemon.wards["press"].voice.model.version

    @property
    def along(self) -> float:
        """What the candidate says of the last clip, as Prometheus sees it; NaN: nobody hears along."""
        found = self.daemon.metrics.registry.get_sample_value("edge_asd_shadow_clip_score", {"machine": "press"})
        assert found is not None
        return found
