"""GRHD: gradient-reversal hierarchical disentanglement on 2-second segments.

[S1] Guan et al., Disentangling Hierarchical Features for Anomalous Sound Detection Under Domain Shift,
arXiv:2501.01604; equation numbers are theirs. The backbone is STgram-MFN (Liu et al., ICASSP 2022): a log-mel image
beside a learned spectrogram (TgramNet), MobileFaceNet on both. Its map z_rev is pressed by a reversed gradient to
forget the attribute group (operating condition, room, microphone); two convolutions then build section and attribute
structure anew:

    [log-mel ; TgramNet] ─► MobileFaceNet rows 1–3 ─► z_rev ─► GRL(λ) ─► Head_rev ─► attribute groups
                                                        └─► Conv2D_sec ─► z_sec ─► Head_sec ─► sections
                                                                           └─► Conv2D_att ─► Head_att ─► e ─► groups

What the paper leaves open is read as methods.md §1 does: layer shapes and heads, focal γ = 2 and class weights, λ by
the DANN schedule. Where we depart from it:

* The reversal is guarded: see :meth:`Grhd.reversal`.
* One model over all machines, an identity being a section: with a few groups the task is learned by heart (§1.1).
* α, β, γ are fixed; the paper picks them per machine on labelled test clips.
* Waveform mixup and gain against memorising few clips, settings of the recipe.

Axes: B batch, W samples, M mel bands, T frames.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from train.method.stgram_mfn import EMBEDDING, MAP, Tgram, conv_block, head, initialise, mobile_face_net, scaled
from train.method.task import Table, refuse_one_group, refuse_one_section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from train.method.task import Batch, Task


class Settings(Table):
    """Which classifiers there are, and the weights of their losses, eq. (6)."""

    classifiers: Literal["section", "attribute", "both", "all"] = "all"
    """rows of [S1], Table II: C_sec only, C_att only, both, and both with the reversed one (GRC)"""
    alpha: float = Field(default=0.1, ge=0)
    beta: float = Field(default=1.0, ge=0)
    gamma: float = Field(default=1.0, ge=0)
    focal_gamma: float = Field(default=2.0, ge=0)
    schedule: Literal["dann", "constant"] = "dann"
    """how λ grows over the training: 2 / (1 + e^{−10p}) − 1, or 1 from the start"""
    guard: bool = True
    """reverse ever less once the reversed classifier knows less than nothing"""

    @property
    def section(self) -> bool:
        """Whether there is C_sec, and Conv2D_sec."""
        return self.classifiers != "attribute"

    @property
    def attribute(self) -> bool:
        """Whether there is C_att, and Conv2D_att."""
        return self.classifiers != "section"

    @property
    def reversal(self) -> bool:
        """Whether there is GRC."""
        return self.classifiers == "all"


class Reverse(torch.autograd.Function):
    """Gradient reversal, eq. (3): identity forward, −λ times the gradient backward.

    Only what leaves towards the backbone is reversed: Head_rev itself minimises eq. (2) (methods.md §10, row 8). λ is
    read on the way back, when the loss is known.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: Tensor) -> Tensor:  # noqa: ANN401 - torch's own context
        """Identity."""
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - torch's own context
        """Turned round."""
        return -ctx.strength * gradients[0], None


def reversed_gradient(x: Tensor, strength: Tensor) -> Tensor:
    """Itself; on the way back -strength times its gradient."""
    same: Tensor = Reverse.apply(x, strength)  # type: ignore[no-untyped-call]
    return same


def reversal_strength(progress: float) -> float:
    """λ = 2 / (1 + e^{−10p}) − 1 for training progress p in [0, 1] (Ganin et al., cited by [S1])."""
    return 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0


