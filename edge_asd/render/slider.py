"""A slide rail: a carriage on recirculating balls that a stepper and a toothed belt drive to and fro."""

from __future__ import annotations

from dataclasses import dataclass
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

STROKES = ((0.40, 3.0, 0.25), (0.40, 2.0, 0.35), (0.50, 4.0, 0.30), (0.40, 1.5, 0.30), (0.50, 5.5, 0.20))
"""metres of travel, metres per second squared, and seconds of rest at each end"""

SLAPS = 8
"""times that a slack belt strikes before it is still"""


@dataclass(frozen=True, slots=True)
class Slider:
    """Geometry and sound of a slide rail. Levels are dB relative to full scale at 1 m, nominal velocity, half load.

    Faults: ``rail_damage`` (a dent in the rail: a knock each time that the carriage passes it), ``dry`` (no grease:
    rough rolling, and a squeal while the carriage creeps), ``loose_belt`` (its slack strand rattles when the drive
    turns from pulling to braking, and snaps tight when it pulls again).

    Raises:
        ConfigError: there is no stroke of that number, or the dent lies off the rail.
    """

    faults: ClassVar[tuple[str, ...]] = ("rail_damage", "dry", "loose_belt")

    velocity: float = 0.5
    """metres per second between ramps, at nominal speed"""
    tooth: float = 0.005
    """metres of belt from tooth to tooth: the mesh sounds at velocity / tooth"""
    step: float = 0.0008
    """metres of travel for one step of the motor: it sings at velocity / step"""
    ball: float = 0.004
    """metres between balls in the carriage"""
    dent: float = 0.45
    """where the rail may be damaged, as share of the travel from the motor's end"""
    belt: float = 31.0
    """hertz, at which the slack strand swings"""
    squeal: float = 2700.0
    """hertz, of the carriage's wipers when they stick and slip"""
    frame: tuple[tuple[float, float, float], ...] = (
        (420.0, 0.012, -2.0),
        (1300.0, 0.006, 0.0),
        (2900.0, 0.003, -6.0),
    )
    """(hertz, seconds to 1/e, dB) of the resonances that knocks excite"""
    rolling: float = -33.0
    """dB, noise of the balls"""
    tooth_levels: tuple[float, ...] = (-42.0, -46.0, -50.0)
    """dB, meshing frequency and its harmonics"""
    step_levels: tuple[float, ...] = (-40.0, -44.0, -50.0)
    """dB, step frequency and its harmonics"""
    knock: float = -27.0
    """dB, peak of the jerk at either end of a stroke at 3 m/s²"""
    pass_knock: float = -18.0
    """dB, peak of the knock at the worst dent"""
    rattle: float = -17.0
    """dB, peak of the first slap of the loosest belt at 3 m/s²"""
    roughness: float = -37.5
    """dB, noise that a rail without any grease adds"""
    squeal_level: float = -42.0
    """dB, its squeal where it is loudest"""
    stroke: int = 0
    """index into :data:`STROKES`"""

    def __post_init__(self) -> None:
        if not 0 <= self.stroke < len(STROKES):
            msg = f"need a stroke from 0 to {len(STROKES) - 1}, got {self.stroke}"
            raise ConfigError(msg)
        if not 0 < self.dent < 1:
            msg = f"need a dent between 0 and 1 of the travel, got {self.dent}"
            raise ConfigError(msg)

    @classmethod
    def identity(cls, number: int, stroke: int = 0) -> Self:
        """The individual with this number: same kind of slide, another carriage, belt and frame."""
        rng = np.random.default_rng([number, 0x51])
        stretch = rng.uniform(0.85, 1.15, len(cls().frame))
        return cls(
            velocity=float(rng.uniform(0.42, 0.58)),
            step=float(rng.uniform(0.0007, 0.0010)),
            ball=float(rng.uniform(0.0032, 0.0048)),
            dent=float(rng.uniform(0.3, 0.7)),
            belt=float(rng.uniform(26, 38)),
            squeal=float(rng.uniform(2200, 3300)),
            frame=tuple(
                (float(f * s), decay, level) for (f, decay, level), s in zip(cls().frame, stretch, strict=True)
            ),
            rolling=float(rng.uniform(-35, -31)),
            stroke=stroke,
        )

    def voice(self, rate: int, rng: np.random.Generator) -> SliderVoice:
        """Start it, somewhere in a stroke."""
        return SliderVoice(self, rate, rng)


