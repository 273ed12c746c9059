"""Tables that set runs beside each other, and beside what others published."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from itertools import chain
from typing import TYPE_CHECKING

from train.compare import cell
from train.compare.outcome import Figure
from train.compare.system import ORACLE
from train.judge.evaluation import FUSED
from train.judge.metric import harmonic_mean
from train.judge.published import COLUMNS, PEERS, ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from train.compare.outcome import Making, Outcome, Section
    from train.compare.probe import Probe
    from train.compare.system import System
    from train.judge.published import Column, Domains, Measured
    from train.judge.published import Row as Published

TERMS: Mapping[str, Mapping[str, str]] = {
    "2020": {"auc": "AUC", "pauc": "pAUC"},
    "2021": {
        "same_source": "AUC source",
        "same_pauc_source": "pAUC source",
        "same_target": "AUC target",
        "same_pauc_target": "pAUC target",
    },
    "2022": {"auc_source": "AUC source", "auc_target": "AUC target", "pauc": "pAUC"},
}
"""protocol -> metric -> title: what Ω is a mean of"""
OFFICIAL = "2022"
"""the protocol of all others' figures"""
PUBLISHED_ORACLES = frozenset({"GRHD"})
"""published systems that were chosen on labels of their test clips: α, β, γ of each machine by "best performance"
([GRHD] §III-A2; methods.md §10, row 2)"""


@dataclass(frozen=True, slots=True)
class Row:
    """Cells, as text."""

    cells: tuple[str, ...]
    strong: bool = False
    """whether it stands out"""