class Embedder(nn.Module):
    """What a device runs: the attribute path from views to e."""

    views = ("log_mel", "waveform")

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.tgram = Tgram(task)
        self.backbone = mobile_face_net()
        # Conv2D_sec and Conv2D_att, eq. (4); what the ablation leaves out passes its map on
        self.section = conv_block(MAP, MAP, 3, padding=1) if settings.section else nn.Identity()
        self.attribute = conv_block(MAP, MAP, 3, padding=1) if settings.attribute else nn.Identity()
        self.head = head(task)  # Head_att; Head_sec where there is no C_att
        self.classes: nn.Linear  # of the last classifier
        self.outputs = ("embedding", "group_logit" if settings.attribute else "section_logit")

    def maps(self, log_mel: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z_rev (eq. 1), z_sec and z_att (eq. 4), each (B, 128, ⌈M / 16⌉, ⌈T / 16⌉)."""
        z_rev = self.backbone(torch.stack([scaled(log_mel), self.tgram(waveform)], dim=1))
        z_sec = self.section(z_rev)
        return z_rev, z_sec, self.attribute(z_sec)

    def forward(self, log_mel: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """(B, M, T) dB and (B, S) -> e (B, 128), not normalised, and the logits of its classes."""
        e: Tensor = self.head(self.maps(log_mel, waveform)[2])
        return e, self.classes(e)


class Grhd(nn.Module):
    """The training graph."""

    weights: Tensor
    strength: Tensor

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.embedder = Embedder(task, settings)
        sections, groups = len(task.sections), len(task.groups)
        if settings.reversal:
            self.reverse_head = head(task)
        if settings.section and settings.attribute:
            self.section_head = head(task)
        if settings.reversal:
            self.reverse_classes = nn.Linear(EMBEDDING, groups)
        if settings.section and settings.attribute:
            self.section_classes = nn.Linear(EMBEDDING, sections)
        self.embedder.classes = nn.Linear(EMBEDDING, groups if settings.attribute else sections)
        weights = class_weights(task.sizes)
        self.register_buffer("weights", weights)
        self.register_buffer("strength", torch.zeros(()), persistent=False)
        self.ignorance = ignorance(weights, task.sizes, settings.focal_gamma)
        initialise(self)

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. (6), and what it is made of."""
        s = self.settings
        z_rev, z_sec, z_att = self.embedder.maps(batch.views["log_mel"], batch.views["waveform"])
        last = self.embedder.classes(self.embedder.head(z_att))
        parts: dict[str, Tensor] = {}
        if s.reversal:
            turned = reversed_gradient(z_rev, self.strength)
            parts["l_rev"] = self._focal(self.reverse_classes(self.reverse_head(turned)), batch.group)  # eq. (2)
            self.strength.copy_(self.reversal(parts["l_rev"].detach(), progress))
            parts["strength"] = self.strength.clone()
        if s.section:
            by_section = self.section_classes(self.section_head(z_sec)) if s.attribute else last
            parts["l_sec"] = functional.cross_entropy(by_section, batch.section)  # eq. (5)
        if s.attribute:
            parts["l_att"] = self._focal(last, batch.group)  # eq. (5)
        target = batch.group if s.attribute else batch.section
        parts["accuracy"] = (last.argmax(1) == target.argmax(1)).float().mean()
        # the entropy of one section says nothing, unless there is nothing else
        beta = s.beta if batch.section.shape[1] > 1 or not s.attribute else 0.0
        shares = {"l_rev": s.alpha, "l_sec": beta, "l_att": s.gamma}
        total = torch.stack([share * parts[name] for name, share in shares.items() if name in parts]).sum()  # eq. (6)
        return total, {"loss": total, **parts}

    def reversal(self, l_rev: Tensor, progress: float) -> Tensor:
        """λ; the guard lets go between once and twice the loss of a classifier that knows nothing.

        Beyond that the backbone can only gain by making Head_rev confidently wrong, which has no end.
        """
        strength = reversal_strength(progress) if self.settings.schedule == "dann" else 1.0
        held = (2.0 - l_rev / self.ignorance).clamp(0.0, 1.0) if self.settings.guard else torch.ones_like(l_rev)
        return strength * held

    def _focal(self, logits: Tensor, target: Tensor) -> Tensor:
        """FL = −α_c (1 − p_c)^γ log p_c, summed over soft targets."""
        log_p = functional.log_softmax(logits, dim=1)
        focal = (1.0 - log_p.exp()) ** self.settings.focal_gamma * log_p
        return -(self.weights * target * focal).sum(dim=1).mean()


def class_weights(counts: Sequence[int]) -> Tensor:
    """α_c ∝ 1/n_c, rescaled to mean 1, the largest at most 100 times the smallest (§1.3)."""
    inverse = 1.0 / torch.tensor(counts, dtype=torch.float32)
    capped = inverse.clamp(max=100.0 * float(inverse.min()))
    return capped / capped.mean()


def ignorance(weights: Tensor, counts: Sequence[int], gamma: float) -> float:
    """Focal loss of a classifier to which all A groups are equally likely: log A · (1 − 1/A)^γ, weighted."""
    sizes, groups = torch.tensor(counts, dtype=torch.float32), len(counts)
    plain = math.log(groups) * math.pow(1.0 - 1.0 / groups, gamma)
    return max(plain * float((weights * sizes).sum() / sizes.sum()), 1e-6)


def build(task: Task, settings: Settings) -> Grhd:
    """Fresh.

    Raises:
        ConfigError: there is only one of the classes that it shall tell apart.
    """
    (refuse_one_group if settings.attribute else refuse_one_section)(task)
    return Grhd(task, settings)
