"""Classification by sub-cluster AdaCos of the spectrum, the spectrogram and its phase, with features exchanged.

[S2] §3.1, the classification model of the OEVAE report, which is that of
[W1] Wilkinghoff, Self-Supervised Learning for Anomalous Sound Detection, ICASSP 2024 (FeatEx, StatEx), and its code,
[W2] Wilkinghoff, Sub-Cluster AdaCos, IJCNN 2021 (the loss),
[W3] Wilkinghoff, AdaProj, DCASE Workshop 2024 (the loss of ``settings.loss = "adaproj"``),
with a branch on the phase. The code of [W1], as methods.md §3 reports it, decides what the papers leave open:

    |FFT| of the segment ─► 3 × [conv, ReLU, SE] ─► 4 × [linear, BN, ReLU] ─► linear ─► e_1 (128) ┐
    |STFT| − mean over time ─► BN ─► residual stages 16, 32, 64, 128 ─► max over time ─► linear ─► e_2 ├─► e ─► classes
    ∠STFT, the same ─────────────────────────────────────────────────────────────────────────────► e_3 ┘

The mean over time is what the first branch sees, so the second is left with what changes. Branches are concatenated as
they are: no source normalises one by one, only the whole by its length. A class is a machine, section, operating
condition and domain, of S = 16 unit vectors w each, e and w being normalised and y_c soft after mixup:

    p_c = Σ_{j of c} softmax_j(s · cos(e, w_j)),   L = −Σ_c y_c log p_c          (1) [W2]
    s ← √2 · ln( mean_i Σ_j exp(s · cos(e_i, w_j)) ),   s_0 = √2 · ln(C·S − 1)   (2) §3.6, what the code comes to

*AdaProj*: a class is a subspace of K = 32 directions, and cos(e, x_c), x_c = Σ_k (e·w_ck) w_ck, stands for the cosine.
*FeatEx*: with probability ½ one branch of a segment is that of the segment from the other end of the batch; a second
head has a block of classes for the whole and one for each of n branches, [y, 0, …] or [0, y_1/n, …, y_n/n], y_b being
of whose branch it is. *StatEx*: the same with mean and deviation over time of every STFT bin, blocks [y, 0, 0] or
[0, ½y, ½y′]. Total: both heads' losses, equal weights. The first head's centres stay where chance put them, and nothing
has a bias, against collapse (§3.6).

Where we depart, or had to choose:

* Three branches or more: any one is exchanged; two: always the second, as the code does. The report does not say.
* The phase: as an angle, literally, or as its cosine and sine, which have no jump, or as its increment beyond that of
  the bin's own frequency (``settings.phase``). The report calls the second branch's input a mel-spectrogram, the code
  gives linear magnitudes; the mel is ``settings.spectrogram``.
* s is held below :data:`LARGEST` times s_0: by (2) it grows without end once a cosine passes cos(π/4).
* One PReLU slope a channel; the report does not say.
* Smaller networks (``settings.width``, ``stem``, ``dimensions``), and logarithms of magnitudes (``settings.compress``):
  a crowd of machines is heard by any microphone at any gain.
* ``settings.within`` times −Σ_c y_c log p_c + Σ_m y_m log Σ_{c of m} p_c is added, what telling states of one machine m
  apart costs: of many machines the first sum asks mostly which it is, and that can be learned without hearing faults.
* Several STFTs at once (branches ``short``, ``long``): the multi-resolution family, without code of its own (§3).

Axes: B batch, C classes, D dimensions of a branch, F bins or bands, T frames, n branches.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from edge_asd.errors import ConfigError
from train.method.task import Table, refuse_one_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_asd.signal.view import LogMel
    from train.method.task import Batch, Task

Branch = Literal["fft", "stft", "phase", "short", "long"]
PHASES = {"angle": 1, "cos_sin": 2, "increment": 1}
"""forms of the phase, and how many channels each has"""
FILTERS = ((256, 64), (64, 32), (16, 4))
"""kernel and stride of the convolutions over the spectrum (§3.2)"""
DEPTH = 4
"""layers over the spectrum that are dense"""
STAGES = ((1, 1), (2, 2), (4, 2), (8, 2))
"""channels, in those of the first, and stride of the residual stages (§3.3)"""
LEAST = 5
"""bins and frames of which the first layers leave something"""
SILENCE = 1e-4
"""least magnitude that a logarithm is taken of; hiss of −84 dB gives 1e-3 and more"""
LARGEST = 4.0
"""times its first value, the scale at most"""


class Settings(Table):
    """What is heard, and how classes are told apart."""

    branches: tuple[Branch, ...] = Field(default=("fft", "stft", "phase"), min_length=1)
    """``short`` and ``long`` are spectrograms of the front ends of these names"""
    spectrogram: Literal["linear", "mel"] = "linear"
    """magnitudes, or the log-mel that the report names"""
    compress: bool = False
    """logarithms of magnitudes, the spectrum's less their mean: no gain is heard"""
    phase: Literal["angle", "cos_sin", "increment"] = "angle"
    prelu: bool = False
    """PReLU in the place of every ReLU, as [S2]"""
    squeeze: int = Field(default=16, ge=0)
    """channels to those within squeeze-excite; 0 for none"""
    dimensions: int = Field(default=128, ge=1)
    """D"""
    width: int = Field(default=128, ge=1)
    """channels of the layers over the spectrum (§3.2)"""
    stem: int = Field(default=16, ge=1)
    """channels of the first residual stage, an eighth of the last one's (§3.3)"""
    loss: Literal["subcluster", "adaproj"] = "subcluster"
    centres: Literal["fixed", "trainable"] = "fixed"
    """of the plain head"""
    exchanged_centres: Literal["fixed", "trainable"] = "trainable"
    """of the head of FeatEx and StatEx"""
    subcentres: int = Field(default=16, ge=1)
    """S"""
    subspace: int = Field(default=32, ge=1)
    """K"""
    within: float = Field(default=0.0, ge=0)
    """weight of telling a machine's own classes apart, it being known which machine it is; 0 for none"""
    feature_exchange: float = Field(default=0.5, ge=0, le=1)
    """share of segments; 0 for no FeatEx"""
    statistics_exchange: float = Field(default=0.0, ge=0, le=1)
    """share of segments; 0 for no StatEx"""

    @model_validator(mode="after")
    def _branches_to_exchange(self) -> Settings:
        if len(set(self.branches)) < len(self.branches):
            msg = f"branches are different ones, got {list(self.branches)}"
            raise ValueError(msg)
        if self.feature_exchange and len(self.branches) < 2:
            msg = f"feature_exchange = {self.feature_exchange} needs two branches, got {list(self.branches)}; set it 0"
            raise ValueError(msg)
        if self.statistics_exchange and "stft" not in self.branches:
            msg = f"statistics_exchange = {self.statistics_exchange} is of branch stft, got {list(self.branches)}"
            raise ValueError(msg)
        return self

    @property
    def blocks(self) -> int:
        """Of classes that the second head has; 1 where nothing is exchanged."""
        return (1 + len(self.branches) if self.feature_exchange else 1) * (3 if self.statistics_exchange else 1)

    def view(self, branch: Branch) -> str:
        """What a branch looks at."""
        spectrogram = "log_mel" if self.spectrogram == "mel" else "magnitude"
        if branch in {"short", "long"}:
            return f"{spectrogram}.{branch}"
        return spectrogram if branch == "stft" else branch


