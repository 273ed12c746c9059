"""What a network is shown: clips in memory, their classes, and the batches cut from them.

Randomness comes in as a generator alone, so that an epoch can be repeated.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from edge_asd.signal.view import log_mel
from train.corpus.clip import load
from train.corpus.feature import cached_log_mels
from train.corpus.group import groups
from train.method.task import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from rich.progress import Progress
    from torch import Tensor

    from train.corpus.clip import Clip
    from train.method.task import Task
    from train.teach.recipe import Recipe, Training

NOISE_SPAN_DB = 20.0
"""how much fainter than its loudest added noise may be"""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned from."""

    recipe: Recipe
    training: Training
    task: Task
    clips: Sequence[NDArray[np.float32]]
    """each (L,), at least one segment long; or (K, M, T), the log-mels of its segments, where they are cached"""
    lengths: NDArray[np.int64]
    """samples of each clip"""
    sections: NDArray[np.int64]
    groups: NDArray[np.int64]
    targets: NDArray[np.bool_]
    """whether a clip is of the target domain"""
    held: NDArray[np.bool_]
    """whether its recording is held out"""

    @property
    def crops(self) -> NDArray[np.int64]:
        """How many segments each clip gives in an epoch."""
        whole = self.lengths // self.recipe.windows.segment
        return np.minimum(whole, self.training.crops) if self.training.crops else whole

    @property
    def plain(self) -> Lesson:
        """The same without any augmentation."""
        nothing = {"mixup": 0.0, "gain_db": 0.0, "noise_db": 0.0, "mask_mels": 0, "mask_frames": 0}
        return replace(self, training=self.training.model_copy(update=nothing))


def learn_from(clips: Sequence[Clip], recipe: Recipe, training: Training, progress: Progress) -> Lesson:
    """Load the normal training clips and number their classes.

    Raises:
        AudioError: a recording cannot be read.
    """
    named = groups(clips, recipe.pseudo_groups, recipe.front_end, progress)
    (sections, section), (group_names, group) = _numbered([clip.key for clip in clips]), _numbered(named)
    held = held_out(clips, named, training.holdout, np.random.default_rng(recipe.seed))
    sizes = np.bincount(group[~held], minlength=len(group_names))
    heard = [_heard(clip, recipe, training) for clip in progress.track(clips, description="loading clips")]
    return Lesson(
        recipe,
        training,
        recipe.task(sections, group_names, tuple(map(int, sizes))),
        heard,
        np.array([_length(sound, recipe) for sound in heard], np.int64),
        section,
        group,
        np.array([clip.domain == "target" for clip in clips]),
        held,
    )


def _heard(clip: Clip, recipe: Recipe, training: Training) -> NDArray[np.float32]:
    if training.cache:
        return cached_log_mels(clip, recipe.windows, recipe.front_end)
    samples = load(clip, recipe.windows.sample_rate)
    return np.resize(samples, max(samples.size, recipe.windows.segment))


def _length(sound: NDArray[np.float32], recipe: Recipe) -> int:
    """Samples that a clip stands for; cached segments lie half of one apart."""
    return sound.size if sound.ndim == 1 else (len(sound) + 1) * recipe.windows.segment // 2


