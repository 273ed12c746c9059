from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.signal.segment import Windows, segments

windows = st.builds(
    lambda segment, more, number: Windows(segment=segment, clip=segment + more, segments=number),
    st.integers(1, 500),
    st.integers(0, 2_000),
    st.integers(2, 12),
)


def test_ten_seconds_are_cut_where_the_report_says() -> None:
    """methods.md, section 11."""
    assert Windows().starts(160_000) == [0, 18285, 36570, 54855, 73140, 91425, 109710, 128000]


@given(windows, st.integers(1, 5_000))
def test_segments_begin_with_the_clip_end_with_it_and_are_equally_spaced(windows: Windows, length: int) -> None:
    starts = windows.starts(length)
    gaps = np.diff(starts)

    assert starts[0] == 0
    assert starts[-1] == max(length - windows.segment, 0)
    assert len(starts) == (windows.segments if length > windows.segment else 1)
    if gaps.size:
        assert (gaps[:-1] == gaps[0]).all()
        assert gaps[0] <= gaps[-1] < gaps[0] + windows.segments


@given(windows, st.integers(1, 5_000))
def test_segments_hold_the_samples_from_their_starts(windows: Windows, length: int) -> None:
    clip = np.arange(length, dtype=np.float32)
    cut, starts = segments(windows, clip), np.array(windows.starts(length))

    assert cut.shape == (starts.size, windows.segment)
    np.testing.assert_array_equal(cut, (starts[:, None] + np.arange(windows.segment)) % length)


def test_a_clip_shorter_than_a_segment_is_repeated_up_to_one() -> None:
    cut = segments(Windows(segment=5, clip=9), np.array([1, 2], np.float32))

    assert cut.tolist() == [[1, 2, 1, 2, 1]]


@pytest.mark.parametrize("wrong", [{"segments": 1}, {"segment": 0}, {"segment": 11, "clip": 10}])
def test_windows_that_cut_nothing_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"need segments >= 2 and 0 < segment <= clip, got Windows\("):
        Windows(**wrong)