@dataclass(frozen=True, slots=True)
class Table:
    """Ready to be written in any form."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    words: int
    """leading columns of words; the others are of numbers"""
    note: str = ""
    """what one must know to read it"""


# Ours -----------------------------------------------------------------------------------------------------------------


def glance(systems: Sequence[System]) -> Table:
    """Our fused scores, then the published ones."""
    official = TERMS[OFFICIAL]
    ours = [Row(("ours", system.label, _data(system), *_fused(system)), strong=True) for system in systems]
    rows = [
        Row(("published", _named(row.system), row.data, *_domains(row.total), cell.printed(row.omega))) for row in ROWS
    ]
    means = [
        Row(("published", one.system, one.data, *map(cell.printed, _means(one)), cell.printed(one.omega)))
        for one in COLUMNS
    ]
    return Table(
        "At a glance",
        ("whose", "system", "data", *official.values(), "Ω"),
        (*ours, *rows, *means),
        words=3,
        note="In %. Ours are measured on the data named in their row; published ones were read in papers and were "
        "measured on other data, so that no difference between the two says which system is better. AUC and pAUC are "
        f"harmonic means over machines, Ω is the official score. {ORACLE}: chosen on labels of test clips, no promise "
        "for new ones.",
    )


def _fused(system: System) -> Iterator[str]:
    """Harmonic means over machines of every official metric, and Ω."""
    for metric in TERMS[OFFICIAL]:
        runs = ([_value(one, metric) for one in outcome.result.sections] for outcome in system.outcomes)
        known = [[value for value in values if value is not None] for values in runs]
        comparable = system.first.result.protocol == OFFICIAL
        yield cell.percent([harmonic_mean(values) for values in known if values and comparable])
    yield cell.percent([figure.value for figure in _overall(system, FUSED)])


def _value(section: Section, metric: str) -> float | None:
    figure = section.judgements.get(FUSED, {}).get(metric)
    return figure.value if figure else None


def _data(system: System) -> str:
    protocol = system.first.result.protocol
    return ", ".join(system.sets) + ("" if protocol == OFFICIAL else f"; protocol of DCASE {protocol}")


def overall(systems: Sequence[System]) -> Table:
    """Ω over all machines, fused and of every part alone."""
    rows, data = [], {_data(system) for system in systems}
    for system in systems:
        for name in system.evidence:
            machines = sum(name in section.judgements for section in system.first.result.sections)
            counts = str(len(system.outcomes)), str(machines)
            told = (_data(system),) if len(data) > 1 else ()  # the same words in every row tell nothing
            cells = *_evidence(system, name), *told, *counts, *cell.figures(_overall(system, name))
            rows.append(Row((system.label, *cells), strong=name == FUSED))
    column = ("data",) if len(data) > 1 else ()
    return Table(
        "Over all machines",
        ("system", "evidence", "back end", *column, "runs", "machines", "Ω", "by clip", "by recording"),
        tuple(rows),
        words=3 + len(column),
        note="Ours, in %. Fused: what the bundle alarms by; alone: one part of it. Several runs of one recipe differ "
        "in their seed: mean ± standard deviation. Brackets: 95 % bootstrap intervals, of several runs their mean. "
        "Rows of different data cannot be compared.",
    )


def by_machine(systems: Sequence[System]) -> tuple[Table, ...]:
    """A table a machine and protocol."""
    machines = dict.fromkeys(
        (system.first.result.protocol, section.key) for system in systems for section in _scorable(system)
    )
    return tuple(_machine(systems, protocol, key) for protocol, key in machines)


def _machine(systems: Sequence[System], protocol: str, key: str) -> Table:
    rows = []
    for system in (one for one in systems if one.first.result.protocol == protocol):
        for name in system.evidence:
            if omegas := _metric(system, key, name, "omega"):
                cells = (cell.percent([f.value for f in _metric(system, key, name, term)]) for term in TERMS[protocol])
                said = (system.label, *_evidence(system, name), *cells, *cell.figures(omegas))
                rows.append(Row(said, strong=name == FUSED))
    titles = "system", "evidence", "back end", *TERMS[protocol].values(), "Ω", "by clip", "by recording"
    year = "" if protocol == "2022" else f", protocol of DCASE {protocol}"
    return Table(f"{key}{year}", titles, tuple(rows), words=3, note="Ours, in %.")


def cost(systems: Sequence[System]) -> Table:
    """What a system costs to train and to run."""
    rows = []
    for system in systems:
        metrics = system.first.result.bundle.metrics
        seconds = [sum(epoch.get("seconds", 0.0) for epoch in o.log) for o in system.outcomes if o.log]
        share = 1 - metrics["float_layers"] / metrics["layers"] if metrics.get("layers") else None
        latencies = (cell.shown(metrics.get(name), "{:.1f} ms") for name in ("int8_ms", "fp32_ms"))
        cells = (
            cell.count(metrics.get("parameters")),
            cell.count(metrics.get("macs")),
            cell.duration(seconds),
            *latencies,
            cell.shown(metrics.get("memory_mb"), "{:.0f} MB"),
            cell.NOTHING if share is None else f"{100 * share:.0f} %",
            cell.shown(metrics.get("int8_moved_z"), "{:.3f}"),
            system.first.result.precision if metrics else cell.NOTHING,
        )
        rows.append(Row((system.label, *cells)))
    return Table(
        "What it costs",
        (
            "system",
            "parameters",
            "MACs",
            "training",
            "int8 latency",
            "fp32 latency",
            "memory",
            "layers in int8",
            "int8 moves z",
            "judged by",
        ),
        tuple(rows),
        words=1,
        note="Parameters, multiply-accumulates and milliseconds of the graph for one segment; without a network there "
        "are none. Memory: most that a process held that only opened the bundle and scored by each of its heads. "
        "Training: wall time of all epochs. int8 moves z: most that a training clip's score changed between the full "
        "and the quantised graph.",
    )


def _evidence(system: System, name: str) -> tuple[str, str]:
    """What is judged, and how it is measured."""
    making, bundle = system.first.making, system.first.result.bundle
    if bundle.members:
        fused = [member for member, weight in bundle.members.items() if weight]
        aside = "" if name.partition(".")[0] in fused else " (not fused)"
        own = bundle.parts.get(name, cell.NOTHING)
        return (FUSED, f"{bundle.rule} of {', '.join(fused)}") if name == FUSED else (f"{name}, alone{aside}", own)
    if name == FUSED:
        shared = [part for part in making.backends if making.weights.get(part, 1.0) > 0] if making else []
        return FUSED, f"{making.rule} of {len(shared)}" if making and shared else cell.NOTHING
    if making is None:
        return f"{name}, alone", bundle.parts.get(name, cell.NOTHING)
    aside = "" if name in making.backends and making.weights.get(name, 1.0) else " (not fused)"
    return f"{name}, alone{aside}", making.backends.get(name) or _further(making, name)


def _further(making: Making, name: str) -> str:
    """Of a part that an export added, named OUTPUT.BACKEND or PART.BACKEND (train/pack/export.py)."""
    first, _, backend = name.partition(".")
    feature = making.backends.get(first, first).split(", ")[0]
    return f"{feature}, {backend}" if backend else cell.NOTHING


def _scorable(system: System) -> Iterator[Section]:
    return (section for section in system.first.result.sections if section.judgements)


def _metric(system: System, key: str, name: str, metric: str) -> list[Figure]:
    """Of every run that has it."""
    sections = (section for o in system.outcomes for section in o.result.sections if section.key == key)
    found = (section.judgements.get(name, {}).get(metric) for section in sections)
    return [figure for figure in found if figure]


def _overall(system: System, name: str) -> list[Figure]:
    return [figure for outcome in system.outcomes if (figure := _total(outcome, name))]


def _total(outcome: Outcome, name: str) -> Figure | None:
    """Without intervals where an older evaluation has none."""
    result = outcome.result
    if name in result.overall:
        return result.overall[name]
    return Figure(value=result.omega[name]) if name in result.omega else None


# Others' --------------------------------------------------------------------------------------------------------------


def beside_peers(systems: Sequence[System]) -> Table | None:
    """Ω on the sets of recordings that others' systems were measured on; None when there is none of them here."""
    comparable = [system for system in systems if system.first.result.protocol == OFFICIAL]
    here = set(chain.from_iterable(system.sets for system in comparable))
    sets = [name for name in dict.fromkeys(chain(*PEERS.values())) if name in here]
    if not sets:
        return None
    rows = []
    for system in (one for one in comparable if set(sets).intersection(one.sets)):
        for name in system.evidence:
            cells = (_on_set(system, one, name) for one in sets)
            rows.append(Row(("ours", f"{system.label}: {_evidence(system, name)[0]}", *cells), strong=name == FUSED))
    for name, measured in PEERS.items():
        rows.append(Row(("others'", name, *(_measured(measured.get(one)) for one in sets))))
    return Table(
        "Ω on the same recordings",
        ("whose", "system", *sets),
        tuple(rows),
        words=2,
        note="In %, sets matched by their names. Others' systems were run by us on these recordings, trained on normal "
        "clips only. Brackets: 95 % bootstrap interval by clip. Differences under 6 to 10 points on one set are noise.",
    )


