"""What attributes say of an operating condition: names and values, and one number to order conditions by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

STEP = 5.0
"""of a condition's number, between the two most alike: so many standard deviations of a latent (OEVAE report, §2)"""
FARTHEST = 50.0
"""from the mean condition, either way; few values that lie very unevenly would lead beyond"""
BINS = 5
"""of loudness, where there is no attribute (methods.md §2.4)"""
NUMBER = re.compile(r"(?P<before>.*?)(?P<number>-?\d+(?:\.\d+)?)(?P<after>\D*)")


@dataclass(frozen=True, slots=True)
class Attribute:
    """One of a machine's attributes, as its training clips have it."""

    name: str
    """the word before its value, or its place, counted from 1"""
    values: tuple[str, ...]
    """the different ones, in order: of their numbers if they have any, else of their names"""
    of: NDArray[np.int64]
    """(N,) which of them each clip has; -1 where that is unknown"""

    @property
    def numbers(self) -> NDArray[np.float64]:
        """(values,) what is measured, as 28 for ``28V``; the rank of names."""
        found = _numbers(self.values)
        return np.arange(len(self.values), dtype=np.float64) if found is None else found


def attributes(said: Sequence[str]) -> list[Attribute]:
    """The attributes of one machine that have two values or more.

    Words joined by underscores change from condition to condition in some places: these are values, and a word before
    one that never changes is its name (``car_A1_spd_28V`` and ``car_A2_spd_28V`` differ in ``car``). Where conditions
    have not all the same number of words, the whole is one attribute.

    Args:
        said: (N,) the attribute string of each clip, empty where there is none.
    """
    rows = [text.split("_") if text else None for text in said]
    known = [row for row in rows if row is not None]
    if not known:
        return []
    if len({len(row) for row in known}) > 1:
        rows = [[text] if text else None for text in said]
        known = [row for row in rows if row is not None]
    varying = [place for place in range(len(known[0])) if len({row[place] for row in known}) > 1]
    names = {place: place - 1 if place and place - 1 not in varying else None for place in varying}
    return [_attribute(rows, known, place, name) for place, name in names.items()]


def conditions(
    said: Sequence[str], loudness: NDArray[np.float64], rng: np.random.Generator | None = None
) -> NDArray[np.float64]:
    """A number for each clip's operating condition, k·v of methods.md §2.4, its mean 0, at most FARTHEST from it.

    v is one attribute: of those that are numbers that with the most values, or else of all; by chance where a generator
    is given, as the OEVAE report has it. Without any attribute v is the loudness in bins as full as each other.

    Args:
        said: (N,) attribute strings of one machine's clips.
        loudness: (N,) their levels, dB.
        rng: draws the attribute; None for the richest.
    """
    found = attributes(said)
    if not (found or any(said)):
        edges = np.quantile(loudness, np.linspace(0, 1, BINS + 1)[1:-1])
        v = np.searchsorted(edges, loudness, side="right").astype(np.float64)
    elif not found:
        v = np.zeros(len(said))
    else:
        chosen = found[rng.integers(len(found))] if rng else max(found, key=_richness)
        v = np.where(chosen.of < 0, np.nan, chosen.numbers[chosen.of])
    gaps = np.diff(np.unique(v[~np.isnan(v)]))
    if not gaps.size:
        return np.zeros(len(said))
    kv: NDArray[np.float64] = np.nan_to_num(STEP / gaps.min() * (v - np.nanmean(v)))
    return kv.clip(-FARTHEST, FARTHEST)


def _attribute(rows: Sequence[list[str] | None], known: Sequence[list[str]], place: int, name: int | None) -> Attribute:
    different = sorted({row[place] for row in known})
    numbers = _numbers(different)
    values = different if numbers is None else [different[i] for i in np.argsort(numbers, kind="stable")]
    of = np.array([-1 if row is None else values.index(row[place]) for row in rows], np.int64)
    return Attribute(str(place + 1) if name is None else known[0][name], tuple(values), of)


def _richness(attribute: Attribute) -> tuple[bool, int]:
    return _numbers(attribute.values) is not None, len(attribute.values)


def _numbers(values: Sequence[str]) -> NDArray[np.float64] | None:
    """Of values that are a number each, with the same before and after it; None of all others, and of equal numbers."""
    found = [NUMBER.fullmatch(value) for value in values]
    if not all(found) or len({(match["before"], match["after"]) for match in found if match}) > 1:
        return None
    numbers = np.array([float(match["number"]) for match in found if match])
    return numbers if np.unique(numbers).size == numbers.size else None
