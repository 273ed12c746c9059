"""A centrifugal water pump: vanes that pass the tongue, turbulence in the volute, and the motor that drives them."""

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
class Pump:
    """Geometry and sound of a centrifugal pump. Levels are dB relative to full scale at 1 m, nominal speed, half load.

    The load is the flow, half being where the pump is most efficient: with less the water turns back in the impeller,
    with more it is too fast for it, and either way the vanes strike it harder.

    Faults: ``cavitation`` (bubbles collapse behind the passing vanes: a crackle above some kilohertz that pulses at
    the vane-passing frequency), ``clogging`` (debris in one channel of the impeller: less flow, weight off centre, and
    once per turn a weaker vane), ``misalignment`` (motor and pump are not in line: the coupling pushes twice per turn).
    """

    faults: ClassVar[tuple[str, ...]] = ("cavitation", "clogging", "misalignment")

    vanes: int = 6
    shaft: float = 48.5
    """revolutions per second at nominal speed"""
    pole_pairs: int = 1
    """of the motor: its field turns once in so many periods of the supply"""
    slip: float = 0.03
    """share of the field's turns that the rotor loses at half load; grows with the load"""
    bars: int = 28
    """of the rotor's cage"""
    vane_levels: tuple[float, ...] = (-38.0, -43.0, -49.0, -53.0)
    """dB, vane-passing frequency and its harmonics"""
    shaft_levels: tuple[float, ...] = (-47.0, -53.0, -57.0, -61.0)
    """dB, shaft frequency and its harmonics (residual imbalance, coupling)"""
    hum: float = -47.0
    """dB, the magnetic pull at twice the supply frequency"""
    whine: float = -57.0
    """dB, the bars of the rotor that pass the teeth of the stator"""
    rumble: float = -37.0
    """dB, turbulence in volute and pipe, mostly below 1 kHz"""
    hiss: float = -46.0
    """dB, flow through the gaps of impeller and valve, around 3 kHz"""
    bubble: float = -37.5
    """dB, peak of the mean collapse of a bubble"""

    @classmethod
    def identity(cls, number: int) -> Self:
        """The individual with this number: same kind of machine, another impeller, motor and pipe."""
        rng = np.random.default_rng([number, 0xB0])
        return cls(
            vanes=int(rng.integers(5, 9)),
            shaft=float(rng.uniform(46.5, 49.2)),
            bars=int(rng.integers(24, 35)),
            vane_levels=tuple(float(level + rng.normal(0, 2)) for level in cls().vane_levels),
            shaft_levels=tuple(float(level + rng.normal(0, 1)) for level in cls().shaft_levels),
            rumble=float(rng.uniform(-39, -35)),
            hiss=float(rng.uniform(-48, -44)),
        )

    def voice(self, rate: int, rng: np.random.Generator) -> PumpVoice:
        """Start it, at a random angle."""
        return PumpVoice(self, rate, rng)


