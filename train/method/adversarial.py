"""Adversarial evaluator: a small network that tells real clips of a machine from fakes made of its attributes.

[S3] Zhang and Li, Anomalous Sound Detection via Multitask Learning and Adversarial Learning, DCASE 2023 Challenge
technical report, system 3. A conditional variational auto-encoder (CVAE) learns to draw log-mels of an attribute group
c; since a fake has the right attributes, the evaluator must look at what is beyond them:

    x ─► encoder ─► z ~ N(μ, σ²) ─► [z ; c] ─► decoder ─► x̂        pre-training: reconstruction and KL
    x, x̂, other machines ─► evaluator ─► p                         then: own 1, fakes and others 0; decoder: fakes 1

The encoder is the report's Table 1; what it leaves open is read as methods.md §4.2 does: ReLU, a mirrored decoder,
2 × 16 numbers from the last layer, an evaluator of four convolutions, reconstruction beside the decoder's own aim, and
an evaluator that pauses while it is nearly always right. A device runs the evaluator alone, and scores −ln p.

Where we depart from it:

* Both steps of a batch are one: evaluator and decoder are told what to do by the same fakes, of before the step. No
  gradient of the one reaches the other, so that one optimiser serves both.
* One model over all machines, one sigmoid a machine identity. A fake is nobody's; it should pass as its own machine's.
* The condition is the attribute group, one number each, not one block an attribute.
* β is 0.01: reconstruction is a mean over the numbers of an image, of scaled decibels, and at a weight of 0.1 nothing
  that z could tell is worth it: each group is drawn as its mean.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from edge_asd.errors import ConfigError
from train.method.oevae import divergence, exposure
from train.method.stgram_mfn import scaled
from train.method.task import Table

if TYPE_CHECKING:
    from train.method.task import Batch, Task

ENCODER = ((32, 1, 1), (16, 3, 2), (8, 3, 2))
"""channels, kernel and stride: [S3], Table 1"""
HIDDEN = 256
EVALUATOR = (16, 32, 64, 128)
"""channels"""


class Settings(Table):
    """Sizes, and the terms of what is learned."""

    latent: int = Field(default=16, ge=1)
    """numbers of z"""
    kl: float = Field(default=0.01, ge=0)
    """β"""
    pretraining: float = Field(default=0.5, ge=0, lt=1)
    """share of the training in which the CVAE learns alone"""
    fakes: Literal["reconstructed", "sampled"] = "reconstructed"
    """z is drawn from what the encoder says of a real segment, as in the report's Fig. 2, or from N(0, 1)"""
    reconstruction: float = Field(default=1.0, ge=0)
    """weight beside the decoder's aim to pass, against drifting away"""
    guard: float = Field(default=0.95, gt=0, le=1)
    """accuracy in a batch above which the evaluator pauses"""


# The CVAE -------------------------------------------------------------------------------------------------------------


