"""Multitask conformer: what a machine's sound was made under, whose it is, and what was done to it.

[S3] Zhang and Li, Anomalous Sound Detection via Multitask Learning and Adversarial Learning, DCASE 2023 Challenge
technical report, systems 1 and 2. System 2 sets TgramNet, the learned spectrogram of STgram-MFN, beside the log-mel:

    log-mel [; TgramNet] ─► 3 conformer blocks ─► attentive statistics ─► e ─► each attribute   softmax
                                                                           ├─► target machine   sigmoid, output p
                                                                           └─► augmentation     softmax

Scored are −ln p and the negative log-likelihood of e under a Gaussian mixture of normal clips. What the report leaves
open is read as methods.md §4.1 does: kernels of 31 frames, augmentations, equal weights of the tasks. Conformer blocks
are torchaudio's, without positions. The statistics' attention is that of ECAPA-TDNN (Desplanques et al., Interspeech
2020): a bottleneck of 128, batch norm, then the linear layer.

Where we depart from it:

* One model over all machines: one sigmoid a machine identity instead of one of two classes, to which clips of the other
  identities and outliers are what must be refused; one softmax for each attribute of each identity. Refused sound far
  outnumbers an identity's own, so either side of a sigmoid weighs half in its loss (:func:`train.method.oevae.even`).
* Log-mel enters as (dB + 20) / 20, like everywhere here.
* The ``edge`` preset joins four frames to one on the way in, as the conformer for speech does (Gulati et al.,
  Interspeech 2020): one core then trains in minutes, not in an hour.
* Masks hide a part of the log-mel; the waveform that TgramNet hears is left whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.models.conformer import ConformerLayer

from edge_asd.errors import ConfigError
from train.method.oevae import exposure
from train.method.stgram_mfn import EMBEDDING, Tgram, scaled
from train.method.task import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from train.method.task import Batch, Task

BOTTLENECK = 128
"""of the attention that statistics are weighted by"""


class Settings(Table):
    """Sizes, and what the tasks weigh."""

    tgram: bool = False
    """system 2: TgramNet's features beside the log-mel"""
    join: int = Field(default=1, ge=1)
    """neighbouring frames that enter the conformer as one"""
    blocks: int = Field(default=3, ge=1)
    width: int = Field(default=256, ge=8, multiple_of=8)
    """of the conformer"""
    hidden: int = Field(default=512, ge=1)
    """of its linear units"""
    heads: int = Field(default=4, ge=1)
    kernel: int = Field(default=31, ge=1)
    """frames of its convolutions, an odd number"""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    attribute: float = Field(default=1.0, ge=0)
    target: float = Field(default=1.0, ge=0)
    augmentation: float = Field(default=1.0, ge=0)


# The network ----------------------------------------------------------------------------------------------------------


class Pooling(nn.Module):
    """Attentive statistics (Okabe et al., Interspeech 2018): mean and deviation over time, weighted by channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow, wide = nn.Conv1d(channels, BOTTLENECK, 1), nn.Conv1d(BOTTLENECK, channels, 1)
        self.attention = nn.Sequential(narrow, nn.Tanh(), wide)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, 2 C)."""
        weight = self.attention(x).softmax(dim=2)
        mean = (weight * x).sum(dim=2)
        variance = (weight * (x - mean[:, :, None]).square()).sum(dim=2)
        return torch.cat([mean, variance.clamp(min=1e-6).sqrt()], dim=1)


