"""An induction motor on an inverter: hum, slot harmonics, switching, the shaft, its bearings and its cooling fan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from edge_asd.errors import ConfigError
from edge_asd.render.bearing import Geometry
from edge_asd.render.sound import (
    FRAME,
    Convolution,
    Drift,
    Noise,
    amplitude,
    harmonics,
    ringing,
    spectrum_shape,
    weights,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_asd.render.machine import Condition

CARRIERS = (2000.0, 2500.0, 3000.0, 2250.0, 3400.0)
"""hertz, at which an inverter may switch"""


@dataclass(frozen=True, slots=True)
class Motor:
    """Windings, slots and sound of an induction motor. Levels are dB relative to full scale at 1 m, nominal speed.

    Speed is that of the supply: the inverter sets its frequency, and the shaft follows with a slip that grows with the
    load.

    Faults: ``rotor_bar`` (broken: torque, slot harmonics and shaft orders beat at twice the slip frequency),
    ``bearing`` (a spall in the outer race), ``misalignment`` (against what it drives: the second shaft order grows, the
    coupling rubs twice a turn), ``stator`` (shorted turns and loose sheets: hum grows, and buzzes at twice the supply).

    Raises:
        ConfigError: there is no carrier of that number.
    """

    faults: ClassVar[tuple[str, ...]] = ("rotor_bar", "bearing", "misalignment", "stator")

    line: float = 50.0
    """hertz, of the supply at nominal speed"""
    pole_pairs: int = 2
    slip: float = 0.04
    """share by which the shaft lags the field at full load"""
    bars: int = 28
    """of the rotor; slot harmonics lie about so many times the shaft frequency"""
    bearing: Geometry = field(default_factory=lambda: Geometry(balls=8, ball_diameter=8.7, pitch_diameter=38.5))
    housing: tuple[tuple[float, float, float], ...] = ((1500.0, 0.0022, -4.0), (2900.0, 0.0014, 0.0))
    """(hertz, seconds to 1/e, dB of a strike) of the resonances of end shield and frame"""
    hum_levels: tuple[float, ...] = (-45.0, -50.0, -55.0)
    """dB, twice the supply frequency and its harmonics"""
    slot_levels: tuple[float, ...] = (-46.0, -50.0)
    """dB, slot harmonics; each has sidebands at twice the supply frequency"""
    switching_levels: tuple[float, float] = (-54.0, -60.0)
    """dB, of either sideband one and three supply frequencies from the carrier"""
    shaft_levels: tuple[float, ...] = (-46.0, -50.0, -55.0, -58.0)
    """dB, shaft frequency and its harmonics"""
    air: float = -37.0
    """dB, noise of the cooling fan"""
    roughness: float = -45.0
    """dB, noise of the bearings"""
    strike: float = -20.5
    """dB, peak of a strike of the worst spall in the strongest mode"""
    rub: float = -41.0
    """dB, noise of the worst aligned coupling where it rubs most"""
    buzz: float = -40.0
    """dB, noise of the loosest sheets where they are pressed most"""
    carrier: int = 0
    """index into :data:`CARRIERS`"""

    def __post_init__(self) -> None:
        if not 0 <= self.carrier < len(CARRIERS):
            msg = f"need a carrier from 0 to {len(CARRIERS) - 1}, got {self.carrier}"
            raise ConfigError(msg)

    @classmethod
    def identity(cls, number: int, carrier: int = 0) -> Self:
        """The individual with this number: same kind of motor, another rotor, bearing and frame."""
        rng = np.random.default_rng([number, 0x30])
        stretch = rng.uniform(0.85, 1.15, len(cls().housing))
        return cls(
            slip=float(rng.uniform(0.03, 0.055)),
            bars=int(rng.choice([22, 26, 28, 30, 34])),
            bearing=Geometry(int(rng.integers(7, 10)), float(rng.uniform(7.5, 9.0)), float(rng.uniform(36, 42))),
            housing=tuple(
                (float(f * s), decay, level) for (f, decay, level), s in zip(cls().housing, stretch, strict=True)
            ),
            slot_levels=tuple(float(level + rng.normal(0, 2)) for level in cls().slot_levels),
            air=float(rng.uniform(-39, -35)),
            carrier=carrier,
        )

    def voice(self, rate: int, rng: np.random.Generator) -> MotorVoice:
        """Start it, at a random angle."""
        return MotorVoice(self, rate, rng)


@dataclass(frozen=True, slots=True)
class _Angles:
    """Where everything stands, in turns, (FRAME,) each."""

    supply: NDArray[np.float64]
    shaft: NDArray[np.float64]
    beat: NDArray[np.float64]
    """of twice the slip frequency"""


class MotorVoice:
    """A motor while it turns."""

    def __init__(self, motor: Motor, rate: int, rng: np.random.Generator) -> None:
        self._motor, self._rate = motor, rate
        start, torque, slip, level, air, rough, rub, buzz, self._strikes = rng.spawn(9)
        self._supply, self._shaft, self._lag, self._switch, self._passes = start.uniform(size=5)
        self._torque = Drift(torque, 0.05, 3.0, rate)
        self._grip = Drift(slip, 0.004, 0.4, rate)  # of the bearing's balls
        self._level = Drift(level, 0.9, 20.0, rate)  # dB: temperature, supply voltage
        self._air = Noise(air, spectrum_shape(rate, _AIR))
        self._rough = Noise(rough, spectrum_shape(rate, _ROUGH))
        self._rub, self._buzz = Noise(rub, spectrum_shape(rate, _RUB)), Noise(buzz, spectrum_shape(rate, _BUZZ))
        self._housing = Convolution(ringing(rate, motor.housing))
        self._hum = weights(start, motor.hum_levels)
        self._slots = weights(start, motor.slot_levels)
        self._beside = weights(start, (-5.0, -7.0)) / np.sqrt(2)  # upper and lower sideband, relative to the harmonic
        self._switching = weights(start, motor.switching_levels)
        self._orders = weights(start, motor.shaft_levels)

    def frame(self, condition: Condition) -> NDArray[np.float64]:
        """Its next (FRAME,) samples."""
        angles, passes = self._turn(condition)
        sound = self._electric(angles, condition) + self._mechanical(angles, condition)
        sound += self._bearing(passes, condition)
        return np.asarray(sound * 10.0 ** (self._level.frame() / 20.0))

    def _turn(self, condition: Condition) -> tuple[_Angles, NDArray[np.float64]]:
        """Let the field turn and the rotor follow; beside the angles, balls (FRAME + 1,) past the outer race."""
        motor, hertz = self._motor, self._motor.line * condition.speed
        slip = motor.slip * (0.1 + 0.9 * condition.load) * (1 + self._torque.frame())
        time = np.arange(1, FRAME + 1) / self._rate
        supply, lag = self._supply + hertz * time, self._lag + hertz * np.cumsum(slip) / self._rate
        shaft = self._shaft + hertz * np.cumsum(1 - slip) / self._rate / motor.pole_pairs
        rolled = np.concatenate([[self._shaft], shaft])
        passed = np.diff(rolled) * motor.bearing.outer * (0.985 - self._grip.frame())
        passes = self._passes + np.concatenate([[0.0], np.cumsum(passed)])
        self._supply, self._lag, self._shaft, self._passes = supply[-1], lag[-1], shaft[-1], passes[-1]
        # a rotor that lacks a bar pulls unevenly: its speed ripples as well
        ripple = 0.004 * condition.degree("rotor_bar") * np.sin(4 * np.pi * lag)
        return _Angles(supply, shaft + ripple, 2 * lag), passes

    def _electric(self, angles: _Angles, condition: Condition) -> NDArray[np.float64]:
        """Hum, slot harmonics and switching (FRAME,); the field is that of the load, and broken bars make it beat."""
        load = amplitude(4 * (condition.load - 0.5))
        beat = 1 + 0.8 * condition.degree("rotor_bar") * np.cos(2 * np.pi * angles.beat)
        twice = np.exp(4j * np.pi * angles.supply)
        stator = condition.degree("stator")
        hum = harmonics(twice, self._hum * (1 + 0.9 * stator * np.arange(1, self._hum.size + 1)))
        pressed = ((1 + np.cos(4 * np.pi * angles.supply)) / 2) ** 3
        buzz = amplitude(self._motor.buzz) * stator * pressed * self._buzz.frame()
        slotted = self._slotted(angles, twice) * (1 + 0.8 * condition.degree("rotor_bar"))
        return np.asarray(beat * load * (hum + slotted) + buzz + self._switched(angles))

    def _slotted(self, angles: _Angles, twice: NDArray[np.complex128]) -> NDArray[np.float64]:
        """Slot harmonics (FRAME,), each with its two sidebands."""
        bars = np.exp(2j * np.pi * ((self._motor.bars * angles.shaft) % 1.0))
        above, below = self._beside
        sides = 1 + above * twice + below * np.conj(twice)
        return np.asarray(np.real(sum(w * bars**k for k, w in enumerate(self._slots, 1)) * sides))

    def _switched(self, angles: _Angles) -> NDArray[np.float64]:
        """Tones of the inverter (FRAME,): pairs of sidebands about the carrier."""
        turns = self._switch + CARRIERS[self._motor.carrier] * np.arange(1, FRAME + 1) / self._rate
        self._switch = turns[-1] % 1.0
        pairs = sum(w * np.cos(2 * np.pi * k * angles.supply) for k, w in zip((1, 3), self._switching, strict=True))
        return np.asarray(2 * np.real(pairs * np.exp(2j * np.pi * turns)))

    def _mechanical(self, angles: _Angles, condition: Condition) -> NDArray[np.float64]:
        """Shaft orders, coupling and cooling fan (FRAME,)."""
        motor, bent = self._motor, condition.degree("misalignment")
        beat = 1 + 0.8 * condition.degree("rotor_bar") * np.cos(2 * np.pi * angles.beat)
        grown = np.where(np.arange(self._orders.size) == 0, 0.4, 3.0)  # two shafts that meet at an angle: not the first
        orders = harmonics(np.exp(2j * np.pi * angles.shaft), self._orders * (1 + bent * grown))
        rubs = ((1 + np.cos(4 * np.pi * angles.shaft)) / 2) ** 2
        rub = amplitude(motor.rub) * bent * rubs * self._rub.frame()
        air = amplitude(motor.air) * condition.speed**2.5 * self._air.frame()
        return np.asarray(condition.speed**2 * (beat * orders + rub) + air)

    def _bearing(self, passes: NDArray[np.float64], condition: Condition) -> NDArray[np.float64]:
        """Rolling noise and the strikes of a spall (FRAME,)."""
        uneven = np.exp(0.25 * self._strikes.standard_normal(FRAME))
        strikes = np.diff(np.floor(passes)) * uneven * condition.degree("bearing")
        rough = amplitude(self._motor.roughness) * self._rough.frame()
        force = condition.speed * (0.6 + 0.8 * condition.load)
        return np.asarray(force * (rough + amplitude(self._motor.strike) * self._housing.frame(strikes)))


_AIR = ((40, -10), (150, -2), (500, 0), (1500, -6), (4000, -18), (8000, -32))
_ROUGH = ((100, -30), (800, -8), (2500, 0), (5000, -6), (8000, -16))
_RUB = ((100, -20), (600, -4), (1500, 0), (3500, -6), (8000, -20))
_BUZZ = ((100, -20), (500, -3), (1200, 0), (3000, -8), (8000, -24))
"""(hertz, dB) corners of long-time spectra"""