@dataclass(frozen=True, slots=True)
class _Stroke:
    """One way of the carriage: it gathers speed, keeps it, brakes, and rests."""

    begin: float
    """samples since the voice began"""
    outward: bool
    """away from the motor's end"""
    travel: float
    """metres"""
    cruise: float
    """metres per second"""
    acceleration: float
    """metres per second squared"""
    rest: float
    """seconds"""
    uneven: NDArray[np.float64]
    """(3 + SLAPS,) factors: the knocks at start and stop, the knock at the dent, the slaps of the belt"""

    @property
    def ramp(self) -> float:
        """Seconds from rest to full speed."""
        return self.cruise / self.acceleration

    @property
    def moving(self) -> float:
        """Seconds from start to stop."""
        return self.travel / self.cruise + self.ramp

    def velocity(self, time: NDArray[np.float64]) -> NDArray[np.float64]:
        """Metres per second, ``time`` seconds after its start."""
        ramps = self.acceleration * np.minimum(time, self.moving - time)
        return np.asarray(np.clip(ramps, 0.0, self.cruise))

    def reach(self, distance: float) -> float:
        """Seconds until it is ``distance`` metres from where it started, within its travel."""
        gathered = self.cruise * self.ramp / 2
        if distance <= gathered:
            return float(np.sqrt(2 * distance / self.acceleration))
        if distance >= self.travel - gathered:
            return self.moving - float(np.sqrt(2 * (self.travel - distance) / self.acceleration))
        return self.ramp + (distance - gathered) / self.cruise


