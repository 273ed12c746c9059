"""A fan: blade passing, shaft harmonics, turbulence, and the bearing that carries them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from edge_asd.render.sound import (
    FRAME,
    Convolution,
    Drift,
    Noise,
    amplitude,
    harmonics,
    resonance,
    spectrum_shape,
    weights,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_asd.render.machine import Condition


@dataclass(frozen=True, slots=True)
class Fan:
    """Geometry and sound of an axial fan. Levels are dB relative to full scale at 1 m, nominal speed, half load.

    Faults: ``imbalance`` (mass off centre: shaft orders, wobbling tip clearance), ``bearing`` (a spall in the outer
    race: impacts at the ball-pass frequency), ``blade`` (one is damaged: once per turn the flow changes).
    """

    faults: ClassVar[tuple[str, ...]] = ("imbalance", "bearing", "blade")

    blades: int = 7
    shaft: float = 25.0
    """revolutions per second at nominal speed"""
    balls: int = 8
    """rolling elements"""
    ball_ratio: float = 0.22
    """ball diameter over pitch diameter, times the cosine of the contact angle"""
    ringing: float = 3400.0
    """hertz, resonance of bearing seat and housing that impacts excite"""
    ringing_decay: float = 0.0012
    """seconds to 1/e"""
    blade_levels: tuple[float, ...] = (-35.0, -40.0, -45.0, -50.0, -54.0)
    """dB, blade-passing frequency and its harmonics"""
    shaft_levels: tuple[float, ...] = (-46.0, -52.0, -55.0)
    """dB, shaft frequency and its harmonics (residual imbalance, coupling)"""
    rumble: float = -33.0
    """dB, turbulence ingested by the rotor, mostly below 1 kHz"""
    hiss: float = -44.0
    """dB, trailing-edge noise around 2.5 kHz"""
    impact: float = -44.0
    """dB, peak of one impact of a healthy bearing"""

    @classmethod
    def identity(cls, number: int) -> Self:
        """The individual with this number: same kind of machine, other blades, bearing and housing."""
        rng = np.random.default_rng([number, 0xFA])
        return cls(
            blades=int(rng.integers(5, 10)),
            shaft=float(rng.uniform(21, 29)),
            balls=int(rng.integers(7, 11)),
            ball_ratio=float(rng.uniform(0.18, 0.28)),
            ringing=float(rng.uniform(2600, 4800)),
            blade_levels=tuple(float(level + rng.normal(0, 2)) for level in cls().blade_levels),
            hiss=float(rng.uniform(-46, -42)),
        )

    @property
    def defect_order(self) -> float:
        """Ball passes over a point of the outer race, per turn of the shaft."""
        return self.balls / 2 * (1 - self.ball_ratio)

    def voice(self, rate: int, rng: np.random.Generator) -> FanVoice:
        """Start it, at a random angle."""
        return FanVoice(self, rate, rng)


class FanVoice:
    """A fan while it turns."""

    def __init__(self, fan: Fan, rate: int, rng: np.random.Generator) -> None:
        self._fan, self._rate = fan, rate
        start, speed, level, gust, rumble, hiss, self._impacts = rng.spawn(7)
        self._turns, self._passes = start.uniform(size=2)
        self._speed = Drift(speed, 0.004, 8.0, rate)  # a mains-fed motor with slip
        self._level = Drift(level, 0.5, 20.0, rate)  # dB: temperature, supply, air density
        self._gust = Drift(gust, 0.08, 0.4, rate)
        self._rumble = Noise(rumble, spectrum_shape(rate, _RUMBLE))
        self._hiss = Noise(hiss, spectrum_shape(rate, _HISS))
        self._housing = Convolution(resonance(rate, fan.ringing, fan.ringing_decay))
        self._blade_tones = weights(start, fan.blade_levels)
        self._shaft_tones = weights(start, fan.shaft_levels)

    def frame(self, condition: Condition) -> NDArray[np.float64]:
        """Its next (FRAME,) samples."""
        step = self._fan.shaft * condition.speed * (1 + self._speed.frame()) / self._rate  # turns per sample
        turns = self._turns + np.cumsum(step)
        self._turns = turns[-1] % 1.0
        flow = condition.speed**2.5  # sound power of a rotor grows with about the fifth power of its speed
        air = flow * self._once_per_turn(turns, condition) * self._air(turns, condition)
        steel = condition.speed**2 * self._shaft(turns, condition) + self._bearing(step, condition)
        return np.asarray((air + steel) * 10.0 ** (self._level.frame() / 20.0))

    def _once_per_turn(self, turns: NDArray[np.float64], condition: Condition) -> NDArray[np.float64]:
        """Amplitude (FRAME,) that an asymmetric rotor gives everything aerodynamic: sidebands at the shaft rate."""
        wobble = 0.25 * condition.degree("imbalance") * np.cos(2 * np.pi * turns)
        # one blade in `blades` passes as a bump one blade pitch wide
        bump = np.exp(self._fan.blades * (np.cos(2 * np.pi * turns) - 1)) * condition.degree("blade")
        return np.asarray(1.0 + wobble + 1.1 * bump)

    def _air(self, turns: NDArray[np.float64], condition: Condition) -> NDArray[np.float64]:
        """Blade tones and turbulence (FRAME,), which breathes with the passing blades."""
        fan, load = self._fan, condition.load - 0.5
        blade = np.exp(2j * np.pi * ((fan.blades * turns) % 1.0))
        orders = np.arange(1, len(fan.blade_levels) + 1)
        # back pressure steepens the pulse of a passing blade: high orders grow most
        tones = harmonics(blade, self._blade_tones * 10.0 ** (load * (4 + orders) / 20.0))
        noise = amplitude(fan.rumble + 3 * load) * self._rumble.frame()
        noise += amplitude(fan.hiss + 8 * load) * self._hiss.frame()
        return np.asarray(tones + noise * (1 + self._gust.frame()) * (1 + 0.25 * blade.real))

    def _shaft(self, turns: NDArray[np.float64], condition: Condition) -> NDArray[np.float64]:
        """Shaft orders (FRAME,): an unbalanced rotor shakes its mounts once per turn; they answer at two and three."""
        orders = np.arange(1, self._shaft_tones.size + 1)
        shaken = 1 + condition.degree("imbalance") * 5.0 / orders
        return harmonics(np.exp(2j * np.pi * turns), self._shaft_tones * shaken)

    def _bearing(self, step: NDArray[np.float64], condition: Condition) -> NDArray[np.float64]:
        """Balls that pass a spall strike the housing (FRAME,); a healthy race has only its roughness."""
        slip = 1 + 0.01 * self._impacts.standard_normal()
        passes = self._passes + np.cumsum(step) * self._fan.defect_order * slip
        counts = np.diff(np.floor(passes), prepend=np.floor(self._passes))
        self._passes = passes[-1] % 1.0
        # a ball's strike depends on where in its clearance it rides
        strikes = counts * np.exp(0.25 * self._impacts.standard_normal(FRAME))
        force = condition.speed * (0.6 + 0.8 * condition.load) * (1 + 5.0 * condition.degree("bearing"))
        return amplitude(self._fan.impact) * force * self._housing.frame(strikes)


_RUMBLE = ((20, -8), (90, 0), (400, -3), (1000, -10), (4000, -26), (8000, -38))
_HISS = ((100, -40), (900, -8), (2500, 0), (5000, -5), (8000, -14))
