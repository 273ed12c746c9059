from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.score.clip import ClipScore, Skipped
from edge_asd.score.listener import Listener, evidence
from edge_asd.score.part import STATISTICS_PARTS
from edge_asd.signal.segment import Block, Windows, segments
from tests.example import COARSE, NETWORK_PARTS, SECOND, embed, head, noise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ALARM = 2.0
HEAD, HEAD_WITH_NETWORK = head(SECOND), head(SECOND, {**STATISTICS_PARTS, **NETWORK_PARTS}, embed)
SOUND = noise(100, 100_000)
CLIP = SECOND.clip


def listener(*, network: bool = False) -> Listener:
    return Listener(SECOND, COARSE, HEAD_WITH_NETWORK if network else HEAD, ALARM, embed if network else None)


def follow(listener: Listener, blocks: Iterable[Block]) -> list[ClipScore | Skipped]:
    return [result for block in blocks for result in listener.push(block)]


def blocks(samples: np.ndarray, cuts: Sequence[int], start: int = 0) -> list[Block]:
    edges = [0, *sorted(cuts), samples.size]
    return [Block(start + a, samples[a:b]) for a, b in pairwise(edges)]


@pytest.mark.parametrize("network", [False, True])
@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 100_000), max_size=40))
def test_a_stream_in_any_blocks_is_scored_as_its_clips_are(network: bool, cuts: list[int]) -> None:  # noqa: FBT001 - a parameter of the test
    heard = follow(listener(network=network), blocks(SOUND, cuts))
    whole = listener(network=network)
    pieces = [replace(whole.score(SOUND[s : s + CLIP]), start=s) for s in range(0, 96_000, CLIP)]

    assert heard == pieces


@settings(max_examples=25)
@given(
    runs=st.lists(st.tuples(st.integers(1, 50_000), st.integers(1, 30_000)), min_size=1, max_size=5),
    cuts=st.lists(st.integers(1, 99_999), max_size=10),
)
def test_lost_audio_starts_a_new_clip_and_no_clip_spans_it(runs: list[tuple[int, int]], cuts: list[int]) -> None:
    heard, expected, start = listener(), [], 0
    results = []
    for samples, lost in runs:
        within = [cut for cut in cuts if cut < samples]
        results += follow(heard, blocks(SOUND[:samples], within, start))
        expected += [(start + s, CLIP) for s in range(0, samples - CLIP + 1, CLIP)]
        expected += [(start + samples - samples % CLIP, samples % CLIP, "gap")] if samples % CLIP else []
        start += samples + lost
    results += heard.push(Block(start, SOUND[:10]))

    told = [(r.start, r.samples) if isinstance(r, ClipScore) else (r.start, r.samples, r.reason) for r in results]
    assert told == expected


@settings(max_examples=25)
@given(
    cuts=st.lists(st.integers(1, 99_999), max_size=20),
    spoilt=st.lists(st.tuples(st.integers(0, 95_000), st.sampled_from([0.0, np.nan, 1.0])), max_size=3),
    gaps=st.sets(st.integers(0, 20)),
)
def test_every_sample_is_in_one_clip_or_skipped_or_in_progress(
    cuts: list[int], spoilt: list[tuple[int, float]], gaps: set[int]
) -> None:
    samples = SOUND.copy()
    for start, value in spoilt:
        samples[start : start + 5_000] = value
    heard, shift, pushed, results = listener(), 0, [], []
    for number, block in enumerate(blocks(samples, cuts)):
        shift += 100 * (number in gaps)
        pushed += range(block.start + shift, block.start + shift + block.samples.size)
        results += heard.push(Block(block.start + shift, block.samples))
    told = [i for r in results for i in range(r.start, r.start + r.samples)]

    assert told == pushed[: len(told)]
    assert len(pushed) - len(told) < CLIP


