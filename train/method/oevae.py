"""OEVAE: a feature extractor taught by outlier exposure, and a variational auto-encoder on its embedding.

[S2] Hai et al., Anomalous Sound Detection by Self-Supervised Learning of VAE with Domain Shift Techniques, DCASE 2024
Challenge Task 2 technical report; equation numbers are theirs, printed errors are corrected as methods.md §2.3 does. A
2-second window of a standardised waveform is an image of 224 mel bands; a ResNet-18 [11] makes an embedding of it:

    mel / σ ─► ResNet-18 f_FE ─► e ─┬─► g_machine ─► one logit a machine identity                     (eq. 2)
                                    └─► μ, ln σ² (64) ─► z = (z_d, z_c) ─► ê                           (eq. 3, 4)

    L = L_machine + λ_vae (L_KL + L_rec)                                                               (eq. 1)

z_d, 8 of the 64 channels, is pressed to N(k·v, 1), v being a physical parameter such as a speed; z_c to N(0, 1), and
so to know nothing of v. The VAE learns of normal sound only. Two scores, z-scored and added by the recipe (eq. 6):

    α = −ln N(μ_c; 0, 1) = ½ ‖μ_c‖² + constant      output ``latent_distance``, back end ``value``
    β = distance to the nearest normal embeddings   output ``raw_embedding``, back end ``knn``         (eq. 5)

Where one VAE serves several machines, z_c says first of all which it is: their normals lie far from the origin and each
other, and what is strange may lie between. There α is −ln N(μ_c; m, Σ) of a machine's own normals instead, which is a
distance of output ``latent``, μ_c, back end ``mahalanobis``.

How what [S2] leaves open is read, and where we depart from it:

* λ_vae = 1e-7 is a share of the *gradient* that the backbone takes from the VAE, whose own loss is not scaled. On the
  loss, Adam would undo it but for its ε, and the VAE would hardly learn; ``settings.literal`` does that nevertheless.
* One model serves all machines of a run: a logit for each, to which the clips of all others and of no machine are
  outliers. Half the weight of a logit is on its own segments, half on the rest, which is what the report's batches of
  1 : 1 come to.
* The waveform is standardised by segment, which is all that a device hears; the report does it by file. What a mean
  adds lies below 50 Hz, where no mel band listens, so that a division by σ is all.
* ``settings.compression``: the report speaks of mel spectrograms, and its predecessor took them as linear magnitudes;
  so does the ``paper`` preset. The ``edge`` preset takes logarithms: int8 holds no 60 dB of magnitudes.
* The image has a front end of its own, ``front_ends.image``, so that the statistics hear as they do beside any method.
* Random weights to begin with; [S2] does not say, its predecessor's were ImageNet's.
* VAE layers are not in [S2]: D ─► D/2 ─► 64 + 64, 64 ─► D/2 ─► D.

Axes: B batch, S samples, M mel bands, T frames, D of the embedding, 8 × width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edge_asd.errors import ConfigError
from train.method.task import Table

if TYPE_CHECKING:
    from train.method.task import Batch, Task

BLOCKS = 2
"""of each stage"""
STAGES = (1, 2, 4, 8)
"""channels, in widths"""
LATENT, DOMAIN = 64, 8
"""channels of z, and how many of them are z_d"""
QUIET = 1e-5
"""standard deviation below which a waveform is silence, a third of a 16-bit step"""
DARK = 1e-5
"""added to magnitudes under the logarithm"""
WIDEST = 20.0
"""largest ln σ²: an embedding far from all that was learned would overflow its exponential"""
WHOLE = 0.999
"""from this share on a segment is taken to be of machines alone"""


class Settings(Table):
    """Sizes, and what is left out in ablations."""

    width: Literal[16, 32, 64] = 64
    """channels of the first convolution"""
    compression: Literal["log", "linear"] = "log"
    vae_gradient: float = Field(default=1e-7, ge=0)
    """λ_vae"""
    literal: bool = False
    """scale the VAE's loss itself by λ_vae, as printed"""
    split: bool = True
    """whether there is z_d; without it every channel is pressed to N(0, 1), and α is of all"""
    exposure: bool = True
    """whether there is L_machine; without it no outlier is looked at, the VAE alone teaches the backbone, and
    ``target_logit`` is chance's (λ_vae = 0 leaves the backbone random too)"""


# f_FE, a ResNet-18 (He et al., CVPR 2016) -----------------------------------------------------------------------------


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution and batch norm."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two convolutions beside a way past them, which is projected where the shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(inputs, outputs, 3, stride), nn.ReLU(), conv(outputs, outputs, 3))
        self.past = nn.Identity() if (inputs, stride) == (outputs, 1) else conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, V) -> (B, outputs, ⌈H / stride⌉, ⌈V / stride⌉)."""
        return functional.relu(self.layers(x) + self.past(x))


def resnet18(width: int) -> nn.Sequential:
    """(B, 1, H, V) -> (B, 8 × width, ⌈H / 32⌉, ⌈V / 32⌉)."""
    layers: list[nn.Module] = [conv(1, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = width
    for stage, channels in enumerate(STAGES):
        for block in range(BLOCKS):
            layers.append(Block(inputs, channels * width, 2 if stage and not block else 1))
            inputs = channels * width
    return nn.Sequential(*layers)


# What a device runs ---------------------------------------------------------------------------------------------------


class Embedder(nn.Module):
    """From views to e, α and the logits of the machines."""

    views = ("mel.image", "waveform")
    outputs = ("raw_embedding", "latent", "latent_distance", "target_logit")

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.compression, self.domain = settings.compression, DOMAIN if settings.split else 0
        wide = STAGES[-1] * settings.width
        self.trunk = resnet18(settings.width)
        self.machine = nn.Linear(wide, len(task.sections))  # g_machine
        self.encoder = nn.Sequential(nn.Linear(wide, wide // 2), nn.ReLU())
        self.mean = nn.Linear(wide // 2, LATENT)

    def embed(self, mel: Tensor, waveform: Tensor) -> Tensor:
        """(B, M, T) magnitudes and (B, S) -> e (B, D), f_FE(X)."""
        e: Tensor = self.trunk(image(mel, waveform, self.compression)[:, None]).mean((2, 3))
        return e

    def forward(self, mel: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, M, T) and (B, S) -> e (B, D), μ_c (B, 56), α without its constant (B, 1), logits (B, sections)."""
        e = self.embed(mel, waveform)
        mu_c = self.mean(self.encoder(e))[:, self.domain :]
        return e, mu_c, 0.5 * mu_c.square().sum(1, keepdim=True), self.machine(e)