class Embedder(nn.Module):
    """From views to e, and to what says whose it is."""

    outputs = ("raw_embedding", "target_logit")

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.views = ("log_mel", "waveform") if settings.tgram else ("log_mel",)
        self.tgram = Tgram(task) if settings.tgram else None
        features, width, join = task.mels * len(self.views), settings.width, settings.join
        self.enter = nn.Conv1d(features, width, join, join)
        self.blocks = nn.ModuleList(
            ConformerLayer(width, settings.hidden, settings.heads, settings.kernel, settings.dropout)
            for _ in range(settings.blocks)
        )
        self.pooling = nn.Sequential(Pooling(width), nn.BatchNorm1d(2 * width))
        self.head = nn.Linear(2 * width, EMBEDDING)
        self.target = nn.Linear(EMBEDDING, len(task.sections))

    def embed(self, log_mel: Tensor, *waveform: Tensor) -> Tensor:
        """(B, M, T) dB and for system 2 (B, S) -> e (B, 128)."""
        heard = [scaled(log_mel), *([] if self.tgram is None else [self.tgram(*waveform)])]
        x = self.enter(torch.cat(heard, dim=1)).permute(2, 0, 1)  # (T', B, width), as torchaudio has it
        for block in self.blocks:
            x = block(x, None)
        e: Tensor = self.head(self.pooling(x.permute(1, 2, 0)))
        return e

    def forward(self, log_mel: Tensor, *waveform: Tensor) -> tuple[Tensor, Tensor]:
        """E and one logit a machine identity (B, sections)."""
        e = self.embed(log_mel, *waveform)
        return e, self.target(e)


class Multitask(nn.Module):
    """The training graph."""

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.embedder = Embedder(task, settings)
        self.values = tuple(values for _, values in task.attributes)
        self.attributes = nn.Linear(EMBEDDING, sum(self.values)) if self.values else None  # the heads beside each other
        alterations = len(task.augmentations)
        self.augmentation = nn.Linear(EMBEDDING, alterations) if alterations > 1 else None

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG002 - one signature
        """The weighted sum of the tasks that there are."""
        e = self.embedder.embed(*(batch.views[name] for name in self.embedder.views))
        logit = self.embedder.target(e)
        parts = {"l_target": exposure(logit, batch.section)}
        total = self.settings.target * parts["l_target"]
        accuracy = ((logit > 0) == (batch.section > 0.5)).float().mean()
        if self.attributes is not None:
            parts["l_attribute"], accuracy = known(self.attributes(e), batch.attributes, self.values)
            total = total + self.settings.attribute * parts["l_attribute"]
        if self.augmentation is not None:
            parts["l_augmentation"] = functional.cross_entropy(self.augmentation(e), batch.augmentation)
            total = total + self.settings.augmentation * parts["l_augmentation"]
        return total, {"loss": total, **parts, "accuracy": accuracy}


# Losses ---------------------------------------------------------------------------------------------------------------


def known(logits: Tensor, target: Tensor, values: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the attributes that are known, and the share of them that is named right.

    Args:
        logits: (B, Σ values), a block for each attribute.
        target: (B, Σ values), zeros in a block that is another machine's or unknown.
        values: how many each attribute has.
    """
    blocks = list(zip(*(torch.split(rows, list(values), dim=1) for rows in (logits, target)), strict=True))
    marks = torch.stack([block.sum(dim=1) for _, block in blocks])  # (attributes, B)
    wrong = torch.stack([-(block * said.log_softmax(dim=1)).sum(dim=1) for said, block in blocks])
    right = torch.stack([(said.argmax(dim=1) == block.argmax(dim=1)).float() for said, block in blocks])
    there = marks.sum().clamp(min=1e-6)
    return wrong.sum() / there, (right * marks).sum() / there


def build(task: Task, settings: Settings) -> Multitask:
    """Fresh.

    Raises:
        ConfigError: nothing tells segments apart, or sizes do not fit.
    """
    if len(task.sections) < 2 and not task.outliers and not task.attributes:
        one = ", ".join(task.sections)
        msg = (
            f"multitask learns whose a sound is and what it was made under, and there is one machine, {one}, under one "
            "condition: add other machines or attributes to --data, or background recordings with --outliers DIR"
        )
        raise ConfigError(msg)
    if settings.width % settings.heads or settings.kernel % 2 == 0:
        msg = (
            f"settings.width {settings.width} must be a multiple of settings.heads {settings.heads}, "
            f"and settings.kernel {settings.kernel} odd"
        )
        raise ConfigError(msg)
    return Multitask(task, settings)
