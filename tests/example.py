"""A machine that is nothing but noise, and a bundle that knows it: enough for everything but a network."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_asd.archive import store
from edge_asd.bundle import MANIFEST, Golden, HeadCard, Manifest, Thresholds, golden_scores, write_bundle
from edge_asd.score.calibration import alarm_threshold
from edge_asd.score.head import fit_head
from edge_asd.score.listener import Listener, evidence
from edge_asd.score.neighbour import LocalDensity
from edge_asd.score.part import EMBEDDING, STATISTICS_PARTS, Normal, PartSpec
from edge_asd.signal.segment import Windows
from edge_asd.signal.view import LogMel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_asd.score.detector import Backend
    from edge_asd.score.head import Head
    from edge_asd.score.listener import Embed

SECOND = Windows(sample_rate=16_000, segment=4_000, clip=16_000, segments=3)
"""clips of one second"""
COARSE = LogMel(n_fft=256, hop=128, n_mels=12)
NETWORK_PART = PartSpec("network", EMBEDDING, "nearest")
NETWORK_PARTS: Mapping[PartSpec, Backend] = {NETWORK_PART: LocalDensity()}
"""as most recipes have it"""
MACHINE = "toy/noise/00"
CLIPS = 20


def front_end(windows: Windows) -> LogMel:
    """The coarse one, at their rate."""
    return replace(COARSE, sample_rate=windows.sample_rate, f_max=windows.sample_rate / 2)


def noise(seed: int, samples: int, level: float = 0.05) -> NDArray[np.float32]:
    """White noise whose level wavers by a decibel from second to second."""
    rng = np.random.default_rng(seed)
    waver = np.repeat(10 ** (rng.standard_normal(-(-samples // 16_000)) / 20), 16_000)[:samples]
    return (level * waver * rng.standard_normal(samples)).astype(np.float32)


def embed(segment: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """A very small network: (S,) -> (3,)."""
    return {"embedding": np.array([segment.std(), np.abs(segment).max(), segment[0] + 0.1], np.float32)}


def head(windows: Windows, parts: Mapping[PartSpec, Backend] = STATISTICS_PARTS, network: Embed | None = None) -> Head:
    """Fitted to noise."""
    clips = [noise(seed, windows.clip) for seed in range(CLIPS)]
    return fit_head(parts, [Normal(evidence(windows, front_end(windows), network, clip)) for clip in clips])[0]


def manifest(windows: Windows = SECOND) -> Manifest:
    """Says of the noise what there is to say."""
    alarm = alarm_threshold(windows.clip / windows.sample_rate, on_delay=3)
    card = HeadCard(
        parts=tuple(STATISTICS_PARTS),
        thresholds=Thresholds(decision=1.0, alarm=alarm),
        clips=CLIPS,
        level_dbfs=(-28, -24),
    )
    return Manifest(
        name="toy",
        version="1.2.3",
        created="2026-01-01",
        method="statistics",
        licence="CC0-1.0",
        windows=windows,
        front_end=front_end(windows),
        backbone=False,
        heads={MACHINE: card},
    )


def bundle(path: Path, windows: Windows = SECOND) -> Path:
    """Written to ``path``."""
    fitted, described = head(windows), manifest(windows)
    waveform = (noise(99, windows.clip) * 32_768).astype(np.int16)
    listener = Listener(windows, front_end(windows), fitted, described.heads[MACHINE].thresholds.alarm, None)
    golden = Golden(waveform, golden_scores(listener, waveform))
    write_bundle(path, described, {}, {MACHINE: fitted}, {MACHINE: golden}, "# Toy\n")
    return path


def contents(path: Path) -> dict[str, bytes]:
    """Of a bundle, by file."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def resealed(path: Path, files: dict[str, bytes], change: Callable[[Any], object] = lambda _: None) -> Path:
    """Stored with a manifest that was changed, and knows the files as they are."""
    described = json.loads(files[MANIFEST])
    described["files"] = {n: hashlib.sha256(content).hexdigest() for n, content in files.items() if n != MANIFEST}
    change(described)
    store(path, files | {MANIFEST: json.dumps(described).encode()})
    return path
