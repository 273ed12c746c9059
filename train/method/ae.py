"""Auto-encoder, the official DCASE baseline: what cannot be reconstructed is strange.

[B] Harada et al., First-Shot Anomaly Sound Detection for Machine Condition Monitoring: A Domain Generalization
Baseline, EUSIPCO 2023, and its code, as methods.md §5.1 and §5.2 report them. P = 5 consecutive frames of the log-mel
are one vector, and n = T − P + 1 vectors a segment:

    640 ─► 128 ─► 128 ─► 128 ─► 128 ─► 8 ─► 128 ─► 128 ─► 128 ─► 128 ─► 640     (ReLU of batch norm between)

    L = mean (x − x̂)²

Two scores are published. *MSE* is the mean of (x − x̂)², output ``error``. *Selective Mahalanobis* cuts each residual
x − x̂ into P rows δ of M bands, takes a covariance Σ of all rows of a domain's training clips, and the smaller of both
domains' distances. As coded, the score is the mean of *all* entries of δΣ⁻¹δᵀ, the products of each row with each
other, and not of its diagonal; by linearity this is the distance of the mean row (§5.2):

    y = δ̄ᵀ Σ⁻¹ δ̄,   δ̄ = mean of the rows

So ``mean_residual``, δ̄, is enough to score the official way, but not to fit it: Σ is of rows, and nothing of how rows
vary within a segment is left in their mean. Who has only ``mean_residual`` fits the covariance of means between
segments, which is another detector, small and sound, and what the ``edge`` preset does. For the official one, as for
its ``per_frame`` sibling (the mean of δᵀΣ⁻¹δ), both fitting and scoring want ``residual``, the rows themselves.

Where we depart from the baseline:

* The ``edge`` preset scales decibels to numbers of about one (``settings.scaled``): from −40 dB the baseline's last
  layer spends its first thousand steps on the mean, and a few clips are not as many steps.
* Vectors of a step come from a few segments, all of each; the baseline shuffles the vectors of all clips.
* One network over all machines of a run; the baseline trains one a machine.
* The layers are written as convolutions of width one, which compute the same and are quantised like the others.

The log-mel is librosa's (``front_end.scale = "slaney"``, in the ``paper`` preset with the baseline's floor of 2⁻⁵²),
padded by reflection; the baseline does not pin the version of librosa, which decides its padding.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor, nn

from edge_asd.errors import ConfigError
from train.method.stgram_mfn import scaled
from train.method.task import Table

if TYPE_CHECKING:
    from train.method.task import Batch, Task

DEPTH = 4
"""hidden layers either side of the narrowest"""
SPAN = 20.0
"""decibels that are one, once scaled"""


class Settings(Table):
    """Sizes."""

    frames: int = Field(default=5, ge=1)
    """P, of one vector"""
    width: int = Field(default=128, ge=1)
    """of the hidden layers"""
    latent: int = Field(default=8, ge=1)
    """of the narrowest"""
    scaled: bool = False
    """learn of (dB + 20) / 20, and give residuals in decibels all the same; it takes far fewer steps"""


class Embedder(nn.Module):
    """The whole auto-encoder, and what it gets wrong."""

    views = ("log_mel",)
    outputs = ("error", "mean_residual", "residual")

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.frames, self.scaled = settings.frames, settings.scaled
        wide, ends = [settings.width] * DEPTH, task.mels * settings.frames
        sizes = [ends, *wide, settings.latent, *wide]
        hidden = [module for pair in pairwise(sizes) for module in layer(*pair)]
        self.layers = nn.Sequential(*hidden, nn.Conv1d(sizes[-1], ends, 1))

    def missed(self, log_mel: Tensor) -> Tensor:
        """The residual x − x̂ of every vector, (B, M, T) dB -> (B, P·M, n)."""
        x = stacked(scaled(log_mel) if self.scaled else log_mel, self.frames)
        difference: Tensor = x - self.layers(x)
        return SPAN * difference if self.scaled else difference

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, M, T) dB -> mean square (B, 1), mean row (B, M), rows (B, n·P, M)."""
        missed = self.missed(log_mel)
        blocks = missed.reshape(len(missed), self.frames, -1, missed.shape[2])  # (B, P, M, n)
        rows = blocks.permute(0, 3, 1, 2).flatten(1, 2)
        return missed.square().mean((1, 2))[:, None], rows.mean(1), rows


class Ae(nn.Module):
    """The training graph."""

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.embedder = Embedder(task, settings)

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG002 - one signature
        """Mean squared error."""
        loss = self.embedder.missed(batch.views["log_mel"]).square().mean()
        return loss, {"loss": loss}


def layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    """A hidden one; batch norm as Keras has it, slower than torch's."""
    return nn.Conv1d(inputs, outputs, 1), nn.BatchNorm1d(outputs, eps=1e-3, momentum=0.01), nn.ReLU()


def stacked(log_mel: Tensor, frames: int) -> Tensor:
    """Each P consecutive frames as one vector, the earliest first: (B, M, T) -> (B, P·M, n)."""
    vectors = log_mel.shape[2] - frames + 1
    return torch.cat([log_mel[:, :, p : p + vectors] for p in range(frames)], dim=1)


def build(task: Task, settings: Settings) -> Ae:
    """Fresh.

    Raises:
        ConfigError: a segment has not as many frames as a vector.
    """
    if task.frames < settings.frames:
        msg = f"settings.frames is {settings.frames}, but a segment has {task.frames}: make windows.segment longer"
        raise ConfigError(msg)
    return Ae(task, settings)
