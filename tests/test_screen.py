from __future__ import annotations

from edge_asd.screen import why

SHARES = {"bands": {"125": 0.25, "2500": 0.5, "40": 0.1}, "indicators": {"crest": 0.25, "level": 0.75}}


def test_an_event_is_summed_up_by_what_the_two_parts_that_speak_loudest_say() -> None:
    assert (
        why(SHARES | {"words": ["a 3.0 σ: level +6.0 dB", "b 2.0 σ", "c 1.5 σ"]}) == "a 3.0 σ: level +6.0 dB; b 2.0 σ"
    )


def test_an_event_of_old_by_the_bands_and_the_indicator_that_moved_most() -> None:
    assert why(SHARES | {"words": []}) == why(SHARES) == "2500 Hz 50 %, 125 Hz 25 %, level 75 %"
    assert why({}) == ""
