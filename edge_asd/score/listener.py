"""One machine's ear: blocks in, verdicts on clips out. The same code scores a stream and a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.score.calibration import health_index
from edge_asd.score.clip import ClipScore, Skipped
from edge_asd.score.part import Evidence
from edge_asd.score.reason import explain
from edge_asd.signal.health import fault
from edge_asd.signal.statistic import Statistic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from edge_asd.score.head import Head
    from edge_asd.signal.segment import Block, Windows
    from edge_asd.signal.view import LogMel

    Embed = Callable[[NDArray[np.float32]], Mapping[str, NDArray[np.float32]]]
    """A network: a segment (S,) in, its outputs by name out"""


@dataclass(slots=True)
class Gathering:
    """The evidence of one clip as it comes in: statistics at once, each segment as soon as it is whole."""

    length: int
    windows: Windows
    statistic: Statistic
    embed: Embed | None
    samples: NDArray[np.float32] = field(init=False)
    filled: int = 0
    outputs: list[Mapping[str, NDArray[np.float32]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.samples = np.empty(self.length, np.float32)

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take further samples, at most what is missing."""
        self.samples[self.filled : self.filled + samples.size] = samples
        self.filled += samples.size
        self.statistic.push(samples)
        if self.embed is None:
            return
        for start in self.windows.starts(self.length)[len(self.outputs) :]:
            end = start + self.windows.segment
            if self.filled < end:
                return
            self.outputs.append(self.embed(self.samples[start:end]))

    def finish(self) -> Evidence:
        """All of it; call when the clip is full."""
        names = self.outputs[0] if self.outputs else ()
        stacked = {name: np.stack([outputs[name] for outputs in self.outputs]) for name in names}
        return Evidence(self.statistic.finish(), stacked)


def evidence(windows: Windows, spec: LogMel, embed: Embed | None, clip: NDArray[np.float32]) -> Evidence:
    """What there is to judge of a whole clip (L,); a clip shorter than a segment is tiled up to one."""
    gathering = Gathering(max(clip.size, windows.segment), windows, Statistic(spec), embed)
    gathering.push(np.resize(clip, gathering.length))
    return gathering.finish()


@dataclass(slots=True)
class Listener:
    """Cuts a stream into clips and scores each. Lost or unfit audio starts a new clip; nothing is padded."""

    windows: Windows
    spec: LogMel
    head: Head
    alarm: float
    """alarm threshold, in surprise; the health index is read against it"""
    embed: Embed | None
    overhear: Callable[[Evidence], None] | None = None
    """told what each clip was judged by"""
    _clip: Gathering | None = None
    _start: int = 0
    """index of the first sample of the clip in progress"""
    _checked: int = 0
    """samples of the clip in progress that were found fit"""

    def score(self, clip: NDArray[np.float32]) -> ClipScore:
        """Score one whole clip (L,), whatever its length; a clip shorter than a segment is tiled up to one."""
        return self._verdict(evidence(self.windows, self.spec, self.embed, clip), 0, clip.size)

    def push(self, block: Block) -> list[ClipScore | Skipped]:
        """Follow one block all the way through."""
        results: list[ClipScore | Skipped] = []
        if block.start != self._start + self._filled:
            results += self._abandon(block.start, "gap")
        rest = block.samples
        while rest.size:
            self._clip = self._clip or Gathering(self.windows.clip, self.windows, Statistic(self.spec), self.embed)
            take = min(rest.size, self.wanted)
            with np.errstate(over="ignore", invalid="ignore"):  # infinite samples are found by the next check
                self._clip.push(rest[:take])
            rest = rest[take:]
            results += self._advance()
        return results

    @property
    def start(self) -> int:
        """Index of the first sample of the clip in progress, or of the next if none is."""
        return self._start

    @property
    def end(self) -> int:
        """Index behind the last sample that was heard."""
        return self._start + self._filled

    @property
    def wanted(self) -> int:
        """Samples to the next check, and never past it: unfit audio is found within a segment's length."""
        return min(self._checked + self.windows.segment, self.windows.clip) - self._filled

    def forget(self, start: int) -> None:
        """Give up the clip in progress, in whatever state it is; the next begins at ``start``."""
        self._begin(start)

    @property
    def _filled(self) -> int:
        return self._clip.filled if self._clip else 0

    def _advance(self) -> list[ClipScore | Skipped]:
        """Check what has come in since the last check; score the clip when it is full."""
        clip, full = self._clip, self._filled == self.windows.clip
        if clip is None or not (full or self._filled == self._checked + self.windows.segment):
            return []
        unfit = fault(clip.samples[self._checked : clip.filled])
        if unfit:
            return self._abandon(self._start + clip.filled, unfit)
        self._checked = clip.filled
        if not full:
            return []
        verdict = self._verdict(clip.finish(), self._start, clip.length)
        self._begin(self._start + clip.filled)
        return [verdict]

    def _abandon(self, start: int, reason: str) -> list[ClipScore | Skipped]:
        """Give up the clip in progress and begin anew at ``start``."""
        skipped: list[ClipScore | Skipped] = [Skipped(self._start, self._filled, reason)] if self._filled else []
        self._begin(start)
        return skipped

    def _begin(self, start: int) -> None:
        self._clip, self._start, self._checked = None, start, 0

    def _verdict(self, heard: Evidence, start: int, samples: int) -> ClipScore:
        if self.overhear:
            self.overhear(heard)
        verdict = self.head.judge(heard)
        return ClipScore(
            start=start,
            samples=samples,
            score=verdict.score,
            surprise=verdict.surprise,
            health_index=health_index(verdict.surprise, self.alarm),
            parts=verdict.parts,
            segment_scores=verdict.segment_scores,
            level_dbfs=heard.statistics.level,
            why=explain(self.head, self.spec, heard, verdict),
        )