def _numbered(names: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    different, numbers = np.unique(names, return_inverse=True)
    return tuple(map(str, different)), numbers.astype(np.int64)


def held_out(clips: Sequence[Clip], named: Sequence[str], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Whole recordings, but never all of a group, nor one that leads further past the share than it was short."""
    clips_of: dict[str, list[int]] = {}
    for number, clip in enumerate(clips):
        clips_of.setdefault(f"{clip.key} {clip.recording}", []).append(number)
    left = Counter(named)
    held = np.zeros(len(clips), np.bool_)
    for recording in rng.permutation(sorted(clips_of)):
        lost = Counter(named[number] for number in clips_of[recording])
        missing = share * len(clips) - held.sum()
        nearer = len(clips_of[recording]) <= 2 * missing  # to the share, than without it
        if nearer and all(left[group] > count for group, count in lost.items()):
            left -= lost
            held[clips_of[recording]] = True
    return held


# Batches --------------------------------------------------------------------------------------------------------------


def batches(lesson: Lesson, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Clip numbers of an epoch; a clip comes once for every segment it gives, targets in every batch."""
    taught, size = np.flatnonzero(~lesson.held), lesson.training.batch
    order = rng.permutation(np.repeat(taught, lesson.crops[taught]))
    targets = taught[lesson.targets[taught]]
    for first in range(0, len(order), size):
        batch = order[first : first + size]
        short = lesson.training.targets - int(lesson.targets[batch].sum())
        extra = rng.choice(targets, max(0, short)) if targets.size else targets
        if len(batch) + len(extra) > 1:  # batch norm needs two
            yield np.concatenate([batch, extra])


def batch(lesson: Lesson, chosen: NDArray[np.int64], rng: np.random.Generator) -> Batch:
    """Random segments of these clips, changed as the recipe says."""
    if lesson.training.cache:
        views, share = _from_cache(lesson, chosen, rng), np.ones((len(chosen), 1), np.float32)
    else:
        waves, share = _waves(lesson, chosen, rng)
        views = seen(lesson, waves)
    views["log_mel"] = _masked(views["log_mel"], lesson.training, rng)
    mixed = torch.from_numpy(share)
    section = _one_hot(lesson.sections[chosen], len(lesson.task.sections))
    group = _one_hot(lesson.groups[chosen], len(lesson.task.groups))
    return Batch(views, *(mixed * row + (1.0 - mixed) * row.flip(0) for row in (section, group)))


def middles(lesson: Lesson, chosen: NDArray[np.int64]) -> Batch:
    """The middle segment of each of these clips, unchanged."""
    segment = lesson.recipe.windows.segment
    if lesson.training.cache:
        images = np.stack([lesson.clips[clip][len(lesson.clips[clip]) // 2] for clip in chosen])
        views = {"log_mel": torch.from_numpy(images)}
    else:
        cuts = [(lesson.clips[clip], (lesson.clips[clip].size - segment) // 2) for clip in chosen]
        views = seen(lesson, np.stack([samples[start : start + segment] for samples, start in cuts]))
    section = _one_hot(lesson.sections[chosen], len(lesson.task.sections))
    return Batch(views, section, _one_hot(lesson.groups[chosen], len(lesson.task.groups)))


def seen(lesson: Lesson, waves: NDArray[np.float32]) -> dict[str, Tensor]:
    """The device's own log-mel of segments (B, S), and the waveforms themselves."""
    return {"log_mel": torch.from_numpy(log_mel(lesson.recipe.front_end, waves)), "waveform": torch.from_numpy(waves)}


def _from_cache(lesson: Lesson, chosen: NDArray[np.int64], rng: np.random.Generator) -> dict[str, Tensor]:
    """A gain is a sum in decibels."""
    images = np.stack([lesson.clips[clip][rng.integers(len(lesson.clips[clip]))] for clip in chosen])
    gain = rng.uniform(-lesson.training.gain_db, lesson.training.gain_db, (len(images), 1, 1)).astype(np.float32)
    floor = np.float32(10.0 * np.log10(lesson.recipe.front_end.floor))
    return {"log_mel": torch.from_numpy(np.maximum(images + gain, floor))}


def _waves(
    lesson: Lesson, chosen: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Segments (B, S), each mixed with that from the other end of the batch, and its own share (B, 1)."""
    training, segment = lesson.training, lesson.recipe.windows.segment
    starts = [rng.integers(lesson.clips[clip].size - segment + 1) for clip in chosen]
    waves = np.stack([lesson.clips[c][s : s + segment] for c, s in zip(chosen, starts, strict=True)])
    waves *= 10.0 ** (rng.uniform(-training.gain_db, training.gain_db, (len(waves), 1)) / 20.0).astype(np.float32)
    share = np.where(rng.random(len(waves)) < training.mixup, rng.random(len(waves)), 1.0).astype(np.float32)[:, None]
    waves = share * waves + (1.0 - share) * waves[::-1]
    return (noisy(waves, training.noise_db, rng) if training.noise_db else waves), share


def noisy(waves: NDArray[np.float32], distance_db: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Segments (B, S) under pink noise that lies ``distance_db`` to 20 dB more below each of them."""
    white = np.fft.rfft(rng.standard_normal(waves.shape, np.float32))
    pink = np.fft.irfft(white / np.sqrt(np.maximum(np.arange(white.shape[1]), 1.0)), waves.shape[1])
    level = np.sqrt(np.square(waves).mean(axis=1, keepdims=True) / np.square(pink).mean(axis=1, keepdims=True))
    below = rng.uniform(distance_db, distance_db + NOISE_SPAN_DB, (len(waves), 1))
    return np.asarray(waves + level * 10.0 ** (-below / 20.0) * pink, np.float32)


def _masked(images: Tensor, training: Training, rng: np.random.Generator) -> Tensor:
    """Images (B, M, T) with a stretch of bands and one of frames at their mean (Park et al., SpecAugment, 2019)."""
    for axis, most in ((1, training.mask_mels), (2, training.mask_frames)):
        if most:
            hidden = torch.from_numpy(_stretches(len(images), images.shape[axis], most, rng))
            hidden = hidden.unsqueeze(3 - axis)
            images = torch.where(hidden, images.mean((1, 2), keepdim=True), images)
    return images


def _stretches(rows: int, length: int, most: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(rows, length), in each a stretch of at most so many that are True."""
    sizes = rng.integers(0, min(most, length) + 1, (rows, 1))
    starts = rng.integers(0, length - sizes + 1)
    places = np.arange(length)
    return (places >= starts) & (places < starts + sizes)


def _one_hot(numbers: NDArray[np.int64], classes: int) -> Tensor:
    return functional.one_hot(torch.from_numpy(numbers), classes).float()
