"""A solenoid valve: a plunger that strikes its stops, and the air it lets through."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from edge_asd.errors import ConfigError
from edge_asd.render.sound import FRAME, Convolution, Drift, Noise, amplitude, resonance, spectrum_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_asd.render.machine import Condition

PATTERNS = (
    (0.50, 0.50),
    (0.25, 0.25, 0.25, 0.85),
    (1.40, 0.60),
    (0.30, 0.90),
    (0.15, 0.15, 0.60, 0.70),
    (0.70, 0.20, 0.40, 0.50),
)
"""seconds a valve stays open, closed, open, closed, …, over and over, at nominal speed"""


@dataclass(frozen=True, slots=True)
class Mode:
    """One resonance of the valve body."""

    frequency: float
    """hertz"""
    decay: float
    """seconds to 1/e"""
    opening: float
    """dB relative to full scale at 1 m, when the plunger strikes the pole piece"""
    closing: float
    """dB relative to full scale at 1 m, when it strikes the seat"""


@dataclass(frozen=True, slots=True)
class Valve:
    """Body, timing and flow of a solenoid valve. Levels are dB relative to full scale at 1 m, half the rated pressure.

    Faults: ``leak`` (air escapes through the closed seat), ``sticking`` (the plunger hesitates, strikes weakly, then
    again), ``contamination`` (grit on the seat: dull closing strikes, particles that crackle in the flow).

    Raises:
        ConfigError: there is no pattern of that number.
    """

    faults: ClassVar[tuple[str, ...]] = ("leak", "sticking", "contamination")

    modes: tuple[Mode, ...] = (
        Mode(1150.0, 0.0060, -17.0, -21.0),
        Mode(2480.0, 0.0035, -15.0, -20.0),
        Mode(4100.0, 0.0020, -17.0, -18.0),
        Mode(5900.0, 0.0010, -21.0, -20.0),
    )
    bounce: float = 0.014
    """seconds until the plunger lands again after a closing strike"""
    bounce_level: float = -11.0
    """dB relative to the strike"""
    flow: float = -52.0
    """dB, noise of the air while the valve is open"""
    seat: float = -41.0
    """dB, noise of the air through a seat that leaks as badly as can be"""
    pattern: int = 0
    """index into :data:`PATTERNS`"""

    def __post_init__(self) -> None:
        if not 0 <= self.pattern < len(PATTERNS):
            msg = f"need a switching pattern from 0 to {len(PATTERNS) - 1}, got {self.pattern}"
            raise ConfigError(msg)

    @classmethod
    def identity(cls, number: int, pattern: int = 0) -> Self:
        """The individual with this number: same kind of valve, another body and spring."""
        rng = np.random.default_rng([number, 0x7A])
        modes = tuple(
            Mode(
                frequency=mode.frequency * float(rng.uniform(0.85, 1.18)),
                decay=mode.decay * float(rng.uniform(0.8, 1.25)),
                opening=mode.opening + float(rng.normal(0, 1.5)),
                closing=mode.closing + float(rng.normal(0, 1.5)),
            )
            for mode in cls().modes
        )
        return cls(modes=modes, bounce=float(rng.uniform(0.010, 0.020)), pattern=pattern)

    def voice(self, rate: int, rng: np.random.Generator) -> ValveVoice:
        """Start it, somewhere in its pattern."""
        return ValveVoice(self, rate, rng)


@dataclass(frozen=True, slots=True)
class _Strike:
    """The plunger lands."""

    time: float
    """samples since the voice began"""
    opens: bool
    gain: float
    dull: float
    """0 to 1, how much of the high modes grit takes away"""
    again: bool
    """a bounce: the valve is where it was"""
    colours: NDArray[np.float64]
    """(modes,) dB by which this strike excites each mode differently"""


class ValveVoice:
    """A valve while it switches."""

    def __init__(self, valve: Valve, rate: int, rng: np.random.Generator) -> None:
        self._valve, self._rate = valve, rate
        start, level, flow, leak, self._strikes, self._grit = rng.spawn(6)
        self._level = Drift(level, 0.5, 20.0, rate)  # dB: supply pressure, coil temperature
        self._flow = Noise(flow, spectrum_shape(rate, _FLOW))
        self._leak = Noise(leak, spectrum_shape(rate, _LEAK))
        self._step = int(start.integers(len(PATTERNS[valve.pattern])))
        self._due = start.uniform() * PATTERNS[valve.pattern][self._step - 1] * rate
        self._open = float(self._step % 2)  # an even step opens
        self._modes = [resonance(rate, mode.frequency, mode.decay) for mode in valve.modes]
        self._ramp = Convolution(np.full(round(0.004 * rate), 1 / round(0.004 * rate)))  # air takes 4 ms to follow
        self._crackle = Convolution(resonance(rate, 3700.0, 0.0004))
        self._now = 0
        self._pending: list[_Strike] = []
        self._ringing = np.zeros(FRAME + max(mode.size for mode in self._modes) + 1)

    def frame(self, condition: Condition) -> NDArray[np.float64]:
        """Its next (FRAME,) samples."""
        self._switch(condition)
        opened = self._land()
        sound = self._ring() * amplitude(4 * (condition.load - 0.5)) + self._air(opened, condition)
        self._now += FRAME
        return np.asarray(sound * 10.0 ** (self._level.frame() / 20.0))

    def _switch(self, condition: Condition) -> None:
        """Ask the coil for every switch that falls due in this frame."""
        pattern = PATTERNS[self._valve.pattern]
        while self._due < self._now + FRAME:
            self._pending += self._struck(self._due, opens=self._step % 2 == 0, condition=condition)
            self._due += pattern[self._step] / condition.speed * self._rate
            self._step = (self._step + 1) % len(pattern)

    def _struck(self, due: float, *, opens: bool, condition: Condition) -> list[_Strike]:
        """What one switch of the coil sounds like: a strike, and the strike that follows it."""
        valve, rng = self._valve, self._strikes
        jitter, level, chance, again = rng.normal(), rng.normal(), rng.uniform(), rng.uniform(0.7, 1.3)
        colours = rng.normal(0, 0.8, len(valve.modes))
        stuck = condition.degree("sticking") * (chance < 0.35 + 0.5 * condition.degree("sticking"))
        dull = 0.0 if opens else condition.degree("contamination")
        time = due + self._rate * (0.0006 * abs(jitter) + 0.06 * stuck * again)
        first = _Strike(time, opens, amplitude(0.6 * level - 9.0 * stuck), dull, again=False, colours=colours)
        if stuck:
            # it breaks free halfway and lands a second time, nearly as hard
            return [first, replace(first, time=time + 0.035 * again * self._rate, gain=first.gain * 0.8, again=True)]
        if opens:
            return [first]
        bounced = first.gain * amplitude(valve.bounce_level)
        return [first, replace(first, time=time + valve.bounce * again * self._rate, gain=bounced, again=True)]

    def _land(self) -> NDArray[np.float64]:
        """Let every strike of this frame ring; what remains is whether the valve is open, (FRAME,), 0 or 1."""
        opened = np.full(FRAME, self._open)
        landing = sorted((s for s in self._pending if s.time < self._now + FRAME), key=lambda s: s.time)
        self._pending = [s for s in self._pending if s.time >= self._now + FRAME]
        for strike in landing:
            at = int(strike.time) - self._now
            self._excite(at, strike)
            self._open = self._open if strike.again else float(strike.opens)
            opened[at:] = self._open
        return opened

    def _excite(self, at: int, strike: _Strike) -> None:
        share = strike.time % 1.0  # a strike between two samples belongs to both
        for order, (mode, ring) in enumerate(zip(self._valve.modes, self._modes, strict=True)):
            level = mode.opening if strike.opens else mode.closing
            level += strike.colours[order] - 6.0 * strike.dull * order
            hit = strike.gain * amplitude(level) * ring
            self._ringing[at : at + ring.size] += (1 - share) * hit
            self._ringing[at + 1 : at + 1 + ring.size] += share * hit

    def _ring(self) -> NDArray[np.float64]:
        ringing, rest = self._ringing[:FRAME], self._ringing[FRAME:]
        self._ringing = np.concatenate([rest, np.zeros(FRAME)])
        return ringing

    def _air(self, opened: NDArray[np.float64], condition: Condition) -> NDArray[np.float64]:
        """Noise of the flow, of a leak, and of grit carried along, (FRAME,)."""
        gate = self._ramp.frame(opened)
        pressure = amplitude(8 * (condition.load - 0.5))
        through = amplitude(self._valve.flow) * gate * self._flow.frame()
        leaked = amplitude(self._valve.seat) * condition.degree("leak") * (1 - gate) * self._leak.frame()
        hits = self._grit.uniform(size=FRAME) < 25 * condition.degree("contamination") / self._rate
        sizes = self._grit.exponential(size=FRAME)
        crackle = amplitude(-32.0) * self._crackle.frame(hits * sizes * gate)
        return np.asarray(pressure * (through + leaked + crackle))


_FLOW = ((50, -20), (400, -6), (1500, 0), (4000, -2), (8000, -8))
_LEAK = ((200, -40), (1500, -14), (4500, 0), (8000, -3))
