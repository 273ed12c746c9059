from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import signal

from edge_asd.errors import ConfigError
from edge_asd.render.machine import Condition
from edge_asd.render.sound import FRAME
from edge_asd.render.valve import PATTERNS, Mode, Valve

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16_000
SEVERITIES = (0.0, 0.25, 0.5, 0.75, 1.0)


def play(valve: Valve, condition: Condition, seed: int = 0, seconds: float = 12.0) -> NDArray[np.float64]:
    voice = valve.voice(RATE, np.random.default_rng(seed))
    return np.concatenate([voice.frame(condition) for _ in range(int(seconds * RATE / FRAME))])


def faulty(fault: str, severity: float) -> Condition:
    return Condition(fault=fault, severity=severity) if severity else Condition()


def clicks(sound: NDArray[np.float64], apart: float = 0.08) -> NDArray[np.float64]:
    """Seconds at which something strikes, at least ``apart`` seconds from a louder strike."""
    peaks, _ = signal.find_peaks(np.abs(sound), height=0.04, distance=int(apart * RATE))
    return peaks / RATE


@pytest.mark.parametrize("pattern", range(len(PATTERNS)))
def test_clicks_follow_the_switching_pattern(pattern: int) -> None:
    gaps = np.diff(clicks(play(Valve(pattern=pattern), Condition())))
    expected = PATTERNS[pattern]
    turns = [np.resize(np.roll(expected, -shift), gaps.size) for shift in range(len(expected))]
    assert min(np.max(np.abs(gaps - turn)) for turn in turns) < 0.02


def test_switching_twice_as_fast_clicks_twice_as_often() -> None:
    slow, fast = (clicks(play(Valve(), Condition(speed=speed))).size for speed in (0.7, 1.4))
    assert fast == pytest.approx(2 * slow, abs=1)


def test_a_click_rings_at_the_modes_of_the_body() -> None:
    valve = Valve()
    frequencies, power = signal.welch(play(valve, Condition()), RATE, nperseg=2048)
    peaks, _ = signal.find_peaks(10 * np.log10(power), prominence=2)
    for mode in valve.modes[:3]:
        assert np.min(np.abs(frequencies[peaks] - mode.frequency)) < 60


def test_a_leak_raises_the_floor_between_clicks_with_severity() -> None:
    floors = []
    for severity in SEVERITIES:
        sound = play(Valve(pattern=3), faulty("leak", severity))  # closed most of the time
        short = np.sqrt(np.mean(sound[: sound.size // 320 * 320].reshape(-1, 320) ** 2, axis=1))
        floors.append(20 * np.log10(np.median(short) + 1e-9))
    assert np.all(np.diff(floors) > 0)
    assert floors[-1] - floors[1] == pytest.approx(12, abs=2)  # 0.25 to 1: amplitude is proportional


def test_a_healthy_closed_valve_is_silent_and_an_open_one_hisses() -> None:
    sound = play(Valve(pattern=2), Condition())
    short = np.sqrt(np.mean(sound[: sound.size // 320 * 320].reshape(-1, 320) ** 2, axis=1))
    assert np.quantile(short, 0.1) < 1e-4
    assert 20 * np.log10(np.median(short)) == pytest.approx(Valve().flow, abs=1.5)


def test_a_sticking_valve_clicks_late_weakly_and_twice() -> None:
    # the same seed asks for the same switches; 40 ms tell a second landing from a healthy bounce
    healthy, stuck = (play(Valve(), faulty("sticking", s)) for s in (0.0, 1.0))
    on_time, late = clicks(healthy), clicks(stuck)
    delays = [np.min(late[late >= time - 0.001] - time) for time in on_time[:-2]]
    assert np.median(delays) > 0.03
    assert np.max(np.abs(stuck)) < np.max(np.abs(healthy))
    assert clicks(stuck, apart=0.02).size > clicks(healthy, apart=0.022).size


def test_a_valve_that_sticks_more_lands_later() -> None:
    on_time = clicks(play(Valve(), Condition()))[:-2]
    delays = []
    for severity in SEVERITIES:
        late = clicks(play(Valve(), faulty("sticking", severity)))
        delays.append(np.mean([np.min(late[late >= time - 0.001] - time) for time in on_time]))
    assert np.all(np.diff(delays) > 0)


def test_grit_on_the_seat_dulls_the_closing_strike() -> None:
    closing = Valve(modes=tuple(replace(mode, opening=-120.0) for mode in Valve().modes))
    shares = []
    for severity in SEVERITIES:
        sound = play(closing, faulty("contamination", severity))
        strikes = [sound[round(time * RATE) :][:160] for time in clicks(sound, apart=0.5)[:-1]]
        power = np.mean(np.abs(np.fft.rfft(strikes)) ** 2, axis=0)  # bins of 100 Hz
        shares.append(power[50:].sum() / power.sum())
    assert np.all(np.diff(shares) < 0)


def test_grit_crackles_in_the_flow() -> None:
    bodiless = Valve(modes=(Mode(1000.0, 0.001, -120.0, -120.0),), pattern=2)
    peaks = [clicks(play(bodiless, faulty("contamination", s)), apart=0.01).size for s in (0.0, 0.5, 1.0)]
    assert peaks[2] > peaks[1] > peaks[0] == 0


@pytest.mark.parametrize("fault", Valve.faults)
def test_a_faulty_valve_is_the_healthy_one_plus_its_fault(fault: str) -> None:
    healthy = play(Valve(), Condition(), seconds=6)
    difference = [np.std(play(Valve(), faulty(fault, s), seconds=6) - healthy) for s in (0.0, 0.3, 1.0)]
    assert difference[0] == 0
    assert min(difference[1:]) > 0


def test_identities_differ_and_are_reproducible() -> None:
    assert len({Valve.identity(number).modes[0].frequency for number in range(6)}) == 6
    assert Valve.identity(2, 1) == Valve.identity(2, 1)


@pytest.mark.parametrize("pattern", [-1, len(PATTERNS)])
def test_an_unknown_pattern_is_refused(pattern: int) -> None:
    with pytest.raises(ConfigError, match=f"from 0 to {len(PATTERNS) - 1}, got {pattern}"):
        Valve(pattern=pattern)
