"""What every bundle goes through on its way out: thresholds, latency, memory, and the test that a device will make."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from edge_asd.bench import one_core, turns
from edge_asd.bundle import HeadCard, Manifest, Precision, Thresholds, open_bundle, write_bundle
from edge_asd.errors import BundleError
from edge_asd.score.backbone import Backbone
from edge_asd.score.calibration import alarm_threshold
from train.teach.run import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_asd.bundle import Golden, Normals
    from edge_asd.score.head import Head
    from edge_asd.signal.segment import Windows
    from edge_asd.signal.view import LogMel

TIMED = 20
"""segments by which a graph is timed"""
ON_DELAY = 3
GAMMA_QUANTILE = 0.9
"""the DCASE decision rule: one normal clip in ten lies above (methods.md §5.3)"""


@dataclass(frozen=True, slots=True)
class Fitted:
    """One machine's head, by one graph."""

    head: Head
    scores: NDArray[np.float64]
    """(N,) leave-one-out fused scores of its normal clips"""
    z: NDArray[np.float64]
    """(P, N) the same of its parts"""
    level_dbfs: tuple[float, float]


def head_card(fit: Fitted, windows: Windows) -> HeadCard:
    """What the manifest says of a head."""
    alarm = alarm_threshold(windows.clip / windows.sample_rate, ON_DELAY)
    return HeadCard(
        parts=tuple(part.spec for part in fit.head.parts),
        fusion=fit.head.fusion,
        thresholds=Thresholds(decision=decision_threshold(fit.scores), alarm=alarm, on_delay=ON_DELAY),
        clips=len(fit.scores),
        level_dbfs=fit.level_dbfs,
    )


def decision_threshold(scores: NDArray[np.float64]) -> float:
    """The 90 % point of a gamma fitted to training scores; of the scores themselves where none can be fitted."""
    floor = scores.min() - scores.std()  # fused scores may be negative, a gamma may not
    with np.errstate(all="ignore"):  # scores that are all but equal lead the search beyond any number
        try:
            shape, _, scale = stats.gamma.fit(scores - floor, floc=0)
        except (stats.FitError, ValueError):
            shape = scale = math.nan
    threshold = float(floor + stats.gamma.ppf(GAMMA_QUANTILE, shape, scale=scale))
    return threshold if math.isfinite(threshold) else float(np.quantile(scores, GAMMA_QUANTILE))


def timed(graphs: Mapping[Precision, bytes], windows: Windows, specs: Mapping[str, LogMel]) -> dict[str, float]:
    """Milliseconds that a segment takes by each graph, views included, on one core in turn."""
    segment = np.random.default_rng(0).normal(0.0, 0.05, windows.segment).astype(np.float32)
    stages: dict[str, Callable[[], object]] = {
        name: partial(Backbone(graph, specs), segment) for name, graph in graphs.items()
    }
    with one_core():
        return {f"{timing.stage}_ms": 1e3 * timing.seconds for timing in turns(stages, TIMED)}


def publish(
    out: Path,
    manifest: Manifest,
    graphs: Mapping[Precision, bytes],
    heads: Mapping[str, Head],
    golden: Mapping[str, Golden],
    card: str,
    normals: Mapping[str, Normals] | None = None,
) -> Manifest:
    """Write a bundle in its place once it has been opened as a device will, which also tells the memory that takes."""
    unproven = out.with_name(f".{out.name}.unproven")
    try:
        write_bundle(unproven, manifest, graphs, heads, golden, card, normals)
        for key in (bundle := open_bundle(unproven)).heads:
            bundle.scorer(key)
        measured = manifest.model_copy(update={"metrics": manifest.metrics | {"memory_mb": memory_mb(unproven)}})
        sealed = write_bundle(unproven, measured, graphs, heads, golden, card, normals)
        unproven.replace(out)
    finally:
        unproven.unlink(missing_ok=True)
    return sealed


RUNS = """
import pathlib, sys
from edge_asd.bundle import open_bundle
bundle = open_bundle(pathlib.Path(sys.argv[1]))
for key in bundle.heads:
    bundle.scorer(key)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
"""opens a bundle, scores its golden waveforms, says how many KiB that took at most"""


def memory_mb(bundle: Path) -> float:
    """Most memory that a process held which did nothing but open a bundle and score by each of its heads."""
    command = [sys.executable, "-c", RUNS, str(bundle.resolve())]
    ended = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    if ended.returncode:
        msg = f"{bundle.name} does not open in a process of its own: {ended.stderr.strip()[-2000:]}"
        raise BundleError(msg)
    return int(ended.stdout) * 1024 / 1e6
