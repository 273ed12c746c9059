"""The training loop: crops, batches, epochs, checkpoints."""

from __future__ import annotations

import ctypes
import math
import time
from collections import Counter
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter

from edge_asd.errors import ConfigError
from edge_asd.signal.view import log_mel
from train.data import load
from train.grhd import Embedder, Grhd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from rich.progress import Progress
    from torch import Tensor

    from train.data import Clip
    from train.recipe import Recipe, Training
    from train.run import Run


SETTLING = 6
"""batches from which batch norm's statistics are taken"""
TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""parameters of mallopt(3)"""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned from: clips in memory, and their classes."""

    recipe: Recipe
    training: Training
    clips: list[NDArray[np.float32]]
    """each at least one segment long"""
    sections: NDArray[np.int64]
    groups: NDArray[np.int64]
    targets: NDArray[np.bool_]
    """whether a clip is of the target domain"""
    held: NDArray[np.bool_]
    """whether its recording is held out"""

    @property
    def group_sizes(self) -> list[int]:
        """Training clips in each attribute group."""
        return [int(n) for n in np.bincount(self.groups[~self.held], minlength=int(self.groups.max()) + 1)]

    @property
    def segments(self) -> int:
        """How many segments the training clips are long."""
        segment = self.recipe.windows.segment
        return sum(clip.size // segment for clip, held in zip(self.clips, self.held, strict=True) if not held)


def fit(run: Run, clips: Sequence[Clip], progress: Progress) -> None:
    """Train until the recipe's last epoch, from the last checkpoint if there is one.

    Randomness depends on seed and epoch alone, so that a resumed run ends where an unbroken one does.
    """
    training = run.recipe.training
    if training is None:
        return
    _keep_memory()
    lesson = learn_from(clips, run.recipe, training, progress)
    if (known := lesson.segments) < 2:
        msg = f"{', '.join(map(str, run.data))}: need at least two segments to train on, got {known}; record more"
        raise ConfigError(msg)
    fabric = Fabric(accelerator="auto", devices=1)
    torch.manual_seed(run.recipe.seed)
    network = Grhd(int(lesson.sections.max()) + 1, lesson.group_sizes, training.loss)
    # channels last: an update takes two thirds of the time on a CPU; bf16 ten times as long where it is emulated
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), training.rate)
    taught, optimizer = fabric.setup(network, optimizer)
    taught.mark_forward_method("loss")
    done = _restore(run, network, optimizer)
    run.forget(done)
    task = progress.add_task("epochs", total=training.epochs, completed=done)
    with SummaryWriter(str(run.folder)) as board:
        for epoch in range(done, training.epochs):
            began = time.monotonic()
            line = _epoch(fabric, taught, optimizer, lesson, epoch, progress)
            _settle(network, lesson, epoch)
            line |= _held_accuracy(network, lesson) | {"seconds": time.monotonic() - began}
            for name, value in line.items():
                board.add_scalar(name, value, epoch)
            run.log(epoch=epoch, **line)
            _save(run, network, optimizer, epoch + 1)
            said = ", ".join(
                f"{name} {line[name]:.3g}" for name in ("loss", "held_accuracy", "seconds") if name in line
            )
            progress.console.print(f"epoch {epoch + 1} of {training.epochs}: {said}")
            progress.update(task, advance=1)


def load_embedder(run: Run) -> Embedder:
    """The network of a finished run, ready for export.

    Raises:
        ConfigError: it is not trained to its last epoch.
    """
    training = run.recipe.training
    if training is None or not run.checkpoint.exists():
        msg = f"{run.folder} holds no trained network; go on with the same command and --out"
        raise ConfigError(msg)
    state = torch.load(run.checkpoint, weights_only=True, map_location="cpu")
    if state["epochs"] < training.epochs:
        msg = f"{run.folder} has {state['epochs']} of {training.epochs} epochs; go on with the same command and --out"
        raise ConfigError(msg)
    embedder = Embedder()
    prefix = "embedder."
    embedder.load_state_dict({k.removeprefix(prefix): v for k, v in state["network"].items() if k.startswith(prefix)})
    return embedder.eval()


