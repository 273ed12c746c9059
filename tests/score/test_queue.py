from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.score.clip import ClipScore, Skipped
from edge_asd.score.listener import Listener
from edge_asd.score.queue import WAIT_S, Piece, Queue
from edge_asd.signal.segment import Block
from tests.example import COARSE, SECOND, head, noise

HEAD = head(SECOND)
RATE, CLIP = SECOND.sample_rate, SECOND.clip
SOUND = noise(300, 40 * RATE)
MOST = int(WAIT_S * RATE)


def listener() -> Listener:
    return Listener(SECOND, COARSE, HEAD, 2.0, None)


def piece(start: int, end: int, sound: np.ndarray = SOUND) -> Piece:
    """Heard as it was made: sample by sample from second 0."""
    return Piece(Block(start, sound[start:end]), end / RATE)


def serve(queue: Queue, heard: Listener, most: float = np.inf) -> list[ClipScore | Skipped]:
    """Let so many pieces have their turn."""
    results: list[ClipScore | Skipped] = []
    while most > 0 and (turn := queue.pop(heard)):
        most -= 1
        results += heard.push(turn.block)
    return results


def starts(results: list[ClipScore | Skipped]) -> list[int]:
    return [result.start for result in results if isinstance(result, ClipScore)]


@settings(max_examples=25)
@given(cuts=st.lists(st.tuples(st.integers(0, MOST), st.integers(0, 5)), max_size=30))
def test_what_waits_no_longer_than_allowed_is_scored_as_if_it_had_not_waited(cuts: list[tuple[int, int]]) -> None:
    queued, queue, results = listener(), Queue(), []
    for (start, _), (end, turns) in pairwise([(0, 0), *sorted(cuts), (MOST, 0)]):
        assert queue.push(piece(start, end), queued) == 0
        results += serve(queue, queued, turns)

    assert results + serve(queue, queued) == listener().push(Block(0, SOUND[:MOST]))
    assert queue.samples == 0


def test_a_machine_that_is_never_served_makes_no_more_wait_than_a_clip_and_the_limit() -> None:
    queue, heard, shed = Queue(), listener(), 0
    for start in range(0, SOUND.size, RATE // 4):
        shed += queue.push(piece(start, start + RATE // 4), heard)
        assert queue.samples <= CLIP + MOST
    assert shed >= 40 - 1 - WAIT_S - 1


def test_whole_clips_are_shed_so_that_those_before_and_after_are_whole() -> None:
    queue, heard = Queue(), listener()
    queue.push(piece(0, CLIP // 2), heard)
    assert starts(serve(queue, heard)) == []
    sheds = [queue.push(piece(at, at + CLIP // 2), heard) for at in range(CLIP // 2, 9 * CLIP, CLIP // 2)]

    assert sum(sheds) == 3, "of 9 clips, one is in progress and five may wait"
    assert starts(serve(queue, heard)) == [0, *range(4 * CLIP, 9 * CLIP, CLIP)]


@settings(max_examples=40)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(1, RATE), st.sampled_from([0, 0, 0, 0, 1, 3_000, 40_000]), st.sampled_from([0, 0, 1, 2, 9])
        ),
        min_size=1,
        max_size=50,
    ),
    silences=st.lists(st.integers(0, 30 * RATE), max_size=3),
)
def test_a_sample_is_scored_or_skipped_or_shed_and_never_twice(
    steps: list[tuple[int, int, int]], silences: list[int]
) -> None:
    sound = np.tile(SOUND, 3)
    for silence in silences:
        sound[silence : silence + 2_000] = 0
    queue, heard, results, at, shed = Queue(), listener(), [], 0, 0
    for size, lost, turns in steps:
        shed += queue.push(piece(at, at + size, sound), heard)
        assert queue.samples <= CLIP + MOST
        at += size + lost
        results += serve(queue, heard, turns)
    results += serve(queue, heard)

    ends = [0] + [r.start + r.samples for r in results]
    assert all(before <= result.start for before, result in zip(ends, results, strict=False))
    assert all(r.samples == CLIP for r in results if isinstance(r, ClipScore))
    unheard = sum(size for size, _, _ in steps) - sum(r.samples for r in results) - (heard.end - heard.start)
    assert (unheard > 0) <= (shed > 0)
    assert unheard <= (shed + len(results)) * CLIP


def test_a_clip_that_was_given_up_takes_its_rest_with_it() -> None:
    queue, heard = Queue(), listener()
    queue.push(piece(0, 3 * CLIP // 2), heard)
    serve(queue, heard, 2)
    end = heard.start + CLIP
    heard.forget(end)
    queue.skip(end, heard)
    queue.push(piece(3 * CLIP // 2, 3 * CLIP), heard)

    assert starts(serve(queue, heard)) == [CLIP, 2 * CLIP]


def test_a_piece_knows_when_its_parts_were_heard() -> None:
    part = piece(16_000, 32_000).part(20_000, 24_000, RATE)

    assert (part.start, part.end, part.heard_at) == (20_000, 24_000, 1.5)
    np.testing.assert_array_equal(part.block.samples, SOUND[20_000:24_000])
