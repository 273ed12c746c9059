"""What is said of one clip."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PartScore:
    """How unusual one named part of the evidence is."""

    name: str
    z: float
    """standard deviations above the mean of the training normals, leave-one-out"""


@dataclass(frozen=True, slots=True)
class Why:
    """What made a clip as strange as it is, by the head's own arithmetic; empty where no part can say."""

    bands: dict[int, float] = field(default_factory=dict)
    """mid-band hertz -> share in the distance of the spectrum; the largest few, largest first"""
    indicators: dict[str, float] = field(default_factory=dict)
    """``level``, ``crest``, ``kurtosis`` -> share in the distance of the indicators, largest first"""
    nearest: str | None = None
    """the training clip it is most like: the first 8 bytes of the SHA-256 of its file, hex, or of what a device learned
    the operating point and the clip's number in it"""
    words: tuple[str, ...] = ()
    """of the parts that are off what each says, in numbers with units; who adds most to the score speaks first"""


@dataclass(frozen=True, slots=True)
class ClipScore:
    """The verdict on one clip."""

    start: int
    """index of the clip's first sample since the source opened"""
    samples: int
    """length of the clip"""
    score: float
    """fused z-score, the DCASE anomaly score"""
    surprise: float
    """-log10 of the probability that a normal clip scores as high: what alarms compare"""
    health_index: int
    """10 as in training, 4 at the alarm threshold, down to 1"""
    parts: tuple[PartScore, ...]
    segment_scores: tuple[float, ...]
    """mean z of the segment parts, per segment; empty when the bundle has none"""
    level_dbfs: float
    """RMS level, dB relative to full scale, at least -120"""
    why: Why = Why()


@dataclass(frozen=True, slots=True)
class Skipped:
    """Audio that was heard and not scored."""

    start: int
    samples: int
    reason: str
    """``gap``, the name of a :class:`edge_asd.signal.health.Fault`, or that the whole ear was unfit"""
