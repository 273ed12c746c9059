from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.errors import AudioError, ConfigError
from edge_asd.score.head import Fusion, Head, Member, fit_head
from edge_asd.score.listener import evidence
from edge_asd.score.neighbour import Knn
from edge_asd.score.part import STATISTICS_PARTS, Evidence, Normal, PartSpec
from tests.example import COARSE, NETWORK_PARTS, SECOND, embed, noise

if TYPE_CHECKING:
    from collections.abc import Callable

PARTS = {**STATISTICS_PARTS, **NETWORK_PARTS}


def heard(seed: int, level: float = 0.05) -> Evidence:
    return evidence(SECOND, COARSE, embed, noise(seed, 16_000, level))


NORMALS = [Normal(heard(seed)) for seed in range(20)]


def test_the_fused_score_is_the_mean_of_the_parts() -> None:
    verdict = fit_head(PARTS, NORMALS)[0].judge(heard(30))

    assert [part.name for part in verdict.parts] == ["indicators", "spectrum", "neighbour", "network"]
    assert verdict.score == pytest.approx(np.mean([part.z for part in verdict.parts]))


def test_segment_scores_are_those_of_the_network_and_average_to_its_part() -> None:
    verdict = fit_head(PARTS, NORMALS)[0].judge(heard(30))

    assert len(verdict.segment_scores) == 3
    assert verdict.parts[-1].z == pytest.approx(np.mean(verdict.segment_scores))


def test_without_a_network_there_are_no_segment_scores() -> None:
    assert fit_head(STATISTICS_PARTS, NORMALS)[0].judge(heard(30)).segment_scores == ()


def test_surprise_is_the_calibration_of_the_left_out_scores() -> None:
    head, left_out = fit_head(PARTS, NORMALS)
    verdict = head.judge(heard(30))

    assert left_out.shape == (20,)
    assert left_out.mean() == pytest.approx(0, abs=1e-9)
    assert head.calibration.body[-1] == pytest.approx(np.median(left_out))
    assert verdict.surprise == head.calibration.surprise(verdict.score)


def test_what_was_never_heard_is_surprising_and_the_usual_is_not() -> None:
    head, _ = fit_head(PARTS, NORMALS)

    assert np.mean([head.judge(heard(seed)).surprise for seed in range(30, 40)]) < 1
    assert head.judge(heard(30, level=0.5)).surprise > 4


def test_four_clips_are_too_few() -> None:
    with pytest.raises(AudioError, match="need at least 5 normal clips to fit a head, got 4; record more"):
        fit_head(PARTS, NORMALS[:4])
    fit_head(PARTS, NORMALS[:5])


# Fusion ---------------------------------------------------------------------------------------------------------------

Z = np.array([[1.0, 4.0], [2.0, 0.0], [6.0, -1.0]])
NAMES = ("a", "b", "c")


@pytest.mark.parametrize(
    ("fusion", "expected"),
    [
        (Fusion(), [3.0, 1.0]),
        (Fusion(weights={"a": 3.0}), [2.2, 2.2]),
        (Fusion(weights={"a": 0.5, "b": 0.0, "c": 1.5}), [4.75, 0.25]),
        (Fusion("min"), [1.0, -1.0]),
        (Fusion("min", {"a": 0.0}), [2.0, -1.0]),
        (Fusion("min", {"a": 0.0, "b": 0.1, "c": 9.0}), [2.0, -1.0]),
    ],
    ids=str,
)
def test_z_scores_are_fused_by_the_rule_and_the_weights(fusion: Fusion, expected: list[float]) -> None:
    assert fusion.fuse(NAMES, Z) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("fusion", "complaint"),
    [
        (Fusion(weights={"d": 1.0, "e": 0.0}), "fusion weighs d, e; the parts are a, b, c"),
        (Fusion(weights=dict.fromkeys(NAMES, 0.0)), "fusion gives weight 0 to all of a, b, c; give one of them more"),
    ],
)
def test_weights_of_nothing_and_no_weights_at_all_are_refused(fusion: Fusion, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        fusion.over(NAMES)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_is_0_or_more(weight: float) -> None:
    with pytest.raises(ValueError, match=r"weights of fusion must be 0 or more, got \{'a': "):
        Fusion(weights={"a": weight, "b": 1.0})


# Members --------------------------------------------------------------------------------------------------------------

GROUPED = ("x.a", "x.b", "y.c")
GROUPS = {"x": Member("mean", {"a": 3.0}, centre=0.25, spread=2.0), "y": Member(spread=4.0)}
"""x says 0.5 and 1.375, y 1.5 and -0.25"""


@pytest.mark.parametrize(
    ("fusion", "expected"),
    [
        (Fusion(members=GROUPS), [1.0, 0.5625]),
        (Fusion(weights={"x": 3.0}, members=GROUPS), [0.75, 0.96875]),
        (Fusion("min", members=GROUPS), [0.5, -0.25]),
        (Fusion("min", {"y": 0.0}, members=GROUPS), [0.5, 1.375]),
        (Fusion(members={**GROUPS, "x": Member("min")}), [1.25, -0.125]),
    ],
    ids=str,
)
def test_members_are_fused_each_of_its_own_parts_and_standardised(fusion: Fusion, expected: list[float]) -> None:
    assert fusion.fuse(GROUPED, Z) == pytest.approx(expected)


def test_a_part_weighs_in_its_member_and_the_member_in_the_whole() -> None:
    fusion = Fusion(weights={"y": 0.5}, members={"x": Member(weights={"a": 0.0, "b": 2.0}), "y": Member()})
    assert fusion.over(GROUPED).tolist() == [0.0, 2.0, 0.5]


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(0.1, 5)), min_size=1, max_size=6))
def test_members_of_one_part_each_are_parts(parts: list[tuple[float, float]]) -> None:
    z, weights = np.array([[value] for value, _ in parts]), [weight for _, weight in parts]
    names = [str(number) for number in range(len(parts))]
    for rule in ("mean", "min"):
        plain = Fusion(rule, dict(zip(names, weights, strict=True)))
        grouped = Fusion(rule, plain.weights, {name: Member() for name in names})
        assert grouped.fuse([f"{name}.part" for name in names], z) == pytest.approx(plain.fuse(names, z))


