"""Figures of a report. Every function draws one and gives it back; :func:`png` makes a file of it.

Colours are those of Okabe and Ito, told apart with any kind of colour vision and in grey; nothing is said by colour
alone. Figures are white, on screens dark and light and on paper.
"""

from __future__ import annotations

import io
import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator
from sklearn.metrics import roc_curve

from train.judge.metric import MAX_FPR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

BLUE, ORANGE, GREEN, RED, SKY, PINK, BLACK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000"
PALETTE = BLUE, RED, GREEN, ORANGE, PINK, SKY, BLACK
"""for kinds without an order; as many as can be told apart in one figure"""
NORMAL, ANOMALY = BLUE, RED
SOURCE, TARGET = BLACK, GREEN
BINS = 24
LINEAR = 12.0
"""largest score up to which the axis is linear; beyond, it is compressed"""
DPI = 110
WIDTH, HEIGHT = 3.9, 3.0
"""inches of a panel"""


@dataclass(frozen=True, slots=True)
class Clips:
    """The N scored clips of one machine by one system, each array (N,)."""

    system: str
    score: NDArray[np.float64]
    anomaly: NDArray[np.bool_]
    target: NDArray[np.bool_]
    threshold: float | None
    """above it a clip is called anomalous"""


@dataclass(frozen=True, slots=True)
class Map:
    """Where t-SNE puts N clips of one system."""

    system: str
    flat: NDArray[np.float32]
    """(N, 2)"""
    solid: NDArray[np.float32]
    """(N, 3)"""
    section: NDArray[np.str_]
    target: NDArray[np.bool_]
    anomaly: NDArray[np.bool_]


