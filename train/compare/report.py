"""One page about runs that were fitted, exported and evaluated: tables, and the figures that explain them."""

from __future__ import annotations

import re
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from edge_asd.errors import ConfigError
from train.compare import comparison, plot
from train.compare.outcome import load_outcome
from train.compare.page import Chapter, Page, Picture, html, markdown
from train.compare.probe import LEAST, Probe, averaged, place, probe
from train.compare.system import systems_of
from train.file import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.progress import Progress

    from train.compare.outcome import Embeddings, Outcome, Scores
    from train.compare.system import System

T = TypeVar("T")
ABREAST = 3
"""systems side by side in one figure"""
MAPPED = 1500
"""most clips in one map: drawn at random beyond"""


def report(folders: Sequence[Path], out: Path | None, text: Path | None, progress: Progress) -> tuple[Path, ...]:
    """Write the page of these runs, and tell where.

    Args:
        folders: runs with an evaluation in them, or evaluations.
        out: folder for ``report.html`` and ``report.md`` with its pictures.
        text: Markdown file for the tables alone.
        progress: shows how far it is.

    Raises:
        ConfigError: there is nowhere to write to, or a folder holds nothing that was evaluated.
    """
    if out is None and text is None:
        msg = "nowhere to write to; name --out DIR for a page with figures, --markdown FILE for its tables, or both"
        raise ConfigError(msg)
    systems = systems_of(map(load_outcome, dict.fromkeys(folder.resolve() for folder in folders)))
    whole = page(systems, tuple(_drawn(systems, progress)) if out else ())
    contents = {text: markdown(whole, pictures=False).encode()} if text else {}
    if out:
        for picture in chain.from_iterable(chapter.pictures for chapter in whole.chapters):
            write_whole(out / f"{picture.name}.png", picture.png)
        contents[out / "report.md"] = markdown(whole, pictures=True).encode()
        contents[out / "report.html"] = html(whole).encode()
    for path, content in contents.items():
        write_whole(path, content)
    return tuple(contents)


def page(systems: Sequence[System], drawn: Sequence[Chapter]) -> Page:
    """Tables, then what was drawn, then where it all came from."""
    beside = comparison.beside_peers(systems)
    missing = tuple(chain.from_iterable(outcome.missing for system in systems for outcome in system.outcomes))
    known = tuple(probes(systems))
    chapters = (
        Chapter("At a glance", tables=(comparison.glance(systems),)),
        Chapter("Ours", tables=(comparison.overall(systems), comparison.cost(systems))),
        Chapter("Ours, by machine", tables=comparison.by_machine(systems)),
        Chapter("Others' systems on the same recordings", tables=(beside,)) if beside else None,
        Chapter("Published, on other data", tables=comparison.published()),
        Chapter("What the embeddings know", tables=(comparison.probed(known),)) if known else None,
        *drawn,
        Chapter("Where it came from", lines=missing, tables=(comparison.runs(systems),)),
    )
    sets = ", ".join(dict.fromkeys(chain.from_iterable(system.sets for system in systems)))
    lead = f"Evaluated on {sets}. Written by python -m train report from run folders, not by hand."
    return Page("Results", (lead,), tuple(chapter for chapter in chapters if chapter))


# Figures --------------------------------------------------------------------------------------------------------------


def _drawn(systems: Sequence[System], progress: Progress) -> Iterator[Chapter]:
    steps: dict[str, Callable[[Sequence[System]], Iterator[Picture]]] = {
        "Scores of test clips": _scores,
        "Receiver operating characteristics": _rocs,
        "Learning curves": _learning,
        "Maps of embeddings": partial(_maps, progress=progress),
    }
    task = progress.add_task("figures", total=len(steps))
    for title, draw in steps.items():
        progress.update(task, description=title.lower())
        if pictures := tuple(draw(systems)):
            yield Chapter(title, pictures=pictures)
        progress.advance(task)


def _scores(systems: Sequence[System]) -> Iterator[Picture]:
    for name, key, clips in _by_machine(systems):
        alt = f"Histograms of the scores of {key}. " + " ".join(map(_described, clips))
        caption = (
            f"{key}: fused scores of test clips{_first(systems)}, source domain above, target domain below. "
            "Filled: normal. Hatched: anomalous. Dashed: decision threshold, above which a clip is called anomalous."
        )
        yield Picture(f"scores-{name}", alt, caption, plot.png(plot.histograms(clips)))


def _rocs(systems: Sequence[System]) -> Iterator[Picture]:
    for name, key, clips in _by_machine(systems):
        alt = f"ROC of {key} by domain. " + " ".join(map(_areas, clips))
        caption = (
            f"{key}: fused scores{_first(systems)}, normals of one domain against the anomalies of both. "
            "Shaded: false alarms up to 10 %, where pAUC looks. Dotted: chance."
        )
        yield Picture(f"roc-{name}", alt, caption, plot.png(plot.rocs(clips)))


def _learning(systems: Sequence[System]) -> Iterator[Picture]:
    for number, system in enumerate(systems, 1):
        logs = [outcome.log for outcome in system.outcomes if outcome.log]
        if not (logs and plot.learned(logs[0])):
            continue
        level = next((o.ignorance for o in system.outcomes if o.ignorance is not None), None)
        ends = (f"{name} from {logs[0][0][name]:.3g} to {logs[0][-1][name]:.3g}" for name in plot.learned(logs[0]))
        alt = f"Learning curves of {system.label} over {len(logs[0])} epochs: {', '.join(ends)}."
        caption = f"{system.label}: losses by epoch, {len(logs)} run{'s' if len(logs) > 1 else ''}."
        if level is not None:
            caption += f" A classifier that knows nothing of the attribute groups has an l_rev of {level:.3g} (dotted)."
        yield Picture(f"learning-{number}", alt, caption, plot.png(plot.learning(logs, level)))