class Cvae(nn.Module):
    """Draws scaled log-mels (B, M, T) of attribute groups; bands are channels, and it is time that shrinks."""

    def __init__(self, task: Task, latent: int) -> None:
        super().__init__()
        self.latent, groups = latent, len(task.groups)
        lengths = shrunk(task.frames)  # 256 → 256 → 127 → 63
        self.narrow = ENCODER[-1][0], lengths[-1]
        flat = self.narrow[0] * self.narrow[1]
        inputs = (task.mels, *(channels for channels, _, _ in ENCODER))
        self.encoder = nn.Sequential(
            *(
                module
                for (fewer, more), (_, kernel, stride) in zip(pairwise(inputs), ENCODER, strict=True)
                for module in (nn.Conv1d(fewer, more, kernel, stride), nn.ReLU())
            ),
            nn.Flatten(),
            nn.Linear(flat, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, 2 * latent),
        )
        drawn = latent + groups
        widen = nn.Linear(drawn, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, flat), nn.ReLU(), nn.Unflatten(1, self.narrow)
        self.widen = nn.Sequential(*widen)
        mirrored = []
        for at in reversed(range(len(ENCODER))):
            _, kernel, stride = ENCODER[at]
            missing = lengths[at] - (lengths[at + 1] - 1) * stride - kernel
            mirrored += [nn.ReLU(), nn.ConvTranspose1d(inputs[at + 1], inputs[at], kernel, stride, 0, missing)]
        self.decoder = nn.Sequential(*mirrored[1:])

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, M, T) -> μ and ln σ², each (B, latent)."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """(B, latent) and one-hot groups (B, groups) -> (B, M, T)."""
        x: Tensor = self.decoder(self.widen(torch.cat([z, condition], dim=1)))
        return x


def shrunk(frames: int) -> list[int]:
    """Frames before and after each convolution of the encoder."""
    lengths = [frames]
    for _, kernel, stride in ENCODER:
        lengths.append((lengths[-1] - kernel) // stride + 1)
    return lengths


# The evaluator --------------------------------------------------------------------------------------------------------


class Evaluator(nn.Module):
    """Whose a segment is, if it is real; what a device runs."""

    views = ("log_mel",)
    outputs = ("raw_embedding", "target_logit")

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(
                module
                for fewer, more in pairwise((1, *EVALUATOR))
                for module in (nn.Conv2d(fewer, more, 3, 2, 1, bias=False), nn.BatchNorm2d(more), nn.ReLU())
            )
        )
        self.target = nn.Linear(EVALUATOR[-1], len(task.sections))

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """(B, M, T) dB -> mean of the map (B, 128), one logit a machine identity (B, sections)."""
        e = self.layers(scaled(log_mel)[:, None]).mean(dim=(2, 3))
        return e, self.target(e)


# The method -----------------------------------------------------------------------------------------------------------


class Adversarial(nn.Module):
    """The training graph."""

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.embedder = Evaluator(task)
        self.cvae = Cvae(task, settings.latent)

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Of the CVAE alone first, then of evaluator and decoder."""
        x, real = scaled(batch.views["log_mel"]), batch.group.sum(dim=1)  # outliers are of no group: not drawn
        if progress < self.settings.pretraining:
            return self._pretraining(x, batch.group, real)
        return self._adversarial(x, batch, real)

    def _pretraining(self, x: Tensor, group: Tensor, real: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        mean, log_variance = self.cvae.encode(x)
        drawn = self.cvae.decode(sampled(mean, log_variance), group)
        reconstruction = missed(drawn, x, real)
        kl = weighted(divergence(mean, log_variance, torch.zeros_like(mean)), real)
        loss = reconstruction + self.settings.kl * kl
        return loss, {"loss": loss, "l_reconstruction": reconstruction, "l_kl": kl}

    def _adversarial(self, x: Tensor, batch: Batch, real: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        redrawn, fake = self.fakes(x, batch.group)
        # real and fake in one batch: apart, batch norm would take away what they differ by
        logit, judged = self.embedder(decibels(torch.cat([x, fake.detach()])))[1].chunk(2)
        nobody = torch.zeros_like(batch.section)
        evaluator = exposure(torch.cat([logit, judged]), torch.cat([batch.section, nobody]))
        accuracy = self.accuracy(logit, judged, batch.section)
        own = (frozen(self.embedder, torch.cat([x, fake])).chunk(2)[1] * batch.section).sum(dim=1)
        parts = {
            "l_evaluator": evaluator,
            "l_generator": weighted(functional.softplus(-own), real),
            "l_reconstruction": missed(redrawn, x, real),
        }
        loss = parts["l_generator"] + self.settings.reconstruction * parts["l_reconstruction"]
        if not self.training or accuracy <= self.settings.guard:
            loss = loss + evaluator
        return loss, {"loss": loss, **parts, "accuracy": accuracy}

    def fakes(self, x: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
        """Real segments drawn anew, and fakes of the same groups; the decoder alone learns by them."""
        with torch.no_grad():
            z = sampled(*self.cvae.encode(x))
        redrawn = self.cvae.decode(z, group)
        if self.settings.fakes == "reconstructed":
            return redrawn, redrawn
        return redrawn, self.cvae.decode(torch.randn_like(z), group)

    @staticmethod
    def accuracy(logit: Tensor, judged: Tensor, section: Tensor) -> Tensor:
        """Mean share of right answers about own segments, fakes and others' segments, (B, sections) each."""
        own, other = section, 1.0 - section
        asked = ((logit > 0, own), (judged <= 0, own), (logit <= 0, other))
        shares = [(right * weight).sum() / weight.sum() for right, weight in asked if weight.sum() > 0]
        return torch.stack(shares).mean()

    @torch.no_grad()
    def generate(self, group: Tensor, seed: int) -> Tensor:
        """Fakes of one-hot groups (B, groups), in dB (B, M, T); the same for the same seed."""
        drawn = torch.Generator().manual_seed(seed)
        z = torch.randn(len(group), self.cvae.latent, generator=drawn).to(group.device)
        return decibels(self.cvae.decode(z, group))


def frozen(evaluator: Evaluator, x: Tensor) -> Tensor:
    """Its logits of scaled log-mels; neither weights nor statistics learn by it, what it looks at may."""
    state = {name: value.detach().clone() for name, value in evaluator.state_dict().items()}
    logit: Tensor = functional_call(evaluator, state, decibels(x))[1]
    return logit


def decibels(x: Tensor) -> Tensor:
    """The inverse of :func:`scaled`."""
    return 20.0 * x - 20.0


def sampled(mean: Tensor, log_variance: Tensor) -> Tensor:
    """One z of N(μ, σ²) for each row."""
    return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)


def missed(drawn: Tensor, x: Tensor, real: Tensor) -> Tensor:
    """Mean square of what real images (B, M, T) and those drawn differ by."""
    return weighted((drawn - x).square().mean(dim=(1, 2)), real)


def weighted(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of (B,) under weights (B,); 0 where all are 0."""
    return (values * weight).sum() / weight.sum().clamp(min=1e-6)


def build(task: Task, settings: Settings) -> Adversarial:
    """Fresh.

    Raises:
        ConfigError: a segment has too few frames for the encoder.
    """
    if shrunk(task.frames)[-1] < 1:
        msg = f"the encoder needs 7 frames, and a segment has {task.frames}: make windows.segment longer"
        raise ConfigError(msg)
    return Adversarial(task, settings)
