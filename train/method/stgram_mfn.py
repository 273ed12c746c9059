"""STgram-MFN: a log-mel image beside a learned spectrogram, MobileFaceNet on both, ArcFace.

[L] Liu et al., Anomalous Sound Detection Using Spectral-Temporal Information Fusion, ICASSP 2022, arXiv:2201.05510.
Layers as methods.md §1.1 lists them; GRHD, HMIC and others here stand on the same backbone.

    [log-mel ; TgramNet] ─► MobileFaceNet rows 1–3 ─► rows 4–6 ─► e ─► ArcFace

Where we depart from it:

* Log-mel enters as (dB + 20) / 20: beside a learned spectrogram of unit size raw decibels are all that is heard.
* The ``edge`` preset tells attribute groups apart, not machine identities: with a few classes the task is learned by
  heart (§1.1), and scores by nearest neighbours. The ``paper`` preset does as published: identities, −log softmax.
* Soft targets: a class takes the margin in the share in which it is present.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from train.method.task import Table, refuse_one_group, refuse_one_section

if TYPE_CHECKING:
    from train.method.task import Batch, Task

EMBEDDING = MAP = 128
STAGES = ((2, 128, 2, 2), (4, 128, 2, 2), (4, 128, 2, 2))
"""bottlenecks: expansion, channels, blocks, stride of the first"""
SHRINKAGE = 16
"""by which rows 1–3 make an image smaller, either way"""


class Settings(Table):
    """Of ArcFace and what it tells apart."""

    classes: Literal["section", "group"] = "group"
    margin: float = Field(default=0.7, ge=0, lt=math.pi)
    scale: float = Field(default=30.0, gt=0)
    centres: int = Field(default=1, ge=1)
    """sub-centres of a class, the nearest counts"""


# The backbone, §1.1 ---------------------------------------------------------------------------------------------------


class Tgram(nn.Module):
    """TgramNet: a spectrogram learned from the waveform; LayerNorm over time ties it to one length (§1.1)."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        bands = task.mels
        spec = task.own_front_end
        self.cut = nn.Conv1d(1, bands, spec.n_fft, spec.hop, spec.n_fft // 2, bias=False)
        layers = [
            (nn.LayerNorm(task.frames), nn.LeakyReLU(0.2), nn.Conv1d(bands, bands, 3, padding=1, bias=False))
            for _ in range(3)
        ]
        self.layers = nn.Sequential(*(module for layer in layers for module in layer))

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, S) -> (B, M, T)."""
        learned: Tensor = self.layers(self.cut(waveform[:, None]))
        return learned


def conv_block(
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int],
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    linear: bool = False,
) -> nn.Sequential:
    """Convolution, batch norm and, unless linear, PReLU per channel."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([] if linear else [nn.PReLU(outputs)]))


class Bottleneck(nn.Module):
    """Expand, filter each channel, project; residual where the shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            conv_block(inputs, wide, 1),
            conv_block(wide, wide, 3, stride=stride, padding=1, groups=wide),
            conv_block(wide, outputs, 1, linear=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, V) -> (B, outputs, H', V')."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def mobile_face_net(channels: int = 2) -> nn.Sequential:
    """Rows 1–3 of the table in §1.1: (B, channels, M, T) -> (B, 128, ⌈M / 16⌉, ⌈T / 16⌉)."""
    layers: list[nn.Module] = [
        conv_block(channels, 64, 3, stride=2, padding=1),
        conv_block(64, 64, 3, padding=1, groups=64),
    ]
    inputs = 64
    for expansion, outputs, blocks, stride in STAGES:
        for block in range(blocks):
            layers.append(Bottleneck(inputs, outputs, stride if block == 0 else 1, expansion))
            inputs = outputs
    return nn.Sequential(*layers)


def head(task: Task) -> nn.Sequential:
    """Rows 4–6: a map (B, 128, ⌈M / 16⌉, ⌈T / 16⌉) to an embedding (B, 128), by a global depthwise convolution."""
    whole = math.ceil(task.mels / SHRINKAGE), math.ceil(task.frames / SHRINKAGE)
    return nn.Sequential(
        conv_block(MAP, 512, 1),
        conv_block(512, 512, whole, groups=512, linear=True),
        conv_block(512, EMBEDDING, 1, linear=True),
        nn.Flatten(),
    )


def scaled(log_mel: Tensor) -> Tensor:
    """Decibels, −100 to about 20, to numbers of the size that a convolution likes."""
    return (log_mel + 20.0) / 20.0


def initialise(network: nn.Module) -> None:
    """Normal weights of standard deviation √(2 / (k·k·outputs)) for every image convolution."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=math.sqrt(2.0 / (math.prod(module.kernel_size) * module.out_channels)))