class SliderVoice:
    """A slide rail at work."""

    def __init__(self, slider: Slider, rate: int, rng: np.random.Generator) -> None:
        self._slider, self._rate = slider, rate
        start, self._motion, level, rolling, rough, pitch, flutter = rng.spawn(7)
        self._level = Drift(level, 0.9, 20.0, rate)  # dB: temperature of the grease
        self._rolling = Noise(rolling, spectrum_shape(rate, _ROLLING))
        self._rough = Noise(rough, spectrum_shape(rate, _ROUGH))
        self._pitch, self._flutter = Drift(pitch, 0.02, 0.5, rate), Drift(flutter, 0.6, 0.3, rate)
        self._body = Convolution(ringing(rate, slider.frame))
        self._tooth_tones = weights(start, slider.tooth_levels)
        self._step_tones = weights(start, slider.step_levels)
        self._way, self._cycle = start.uniform(size=2)  # metres along the belt; turns of the squeal
        self._outward = bool(start.uniform() < 0.5)
        self._now, self._due = 0, -start.uniform() * 1.5 * rate
        self._strokes: list[_Stroke] = []

    def frame(self, condition: Condition) -> NDArray[np.float64]:
        """Its next (FRAME,) samples."""
        self._plan(condition)
        samples = np.arange(self._now, self._now + FRAME)
        rest = np.zeros(FRAME)  # no stroke at all is a long rest
        velocity = sum((s.velocity((samples - s.begin) / self._rate) for s in self._strokes), rest)
        hits = sum((self._hits(stroke, condition) for stroke in self._strokes), rest)
        way = self._way + np.cumsum(velocity) / self._rate
        sound = self._roll(velocity, way, condition) + self._drive(velocity, way, condition)
        sound += self._squeal(velocity, condition) + self._body.frame(hits)
        self._now, self._way = self._now + FRAME, way[-1]
        return np.asarray(sound * 10.0 ** (self._level.frame() / 20.0))

    def _plan(self, condition: Condition) -> None:
        """Begin every stroke that falls due in this frame; forget those whose belt has come to rest."""
        settled = SLAPS / self._slider.belt * self._rate  # after the stop
        self._strokes = [s for s in self._strokes if s.begin + s.moving * self._rate + settled > self._now]
        while self._due < self._now + FRAME:
            travel, acceleration, rest = STROKES[self._slider.stroke]
            cruise = min(self._slider.velocity * condition.speed, float(np.sqrt(acceleration * travel)))
            rest *= self._motion.uniform(0.95, 1.05)  # the controller answers when it can
            uneven = np.exp(0.2 * self._motion.standard_normal(3 + SLAPS))
            stroke = _Stroke(self._due, self._outward, travel, cruise, acceleration, rest, uneven)
            self._strokes.append(stroke)
            self._due += (stroke.moving + rest) * self._rate
            self._outward = not self._outward

    def _hits(self, stroke: _Stroke, condition: Condition) -> NDArray[np.float64]:
        """What strikes the frame during one stroke, as impulses (FRAME,)."""
        slider, slaps = self._slider, np.arange(SLAPS)
        jerk = stroke.acceleration / 3.0 * (0.7 + 0.6 * condition.load)
        share = slider.dent if stroke.outward else 1 - slider.dent
        seconds = np.concatenate(
            [
                [0.0, stroke.moving, stroke.reach(share * stroke.travel)],
                stroke.moving - stroke.ramp + slaps / slider.belt,
                [0.25 / slider.belt],  # slack taken up
            ]
        )
        loose = amplitude(slider.rattle) * condition.degree("loose_belt") * jerk
        dented = amplitude(slider.pass_knock) * condition.degree("rail_damage") * (0.7 + 0.6 * condition.load)
        knocks = [jerk * amplitude(slider.knock)] * 2 + [dented * stroke.cruise / slider.velocity]
        sizes = np.concatenate([knocks, loose * np.exp(-slaps / 3), [loose]]) * np.append(stroke.uneven, 1.0)
        at = np.floor(stroke.begin + seconds * self._rate).astype(int) - self._now
        due = (at >= 0) & (at < FRAME)
        return np.asarray(np.bincount(at[due], sizes[due], FRAME), np.float64)

    def _roll(
        self, velocity: NDArray[np.float64], way: NDArray[np.float64], condition: Condition
    ) -> NDArray[np.float64]:
        """Noise of the balls (FRAME,): louder with speed, and a little with each ball that enters the carriage."""
        slider, fast = self._slider, velocity / self._slider.velocity
        balls = 1 + 0.25 * np.cos(2 * np.pi * way / slider.ball)
        smooth = amplitude(slider.rolling + 4 * (condition.load - 0.5)) * self._rolling.frame()
        rough = amplitude(slider.roughness) * condition.degree("dry") * self._rough.frame()
        return np.asarray(fast * balls * (smooth + rough))

    def _drive(
        self, velocity: NDArray[np.float64], way: NDArray[np.float64], condition: Condition
    ) -> NDArray[np.float64]:
        """Teeth and steps (FRAME,), whose pitch follows the velocity."""
        moves = np.minimum(1.0, velocity / 0.05)
        tones = harmonics(np.exp(2j * np.pi * ((way / self._slider.tooth) % 1.0)), self._tooth_tones)
        tones += harmonics(np.exp(2j * np.pi * ((way / self._slider.step) % 1.0)), self._step_tones)
        return np.asarray(moves * amplitude(4 * (condition.load - 0.5)) * tones)

    def _squeal(self, velocity: NDArray[np.float64], condition: Condition) -> NDArray[np.float64]:
        """Stick and slip of dry wipers (FRAME,), loudest at 0.12 m/s."""
        cycles = self._cycle + np.cumsum(1 + self._pitch.frame()) * self._slider.squeal / self._rate
        self._cycle = cycles[-1] % 1.0
        creeps = velocity / 0.12 * np.exp(1 - velocity / 0.12 + self._flutter.frame())
        tone = np.sin(2 * np.pi * cycles) + 0.4 * np.sin(4 * np.pi * cycles)
        return np.asarray(amplitude(self._slider.squeal_level) * condition.degree("dry") * creeps * tone)


_ROLLING = ((60, -18), (300, -6), (1200, 0), (3000, -4), (8000, -20))
_ROUGH = ((100, -30), (800, -10), (3000, 0), (5500, -2), (8000, -12))
