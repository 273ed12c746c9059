"""One rule of fusion for all machines, chosen so that no data set's own labels picked it.

The z-scores of all parts lie in evaluations, so any rule can be tried without hearing a clip again. The rule that does
best on the mean of the other sets judges the one that was left out; sets that share recordings are left out together,
for labels of one are labels of the other. Candidates are few and plain: the mean of the statistics, with the network
at a quarter, a half, once or twice the weight of one of them; the network alone; the strangest of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from edge_asd.errors import ConfigError
from edge_asd.score.part import STATISTICS_PARTS
from train.compare.outcome import load_outcome
from train.judge.metric import Truth, judge, overall

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from train.compare.outcome import Scores
    from train.judge.metric import Figure, Judgement

WEIGHTS = (0.25, 0.5, 1.0, 2.0)
"""of the network, one of the statistics having 1"""
STATISTICS = tuple(spec.name for spec in STATISTICS_PARTS)


@dataclass(frozen=True, slots=True)
class Rule:
    """A way to make one score of several."""

    name: str
    weights: Mapping[str, float]
    """by part; what is not named does not count"""
    largest: bool = False
    """the largest z-score, not their mean"""

    def fuse(self, parts: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """(N,) of the z-scores (N,) of parts."""
        z = np.stack([parts[name] for name in self.weights])  # (P, N)
        if self.largest:
            return np.asarray(z.max(axis=0), np.float64)
        return np.asarray(np.average(z, axis=0, weights=list(self.weights.values())), np.float64)


def candidates(part: str) -> tuple[Rule, ...]:
    """What is tried, the plainest first: of two that do equally well that one is chosen."""
    plain = dict.fromkeys(STATISTICS, 1.0)
    weighed = [Rule(f"statistics + {weight:g} {part}", plain | {part: weight}) for weight in WEIGHTS]
    largest = Rule(f"largest of statistics, {part}", plain | {part: 1.0}, largest=True)
    return Rule("statistics", plain), *weighed, largest, Rule(part, {part: 1.0})


@dataclass(frozen=True)
class Trial:
    """What one evaluation says of every rule; each clip is judged once for each."""

    scores: Scores
    rules: tuple[Rule, ...]

    @cached_property
    def judged(self) -> Mapping[str, Mapping[str, Judgement]]:
        """Rule -> machine -> its figures."""
        return {rule.name: dict(self._judged(rule)) for rule in self.rules}

    @cached_property
    def sets(self) -> Mapping[str, frozenset[str]]:
        """Data set -> ids of its recordings, where it has normals and anomalies."""
        scorable = sorted({key.partition("/")[0] for key in self.judged[self.rules[0].name]})
        own = np.array([str(key).partition("/")[0] for key in self.scores.key])
        return {one: frozenset(map(str, self.scores.recording[own == one])) for one in scorable}

    def omega(self, rule: str, data_set: str) -> float:
        """Ω of one set, in [0, 1]."""
        own = {key: one for key, one in self.judged[rule].items() if key.partition("/")[0] == data_set}
        return overall(own).value

    def over(self, rule_of: Mapping[str, str]) -> Figure:
        """Ω over all sets, each by the rule that is named for it."""
        machines = self.judged[self.rules[0].name]
        return overall({key: self.judged[rule_of[key.partition("/")[0]]][key] for key in machines})

    def _judged(self, rule: Rule) -> Iterator[tuple[str, Judgement]]:
        fused, known = rule.fuse(self.scores.parts), self.scores.label != "unknown"
        for key in map(str, np.unique(self.scores.key)):
            own = known & (self.scores.key == key)
            recordings = [str(one) for one in self.scores.recording[own]]
            truth = Truth(self.scores.anomaly[own], self.scores.target[own], recordings)
            if truth.scorable("2022"):
                yield key, judge(fused[own], truth)


@dataclass(frozen=True, slots=True)
class Choice:
    """The rule for each set that was left out, and for all."""

    rules: tuple[str, ...]
    omegas: Mapping[str, Mapping[str, float]]
    """rule -> data set -> Ω, mean of the evaluations"""
    left_out: Mapping[str, str]
    """data set -> the rule that is best on the others"""
    chosen: str
    """the one that is best on all"""
    by_others: tuple[Figure, ...]
    """Ω over all sets, each judged by the rule that the others chose; of every evaluation"""
    by_statistics: tuple[Figure, ...]
    """the same by the statistics"""


def choose(evaluations: Sequence[Path], part: str = "network") -> Choice:
    """Try every rule on every evaluation; several of one recipe differ in their seed and count alike.

    Args:
        evaluations: run folders with an evaluation in each, or evaluations, all of the same data sets.
        part: of the network.

    Raises:
        ConfigError: an evaluation has no scores of clips, or lacks a part or a set that another has; or there is
            nothing to leave out.
    """
    rules = candidates(part)
    trials = [Trial(_scores(place, [*STATISTICS, part]), rules) for place in evaluations]
    sets = trials[0].sets
    for place, trial in zip(evaluations, trials, strict=True):
        if set(trial.sets) != set(sets):
            msg = f"{place} judges {', '.join(trial.sets)}, {evaluations[0]} {', '.join(sets)}; evaluate both on one"
            raise ConfigError(msg)
    folds = together(sets)
    if len(folds) < 2:
        msg = f"{', '.join(sets)} are one machine, so that none can be left out; evaluate on the recordings of others"
        raise ConfigError(msg)
    omegas = {
        rule.name: {one: float(np.mean([trial.omega(rule.name, one) for trial in trials])) for one in sets}
        for rule in rules
    }
    left_out = {one: _best(omegas, set(sets) - fold) for fold in folds for one in sorted(fold)}
    return Choice(
        tuple(rule.name for rule in rules),
        omegas,
        left_out,
        _best(omegas, set(sets)),
        tuple(trial.over(left_out) for trial in trials),
        tuple(trial.over(dict.fromkeys(sets, rules[0].name)) for trial in trials),
    )


def together(sets: Mapping[str, frozenset[str]]) -> list[set[str]]:
    """Data sets that share recordings, directly or through others."""
    folds: list[tuple[set[str], frozenset[str]]] = []
    for name, recordings in sets.items():
        apart = [fold for fold in folds if not fold[1] & recordings]
        joined = [fold for fold in folds if fold[1] & recordings]
        names = {name}.union(*(fold[0] for fold in joined))
        folds = [*apart, (names, recordings.union(*(fold[1] for fold in joined)))]
    return [names for names, _ in folds]


def _best(omegas: Mapping[str, Mapping[str, float]], sets: Collection[str]) -> str:
    return max(omegas, key=lambda rule: float(np.mean([omegas[rule][one] for one in sets])))


def _scores(place: Path, wanted: Sequence[str]) -> Scores:
    outcome = load_outcome(place)
    if outcome.scores is None:
        raise ConfigError("; ".join(outcome.missing))
    known = {name for name, z in outcome.scores.parts.items() if np.isfinite(z).all()}
    if lacking := [name for name in wanted if name not in known]:
        msg = f"{place}: not every clip has z-scores of {', '.join(lacking)}; all clips have those of "
        msg += f"{', '.join(sorted(known)) or 'none'}: name one of the network's with --part"
        raise ConfigError(msg)
    return outcome.scores


# For people -----------------------------------------------------------------------------------------------------------


def show(choice: Choice, console: Console | None = None) -> None:
    """Print it."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=160)
    sets = list(choice.left_out)
    table = Table("Ω in %, mean of evaluations", *sets, "mean", box=None)
    for rule in choice.rules:
        own = [choice.omegas[rule][one] for one in sets]
        table.add_row(rule, *(f"{100 * value:.1f}" for value in (*own, float(np.mean(own)))))
    console.print(table, "")
    for one, rule in choice.left_out.items():
        console.print(f"{one}: by the others {rule}, which gives {100 * choice.omegas[rule][one]:.1f}", highlight=False)
    console.print(f"\nΩ over all sets, by rules of others: {_over(choice.by_others)}", highlight=False)
    console.print(f"Ω over all sets, by statistics: {_over(choice.by_statistics)}", highlight=False)
    console.print(f"best on all sets: {choice.chosen}", highlight=False)


def _over(figures: Sequence[Figure]) -> str:
    """One after the other, with what other clips could have made of it."""
    told = ((100 * one.value, 100 * one.by_clip.low, 100 * one.by_clip.high) for one in figures)
    return ", ".join(f"{value:.1f} [{low:.1f}, {high:.1f}]" for value, low, high in told)
