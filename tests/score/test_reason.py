from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.score.detector import Divisible, References
from edge_asd.score.gaussian import Gaussian
from edge_asd.score.head import Fusion, Head, Member, fit_head
from edge_asd.score.listener import Listener, evidence
from edge_asd.score.neighbour import Knn, LocalDensity
from edge_asd.score.part import STATISTICS_PARTS, Normal, PartSpec
from edge_asd.score.reason import LARGEST, OFF, explain
from tests.example import COARSE, NETWORK_PARTS, SECOND, embed, noise
from tests.score.reference import points

STEP = 1e-4
INDICATORS, SPECTRUM, NEIGHBOUR = STATISTICS_PARTS
NORMALS = [Normal(evidence(SECOND, COARSE, embed, noise(seed, 16_000))) for seed in range(20)]
WHOLE, _ = fit_head({**STATISTICS_PARTS, **NETWORK_PARTS}, NORMALS)


def tone(hertz: float, level: float = 0.2) -> np.ndarray:
    """In the noise of a healthy machine."""
    return (noise(70, 16_000) + level * np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000)).astype(np.float32)


def scored(head: Head, clip: np.ndarray):  # noqa: ANN201 - a ClipScore
    return Listener(SECOND, COARSE, head, 4.0, embed).score(clip)


# One distance ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [Gaussian(), LocalDensity(), LocalDensity(ratio=False)], ids=str)
@settings(max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_a_feature_adds_how_far_it_is_off_times_the_slope_of_the_distance_along_it(
    backend: Gaussian | LocalDensity, seed: int
) -> None:
    detector = backend.fit(References.of(points(3, 30, 4)))
    x = points(seed, 1, 4)[0]
    origin = detector.references[detector.nearest(x)] if hasattr(detector, "nearest") else detector.mean
    off, along = x.astype(float) - origin, np.eye(4) * STEP * np.abs(x).max()
    up, down = (detector.score((x + way * along).astype(np.float64)) for way in (1, -1))  # type: ignore[arg-type]
    slope = (up - down) / (2 * along.max())

    assert isinstance(detector, Divisible)
    np.testing.assert_allclose(detector.by_feature(x), off * slope, rtol=0.01, atol=0.01 * np.abs(off * slope).max())


@pytest.mark.parametrize("ratio", [True, False])
@given(seed=st.integers(0, 10**6))
def test_what_features_add_is_the_whole_distance(seed: int, ratio: bool) -> None:  # noqa: FBT001 - a parameter
    known, x = points(3, 30, 4), points(seed, 1, 4)
    near, far = LocalDensity(ratio=ratio).fit(References.of(known)), Gaussian().fit(References.of(known))
    density = 0 if ratio else near.density[near.nearest(x[0])]

    assert near.by_feature(x[0]).sum() == pytest.approx(near.score(x)[0] + density, rel=1e-6)
    assert far.by_feature(x[0]).sum() == pytest.approx(far.score(x)[0], rel=1e-4)


def test_without_correlation_a_share_is_what_leaving_the_feature_out_takes_from_the_squared_distance() -> None:
    detector = replace(Gaussian().fit(References.of(points(3, 30, 4))), whitening=np.diag([1, 2, 3, 4]).astype("f4"))
    x = points(5, 1, 4)
    without = np.where(np.eye(4, dtype=bool), detector.mean, x)
    left_out = detector.score(x) ** 2 - detector.score(without) ** 2

    np.testing.assert_allclose(detector.by_feature(x[0]) * detector.score(x), left_out, rtol=1e-4)


def test_where_nothing_is_off_nothing_adds() -> None:
    known = points(3, 30, 4)
    assert not LocalDensity().fit(References.of(known)).by_feature(known[7]).any()
    assert not Gaussian().fit(References.of(known)).by_feature(Gaussian().fit(References.of(known)).mean).any()


# The fused score ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fusion", "expected"),
    [
        (Fusion(), [0.25, 0.25, 0.25, 0.25]),
        (Fusion(weights={"b.q": 0.0, "a.p": 2.0}), [0.5, 0.25, 0.25, 0.0]),
        (Fusion("min"), [0.0, 0.0, 1.0, 0.0]),
        (Fusion(members={"a": Member("min"), "b": Member(spread=2.0)}), [0.5, 0.0, 0.125, 0.125]),
    ],
)
def test_the_slope_of_the_fused_score_is_the_weight_that_a_part_really_has(
    fusion: Fusion, expected: list[float]
) -> None:
    slopes = fusion.slopes(["a.p", "a.q", "b.p", "b.q"], np.array([1.0, 3.0, 0.5, 2.0]))
    np.testing.assert_allclose(slopes, expected, atol=1e-6)


@pytest.mark.parametrize("part", [SPECTRUM, NEIGHBOUR], ids=lambda part: part.name)
@pytest.mark.parametrize("hertz", [1000.0, 2500.0, 6000.0])
def test_the_band_that_a_new_tone_is_in_moved_most(part: PartSpec, hertz: float) -> None:
    head, _ = fit_head({part: STATISTICS_PARTS[part]}, NORMALS)
    loudest = next(iter(scored(head, tone(hertz)).why.bands))
    spacing = {1000.0: 200, 2500.0: 450, 6000.0: 900}[hertz]  # of COARSE's twelve bands, there

    assert abs(loudest - hertz) <= spacing


