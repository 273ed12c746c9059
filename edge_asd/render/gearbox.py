"""A gearbox of one stage: teeth that mesh, two shafts that turn, and the housing that rings with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
class Mode:
    """One resonance of the housing."""

    frequency: float
    """hertz"""
    decay: float
    """seconds to 1/e"""
    gain: float
    """dB above 0, by which a steady force at its frequency sounds louder than far from it"""


@dataclass(frozen=True, slots=True)
class Gearbox:
    """Teeth, shafts and housing of a gearbox. Levels are dB relative to full scale at 1 m, nominal speed, half load.

    Faults: ``chipped_tooth`` (a piece of a tooth of the pinion is gone: once per turn less contact, then a blow that
    the housing answers), ``wear`` (flanks lose their shape: harmonics of the mesh and their sidebands grow),
    ``eccentricity`` (the pinion sits beside its axis: the mesh is modulated once per turn), ``lubrication`` (too little
    oil: the flanks rub and scuff).
    """

    faults: ClassVar[tuple[str, ...]] = ("chipped_tooth", "wear", "eccentricity", "lubrication")

    pinion: int = 23
    """teeth on the shaft that is driven"""
    wheel: int = 61
    """teeth on the shaft that drives the load"""
    shaft: float = 24.0
    """revolutions per second of the pinion at nominal speed"""
    mesh_levels: tuple[float, ...] = (-38.0, -43.0, -48.0, -53.0, -57.0)
    """dB, mesh frequency and its harmonics, before the housing"""
    shaft_levels: tuple[float, ...] = (-50.0, -57.0)
    """dB, shaft frequency of the pinion and its harmonic (residual imbalance, motor)"""
    depths: tuple[float, float] = (0.05, 0.07)
    """relative amplitude by which the mesh swells once per turn of pinion and wheel: no gear is centred perfectly"""
    pitches: tuple[float, float] = (0.008, 0.012)
    """tooth pitches by which the mesh is early or late, once per turn of pinion and wheel"""
    friction: float = -43.0
    """dB, flanks that slide on oil, strongest around 2 kHz"""
    churning: float = -42.0
    """dB, oil that is thrown about, mostly below 600 Hz"""
    blow: float = -20.0
    """dB, peak of the ringing after the worst chipped tooth"""
    scuff: float = -34.0
    """dB, peak of the ringing after the mean contact of metal with metal"""
    modes: tuple[Mode, ...] = (Mode(940.0, 0.005, 5.0), Mode(2150.0, 0.003, 6.0), Mode(3650.0, 0.0016, 5.0))

    @classmethod
    def identity(cls, number: int) -> Self:
        """The individual with this number: same kind of machine, another ratio, speed and housing."""
        rng = np.random.default_rng([number, 0x6E])
        modes = tuple(
            replace(
                mode,
                frequency=mode.frequency * float(rng.uniform(0.85, 1.18)),
                decay=mode.decay * float(rng.uniform(0.8, 1.25)),
            )
            for mode in cls().modes
        )
        return cls(
            pinion=int(rng.integers(19, 28)),
            wheel=int(rng.integers(53, 72)),
            shaft=float(rng.uniform(22, 26)),
            mesh_levels=tuple(float(level + rng.normal(0, 1.5)) for level in cls().mesh_levels),
            depths=(float(rng.uniform(0.03, 0.07)), float(rng.uniform(0.04, 0.09))),
            modes=modes,
        )

    @property
    def mesh(self) -> float:
        """Teeth that meet per second at nominal speed, hertz."""
        return self.pinion * self.shaft

    def voice(self, rate: int, rng: np.random.Generator) -> GearboxVoice:
        """Start it, at a random angle."""
        return GearboxVoice(self, rate, rng)


class GearboxVoice:
    """A gearbox while it turns."""

    def __init__(self, gearbox: Gearbox, rate: int, rng: np.random.Generator) -> None:
        self._gearbox, self._rate = gearbox, rate
        start, speed, level, friction, churning, self._blows, self._scuffs = rng.spawn(7)
        self._turns = start.uniform(0, gearbox.wheel)
        self._hands = start.uniform(size=4)  # turns: where amplitude and pitch of pinion and wheel are greatest
        self._speed = Drift(speed, 0.003, 6.0, rate)
        self._level = Drift(level, 0.7, 20.0, rate)  # dB: temperature of the oil, supply
        self._friction = Noise(friction, spectrum_shape(rate, _FRICTION))
        self._churning = Noise(churning, spectrum_shape(rate, _CHURNING))
        modes = [mode for mode in gearbox.modes if mode.frequency < rate / 2]
        self._housing = Convolution(_housing(rate, modes))
        self._ringing = Convolution(_ringing(rate, modes))
        self._mesh_tones = weights(start, gearbox.mesh_levels)
        self._shaft_tones = weights(start, gearbox.shaft_levels)

    def frame(self, condition: Condition) -> NDArray[np.float64]:
        """Its next (FRAME,) samples."""
        step = self._gearbox.shaft * condition.speed * (1 + self._speed.frame()) / self._rate  # turns per sample
        before, turns = self._turns, self._turns + np.cumsum(step)
        self._turns = turns[-1] % self._gearbox.wheel  # after so many the same teeth meet again
        mesh = self._mesh(turns, condition)
        shaft = harmonics(np.exp(2j * np.pi * turns), self._shaft_tones * (1 + 2 * condition.degree("eccentricity")))
        force = self._contact(turns, mesh, condition) + self._rubbing(mesh, condition)
        oil = amplitude(self._gearbox.churning) * self._churning.frame()
        struck = self._struck(before, turns, mesh, condition)
        sound = condition.speed * (self._housing.frame(force) + shaft + oil + self._ringing.frame(struck))
        return np.asarray(sound * 10.0 ** (self._level.frame() / 20.0))

    def _mesh(self, turns: NDArray[np.float64], condition: Condition) -> NDArray[np.complex128]:
        """One turn of this phasor (FRAME,) is one tooth; it is early or late as the gears are off centre."""
        gearbox = self._gearbox
        pitch = self._once_per_turn(turns, self._hands[:2], _grown(gearbox.pitches, 0.04, condition))
        return np.asarray(np.exp(2j * np.pi * (gearbox.pinion * turns + pitch)))

    def _contact(
        self, turns: NDArray[np.float64], mesh: NDArray[np.complex128], condition: Condition
    ) -> NDArray[np.float64]:
        """Force (FRAME,) of the teeth that meet; it grows with the torque."""
        swell = 1 + self._once_per_turn(turns, self._hands[2:], _grown(self._gearbox.depths, 0.35, condition))
        # the tooth that is missing is one in `pinion`
        absent = np.exp(self._gearbox.pinion * (np.cos(2 * np.pi * turns) - 1)) * condition.degree("chipped_tooth")
        orders = np.arange(self._mesh_tones.size)
        shaped = 1 + condition.degree("wear") * (0.1 + 0.35 * orders)
        heard = self._gearbox.mesh * condition.speed * (orders + 1) < 0.45 * self._rate
        tones = amplitude(10 * (condition.load - 0.5)) * shaped * heard * self._mesh_tones
        return np.asarray((swell - 0.8 * absent) * harmonics(mesh, np.asarray(tones, np.complex128)))

    def _rubbing(self, mesh: NDArray[np.complex128], condition: Condition) -> NDArray[np.float64]:
        """Noise (FRAME,) of flanks that slide; once per tooth, at the pitch point, they do not."""
        dry = 1 + 0.6 * condition.degree("lubrication") + 0.2 * condition.degree("wear")
        level = amplitude(self._gearbox.friction + 4 * (condition.load - 0.5))
        return np.asarray(level * dry * self._friction.frame() * (1 + 0.3 * mesh.real))

    def _struck(
        self, before: float, turns: NDArray[np.float64], mesh: NDArray[np.complex128], condition: Condition
    ) -> NDArray[np.float64]:
        """Blows (FRAME,) that make the housing ring: of the chipped tooth, of flanks without oil."""
        counts = np.diff(np.floor(turns), prepend=np.floor(before))
        blows = counts * np.exp(0.25 * self._blows.standard_normal(FRAME)) * condition.degree("chipped_tooth")
        chance, sizes = self._scuffs.uniform(size=FRAME), self._scuffs.exponential(size=FRAME)
        often = _SCUFFS * condition.degree("lubrication") * (1 + 0.7 * mesh.real) / self._rate
        torque = 0.6 + 0.8 * condition.load
        blow, scuff = amplitude(self._gearbox.blow), amplitude(self._gearbox.scuff)
        return np.asarray(torque * (blow * blows + scuff * sizes * (chance < often)))

    def _once_per_turn(
        self, turns: NDArray[np.float64], hands: NDArray[np.float64], sizes: tuple[float, float]
    ) -> NDArray[np.float64]:
        """(FRAME,) of what pinion and wheel repeat in every turn of theirs."""
        ratio = self._gearbox.pinion / self._gearbox.wheel
        pinion, wheel = turns + hands[0], ratio * turns + hands[1]
        return np.asarray(sizes[0] * np.cos(2 * np.pi * pinion) + sizes[1] * np.cos(2 * np.pi * wheel))


_FRICTION = ((100, -36), (800, -6), (2000, 0), (4500, -5), (8000, -16))
_CHURNING = ((20, -10), (80, 0), (300, -2), (600, -8), (2500, -26), (8000, -44))
_SCUFFS = 60.0
"""contacts of metal with metal a second in a gearbox about to fail"""


def _grown(sizes: tuple[float, float], most: float, condition: Condition) -> tuple[float, float]:
    """What pinion and wheel repeat per turn: a pinion off its axis repeats more, worn gears both do, a little."""
    worn = 0.3 * most * condition.degree("wear")
    return sizes[0] + worn + most * condition.degree("eccentricity"), sizes[1] + worn


def _housing(rate: int, modes: list[Mode]) -> NDArray[np.float64]:
    """Impulse response (K,) from the forces in the mesh to the sound: as they are, and as the modes amplify them."""
    kernel = np.zeros(max(round(7 * mode.decay * rate) for mode in modes))
    kernel[0] = 1.0
    for mode in modes:
        ring = resonance(rate, mode.frequency, mode.decay)
        # at its frequency a mode answers with half its decay, in samples, a quarter period after the force
        kernel[: ring.size] += np.sqrt(amplitude(mode.gain) ** 2 - 1) * 2 / (mode.decay * rate) * ring
    return kernel


def _ringing(rate: int, modes: list[Mode]) -> NDArray[np.float64]:
    """Sound (K,) of a blow that excites all modes, peak about 1."""
    kernel = np.zeros(max(round(7 * mode.decay * rate) for mode in modes))
    for mode in modes:
        ring = resonance(rate, mode.frequency, mode.decay)
        kernel[: ring.size] += ring / len(modes)
    return kernel
