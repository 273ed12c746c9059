"""What an ear makes of one place: its level and bands over a minute, and whether it still hears in the same way.

A fault of the machine must not look like a fault of the ear. It adds sound, in some bands; it takes none away from the
room, and it does not move all bands by the same. These two are what is watched for (thresholds: docs of the constants).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.signal.health import clipped
from edge_asd.signal.level import measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Bands = Mapping[str, float]
    """mean power of third octaves, dB relative to full scale, by nominal mid-band frequency in hertz"""

WINDOW = 10
"""seconds that are compared at once"""
LOWEST = 100.0
"""hertz; what rumbles below it changes with the weather"""
GAIN_DB = 12.0
"""by which all bands move before the gain must have; rendered faults at their worst move the median band by 3 dB"""
ALIKE_DB = (1.0, 3.0)
"""median difference of bands, once their common shift is taken off, of the same sound at another gain: a steady
machine's, and the most that a restless one is allowed"""
RESTLESS = 3.0
"""times a machine's own variation within the minute: what it is allowed between the two"""
COVERED_DB = 10.0
"""below all that was commissioned; no fault, and no machine that stands still, makes a room so much quieter"""
COVERED_SHARE = 0.25
"""of the bands: a hand, a rag or dirt lets low notes through, and so does a running machine"""
QUIET = 5.0
"""percentile of levels of a tenth of a second that is the noise floor"""
OFF = "off"
"""name of the state in which the room alone is heard"""
RUNNING = "running"


class Change(StrEnum):
    """How an ear no longer hears as it did."""

    GAIN = "gain"
    COVERED = "covered"


@dataclass(frozen=True, slots=True)
class Profile:
    """What was heard in one state of the machine. Levels are in dB relative to full scale."""

    seconds: float
    level_dbfs: float
    """root mean square"""
    peak_dbfs: float
    clipped: float
    """share of samples at full scale"""
    floor_dbfs: float
    """of the quietest moments"""
    bands: Bands
    floor: Bands
    """of the quietest moments; a tenth of a second has fewer low bands"""
    unrest_db: float
    """by which the bands of ten seconds differ from those of all, at most"""

    @property
    def crest_db(self) -> float:
        """Peak over root mean square."""
        return self.peak_dbfs - self.level_dbfs


def profile(samples: NDArray[np.float32], rate: int) -> Profile:
    """Of (n,) samples at ``rate`` hertz, at least a second of them."""
    whole = measure(samples, rate)
    seconds = [measure(piece, rate).bands for piece in _pieces(samples, rate)]
    moments = [measure(piece, rate) for piece in _pieces(samples, rate // 10)]
    bands = mean(seconds)
    windows = [mean(seconds[i : i + WINDOW]) for i in range(0, len(seconds) - WINDOW + 1, WINDOW)]
    return Profile(
        seconds=samples.size / rate,
        level_dbfs=whole.level_dbfs,
        peak_dbfs=whole.peak_dbfs,
        clipped=clipped(samples) / samples.size,
        floor_dbfs=float(np.percentile([moment.level_dbfs for moment in moments], QUIET)),
        bands=bands,
        floor={b: float(np.percentile([moment.bands[b] for moment in moments], QUIET)) for b in moments[0].bands},
        unrest_db=max((difference(window, bands)[1] for window in windows), default=0.0),
    )


def mean(several: Sequence[Bands]) -> Bands:
    """Mean power, band by band."""
    return {b: 10 * float(np.log10(np.mean([10 ** (each[b] / 10) for each in several]))) for b in several[0]}


def difference(heard: Bands, known: Bands) -> tuple[float, float]:
    """By how many dB the median band moved, and by how many the bands differ without that, in the median."""
    apart = _apart(heard, known)
    shift = float(np.median(apart))
    return shift, float(np.median(np.abs(apart - shift)))


def changed(heard: Bands, states: Mapping[str, Profile]) -> tuple[Change, str] | None:
    """How the ear must have changed to hear this in ten seconds, and why, given what is known of the machine's states.

    Only a room that is known tells a gain turned down, or a covered microphone, from a machine that stands still.
    """
    apart = {name: difference(heard, state.bands) for name, state in states.items()}
    alike = {name: shift for name, (shift, shape) in apart.items() if shape <= _tolerance(states[name])}
    if alike and all(abs(shift) > GAIN_DB for shift in alike.values()):
        name, shift = min(alike.items(), key=lambda each: abs(each[1]))
        if shift > 0 or OFF in states:
            return Change.GAIN, f"as when commissioned ({name}), but {shift:+.0f} dB; was the gain changed?"
    return _covered(heard, states) if OFF in states else None


def _tolerance(state: Profile) -> float:
    return float(np.clip(RESTLESS * state.unrest_db, *ALIKE_DB))


def _covered(heard: Bands, states: Mapping[str, Profile]) -> tuple[Change, str] | None:
    least = {b: min(state.bands[b] for state in states.values()) for b in states[OFF].bands}
    below = float(np.quantile(_apart(heard, least), COVERED_SHARE, method="lower"))
    if below >= -COVERED_DB:
        return None
    said = f"a quarter of the bands is {-below:.0f} dB quieter than the room alone was; is the microphone covered?"
    return Change.COVERED, said


def _apart(heard: Bands, known: Bands) -> NDArray[np.float64]:
    return np.array([heard[b] - known[b] for b in known if b in heard and float(b) >= LOWEST])


def _pieces(samples: NDArray[np.float32], size: int) -> list[NDArray[np.float32]]:
    """Cut into whole ones."""
    return list(samples[: samples.size // size * size].reshape(-1, size))