def test_the_bands_are_what_the_fused_score_falls_by_when_each_goes_back_towards_what_it_is_compared_with() -> None:
    head, _ = fit_head({NEIGHBOUR: LocalDensity()}, NORMALS)
    heard = evidence(SECOND, COARSE, None, tone(2500))
    part, statistics = head.parts[0], heard.statistics
    reference = part.mean + part.deviation * part.detector.references[part.nearest(heard, 20)]  # type: ignore[attr-defined]

    def back(band: int) -> float:
        mean, maximum = statistics.mean.copy(), statistics.maximum.copy()
        mean[band] += 0.01 * (reference[band] - mean[band])
        maximum[band] += 0.01 * (reference[12 + band] - maximum[band])
        return head.judge(replace(heard, statistics=replace(statistics, mean=mean, maximum=maximum))).score

    falls = np.array([head.judge(heard).score - back(band) for band in range(12)])
    shares = np.sort(falls / falls.sum())[::-1][:LARGEST]

    why = explain(head, COARSE, heard, head.judge(heard))
    np.testing.assert_allclose(list(why.bands.values()), shares, rtol=0.05, atol=0.005)


def test_the_level_is_named_when_the_machine_is_only_louder_and_the_crest_when_it_knocks() -> None:
    knocking = noise(71, 16_000)
    knocking[::4000] = 1.0

    assert next(iter(scored(WHOLE, 4 * noise(71, 16_000)).why.indicators)) == "level"
    assert next(iter(scored(WHOLE, knocking).why.indicators)) in {"crest", "kurtosis"}


def test_shares_are_largest_first_and_no_more_than_the_whole() -> None:
    why = scored(WHOLE, tone(2500)).why
    for shares in (list(why.bands.values()), list(why.indicators.values())):
        assert shares == sorted(shares, reverse=True)
        assert all(share > 0 for share in shares)
    assert 1 <= len(why.bands) <= LARGEST
    assert sum(why.bands.values()) <= 1.01


def test_parts_that_do_not_count_or_cannot_say_say_nothing() -> None:
    shown = replace(WHOLE, fusion=Fusion(weights=dict.fromkeys(("indicators", "spectrum", "neighbour"), 0.0)))
    knn, _ = fit_head({PartSpec("k", "spectrum", "neighbours"): Knn()}, NORMALS)
    for head in (shown, knn):
        why = scored(head, tone(2500)).why
        assert (why.bands, why.indicators, why.nearest) == ({}, {}, None)


def test_the_nearest_normal_clip_is_named_where_the_bundle_tells_what_they_are_called() -> None:
    named = replace(WHOLE, clips=tuple(hashlib.sha256(bytes([n])).hexdigest()[:16] for n in range(20)))

    for number in (0, 7, 19):
        assert scored(named, noise(number, 16_000)).why.nearest == named.clips[number]
    assert scored(WHOLE, noise(7, 16_000)).why.nearest is None


def test_references_that_are_more_than_the_clips_name_none() -> None:
    fewer = replace(WHOLE, clips=("a", "b"))
    assert scored(fewer, noise(7, 16_000)).why.nearest is None


# In words -------------------------------------------------------------------------------------------------------------


def said(clip: np.ndarray, *parts: PartSpec) -> str:
    head, _ = fit_head({part: STATISTICS_PARTS[part] for part in parts}, NORMALS)
    return "; ".join(scored(head, clip).why.words)


def test_a_machine_that_is_four_times_as_loud_is_said_to_be_12_db_up() -> None:
    assert re.fullmatch(r"indicators [\d.]+ σ: level \+(11\.9|12\.[01]) dB", said(4 * noise(71, 16_000), INDICATORS))


def test_a_knock_is_said_in_what_the_peak_was_and_is_above_the_mean() -> None:
    knocking = noise(71, 16_000)
    knocking[8000] = 1.0
    crest = [normal.evidence.statistics.crest for normal in NORMALS]
    now = scored(WHOLE, knocking), 20 * np.log10(1 / np.sqrt(np.mean(np.square(knocking, dtype=float))))

    assert f"crest factor {np.mean(crest):.1f} → {now[1]:.1f} dB" in said(knocking, INDICATORS)


@pytest.mark.parametrize("part", [SPECTRUM, NEIGHBOUR], ids=lambda part: part.name)
def test_a_tone_is_said_to_be_in_the_band_it_is_in_as_loud_as_it_is(part: PartSpec) -> None:
    words = said(tone(2500), part)
    found = re.search(r"([\d.]+)–([\d.]+) kHz \+([\d.]+) dB", words)
    heard = evidence(SECOND, COARSE, None, tone(2500)).statistics
    usual = np.mean([normal.evidence.statistics.mean for normal in NORMALS], axis=0)

    assert found, words
    assert float(found[1]) < 2.5 < float(found[2])
    assert float(found[3]) == pytest.approx((heard.mean - usual).max(), abs=3)


def test_who_adds_most_to_the_score_speaks_first_and_who_is_not_off_not_at_all() -> None:
    words = scored(WHOLE, tone(2500)).why.words
    z = {part.name: part.z for part in scored(WHOLE, tone(2500)).parts}
    named = [word.split()[0] for word in words]

    assert named == sorted((name for name in z if z[name] >= OFF), key=lambda name: -z[name])
    assert scored(WHOLE, noise(7, 16_000)).why.words == ()


def test_what_a_network_hears_has_no_words_but_how_far_it_is_off() -> None:
    head, _ = fit_head(NETWORK_PARTS, NORMALS)
    assert re.fullmatch(rf"{head.names[0]} [\d.]+ σ", "; ".join(scored(head, 4 * tone(2500)).why.words))
