"""From one line of configuration to a source of sound."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edge_asd.capture.file import FileSource
from edge_asd.capture.microphone import Microphone
from edge_asd.capture.pcm import Format, Pcm, PcmSource
from edge_asd.capture.rendered import RenderedSource
from edge_asd.errors import ConfigError
from edge_asd.render.machine import Condition
from edge_asd.render.performance import Performance, machine
from edge_asd.render.room import Room

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_asd.capture.source import Source
    from edge_asd.render.machine import Machine

SCHEMES = {
    "microphone": "microphone:TOKEN (see edge-asd devices)",
    "file": "file:PATH",
    "render": "render:MACHINE",
    "pcm": "pcm:PATH of a named pipe, pcm:- for standard input",
}


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Which sound to listen to, and how."""

    input: str
    """``microphone:TOKEN``, ``file:PATH``, ``pcm:PATH``, or ``render:MACHINE``: a kind and maybe ``/`` its number"""
    channel: int | None = None
    """counted from 1; by default the first of a microphone, the only one of a file or a pipe"""
    loop: bool = False
    """begin a file again at its end"""
    speed: float = 1.0
    """of a file or a rendered machine: 1 is real time, 0 as fast as possible"""
    fault: str | None = None
    """what goes wrong with a rendered machine"""
    fault_after_s: float = 0.0
    """seconds of healthy sound before it does"""
    severity: float = 1.0
    """of the fault: above 0, incipient, to 1, about to fail"""
    seed: int = 0
    """which stretch of a rendered machine's life"""
    format: str | None = None
    """of the samples in a pipe, see edge_asd.capture.pcm"""
    rate: int | None = None
    """hertz at which they are written"""
    channels: int | None = None
    """of them; by default one"""

    def __post_init__(self) -> None:
        scheme, colon, name = self.input.partition(":")
        if scheme not in SCHEMES or not colon or not name:
            msg = f"cannot listen to {self.input!r}, use one of {', '.join(SCHEMES.values())}"
            raise ConfigError(msg)
        if not self.speed >= 0 or not self.fault_after_s >= 0 or (self.channel is not None and self.channel < 1):
            msg = f"need speed >= 0, fault_after_s >= 0 and channel >= 1, got {self}"
            raise ConfigError(msg)
        if scheme == "render":
            cast(self)
        if scheme == "pcm":
            promised(self)
        elif (self.format, self.rate, self.channels) != (None, None, None):
            msg = f"format, rate and channels are of pcm: alone, others say theirs themselves; {self.input} has them"
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True)
class Cast:
    """Who performs in the place of a microphone."""

    player: Machine
    number: int
    """of the individual, and of the room it stands in"""
    faulty: Condition | None
    """how it runs in the end; None when it stays healthy"""


def cast(spec: SourceSpec) -> Cast:
    """The machine that is to be rendered.

    Raises:
        ConfigError: there is no such machine, number, fault or severity.
    """
    kind, _, number = spec.input.partition(":")[2].partition("/")
    if number and not number.isdecimal():
        msg = f"the number of a machine is a whole one, such as render:{kind}/1, got {number!r}"
        raise ConfigError(msg)
    which = int(number or 0)
    player = machine(kind, which)
    if spec.fault and spec.fault not in player.faults:
        msg = f"a {kind} has no fault called {spec.fault!r}, choose one of {', '.join(player.faults)}"
        raise ConfigError(msg)
    return Cast(player, which, Condition(fault=spec.fault, severity=spec.severity) if spec.fault else None)


def promised(spec: SourceSpec) -> Pcm:
    """What comes through the pipe.

    Raises:
        ConfigError: it is not told, or there is no such thing.
    """
    if spec.format not in set(Format) or spec.rate is None:
        formats = ", ".join(Format)
        msg = f"raw samples do not say what they are: {spec.input} needs a rate and a format out of {formats}"
        raise ConfigError(msg)
    return Pcm(Format(spec.format), spec.rate, spec.channels or 1, spec.channel)


def open_source(spec: SourceSpec, rate: int, *, clock: Callable[[], float] = time.monotonic) -> Source:
    """Start listening at ``rate`` hertz.

    Raises:
        SourceError: the file cannot be played or the pipe not be read. What is wrong with a microphone comes out of its
            first reads.
    """
    scheme, _, name = spec.input.partition(":")
    if scheme == "microphone":
        return Microphone(name, clock=clock).tap(rate, spec.channel or 1).open()
    if scheme == "file":
        path = Path(name).expanduser()
        return FileSource(path, rate, speed=spec.speed, loop=spec.loop, channel=spec.channel, clock=clock)
    if scheme == "pcm":
        return PcmSource(name, promised(spec), rate, clock=clock)
    return _rendered(spec, rate, clock)


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens the sources of a node, so that those on one microphone share it."""

    clock: Callable[[], float] = time.monotonic
    """seconds, never going back"""
    microphones: dict[str, Microphone] = field(default_factory=dict)
    """by token"""

    def prepare(self, spec: SourceSpec, rate: int) -> Callable[[], Source]:
        """What opens this source, each time anew; prepare all of them before the first is opened.

        What it raises is what open_source raises.
        """
        scheme, _, token = spec.input.partition(":")
        if scheme != "microphone":
            return partial(open_source, spec, rate, clock=self.clock)
        microphone = self.microphones.setdefault(token, Microphone(token, clock=self.clock))
        return microphone.tap(rate, spec.channel or 1).open


def _rendered(spec: SourceSpec, rate: int, clock: Callable[[], float]) -> RenderedSource:
    stage = cast(spec)
    return RenderedSource(
        Performance(stage.player, Room(number=stage.number), spec.seed, rate),
        rate,
        faulty=stage.faulty,
        fault_after_s=spec.fault_after_s,
        speed=spec.speed,
        clock=clock,
    )
