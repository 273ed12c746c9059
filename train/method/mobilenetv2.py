"""MobileNetV2, the classifying DCASE baseline of 2022: a sound that is not taken for its own machine is strange.

[D] Dohi et al., Description and Discussion on DCASE 2022 Challenge Task 2, DCASE Workshop 2022, and its code, as
methods.md §5.4 reports them; the network is Sandler et al., MobileNetV2, CVPR 2018, half as wide. It sees windows of 64
frames, one every 8, as images of three equal channels, and tells machine identities (sections) apart:

    log-mel ─► windows (R, 3, 64, M) ─► MobileNetV2 ─► mean over the image ─► (R, 1280) ─► sections

    L = CE of each window,   y = mean_w [ln(1 − p_w) − ln p_w],   p_w the softmax of the own section

y is a back end's; the graph gives the logits of each window, and the mean of the 1280 over windows as ``embedding`` for
whoever wants to measure distances instead.

Where we depart from the baseline:

* A segment shorter than a window (2 s are 63 frames) is one window, its last frame repeated.
* Batch norm forgets ten times as fast (0.01 a step): few clips are few steps, and at Keras's 0.001 a fifth of the
  statistics would still be the initial ones after an ``edge`` training.
* Images are padded alike on all sides; Keras pads below and on the right where the stride is two.
* In training ``settings.windows`` windows of a segment are drawn at random; the baseline takes each in turn.
* One section is refused: there is nothing to tell apart (2023 and later, one machine).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from train.method.task import Table, refuse_one_section

if TYPE_CHECKING:
    from train.method.task import Batch, Task

STAGES = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
"""inverted residuals (Sandler et al., Table 2): expansion, channels at full width, blocks, stride of the first"""
FIRST, LAST = 32, 1280
"""channels of the first convolution at full width, and of the last, which is never made narrower"""


class Settings(Table):
    """How a segment is seen."""

    window: int = Field(default=64, ge=32)
    """frames of an image; the network halves it five times"""
    hop: int = Field(default=8, ge=1)
    """frames from one to the next"""
    windows: int = Field(default=0, ge=0)
    """of a segment, drawn for each step of the training; 0: all"""


# The network ----------------------------------------------------------------------------------------------------------


def conv_block(inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; residual where the shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        expand = (conv_block(inputs, wide), nn.ReLU6()) if expansion > 1 else ()
        filtered = conv_block(wide, wide, 3, stride=stride, groups=wide)
        self.layers = nn.Sequential(*expand, filtered, nn.ReLU6(), conv_block(wide, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, V) -> (B, outputs, H', V')."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def halved(channels: int) -> int:
    """Half as many, to the nearest multiple of eight."""
    return max(8, (channels // 2 + 4) // 8 * 8)


def mobilenetv2() -> nn.Sequential:
    """(B, 3, H, V) -> (B, 1280, ⌈H / 32⌉, ⌈V / 32⌉)."""
    inputs = halved(FIRST)
    layers: list[nn.Module] = [conv_block(3, inputs, 3, stride=2), nn.ReLU6()]
    for expansion, channels, blocks, stride in STAGES:
        for block in range(blocks):
            layers.append(InvertedResidual(inputs, halved(channels), stride if block == 0 else 1, expansion))
            inputs = halved(channels)
    return nn.Sequential(*layers, conv_block(inputs, LAST), nn.ReLU6())


# The method -----------------------------------------------------------------------------------------------------------


class Embedder(nn.Module):
    """From the log-mel to each window's logits."""

    views = ("log_mel",)
    outputs = ("section_logit", "embedding")

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = mobilenetv2()
        self.classes = nn.Linear(LAST, len(task.sections))

    def windows(self, log_mel: Tensor) -> Tensor:
        """(B, M, T) -> (B, R, window, M), R = 1 + (T − window) // hop, at least 1."""
        length, step = self.settings.window, self.settings.hop
        short = max(length - log_mel.shape[2], 0)
        whole = functional.pad(log_mel, (0, short), mode="replicate")
        starts = torch.arange(0, whole.shape[2] - length + 1, step, device=log_mel.device)
        inside = torch.arange(length, device=log_mel.device)
        return whole[:, :, starts[:, None] + inside].permute(0, 2, 3, 1)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, R, window, M) -> (B, R, 1280)."""
        grey = images.flatten(0, 1)[:, None].expand(-1, 3, -1, -1)
        each: Tensor = self.backbone(grey).mean((2, 3))
        return each.reshape(*images.shape[:2], -1)

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """(B, M, T) dB -> logits (B, R, sections) and the mean of what they are read from, (B, 1280)."""
        pooled = self.pooled(self.windows(log_mel))
        return self.classes(pooled), pooled.mean(1)


class MobileNetV2(nn.Module):
    """The training graph."""

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.drawn = settings.windows
        self.embedder = Embedder(task, settings)

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG002 - one signature
        """Cross-entropy of windows; their segment's target is theirs."""
        images = self.embedder.windows(batch.views["log_mel"])
        if self.training and self.drawn:
            images = some(images, self.drawn)
        logits = self.embedder.classes(self.embedder.pooled(images))  # (B, R, C)
        target = batch.section[:, None].expand_as(logits)
        loss = functional.cross_entropy(logits.flatten(0, 1), target.flatten(0, 1))
        right = (logits.argmax(2) == target.argmax(2)).float().mean()
        return loss, {"loss": loss, "accuracy": right}


def some(images: Tensor, count: int) -> Tensor:
    """Of each segment's R windows ``count`` at random, or all of them: (B, R, …) -> (B, count, …)."""
    order = torch.rand(images.shape[:2], device=images.device).argsort(1)[:, :count]
    return images[torch.arange(len(images), device=images.device)[:, None], order]


def build(task: Task, settings: Settings) -> MobileNetV2:
    """Fresh.

    Raises:
        ConfigError: there is only one section.
    """
    refuse_one_section(task)
    return MobileNetV2(task, settings)
