"""What is kept of normal clips that were heard: their features. The sound itself is forgotten as it comes.

A clip is some kilobytes: three indicators, the two pooled spectra, and what the network said of its segments.
Axes beyond those of the project: N clips.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

from edge_asd.score.part import Evidence, Normal
from edge_asd.signal.statistic import Statistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

FIRST = "first"
"""operating point that was learned before any was added"""
SAME_DB = 0.02
"""in the band that differs most: two clips of one machine, however steady, are further apart than that"""
LINK = 2.0
"""times what nine in ten clips have to their nearest, up to which clips are of one operating point"""
LEAST_OF_POINT = 3
"""clips; fewer are stragglers"""
OUTPUT = "output."
DAY = "day"


@dataclass(frozen=True, slots=True)
class Memory:
    """N clips, in the order in which they were heard."""

    points: tuple[str, ...] = ()
    """(N) operating point of each, as who taught it called it"""
    features: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """``indicators`` (N, 3): level, crest, kurtosis; ``mean`` and ``maximum`` (N, M); ``output.NAME`` (N, B, …);
    ``day`` (N,) on which it was heard, a whole number; 0 where nobody knows"""

    def __len__(self) -> int:
        return len(self.points)

    def with_clip(self, evidence: Evidence, point: str, day: int = 0) -> Self:
        """And one more."""
        new = {name: value[None].astype(np.float32) for name, value in _features(evidence).items()}
        new[DAY] = np.array([day], np.float32)
        known = {name: np.concatenate([self.features[name], row]) if self.points else row for name, row in new.items()}
        return type(self)((*self.points, point), known)

    def plus(self, other: Self) -> Self:
        """And those of another memory, after these."""
        if not self.points or not other.points:
            return other if other.points else self
        features = {name: np.concatenate([value, other.features[name]]) for name, value in self.features.items()}
        return type(self)(self.points + other.points, features)

    def some(self, which: Iterable[int]) -> Self:
        """Those, in that order."""
        rows = list(which)
        return type(self)(tuple(self.points[row] for row in rows), {n: v[rows] for n, v in self.features.items()})

    def knows(self, evidence: Evidence) -> bool:
        """This very sound was heard before: played again, or a recording that goes round."""
        if not self.points:
            return False
        new = _features(evidence)
        apart = [np.abs(self.features[name] - new[name]).max(axis=1) for name in ("mean", "maximum")]
        return bool((np.maximum(*apart) <= SAME_DB).any())

    def normals(self) -> list[Normal]:
        """To fit by. The first operating point is the source domain; what was added is the target domain."""
        return [Normal(self._evidence(row), "", point != FIRST, point) for row, point in enumerate(self.points)]

    @property
    def days(self) -> int:
        """On how many they were heard; 1 where nobody knows."""
        return max(1, np.unique(self.features[DAY][self.features[DAY] > 0]).size)

    def counts(self) -> dict[str, int]:
        """Clips by operating point."""
        return dict(Counter(self.points))

    def names(self) -> tuple[str, ...]:
        """What each clip is called: its operating point, and its number in that."""
        seen: Counter[str] = Counter()
        named = []
        for point in self.points:
            seen[point] += 1
            named.append(f"{point} {seen[point]}")
        return tuple(named)

    def found_points(self) -> int:
        """Operating points that the spectra show, whatever they were called.

        Clips are linked that are no further apart than :data:`LINK` times what nine in ten have to their nearest; a
        point is what hangs together (single linkage), and has :data:`LEAST_OF_POINT` clips. 0 with fewer clips.
        """
        if len(self) < LEAST_OF_POINT:
            return 0
        far = _apart(self.features["mean"].astype(np.float64))
        np.fill_diagonal(far, np.inf)
        linked = far <= LINK * max(float(np.quantile(far.min(axis=1), 0.9)), SAME_DB)
        return sum(len(group) >= LEAST_OF_POINT for group in _components(linked))

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """As a file holds it."""
        names = list(dict.fromkeys(self.points))
        point = np.array([names.index(point) for point in self.points], np.int32)
        told = np.frombuffer("\n".join(names).encode(), np.uint8)
        return {**self.features, "point": point, "points": told.copy()}

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[np.generic]]) -> Self:
        """From a file; ValueError where its parts do not belong together."""
        features = {name: np.asarray(value, np.float32) for name, value in tensors.items()}
        features.setdefault(DAY, np.zeros(len(features["point"]), np.float32))  # those of before tell none
        point, names = features.pop("point").astype(int), bytes(features.pop("points").astype(np.uint8)).decode()
        if wrong := {name: len(value) for name, value in features.items() if len(value) != point.size}:
            msg = f"{point.size} clips have operating points, and there are {wrong}"
            raise ValueError(msg)
        return cls(tuple(names.split("\n")[number] for number in point), features)

    def _evidence(self, row: int) -> Evidence:
        level, crest, kurtosis = map(float, self.features["indicators"][row])
        mean, maximum = self.features["mean"][row], self.features["maximum"][row]
        statistics = Statistics(level, level + crest, crest, kurtosis, mean, maximum, np.zeros(0))
        outputs = {n.removeprefix(OUTPUT): v[row] for n, v in self.features.items() if n.startswith(OUTPUT)}
        return Evidence(statistics, outputs)


def thinned(memory: Memory, most: int) -> list[int]:
    """Which clips to keep: of each operating point its share, those that cover it best; all where they are few.

    Points have equal shares, and what one does not need goes to the others, so that nothing that was added is crowded
    out. Within one, the clip next to the middle comes first, then whichever is furthest from all chosen (k-centre;
    Gonzalez, Clustering to minimize the maximum intercluster distance, 1985).
    """
    kept: list[int] = []
    by_size = sorted(memory.counts().items(), key=lambda point: point[1])
    for number, (name, count) in enumerate(by_size):
        share = min(count, (most - len(kept)) // (len(by_size) - number))
        rows = np.array([row for row, point in enumerate(memory.points) if point == name])
        kept += rows[_k_centre(memory.features["mean"][rows].astype(np.float64), share)].tolist()
    return sorted(kept)


def _k_centre(rows: NDArray[np.float64], count: int) -> list[int]:
    """(N, M) -> numbers of so many rows."""
    chosen = [int(np.square(rows - rows.mean(axis=0)).sum(axis=1).argmin())][:count]
    far = np.full(len(rows), np.inf)
    while len(chosen) < count:
        far = np.minimum(far, np.square(rows - rows[chosen[-1]]).sum(axis=1))
        far[chosen] = -1.0
        chosen.append(int(far.argmax()))
    return chosen


def _apart(spectra: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, M) -> (N, N) root mean square difference; by products, for hours of clips are a thousand rows."""
    centred = spectra - spectra.mean(axis=0)
    squares = np.square(centred).sum(axis=1)
    apart = squares[:, None] + squares - 2 * centred @ centred.T
    mean: NDArray[np.float64] = np.maximum(apart, 0) / spectra.shape[1]
    return mean**0.5


def _components(linked: NDArray[np.bool_]) -> list[set[int]]:
    """Of a graph, (N, N)."""
    groups, left = [], np.ones(len(linked), bool)
    while left.any():
        group = np.zeros(len(linked), bool)
        edge = np.arange(len(linked)) == left.argmax()
        while edge.any():
            group |= edge
            edge = linked[edge].any(axis=0) & ~group
        groups.append(set(np.flatnonzero(group).tolist()))
        left &= ~group
    return groups


def _features(evidence: Evidence) -> dict[str, NDArray[np.float32]]:
    s = evidence.statistics
    outputs = {f"{OUTPUT}{name}": value for name, value in evidence.outputs.items()}
    indicators = np.array([s.level, s.crest, s.kurtosis], np.float32)
    return {"indicators": indicators, "mean": s.mean, "maximum": s.maximum, **outputs}
