"""References for the tests of what learns from them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from edge_asd.score.detector import References


def points(seed: int, samples: int, dimensions: int) -> np.ndarray:
    """(N, D) correlated and far from the origin."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((samples, dimensions)) @ rng.standard_normal((dimensions, dimensions)) + 3).astype("f4")


@st.composite
def references(draw: st.DrawFn) -> References:
    """Small whole numbers, so that distances tie and points coincide, in three groups or more."""
    samples, dimensions = draw(st.integers(4, 14)), draw(st.integers(1, 4))
    values = draw(st.lists(st.integers(-3, 3), min_size=samples * dimensions, max_size=samples * dimensions))
    rest = draw(st.lists(st.integers(0, 5), min_size=samples - 3, max_size=samples - 3))
    flags = draw(st.lists(st.tuples(st.booleans(), st.integers(0, 2)), min_size=samples, max_size=samples))
    target, attribute = (np.array(column) for column in zip(*flags, strict=True))
    features = np.array(values, np.float32).reshape(samples, dimensions)
    return References.of(features, np.array([0, 1, 2, *rest]), target, attribute)