# The method -----------------------------------------------------------------------------------------------------------


class Embedder(nn.Module):
    """From views to e, and to the cosines of the classes, scaled."""

    views = ("log_mel", "waveform")

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.outputs = ("embedding", f"{settings.classes}_logit")
        self.tgram = Tgram(task)
        self.backbone = mobile_face_net()
        self.head = head(task)
        self.arc = ArcFace(len(task.sections if settings.classes == "section" else task.groups), settings)

    def embed(self, log_mel: Tensor, waveform: Tensor) -> Tensor:
        """(B, M, T) dB and (B, S) -> e (B, 128), not normalised."""
        e: Tensor = self.head(self.backbone(torch.stack([scaled(log_mel), self.tgram(waveform)], dim=1)))
        return e

    def forward(self, log_mel: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """E and the logits (B, C) of a device, which knows no margin."""
        e = self.embed(log_mel, waveform)
        return e, self.arc.scale * self.arc.cosines(e)


class ArcFace(nn.Module):
    """An angular margin between classes (Deng et al., CVPR 2019), with sub-centres if wanted."""

    def __init__(self, classes: int, settings: Settings) -> None:
        super().__init__()
        self.margin, self.scale, self.centres = settings.margin, settings.scale, settings.centres
        self.weight = nn.Parameter(torch.empty(classes * settings.centres, EMBEDDING))
        nn.init.xavier_uniform_(self.weight)

    def cosines(self, e: Tensor) -> Tensor:
        """Of the angles between embeddings and their nearest centres, (B, 128) -> (B, C)."""
        every = functional.linear(functional.normalize(e), functional.normalize(self.weight))
        nearest: Tensor = every.reshape(len(e), -1, self.centres).amax(2)
        return nearest

    def forward(self, e: Tensor, target: Tensor) -> Tensor:
        """Logits (B, C): s·cos(θ + m) for what is present, s·cos θ for the rest."""
        cos = self.cosines(e)
        sin = (1.0 - cos**2).clamp(min=1e-7).sqrt()
        apart = cos * math.cos(self.margin) - sin * math.sin(self.margin)
        # beyond π the cosine would rise again: go on falling in a straight line instead
        apart = torch.where(cos > math.cos(math.pi - self.margin), apart, cos - self.margin * math.sin(self.margin))
        return self.scale * (target * apart + (1.0 - target) * cos)


class StgramMfn(nn.Module):
    """The training graph."""

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.classes = settings.classes
        self.embedder = Embedder(task, settings)
        initialise(self)

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG002 - one signature
        """Cross-entropy under the margin."""
        target = batch.section if self.classes == "section" else batch.group
        e = self.embedder.embed(batch.views["log_mel"], batch.views["waveform"])
        loss = functional.cross_entropy(self.embedder.arc(e, target), target)
        right = (self.embedder.arc.cosines(e).argmax(1) == target.argmax(1)).float().mean()
        return loss, {"loss": loss, "accuracy": right}


def build(task: Task, settings: Settings) -> StgramMfn:
    """Fresh.

    Raises:
        ConfigError: there is only one of the classes that it shall tell apart.
    """
    (refuse_one_group if settings.classes == "group" else refuse_one_section)(task)
    return StgramMfn(task, settings)
