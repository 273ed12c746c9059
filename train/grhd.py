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

* One model over all machines, an identity being a section: with a few groups the task is learned by heart (§1.1).
* α, β, γ are fixed; the paper picks them per machine on labelled test clips.
* Log-mel enters as (dB + 20) / 20: beside a learned spectrogram of unit size raw decibels are all that is heard.
* Waveform mixup and gain against memorising few clips, settings of the recipe.

Axes: B batch, W samples, M mel bands, T frames.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from train.recipe import GrhdSettings

BANDS, FRAMES, N_FFT, HOP = 128, 63, 1024, 512
"""the log-mel image of a 2-s segment, and the cuts of TgramNet"""
EMBEDDING = MAP = 128
STAGES = ((2, 128, 2, 2), (4, 128, 2, 2), (4, 128, 2, 2))
"""bottlenecks of STgram-MFN: expansion, channels, blocks, stride of the first"""


class Tgram(nn.Module):
    """TgramNet: a spectrogram learned from the waveform; LayerNorm over time ties it to one length (§1.1)."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv1d(1, BANDS, N_FFT, HOP, N_FFT // 2, bias=False)
        layers = [
            (nn.LayerNorm(FRAMES), nn.LeakyReLU(0.2), nn.Conv1d(BANDS, BANDS, 3, padding=1, bias=False))
            for _ in range(3)
        ]
        self.layers = nn.Sequential(*(module for layer in layers for module in layer))

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, W) -> (B, M, T)."""
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


def mobile_face_net() -> nn.Sequential:
    """Rows 1–3 of the table in §1.1: (B, 2, 128, 63) -> (B, 128, 8, 4)."""
    layers: list[nn.Module] = [
        conv_block(2, 64, 3, stride=2, padding=1),
        conv_block(64, 64, 3, padding=1, groups=64),
    ]
    inputs = 64
    for expansion, outputs, blocks, stride in STAGES:
        for block in range(blocks):
            layers.append(Bottleneck(inputs, outputs, stride if block == 0 else 1, expansion))
            inputs = outputs
    return nn.Sequential(*layers)


def head() -> nn.Sequential:
    """Rows 4–6: a map (B, 128, 8, 4) to an embedding (B, 128), by a global depthwise convolution."""
    return nn.Sequential(
        conv_block(MAP, 512, 1),
        conv_block(512, 512, (BANDS // 16, math.ceil(FRAMES / 16)), groups=512, linear=True),
        conv_block(512, EMBEDDING, 1, linear=True),
        nn.Flatten(),
    )


class Reverse(torch.autograd.Function):
    """Gradient reversal, eq. (3): identity forward, −λ times the gradient backward.

    Only what leaves towards the backbone is reversed: Head_rev itself minimises eq. (2) (methods.md §10, row 8).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:  # noqa: ANN401 - torch's own context
        """Identity."""
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - torch's own context
        """Turned round."""
        return -ctx.strength * gradients[0], None


def reversed_gradient(x: Tensor, strength: float) -> Tensor:
    """Itself; on the way back -strength times its gradient."""
    same: Tensor = Reverse.apply(x, strength)  # type: ignore[no-untyped-call]
    return same


def reversal_strength(progress: float) -> float:
    """λ = 2 / (1 + e^{−10p}) − 1 for training progress p in [0, 1] (Ganin et al., cited by [S1])."""
    return 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0


class Embedder(nn.Module):
    """What a device runs: the attribute path from views to e."""

    def __init__(self) -> None:
        super().__init__()
        self.tgram = Tgram()
        self.backbone = mobile_face_net()
        self.section = conv_block(MAP, MAP, 3, padding=1)  # Conv2D_sec, eq. (4)
        self.attribute = conv_block(MAP, MAP, 3, padding=1)  # Conv2D_att, eq. (4)
        self.head = head()  # Head_att

    def maps(self, log_mel: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z_rev (eq. 1), z_sec and z_att (eq. 4), each (B, 128, 8, 4)."""
        z_rev = self.backbone(torch.stack([(log_mel + 20.0) / 20.0, self.tgram(waveform)], dim=1))
        z_sec = self.section(z_rev)
        return z_rev, z_sec, self.attribute(z_sec)

    def forward(self, log_mel: Tensor, waveform: Tensor) -> Tensor:
        """(B, M, T) dB and (B, W) -> e (B, 128), not normalised."""
        e: Tensor = self.head(self.maps(log_mel, waveform)[2])
        return e


class Grhd(nn.Module):
    """The training graph."""

    weights: Tensor

    def __init__(self, sections: int, groups: Sequence[int], settings: GrhdSettings) -> None:
        """Sizes of the tasks.

        Args:
            sections: how many machine identities there are.
            groups: training clips in each attribute group.
            settings: α, β, γ of eq. (6) and the focal loss.
        """
        super().__init__()
        self.settings = settings
        self.embedder = Embedder()
        self.reverse_head, self.section_head = head(), head()
        self.reverse_classes = nn.Linear(EMBEDDING, len(groups))
        self.section_classes = nn.Linear(EMBEDDING, sections)
        self.group_classes = nn.Linear(EMBEDDING, len(groups))
        self.register_buffer("weights", class_weights(groups))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(
                    module.weight, std=math.sqrt(2.0 / (math.prod(module.kernel_size) * module.out_channels))
                )

    def loss(
        self, log_mel: Tensor, waveform: Tensor, section: Tensor, group: Tensor, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        """Eq. (6) and what it is made of; targets are soft, (B, S) and (B, A)."""
        z_rev, z_sec, z_att = self.embedder.maps(log_mel, waveform)
        turned = reversed_gradient(z_rev, reversal_strength(progress))
        by_reverse = self.reverse_classes(self.reverse_head(turned))
        by_section = self.section_classes(self.section_head(z_sec))
        by_group = self.group_classes(self.embedder.head(z_att))
        l_rev = self._focal(by_reverse, group)  # eq. (2)
        l_sec = functional.cross_entropy(by_section, section)  # eq. (5)
        l_att = self._focal(by_group, group)  # eq. (5)
        s = self.settings
        beta = s.beta if section.shape[1] > 1 else 0.0  # the entropy of one section says nothing
        total = s.alpha * l_rev + beta * l_sec + s.gamma * l_att  # eq. (6)
        right = (by_group.argmax(1) == group.argmax(1)).float().mean()
        parts = {"loss": total, "l_rev": l_rev, "l_sec": l_sec, "l_att": l_att, "accuracy": right}
        return total, {name: float(value.detach()) for name, value in parts.items()}

    def accuracy(self, views: tuple[Tensor, Tensor], group: Tensor) -> float:
        """Share of segments whose attribute group (B,) is named rightly."""
        named = self.group_classes(self.embedder(*views)).argmax(1)
        return float((named == group).float().mean())

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
