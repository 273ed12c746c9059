"""A rolling bearing on a test rig: a loaded bearing, the shaft in it, and the motor that drives the shaft."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from edge_asd.errors import ConfigError
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

LOCATIONS = ((0.0, 0.0), (-2.0, 1.0), (1.0, -2.0), (-4.0, 2.0), (2.0, -4.0))
"""dB by which the bearing and the drive are heard louder than half-way between them, one pair a place to listen"""


@dataclass(frozen=True, slots=True)
class Geometry:
    """A rolling bearing whose outer race stands still. Rates are per turn of the shaft, without slip.

    Source: R. B. Randall, J. Antoni, Rolling element bearing diagnostics — a tutorial, MSSP 25 (2011), eqs. (1)-(4).

    Raises:
        ConfigError: such balls do not fit.
    """

    balls: int = 9
    ball_diameter: float = 7.94
    """millimetres"""
    pitch_diameter: float = 39.04
    """millimetres, of the circle on which the balls' centres run"""
    contact_angle: float = 0.0
    """degrees from the radial plane"""

    def __post_init__(self) -> None:
        if not (self.balls >= 3 and 0 < self.ball_diameter < self.pitch_diameter and 0 <= self.contact_angle < 90):
            msg = f"need 3 balls or more, smaller than their pitch circle, and an angle below 90 degrees, got {self}"
            raise ConfigError(msg)

    @property
    def cage(self) -> float:
        """Turns of the cage (FTF)."""
        return (1 - self._ratio) / 2

    @property
    def outer(self) -> float:
        """Balls that pass a point of the outer race (BPFO)."""
        return self.balls * self.cage

    @property
    def inner(self) -> float:
        """Balls that pass a point of the inner race (BPFI)."""
        return self.balls * (1 - self.cage)

    @property
    def spin(self) -> float:
        """Turns of a ball about itself (BSF); a point of it meets a race twice a turn."""
        return self.pitch_diameter / (2 * self.ball_diameter) * (1 - self._ratio**2)

    @property
    def _ratio(self) -> float:
        return self.ball_diameter / self.pitch_diameter * float(np.cos(np.radians(self.contact_angle)))


@dataclass(frozen=True, slots=True)
class Bearing:
    """Geometry and sound of the rig. Levels are dB relative to full scale at 1 m, nominal speed, half load.

    Faults, each a spall: ``outer`` (race, under the load: strikes at BPFO), ``inner`` (race: strikes at BPFI, which
    come and go as it turns through the loaded zone), ``ball`` (two strikes a turn of the ball, which come and go with
    the cage).

    Raises:
        ConfigError: there is no location of that number.
    """

    faults: ClassVar[tuple[str, ...]] = ("outer", "inner", "ball")

    geometry: Geometry = field(default_factory=Geometry)
    shaft: float = 22.0
    """revolutions per second at nominal speed"""
    slip: float = 0.015
    """share by which cage and balls turn slower than rolling without slip would have it"""
    housing: tuple[tuple[float, float, float], ...] = (
        (1900.0, 0.0020, -4.0),
        (3300.0, 0.0014, 0.0),
        (5200.0, 0.0009, -3.0),
    )
    """(hertz, seconds to 1/e, dB of a strike) of the resonances that strikes excite"""
    strike: float = -22.0
    """dB, peak of a strike of the worst spall in the strongest mode, under the load"""
    tick: float = -33.0
    """dB, the same of a typical particle that is rolled over; healthy bearings have them"""
    ticks: float = 12.0
    """particles a second"""
    roughness: float = -38.0
    """dB, rolling noise"""
    shaft_levels: tuple[float, ...] = (-48.0, -46.0, -52.0)
    """dB, shaft frequency and its harmonics (residual imbalance, coupling)"""
    slots: int = 12
    """slots of the motor's stator: its cogging is at so many times the shaft frequency"""
    cogging_levels: tuple[float, ...] = (-42.0, -45.0, -50.0)
    """dB, cogging frequency and its harmonics"""
    drive: float = -38.0
    """dB, noise of the motor and its fan"""
    location: int = 0
    """index into :data:`LOCATIONS`"""

    def __post_init__(self) -> None:
        if not 0 <= self.location < len(LOCATIONS):
            msg = f"need a location from 0 to {len(LOCATIONS) - 1}, got {self.location}"
            raise ConfigError(msg)

    @classmethod
    def identity(cls, number: int, location: int = 0) -> Self:
        """The individual with this number: same kind of rig, another bearing, housing and motor."""
        rng = np.random.default_rng([number, 0xBE])
        geometry = Geometry(
            balls=int(rng.integers(7, 13)),
            ball_diameter=float(rng.uniform(6.5, 8.5)),
            pitch_diameter=float(rng.uniform(36, 44)),
            contact_angle=float(rng.choice([0.0, 15.0])),
        )
        stretch = rng.uniform(0.85, 1.15, len(cls().housing))
        return cls(
            geometry=geometry,
            shaft=float(rng.uniform(19, 26)),
            slip=float(rng.uniform(0.010, 0.020)),
            housing=tuple(
                (float(f * s), decay, level) for (f, decay, level), s in zip(cls().housing, stretch, strict=True)
            ),
            roughness=float(rng.uniform(-40, -36)),
            slots=int(rng.choice([9, 12, 15])),
            location=location,
        )

    def voice(self, rate: int, rng: np.random.Generator) -> BearingVoice:
        """Start it, at a random angle."""
        return BearingVoice(self, rate, rng)


@dataclass(frozen=True, slots=True)
class _Angles:
    """Where everything stands, in turns, (FRAME + 1,) each, from the last sample of the frame before."""

    shaft: NDArray[np.float64]
    cage: NDArray[np.float64]
    ball: NDArray[np.float64]