class PumpVoice:
    """A pump while it turns."""

    def __init__(self, pump: Pump, rate: int, rng: np.random.Generator) -> None:
        self._pump, self._rate = pump, rate
        start, speed, level, surge, rumble, hiss, self._bubbles = rng.spawn(7)
        self._turns, self._field = start.uniform(size=2)
        self._speed = Drift(speed, 0.003, 8.0, rate)  # a mains-fed motor with slip
        self._level = Drift(level, 0.5, 20.0, rate)  # dB: water temperature, supply
        self._surge = Drift(surge, 0.08, 0.5, rate)  # eddies as large as the pipe
        self._rumble = Noise(rumble, spectrum_shape(rate, _RUMBLE))
        self._hiss = Noise(hiss, spectrum_shape(rate, _HISS))
        # a collapse is over within a period of what is heard of it
        self._collapse = Convolution(resonance(rate, min(_COLLAPSE, 0.4 * rate), 0.00015))
        self._vane_tones = weights(start, pump.vane_levels)
        self._shaft_tones = weights(start, pump.shaft_levels)
        self._motor_tones = weights(start, (pump.hum, pump.whine))

    def frame(self, condition: Condition) -> NDArray[np.float64]:
        """Its next (FRAME,) samples."""
        step = self._pump.shaft * condition.speed * (1 + self._speed.frame()) / self._rate  # turns per sample
        turns = self._turns + np.cumsum(step)
        self._turns = turns[-1] % 1.0
        # pressures grow with the square of the speed (affinity laws), and so does the force of a weight off centre
        driven = condition.speed**2 * (self._water(turns, condition) + self._shaft(turns, condition))
        sound = driven + self._motor(turns, step, condition) + self._cavities(turns, condition)
        return np.asarray(sound * 10.0 ** (self._level.frame() / 20.0))

    def _water(self, turns: NDArray[np.float64], condition: Condition) -> NDArray[np.float64]:
        """Vane tones and turbulence (FRAME,), which breathes with the passing vanes."""
        pump, clogged = self._pump, condition.degree("clogging")
        flow = condition.load * (1 - 0.25 * clogged)
        astray = abs(flow - 0.5)
        vane = self._vane(turns)
        orders = np.arange(1, len(pump.vane_levels) + 1)
        pushed = 10.0 ** (astray * (8 + 2 * orders) / 20.0) * (1 - 0.2 * condition.degree("cavitation"))  # soft bubbles
        tones = harmonics(vane, self._vane_tones * pushed)
        noise = amplitude(pump.rumble + 12 * astray) * self._rumble.frame()
        noise += amplitude(pump.hiss + 8 * (flow - 0.5)) * self._hiss.frame()
        # the blocked channel passes as a gap one vane wide
        gap = 1 - 0.5 * clogged * np.exp(pump.vanes * (np.cos(2 * np.pi * turns) - 1))
        return np.asarray(gap * (tones + noise * (1 + self._surge.frame()) * (1 + 0.2 * vane.real)))

    def _shaft(self, turns: NDArray[np.float64], condition: Condition) -> NDArray[np.float64]:
        """Shaft orders (FRAME,): debris weighs on the first, a coupling out of line most on the second."""
        debris, bent = condition.degree("clogging"), condition.degree("misalignment")
        shaken = self._shaft_tones * (1 + debris * np.array([2.0, 0.3, 0.0, 0.0]) + bent * _COUPLING)
        return harmonics(np.exp(2j * np.pi * turns), shaken)

    def _motor(
        self, turns: NDArray[np.float64], step: NDArray[np.float64], condition: Condition
    ) -> NDArray[np.float64]:
        """Hum of the stator and whine of the rotor's bars (FRAME,)."""
        pump = self._pump
        pull = 2 * pump.pole_pairs / (1 - pump.slip * 2 * condition.load)  # periods of the hum per turn of the shaft
        field = self._field + pull * np.cumsum(step)
        self._field = field[-1] % 1.0
        drawn = self._motor_tones * amplitude(6 * (condition.load - 0.5))
        tones = drawn[0] * np.exp(2j * np.pi * field) + drawn[1] * np.exp(2j * np.pi * (pump.bars * turns + field))
        return np.asarray(tones.real)

    def _cavities(self, turns: NDArray[np.float64], condition: Condition) -> NDArray[np.float64]:
        """Bubbles that collapse (FRAME,), most where a vane has just passed."""
        chance, sizes = self._bubbles.uniform(size=FRAME), self._bubbles.exponential(size=FRAME)
        often = _COLLAPSES * condition.degree("cavitation") * (1 + 0.9 * self._vane(turns).real)
        # the pressure at the inlet falls as speed and flow rise
        force = condition.speed**2 * (0.6 + 0.8 * condition.load)
        return amplitude(self._pump.bubble) * force * self._collapse.frame(sizes * (chance < often / self._rate))

    def _vane(self, turns: NDArray[np.float64]) -> NDArray[np.complex128]:
        return np.asarray(np.exp(2j * np.pi * ((self._pump.vanes * turns) % 1.0)))


_RUMBLE = ((20, -10), (80, 0), (350, -2), (1200, -12), (4000, -28), (8000, -40))
_HISS = ((100, -40), (1200, -8), (3000, 0), (5500, -4), (8000, -10))
_COLLAPSE = 5200.0
"""hertz, the middle of what is heard of a collapse"""
_COLLAPSES = 900.0
"""bubbles a second in a pump about to fail"""
_COUPLING = np.array([0.7, 4.0, 2.5, 1.3])
"""how many times a shaft order grows with a coupling as far out of line as can be"""
