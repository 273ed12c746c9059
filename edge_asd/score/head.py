"""A head: everything that is fitted to one machine. Parts in, one calibrated number out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from edge_asd.errors import AudioError, ConfigError
from edge_asd.score.calibration import Calibration
from edge_asd.score.clip import PartScore
from edge_asd.score.part import fit_part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edge_asd.score.detector import Backend
    from edge_asd.score.part import Evidence, Normal, Part, PartSpec

LEAST_CLIPS = 5
"""fewer give no leave-one-out statistics worth the name"""
STEP = 1e-4
"""standard deviations by which a part is moved to see what that does"""


Rule = Literal["mean", "min"]


@dataclass(frozen=True, slots=True)
class Member:
    """Parts that count as one in an ensemble: fused by a rule of their own, then standardised like a part."""

    rule: Rule = "mean"
    weights: dict[str, float] = field(default_factory=dict)
    """by part, called as within the member; 1 where none is given, 0 where it is only shown"""
    centre: float = 0.0
    """mean leave-one-out score of the member's training clips"""
    spread: float = 1.0
    """standard deviation of the same"""

    def __post_init__(self) -> None:
        _refuse_negative(self.weights)
        if not (math.isfinite(self.centre) and 0 < self.spread < math.inf):
            msg = f"a member's centre must be a number and its spread above 0, got {self.centre} and {self.spread}"
            raise ValueError(msg)

    def fuse(self, names: Sequence[str], z: NDArray[np.float64]) -> NDArray[np.float64]:
        """(P, N) z-scores of these parts -> (N,)."""
        return (_fused(self.rule, z, _weights(self.weights, names)) - self.centre) / self.spread


@dataclass(frozen=True, slots=True)
class Fusion:
    """How the z-scores of parts become one (methods.md §7.6).

    In an ensemble parts are called ``MEMBER.PART``; what is fused is members, each of its own parts.
    """

    rule: Rule = "mean"
    weights: dict[str, float] = field(default_factory=dict)
    """by part, or by member where there are some; 1 where none is given. What has weight 0 is shown and not fused, a
    minimum knows no other difference"""
    members: dict[str, Member] = field(default_factory=dict)
    """of an ensemble, by name; none in all other bundles"""

    def __post_init__(self) -> None:
        _refuse_negative(self.weights)
        if wrong := [name for name in self.members if not name or "." in name]:
            msg = f"members need names without a '.', got {wrong}"
            raise ValueError(msg)

    def over(self, names: Sequence[str]) -> NDArray[np.float64]:
        """(P,) weights of these parts; in an ensemble a part's in its member times the member's.

        Raises:
            ValueError: a weight is of nothing there is, all are 0, or a part has no member or a member no part.
        """
        if not self.members:
            return _known_weights(self.weights, names, "parts")
        rows, found = _by_member(names), np.zeros(len(names))
        if strange := sorted(set(rows) ^ set(self.members)):
            msg = f"no member with a part: {', '.join(strange)}; members are {', '.join(self.members)}, parts {names}"
            raise ValueError(msg)
        outer = _known_weights(self.weights, list(self.members), "members")
        for weight, (name, member) in zip(outer, self.members.items(), strict=True):
            own = [_part(names[row]) for row in rows[name]]
            found[rows[name]] = weight * _known_weights(member.weights, own, f"parts of {name}")
        return found

    def fuse(self, names: Sequence[str], z: NDArray[np.float64]) -> NDArray[np.float64]:
        """(P, N) z-scores of these parts, which are all, or some of those that count -> (N,)."""
        if self.members:
            rows = _by_member(names)
            z = np.array(
                [self.members[name].fuse([_part(names[row]) for row in own], z[own]) for name, own in rows.items()]
            )
            names = list(rows)
        return _fused(self.rule, z, _weights(self.weights, names))

    def slopes(self, names: Sequence[str], z: NDArray[np.float64]) -> NDArray[np.float64]:
        """How the fused score of a clip grows with each of its (P,) z-scores, (P,); every rule is made of lines."""
        moved = np.column_stack([z, z[:, None] + STEP * np.eye(z.size)])
        fused = self.fuse(names, moved)
        return np.asarray((fused[1:] - fused[0]) / STEP, np.float64)


def _fused(rule: Rule, z: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, N) z-scores, (P,) weights -> (N,)."""
    if rule == "min":
        return np.asarray(z[weights > 0].min(axis=0), np.float64)
    return np.asarray((weights[:, None] * z).sum(axis=0) / weights.sum(), np.float64)


def _by_member(names: Sequence[str]) -> dict[str, list[int]]:
    """Member -> which of the parts are its."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name.partition(".")[0], []).append(row)
    return rows


