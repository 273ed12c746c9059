"""What lies between a machine and a recording: the room, its other noise, and the microphone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.errors import ConfigError
from edge_asd.render.sound import FRAME, Convolution, Drift, Noise, amplitude, spectrum_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Microphone:
    """Where it hangs and what it passes."""

    distance: float = 1.0
    """metres from the machine"""
    gain: float = 0.0
    """dB, of the amplifier behind it"""
    low_cut: float = 60.0
    """hertz, -3 dB, first order"""
    high_cut: float = 7000.0
    """hertz, -3 dB, first order"""

    def __post_init__(self) -> None:
        if not (self.distance >= 0.1 and 0 < self.low_cut < self.high_cut):
            msg = f"need a distance of at least 0.1 m and 0 < low_cut < high_cut hertz, got {self}"
            raise ConfigError(msg)

    def response(self, frequencies: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Complex gain (F,) at these frequencies in hertz."""
        low, high = 1j * frequencies / self.low_cut, 1j * frequencies / self.high_cut
        return np.asarray(amplitude(self.gain) * low / (1 + low) / (1 + high))


@dataclass(frozen=True, slots=True)
class Background:
    """What else is heard in the room. Levels are dB relative to full scale, before the microphone's gain."""

    level: float = -48.0
    """dB, RMS of the broadband part"""
    slope: float = -4.0
    """dB per octave of its spectrum above 100 Hz"""
    hum: float = -68.0
    """dB, RMS of transformer hum"""
    mains: float = 50.0
    """hertz; hum is at its even multiples"""
    unrest: float = 0.8
    """dB, standard deviation of the slow rise and fall"""


@dataclass(frozen=True, slots=True)
class Room:
    """A room with a microphone in it."""

    microphone: Microphone = field(default_factory=Microphone)
    background: Background = field(default_factory=Background)
    reverberation: float = 0.22
    """seconds until sound has fallen by 60 dB"""
    critical_distance: float = 1.6
    """metres from the machine at which reflected sound is as strong as direct sound"""
    number: int = 0
    """which room of this kind: where the reflections fall"""

    def __post_init__(self) -> None:
        if not (0.05 <= self.reverberation <= 2.0 and self.critical_distance > 0):
            msg = f"need 0.05 to 2 s of reverberation and a critical distance above 0 m, got {self}"
            raise ConfigError(msg)

    def impulse_response(self, rate: int) -> NDArray[np.float64]:
        """What the microphone picks up of an impulse at the machine, (K,).

        Direct sound falls with distance; eight early reflections and an exponential tail do not.
        """
        rng = np.random.default_rng([self.number, 0x40])
        time = np.arange(round(0.8 * self.reverberation * rate)) / rate
        tail = rng.standard_normal(time.size) * np.exp(-6.91 * time / self.reverberation) * (time > 0.012)
        early = rng.uniform(0.002, 0.020, 8)
        strength = rng.choice([-1.0, 1.0], 8) * rng.uniform(0.4, 1.0, 8) * np.exp(-6.91 * early / self.reverberation)
        np.add.at(tail, (early * rate).astype(int), strength * 4.0)
        reflected = tail / np.sqrt(np.sum(tail**2)) / self.critical_distance
        reflected[0] += 1.0 / self.microphone.distance
        return np.asarray(reflected)


class Acoustics:
    """A room while sound goes through it."""

    def __init__(self, room: Room, rate: int, rng: np.random.Generator) -> None:
        unrest, noise, start, hiss = rng.spawn(4)
        self._room, self._rate, self._hiss, self._position = room, rate, hiss, 0
        self._path = Convolution(_heard(room.microphone, room.impulse_response(rate), rate))
        corners = ((40.0, 0.0), (100.0, 0.0), (rate / 2, room.background.slope * np.log2(rate / 200)))
        self._noise = Noise(noise, _heard(room.microphone, spectrum_shape(rate, corners), rate))
        self._unrest = Drift(unrest, room.background.unrest, 6.0, rate)
        self._hum = start.uniform()  # turns

    def frame(self, source: NDArray[np.float64]) -> NDArray[np.float64]:
        """The next (FRAME,) that the microphone delivers, always within (-1, 1)."""
        background = amplitude(self._room.background.level) * self._noise.frame()
        background = background * 10.0 ** (self._unrest.frame() / 20.0) + self._transformer()
        floor = amplitude(_SELF_NOISE) * self._hiss.standard_normal(FRAME)
        return _saturated(self._path.frame(source) + background + floor)

    def _transformer(self) -> NDArray[np.float64]:
        mains, microphone = self._room.background.mains, self._room.microphone
        turns = self._hum + mains * (self._position + np.arange(FRAME)) / self._rate
        self._position += FRAME
        level = amplitude(self._room.background.hum + microphone.gain)
        return np.asarray(level * (np.sin(4 * np.pi * turns) + 0.5 * np.sin(8 * np.pi * turns + 1.0)))


_SELF_NOISE = -84.0
"""dB relative to full scale, white"""


def _heard(microphone: Microphone, kernel: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """The kernel followed by the microphone's own response, which dies out within 512 samples."""
    size = kernel.size + 512
    response = microphone.response(np.arange(size // 2 + 1) * rate / size)
    return np.fft.irfft(np.fft.rfft(kernel, size) * response, size)


def _saturated(sound: NDArray[np.float64]) -> NDArray[np.float64]:
    """A capsule gives way before it clips: less than 0.1 dB down at 0.7 of full scale, never beyond 0.98."""
    return np.asarray(sound / (1.0 + (sound / 0.98) ** 12) ** (1 / 12))