def spoilt(value: float) -> np.ndarray:
    """A second of noise, the third quarter of which is bad."""
    samples = SOUND[:CLIP].copy()
    samples[8_000:12_000] = value
    return samples


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (spoilt(0.0), "silent"),
        (spoilt(0.2), "stuck"),
        (spoilt(np.nan), "not_finite"),
        (spoilt(np.inf), "not_finite"),
        (np.float32(1e30) * SOUND[:CLIP], "clipping"),
        (np.clip(100 * SOUND[:CLIP], -1, 1), "clipping"),
    ],
    ids=["zeros", "constant", "nan", "infinity", "huge", "overdriven"],
)
@pytest.mark.parametrize("network", [False, True])
def test_what_is_no_sound_is_skipped_for_its_reason(samples: np.ndarray, reason: str, network: bool) -> None:  # noqa: FBT001 - a parameter of the test
    bad = listener(network=network)
    results = follow(bad, [Block(0, samples), Block(CLIP, SOUND[: 2 * CLIP])])

    assert isinstance(results[0], Skipped)
    assert results[0].reason == reason
    assert all(r.reason == reason for r in results if isinstance(r, Skipped))
    assert isinstance(results[-1], ClipScore)
    assert results[-1].start >= 12_000 or np.abs(samples[:8_000]).max() >= 1


def test_bad_audio_is_told_within_a_segment_not_at_the_end_of_the_clip() -> None:
    (skipped,) = listener().push(Block(0, np.zeros(SECOND.segment, np.float32)))
    assert skipped == Skipped(0, SECOND.segment, "silent")


def test_an_index_that_goes_back_starts_a_new_clip() -> None:
    heard = listener()
    heard.push(Block(0, SOUND[:9_000]))

    assert heard.push(Block(8_000, SOUND[:100])) == [Skipped(0, 9_000, "gap")]


def test_a_stream_that_begins_late_has_lost_nothing() -> None:
    (score,) = listener().push(Block(12_345, SOUND[:CLIP]))
    assert (score.start, score.samples) == (12_345, CLIP)


def test_a_whole_file_is_one_clip_whatever_its_length() -> None:
    for length in (300, 4_000, 16_000, 77_777):
        score = listener(network=True).score(SOUND[:length])
        assert score.samples == length
        assert len(score.segment_scores) == (1 if length <= SECOND.segment else SECOND.segments)


def test_a_clip_shorter_than_a_segment_is_judged_as_if_repeated() -> None:
    short = listener(network=True).score(SOUND[:1_000])
    repeated = listener(network=True).score(np.resize(SOUND[:1_000], SECOND.segment))

    assert replace(short, samples=SECOND.segment) == repeated


def test_the_network_sees_the_segments_of_the_clip_in_order() -> None:
    seen = evidence(
        SECOND, COARSE, lambda s: {"begins": s[:4].copy(), "rows": s[:6].reshape(2, 3).copy()}, SOUND[:CLIP]
    )

    cut = segments(SECOND, SOUND[:CLIP])
    assert set(seen.outputs) == {"begins", "rows"}
    np.testing.assert_array_equal(seen.outputs["begins"], cut[:, :4])
    np.testing.assert_array_equal(seen.outputs["rows"], cut[:, :6].reshape(-1, 2, 3))


def test_without_a_network_there_are_no_outputs() -> None:
    assert dict(evidence(SECOND, COARSE, None, SOUND[:CLIP]).outputs) == {}


def test_health_is_read_against_the_alarm_threshold() -> None:
    calm, nervous = listener(), listener()
    nervous.alarm = 0.01

    assert calm.score(SOUND[:CLIP]).health_index > nervous.score(SOUND[:CLIP]).health_index


def test_scoring_a_file_does_not_disturb_the_stream() -> None:
    heard, alone = listener(), listener()
    first = heard.push(Block(0, SOUND[:10_000]))
    heard.score(SOUND[40_000:60_000])

    assert first + heard.push(Block(10_000, SOUND[10_000:20_000])) == alone.push(Block(0, SOUND[:20_000]))


def test_clips_of_ten_seconds_are_scored_alike() -> None:
    windows = Windows()
    heard = Listener(windows, COARSE, HEAD, ALARM, None)
    sound = noise(7, 330_000)
    results = follow(heard, blocks(sound, range(1_000, 330_000, 1_000)))

    assert results == [replace(heard.score(sound[s : s + 160_000]), start=s) for s in (0, 160_000)]