def _part(name: str) -> str:
    """What ``MEMBER.PART`` is called within the member."""
    return name.partition(".")[2]


def _weights(weights: Mapping[str, float], names: Sequence[str]) -> NDArray[np.float64]:
    return np.array([weights.get(name, 1.0) for name in names])


def _known_weights(weights: Mapping[str, float], names: Sequence[str], what: str) -> NDArray[np.float64]:
    """(P,); ValueError where they are of nothing there is, or all 0."""
    if unknown := sorted(set(weights) - set(names)):
        msg = f"fusion weighs {', '.join(unknown)}; the {what} are {', '.join(names)}"
        raise ValueError(msg)
    found = _weights(weights, names)
    if not found.any():
        msg = f"fusion gives weight 0 to all of {', '.join(names)}; give one of them more"
        raise ValueError(msg)
    return found


def _refuse_negative(weights: Mapping[str, float]) -> None:
    if wrong := {name: weight for name, weight in weights.items() if not 0 <= weight < math.inf}:
        msg = f"weights of fusion must be 0 or more, got {wrong}"
        raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fused score of one clip and what it is made of."""

    score: float
    surprise: float
    parts: tuple[PartScore, ...]
    segment_scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """Fitted parts, the rule that fuses their z-scores, and the calibration of what comes out."""

    parts: tuple[Part, ...]
    calibration: Calibration
    fusion: Fusion = Fusion()
    clips: tuple[str, ...] = ()
    """ids of the clips it was fitted on, in the order of references; none where the bundle does not tell"""

    def judge(self, evidence: Evidence) -> Verdict:
        """Score one clip."""
        z, names = [part.z(evidence) for part in self.parts], self.names
        by_part = np.array([values.mean() for values in z])
        score = float(self.fusion.fuse(names, by_part[:, None])[0])
        return Verdict(
            score,
            self.calibration.surprise(score),
            tuple(PartScore(name, float(value)) for name, value in zip(names, by_part, strict=True)),
            self._segments(z, names),
        )

    @property
    def names(self) -> list[str]:
        """Of its parts."""
        return [part.spec.name for part in self.parts]

    def _segments(self, z: Sequence[NDArray[np.float64]], names: Sequence[str]) -> tuple[float, ...]:
        """The segment parts that count, fused segment by segment; nothing without any."""
        weights = self.fusion.over(names)
        counted = [
            number for number, part in enumerate(self.parts) if part.spec.scope == "segment" and weights[number] > 0
        ]
        if not counted:
            return ()
        fused = self.fusion.fuse([names[number] for number in counted], np.array([z[number] for number in counted]))
        return tuple(map(float, fused))


def fit_head(
    parts: Mapping[PartSpec, Backend], normals: Sequence[Normal], fusion: Fusion | None = None
) -> tuple[Head, NDArray[np.float64]]:
    """Fit on the normal clips of one machine, source and target together.

    Returns:
        The head, and (N,) leave-one-out fused scores of the clips.

    Raises:
        AudioError: too few clips.
        ConfigError: parts share a name, or the fusion weighs none of them or one that is not there.
    """
    return calibrated(*fit_parts(parts, normals, fusion or Fusion()), fusion or Fusion())


def fit_parts(
    parts: Mapping[PartSpec, Backend], normals: Sequence[Normal], fusion: Fusion
) -> tuple[tuple[Part, ...], NDArray[np.float64]]:
    """The parts of a head, and (P, N) leave-one-out z-scores of the clips; raises what :func:`fit_head` does."""
    if len(normals) < LEAST_CLIPS:
        msg = f"need at least {LEAST_CLIPS} normal clips to fit a head, got {len(normals)}; record more"
        raise AudioError(msg)
    names = [spec.name for spec in parts]
    if len(set(names)) < len(names):
        msg = f"parts share a name: {', '.join(names)}; name each differently"
        raise ConfigError(msg)
    try:
        fusion.over(names)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    fitted = [fit_part(spec, normals, backend) for spec, backend in parts.items()]
    return tuple(part for part, _ in fitted), np.array([z for _, z in fitted])


def calibrated(parts: tuple[Part, ...], z: NDArray[np.float64], fusion: Fusion) -> tuple[Head, NDArray[np.float64]]:
    """Fitted parts as a head: of (P, N) leave-one-out z-scores of N clips, whose (N,) fused scores come back too."""
    fused = fusion.fuse([part.spec.name for part in parts], z)
    return Head(parts, Calibration.fit(fused), fusion), fused
