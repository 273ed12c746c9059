"""What every rendered machine shares: the condition it runs in, and the shape of a machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edge_asd.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Condition:
    """How a machine is driven, and what is wrong with it.

    Raises:
        ConfigError: a value is out of range, or a fault has no severity.
    """

    speed: float = 1.0
    """relative to the machine's nominal speed (shaft or switching rate), 0.5 to 1.5"""
    load: float = 0.5
    """share of the rated load (back pressure of a fan, supply of a valve, flow of a pump, torque of a gear), 0 to 1"""
    fault: str | None = None
    """one of the machine's ``faults``; None when it is healthy"""
    severity: float = 0.0
    """0 without a fault; with one above 0 (incipient) to 1 (about to fail)"""

    def __post_init__(self) -> None:
        if not (0.5 <= self.speed <= 1.5 and 0.0 <= self.load <= 1.0):
            msg = f"need a speed from 0.5 to 1.5 and a load from 0 to 1, got speed {self.speed}, load {self.load}"
            raise ConfigError(msg)
        if (self.fault is None and self.severity != 0.0) or (self.fault is not None and not 0 < self.severity <= 1):
            msg = f"need a severity above 0 up to 1 with a fault and 0 without, got {self.severity} with {self.fault}"
            raise ConfigError(msg)

    def degree(self, fault: str) -> float:
        """How far one fault has gone: the severity if it is the present one, else 0."""
        return self.severity if self.fault == fault else 0.0


class Voice(Protocol):
    """One machine while it runs. Holds where it stands: phases, valve position, ringing."""

    def frame(self, condition: Condition) -> NDArray[np.float64]:
        """Its next :data:`~edge_asd.render.sound.FRAME` samples, as heard in the free field at 1 m, 1 = full scale.

        The random numbers it draws do not depend on the fault: with one seed a faulty machine is the healthy one plus
        its fault.
        """
        ...


class Machine(Protocol):
    """What a machine is built of; says what it sounds like only through its voice."""

    @property
    def faults(self) -> tuple[str, ...]:
        """Faults it can develop."""
        ...

    def voice(self, rate: int, rng: np.random.Generator) -> Voice:
        """Start it, in a random position, at ``rate`` hertz."""
        ...
