"""Sound that is kept for people to listen to; nothing, unless the settings say so, since a microphone hears speech."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from edge_asd.errors import AudioError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_asd.signal.segment import Block

LONGEST_S = 60.0


@dataclass(slots=True)
class Tail:
    """The last of what a source said, without the time before its last gap."""

    limit: int
    """samples"""
    _blocks: deque[Block] = field(default_factory=deque)
    _held: int = 0

    def push(self, block: Block) -> None:
        """The newest."""
        if self._blocks and block.start != self._blocks[-1].start + self._blocks[-1].samples.size:
            self._blocks.clear()
            self._held = 0
        self._blocks.append(block)
        self._held += block.samples.size
        while self._held - self._blocks[0].samples.size >= self.limit:
            self._held -= self._blocks.popleft().samples.size

    def last(self, samples: int) -> NDArray[np.float32]:
        """(n,) the last so many, or as many as there are."""
        if not self._blocks:
            return np.zeros(0, np.float32)
        return np.concatenate([block.samples for block in self._blocks])[-samples:]


@dataclass(frozen=True, slots=True)
class Kept:
    """A recording on disk."""

    file: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Archive:
    """Recordings as FLAC, the oldest of which go when their space is used up."""

    folder: Path
    quota: int
    """bytes"""

    def keep(self, machine: str, samples: NDArray[np.float32], rate: int, at: datetime) -> Kept:
        """Write (n,) samples whole, or not at all.

        Raises:
            AudioError: there is nothing to keep, it is larger than the quota, or the disk fails.
        """
        file = self.folder / machine / f"{at:%Y%m%dT%H%M%S.%f}Z.flac"
        part = file.with_suffix(".part")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(part, np.clip(samples, -1, 1), rate, "PCM_16", format="FLAC")
            self._make_room(part.stat().st_size)
            digest = hashlib.sha256(part.read_bytes()).hexdigest()
            part.replace(file)
        except (OSError, soundfile.LibsndfileError) as error:
            part.unlink(missing_ok=True)
            msg = f"the sound of {machine} cannot be kept in {self.folder}: {error}"
            raise AudioError(msg) from error
        return Kept(file, digest)

    def _make_room(self, size: int) -> None:
        kept = sorted(self.folder.glob("*/*.flac"), key=lambda file: file.name)
        total = size + sum(file.stat().st_size for file in kept)
        while total > self.quota and kept:
            oldest = kept.pop(0)
            total -= oldest.stat().st_size
            oldest.unlink()
        if total > self.quota:
            msg = f"{size} bytes are more than the quota of {self.quota}"
            raise OSError(msg)
