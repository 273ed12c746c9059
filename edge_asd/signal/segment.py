"""Blocks in, whole clips and their segments out. Time is a sample index; lost audio is a jump in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Block:
    """Samples as a source delivered them.

    ``start`` counts samples since the source opened. A start beyond the end of the block before it
    is how a source says that audio was lost.
    """

    start: int
    samples: NDArray[np.float32]
    """(n,) in [-1, 1], at the bundle's rate"""


@dataclass(frozen=True, slots=True)
class Windows:
    """How a clip is cut into segments; travels in every bundle."""

    sample_rate: int = 16_000
    """hertz"""
    segment: int = 32_000
    """samples the network sees at once"""
    clip: int = 160_000
    """samples of a stream that get one clip score; a file is one clip whatever its length"""
    segments: int = 8
    """segments scored per clip, equally spaced, the last one flush with the clip's end"""

    def __post_init__(self) -> None:
        if not (self.segments >= 2 and 0 < self.segment <= self.clip):
            msg = f"need segments >= 2 and 0 < segment <= clip, got {self}"
            raise ValueError(msg)

    def starts(self, length: int) -> list[int]:
        """First samples of the segments of a clip of ``length`` samples (OEVAE report, section 2).

        A clip of one segment or less has one: copies of it would count the same evidence again.
        """
        last = length - self.segment
        if last <= 0:
            return [0]
        return [i * (last // (self.segments - 1)) for i in range(self.segments - 1)] + [last]


def segments(windows: Windows, clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut one clip (L,) into (B, S) segments; a clip shorter than a segment is tiled up to one."""
    whole = np.resize(clip, max(clip.size, windows.segment))
    return np.stack([whole[s : s + windows.segment] for s in windows.starts(clip.size)])