@pytest.mark.parametrize(
    ("fusion", "complaint"),
    [
        (Fusion(members={"x": Member()}), "no member with a part: y; members are x, parts "),
        (Fusion(members={**GROUPS, "z": Member()}), "no member with a part: z"),
        (Fusion(weights={"a": 1.0}, members=GROUPS), "fusion weighs a; the members are x, y"),
        (Fusion(members={**GROUPS, "y": Member(weights={"d": 1.0})}), "fusion weighs d; the parts of y are c"),
        (Fusion(members={**GROUPS, "y": Member(weights={"c": 0.0})}), "fusion gives weight 0 to all of c"),
    ],
)
def test_members_that_do_not_match_the_parts_are_refused(fusion: Fusion, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        fusion.over(GROUPED)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Fusion(members={"x.y": Member()}), r"members need names without a '\.', got \['x\.y'\]"),
        (lambda: Member(spread=0.0), "spread above 0, got 0.0 and 0.0"),
        (lambda: Member(centre=float("nan")), "centre must be a number"),
        (lambda: Member(weights={"a": -1.0}), "weights of fusion must be 0 or more"),
    ],
)
def test_a_member_is_a_name_and_a_scale(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()


def test_a_part_without_weight_is_shown_and_not_fused() -> None:
    silent, _ = fit_head(PARTS, NORMALS, Fusion(weights={"neighbour": 0.0, "network": 2.0}))
    verdict = silent.judge(heard(30))
    z = {part.name: part.z for part in verdict.parts}

    assert list(z) == ["indicators", "spectrum", "neighbour", "network"]
    assert verdict.score == pytest.approx((z["indicators"] + z["spectrum"] + 2 * z["network"]) / 4)


def test_the_least_of_the_parts_is_the_score() -> None:
    verdict = fit_head(PARTS, NORMALS, Fusion("min"))[0].judge(heard(30))

    assert verdict.score == pytest.approx(min(part.z for part in verdict.parts))


@pytest.mark.parametrize("fusion", [Fusion("min"), Fusion(weights={"spectrum": 3.0})], ids=str)
def test_what_is_calibrated_is_the_fused_score(fusion: Fusion) -> None:
    head, left_out = fit_head(PARTS, NORMALS, fusion)

    assert head.calibration.body[-1] == pytest.approx(np.median(left_out))
    assert left_out != pytest.approx(fit_head(PARTS, NORMALS)[1])


TWICE = {**PARTS, PartSpec("network.near", "embedding", "neighbours"): Knn()}


def segments_of(head: Head, only: str) -> np.ndarray:
    part = next(part for part in head.parts if part.spec.name == only)
    return part.z(heard(30))


def test_segment_scores_are_fused_as_the_clip_is() -> None:
    mean, _ = fit_head(TWICE, NORMALS, Fusion(weights={"network": 3.0}))
    least, _ = fit_head(TWICE, NORMALS, Fusion("min"))
    one, other = (segments_of(mean, name) for name in ("network", "network.near"))

    assert mean.judge(heard(30)).segment_scores == pytest.approx((3 * one + other) / 4)
    assert least.judge(heard(30)).segment_scores == pytest.approx(np.minimum(one, other))


def test_segments_of_a_part_without_weight_are_not_shown() -> None:
    one, _ = fit_head(TWICE, NORMALS, Fusion(weights={"network": 0.0}))
    none, _ = fit_head(TWICE, NORMALS, Fusion(weights={"network": 0.0, "network.near": 0.0}))

    assert one.judge(heard(30)).segment_scores == pytest.approx(segments_of(one, "network.near"))
    assert none.judge(heard(30)).segment_scores == ()


@pytest.mark.parametrize(
    ("parts", "fusion", "complaint"),
    [
        (PARTS, Fusion(weights={"netwrok": 0.0}), "fusion weighs netwrok; the parts are indicators, spectrum, "),
        ({**PARTS, PartSpec("network", "embedding", "neighbours"): Knn()}, None, "parts share a name: .*network, net"),
    ],
    ids=["unknown", "twins"],
)
def test_a_head_that_makes_no_sense_is_the_operators_mistake(
    parts: dict[PartSpec, Knn], fusion: Fusion | None, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        fit_head(parts, NORMALS, fusion)
