"""From normal clips to a head: the same fitting that ``train`` does, with the parts that the bundle's own head has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.bundle import HeadCard, Thresholds
from edge_asd.errors import BundleError
from edge_asd.learn.memory import thinned
from edge_asd.score.calibration import Calibration, alarm_threshold
from edge_asd.score.centre import ConditionCentres
from edge_asd.score.gaussian import BandGaussians, Bands, DomainMoments, Gaussian
from edge_asd.score.head import fit_head
from edge_asd.score.likelihood import AsItIs
from edge_asd.score.neighbour import DomainNeighbours, Knn, LocalDensity, Neighbours

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edge_asd.learn.memory import Memory
    from edge_asd.score.detector import Backend, Detects
    from edge_asd.score.head import Head
    from edge_asd.score.part import Part, PartSpec

MOST = 256
"""clips that a bank holds: three quarters of an hour, and with a network of 128 numbers a megabyte"""
NORMAL_SHARE = 0.9
"""of normal clips below the decision threshold, by their own quantile; ``train`` fits a gamma, which needs scipy"""
TRUSTED = 20
"""clips below which many more alarms are false than stated: learned from ten, a fifth of normal clips were over the
threshold, and not a fortieth (docs/lab.md)"""
PLAIN: Mapping[Detects, Backend] = {
    "nearest": LocalDensity(),
    "difference": LocalDensity(ratio=False),
    "mahalanobis": Gaussian(),
    "selective": DomainMoments(),
    "selective_rows": DomainMoments(by_row=True),
    "centres": ConditionCentres(),
    "cosine": ConditionCentres(cosine=True),
    "value": AsItIs(),
}
"""what learns a detector of which the bundle tells no more than its name"""


@dataclass(frozen=True, slots=True)
class Goal:
    """How often it may be wrong."""

    clip_s: float
    on_delay: int = 3
    """clips in a row"""
    false_alarms_per_week: float = 1.0


@dataclass(frozen=True, slots=True)
class Learnt:
    """A head for a machine, by what was heard of it."""

    head: Head
    card: HeadCard
    memory: Memory
    """the clips in its bank"""
    scores: NDArray[np.float64]
    """fused scores of all clips heard: of those in the bank leave-one-out, of the others as they are"""
    left_out: tuple[str, ...]
    """parts of the bundle's head that cannot be learned without its training"""


def learn(base: Head, memory: Memory, goal: Goal, most: int = MOST) -> Learnt:
    """Fit the parts of the bundle's head anew.

    The bank is thinned to ``most`` clips; body and tail of the calibration are those of all clips.

    Raises:
        AudioError: too few clips.
        BundleError: no part that counts can be learned here, or a member of an ensemble has none.
    """
    backends, left_out = _backends(base)
    kept = thinned(memory, most)
    bank = memory.some(kept)
    there = {spec.name for spec in backends}
    weights = {name: weight for name, weight in base.fusion.weights.items() if base.fusion.members or name in there}
    head, own = fit_head(backends, bank.normals(), replace(base.fusion, weights=weights))
    others = memory.some(sorted(set(range(len(memory))) - set(kept))).normals()
    scores = np.concatenate([own, [head.judge(normal.evidence).score for normal in others]])
    head = replace(head, calibration=Calibration.fit(scores), clips=bank.names())
    return Learnt(head, _card(head, memory, bank, scores, goal), bank, scores, left_out)


def _card(head: Head, memory: Memory, bank: Memory, scores: NDArray[np.float64], goal: Goal) -> HeadCard:
    level = memory.features["indicators"][:, 0]
    return HeadCard(
        parts=tuple(part.spec for part in head.parts),
        fusion=head.fusion,
        thresholds=Thresholds(
            decision=float(np.quantile(scores, NORMAL_SHARE)),
            alarm=alarm_threshold(goal.clip_s, goal.on_delay, goal.false_alarms_per_week),
            on_delay=goal.on_delay,
            false_alarms_per_week=goal.false_alarms_per_week,
        ),
        clips=len(bank),
        level_dbfs=(float(level.min()), float(level.max())),
        days=bank.days,
    )


def _backends(base: Head) -> tuple[dict[PartSpec, Backend], tuple[str, ...]]:
    """What learns each part, and the parts that nothing here can."""
    found = {part.spec: backend for part in base.parts if (backend := _backend(part))}
    left_out = tuple(part.spec.name for part in base.parts if part.spec not in found)
    counts = dict(zip(base.names, base.fusion.over(base.names), strict=True))
    lost = [name for name in left_out if counts[name] > 0]
    if (lost and base.fusion.members) or not any(counts[spec.name] > 0 for spec in found):
        msg = (
            f"parts {', '.join(lost)} cannot be learned on a device; use a bundle of statistics, neighbours or moments"
        )
        raise BundleError(msg)
    return found, left_out


def _backend(part: Part) -> Backend | None:
    """None of what scikit-learn fits, and of classes, which are those of the training."""
    match part.detector:
        case Neighbours(weights=weights):
            return Knn(len(weights))
        case DomainNeighbours(weights=weights):
            return Knn(len(weights), by_domain=True)
        case Bands(member=member):
            return BandGaussians(len(member), average=part.spec.detector == "mean_bands")
        case _:
            return PLAIN.get(part.spec.detector)
