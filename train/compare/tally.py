"""What many runs came to: figures by recipe, values and machine, over seeds; and what an oracle would have chosen."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table

from train.file import write_whole
from train.judge.evaluation import FUSED
from train.judge.metric import harmonic_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

ORACLE = "oracle"
"""stands where values do in rows that were chosen on test labels"""
ALL = "all"
FIGURES = ("source", "target", "pauc", "omega")
HEADINGS = ("recipe", "values", "machine", "score", "seeds", "source", "target", "pAUC", "Ω")
COSTS = ("parameters", "MACs", "training s")
UNKNOWN = "–"
NAMED, TEXTS = 2, 5
"""how many of the headings say of which runs, how many hold no figures"""


@dataclass(frozen=True, slots=True)
class Mark:
    """How well one score does on some clips, in [0, 1]; None where a domain has none of the clips needed."""

    source: float | None
    target: float | None
    pauc: float | None
    omega: float | None

    @property
    def terms(self) -> list[float]:
        """What Ω averages."""
        return [value for value in (self.source, self.target, self.pauc) if value is not None]


NOTHING = Mark(None, None, None, None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run."""

    run: str
    recipe: str
    values: tuple[str, ...]
    """as in ``settings.alpha=0.1``; what the grid sets"""
    keys: tuple[str, ...]
    """machine identities it was fitted on"""
    seed: int
    marks: Mapping[str, Mapping[str, Mark]]
    """machine identity -> score -> how well it does; nothing for machines that cannot be judged"""
    parameters: float | None = None
    macs: float | None = None
    """of one segment"""
    seconds: float | None = None
    """of training"""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over seeds."""

    mean: float
    deviation: float | None
    """standard deviation; None with one seed"""


@dataclass(frozen=True, slots=True)
class Row:
    """One score of one recipe on one machine, or on all of them."""

    recipe: str
    values: str
    machine: str
    score: str
    seeds: int
    figures: Mapping[str, Spread | None]
    """by name in :data:`FIGURES`; over several machines the harmonic mean"""
    parameters: float | None
    macs: float | None
    seconds: Spread | None
    """of all the models there are, where it is about all machines"""


def rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """For each recipe and its values, machine by machine, then all; the fused score first."""
    groups: dict[tuple[str, tuple[str, ...]], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.recipe, outcome.values].append(outcome)
    return [row for group in groups.values() for row in (*_by_machine(group), *_over_all(group))]


def _by_machine(group: Sequence[Outcome]) -> Iterator[Row]:
    for machine in dict.fromkeys(key for outcome in group for key in outcome.marks):
        heard = [outcome for outcome in group if machine in outcome.marks]
        for score in _scores(heard):
            marks = [outcome.marks[machine].get(score, NOTHING) for outcome in heard]
            yield _row(machine, score, heard, marks, [outcome.seconds for outcome in heard])


def _over_all(group: Sequence[Outcome]) -> Iterator[Row]:
    """Of seeds whose every run ended well: over some of the machines it would be another figure."""
    seeds: dict[int, list[Outcome]] = defaultdict(list)
    for outcome in group:
        seeds[outcome.seed].append(outcome)
    whole = {seed: runs for seed, runs in seeds.items() if not any(run.error for run in runs)}
    seconds = [_total(run.seconds for run in runs) for runs in whole.values()]
    for score in _scores(group) if whole else []:
        marks = [joint(_marks(runs, score)) for runs in whole.values()]
        yield _row(ALL, score, [run for runs in whole.values() for run in runs], marks, seconds)


def joint(marks: Iterable[Mark]) -> Mark:
    """Over machines: the harmonic mean of each figure, and for Ω of all its terms, as the official evaluator does."""
    marks = list(marks)
    return Mark(
        _harmonic(mark.source for mark in marks),
        _harmonic(mark.target for mark in marks),
        _harmonic(mark.pauc for mark in marks),
        _harmonic(term for mark in marks for term in mark.terms),
    )


def _marks(runs: Iterable[Outcome], score: str, kind: str | None = None) -> Iterator[Mark]:
    """What a score got on every machine, or on those of one kind."""
    for run in runs:
        yield from (m[score] for key, m in run.marks.items() if score in m and kind in {None, _kind(key)})


def _row(
    machine: str, score: str, runs: Sequence[Outcome], marks: Sequence[Mark], seconds: Sequence[float | None]
) -> Row:
    figures = {name: _spread(getattr(mark, name) for mark in marks) for name in FIGURES}
    about = runs[0]
    parameters, macs = (_largest(getattr(run, name) for run in runs) for name in ("parameters", "macs"))
    values = ", ".join(about.values)
    return Row(about.recipe, values, machine, score, len(marks), figures, parameters, macs, _spread(seconds))


def _scores(runs: Iterable[Outcome]) -> list[str]:
    return list(dict.fromkeys(score for run in runs for marks in run.marks.values() for score in marks))


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(fmean(known), stdev(known) if len(known) > 1 else None) if known else None


def _harmonic(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return harmonic_mean(known) if known else None


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


# The oracle -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """What did best on the test clips of one kind of machine."""

    recipe: str
    machines: str
    """the kind, ``set/machine``"""
    values: tuple[str, ...]
    omega: float
    """mean over seeds, of the fused score"""


def oracle(outcomes: Sequence[Outcome]) -> list[Choice]:
    """For each recipe and kind of machine the values with the best fused Ω on its test clips, the first of equals.

    This looks at test labels, as the GRHD paper does for its α, β and γ; nobody in the field can. Values one of whose
    runs failed are not considered.
    """
    chosen = []
    for recipe in dict.fromkeys(outcome.recipe for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.recipe == recipe]
        for kind in sorted({_kind(key) for outcome in own for key in outcome.marks}):
            omegas = _omegas([outcome for outcome in own if kind in map(_kind, outcome.keys)], kind)
            if omegas:
                best = max(omegas, key=lambda values: omegas[values])
                chosen.append(Choice(recipe, kind, best, omegas[best]))
    return chosen


def _omegas(runs: Sequence[Outcome], kind: str) -> dict[tuple[str, ...], float]:
    """Values -> mean over seeds of the fused Ω on one kind of machine."""
    points: dict[tuple[str, ...], dict[int, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        points[run.values][run.seed].append(run)
    broken = {run.values for run in runs if run.error}
    means = {
        values: _spread(joint(_marks(own, FUSED, kind)).omega for own in seeds.values())
        for values, seeds in points.items()
        if values not in broken
    }
    return {values: spread.mean for values, spread in means.items() if spread}


def as_oracle(outcomes: Sequence[Outcome], choices: Sequence[Choice]) -> list[Outcome]:
    """The runs with the chosen values, each with the machines it was chosen for; training is the whole grid's.

    Kinds for which nothing could be chosen, since a run failed with each of the values, are marked as failed: a figure
    over all machines needs them.
    """
    picked, known = [], {(choice.recipe, choice.machines) for choice in choices}
    for choice in choices:
        for outcome in outcomes:
            if (outcome.recipe, outcome.values) == (choice.recipe, choice.values):
                marks = {k: m for k, m in outcome.marks.items() if _kind(k) == choice.machines}
                picked.append(replace(outcome, values=(ORACLE,), marks=marks, seconds=None, error=""))
    failed = {(run.recipe, kind) for run in outcomes if run.error for kind in map(_kind, run.keys)} - known
    picked += [
        replace(outcome, values=(ORACLE,), marks={}, error=outcome.error or "nothing chosen")
        for outcome in outcomes
        if any((outcome.recipe, kind) in failed for kind in map(_kind, outcome.keys))
    ]
    return [outcome for outcome in picked if outcome.marks or outcome.error]


def _kind(key: str) -> str:
    """``set/machine`` of an identity."""
    return key.rsplit("/", 1)[0]


def choices_json(choices: Sequence[Choice]) -> dict[str, dict[str, dict[str, Any]]]:
    """By recipe and kind of machine."""
    found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for choice in choices:
        places = (value.split("=", 1) for value in choice.values)
        values = {place: json.loads(value) for place, value in places}
        found[choice.recipe][choice.machines] = {"values": values, "omega": choice.omega}
    return dict(found)


# Tables ---------------------------------------------------------------------------------------------------------------


def write(out: Path, found: Sequence[Row], failed: Sequence[Outcome]) -> None:
    """``table.md`` for people and ``table.csv`` for programs."""
    write_whole(out / "table.md", markdown(found, failed).encode())
    write_whole(out / "table.csv", _csv(found, failed).encode())


def markdown(found: Sequence[Row], failed: Sequence[Outcome]) -> str:
    """The rows, then the runs that failed and why."""
    text = "%: mean ± standard deviation over seeds; harmonic means over machines.\n"
    if any(row.values == ORACLE for row in found):
        text += "Rows marked oracle were chosen on the labels of the test clips, for each kind of machine.\n"
    text += "\n" + _grid((*HEADINGS, *COSTS), map(_cells, found), "l" * TEXTS + "r" * 7)
    if failed:
        text += "\n" + _grid(("failed", "error"), ((run.run, run.error) for run in failed), "ll")
    return text


def for_terminal(found: Sequence[Row], failed: Sequence[Outcome]) -> Iterator[Table]:
    """The same for rich: a table for each recipe and its values, since one of all is wider than a terminal."""
    for (recipe, values), group in groupby(found, lambda row: (row.recipe, row.values)):
        lines = [(row, _cells(row)) for row in group]
        table = Table(title=escape(f"{recipe} {values}"), title_justify="left", box=box.SIMPLE_HEAD)
        for heading in HEADINGS[NAMED:]:
            table.add_column(heading, justify="left" if heading in HEADINGS[:TEXTS] else "right")
        for column in table.columns[:2]:
            column.no_wrap = True
        for row, cells in lines:
            table.add_row(*cells[NAMED : len(HEADINGS)], style="bold" if row.score == FUSED else None)
        costs = zip(COSTS, lines[-1][1][-len(COSTS) :], strict=True)
        table.caption = ", ".join(f"{cost} {name}" for name, cost in costs if cost != UNKNOWN)
        yield table
    if failed:
        wrong = Table("failed", "error", box=box.SIMPLE_HEAD)
        for run in failed:
            wrong.add_row(escape(run.run), escape(run.error), style="red")
        yield wrong


def _cells(row: Row) -> tuple[str, ...]:
    counts = (UNKNOWN if value is None else f"{value:,.0f}" for value in (row.parameters, row.macs))
    figures = (_percent(row.figures[name]) for name in FIGURES)
    seconds = UNKNOWN if row.seconds is None else f"{row.seconds.mean:.0f}"
    return (row.recipe, row.values, row.machine, row.score, str(row.seeds), *figures, *counts, seconds)


def _percent(spread: Spread | None) -> str:
    if spread is None:
        return UNKNOWN
    said = f"{100 * spread.mean:.2f}"
    return said if spread.deviation is None else f"{said} ± {100 * spread.deviation:.2f}"


def _grid(headings: Iterable[str], lines: Iterable[Iterable[str]], align: str) -> str:
    rule = ("---:" if side == "r" else "---" for side in align)
    cells = ((cell.replace("|", "\\|") for cell in line) for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in (headings, rule, *cells))


def _csv(found: Sequence[Row], failed: Sequence[Outcome]) -> str:
    """In [0, 1]; a failed run has a row with nothing but its error."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    spreads = [f"{name}{suffix}" for name in (*FIGURES, "seconds") for suffix in ("", "_sd")]
    writer.writerow(["recipe", "values", "machine", "score", "seeds", *spreads, "parameters", "macs", "error"])
    for row in found:
        given = [row.figures[name] for name in FIGURES] + [row.seconds]
        numbers = [value for one in given for value in ((one.mean, one.deviation) if one else (None, None))]
        said = map(_number, (*numbers, row.parameters, row.macs))
        writer.writerow([row.recipe, row.values, row.machine, row.score, row.seeds, *said, ""])
    for run in failed:
        about = [run.recipe, ", ".join(run.values), ", ".join(run.keys), "", 0]
        writer.writerow([*about, *[""] * (len(spreads) + 2), f"{run.run}: {run.error}"])
    return text.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"
