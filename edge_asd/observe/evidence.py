"""Sound that is kept for people to listen to; nothing, unless the settings say so, since a microphone hears speech."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from edge_asd.errors import AudioError
from edge_asd.observe.board import free_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_asd.signal.segment import Block

LONGEST_S = 60.0
"""that can be asked for at once"""
FOLDER = "clips"
"""below the state of the daemon"""
SCHEMA = "edge_asd.clip/1"


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

    def between(self, start: int, end: int) -> tuple[int, NDArray[np.float32]]:
        """Samples of [start, end), or what is left of them, and the index of the first."""
        if not self._blocks:
            return end, np.zeros(0, np.float32)
        begun = self._blocks[0].start
        first = max(start, begun)
        return first, np.concatenate([block.samples for block in self._blocks])[first - begun : max(end, first) - begun]


@dataclass(frozen=True, slots=True)
class Kept:
    """A recording on disk, beside it what is known of it."""

    file: Path
    sha256: str
    evicted: int
    """older recordings that made room"""
    total: int
    """bytes that all of them take now"""


@dataclass(frozen=True, slots=True)
class Archive:
    """Recordings as FLAC, each with a JSON file of its name; the oldest go when their space is used up."""

    folder: Path
    quota: int
    """bytes, of all files together"""
    floor: int = 0
    """bytes that others shall still find free on the disk"""
    free: Callable[[Path], int | None] = free_bytes

    def keep(
        self,
        machine: str,
        samples: NDArray[np.float32],
        rate: int,
        at: datetime,
        about: Mapping[str, Any] | None = None,
    ) -> Kept:
        """Write (n,) samples whole and what is known ``about`` them, or nothing; room is made first.

        Raises:
            AudioError: it is larger than the quota, the disk has no room to spare, or fails.
        """
        file = self.folder / machine / f"{at:%Y%m%dT%H%M%S.%f}Z.flac"
        try:
            sound = _flac(samples, rate)
            digest = hashlib.sha256(sound).hexdigest()
            said = {"schema": SCHEMA, "machine": machine, "seconds": samples.size / rate, "sample_rate_hz": rate}
            sidecar = (json.dumps(said | {"sha256": digest} | dict(about or {}), indent=1) + "\n").encode()
            evicted, total = self._make_room(len(sound) + len(sidecar))
            _put({file.with_suffix(".json"): sidecar, file: sound})
        except (OSError, soundfile.LibsndfileError) as error:
            msg = f"the sound of {machine} cannot be kept in {self.folder}: {error}"
            raise AudioError(msg) from error
        return Kept(file, digest, evicted, total)

    def used(self) -> int:
        """Bytes of all recordings."""
        return sum(_size(file) for files in recordings(self.folder).values() for file in files)

    def _make_room(self, size: int) -> tuple[int, int]:
        """Recordings that went, and bytes in use with ``size`` more; OSError, before any goes, where that is no use."""
        kept, going = recordings(self.folder), 0
        sizes, free = [sum(map(_size, files)) for files in kept.values()], self.free(self.folder)
        spare = math.inf if free is None else free - self.floor
        if size > self.quota:
            msg = f"{size} bytes are more than the quota of {self.quota}"
            raise OSError(msg)
        if size > spare + sum(sizes):
            msg = f"of {free} bytes free on the disk {self.floor} shall stay so; make room, or lower evidence.free_mb"
            raise OSError(msg)
        while sum(sizes[going:]) + size > self.quota or size > spare + sum(sizes[:going]):
            going += 1
        for file in (file for name in list(kept)[:going] for file in kept[name]):
            file.unlink(missing_ok=True)
        return going, sum(sizes[going:]) + size


def recordings(folder: Path) -> dict[str, list[Path]]:
    """All files by recording, ``MACHINE/TIME``, the oldest first; what was never finished is among them."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*/*Z.*"), key=lambda file: (file.name, file.parent.name)):
        found.setdefault(f"{file.parent.name}/{file.name.rpartition('Z.')[0]}Z", []).append(file)
    return found


def _flac(samples: NDArray[np.float32], rate: int) -> bytes:
    sound = io.BytesIO()
    soundfile.write(sound, np.clip(samples, -1, 1), rate, "PCM_16", format="FLAC")
    return sound.getvalue()


def _put(contents: Mapping[Path, bytes]) -> None:
    """All of them whole, or none."""
    parts = {file: file.with_name(file.name + ".part") for file in contents}
    try:
        for file, part in parts.items():
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(contents[file])
        for file, part in parts.items():
            part.replace(file)
    except OSError:
        for file in (*parts, *parts.values()):
            file.unlink(missing_ok=True)
        raise


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # somebody deleted it just now
        return 0