class BearingVoice:
    """A bearing rig while it turns."""

    def __init__(self, bearing: Bearing, rate: int, rng: np.random.Generator) -> None:
        self._bearing, self._rate = bearing, rate
        start, speed, slip, level, rolling, drive, self._strikes, self._particles = rng.spawn(8)
        self._shaft, self._cage, self._ball = start.uniform(size=3)
        self._speed = Drift(speed, 0.003, 5.0, rate)  # a controlled drive
        self._slip = Drift(slip, 0.003, 0.4, rate)
        self._level = Drift(level, 0.7, 20.0, rate)  # dB: temperature of the grease
        self._rolling = Noise(rolling, spectrum_shape(rate, _ROLLING))
        self._drive = Noise(drive, spectrum_shape(rate, _DRIVE))
        self._housing = Convolution(ringing(rate, bearing.housing))
        self._shaft_tones = weights(start, bearing.shaft_levels)
        self._cogging_tones = weights(start, bearing.cogging_levels)

    def frame(self, condition: Condition) -> NDArray[np.float64]:
        """Its next (FRAME,) samples."""
        step = self._bearing.shaft * condition.speed * (1 + self._speed.frame()) / self._rate  # turns per sample
        angles = self._turn(step)
        near, away = map(amplitude, LOCATIONS[self._bearing.location])
        rolling = near * condition.speed * self._rolled(angles, condition)
        driving = away * condition.speed**2 * self._driven(angles.shaft[1:], condition)
        return np.asarray((rolling + driving) * 10.0 ** (self._level.frame() / 20.0))

    def _turn(self, step: NDArray[np.float64]) -> _Angles:
        """Let the shaft turn by these steps (FRAME,), and cage and balls follow with their slip."""
        geometry, grip = self._bearing.geometry, 1 - self._bearing.slip - self._slip.frame()
        steps = (step, step * grip * geometry.cage, step * grip * geometry.spin)
        starts = (self._shaft, self._cage, self._ball)
        shaft, cage, ball = (s + np.concatenate([[0.0], np.cumsum(d)]) for s, d in zip(starts, steps, strict=True))
        self._shaft, self._cage, self._ball = shaft[-1], cage[-1], ball[-1]
        return _Angles(shaft, cage, ball)

    def _rolled(self, angles: _Angles, condition: Condition) -> NDArray[np.float64]:
        """Rolling noise, particles and spalls (FRAME,)."""
        bearing, particles = self._bearing, self._particles
        # races are a little wavy: the noise breathes with the passing balls
        breath = 1 + 0.2 * np.cos(2 * np.pi * bearing.geometry.balls * angles.cage[1:])
        noise = amplitude(bearing.roughness) * breath * self._rolling.frame()
        grains = particles.uniform(size=FRAME) < bearing.ticks * condition.speed / self._rate
        ticks = amplitude(bearing.tick) * grains * np.exp(0.8 * particles.standard_normal(FRAME))
        # a ball's strike depends on where in its clearance it rides
        uneven = amplitude(bearing.strike) * np.exp(0.25 * self._strikes.standard_normal(FRAME))
        struck = self._housing.frame(ticks + uneven * self._spalls(angles, condition))
        return np.asarray((0.7 + 0.6 * condition.load) * noise + (0.6 + 0.8 * condition.load) * struck)

    def _spalls(self, angles: _Angles, condition: Condition) -> NDArray[np.float64]:
        """Strength (FRAME,) of the strikes, 1 for the worst spall under the load."""
        balls, shaft, cage = self._bearing.geometry.balls, angles.shaft, angles.cage
        outer = _passes(balls * cage) * condition.degree("outer")
        inner = _passes(balls * (shaft - cage)) * _zone(shaft[1:], condition.load) * condition.degree("inner")
        # the outer race is nearer to the air than the inner one, which the spall meets half a turn later
        race = np.where(np.floor(2 * angles.ball[1:]) % 2 == 0, 1.0, 0.7)
        ball = _passes(2 * angles.ball) * race * _zone(cage[1:], condition.load) * condition.degree("ball")
        return np.asarray(outer + inner + ball)

    def _driven(self, turns: NDArray[np.float64], condition: Condition) -> NDArray[np.float64]:
        """Shaft orders, cogging and noise of the motor (FRAME,); its torque follows the load."""
        tones = harmonics(np.exp(2j * np.pi * turns), self._shaft_tones)
        cogging = harmonics(np.exp(2j * np.pi * ((self._bearing.slots * turns) % 1.0)), self._cogging_tones)
        noise = amplitude(self._bearing.drive) * self._drive.frame()
        return np.asarray(tones + amplitude(6 * (condition.load - 0.5)) * cogging + noise)


_ROLLING = ((50, -24), (300, -10), (1500, 0), (4000, -2), (8000, -12))
_DRIVE = ((30, -8), (150, 0), (600, -3), (2000, -12), (8000, -30))


def _passes(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """How often (FRAME,) an angle (FRAME + 1,) in turns comes round, in each sample."""
    return np.asarray(np.diff(np.floor(turns)))


def _zone(turns: NDArray[np.float64], load: float) -> NDArray[np.float64]:
    """Share (FRAME,) of the greatest force at this angle from the load (Stribeck, point contact).

    A bearing is loaded over a part of its circumference that widens as the load takes up the clearance.
    """
    share = 0.3 + 0.4 * load
    return np.asarray(np.maximum(0.0, 1 - (1 - np.cos(2 * np.pi * turns)) / (2 * share)) ** 1.5)