def published() -> tuple[Table, ...]:
    """What papers print, on other data."""
    return _published_rows(), _published_columns()


def _published_rows() -> Table:
    """A column a system; the totals follow the machines."""
    machines = (
        Row((name, *(" / ".join(map(cell.printed, astuple(row.machines[name]))) for row in ROWS)))
        for name in ROWS[0].machines
    )
    totals = zip(TERMS[OFFICIAL].values(), *(_domains(row.total) for row in ROWS), strict=True)
    over_all = (Row((f"all: {title}", *values)) for title, *values in totals)
    return Table(
        f"Published on {ROWS[0].data}",
        ("machine", *(_named(row.system) for row in ROWS)),
        (*machines, *over_all, _omegas(ROWS)),
        words=1,
        note=f"In %, AUC / pAUC, printed in {ROWS[0].printed}. Other data than ours.",
    )


def _named(system: str) -> str:
    return f"{system} {ORACLE}" if system in PUBLISHED_ORACLES else system


def _published_columns() -> Table:
    machines = COLUMNS[0].machines
    return Table(
        f"Published on {COLUMNS[0].data}",
        ("machine", *(f"{_named(one.system)} ({one.printed})" for one in COLUMNS)),
        (*(Row((m, *(" / ".join(_domains(one.machines[m])) for one in COLUMNS))) for m in machines), _omegas(COLUMNS)),
        words=1,
        note="In %, AUC source / AUC target / pAUC. Other data than ours.",
    )


