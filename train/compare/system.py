"""Runs that are one system: same recipe, same data, other seeds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from train.judge.evaluation import FUSED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from train.compare.outcome import Outcome

ORACLE = "[oracle]"
"""mark of what was chosen on labels of test clips"""
LONGEST_SETTING = 40
"""characters of a setting that a label has room for"""


@dataclass(frozen=True, slots=True)
class System:
    """Runs of one recipe on the same data that differ in their seed alone."""

    label: str
    """tells it from all others"""
    outcomes: tuple[Outcome, ...]

    @property
    def first(self) -> Outcome:
        """Stands for the others in plots."""
        return self.outcomes[0]

    @property
    def evidence(self) -> tuple[str, ...]:
        """The fused score, then the parts."""
        names = chain(self.first.result.omega, *(section.judgements for section in self.first.result.sections))
        return tuple(dict.fromkeys((FUSED, *names)))

    @property
    def sets(self) -> tuple[str, ...]:
        """What it was evaluated on."""
        return tuple(dict.fromkeys(section.key.split("/")[0] for section in self.first.result.sections))


def systems_of(outcomes: Iterable[Outcome]) -> tuple[System, ...]:
    """Runs of one recipe together, in the order they came."""
    alike: dict[tuple[object, ...], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        alike[_kind(outcome)].append(outcome)
    labels = _labels([runs[0] for runs in alike.values()])
    return tuple(System(label, tuple(runs)) for label, runs in zip(labels, alike.values(), strict=True))


def _kind(outcome: Outcome) -> tuple[object, ...]:
    result, making = outcome.result, outcome.making
    judged = result.protocol, result.oracle, result.precision, tuple(sorted(section.key for section in result.sections))
    if result.bundle.members:  # of runs that differ in their seeds; what those learned from is not known
        return (
            result.bundle.method,
            result.bundle.rule,
            *result.bundle.members.items(),
            *result.bundle.parts.items(),
            *judged,
        )
    if making is None:
        return (outcome.name, result.bundle.digest, result.precision)
    learned_from = outcome.origin.data_digest if outcome.origin else ""
    return (tuple(sorted(making.traits.items())), learned_from, *judged)


def _labels(outcomes: Sequence[Outcome]) -> list[str]:
    """Names of the recipes; where two have one name, with what sets them apart."""
    names = [_name(outcome) for outcome in outcomes]
    rivals = {name: [o for o, own in zip(outcomes, names, strict=True) if own == name] for name in names}
    labels = [", ".join([name, *_peculiar(one, rivals[name])]) for one, name in zip(outcomes, names, strict=True)]
    for aside in (_evaluated, _called):
        fuller = [
            f"{label} {aside(one)}" if labels.count(label) > 1 else label
            for label, one in zip(labels, outcomes, strict=True)
        ]
        labels = fuller if len(set(fuller)) > len(set(labels)) else labels
    return [f"{label} {ORACLE}" if one.result.oracle else label for label, one in zip(labels, outcomes, strict=True)]


def _name(outcome: Outcome) -> str:
    bundle = outcome.result.bundle
    return outcome.making.name if outcome.making and not bundle.members else bundle.method


def _peculiar(outcome: Outcome, rivals: Sequence[Outcome]) -> list[str]:
    """Settings that not all rivals share."""
    others = [_traits(rival) for rival in rivals]
    own = _traits(outcome)
    return [f"{place}={own[place]}" for place in own if any(o.get(place) != own[place] for o in others)]


def _traits(outcome: Outcome) -> dict[str, str]:
    """Of those that a label has room for."""
    bundle = outcome.result.bundle
    if bundle.members:
        own = {"rule": bundle.rule} | {f"weights.{name}": f"{weight:g}" for name, weight in bundle.members.items()}
    else:
        own = {} if outcome.making is None else dict(outcome.making.traits)
    own |= {"graph": outcome.result.precision, "protocol": outcome.result.protocol}
    return {place: said for place, said in own.items() if len(said) <= LONGEST_SETTING}


def _evaluated(outcome: Outcome) -> str:
    return f"on {', '.join(dict.fromkeys(section.key.split('/')[0] for section in outcome.result.sections))}"


def _called(outcome: Outcome) -> str:
    return f"({outcome.name})"
