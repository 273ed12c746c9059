"""A machine heard in a room, for as long as one likes to listen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_asd.errors import ConfigError
from edge_asd.render.bearing import Bearing
from edge_asd.render.fan import Fan
from edge_asd.render.gearbox import Gearbox
from edge_asd.render.motor import Motor
from edge_asd.render.pump import Pump
from edge_asd.render.room import Acoustics
from edge_asd.render.slider import Slider
from edge_asd.render.sound import FRAME
from edge_asd.render.valve import Valve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from edge_asd.render.machine import Condition, Machine
    from edge_asd.render.room import Room

MACHINES: dict[str, Callable[[int], Machine]] = {
    "fan": Fan.identity,
    "valve": Valve.identity,
    "pump": Pump.identity,
    "gearbox": Gearbox.identity,
    "bearing": Bearing.identity,
    "slider": Slider.identity,
    "motor": Motor.identity,
}
"""kind of machine -> the individual of that kind with a given number"""

_WARM_UP = 3
"""frames until the room is filled with sound; nobody hears them"""


def machine(kind: str, number: int = 0) -> Machine:
    """The individual with this number.

    Raises:
        ConfigError: no machine of this kind can be rendered.
    """
    if kind not in MACHINES:
        msg = f"cannot render a machine called {kind!r}, choose one of {', '.join(MACHINES)}"
        raise ConfigError(msg)
    return MACHINES[kind](number)


class Performance:
    """A machine that runs and is listened to. One listener.

    What is heard does not depend on the blocks it is asked for in, and goes on where it stopped. A frame is played in
    the condition in force at its first sample, so a new condition takes hold within 128 ms at 16 kHz.

    Args:
        machine: from :func:`machine`.
        room: where it stands, and the microphone.
        seed: one number or several; equal seeds sound equal, another seed is another hour of the same machine.
        rate: hertz.
    """

    def __init__(self, machine: Machine, room: Room, seed: int | Sequence[int], rate: int = 16_000) -> None:
        performer, acoustics = np.random.default_rng(seed).spawn(2)
        self._machine = machine
        self._voice = machine.voice(rate, performer)
        self._acoustics = Acoustics(room, rate, acoustics)
        self._left: NDArray[np.float32] | None = None

    def render(self, samples: int, condition: Condition) -> NDArray[np.float32]:
        """The next (samples,) of it, in (-1, 1).

        Raises:
            ConfigError: the machine cannot develop that fault.
        """
        if condition.fault is not None and condition.fault not in self._machine.faults:
            known = ", ".join(self._machine.faults)
            msg = f"this machine has no fault called {condition.fault!r}, choose one of {known}"
            raise ConfigError(msg)
        if self._left is None and samples > 0:
            for _ in range(_WARM_UP):
                self._left = self._frame(condition)[:0]
        return self._continued(samples, condition)

    def _continued(self, samples: int, condition: Condition) -> NDArray[np.float32]:
        left = np.empty(0, np.float32) if self._left is None else self._left
        missing = max(0, -(-(samples - left.size) // FRAME))
        sound = np.concatenate([left, *(self._frame(condition) for _ in range(missing))])
        if samples > 0:
            self._left = sound[samples:].copy()
        return sound[:samples]

    def _frame(self, condition: Condition) -> NDArray[np.float32]:
        return self._acoustics.frame(self._voice.frame(condition)).astype(np.float32)


def render_clip(
    machine: Machine, room: Room, condition: Condition, samples: int, seed: int | Sequence[int], rate: int = 16_000
) -> NDArray[np.float32]:
    """One clip (samples,) of a machine in one condition, from somewhere in its life."""
    return Performance(machine, room, seed, rate).render(samples, condition)
