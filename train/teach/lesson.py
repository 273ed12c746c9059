"""What a network is shown: clips in memory, their classes, and the batches cut from them.

Randomness comes in as a generator alone, so that an epoch can be repeated.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import torch

from edge_asd.errors import ConfigError
from edge_asd.score.backbone import view
from train.corpus.clip import load
from train.corpus.feature import cached_log_mels
from train.corpus.group import groups
from train.method.task import Batch
from train.teach.augmentation import altered, hidden, masked, noisy
from train.teach.label import Labels, attribute_rows, between, classes, condition_rows, loudness

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from rich.progress import Progress
    from torch import Tensor

    from train.corpus.clip import Clip
    from train.method.task import Task
    from train.teach.recipe import Recipe, Training


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
    labels: Labels
    targets: NDArray[np.bool_]
    """whether a clip is of the target domain"""
    held: NDArray[np.bool_]
    """whether its recording is held out"""
    views: tuple[str, ...] = ("log_mel", "waveform")
    """of a segment that are shown"""

    @property
    def crops(self) -> NDArray[np.int64]:
        """How many segments each clip gives in an epoch."""
        whole = self.lengths // self.recipe.windows.segment
        given = np.minimum(whole, self.training.crops) if self.training.crops else whole
        return given * self._times(given) if self.training.least else given

    def _times(self, given: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N,) how often each clip comes, so that its group gives the least; those of no group once."""
        group = self.labels.group == 1.0  # virtual clips are between groups
        total = given[~self.held] @ group[~self.held]  # (groups,)
        times = -(-self.training.least // np.maximum(total, 1))
        found: NDArray[np.int64] = np.maximum(group @ times, 1)
        return found

    @property
    def own(self) -> NDArray[np.bool_]:
        """Which clips are of one of the machines."""
        return np.asarray(self.labels.section.any(axis=1))

    @property
    def taught(self) -> NDArray[np.int64]:
        """Numbers of the machines' clips that are trained on."""
        return np.flatnonzero(self.own & ~self.held)

    @property
    def plain(self) -> Lesson:
        """The same without any augmentation."""
        nothing = {"mixup": 0.0, "gain_db": 0.0, "noise_db": 0.0, "mask_mels": 0, "mask_frames": 0, "augmentations": ()}
        return replace(self, training=self.training.model_copy(update=nothing))


def learn_from(clips: Sequence[Clip], outliers: Sequence[Clip], recipe: Recipe, progress: Progress) -> Lesson:
    """Load the normal training clips, and sound of no machine that is learned, and number their classes.

    Raises:
        AudioError: a recording cannot be read.
        ConfigError: the recipe trains nothing.
    """
    training = recipe.training
    if training is None:
        msg = f"{recipe.name} trains no network; choose a recipe that does"
        raise ConfigError(msg)
    named = groups(clips, recipe.pseudo_groups, recipe.front_end, progress, by_domain=recipe.domain_groups)
    sections, section = classes([clip.key for clip in clips])
    group_names, group = classes(named)
    held = held_out(clips, named, training.holdout, np.random.default_rng(recipe.seed))
    everything = [*clips, *outliers]
    heard = [_heard(clip, recipe, training) for clip in progress.track(everything, description="loading clips")]
    listed, attribute = attribute_rows(clips)
    levels = np.array([loudness(sound) for sound in heard[: len(clips)]])
    labels = Labels(section, group, condition_rows(clips, levels, recipe, progress), attribute)
    strangers = Labels(*(np.zeros((len(outliers), *rows.shape[1:]), np.float32) for rows in labels.rows()))
    lesson = Lesson(
        recipe,
        training,
        recipe.task(
            sections=sections,
            groups=group_names,
            sizes=tuple(map(int, group[~held].sum(axis=0))),
            attributes=listed,
            augmentations=training.augmentations,
            outliers=bool(outliers),
        ),
        heard,
        np.array([_length(sound, recipe) for sound in heard], np.int64),
        labels.joined(strangers),
        np.array([clip.domain == "target" for clip in clips] + [False] * len(outliers)),
        np.concatenate([held, np.zeros(len(outliers), np.bool_)]),
    )
    return with_virtual(lesson, progress) if training.smote else lesson


def _heard(clip: Clip, recipe: Recipe, training: Training) -> NDArray[np.float32]:
    if training.cache:
        return cached_log_mels(clip, recipe.windows, recipe.front_end)
    samples = load(clip, recipe.windows.sample_rate)
    return np.resize(samples, max(samples.size, recipe.windows.segment))


def _length(sound: NDArray[np.float32], recipe: Recipe) -> int:
    """Samples that a clip stands for; cached segments lie half of one apart."""
    return sound.size if sound.ndim == 1 else (len(sound) + 1) * recipe.windows.segment // 2


def with_virtual(lesson: Lesson, progress: Progress) -> Lesson:
    """With target clips between target clips of the same machine, as many as SMOTE makes on raw waveforms.

    All labels lie between those of the two, in the same place (methods.md §2.4, §2.5). A machine with one target clip
    has none between; who trains is told.
    """
    virtual: list[NDArray[np.float32]] = []
    labels: list[Labels] = []
    for number, key in enumerate(lesson.task.sections):
        own = lesson.taught[lesson.labels.section[lesson.taught, number] > 0]
        target = own[lesson.targets[own]]
        wanted = int(lesson.training.smote * (own.size - target.size)) - target.size
        if target.size == 1:
            progress.console.print(f"{key}: SMOTE needs two target clips and has one, so none is made")
        if target.size < 2 or wanted < 1:
            continue
        real = [lesson.clips[clip] for clip in target]
        made, known = between(real, lesson.labels[target], wanted, lesson.recipe.seed)
        virtual += made
        labels += [known]
    everything = reduce(Labels.joined, labels, lesson.labels)
    more = len(virtual)
    return replace(
        lesson,
        clips=[*lesson.clips, *virtual],
        lengths=np.concatenate([lesson.lengths, [clip.size for clip in virtual]]).astype(np.int64),
        labels=everything,
        targets=np.concatenate([lesson.targets, np.ones(more, np.bool_)]),
        held=np.concatenate([lesson.held, np.zeros(more, np.bool_)]),
    )


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
    """Clip numbers of an epoch; a clip comes once for every segment it gives, targets and outliers in every batch."""
    taught, training = lesson.taught, lesson.training
    order = rng.permutation(np.repeat(taught, lesson.crops[taught]))
    targets, outliers = taught[lesson.targets[taught]], np.flatnonzero(~lesson.own)
    share = training.outliers if outliers.size else 0.0
    size = max(round(training.batch * (1.0 - share)), 1)
    for first in range(0, len(order), size):
        batch = order[first : first + size]
        short = training.targets - int(lesson.targets[batch].sum())
        extra = rng.choice(targets, max(0, short)) if targets.size else targets
        strange = rng.choice(outliers, round(len(batch) * share / (1.0 - share))) if outliers.size else outliers
        whole = np.concatenate([batch, extra, strange])
        if whole.size > 1:  # batch norm needs two
            yield whole


def batch(lesson: Lesson, chosen: NDArray[np.int64], rng: np.random.Generator) -> Batch:
    """Random segments of these clips, changed as the recipe says."""
    partner, kinds = _partners(lesson, chosen, rng), lesson.training.augmentations
    drawn = rng.integers(len(kinds), size=len(chosen)) if kinds else _identity(lesson, len(chosen))
    if lesson.training.cache:
        views, share = _from_cache(lesson, chosen, rng), np.ones(len(chosen), np.float32)
    else:
        waves, share = _waves(lesson, chosen, partner, rng)
        views = seen(lesson, altered(waves, kinds, drawn, rng))
    if "log_mel" in views:
        views["log_mel"] = hidden(_masked(views["log_mel"], lesson.training, rng), kinds, drawn, rng)
    return _shown(lesson, views, lesson.labels[chosen].mixed(share, partner), drawn)


def middles(lesson: Lesson, chosen: NDArray[np.int64]) -> Batch:
    """The middle segment of each of these clips, unchanged."""
    segment = lesson.recipe.windows.segment
    if lesson.training.cache:
        images = np.stack([lesson.clips[clip][len(lesson.clips[clip]) // 2] for clip in chosen])
        views = {"log_mel": torch.from_numpy(images)}
    else:
        cuts = [(lesson.clips[clip], (lesson.clips[clip].size - segment) // 2) for clip in chosen]
        views = seen(lesson, np.stack([samples[start : start + segment] for samples, start in cuts]))
    return _shown(lesson, views, lesson.labels[chosen], _identity(lesson, len(chosen)))


def seen(lesson: Lesson, waves: NDArray[np.float32]) -> dict[str, Tensor]:
    """The device's own views of segments (B, S)."""
    specs = lesson.task.front_ends
    return {name: torch.from_numpy(view(name, specs, waves)) for name in lesson.views}


def _identity(lesson: Lesson, rows: int) -> NDArray[np.int64]:
    """(B,) the number of the augmentation that changes nothing; −1 where a network need not tell it."""
    return np.full(rows, next((n for n, kind in enumerate(lesson.task.augmentations) if kind == "identity"), -1))


def _shown(lesson: Lesson, views: dict[str, Tensor], labels: Labels, drawn: NDArray[np.int64]) -> Batch:
    section, group, condition, attribute = map(torch.from_numpy, labels.rows())
    augmentation = torch.from_numpy(drawn[:, None] == np.arange(len(lesson.task.augmentations))).float()
    return Batch(views, section, group, condition, attribute, augmentation)


def _from_cache(lesson: Lesson, chosen: NDArray[np.int64], rng: np.random.Generator) -> dict[str, Tensor]:
    """A gain is a sum in decibels."""
    images = np.stack([lesson.clips[clip][rng.integers(len(lesson.clips[clip]))] for clip in chosen])
    gain = rng.uniform(-lesson.training.gain_db, lesson.training.gain_db, (len(images), 1, 1)).astype(np.float32)
    floor = np.float32(10.0 * np.log10(lesson.recipe.front_end.floor))
    return {"log_mel": torch.from_numpy(np.maximum(images + gain, floor))}


def _partners(lesson: Lesson, chosen: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Whom each segment of a batch is mixed with, (B,): that from the other end, or one of the same machine."""
    partner = np.arange(len(chosen))[::-1].copy()
    if lesson.training.mixup_within:
        rows = lesson.labels.section[chosen]
        machine = np.where(rows.any(axis=1), rows.argmax(axis=1), -1)
        for one in np.unique(machine):
            own = np.flatnonzero(machine == one)
            partner[own] = rng.permutation(own)
    return partner


def _waves(
    lesson: Lesson, chosen: NDArray[np.int64], partner: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Segments (B, S), each mixed with its partner, and its own share (B,)."""
    training, segment = lesson.training, lesson.recipe.windows.segment
    starts = [rng.integers(lesson.clips[clip].size - segment + 1) for clip in chosen]
    waves = np.stack([lesson.clips[c][s : s + segment] for c, s in zip(chosen, starts, strict=True)])
    waves *= 10.0 ** (rng.uniform(-training.gain_db, training.gain_db, (len(waves), 1)) / 20.0).astype(np.float32)
    mixed, alpha = rng.random(len(waves)) < training.mixup, training.mixup_alpha
    drawn = rng.random(len(waves)) if alpha == 1.0 else rng.beta(alpha, alpha, len(waves))  # the same, and as before
    share = np.where(mixed, drawn, 1.0).astype(np.float32)
    waves = share[:, None] * waves + (1.0 - share[:, None]) * waves[partner]
    return (noisy(waves, training.noise_db, rng) if training.noise_db else waves), share


def _masked(images: Tensor, training: Training, rng: np.random.Generator) -> Tensor:
    for axis, most in ((1, training.mask_mels), (2, training.mask_frames)):
        if most:
            images = masked(images, axis, 0, most, rng)
    return images
