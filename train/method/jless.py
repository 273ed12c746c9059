"""JLESS: batch mixing over a section and an attribute classifier. A reading, not a reproduction.

[B] Bai et al., JLESS submission to DCASE 2022 Task 2. The report is not to be had, nor any code. All that is known is
what [S1] says in passing: a "batch mixing strategy with anomaly detector" of the mixup family (methods.md §6). This is
the nearest honest reading: one backbone (STgram-MFN's), every segment of every batch mixed with another of the same
batch (training.mixup = 1 in both presets), soft targets, and two linear classifiers on the same embedding, so that
neither is above the other. Whatever it scores says nothing of the published system.

    views of λ·x + (1 − λ)·x' ─► STgram-MFN ─► e ─┬─► sections
                                                 └─► attribute groups
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from train.method.stgram_mfn import EMBEDDING, Tgram, head, initialise, mobile_face_net, scaled
from train.method.task import Table, refuse_one_group, refuse_one_section

if TYPE_CHECKING:
    from train.method.task import Batch, Task


class Settings(Table):
    """Weights of the two losses."""

    section: float = Field(default=1.0, ge=0)
    group: float = Field(default=1.0, ge=0)


class Embedder(nn.Module):
    """From views to e and both classifiers' logits."""

    views = ("log_mel", "waveform")
    outputs = ("embedding", "section_logit", "group_logit")

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.tgram = Tgram(task)
        self.backbone = mobile_face_net()
        self.head = head(task)
        self.sections = nn.Linear(EMBEDDING, len(task.sections))
        self.groups = nn.Linear(EMBEDDING, len(task.groups))

    def forward(self, log_mel: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, M, T) dB and (B, S) -> e (B, 128), (B, sections), (B, groups)."""
        e = self.head(self.backbone(torch.stack([scaled(log_mel), self.tgram(waveform)], dim=1)))
        return e, self.sections(e), self.groups(e)


class Jless(nn.Module):
    """The training graph."""

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.embedder = Embedder(task)
        initialise(self)

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG002 - one signature
        """Both cross-entropies."""
        _, section, group = self.embedder(batch.views["log_mel"], batch.views["waveform"])
        l_sec, l_att = functional.cross_entropy(section, batch.section), functional.cross_entropy(group, batch.group)
        total = self.settings.section * l_sec + self.settings.group * l_att
        right = (group.argmax(1) == batch.group.argmax(1)).float().mean()
        return total, {"loss": total, "l_sec": l_sec, "l_att": l_att, "accuracy": right}


def build(task: Task, settings: Settings) -> Jless:
    """Fresh.

    Raises:
        ConfigError: there is only one of the classes that it shall tell apart.
    """
    (refuse_one_group if settings.group else refuse_one_section)(task)
    return Jless(task, settings)