def learn_from(clips: Sequence[Clip], recipe: Recipe, training: Training, progress: Progress) -> Lesson:
    """Load the normal training clips and number their classes."""
    audio = [load(clip, recipe.windows.sample_rate) for clip in progress.track(clips, description="loading clips")]
    return Lesson(
        recipe,
        training,
        [np.resize(samples, max(samples.size, recipe.windows.segment)) for samples in audio],
        _numbered([clip.key for clip in clips]),
        _numbered([_group(clip) for clip in clips]),
        np.array([clip.domain == "target" for clip in clips]),
        _held_out(clips, training.holdout, np.random.default_rng(recipe.seed)),
    )


def _group(clip: Clip) -> str:
    """One operating condition of one machine; where it is unknown, one domain of it (methods.md §1.2)."""
    return f"{clip.key} {clip.attribute or clip.domain}"


def _numbered(names: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _held_out(clips: Sequence[Clip], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Whole recordings, but never all of a group, nor one that leads further past the share than it was short."""
    clips_of: dict[str, list[int]] = {}
    for number, clip in enumerate(clips):
        clips_of.setdefault(f"{clip.key} {clip.recording}", []).append(number)
    left = Counter(_group(clip) for clip in clips)
    held = np.zeros(len(clips), np.bool_)
    for recording in rng.permutation(sorted(clips_of)):
        lost = Counter(_group(clips[number]) for number in clips_of[recording])
        missing = share * len(clips) - held.sum()
        nearer = len(clips_of[recording]) <= 2 * missing  # to the share, than without it
        if nearer and all(left[group] > count for group, count in lost.items()):
            left -= lost
            held[clips_of[recording]] = True
    return held


def _epoch(
    fabric: Fabric,
    network: Any,  # noqa: ANN401 - Fabric wraps it
    optimizer: Any,  # noqa: ANN401 - Fabric wraps it
    lesson: Lesson,
    epoch: int,
    progress: Progress,
) -> dict[str, float]:
    """One pass over the training clips; mean losses."""
    training, rng = lesson.training, np.random.default_rng([lesson.recipe.seed, epoch])
    batches, totals, rate = list(_batches(lesson, rng)), Counter[str](), 0.0
    network.train()
    task = progress.add_task(f"epoch {epoch + 1}", total=len(batches))
    for number, chosen in enumerate(batches):
        done = (epoch + number / len(batches)) / training.epochs
        rate = training.last_rate + (training.rate - training.last_rate) * (1 + math.cos(math.pi * done)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, parts = network.loss(*(view.to(fabric.device) for view in _batch(lesson, chosen, rng)), done)
        optimizer.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(network, optimizer, max_norm=training.clip_gradient)
        optimizer.step()
        totals.update(parts)
        progress.update(task, advance=1)
    progress.remove_task(task)
    return {name: total / len(batches) for name, total in totals.items()} | {"rate": rate}


def _batches(lesson: Lesson, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Clip numbers; a clip comes once for every segment it is long, targets in every batch."""
    taught = np.flatnonzero(~lesson.held)
    segment, size = lesson.recipe.windows.segment, lesson.training.batch
    order = rng.permutation(np.repeat(taught, [lesson.clips[clip].size // segment for clip in taught]))
    targets = taught[lesson.targets[taught]]
    for first in range(0, len(order), size):
        batch = order[first : first + size]
        short = lesson.training.targets - int(lesson.targets[batch].sum())
        extra = rng.choice(targets, max(0, short)) if targets.size else targets
        if len(batch) + len(extra) > 1:  # batch norm needs two
            yield np.concatenate([batch, extra])


def _batch(lesson: Lesson, chosen: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, ...]:
    """Views and soft targets of random segments: log-mel, waveform, section, group."""
    training, segment = lesson.training, lesson.recipe.windows.segment
    starts = [rng.integers(lesson.clips[clip].size - segment + 1) for clip in chosen]
    waves = np.stack([lesson.clips[c][s : s + segment] for c, s in zip(chosen, starts, strict=True)])  # (B, W)
    waves *= 10.0 ** (rng.uniform(-training.gain_db, training.gain_db, (len(waves), 1)) / 20.0).astype(np.float32)
    share = np.where(rng.random(len(waves)) < training.mixup, rng.random(len(waves)), 1.0).astype(np.float32)[:, None]
    waves = share * waves + (1.0 - share) * waves[::-1]
    mixed = torch.from_numpy(share)
    section = functional.one_hot(torch.from_numpy(lesson.sections[chosen]), int(lesson.sections.max()) + 1).float()
    group = functional.one_hot(torch.from_numpy(lesson.groups[chosen]), int(lesson.groups.max()) + 1).float()
    soft = [mixed * one_hot + (1.0 - mixed) * one_hot.flip(0) for one_hot in (section, group)]
    return (*_views(lesson, waves), *soft)


def _views(lesson: Lesson, waves: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """The device's own log-mel, and the waveform itself."""
    return torch.from_numpy(log_mel(lesson.recipe.front_end, waves)), torch.from_numpy(waves)


@torch.no_grad()
def _settle(network: Grhd, lesson: Lesson, epoch: int) -> None:
    """Take batch norm's statistics anew from plain segments.

    The running ones lag: for the first hundred steps a network that knows 79 % of its segments by the statistics of
    the batch knows 6 % by them (docs/lab.md). And they are of mixed sound, which a device never hears.
    """
    norms = [module for module in network.embedder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001 - the only name for both
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
    rng, device = np.random.default_rng([lesson.recipe.seed, epoch, 1]), next(network.parameters()).device
    plain = replace(lesson, training=lesson.training.model_copy(update={"mixup": 0.0}))
    network.train()
    for chosen in islice(_batches(plain, rng), SETTLING):
        network.embedder(*(view.to(device) for view in _batch(plain, chosen, rng)[:2]))
    for norm in norms:
        norm.momentum = 0.1


@torch.no_grad()
def _held_accuracy(network: Grhd, lesson: Lesson) -> dict[str, float]:
    """Share of held-out clips whose middle segment is put into the right group; nothing without any."""
    held = np.flatnonzero(lesson.held)
    if not held.size:
        return {}
    network.eval()
    size = lesson.training.batch
    batches = [held[first : first + size] for first in range(0, held.size, size)]
    right = sum(_accuracy(network, lesson, batch) * batch.size for batch in batches)
    return {"held_accuracy": right / held.size}


def _accuracy(network: Grhd, lesson: Lesson, clips: NDArray[np.int64]) -> float:
    segment = lesson.recipe.windows.segment
    middles = [(lesson.clips[clip].size - segment) // 2 for clip in clips]
    waves = np.stack([lesson.clips[c][m : m + segment] for c, m in zip(clips, middles, strict=True)])
    device = next(network.parameters()).device
    log_mels, waveforms = _views(lesson, waves)
    groups = torch.from_numpy(lesson.groups[clips]).to(device)
    return network.accuracy((log_mels.to(device), waveforms.to(device)), groups)


def _keep_memory() -> None:
    """Stop glibc from giving large blocks back after every layer: a quarter of a step goes into page faults."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def _restore(run: Run, network: Grhd, optimizer: Any) -> int:  # noqa: ANN401 - Fabric's wrapper
    """Epochs done so far."""
    if not run.checkpoint.exists():
        return 0
    state = torch.load(run.checkpoint, weights_only=True, map_location="cpu")
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epochs"])


def _save(run: Run, network: Grhd, optimizer: Any, epochs: int) -> None:  # noqa: ANN401 - Fabric's wrapper
    """Whole or not at all."""
    partial = run.checkpoint.with_suffix(".partial")
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "epochs": epochs}
    torch.save(state, partial)
    partial.replace(run.checkpoint)
