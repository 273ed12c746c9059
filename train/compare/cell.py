"""Numbers as the cells of a table show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from train.compare.outcome import Figure, Interval

NOTHING = "–"
"""what is unknown"""


def percent(values: Sequence[float]) -> str:
    """``73.9``, or of several ``73.9 ± 1.2``."""
    if not values:
        return NOTHING
    said = f"{100 * np.mean(values):.1f}"
    return said + (f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def figures(figures: Sequence[Figure]) -> tuple[str, str, str]:
    """Values and both intervals."""
    by_clip, by_recording = [one.by_clip for one in figures], [one.by_recording for one in figures]
    return percent([one.value for one in figures]), interval(by_clip), interval(by_recording)


def interval(intervals: Sequence[Interval | None]) -> str:
    """Mean of the bounds, in percent."""
    known = [one for one in intervals if one]
    if not known:
        return NOTHING
    low, high = np.mean([one.low for one in known]), np.mean([one.high for one in known])
    return f"[{100 * low:.0f}, {100 * high:.0f}]"


def printed(value: float) -> str:
    """A percentage with all the digits that papers give."""
    return f"{value:.2f}"


def shown(value: float | None, form: str) -> str:
    """In a format such as ``{:.1f}``."""
    return NOTHING if value is None else form.format(value)


def start(digest: str, length: int) -> str:
    """Beginning of a digest or commit; what is marked stays marked."""
    return (digest[:length] + ("+" if digest.endswith("+") else "")) or NOTHING


def count(value: float | None) -> str:
    """``1.38 M``."""
    if value is None:
        return NOTHING
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def duration(seconds: Sequence[float]) -> str:
    """Mean and spread in the unit that fits."""
    if not seconds:
        return NOTHING
    size, unit = next((s, u) for s, u in ((3600, "h"), (60, "min"), (1, "s")) if np.mean(seconds) >= s or s == 1)
    said = f"{np.mean(seconds) / size:.1f}"
    spread = f" ± {np.std(seconds, ddof=1) / size:.1f}" if len(seconds) > 1 else ""
    return f"{said}{spread} {unit}"
