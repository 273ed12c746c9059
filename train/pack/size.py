"""What a network of each size costs a device, untrained: time and memory are those of its shape, not of its weights.

A bundle is made of each as an export would, with a head for noise, and set against the same network in torch, float32,
in the same run. Time is that of the processor, so that what else a computer does counts little.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edge_asd.bench import one_core, turns
from edge_asd.bundle import Golden, Manifest, golden_scores, open_bundle
from edge_asd.errors import BundleError
from edge_asd.score.backbone import Backbone, view
from edge_asd.score.head import Fusion, calibrated, fit_parts
from edge_asd.score.listener import Listener, evidence
from edge_asd.score.part import STATISTICS_PARTS, Normal, PartSpec
from train.method import catalogue
from train.method.backend import backend
from train.pack.graph import macs, quantised, to_onnx
from train.pack.publish import Fitted, head_card, memory_mb, publish
from train.teach.fit import look
from train.teach.recipe import load_recipe
from train.teach.run import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_asd.score.listener import Embed
    from train.teach.recipe import Recipe

SIZES = ("subcluster-house_tiny", "subcluster-house_small", "subcluster-house_base")
CLIPS = 60
"""in the bank: ten minutes"""
HEAD = "noise/noise/00"
CALIBRATION = 4
"""segments that ranges are taken from"""
GOLDEN_S = 2


@dataclass(frozen=True, slots=True)
class Against:
    """A cost, and the same with torch."""

    ours: float
    torch: float

    @property
    def ratio(self) -> float:
        """Below 1 where ours is less."""
        return self.ours / self.torch


@dataclass(frozen=True, slots=True)
class Size:
    """What a network of one size costs, int8 on one core."""

    recipe: str
    parameters: int
    macs: int
    """multiplications and additions of a segment"""
    views_ms: float
    """of a segment, that the network looks at"""
    network_ms: Against
    """of a segment, its views not counted"""
    clip_ms: Against
    """the whole score: statistics, views, network, head"""
    memory_mb: Against
    """most resident of a process that scores; with torch, of one that holds the network and nothing else of ours"""


def sizes(names: Sequence[str], folder: Path, rounds: int) -> Iterator[Size]:
    """Build each and measure it, one by one; the bundles stay in the folder.

    Raises:
        ConfigError: there is no such recipe.
        BundleError: one cannot be built or run.
    """
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        yield _measured(load_recipe(name), folder, rounds)


def _measured(recipe: Recipe, folder: Path, rounds: int) -> Size:
    embedder, full, path = untrained(recipe, folder / f"{recipe.name}.asd")
    bundle = open_bundle(path)
    listener, clip = bundle.listener(HEAD), _noise(CLIPS, recipe.windows.clip)
    if bundle.backbone is None:
        msg = f"{path} holds no network"
        raise BundleError(msg)
    segment = clip[: recipe.windows.segment]
    views, plain = bundle.backbone.seen(segment), replace(listener, embed=_by_torch(embedder, recipe))
    stages: dict[str, Callable[[], object]] = {
        "views": lambda: bundle.backbone and bundle.backbone.seen(segment),
        "network": lambda: bundle.backbone and bundle.backbone.look(views),
        "torch network": lambda: look(embedder, views),
        "clip": lambda: listener.score(clip),
        "torch clip": lambda: plain.score(clip),
    }
    with one_core():
        took = {timing.stage: 1e3 * timing.seconds for timing in turns(stages, rounds, clock=time.process_time)}
    return Size(
        recipe.name,
        sum(weight.numel() for weight in embedder.parameters()),
        macs(full),
        took["views"],
        Against(took["network"], took["torch network"]),
        Against(took["clip"], took["torch clip"]),
        Against(memory_mb(path), _torch_mb(embedder, views, folder)),
    )


def untrained(recipe: Recipe, path: Path) -> tuple[Any, bytes, Path]:
    """A bundle of fresh weights, all layers that may be int8 being so; the network and its graph in float beside it."""
    task = recipe.task(sections=(HEAD,), groups=(f"{HEAD} a", f"{HEAD} b"), sizes=(CLIPS // 2, CLIPS // 2))
    torch.manual_seed(recipe.seed)
    network: Any = catalogue.build(recipe.method, task, recipe.settings)
    embedder = network.embedder.eval()
    full = to_onnx(embedder, task)
    heard = (_noise(seed, recipe.windows.segment)[None] for seed in range(CALIBRATION))
    shown = ({name: view(name, recipe.specs, segment) for name in embedder.views} for segment in heard)
    graph = quantised(full, shown)
    fit = _head(recipe, Backbone(graph, recipe.specs))
    _publish(recipe, path, graph, fit)
    return embedder, full, path


def _head(recipe: Recipe, embed: Embed) -> Fitted:
    clips = [evidence(recipe.windows, recipe.front_end, embed, _noise(n, recipe.windows.clip)) for n in range(CLIPS)]
    wishes = [part for part in recipe.parts if recipe.fusion.weights.get(part.name, 1.0)]
    learners = {part: backend(part.backend) for part in wishes}
    own = {PartSpec(part.name, part.feature, learner.detector): learner for part, learner in learners.items()}
    fusion = Fusion()
    parts, z = fit_parts({**STATISTICS_PARTS, **own}, [Normal(clip) for clip in clips], fusion)
    levels = [clip.statistics.level for clip in clips]
    return Fitted(*calibrated(parts, z, fusion), z, (min(levels), max(levels)))


def _publish(recipe: Recipe, path: Path, graph: bytes, fit: Fitted) -> None:
    waveform = np.round(32_767 * _noise(CLIPS, GOLDEN_S * recipe.windows.sample_rate)).astype(np.int16)
    listener = Listener(recipe.windows, recipe.front_end, fit.head, 1.0, Backbone(graph, recipe.specs))
    manifest = Manifest(
        name=path.stem,
        version="0",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        method=recipe.name,
        licence="none: it is untrained, to be timed",
        windows=recipe.windows,
        front_end=recipe.front_end,
        front_ends=recipe.front_ends,
        backbone=True,
        heads={HEAD: head_card(fit, recipe.windows)},
    )
    golden = Golden(waveform, golden_scores(listener, waveform))
    publish(path, manifest, {"int8": graph}, {HEAD: fit.head}, {HEAD: golden}, f"# {path.stem}\n\nUntrained.\n")


def _noise(seed: int, samples: int) -> NDArray[np.float32]:
    return (0.05 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


# In torch -------------------------------------------------------------------------------------------------------------


def _by_torch(network: Any, recipe: Recipe) -> Embed:  # noqa: ANN401 - a Module with views and outputs
    return lambda segment: look(network, {name: view(name, recipe.specs, segment[None]) for name in network.views})


RUNS = """
import sys
import torch
torch.set_num_threads(1)
network = torch.load(sys.argv[1], weights_only=False)
with torch.inference_mode():
    network(*torch.load(sys.argv[2]))
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
"""opens a network, lets it look at a segment, says how many KiB that took at most"""


def _torch_mb(network: Any, views: Mapping[str, NDArray[np.float32]], folder: Path) -> float:  # noqa: ANN401 - same
    weights, shown = folder / "network.pt", folder / "views.pt"
    torch.save(network, weights)
    torch.save([torch.from_numpy(views[name]) for name in network.views], shown)
    command = [sys.executable, "-c", RUNS, str(weights.resolve()), str(shown.resolve())]
    try:
        ended = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    finally:
        weights.unlink()
        shown.unlink()
    if ended.returncode:
        msg = f"torch does not run the network in a process of its own: {ended.stderr.strip()[-2000:]}"
        raise BundleError(msg)
    return int(ended.stdout) * 1024 / 1e6
