"""A task and batches of noise: enough to look at a network's shapes, losses and gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from train.method.task import Batch, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn


def task(sections: int = 2, sizes: Sequence[int] = (5, 5), seconds: int = 2) -> Task:
    """Segments of so many seconds at 16 kHz; groups dealt out to the sections in turn."""
    names = tuple(f"set/machine/{number:02d}" for number in range(sections))
    groups = tuple(f"{names[number % sections]} {number}" for number in range(len(sizes)))
    samples = 16_000 * seconds
    return Task(samples, 128, 1 + samples // 512, 1024, 512, names, groups, tuple(sizes))


def batch(count: int, about: Task, seed: int = 0) -> Batch:
    """Log-mel, waveform, and soft targets that sum to one."""
    torch.manual_seed(seed)
    views = {
        "log_mel": 20.0 * torch.randn(count, about.mels, about.frames) - 40.0,
        "waveform": 0.1 * torch.randn(count, about.samples),
    }
    section, group = (torch.rand(count, len(names)) for names in (about.sections, about.groups))
    return Batch(views, section / section.sum(1, keepdim=True), group / group.sum(1, keepdim=True))


def size(*modules: nn.Module) -> int:
    """Parameters."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
