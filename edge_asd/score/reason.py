"""Why a clip scored as it did: the fused score taken apart into bands and indicators, by the head's own arithmetic.

A distance is the sum of what each feature adds to it (:class:`edge_asd.score.detector.Divisible`), the z-score of a
part is that distance over its spread, and fusion is made of lines. So what a band adds to the fused score is exact; its
share is that over what all bands add, through all parts that count and look at the spectrum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_asd.score.clip import Why
from edge_asd.score.detector import FLOOR
from edge_asd.score.part import INDICATORS, features
from edge_asd.signal.view import mel_centres, mel_span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeVar

    from numpy.typing import NDArray

    from edge_asd.score.head import Head, Verdict
    from edge_asd.score.part import Evidence, Part
    from edge_asd.signal.view import LogMel

    Key = TypeVar("Key", int, str)

LARGEST = 5
"""bands that are named"""
OFF = 1.0
"""standard deviations from which on a part is worth a word"""
SHARE = 0.2
"""of the distance of the indicators, from which on one is worth a word"""
STRETCHES = 2
"""of bands that are worth a word"""


def explain(head: Head, spec: LogMel, heard: Evidence, verdict: Verdict) -> Why:
    """What made the verdict on this evidence."""
    z = np.array([part.z for part in verdict.parts])
    slopes = head.fusion.slopes(head.names, z)
    counted = [(part, float(slope)) for part, slope in zip(head.parts, slopes, strict=True) if slope > 0]
    bands = _added(counted, "spectrum", heard, 2 * spec.n_mels).reshape(2, -1).sum(axis=0)  # mean and maximum
    indicators = _added(counted, "indicators", heard, len(INDICATORS))
    hertz = [round(float(centre)) for centre in mel_centres(spec)]
    words = _words(head.parts, slopes * z, z, spec, heard)
    return Why(_shares(hertz, bands), _shares(INDICATORS, indicators), _nearest(head, counted, heard), words)


def _added(counted: Sequence[tuple[Part, float]], feature: str, heard: Evidence, width: int) -> NDArray[np.float64]:
    """To the fused score by each of ``width`` features, through all parts that look at them."""
    own = [slope * part.by_feature(heard) for part, slope in counted if part.spec.feature == feature]
    return np.asarray(np.sum([np.zeros(width), *own], axis=0), np.float64)


def _shares(keys: Sequence[Key], added: NDArray[np.float64]) -> dict[Key, float]:
    """The largest that are above 0; nothing where there is nothing to share."""
    total = float(added.sum())
    largest = [int(which) for which in np.argsort(-added, kind="stable")[:LARGEST] if added[which] > 0 < total]
    return {keys[which]: float(added[which]) / total for which in largest}


def _nearest(head: Head, counted: Sequence[tuple[Part, float]], heard: Evidence) -> str | None:
    """By the first part that compares whole clips."""
    for part, _ in counted:
        which = part.nearest(heard, len(head.clips)) if part.spec.scope == "clip" else None
        if which is not None:
            return head.clips[which]
    return None


# In words ------------------------------------------------------------------------------------------------------------


def _words(
    parts: Sequence[Part], added: NDArray[np.float64], z: NDArray[np.float64], spec: LogMel, heard: Evidence
) -> tuple[str, ...]:
    """Of each part that counts and is off, the one that adds most to the fused score first."""
    spoken = [which for which in np.argsort(-added, kind="stable") if added[which] > 0 and z[which] >= OFF]
    said = ((f"{parts[which].spec.name} {z[which]:.1f} σ", _said(parts[which], spec, heard)) for which in spoken)
    return tuple(": ".join(filter(None, each)) for each in said)


def _said(part: Part, spec: LogMel, heard: Evidence) -> str:
    """What a part heard against what it compares with; nothing of one that looks at other things than these."""
    usual = part.usual(heard) if part.spec.scope == "clip" else None
    if usual is None:
        return ""
    now, added = features(part.spec, heard)[0], part.by_feature(heard)
    if part.spec.feature == "indicators":
        return ", ".join(_indicators(usual, now, added))
    return ", ".join(_bands(spec, now - usual, added))


def _indicators(usual: NDArray[np.float32], now: NDArray[np.float32], added: NDArray[np.float64]) -> Iterator[str]:
    """Those that had a part in it, the largest first."""
    for which in np.argsort(-added):
        if added[which] < SHARE * added.clip(0).sum():
            return
        before, after = float(usual[which]), float(now[which])
        match INDICATORS[which]:
            case "level":
                yield f"level {after - before:+.1f} dB"
            case "crest":
                yield f"crest factor {before:.1f} → {after:.1f} dB"
            case name:
                yield f"{name} {np.exp(before):.1f} → {np.exp(after):.1f}"


def _bands(spec: LogMel, off: NDArray[np.float32], added: NDArray[np.float64]) -> Iterator[str]:
    """The two stretches of neighbouring bands that stand out, by half of the largest."""
    halves, off = added.reshape(2, -1), off.reshape(2, -1)  # mean and maximum
    bands = halves.sum(axis=0)
    loud = np.flatnonzero(bands >= max(bands.max() / 2, FLOOR))
    runs = np.split(loud, np.flatnonzero(np.diff(loud) > 2) + 1)
    for run in sorted(runs, key=lambda run: -bands[run].sum())[:STRETCHES]:
        half = int(halves[:, run].sum(axis=1).argmax())
        yield f"{('band', 'peaks at')[half]} {_hertz(*mel_span(spec, run[0], run[-1]))} {off[half, run].mean():+.1f} dB"


def _hertz(lower: float, upper: float) -> str:
    if upper < 1000:
        return f"{lower:.0f}–{upper:.0f} Hz"
    return f"{lower / 1000:.2f}–{upper / 1000:.2f} kHz"