def _omegas(systems: Sequence[Published] | Sequence[Column]) -> Row:
    return Row(("Ω", *(cell.printed(one.omega) for one in systems)), strong=True)


def _on_set(system: System, name: str, evidence: str) -> str:
    """Ω over the machines of one set, with its interval where there is one machine."""
    keys = [section.key for section in _scorable(system) if section.key.split("/")[0] == name]
    if len(keys) == 1:
        omega, by_clip, _ = cell.figures(_metric(system, keys[0], evidence, "omega"))
        return omega if by_clip == cell.NOTHING else f"{omega} {by_clip}"
    terms = ([*_terms(outcome, keys, evidence)] for outcome in system.outcomes)
    return cell.percent([harmonic_mean(values) for values in terms if values])


def _terms(outcome: Outcome, keys: Sequence[str], evidence: str) -> Iterator[float]:
    """What Ω over these machines is the mean of."""
    for section in outcome.result.sections:
        figures = (section.judgements.get(evidence, {}).get(term) for term in TERMS[OFFICIAL])
        yield from (figure.value for figure in figures if figure and section.key in keys)


def _measured(one: Measured | None) -> str:
    if one is None:
        return cell.NOTHING
    said = f"{one.least:g}" if one.least == one.most else f"{one.least:g} to {one.most:g}"
    if one.interval:
        said += f" [{one.interval[0]:.0f}, {one.interval[1]:.0f}]"
    if one.seeds:
        said += f" ({', '.join(f'{seed:g}' for seed in one.seeds)})"
    return said if one.spread is None else f"{said} ± {one.spread:g}"


def _domains(total: Domains | None) -> tuple[str, ...]:
    return (cell.NOTHING,) * 3 if total is None else tuple(map(cell.printed, astuple(total)))


def _means(column: Column) -> Iterator[float]:
    """Harmonic, over machines."""
    return (harmonic_mean(values) for values in zip(*map(astuple, column.machines.values()), strict=True))


# What the embedding knows, and where it all came from -----------------------------------------------------------------


def probed(probes: Sequence[tuple[str, Probe | None, Probe | None]]) -> Table:
    """How well a linear probe tells domain and section, for every system with a network."""
    rows = tuple(Row((label, *_read(domain), *_read(section))) for label, domain, section in probes)
    return Table(
        "What a linear probe reads in the embedding",
        ("system", "domain", "by chance", "section", "by chance"),
        rows,
        words=1,
        note="Balanced accuracy in % of logistic regression on test clips, cross-validated so that no recording is on "
        "both sides. Domain: mean over machines that have both. Section: which of the machines it is.",
    )


def _read(known: Probe | None) -> tuple[str, str]:
    return (cell.percent([known.accuracy]), cell.percent([known.chance])) if known else (cell.NOTHING,) * 2


def runs(systems: Sequence[System]) -> Table:
    """Where every row came from."""
    rows = []
    for system in systems:
        for outcome in system.outcomes:
            origin, making = outcome.origin, outcome.making
            said = (
                outcome.name,
                system.label,
                str(making.seed) if making else cell.NOTHING,
                cell.start(origin.commit if origin else "", 10),
                cell.start(origin.data_digest if origin else "", 8),
                str(origin.clips) if origin else cell.NOTHING,
                cell.start(outcome.result.bundle.digest, 8),
                ", ".join(system.sets),
            )
            rows.append(Row(said))
    titles = "run", "system", "seed", "commit", "training data", "clips", "bundle", "evaluated on"
    note = "Commit of the checkout that trained it, + where it had changes; digests are SHA-256, their beginnings."
    return Table("Runs", titles, tuple(rows), words=8, note=note)
