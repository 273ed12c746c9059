"""Imp-Freq: a machine gives itself away in narrow bands, so each band is judged alone. A reading, nothing is trained.

[N] Nguyen et al., The Impact of Frequency Bands on Acoustic Anomaly Detection of Machines using Deep Learning Based
Model, arXiv:2403.00379, of which only the abstract and a summary were read; no code is to be had. From these: a
classifier in the manner of MobileFaceNet, scored by distance from the mean of training embeddings and a gamma
threshold; then pseudo audio (as further classes), short segments, augmentation, Mahalanobis instead of Euclidean
distance, and the spectrogram cut down to a narrow band of frequencies, another for each machine, which helped most.
How bands are chosen is not said there; a best band per machine needs labelled anomalies.

We keep the one idea and drop the classifier (methods.md §7.8): the mean log-mel of a segment, cut into B = 4–8 bands
by a back end, ``bands``, which measures a Mahalanobis distance in each, standardises each on normals and takes the
largest or the mean. No band is chosen, all are heard. Whatever this scores says nothing of the published system.

    log-mel ─► mean over time (M,) ─► B bands ─► Mahalanobis each ─► z each ─► max or mean

``settings.maximum`` adds the maximum over time as a second output, for what is short (a valve).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from train.method.task import Table

if TYPE_CHECKING:
    from train.method.task import Batch, Task


class Settings(Table):
    """What is known of a segment's bands."""

    maximum: bool = False
    """beside the mean over time its maximum, output ``bands_maximum``"""


class Embedder(nn.Module):
    """Two poolings over time."""

    views = ("log_mel",)

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.maximum = settings.maximum
        self.outputs = ("bands", "bands_maximum") if settings.maximum else ("bands",)

    def forward(self, log_mel: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(B, M, T) dB -> mean (B, M) and, if wanted, maximum (B, M)."""
        mean = log_mel.mean(2)
        return (mean, log_mel.amax(2)) if self.maximum else mean


class ImpFreq(nn.Module):
    """A network with nothing to learn."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.embedder = Embedder(settings)

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG002 - one signature
        """Nothing: it is never trained."""
        nothing = batch.views["log_mel"].new_zeros(())
        return nothing, {"loss": nothing}


def build(task: Task, settings: Settings) -> ImpFreq:  # noqa: ARG001 - one signature
    """All there ever is."""
    return ImpFreq(settings)
