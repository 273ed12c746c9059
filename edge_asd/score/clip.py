"""What is said of one clip."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartScore:
    """How unusual one named part of the evidence is."""

    name: str
    z: float
    """standard deviations above the mean of the training normals, leave-one-out"""


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


@dataclass(frozen=True, slots=True)
class Skipped:
    """Audio that was heard and not scored."""

    start: int
    samples: int
    reason: str
    """``gap``, the name of a :class:`edge_asd.signal.health.Fault`, or that the whole ear was unfit"""
