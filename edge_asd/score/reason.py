"""Why a clip scored as it did: the fused score taken apart into bands and indicators, by the head's own arithmetic.

A distance is the sum of what each feature adds to it (:class:`edge_asd.score.detector.Divisible`), the z-score of a
part is that distance over its spread, and fusion is made of lines. So what a band adds to the fused score is exact; its
share is that over what all bands add, through all parts that count and look at the spectrum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_asd.score.clip import Why
from edge_asd.score.part import INDICATORS
from edge_asd.signal.view import mel_centres

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeVar

    from numpy.typing import NDArray

    from edge_asd.score.head import Head, Verdict
    from edge_asd.score.part import Evidence, Part
    from edge_asd.signal.view import LogMel

    Key = TypeVar("Key", int, str)

LARGEST = 5
"""bands that are named"""


def explain(head: Head, spec: LogMel, heard: Evidence, verdict: Verdict) -> Why:
    """What made the verdict on this evidence."""
    slopes = head.fusion.slopes(head.names, np.array([part.z for part in verdict.parts]))
    counted = [(part, float(slope)) for part, slope in zip(head.parts, slopes, strict=True) if slope > 0]
    bands = _added(counted, "spectrum", heard, 2 * spec.n_mels).reshape(2, -1).sum(axis=0)  # mean and maximum
    indicators = _added(counted, "indicators", heard, len(INDICATORS))
    hertz = [round(float(centre)) for centre in mel_centres(spec)]
    return Why(_shares(hertz, bands), _shares(INDICATORS, indicators), _nearest(head, counted, heard))


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
