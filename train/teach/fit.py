"""The training loop: epochs, checkpoints, resumption. What a network is shown is in :mod:`train.teach.lesson`."""

from __future__ import annotations

import ctypes
import io
import math
import os
import time
from collections import Counter
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from edge_asd.errors import ConfigError
from train.file import write_whole
from train.method import catalogue
from train.method.task import Batch, Task
from train.teach.augmentation import IMAGE
from train.teach.lesson import batch, batches, learn_from, middles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from rich.progress import Progress
    from torch import Tensor

    from train.corpus.clip import Clip
    from train.teach.lesson import Lesson
    from train.teach.run import Run


SETTLING = 6
"""batches from which batch norm's statistics are taken"""
TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""parameters of mallopt(3)"""


def fit(run: Run, clips: Sequence[Clip], outliers: Sequence[Clip], progress: Progress) -> None:
    """Train until the recipe's last epoch, from the last checkpoint if there is one.

    Randomness depends on seed and epoch alone, so that a resumed run ends where an unbroken one does.

    Raises:
        ConfigError: there is too little to train on, or the loss is no number any more; what was saved before stays.
    """
    training = run.recipe.training
    if training is None:
        return
    keep_memory()
    lesson = learn_from(clips, outliers, run.recipe, progress)
    if (known := int(lesson.crops[lesson.taught].sum())) < 2:
        msg = f"{', '.join(map(str, run.data))}: need at least two segments to train on, got {known}; record more"
        raise ConfigError(msg)
    fabric = Fabric(accelerator="auto", devices=1)
    network, optimizer = begin(lesson)
    lesson = replace(lesson, views=network.embedder.views)
    taught, optimizer = fabric.setup(network, optimizer)
    taught.mark_forward_method("loss")
    done = _restore(run, network, optimizer)
    run.forget(done)
    task = progress.add_task("epochs", total=training.epochs, completed=done)
    with SummaryWriter(str(run.folder)) as board:
        for epoch in range(done, training.epochs):
            began = time.monotonic()
            line = train_epoch(fabric, taught, optimizer, lesson, epoch, progress)
            _settle(network, lesson, epoch)
            line |= _held(network, lesson) | {"seconds": time.monotonic() - began, "memory_mb": _memory()}
            for name, value in line.items():
                board.add_scalar(name, value, epoch)
            run.log(epoch=epoch, **line)
            _save(run, network, optimizer, epoch + 1, lesson.task)
            said = ", ".join(
                f"{n} {line[n]:.3g}" for n in ("loss", "held_loss", "held_accuracy", "seconds") if n in line
            )
            progress.console.print(f"epoch {epoch + 1} of {training.epochs}: {said}")
            progress.update(task, advance=1)


def begin(lesson: Lesson) -> tuple[Any, torch.optim.Optimizer]:
    """A fresh network and its optimiser.

    Raises:
        ConfigError: the recipe wants cached log-mels, and the method looks at the waveform too; or it hides parts of
            log-mels, and the method looks at none.
    """
    recipe = lesson.recipe
    torch.manual_seed(recipe.seed)
    network: Any = catalogue.build(recipe.method, lesson.task, recipe.settings)
    if lesson.training.cache and (others := set(network.embedder.views) - {"log_mel"}):
        msg = f"training.cache keeps log-mels, and {recipe.method} looks at {', '.join(sorted(others))} too; "
        msg += "set it to false"
        raise ConfigError(msg)
    unseen = sorted(set(lesson.training.augmentations) & set(IMAGE))
    if unseen and "log_mel" not in network.embedder.views:
        msg = f"training.augmentations {', '.join(unseen)} hide parts of a log-mel, and {recipe.method} looks at none; "
        msg += "leave them out"
        raise ConfigError(msg)
    # channels last: an update takes two thirds of the time on a CPU; bf16 one and a half times as long
    network.to(memory_format=torch.channels_last)
    wanted = lesson.training
    kind = {"adam": torch.optim.Adam, "adamax": torch.optim.Adamax}[wanted.optimizer]
    return network, kind(network.parameters(), wanted.rate, eps=wanted.epsilon, weight_decay=wanted.decay)


def load_network(run: Run) -> tuple[nn.Module, Task]:
    """The embedder of a finished run, ready for export, and what it was built for.

    Raises:
        ConfigError: it is not trained to its last epoch.
    """
    network, task = load_method(run)
    embedder: nn.Module = network.embedder.eval()
    return embedder, task


def look(embedder: Any, views: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:  # noqa: ANN401 - a Module with views and outputs
    """Views of one segment by name, each (1, …) -> outputs by name, as a device has them of the graph."""
    with torch.inference_mode():
        given = embedder(*(torch.from_numpy(views[name]) for name in embedder.views))
    found = given if isinstance(given, tuple) else (given,)
    return {name: output[0].numpy() for name, output in zip(embedder.outputs, found, strict=True)}


def load_method(run: Run) -> tuple[Any, Task]:
    """All of the network of a finished run, a Method that is a Module, and what it was built for.

    Raises:
        ConfigError: it is not trained to its last epoch.
    """
    recipe = run.recipe
    if not catalogue.trained(recipe.method) and recipe.method != catalogue.NETWORKLESS:
        task = recipe.task()  # what is not learned knows no classes
        return catalogue.build(recipe.method, task, recipe.settings), task
    if recipe.training is None or not run.checkpoint.exists():
        msg = f"{run.folder} holds no trained network; go on with the same command and --out"
        raise ConfigError(msg)
    state = torch.load(run.checkpoint, weights_only=True, map_location="cpu")
    if state["epochs"] < recipe.training.epochs:
        msg = f"{run.folder} has {state['epochs']} of {recipe.training.epochs} epochs; go on with the same command"
        raise ConfigError(msg)
    task = Task.restored(state["task"])
    network: Any = catalogue.build(recipe.method, task, recipe.settings)
    network.load_state_dict(state["network"])
    return network, task


def train_epoch(
    fabric: Fabric,
    network: Any,  # noqa: ANN401 - Fabric wraps it
    optimizer: Any,  # noqa: ANN401 - Fabric wraps it
    lesson: Lesson,
    epoch: int,
    progress: Progress,
) -> dict[str, float]:
    """One pass over the training clips; mean losses."""
    training, rng = lesson.training, np.random.default_rng([lesson.recipe.seed, epoch])
    torch.manual_seed(int(np.random.default_rng([lesson.recipe.seed, epoch, 2]).integers(2**62)))
    order, totals, rate = list(batches(lesson, rng)), Counter[str](), 0.0
    network.train()
    task = progress.add_task(f"epoch {epoch + 1}", total=len(order))
    for number, chosen in enumerate(order):
        done = (epoch + number / len(order)) / training.epochs
        rate = training.last_rate + (training.rate - training.last_rate) * (1 + math.cos(math.pi * done)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, parts = network.loss(_placed(batch(lesson, chosen, rng), fabric.device), done)
        if not torch.isfinite(loss):
            msg = f"epoch {epoch + 1}: the loss is {float(loss.detach())}; train with a lower training.rate"
            raise ConfigError(msg)
        optimizer.zero_grad()
        fabric.backward(loss)
        if training.clip_gradient:
            fabric.clip_gradients(network, optimizer, max_norm=training.clip_gradient)
        optimizer.step()
        totals.update(_numbers(parts))
        progress.update(task, advance=1)
    progress.remove_task(task)
    return {name: total / len(order) for name, total in totals.items()} | {"rate": rate}


def _numbers(parts: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in parts.items()}


def _placed(shown: Batch, device: torch.device) -> Batch:
    views = {name: view.to(device) for name, view in shown.views.items()}
    labels = (shown.section, shown.group, shown.condition, shown.attributes, shown.augmentation)
    return Batch(views, *(label.to(device) for label in labels))


@torch.no_grad()
def _settle(network: Any, lesson: Lesson, epoch: int) -> None:  # noqa: ANN401 - a Method that is a Module
    """Take batch norm's statistics anew from plain segments.

    The running ones lag: for the first hundred steps a network that knows 79 % of its segments by the statistics of
    the batch knows 6 % by them (docs/lab.md). And they are of mixed sound, which a device never hears.
    """
    norms = [module for module in network.embedder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001 - the only name for both
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
    rng, device = np.random.default_rng([lesson.recipe.seed, epoch, 1]), next(network.parameters()).device
    network.train()
    for chosen in islice(batches(lesson.plain, rng), SETTLING if norms else 0):
        views = _placed(batch(lesson.plain, chosen, rng), device).views
        network.embedder(*(views[name] for name in network.embedder.views))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum


@torch.no_grad()
def _held(network: Any, lesson: Lesson) -> dict[str, float]:  # noqa: ANN401 - a Method that is a Module
    """Losses of the middle segments of held-out clips, at the end of training; nothing without any."""
    held = np.flatnonzero(lesson.held)
    if not held.size:
        return {}
    network.eval()
    size, totals, device = lesson.training.batch, Counter[str](), next(network.parameters()).device
    for chosen in (held[first : first + size] for first in range(0, held.size, size)):
        _, parts = network.loss(_placed(middles(lesson, chosen), device), 1.0)
        totals.update({f"held_{name}": value * chosen.size for name, value in _numbers(parts).items()})
    return {name: total / held.size for name, total in totals.items()}


def _memory() -> float:
    """Resident megabytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def keep_memory() -> None:
    """Stop glibc from giving large blocks back after every layer: a quarter of a step goes into page faults."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def _restore(run: Run, network: nn.Module, optimizer: Any) -> int:  # noqa: ANN401 - Fabric's wrapper
    """Epochs done so far."""
    if not run.checkpoint.exists():
        return 0
    state = torch.load(run.checkpoint, weights_only=True, map_location="cpu")
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epochs"])


def _save(run: Run, network: nn.Module, optimizer: Any, epochs: int, task: Task) -> None:  # noqa: ANN401 - same
    """Whole or not at all: where a disk is full, the checkpoint before stays."""
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
    content = io.BytesIO()
    torch.save(state | {"epochs": epochs, "task": asdict(task)}, content)
    write_whole(run.checkpoint, content.getvalue())
