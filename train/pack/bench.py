"""What is made fast here, against its alternative in the same run.

The exported graphs against the network they came from; an epoch of our loop against the same network in a plain loop
fed by torchaudio, and against itself without cached features.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torchaudio
from lightning_fabric import Fabric
from rich.progress import Progress

from edge_asd.bench import Timing, backbones, one_core, turns
from edge_asd.bundle import open_bundle
from edge_asd.score.backbone import view
from train.method.task import Batch
from train.teach.fit import begin, keep_memory, load_network, train_epoch
from train.teach.lesson import batches, learn_from
from train.teach.recipe import load_recipe
from train.teach.run import load_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from train.corpus.clip import Clip
    from train.teach.lesson import Lesson
    from train.teach.recipe import Recipe

OURS, PLAIN = "an epoch", "an epoch of a plain loop fed by torchaudio"


def bench(folder: Path, bundle: Path, rounds: int) -> list[Timing]:
    """A 2-s segment on one core, views included: ONNX Runtime int8 and fp32, torch eager fp32, in turn."""
    (network, _), manifest = load_network(load_run(folder)), open_bundle(bundle).manifest
    embedder: Any = network
    segment = (0.05 * np.random.default_rng(0).standard_normal(manifest.windows.segment)).astype(np.float32)

    def eager() -> None:
        with torch.inference_mode():
            embedder(*(torch.from_numpy(view(name, manifest.specs, segment[None])) for name in embedder.views))

    torch.set_num_threads(1)
    with one_core():
        stages = backbones(bundle, segment) | {"torch eager fp32, a segment": eager}
        return turns(stages, rounds, "torch eager fp32, a segment")


@dataclass(frozen=True, slots=True)
class Start:
    """A process that gets ready to score."""

    what: str
    seconds: float
    """median"""
    memory_bytes: int
    """most resident, median"""


SCORES = """
from edge_asd.bundle import BUILTIN, open_bundle
bundle = open_bundle(BUILTIN)
key = next(iter(bundle.heads))
bundle.scorer(key).score((bundle.golden[key].waveform / 32_768).astype("float32"))
"""
PEAK = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
STARTS = {"ours, to the first score of the built-in bundle": SCORES, "import torch, and nothing else": "import torch"}


def bench_start(rounds: int) -> list[Start]:
    """From nothing to a score, against the least that a daemon on torch would need, in turn."""
    taken: dict[str, list[tuple[float, int]]] = {what: [] for what in STARTS}
    for _ in range(rounds):
        for what, code in STARTS.items():
            taken[what].append(_start(code))
    return [Start(what, median(s for s, _ in found), int(median(m for _, m in found))) for what, found in taken.items()]


def _start(code: str) -> tuple[float, int]:
    """Seconds, and bytes resident at most, of a new interpreter; it asks itself, since wait4 counts its parent's."""
    began = time.perf_counter()
    told = subprocess.run([sys.executable, "-c", f"{code}\n{PEAK}"], capture_output=True, text=True, check=True).stdout
    return time.perf_counter() - began, int(told.split()[-1]) * 1024


def bench_epoch(name: str, clips: Sequence[Clip], rounds: int) -> list[Timing]:
    """An epoch of our loop and one of a plain loop, in turn; without cached features too where the recipe has them.

    Both see the same clips in the same order; neither holds clips out or changes them.
    """
    recipe, keep = load_recipe(name), dict[str, object](holdout=0.0)
    kept = _lesson(recipe, clips, keep)
    stages = {OURS: _ours(kept)}
    bare = _lesson(recipe, clips, keep | {"cache": False}) if kept.training.cache else kept
    if kept.training.cache:
        stages |= {"an epoch without cached features": _ours(bare)}
    keep_memory()
    return turns(stages | {PLAIN: _plain(bare)}, rounds, PLAIN)


def _lesson(recipe: Recipe, clips: Sequence[Clip], changes: dict[str, object]) -> Lesson:
    training = recipe.training.model_copy(update=changes) if recipe.training else None
    with Progress(disable=True) as progress:
        return learn_from(clips, (), recipe.model_copy(update={"training": training}), progress).plain


def _ours(lesson: Lesson) -> Callable[[], object]:
    fabric = Fabric(accelerator="auto", devices=1)
    fresh, optimizer = begin(lesson)
    lesson = replace(lesson, views=fresh.embedder.views)
    network, optimizer = fabric.setup(fresh, optimizer)
    network.mark_forward_method("loss")
    return lambda: train_epoch(fabric, network, optimizer, lesson, 0, Progress(disable=True))


def _plain(lesson: Lesson) -> Callable[[], object]:
    """As one writes it first: torchaudio's features, torch's default memory layout."""
    network, _ = begin(lesson)
    network = network.to(memory_format=torch.contiguous_format).train()
    optimizer, spec = torch.optim.Adam(network.parameters(), lesson.training.rate), lesson.recipe.front_end
    mel = torchaudio.transforms.MelSpectrogram(spec.sample_rate, spec.n_fft, hop_length=spec.hop, n_mels=spec.n_mels)
    decibel = torchaudio.transforms.AmplitudeToDB()
    segment, clips = lesson.recipe.windows.segment, [torch.from_numpy(np.asarray(clip)) for clip in lesson.clips]

    def epoch() -> None:
        rng = np.random.default_rng(0)
        for chosen in batches(lesson, rng):
            starts = [int(rng.integers(clips[clip].numel() - segment + 1)) for clip in chosen]
            waves = torch.stack([clips[c][s : s + segment] for c, s in zip(chosen, starts, strict=True)])
            views = {"log_mel": decibel(mel(waves)), "waveform": waves}
            section, group, condition, attribute = map(torch.from_numpy, lesson.labels[chosen].rows())
            shown = Batch(views, section, group, condition, attribute, torch.zeros(len(chosen), 0))
            loss, _ = network.loss(shown, 0.5)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch
