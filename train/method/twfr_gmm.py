"""TWFR-GMM: time-weighted frequency representation, a mixture of Gaussians on ranked frames. Nothing is trained.

[G] Guan et al., Time-Weighted Frequency Domain Audio Representation with GMM Estimator for Anomalous Sound Detection,
ICASSP 2023, and its code, as methods.md §6 reports them. Global weighted ranking pooling (GWRP) of each mel band: its
frames from the loudest down, each weighing r times what the one before it weighs:

    R_r(m) = Σ_i w_i X_(i)(m),   X_(0) ≥ X_(1) ≥ …,   w_i = rⁱ / Σ_j rʲ

r = 1 is the mean over time, r = 0 the maximum; between them lie about 1 / Σ w² frames that count, so that what is short
and loud (a valve) is heard without resting on one frame alone. The mixture, full covariances and the score of its best
component (not of the sum) are a back end, and so is SMOTE of the target domain; the graph gives R_r.

Where we depart from the paper:

* r is tuned there per machine on labelled test clips, from 0.46 to 1. We take 1 and 0.9, each an output and a part of
  its own, standardised on normals and fused (§6, first-shot preset).
* The ``edge`` preset ranks the frames of 2-s segments, not of whole clips.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from train.method.task import Table

if TYPE_CHECKING:
    from train.method.task import Batch, Task

Rank = Annotated[float, Field(ge=0, le=1)]


class Settings(Table):
    """How frames are weighed."""

    ranks: tuple[Rank, ...] = Field(default=(1.0, 0.9), min_length=1)
    """each r is an output, named by its hundredths: 0.9 gives ``ranked_090``"""

    @field_validator("ranks")
    @classmethod
    def _each_with_a_name(cls, ranks: tuple[float, ...]) -> tuple[float, ...]:
        if len({name(rank) for rank in ranks}) < len(ranks) or any(round(rank, 2) != rank for rank in ranks):
            msg = f"ranks are different hundredths, such as 1.0 and 0.98, got {list(ranks)}"
            raise ValueError(msg)
        return ranks


class Embedder(nn.Module):
    """One sort, and a weighted sum for each r."""

    views = ("log_mel",)
    weights: Tensor

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.outputs = tuple(name(rank) for rank in settings.ranks)
        every = torch.stack([weights(rank, task.frames) for rank in settings.ranks], dim=1)  # (T, ranks)
        self.register_buffer("weights", every, persistent=False)

    def forward(self, log_mel: Tensor) -> tuple[Tensor, ...]:
        """(B, M, T) dB -> R_r (B, M) for each r."""
        ranked = log_mel.sort(dim=2, descending=True).values @ self.weights  # (B, M, ranks)
        return ranked.unbind(2)


class TwfrGmm(nn.Module):
    """A network with nothing to learn."""

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.embedder = Embedder(task, settings)

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG002 - one signature
        """Nothing: it is never trained."""
        nothing = batch.views["log_mel"].new_zeros(())
        return nothing, {"loss": nothing}


def weights(rank: float, frames: int) -> Tensor:
    """w_i = rⁱ / Σ_j rʲ of the T frames, the loudest first; (T,)."""
    powers = torch.tensor(rank, dtype=torch.float64) ** torch.arange(frames)  # 0⁰ = 1
    return (powers / powers.sum()).float()


def name(rank: float) -> str:
    """Of the output for r."""
    return f"ranked_{round(100 * rank):03d}"


def build(task: Task, settings: Settings) -> TwfrGmm:
    """All there ever is."""
    return TwfrGmm(task, settings)
