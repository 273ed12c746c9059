"""Log-mels that are computed once and kept on disk, for methods that look at nothing else.

A cached clip is cut on a fixed grid, half a segment apart, so that what is kept is exactly what a device would see of
each segment. One file for each clip and front end; delete the folder at will.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.signal.view import fingerprint, log_mel
from train.corpus.clip import load
from train.file import write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_asd.signal.segment import Windows
    from edge_asd.signal.view import LogMel
    from train.corpus.clip import Clip


def folder() -> Path:
    """Where features are kept: ``EDGE_ASD_CACHE``, else the user's cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("EDGE_ASD_CACHE") or home / "edge_asd") / "features"


def cached_log_mels(clip: Clip, windows: Windows, spec: LogMel) -> NDArray[np.float32]:
    """(K, M, T) of the clip's segments on the grid, memory-mapped; computed when they are not there yet.

    Raises:
        AudioError: the recording cannot be read.
        OSError: the cache cannot be written.
    """
    content = hashlib.sha256(clip.path.read_bytes()).hexdigest()
    name = hashlib.sha256(f"{fingerprint(spec)} {windows.segment} {content}".encode()).hexdigest()
    path = folder() / name[:2] / f"{name}.npy"
    if not path.exists():
        images = io.BytesIO()
        np.save(images, grid_log_mels(load(clip, windows.sample_rate), windows, spec))
        write_whole(path, images.getvalue())
    mapped: NDArray[np.float32] = np.load(path, mmap_mode="r")
    return mapped


def grid_log_mels(samples: NDArray[np.float32], windows: Windows, spec: LogMel) -> NDArray[np.float32]:
    """(K, M, T) of a clip (L,); one shorter than a segment is tiled up to one."""
    whole = np.resize(samples, max(samples.size, windows.segment))
    starts = range(0, whole.size - windows.segment + 1, windows.segment // 2)
    return np.concatenate([log_mel(spec, whole[None, s : s + windows.segment]) for s in starts])
