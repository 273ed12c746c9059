"""Attribute groups: the classes that a network learns to tell apart (methods.md §1.2, §7.7)."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from sklearn.cluster import AgglomerativeClustering

from edge_asd.signal.view import decibels, frames, mel_bank, spectrum
from train.corpus.clip import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from rich.progress import Progress

    from edge_asd.signal.view import LogMel
    from train.corpus.clip import Clip

LEAST = 2
"""clips in a pseudo-group: one alone is an outlier, no class"""


def groups(
    clips: Sequence[Clip], pseudo: int, spec: LogMel, progress: Progress | None = None, *, by_domain: bool = False
) -> list[str]:
    """The name of each clip's group: one operating condition of one machine; where it is unknown, one domain of it.

    A domain of a machine none of whose training clips has an attribute is divided by its sound: Ward clustering of
    the means and the standard deviations over time of the mel bands, either standardised as a whole. The same clips
    give the same groups in whatever order they come. Only normal training clips are heard and counted.

    Args:
        clips: of several machines.
        pseudo: the most groups a domain is divided into; below 2 none is.
        spec: what the clips are heard through.
        progress: shows how far it is.
        by_domain: a condition that is heard in both domains is two groups.

    Raises:
        AudioError: a training clip of a machine without attributes cannot be read.
    """
    names = [f"{clip.key} {clip.attribute or clip.domain}" for clip in clips]
    if by_domain:
        names = [f"{name} {clip.domain}" if clip.attribute else name for name, clip in zip(names, clips, strict=True)]
    taught = [number for number, clip in enumerate(clips) if clip.split == "train" and clip.label == "normal"]
    named = {clips[number].key for number in taught if clips[number].attribute}
    nameless: dict[str, list[int]] = defaultdict(list)
    for number in sorted(taught, key=lambda number: clips[number].path):
        if pseudo > 1 and clips[number].key not in named:
            nameless[names[number]].append(number)
    shown = nameless.items()
    for name, numbers in progress.track(shown, description="pseudo-groups") if progress else shown:
        found = _clusters([clips[number] for number in numbers], pseudo, spec)
        for number, cluster in zip(numbers, found, strict=True):
            names[number] = f"{name} pseudo {cluster + 1}" if found.any() else name
    return names


def _clusters(clips: Sequence[Clip], most: int, spec: LogMel) -> NDArray[np.int64]:
    """(N,) clusters of at least LEAST clips, counted from 0 in the order in which they first occur."""
    wanted = min(most, len(clips) // LEAST)
    if wanted < 2:
        return np.zeros(len(clips), np.int64)
    sounds = _standardised(np.stack([_sound(clip, spec) for clip in clips]))  # (N, 2 M)
    found = _adopted(sounds, AgglomerativeClustering(n_clusters=wanted, linkage="ward").fit_predict(sounds))
    _, first, cluster = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[cluster].astype(np.int64)


def _adopted(sounds: NDArray[np.float64], found: NDArray[np.int64]) -> NDArray[np.int64]:
    """Clips of clusters that are too small join the one whose centre is nearest."""
    numbers, sizes = np.unique(found, return_counts=True)
    kept = numbers[sizes >= LEAST]
    if not kept.size:
        return np.zeros_like(found)
    centres = np.stack([sounds[found == number].mean(axis=0) for number in kept])  # (clusters, 2 M)
    distances = np.linalg.norm(sounds[:, None] - centres, axis=-1)  # (N, clusters)
    return np.where(np.isin(found, kept), found, kept[distances.argmin(axis=1)])


def _standardised(sounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means and deviations weigh the same, bands what they differ by.

    Were each band standardised, the hundred that a change of speed leaves alone would drown the five that it moves.
    """
    halves = np.stack(np.split(sounds - sounds.mean(axis=0), 2, axis=1))  # (2, N, M)
    scale = halves.std(axis=(1, 2), keepdims=True)
    return np.concatenate(list(halves / np.maximum(scale, 1e-9)), axis=1)


def _sound(clip: Clip, spec: LogMel) -> NDArray[np.float64]:
    """(2 M,) mean and standard deviation over time of the log-mel of whole frames: padding would be heard."""
    samples = load(clip, spec.sample_rate)
    framed = frames(spec, np.resize(samples, max(samples.size, spec.n_fft)))  # (T, n_fft)
    image = decibels(spec, np.square(np.abs(spectrum(spec, framed))) @ mel_bank(spec))  # (T, M)
    return np.concatenate([image.mean(axis=0), image.std(axis=0)]).astype(np.float64)