def _maps(systems: Sequence[System], progress: Progress) -> Iterator[Picture]:
    """Fig. 3 of the GRHD paper, as many machines at a time as there are colours."""
    networks = [(system.label, known) for system in systems if (known := system.first.embeddings)]
    keys = sorted({str(key) for _, known in networks for key in np.unique(known.key)})
    pages = [(some, side) for some in _some(keys, len(plot.PALETTE)) for side in _some(networks, ABREAST)]
    task = progress.add_task("t-SNE", total=2 * sum(len(side) for _, side in pages))
    for number, (some, side) in enumerate(pages, 1):
        placed = (_placed(label, known, some, lambda: progress.advance(task)) for label, known in side)
        clips = [one for one in placed if one]
        if not clips:
            continue
        names = " and ".join(one.system for one in clips)
        alt = f"Embeddings of the test clips of {', '.join(some)} by {names}, in two and in three dimensions."
        caption = (
            f"t-SNE of the embeddings of test clips (at most {MAPPED}, drawn at random), two-dimensional above, "
            "three-dimensional below (as Fig. 3 of the GRHD paper). Colour: machine. Filled: source domain; hollow: "
            "target. Round: normal; pointed: anomalous. Distances between far clusters mean nothing; the linear probe "
            "in the table above does not depend on this picture."
        )
        yield Picture(f"map-{number}", alt, caption, plot.png(plot.maps(clips)))


def _placed(label: str, known: Embeddings, keys: Sequence[str], done: Callable[[], None]) -> plot.Map | None:
    chosen = np.flatnonzero(np.isin(known.key, keys))
    if chosen.size > MAPPED:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, MAPPED, replace=False))
    if chosen.size < LEAST:
        return None
    flat = place(known.embedding[chosen], 2)
    done()
    solid = place(known.embedding[chosen], 3)
    done()
    return plot.Map(label, flat, solid, known.key[chosen], known.target[chosen], known.anomaly[chosen])


# Clips ----------------------------------------------------------------------------------------------------------------


def _by_machine(systems: Sequence[System]) -> Iterator[tuple[str, str, Sequence[plot.Clips]]]:
    """File name, machine, and what up to ABREAST systems say of its clips."""
    keys = dict.fromkeys(section.key for system in systems for section in system.first.result.sections)
    for key in keys:
        scored = [one for system in systems if (one := _clips(system, key))]
        for number, some in enumerate(_some(scored, ABREAST), 1):
            yield re.sub(r"[^\w-]+", "-", f"{key}-{number}"), key, some


def _clips(system: System, key: str) -> plot.Clips | None:
    """Of the first run; None where it has none, or normals or anomalies are missing."""
    scores, result = system.first.scores, system.first.result
    if scores is None:
        return None
    chosen = (scores.key == key) & (scores.normal | scores.anomaly)
    anomaly = scores.anomaly[chosen]
    if not anomaly.any() or anomaly.all():
        return None
    head = next(section.head for section in result.sections if section.key == key)
    threshold = result.thresholds[head].decision if head in result.thresholds else None
    return plot.Clips(system.label, scores.score[chosen], anomaly, scores.target[chosen], threshold)


def _first(systems: Sequence[System]) -> str:
    """Which of several runs is drawn."""
    return " (of a system with several runs, the first)" if any(len(one.outcomes) > 1 for one in systems) else ""


def _described(clips: plot.Clips) -> str:
    """For who cannot see it."""
    normal, anomaly = np.median(clips.score[~clips.anomaly]), np.median(clips.score[clips.anomaly])
    said = f"{clips.system}: median of normals {normal:.2f}, of anomalies {anomaly:.2f}"
    return f"{said}." if clips.threshold is None else f"{said}, decision threshold {clips.threshold:.2f}."


def _areas(clips: plot.Clips) -> str:
    """For who cannot see it."""
    areas = (f"{name} {100 * np.trapezoid(tpr, fpr):.1f}" for name, (fpr, tpr) in plot.curves(clips).items())
    return f"{clips.system}: AUC {', '.join(areas)}."


def _some(things: Sequence[T], most: int) -> list[Sequence[T]]:
    return [things[first : first + most] for first in range(0, len(things), most)]


# Probes ---------------------------------------------------------------------------------------------------------------


def probes(systems: Sequence[System]) -> Iterator[tuple[str, Probe | None, Probe | None]]:
    """Label, how well a probe tells the domain, how well the section; of every system with a network."""
    for system in systems:
        pairs = [pair for outcome in system.outcomes if (pair := _probed(outcome))]
        if pairs:
            domain, section = ([p for p in column if p] for column in zip(*pairs, strict=True))
            yield system.label, averaged(domain), averaged(section)


def _probed(outcome: Outcome) -> tuple[Probe | None, Probe | None] | None:
    known = outcome.embeddings
    if known is None:
        return None
    recording = _recordings(known, outcome.scores)
    domain = np.where(known.target, "target", "source")
    own = (known.key == key for key in np.unique(known.key))
    by_machine = [probe(known.embedding[one], domain[one], recording[one]) for one in own]
    return averaged([p for p in by_machine if p]), probe(known.embedding, known.key, recording)


def _recordings(known: Embeddings, scores: Scores | None) -> NDArray[np.str_]:
    """(N,) what each clip was cut from; itself where that is unknown."""
    told: dict[tuple[str, str], str] = {}
    if scores is not None:
        told = {(k, f): r for k, f, r in zip(scores.key, scores.file, scores.recording, strict=True) if r}
    clips = zip(known.key, known.file, strict=True)
    return np.array([f"{key} {told.get((key, file), file)}" for key, file in clips])
