"""How long each stage takes on this machine: alternatives in turn, medians, ratios."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.bundle import open_bundle
from edge_asd.errors import BundleError
from edge_asd.score.backbone import view
from edge_asd.signal.statistic import statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Timing:
    """One stage."""

    stage: str
    seconds: float
    """median of the rounds"""
    ratio: float | None = None
    """median over rounds of this stage's time over the reference's, in the same round"""


def bench(path: Path, head: str | None, rounds: int = 30) -> tuple[list[Timing], float]:
    """Time a bundle, stage by stage, on one core.

    Returns:
        The stages, and the share of real time that scoring a whole clip takes.

    Raises:
        BundleError: it cannot be opened or is not what its digests say.
    """
    bundle = open_bundle(path)
    windows, specs = bundle.manifest.windows, bundle.manifest.specs
    views = bundle.backbone.views if bundle.backbone else ("log_mel",)
    listener = bundle.scorer(bundle.key(head))
    golden = (bundle.golden[bundle.key(head)].waveform / 32_768).astype(np.float32)
    clip = np.resize(golden, windows.clip)
    segment = clip[: windows.segment]
    stages: dict[str, Callable[[], object]] = {
        "front end, a segment": lambda: [view(name, specs, segment[None]) for name in views],
        "statistics, a clip": lambda: statistics(specs[""], clip),
    }
    with one_core():
        timings = turns(stages, rounds)
        timings += turns(backbones(path, golden[: windows.segment]), rounds, "backbone fp32, a segment")
        timings += turns({"whole clip": lambda: listener.score(clip)}, rounds)
    return timings, timings[-1].seconds / (windows.clip / windows.sample_rate)


def backbones(path: Path, segment: np.ndarray[tuple[int], np.dtype[np.float32]]) -> dict[str, Callable[[], object]]:
    """The bundle's graphs, int8 before fp32; none when it has no network."""
    found: dict[str, Callable[[], object]] = {}
    for precision in ("int8", "fp32"):
        try:
            backbone = open_bundle(path, "int8" if precision == "int8" else "fp32").backbone
        except BundleError:  # not every bundle carries the graph for diagnosis
            continue
        if backbone is not None:
            found[f"backbone {precision}, a segment"] = partial(backbone, segment)
    return found


def turns(
    stages: Mapping[str, Callable[[], object]],
    rounds: int,
    reference: str = "",
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timing]:
    """Time stages in turn, A B C A B C …, after one round that does not count; by a clock that tells seconds."""
    seconds: dict[str, list[float]] = {stage: [] for stage in stages}
    for count in range(rounds + 1):
        for stage, call in stages.items():
            began = clock()
            call()
            if count:
                seconds[stage].append(clock() - began)
    return [Timing(stage, median(took), _ratio(took, seconds.get(reference))) for stage, took in seconds.items()]


def _ratio(took: list[float], reference: list[float] | None) -> float | None:
    return median(a / b for a, b in zip(took, reference, strict=True)) if reference else None


@contextmanager
def one_core() -> Iterator[None]:
    """Stay on one of the cores we may use."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
