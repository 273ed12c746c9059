"""An evaluation as a person reads it: a table a machine, and one over all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from train.judge.evaluation import FUSED
from train.judge.metric import TERMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from train.judge.evaluation import Evaluation, Section
    from train.judge.metric import Figure, Interval, Judgement, Protocol

MEANING: dict[Protocol, str] = {
    "2020": "DCASE 2020, arithmetic mean over identities, then machines",
    "2021": "DCASE 2021, harmonic mean of AUC and pAUC of each domain",
    "2022": "DCASE 2022 and later, harmonic mean of AUC and pAUC",
}
TITLES = {
    "auc": "AUC",
    "pauc": "pAUC",
    "auc_source": "source",
    "auc_target": "target",
    "same_source": "source\nAUC",
    "same_target": "target\nAUC",
    "same_pauc_source": "source\npAUC",
    "same_pauc_target": "target\npAUC",
}
INTERVALS = ("bootstrap\nby clip", "bootstrap\nby rec.", "jackknife\nby clip", "jackknife\nby rec.")
"""95 %; rec.: by recording"""
NAME_WIDTH = 10
ORACLE = "  oracle: chosen on labels of test clips"


def show(evaluation: Evaluation, console: Console | None = None) -> None:
    """Print it; plain text and no wider or narrower than it needs when piped."""
    console = console or Console()
    plain = not console.is_terminal
    if plain:
        console = Console(file=console.file, width=160)
    mark = ORACLE if evaluation.oracle else ""
    for section in evaluation.sections:
        if section.judgements:
            console.print(f"{section.key}  ({section.counts}){mark}", highlight=False)
            console.print(_judged(section, plain=plain))
            console.print(f"decisions: above {section.threshold:.4g}, 90 % of a gamma (official)", highlight=False)
            console.print(_decided(section, plain=plain), "")
        else:
            console.print(f"{section.key}: {section.counts}: not scorable, needs both\n", highlight=False)
    if evaluation.overall:
        scored = sum(bool(section.judgements) for section in evaluation.sections)
        console.print(f"over all machines ({scored}){mark}", highlight=False)
        console.print(_overall(evaluation, plain=plain))
        console.print(f"in %; intervals of 95 %; Ω of {MEANING[evaluation.protocol]}", highlight=False)


def _judged(section: Section, *, plain: bool) -> Table:
    """Every score's official metrics, and how sure Ω is."""
    protocol = section.judgements[FUSED].protocol
    titles = "", *(TITLES[term] for term in TERMS[protocol]), "Ω", *INTERVALS
    table = _table(*titles, plain=plain)
    for name, judgement in section.judgements.items():
        table.add_row(name, *_cells(judgement), style="bold" if name == FUSED else None)
    return table


def _decided(section: Section, *, plain: bool) -> Table:
    """How the official decisions fared in each domain, and the fused score on the domain's own anomalies."""
    fused = section.judgements[FUSED]
    table = _table("", "precision", "recall", "F1", "same-domain AUC", "pAUC", plain=plain)
    for domain, decisions, auc, pauc in (
        ("source", section.source, fused.same_source, fused.same_pauc_source),
        ("target", section.target, fused.same_target, fused.same_pauc_target),
    ):
        if decisions:
            counted = (f"{100 * share:.1f}" for share in (decisions.precision, decisions.recall, decisions.f1))
            table.add_row(domain, *counted, _percent(auc), _percent(pauc))
    return table


def _overall(evaluation: Evaluation, *, plain: bool) -> Table:
    table = _table("", "Ω", *INTERVALS, plain=plain)
    for name, figure in evaluation.overall.items():
        cells = f"{100 * figure.value:.2f}", *_intervals(figure)
        table.add_row(name, *cells, style="bold" if name == FUSED else None)
    return table


def _table(*columns: str, plain: bool) -> Table:
    """The first column is of words, the others of numbers."""
    gap = 2 if plain else 1  # and a line's own place, where lines are drawn
    table = Table(box=None if plain else box.SIMPLE_HEAD, padding=(0, gap, 0, 0), show_edge=False)
    first, *rest = columns
    table.add_column(first, min_width=NAME_WIDTH, overflow="fold")
    for column in rest:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _cells(judgement: Judgement) -> Iterator[str]:
    yield from (_percent(getattr(judgement, term)) for term in TERMS[judgement.protocol])
    yield _percent(judgement.omega)
    yield from _intervals(judgement.omega)


def _intervals(figure: Figure) -> Iterator[str]:
    """Cells under INTERVALS."""
    yield from map(_interval, (figure.by_clip, figure.by_recording))
    yield from map(_interval, (figure.jackknife_by_clip, figure.jackknife_by_recording))


def _interval(interval: Interval | None) -> str:
    return "–" if interval is None else f"{100 * interval.low:.0f}–{100 * interval.high:.0f}"


def _percent(figure: Figure | None) -> str:
    return "–" if figure is None else f"{100 * figure.value:.1f}"