def png(figure: Figure) -> bytes:
    """The same bytes for the same figure."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    return content.getvalue()


# Scores ---------------------------------------------------------------------------------------------------------------


def histograms(systems: Sequence[Clips]) -> Figure:
    """How normals and anomalies of each domain score; the decision threshold between them."""
    figure = Figure(figsize=(WIDTH * len(systems), 1.5 * HEIGHT), layout="constrained")
    axes = figure.subplots(2, len(systems), squeeze=False, sharex="col", sharey="col")
    for column, clips in enumerate(systems):
        compressed = bool(np.abs(clips.score).max() > LINEAR)
        edges = _edges(clips.score, compressed=compressed)
        for row, domain in enumerate(("source", "target")):
            one: Axes = axes[row, column]
            _histogram(one, clips, edges, target=domain == "target")
            one.set_ylabel(f"{domain}: clips")
            if compressed:
                _compress(one, edges[0], edges[-1])
        axes[0, column].set_title(_wrapped(clips.system), fontsize=10)
        axes[1, column].set_xlabel("score (z)")
    _legend(figure, _histogram_key())
    return figure


def _histogram(axes: Axes, clips: Clips, edges: list[float], *, target: bool) -> None:
    domain = clips.target == target
    normal, anomaly = clips.score[domain & ~clips.anomaly], clips.score[domain & clips.anomaly]
    axes.hist(normal, edges, color=NORMAL, alpha=0.55, gid="normal")
    axes.hist(anomaly, edges, histtype="step", color=ANOMALY, linewidth=1.6, hatch="////", gid="anomaly")
    if clips.threshold is not None:
        axes.axvline(clips.threshold, color=BLACK, linestyle="--", linewidth=1.2)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))


def _compress(axes: Axes, low: float, high: float) -> None:
    """As a logarithm far from zero, and linear near it."""
    axes.set_xscale("asinh", linear_width=LINEAR / 4)
    largest = max(-low, high)
    steps = (1, 3) if largest < 1000 else (1,)
    marks = [step * 10.0**power for power in range(1, 1 + math.ceil(math.log10(largest))) for step in steps]
    axes.set_xticks([mark for mark in (*(-one for one in marks), 0.0, *marks) if low <= mark <= high])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def _histogram_key() -> list[Any]:
    return [
        Patch(facecolor=NORMAL, alpha=0.55, label="normal"),
        Patch(facecolor="none", edgecolor=ANOMALY, hatch="////", label="anomalous"),
        Line2D([], [], color=BLACK, linestyle="--", label="decision threshold"),
    ]


def _edges(scores: NDArray[np.float64], *, compressed: bool) -> list[float]:
    """BINS + 1 of bins equally wide on the axis."""
    if not compressed:
        return [*map(float, np.linspace(scores.min(), max(scores.max(), scores.min() + 1e-6), BINS + 1))]
    width = LINEAR / 4
    low, high = np.arcsinh(np.array([scores.min(), scores.max()]) / width)
    return [*map(float, width * np.sinh(np.linspace(low, high, BINS + 1)))]


def rocs(systems: Sequence[Clips]) -> Figure:
    """Hits over false alarms, the corner of pAUC shaded; a domain's normals against all anomalies, as Ω has it."""
    figure = Figure(figsize=(WIDTH * len(systems), WIDTH), layout="constrained")
    for axes, clips in zip(figure.subplots(1, len(systems), squeeze=False)[0], systems, strict=True):
        axes.axvspan(0, MAX_FPR, color=ORANGE, alpha=0.25, linewidth=0)
        axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
        for name, (fpr, tpr) in curves(clips).items():
            colour, line = (SOURCE, "-") if name == "source" else (TARGET, "--")
            label = f"{name}, AUC {100 * np.trapezoid(tpr, fpr):.1f}"
            axes.plot(fpr, tpr, line, color=colour, linewidth=1.8, label=label, gid=name)
        axes.set(xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal")
        axes.set(xlabel="normals called anomalous", ylabel="anomalies called anomalous")
        axes.set_title(_wrapped(clips.system), fontsize=10)
        axes.legend(loc="lower right", fontsize=8)
    return figure


def curves(clips: Clips) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Domain -> rates of false alarms and of hits, its normals against all anomalies; without one that has none."""
    found = {}
    for name, domain in (("source", ~clips.target), ("target", clips.target)):
        if (domain & ~clips.anomaly).any():
            used = domain | clips.anomaly
            fpr, tpr, _ = roc_curve(clips.anomaly[used], clips.score[used], drop_intermediate=False)
            found[name] = fpr, tpr
    return found


# Learning -------------------------------------------------------------------------------------------------------------

ASIDE = frozenset({"epoch", "seconds", "rate", "strength"})
"""numbers of an epoch that are no loss"""


def learned(log: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    """What there is to draw of a run: loss first, each with its ``held_`` twin."""
    names = dict.fromkeys(name for epoch in log for name in epoch)
    return tuple(name for name in names if name not in ASIDE and not name.startswith("held_"))


def learning(logs: Sequence[Sequence[Mapping[str, float]]], ignorance: float | None) -> Figure:
    """Every loss by epoch, of all seeds, on what is trained on and what is held out.

    Args:
        logs: of runs of one recipe.
        ignorance: the loss ``l_rev`` of a classifier that knows nothing, to compare it with.
    """
    names = learned(logs[0])
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(WIDTH * columns, 0.8 * HEIGHT * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        for log in logs:
            _curve(axes, log, name, BLUE, "o-")
            _curve(axes, log, f"held_{name}", RED, "s--")
        if name == "l_rev" and ignorance is not None:
            axes.axhline(ignorance, color=BLACK, linestyle=":", linewidth=1.4, gid="ignorance")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    lines = [Line2D([], [], color=BLUE, marker="o", label="trained on")]
    if any(f"held_{name}" in logs[0][-1] for name in names):
        lines.append(Line2D([], [], color=RED, marker="s", linestyle="--", label="held out"))
    if "l_rev" in names and ignorance is not None:
        lines.append(Line2D([], [], color=BLACK, linestyle=":", label="l_rev of a classifier that knows nothing"))
    _legend(figure, lines)
    return figure


def _curve(axes: Axes, log: Sequence[Mapping[str, float]], name: str, colour: str, line: str) -> None:
    epochs = [epoch for epoch in log if name in epoch]
    if epochs:
        numbers, values = [epoch["epoch"] + 1 for epoch in epochs], [epoch[name] for epoch in epochs]
        marks = 3 if len(epochs) <= 40 else 0
        axes.plot(numbers, values, line, color=colour, linewidth=1.4, markersize=marks, gid=name)


# Embeddings -----------------------------------------------------------------------------------------------------------


def maps(systems: Sequence[Map]) -> Figure:
    """Fig. 3 of the GRHD paper: embeddings in two and in three dimensions, systems side by side.

    Colour is the section, filled the source domain, hollow the target; round the normals, pointed the anomalies.
    """
    figure = Figure(figsize=(1.2 * WIDTH * len(systems), 2.2 * WIDTH), layout="constrained")
    sections = list(dict.fromkeys(name for one in systems for name in np.unique(one.section)))
    for number, one in enumerate(systems, 1):
        flat = figure.add_subplot(2, len(systems), number)
        solid: Any = figure.add_subplot(2, len(systems), len(systems) + number, projection="3d")
        for section, colour in zip(sections, PALETTE, strict=False):
            _points(flat, one, one.flat, section, colour)
            _points(solid, one, one.solid, section, colour)
        flat.set_title(_wrapped(one.system), fontsize=10)
        flat.set(xticks=[], yticks=[])
        for axis in (solid.xaxis, solid.yaxis, solid.zaxis):
            axis.set_ticklabels([])
    _legend(figure, _map_key(sections), columns=2 * len(systems))
    return figure


def _points(axes: Any, one: Map, placed: NDArray[np.float32], section: str, colour: str) -> None:  # noqa: ANN401 - flat or solid
    for anomalous, marker in ((False, "o"), (True, "^")):
        for target in (False, True):
            chosen = (one.section == section) & (one.anomaly == anomalous) & (one.target == target)
            if chosen.any():
                face = "none" if target else colour
                axes.scatter(*placed[chosen].T, s=22, marker=marker, facecolors=face, edgecolors=colour, linewidths=1)


def _map_key(sections: Iterable[str]) -> list[Line2D]:
    def key(label: str, colour: str, marker: str, face: str) -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, color=colour, markerfacecolor=face, label=label)

    kinds = [
        key(f"{domain}, {label}", "0.35", marker, face)
        for domain, face in (("source", "0.35"), ("target", "none"))
        for label, marker in (("normal", "o"), ("anomalous", "^"))
    ]
    return [*(key(name, colour, "s", colour) for name, colour in zip(sections, PALETTE, strict=False)), *kinds]


# Growth ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One panel: how a figure grows with a count, by several systems."""

    title: str
    across: str
    up: str
    systems: Mapping[str, tuple[Sequence[int], Sequence[float], Sequence[float]]]
    """by name, each: counts, means, deviations"""


def growth(panels: Sequence[Line]) -> Figure:
    """Panels side by side; bars are one deviation."""
    figure = Figure(figsize=(1.3 * WIDTH * max(len(panels), 1), 1.3 * HEIGHT), layout="constrained")
    names = list(dict.fromkeys(name for panel in panels for name in panel.systems))
    looks: dict[str, Any] = {
        name: {"color": PALETTE[n % len(PALETTE)], "marker": "os^Dv"[n % 5]} for n, name in enumerate(names)
    }
    for panel, axes in zip(panels, figure.subplots(1, max(len(panels), 1), squeeze=False)[0], strict=False):
        for name, (counts, means, deviations) in panel.systems.items():
            axes.errorbar(counts, means, deviations, **looks[name], linewidth=1.5, markersize=4, capsize=2, gid=name)
        axes.set_title(_wrapped(panel.title), fontsize=10)
        axes.set(xlabel=panel.across, ylabel=panel.up)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    if names:
        _legend(figure, [Line2D([], [], label=name, **looks[name]) for name in names], columns=3)
    return figure


# All figures ----------------------------------------------------------------------------------------------------------


def _legend(figure: Figure, entries: Sequence[Any], columns: int = 4) -> None:
    figure.legend(
        handles=list(entries), loc="outside lower center", ncols=min(columns, len(entries)), fontsize=8, frameon=False
    )


def _wrapped(title: str, width: int = 38) -> str:
    return textwrap.fill(title, width)
