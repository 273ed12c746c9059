from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.signal.level import measure
from edge_asd.signal.profile import OFF, RUNNING, Change, Profile, changed, difference, mean, profile

RATE = 16_000
WHITE = (0.05 * np.random.default_rng(0).standard_normal(20 * RATE)).astype(np.float32)
BANDS = [f"{hertz}" for hertz in (63, 125, 250, 500, 1000, 2000, 4000)]


def flat(level: float, **others: float) -> dict[str, float]:
    return dict.fromkeys(BANDS, level) | {name.removeprefix("b"): value for name, value in others.items()}


def known(bands: dict[str, float], unrest: float = 0.1) -> Profile:
    return Profile(60, -30, -10, 0.0, -40, bands, bands, unrest)


def test_a_profile_of_noise_is_its_deviation_its_largest_sample_and_bands_that_add_up() -> None:
    heard = profile(WHITE, RATE)
    power = np.mean(np.square(WHITE, dtype=np.float64))

    assert heard.seconds == 20
    assert heard.level_dbfs == pytest.approx(10 * np.log10(power), abs=0.01)
    assert heard.peak_dbfs == pytest.approx(20 * np.log10(np.abs(WHITE).max()), abs=0.01)
    assert heard.crest_db == pytest.approx(heard.peak_dbfs - heard.level_dbfs)
    assert heard.bands["1000"] == pytest.approx(10 * np.log10(power * (10**0.05 - 10**-0.05) * 1000 / 8000), abs=0.3)
    assert heard.unrest_db < 0.5


def test_the_floor_is_what_is_heard_between_the_blows() -> None:
    blows = WHITE.copy()
    blows.reshape(-1, RATE)[:, : RATE // 5] *= 100  # a fifth of each second is 40 dB louder

    heard, quiet = profile(np.clip(blows, -1, 1), RATE), profile(WHITE, RATE)
    assert heard.floor_dbfs == pytest.approx(quiet.floor_dbfs, abs=0.5)
    assert heard.floor["2000"] == pytest.approx(quiet.floor["2000"], abs=1)
    assert heard.level_dbfs > quiet.level_dbfs + 18
    assert heard.clipped == pytest.approx(np.mean(np.abs(blows) >= 1 - 2**-15), abs=1e-9)


@given(st.floats(-30, 30), st.integers(0, 3))
def test_a_gain_moves_all_bands_alike_and_a_few_bands_do_not_count(gain: float, odd: int) -> None:
    heard = {b: -40 + gain + (20 if i < odd else 0) for i, b in enumerate(BANDS[1:])}

    shift, shape = difference(heard, flat(-40))
    assert shift == pytest.approx(gain + (10 if odd == 3 else 0))
    assert shape == pytest.approx(10 if odd == 3 else 0, abs=1e-9)


def test_the_gain_of_an_amplifier_is_the_difference_of_what_it_gives() -> None:
    once, loud = measure(WHITE[:RATE], RATE).bands, measure(4 * WHITE[:RATE], RATE).bands
    assert difference(loud, once) == pytest.approx((20 * np.log10(4), 0), abs=1e-4)


def test_powers_are_averaged_and_not_decibels() -> None:
    assert mean([{"1000": 0.0}, {"1000": -100.0}])["1000"] == pytest.approx(-3.01, abs=0.01)


def test_a_gain_turned_up_is_told_and_one_turned_down_only_where_the_room_is_known() -> None:
    running, room = known(flat(-40)), known(flat(-60, b1000=-70, b2000=-75, b4000=-80))

    assert told(flat(-27), {RUNNING: running}) is Change.GAIN
    assert told(flat(-53), {RUNNING: running}) is None
    assert told(flat(-53), {RUNNING: running, OFF: room}) is Change.GAIN
    assert told(flat(-29), {RUNNING: running, OFF: room}) is None


def test_a_quarter_of_the_bands_far_below_the_room_is_a_covered_microphone() -> None:
    states = {RUNNING: known(flat(-40)), OFF: known(flat(-60))}

    assert told(flat(-40, b2000=-71, b4000=-71), states) is Change.COVERED
    assert told(flat(-40, b2000=-69, b4000=-69), states) is None
    assert told(flat(-40, b4000=-90), states) is None
    assert told(flat(-40, b2000=-71, b4000=-71), {RUNNING: known(flat(-40))}) is None


def test_a_restless_machine_may_differ_more_from_itself() -> None:
    heard = {b: -24.0 + (1.5 if i % 2 else -1.5) for i, b in enumerate(BANDS)}

    assert told(heard, {RUNNING: known(flat(-40))}) is None
    assert told(heard, {RUNNING: known(flat(-40), unrest=0.6)}) is Change.GAIN


@given(st.lists(st.floats(0, 60), min_size=7, max_size=7))
def test_nothing_that_a_machine_adds_to_its_room_covers_a_microphone(louder: list[float]) -> None:
    heard = {b: -60 + extra for b, extra in zip(BANDS, louder, strict=True)}
    assert told(heard, {RUNNING: known(flat(-40)), OFF: known(flat(-60))}) is not Change.COVERED


@given(st.floats(-6, 6))
def test_what_was_commissioned_is_never_suspect(louder: float) -> None:
    states = {RUNNING: known(flat(-40)), OFF: known(flat(-60)), "slow": known(flat(-80))}
    for level in (-40, -60, -80):
        assert told(flat(level + louder * 0.99), states) is None


def told(heard: dict[str, float], states: dict[str, Profile]) -> Change | None:
    change = changed(heard, states)
    return change and change[0]
