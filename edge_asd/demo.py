"""The main job with nothing installed beside it: a rendered machine goes wrong, and the daemon hears it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from edge_asd.config import Config
from edge_asd.daemon import Daemon, stopped_by_signals
from edge_asd.screen import why

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_asd.alarm.alarm import Alarm, Policy, Transition
    from edge_asd.score.clip import ClipScore
    from edge_asd.signal.segment import Block

RATE = 16_000
SECONDS = 120
"""of sound; twice as fast as it happens, a minute to watch"""
FAULT_AFTER_S = 60


@dataclass(slots=True)
class Story:
    """What has happened so far."""

    heard_s: float = 0.0
    level: float = -120.0
    clips: list[tuple[ClipScore, Policy]] = field(default_factory=list)
    raised_at_s: float | None = None
    reason: str = ""
    """what was heard when it was raised"""


def config(machine: str, fault: str, mqtt: tuple[str, int] | None, speed: float) -> Config:
    """One rendered machine, the built-in bundle."""
    return Config.model_validate(
        {
            "node": "demo",
            "state_dir": None,
            "mqtt": {"host": mqtt[0], "port": mqtt[1]} if mqtt else None,
            "metrics": {"listen": ""},
            "sources": {
                "rendered": {
                    "input": f"render:{machine}",
                    "speed": speed,
                    "fault": fault,
                    "fault_after_s": FAULT_AFTER_S,
                    "severity": 0.8,
                }
            },
            "machines": {machine: {"source": "rendered", "head": f"rendered/{machine}/00"}},
        }
    )


class Screen:
    """Someone who watches: redraws when something is new, or writes a line a clip where nobody can redraw."""

    def __init__(self, console: Console, fault: str, *, as_json: bool) -> None:
        self.story, self._console, self._fault, self._json = Story(), console, fault, as_json
        self.live = Live(self._picture(), console=console, auto_refresh=False, transient=False)
        self.stop: Callable[[], None] = lambda: None
        self.watched = console.is_terminal and not as_json

    def heard(self, source: str, block: Block) -> None:  # noqa: ARG002 - there is only one
        """Audio came in."""
        self.story.heard_s = (block.start + block.samples.size) / RATE
        self.story.level = 20 * float(np.log10(max(float(np.sqrt(np.mean(np.square(block.samples)))), 1e-6)))
        if self.watched:
            self.live.update(self._picture(), refresh=True)
        if self.story.heard_s >= SECONDS:
            self.stop()

    def scored(self, machine: str, clip: ClipScore, policy: Policy) -> None:
        """A clip got its score."""
        self.story.clips.append((clip, policy))
        if self._json:
            line = asdict(clip) | {"event": "score", "machine": machine, "threshold": policy.threshold}
            line["parts"] = {part.name: part.z for part in clip.parts}
            self._say(json.dumps(line))
        elif not self.watched:
            self._say(
                f"{(clip.start + clip.samples) / RATE:5.0f} s  level {clip.level_dbfs:6.1f} dBFS  surprise "
                f"{clip.surprise:5.2f} of {policy.threshold:.2f}  health {clip.health_index:2d}"
            )

    def changed(self, machine: str, transition: Transition, alarm: Alarm, clip: ClipScore) -> None:
        """Something happened to the alarm."""
        if alarm.active and self.story.raised_at_s is None:
            self.story.raised_at_s = (clip.start + clip.samples) / RATE
            self.story.reason = why(asdict(clip.why))
        if self._json:
            self._say(json.dumps({"event": transition, "machine": machine, "surprise": clip.surprise}))
        elif not self.watched:
            self._say(f"ALARM {transition}: {machine}")

    def end(self) -> bool:
        """Say how it went: whether the alarm was raised, and after the fault began."""
        story = self.story
        raised = story.raised_at_s is not None and story.raised_at_s > FAULT_AFTER_S
        if not self._json:
            because = f"; what was heard: {story.reason}" if story.reason else ""
            self._say(f"the alarm was raised{because}" if raised else "no alarm was raised after the fault began")
        return raised

    def _say(self, line: str) -> None:
        self._console.file.write(line + "\n")
        self._console.file.flush()

    def _picture(self) -> Panel:
        story = self.story
        broken = story.heard_s >= FAULT_AFTER_S
        rows = Table.grid(padding=(0, 2))
        rows.add_row("sound", _bar(story.heard_s, SECONDS), f"{story.heard_s:.0f} of {SECONDS} s")
        rows.add_row("level", _bar(story.level + 80, 80), f"{story.level:.1f} dBFS")
        if story.clips:
            clip, policy = story.clips[-1]
            rows.add_row(
                "surprise",
                _bar(clip.surprise, 2 * policy.threshold),
                f"{clip.surprise:.2f}, alarm from {policy.threshold:.2f}",
            )
            rows.add_row("health", _bar(clip.health_index, 10), f"{clip.health_index} of 10")
        truth = Text(f"truth: {self._fault}" if broken else "truth: healthy", "red" if broken else "green")
        alarm = Text("ALARM", "bold white on red") if story.raised_at_s is not None else Text("no alarm", "green")
        return Panel(Group(rows, "", truth, alarm), title="edge_asd demo: a rendered machine, twice as fast", width=78)


def demo(machine: str, fault: str, mqtt: tuple[str, int] | None, *, as_json: bool, speed: float = 2.0) -> bool | None:
    """Run it; whether the alarm was raised, and after the fault began. None when somebody stopped it before.

    Raises:
        EdgeAsdError: the built-in bundle is missing, or there is no such machine or fault.
    """
    screen = Screen(Console(), fault, as_json=as_json)
    daemon = Daemon(config(machine, fault, mqtt, speed), screen)
    screen.stop = daemon.stop
    with stopped_by_signals(daemon):
        if screen.watched:
            with screen.live:
                daemon.run()
        else:
            daemon.run()
    if screen.story.raised_at_s is None and screen.story.heard_s < SECONDS:
        return None
    return screen.end()


def _bar(value: float, total: float) -> ProgressBar:
    return ProgressBar(total=total, completed=min(max(value, 0.0), total), width=36)