# Layers ---------------------------------------------------------------------------------------------------------------


def activation(channels: int, settings: Settings) -> nn.Module:
    """ReLU, or [S2]'s PReLU."""
    return nn.PReLU(channels) if settings.prelu else nn.ReLU()


class Excite(nn.Module):
    """Squeeze-excite (Hu et al., CVPR 2018): every channel is weighed by what the mean of all says."""

    def __init__(self, channels: int, settings: Settings) -> None:
        super().__init__()
        inner = max(1, channels // settings.squeeze)
        self.layers = nn.Sequential(
            nn.Linear(channels, inner, bias=False),
            activation(inner, settings),
            nn.Linear(inner, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, …), weighed."""
        weights: Tensor = self.layers(x.flatten(2).mean(2))
        return x * weights.reshape(*weights.shape, *(1 for _ in x.shape[2:]))


def excite(channels: int, settings: Settings) -> nn.Module:
    """Squeeze-excite, or nothing."""
    return Excite(channels, settings) if settings.squeeze else nn.Identity()


def same(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after, so that a strided convolution leaves ⌈length / stride⌉ (Keras' ``same``)."""
    zeros = max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
    return zeros // 2, zeros - zeros // 2


def compressed(magnitudes: Tensor) -> Tensor:
    """Their logarithms, whatever is below the hiss of a good microphone being silence."""
    return magnitudes.clamp(min=SILENCE).log()


class Spectrum(nn.Module):
    """The branch on |FFT|, §3.2."""

    def __init__(self, bins: int, settings: Settings) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, width = 1, settings.width
        for kernel, stride in FILTERS:
            layers += [
                nn.ConstantPad1d(same(bins, kernel, stride), 0.0),
                nn.Conv1d(channels, width, kernel, stride, bias=False),
                activation(width, settings),
                excite(width, settings),
            ]
            channels, bins = width, math.ceil(bins / stride)
        layers.append(nn.Flatten())
        for inputs in (width * bins, *[width] * (DEPTH - 1)):
            dense = nn.Linear(inputs, width, bias=False)
            layers += [dense, nn.BatchNorm1d(width), activation(width, settings)]
        self.layers = nn.Sequential(*layers, nn.Linear(width, settings.dimensions, bias=False))
        self.compress = settings.compress

    def forward(self, fft: Tensor) -> Tensor:
        """(B, S/2) magnitudes, not logarithms -> (B, D)."""
        if self.compress:
            fft = compressed(fft)
            fft = fft - fft.mean(1, keepdim=True)
        e: Tensor = self.layers(fft[:, None])
        return e


class Residual(nn.Module):
    """A pre-activation block; where it halves the map, a pooled and projected one is added (§3.3)."""

    def __init__(self, inputs: int, outputs: int, stride: int, settings: Settings) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.layers = nn.Sequential(
            activation(inputs, settings),
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            activation(outputs, settings),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            excite(outputs, settings),
        )
        halved = (nn.MaxPool2d(stride, ceil_mode=True), nn.Conv2d(inputs, outputs, 1, bias=False))
        self.beside = nn.Sequential(*halved) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, F, T) -> (B, outputs, F', T'); in [W1]'s code both ways begin behind the norm."""
        x = self.norm(x)
        y: Tensor = self.beside(x) + self.layers(x)
        return y


class Map(nn.Module):
    """The branch on a spectrogram, §3.3, or on its phase, §3.4."""

    def __init__(self, channels: int, bins: int, settings: Settings) -> None:
        super().__init__()
        stem = settings.stem
        self.norm = nn.BatchNorm1d(channels * bins)  # over frequency
        layers: list[nn.Module] = [
            nn.Conv2d(channels, stem, 7, 2, 3, bias=False),
            nn.BatchNorm2d(stem),
            activation(stem, settings),
            nn.MaxPool2d(3, 2),
        ]
        inputs, bins = stem, (math.ceil(bins / 2) - 1) // 2
        for times, stride in STAGES:
            outputs = times * stem
            layers += [Residual(inputs, outputs, stride, settings), Residual(outputs, outputs, 1, settings)]
            inputs, bins = outputs, math.ceil(bins / stride)
        self.layers = nn.Sequential(*layers)
        self.last = nn.Sequential(
            nn.BatchNorm1d(inputs * bins), nn.Linear(inputs * bins, settings.dimensions, bias=False)
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, channels, F, T) -> (B, D)."""
        moving = image - image.mean(3, keepdim=True)
        even = self.norm(moving.flatten(1, 2)).reshape(image.shape)
        e: Tensor = self.last(self.layers(even).amax(3).flatten(1))
        return e


class Spectrogram(nn.Module):
    """The branch on magnitudes or a log-mel."""

    def __init__(self, bins: int, settings: Settings) -> None:
        super().__init__()
        self.compress = settings.compress and settings.spectrogram == "linear"
        self.map = Map(1, bins, settings)

    def forward(self, image: Tensor) -> Tensor:
        """(B, F, T) -> (B, D)."""
        image = compressed(image) if self.compress else image
        e: Tensor = self.map(image[:, None])
        return e


class Phase(nn.Module):
    """The branch on angles, in one of three forms."""

    advance: Tensor

    def __init__(self, spec: LogMel, bins: int, settings: Settings) -> None:
        super().__init__()
        self.form = settings.phase
        turns = torch.arange(bins, dtype=torch.float64) * spec.hop / spec.n_fft % 1.0
        self.register_buffer("advance", (2.0 * math.pi * turns).float()[:, None], persistent=False)
        self.map = Map(PHASES[settings.phase], bins, settings)

    def formed(self, phase: Tensor) -> Tensor:
        """(B, F, T) angles -> (B, 1 or 2, F, T or T − 1)."""
        if self.form == "cos_sin":
            return torch.stack([phase.cos(), phase.sin()], dim=1)
        if self.form == "increment":
            return wrapped(phase[:, :, 1:] - phase[:, :, :-1] - self.advance)[:, None]
        return phase[:, None]

    def forward(self, phase: Tensor) -> Tensor:
        """(B, F, T) in (−π, π] -> (B, D)."""
        e: Tensor = self.map(self.formed(phase))
        return e


def wrapped(angle: Tensor) -> Tensor:
    """The same angle in [−π, π)."""
    return angle - 2.0 * math.pi * ((angle + math.pi) / (2.0 * math.pi)).floor()


# Losses ---------------------------------------------------------------------------------------------------------------


class Head(nn.Module):
    """Cosines between e and classes, and the scale that goes with them; centres are fixed or learned."""

    scale: Tensor
    weight: Tensor

    def __init__(self, shape: Sequence[int], rivals: int, *, trainable: bool) -> None:
        super().__init__()
        weight = torch.randn(*shape)
        if trainable:
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)
        self.first = first_scale(rivals)
        self.register_buffer("scale", torch.tensor(self.first))

    def adapt(self, cosines: Tensor, angle: Tensor | None = None) -> None:
        """Eq. (2), of the cosines (B, rivals) of a batch; the scale learns in training alone, and not by gradient."""
        if self.training:
            self.scale.copy_(adapted(self.scale * cosines.detach(), angle).clamp(max=LARGEST * self.first))


class SubclusterAdaCos(Head):
    """Eq. (1), [W2]."""

    def __init__(self, dimensions: int, classes: int, settings: Settings, *, trainable: bool) -> None:
        rows = classes * settings.subcentres
        super().__init__((rows, dimensions), rows, trainable=trainable)
        self.subcentres = settings.subcentres

    def forward(self, e: Tensor, target: Tensor) -> Tensor:  # noqa: ARG002 - as AdaProj
        """Logarithms of p_c (B, C) of joint embeddings (B, n·D)."""
        cosines = functional.linear(functional.normalize(e), functional.normalize(self.weight))
        self.adapt(cosines)
        log_p = functional.log_softmax(self.scale * cosines, dim=1)
        return log_p.reshape(len(e), -1, self.subcentres).logsumexp(2)


class AdaProj(Head):
    """The nearest of subspaces, whose directions are not made orthogonal, [W3]."""

    def __init__(self, dimensions: int, classes: int, settings: Settings, *, trainable: bool) -> None:
        super().__init__((classes, settings.subspace, dimensions), classes, trainable=trainable)

    def cosines(self, e: Tensor) -> Tensor:
        """Between embeddings (B, D) and their projections x_c, (B, C)."""
        unit, w = functional.normalize(e), functional.normalize(self.weight, dim=2)
        shares = torch.einsum("bd,ckd->bck", unit, w)
        # e·x_c is the sum of squared shares, so x_c itself is needed for its length alone
        lengths = torch.einsum("bck,ckd->bcd", shares, w).norm(dim=2)
        found: Tensor = shares.square().sum(2) / lengths.clamp(min=1e-8)
        return found

    def forward(self, e: Tensor, target: Tensor) -> Tensor:
        """Logarithms of p_c (B, C); of a whole class the scale is told nothing but its angle."""
        cosines = self.cosines(e)
        angle = (target * cosines.detach().clamp(-1.0, 1.0).acos()).sum(1).median()
        self.adapt(torch.where(target < 1.0, cosines, 0.0), angle)
        return functional.log_softmax(self.scale * cosines, dim=1)


def first_scale(rivals: int) -> float:
    """s_0 of eq. (2); where there are two, it would be nothing."""
    return max(math.sqrt(2.0) * math.log(max(rivals - 1, 1)), 0.5)


def adapted(logits: Tensor, angle: Tensor | None = None) -> Tensor:
    """The next scale, from the logits (B, rivals) of this: ln of their mean sum, over the cosine of the median angle.

    Args:
        logits: s·cos.
        angle: median angle to one's own class; π/4 at most, and where none is given.
    """
    size = logits.flatten().logsumexp(0) - math.log(len(logits))
    return size / (math.cos(math.pi / 4.0) if angle is None else angle.clamp(max=math.pi / 4.0).cos())


def cross_entropy(log_p: Tensor, target: Tensor) -> Tensor:
    """−Σ_c y_c log p_c, the mean over the batch; targets may be soft."""
    return -(target * log_p).sum(1).mean()


def members(task: Task) -> Tensor:
    """(C, machines), 1 where a class is of a machine."""
    own = [task.own("group_logit", section) for section in task.sections]
    return torch.tensor(own, dtype=torch.float32).reshape(len(own), len(task.groups)).T.contiguous()


def gathered(log_p: Tensor, members: Tensor) -> Tensor:
    """Log-probabilities of machines (B, machines) from those of their classes (B, C)."""
    return (log_p.exp() @ members).clamp(min=1e-20).log()


# Exchanges ------------------------------------------------------------------------------------------------------------


def features_exchanged(branches: Sequence[Tensor], target: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """FeatEx: one branch is that of the segment from the other end of the batch.

    Args:
        branches: n embeddings, each (B, D).
        target: (B, C).
        chosen: (B,), which branch is exchanged; −1 for none.

    Returns:
        Joint embeddings (B, n·D) and targets (B, (1 + n)·C): block 0 of the whole, block 1 + b of branch b.
    """
    rows = [(chosen == branch)[:, None] for branch in range(len(branches))]
    joint = [torch.where(row, e.flip(0), e) for row, e in zip(rows, branches, strict=True)]
    whole = (chosen < 0)[:, None].to(target.dtype)
    shares = [(1.0 - whole) * torch.where(row, target.flip(0), target) / len(branches) for row in rows]
    return torch.cat(joint, dim=1), torch.cat([whole * target, *shares], dim=1)


def statistics_exchanged(image: Tensor, target: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """StatEx: every bin has the mean and deviation over time of that of the other end of the batch.

    Args:
        image: (B, F, T).
        target: (B, C).
        chosen: (B,), whether it is exchanged.

    Returns:
        Images (B, F, T) and targets (B, 3·C): of the whole, of the shape, of the statistics.
    """
    deviation, mean = torch.std_mean(image, dim=2, correction=0, keepdim=True)
    exchanged = (image - mean) / deviation.clamp(min=1e-8) * deviation.flip(0) + mean.flip(0)
    row = chosen[:, None].to(target.dtype)
    blocks = [(1.0 - row) * target, 0.5 * row * target, 0.5 * row * target.flip(0)]
    return torch.where(chosen[:, None, None], exchanged, image), torch.cat(blocks, dim=1)


def drawn(count: int, branches: int, share: float) -> Tensor:
    """Which branch of each segment is exchanged (B,), −1 for none: of two the second, of more any."""
    which = torch.randint(1 if branches == 2 else 0, branches, (count,))
    return torch.where(torch.rand(count) < share, which, -1)


# The method -----------------------------------------------------------------------------------------------------------


class Embedder(nn.Module):
    """What a device runs: views to e."""

    outputs = ("embedding",)

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.views = tuple(settings.view(name) for name in settings.branches)
        made = [branch(name, task, settings) for name in settings.branches]
        self.branches = nn.ModuleList(made)

    def apart(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Of each branch (B, D)."""
        return [one(view) for one, view in zip(self.branches, views, strict=True)]

    def forward(self, *views: Tensor) -> Tensor:
        """The joint embedding e (B, n·D), not normalised."""
        return torch.cat(self.apart(views), dim=1)


def branch(name: Branch, task: Task, settings: Settings) -> nn.Module:
    """The layers of one branch."""
    bins, *_ = task.shape(settings.view(name))
    if name == "fft":
        return Spectrum(bins, settings)
    return Phase(task.own_front_end, bins, settings) if name == "phase" else Spectrogram(bins, settings)


class Subcluster(nn.Module):
    """The training graph."""

    members: Tensor

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        self.settings, self.embedder = settings, Embedder(task, settings)
        kind = SubclusterAdaCos if settings.loss == "subcluster" else AdaProj
        self.register_buffer("members", members(task), persistent=False)
        joint, classes = len(settings.branches) * settings.dimensions, len(task.groups)
        self.plain = kind(joint, classes, settings, trainable=settings.centres == "trainable")
        self.exchanged = None
        if settings.blocks > 1:
            trainable = settings.exchanged_centres == "trainable"
            self.exchanged = kind(joint, settings.blocks * classes, settings, trainable=trainable)

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG002 - one signature
        """Cross-entropies of both heads; nothing is exchanged in evaluation."""
        views = {name: batch.views[name] for name in self.embedder.views}
        target = self._statistics(views, batch.group)
        branches = self.embedder.apart(list(views.values()))
        log_p = self.plain(torch.cat(branches, dim=1), batch.group)
        parts = {"l_plain": cross_entropy(log_p, batch.group), "scale": self.plain.scale.clone()}
        total = parts["l_plain"]
        if self.settings.within:
            parts["l_within"] = total - cross_entropy(gathered(log_p, self.members), batch.section)
            total = total + self.settings.within * parts["l_within"]
        if self.exchanged is not None:
            joint, target = self._features(branches, target)
            parts["l_exchanged"] = cross_entropy(self.exchanged(joint, target), target)
            total = total + parts["l_exchanged"]
        parts["accuracy"] = (log_p.argmax(1) == batch.group.argmax(1)).float().mean()
        return total, {"loss": total, **parts}

    def _statistics(self, views: dict[str, Tensor], target: Tensor) -> Tensor:
        """Exchange those of the spectrogram in its place, and give the targets (B, C or 3·C)."""
        share = self.settings.statistics_exchange
        if not share:
            return target
        name = self.settings.view("stft")
        chosen = (torch.rand(len(target)) < share * self.training).to(target.device)
        views[name], target = statistics_exchanged(views[name], target, chosen)
        return target

    def _features(self, branches: Sequence[Tensor], target: Tensor) -> tuple[Tensor, Tensor]:
        """Exchange branches, if so wished."""
        share = self.settings.feature_exchange
        if not share:
            return torch.cat(list(branches), dim=1), target
        chosen = drawn(len(target), len(branches), share * self.training).to(target.device)
        return features_exchanged(branches, target, chosen)


def build(task: Task, settings: Settings) -> Subcluster:
    """Fresh.

    Raises:
        ConfigError: there is only one group, a front end is missing, or a segment is too short for a branch.
    """
    refuse_one_group(task)
    for name in settings.branches:
        refuse_unseen(task, name, settings)
    return Subcluster(task, settings)


def refuse_unseen(task: Task, name: Branch, settings: Settings) -> None:
    """A branch needs its front end, and more than its first layers take away.

    Raises:
        ConfigError: it has not.
    """
    view = settings.view(name)
    through = view.partition(".")[2]
    if through not in task.front_ends:
        msg = f"branch {name} looks through front end {through}: say n_fft and hop in a table [front_ends.{through}]"
        raise ConfigError(msg)
    # an increment is between two frames
    seen = min(task.shape(view)) - (name == "phase" and settings.phase == "increment")
    if seen < LEAST:
        msg = f"branch {name} sees {seen} bins or frames of {view} and needs {LEAST}"
        msg += ": make windows.segment longer, or the hop of its front end shorter"
        raise ConfigError(msg)
