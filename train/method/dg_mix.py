"""DG-Mix: self-supervision by mixing two clips of a machine, under a geometric constraint.

[N] Nejjar et al., DG-Mix: Domain Generalization for Anomalous Sound Detection Based on Self-Supervised Learning, DCASE
Workshop 2022, of which only the abstract is to be had. It is VICReg (Bardes et al., ICLR 2022) with the invariance term
replaced: the projection of a mix shall lie where the mix of the projections lies (methods.md §6, sketch):

    m = λ x_a + (1 − λ) x_b,   z = g(f(·))
    L = w_geo ‖z_m − λ z_a − (1 − λ) z_b‖² + w_var Σ_j max(0, 1 − std_j) + w_cov Σ_{i≠j} C_ij² / D

No class is named: it learns from machines without attributes. f is MobileFaceNet on the log-mel image (methods.md
§1.1), g three linear layers; f is what a device runs. Our reading, not verified against the paper:

* Two clips are mixed in power, mel band by mel band: λ² P_a + (1 − λ)² P_b, which is what mixing their waveforms gives
  on average, sounds of two moments being incoherent.
* Partners are drawn among the segments of the same machine in the batch; one without a partner is its own.
* Variance and covariance are taken of z_a and z_m, weights 25, 25, 1 as in VICReg.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor, nn

from train.method.stgram_mfn import EMBEDDING, head, initialise, mobile_face_net, scaled
from train.method.task import Table

if TYPE_CHECKING:
    from train.method.task import Batch, Task

DECIBEL = 10.0
EPSILON = 1e-4
"""under the root of a standard deviation, as in VICReg"""


class Settings(Table):
    """Weights of the three terms, and the width of z."""

    geometry: float = Field(default=25.0, ge=0)
    variance: float = Field(default=25.0, ge=0)
    covariance: float = Field(default=1.0, ge=0)
    width: int = Field(default=256, ge=2)


class Embedder(nn.Module):
    """f: from the image to e."""

    views = ("log_mel",)
    outputs = ("embedding",)

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.backbone = mobile_face_net(channels=1)
        self.head = head(task)

    def forward(self, log_mel: Tensor) -> Tensor:
        """(B, M, T) dB -> e (B, 128), not normalised."""
        e: Tensor = self.head(self.backbone(scaled(log_mel)[:, None]))
        return e


class DgMix(nn.Module):
    """The training graph."""

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.embedder = Embedder(task)
        wide = settings.width
        self.projector = nn.Sequential(
            *(nn.Linear(EMBEDDING, wide), nn.BatchNorm1d(wide), nn.ReLU()),
            *(nn.Linear(wide, wide), nn.BatchNorm1d(wide), nn.ReLU()),
            nn.Linear(wide, wide),
        )
        initialise(self)

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG002 - one signature
        """The three terms of the sketch."""
        a = batch.views["log_mel"]
        partner, share = partners(batch.section.argmax(1)), torch.rand(len(a), 1, device=a.device)
        m = mixed(a, a[partner], share[:, :, None])
        z_a, z_m = self.projector(self.embedder(torch.cat([a, m]))).chunk(2)
        geometry = (z_m - share * z_a - (1.0 - share) * z_a[partner]).square().mean()
        variance, covariance = spread(z_a) + spread(z_m), entangled(z_a) + entangled(z_m)
        s = self.settings
        total = s.geometry * geometry + s.variance * variance + s.covariance * covariance
        return total, {"loss": total, "geometry": geometry, "variance": variance, "covariance": covariance}


def partners(machine: Tensor) -> Tensor:
    """For each segment (B,) another of the same machine, at random: one turn round a shuffled circle of them."""
    order = torch.randperm(len(machine), device=machine.device)
    partner = torch.empty_like(order)
    for one in set(machine.tolist()):
        circle = order[machine[order] == one]
        partner[circle] = circle.roll(1)
    return partner


def mixed(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Decibels of λ² P_a + (1 − λ)² P_b."""
    power = share**2 * 10.0 ** (a / DECIBEL) + (1.0 - share) ** 2 * 10.0 ** (b / DECIBEL)
    return DECIBEL * power.clamp(min=1e-10).log10()


def spread(z: Tensor) -> Tensor:
    """Mean shortfall from 1 of the standard deviations of the columns of (B, D); VICReg's variance term."""
    return (1.0 - (z.var(0, correction=1 if len(z) > 1 else 0) + EPSILON).sqrt()).clamp(min=0.0).mean()


def entangled(z: Tensor) -> Tensor:
    """Σ_{i≠j} C_ij² / D of (B, D); VICReg's covariance term."""
    centred = z - z.mean(0)
    covariance = centred.T @ centred / max(len(z) - 1, 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]


def build(task: Task, settings: Settings) -> DgMix:
    """Fresh."""
    return DgMix(task, settings)