def image(mel: Tensor, waveform: Tensor, compression: str) -> Tensor:
    """Mel magnitudes (B, M, T) that the waveform (B, S) would have if its standard deviation were one."""
    centred = waveform - waveform.mean(1, keepdim=True)
    deviation = centred.square().mean(1).sqrt().clamp(min=QUIET)
    standardised = mel / deviation[:, None, None]
    return (standardised + DARK).log10() if compression == "log" else standardised


# The training graph ---------------------------------------------------------------------------------------------------


class Oevae(nn.Module):
    """Both networks together."""

    driven: Tensor

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.embedder = Embedder(task, settings)
        wide = STAGES[-1] * settings.width
        self.log_variance = nn.Linear(wide // 2, LATENT)
        self.decoder = nn.Sequential(nn.Linear(LATENT, wide // 2), nn.ReLU(), nn.Linear(wide // 2, wide))
        driven = (torch.arange(LATENT) < self.embedder.domain).float()
        self.register_buffer("driven", driven, persistent=False)  # (64,) 1 in z_d, 0 in z_c

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG002 - one signature
        """Eq. (1), and what it is made of."""
        s, own = self.settings, batch.section
        e = self.embedder.embed(batch.views["mel.image"], batch.views["waveform"])
        normal = own.sum(1) > WHOLE  # t = 1; outliers and what is mixed with them are not
        seen = e if s.literal else dampened(e, s.vae_gradient)
        l_kl, l_rec = self.vae(seen[normal], batch.condition[normal])
        total = (s.vae_gradient if s.literal else 1.0) * (l_kl + l_rec)
        parts = {"l_kl": l_kl, "l_rec": l_rec}
        if s.exposure:
            logit = self.embedder.machine(e)
            parts["l_machine"] = exposure(logit, own)  # eq. (2)
            parts["accuracy"] = even((logit > 0).float(), (logit <= 0).float(), own.round())
            total = total + parts["l_machine"]
        return total, {"loss": total, **parts}

    def vae(self, e: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """L_KL and L_rec of normal segments: e (B, D) and k·v (B,); 0 of none."""
        hidden = self.embedder.encoder(e)
        mean, log_variance = self.embedder.mean(hidden), self.log_variance(hidden).clamp(max=WIDEST)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean) if self.training else mean
        l_kl = divergence(mean, log_variance, condition[:, None] * self.driven)  # eq. (3)
        l_rec = (e - self.decoder(z)).square().sum(1)  # eq. (4)
        return l_kl.sum() / max(len(e), 1), l_rec.sum() / max(len(e), 1)


def dampened(x: Tensor, share: float) -> Tensor:
    """Itself; on the way back only a share of its gradient."""
    still = x.detach()
    return still + share * (x - still)


def divergence(mean: Tensor, log_variance: Tensor, prior: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(m, 1)) = ½ Σ_j (σ_j² + (μ_j − m_j)² − 1 − ln σ_j²), each (B, J) -> (B,)."""
    return 0.5 * (log_variance.exp() + (mean - prior).square() - 1.0 - log_variance).sum(1)


def exposure(logit: Tensor, own: Tensor) -> Tensor:
    """Binary cross-entropy of logits (B, C) and whose a segment is (B, C), :func:`even`."""
    return even(functional.softplus(-logit), functional.softplus(logit), own)


def even(own: Tensor, others: Tensor, target: Tensor) -> Tensor:
    """Of each identity (a column) the mean of ``own`` over its segments and that of ``others`` over the rest, evenly.

    Args:
        own: (B, C) what is counted where a segment is of the identity.
        others: (B, C) what is counted where it is not.
        target: (B, C) share in which it is; less than one segment in all counts as little as it is.
    """
    shares = torch.stack([target, 1.0 - target])
    sizes = shares.sum(1)  # (2, C) segments of each half
    halves = (shares * torch.stack([own, others])).sum(1) / sizes.clamp(min=1.0)
    return halves.sum() / sizes.clamp(max=1.0).sum()


def build(task: Task, settings: Settings) -> Oevae:
    """Fresh.

    Raises:
        ConfigError: there is one machine, and nothing that it could be told from.
    """
    if settings.exposure and len(task.sections) < 2 and not task.outliers:
        one = ", ".join(task.sections)
        msg = (
            f"oevae learns to tell a machine from others, and there is one, {one}: add other machines to --data "
            "(choose with --machine), or background recordings with --outliers DIR"
        )
        raise ConfigError(msg)
    return Oevae(task, settings)
