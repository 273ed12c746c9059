"""What is known of clips: their classes, attributes and conditions, as rows that can be mixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from imblearn.over_sampling import SMOTE

from train.corpus.attribute import FARTHEST, attributes, conditions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from rich.progress import Progress

    from train.corpus.clip import Clip
    from train.teach.recipe import Recipe

SILENCE = 1e-12
"""power below which a clip is as quiet as any"""
NEIGHBOURS = 3
"""among which SMOTE takes a target clip's other end (TWFR-GMM; methods.md §2.5)"""


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known of N clips. Rows of classes sum to one; to zero for outliers, and where an attribute is unknown."""

    section: NDArray[np.float32]
    """(N, sections)"""
    group: NDArray[np.float32]
    """(N, groups)"""
    condition: NDArray[np.float32]
    """(N,) :func:`train.corpus.attribute.conditions`"""
    attributes: NDArray[np.float32]
    """(N, values of all attributes)"""

    def rows(self) -> tuple[NDArray[np.float32], ...]:
        """All four."""
        return self.section, self.group, self.condition, self.attributes

    def __getitem__(self, which: NDArray[np.int64]) -> Labels:
        """Of some."""
        return Labels(*(rows[which] for rows in self.rows()))

    def mixed(self, share: NDArray[np.float32], partner: NDArray[np.int64]) -> Labels:
        """Each with so much of its own, (N,), and the rest its partner's."""

        def mix(rows: NDArray[np.float32]) -> NDArray[np.float32]:
            own = share.reshape(-1, *[1] * (rows.ndim - 1))
            return np.asarray(own * rows + (1.0 - own) * rows[partner], np.float32)

        return Labels(*map(mix, self.rows()))

    def joined(self, others: Labels) -> Labels:
        """These, and others behind them."""
        return Labels(*(np.concatenate(both) for both in zip(self.rows(), others.rows(), strict=True)))


def classes(names: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """The different names, and (N, names) which of them each is."""
    different, numbers = np.unique(names, return_inverse=True)
    return tuple(map(str, different)), np.eye(len(different), dtype=np.float32)[numbers]


def _by_machine(clips: Sequence[Clip]) -> dict[str, NDArray[np.int64]]:
    keys = np.array([clip.key for clip in clips])
    return {str(key): np.flatnonzero(keys == key) for key in np.unique(keys)}


def attribute_rows(clips: Sequence[Clip]) -> tuple[tuple[tuple[str, int], ...], NDArray[np.float32]]:
    """Every machine's attributes with how many values each has, and (N, all values) what each clip has of them."""
    listed, columns = list[tuple[str, int]](), [np.zeros((len(clips), 0), np.float32)]
    for key, numbers in _by_machine(clips).items():
        for attribute in attributes([clips[number].attribute for number in numbers]):
            block = np.zeros((len(clips), len(attribute.values)), np.float32)
            known = attribute.of >= 0
            block[numbers[known], attribute.of[known]] = 1.0
            listed.append((f"{key} {attribute.name}", len(attribute.values)))
            columns.append(block)
    return tuple(listed), np.concatenate(columns, axis=1)


def condition_rows(
    clips: Sequence[Clip], loudness: NDArray[np.float64], recipe: Recipe, progress: Progress
) -> NDArray[np.float32]:
    """(N,) of each machine for itself; who trains is told of those that are out of range."""
    found = np.zeros(len(clips), np.float32)
    by_chance = recipe.training is not None and recipe.training.condition == "random"
    rng = np.random.default_rng(recipe.seed) if by_chance else None
    for key, numbers in _by_machine(clips).items():
        found[numbers] = conditions([clips[number].attribute for number in numbers], loudness[numbers], rng)
        if far := int((np.abs(found[numbers]) >= FARTHEST).sum()):
            said = f"{key}: conditions of {far} clips lie more than {FARTHEST:g} from their mean, 5 being the smallest"
            progress.console.print(f"{said} step there is, and are held at that", highlight=False)
    return found


def loudness(sound: NDArray[np.float32]) -> float:
    """dB, before anything takes the level away; of log-mels their mean."""
    if sound.ndim == 3:
        return float(sound.mean())
    return float(10.0 * np.log10(np.square(sound, dtype=np.float64).mean() + SILENCE))


def between(
    clips: Sequence[NDArray[np.float32]], labels: Labels, wanted: int, seed: int
) -> tuple[list[NDArray[np.float32]], Labels]:
    """So many clips, each on the way from one of these to one of its near ones, as are its labels."""
    length = min(clip.size for clip in clips)
    flat = [rows.reshape(len(clips), -1) for rows in labels.rows()]
    points = np.concatenate([np.stack([clip[:length] for clip in clips]), *flat], axis=1)
    other = np.zeros((1, points.shape[1]), points.dtype)  # SMOTE knows no class alone
    sampler = SMOTE(
        sampling_strategy={1: len(clips) + wanted}, k_neighbors=min(NEIGHBOURS, len(clips) - 1), random_state=seed
    )
    kinds = np.r_[np.ones(len(clips), np.int64), 0]
    made = sampler.fit_resample(np.concatenate([points, other]), kinds)[0][len(clips) + 1 :].astype(np.float32)
    edges = np.cumsum([length, *(rows.shape[1] for rows in flat)])[:-1]
    waves, *rows = np.split(made, edges, axis=1)
    known = [row.reshape(wanted, *rest.shape[1:]) for row, rest in zip(rows, labels.rows(), strict=True)]
    return list(waves), Labels(*known)
