from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from edge_asd.signal.view import LogMel
from train.corpus.clip import Clip
from train.corpus.group import groups

if TYPE_CHECKING:
    from pathlib import Path

SPEC = LogMel()
TONES = 440, 1_500, 5_000
"""hertz; a machine that runs at three speeds"""


def tone(path: Path, hertz: float, seed: int) -> Path:
    """A tone of a random phase under a little noise."""
    rng, time = np.random.default_rng(seed), np.arange(8_000) / 16_000
    soundfile.write(
        path, 0.3 * np.sin(2 * np.pi * (hertz * time + rng.random())) + 0.01 * rng.normal(size=8_000), 16_000
    )
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Seven of each speed; their names do not give the order of speeds away."""
    folder = tmp_path_factory.mktemp("tones")
    return [
        Clip(
            tone(folder / f"{number:02d}.wav", TONES[number % 3], number),
            *("s/fan/00", "", "source", "train", "normal", str(number)),  # type: ignore[arg-type]
        )
        for number in range(21)
    ]


def test_speeds_that_nobody_named_are_found_by_their_sound(clips: list[Clip]) -> None:
    found = groups(clips, 3, SPEC)
    assert adjusted_rand_score([number % 3 for number in range(21)], found) == 1.0
    assert found[:3] == [f"s/fan/00 source pseudo {number}" for number in (1, 2, 3)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=8)
@given(order=st.permutations(range(21)))
def test_the_order_in_which_clips_come_changes_nothing(clips: list[Clip], order: list[int]) -> None:
    assert groups([clips[number] for number in order], 3, SPEC) == [groups(clips, 3, SPEC)[number] for number in order]


@pytest.mark.parametrize("pseudo", [2, 4, 8, 30])
def test_no_more_groups_than_asked_for_and_none_of_one_clip(clips: list[Clip], pseudo: int) -> None:
    sizes = Counter(groups(clips, pseudo, SPEC))
    assert 2 <= len(sizes) <= min(pseudo, 10)
    assert min(sizes.values()) >= 2


def test_an_outlier_joins_the_group_that_is_nearest(clips: list[Clip], tmp_path: Path) -> None:
    low = [clip for number, clip in enumerate(clips) if number % 3 == 0]
    high = [clip for number, clip in enumerate(clips) if number % 3 == 2]
    rumble = replace(clips[0], path=tone(tmp_path / "99.wav", 60, 99))
    found = groups([*low, *high, rumble], 3, SPEC)
    sizes = Counter(found)
    assert min(sizes.values()) >= 2
    assert set(found[:7]).isdisjoint(found[7:14])


@pytest.mark.parametrize("pseudo", [0, 1])
def test_without_pseudo_groups_a_group_is_one_condition_or_else_one_domain(clips: list[Clip], pseudo: int) -> None:
    fan = replace(clips[0], path=clips[0].path.with_name("gone.wav"))  # nothing is heard
    others = [fan, replace(fan, domain="target"), replace(fan, attribute="A"), replace(fan, key="s/fan/01")]
    assert groups(others, pseudo, SPEC) == ["s/fan/00 source", "s/fan/00 target", "s/fan/00 A", "s/fan/01 source"]


def test_a_machine_of_which_one_clip_has_an_attribute_is_left_as_it_is(clips: list[Clip]) -> None:
    named = [replace(clips[0], attribute="A"), *clips[1:]]
    assert set(groups(named, 3, SPEC)) == {"s/fan/00 A", "s/fan/00 source"}


def test_domains_and_machines_are_divided_each_by_itself(clips: list[Clip]) -> None:
    target = [replace(clip, domain="target") for clip in clips[:6]]
    other = [replace(clip, key="s/fan/01") for clip in clips[6:12]]
    alone = [replace(clip, key="s/fan/02") for clip in clips[12:15]]
    found = groups([*target, *other, *alone], 3, SPEC)
    assert Counter(name.partition(" pseudo")[0] for name in found) == {
        "s/fan/00 target": 6,
        "s/fan/01 source": 6,
        "s/fan/02 source": 3,
    }
    assert set(found[12:]) == {"s/fan/02 source"}  # three clips make no two groups of two
    for number in (0, 6):
        assert adjusted_rand_score([0, 1, 2, 0, 1, 2], found[number : number + 6]) == 1.0


def test_only_normal_training_clips_are_heard(clips: list[Clip]) -> None:
    gone = replace(clips[0], path=clips[0].path.with_name("gone.wav"))
    unheard = [
        replace(gone, split="test", attribute="A"),
        replace(gone, split="supplemental", role="noise"),
        replace(gone, label="anomaly", domain="target"),
    ]
    found = groups([*clips, *unheard], 3, SPEC)  # type: ignore[list-item]
    assert found[:21] == groups(clips, 3, SPEC)
    assert found[21:] == ["s/fan/00 A", "s/fan/00 source", "s/fan/00 target"]
