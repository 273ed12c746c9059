"""What is kept of what people said of alarms, and of how those sounded."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_asd.errors import AudioError
from edge_asd.judgement import FOLDER, Judgement, clips, hear, judgements, keep, lesson, sound
from edge_asd.observe.evidence import FOLDER as SOUNDS
from edge_asd.observe.evidence import Archive
from edge_asd.score.listener import Listener
from tests.example import COARSE, SECOND, embed, head, noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
DIGEST, OTHER = "ab" * 32, "cd" * 32
RATE, CLIPS, BEFORE = SECOND.sample_rate, 3, 0.5
FALSE = Judgement(
    machine="pump1",
    alarm_id="b-event-1",
    verdict=False,
    fault=None,
    comment="forklift",
    by="smith",
    labelled="2026-11-25T12:00:00.000Z",
    clip_s=1.0,
    event={"ts": "2026-11-25T11:00:00.000Z", "evidence": {"score": 6.5}},
)
TRUE = replace(FALSE, alarm_id="b-event-2", verdict=True, fault="bearing", comment=None)


@pytest.fixture
def listener() -> Listener:
    return Listener(SECOND, COARSE, head(SECOND), 4.0, embed)


def record(state: Path, alarm_id: str = "b-event-1", seed: int = 0, rate: int = RATE) -> NDArray[np.float32]:
    """The sound of an alarm, half a second of what came before it included."""
    samples = noise(seed, int((BEFORE + CLIPS) * rate))
    about = {"event_id": alarm_id, "alarm_begins_s": BEFORE}
    Archive(state / SOUNDS, 10**7).keep("pump1", samples, rate, NOON.replace(second=seed), about)
    return samples


def test_what_was_said_is_found_again_the_oldest_alarm_first(tmp_path: Path) -> None:
    earlier = replace(TRUE, event={"ts": "2026-11-24T11:00:00.000Z"})
    elsewhere = replace(FALSE, machine="fan2")
    assert all(keep(tmp_path, each) for each in (FALSE, earlier, elsewhere))
    assert judgements(tmp_path, "pump1") == [earlier, FALSE]
    assert judgements(tmp_path) == [earlier, FALSE, elsewhere] or judgements(tmp_path) == [earlier, elsewhere, FALSE]
    assert judgements(tmp_path / "nowhere") == []


def test_the_same_word_twice_is_one_and_the_latest_word_holds(tmp_path: Path) -> None:
    assert keep(tmp_path, FALSE)
    assert not keep(tmp_path, replace(FALSE, by="jones", labelled="2026-11-26T12:00:00.000Z"))
    assert judgements(tmp_path) == [FALSE]
    changed = replace(FALSE, verdict=True, fault="bearing")
    assert keep(tmp_path, changed)
    assert judgements(tmp_path) == [changed]


@pytest.mark.parametrize("alarm_id", ["../../etc/passwd", "", "a/b", "a.b"])
def test_no_id_leads_out_of_the_folder(tmp_path: Path, alarm_id: str) -> None:
    with pytest.raises(AudioError, match="need letters, digits"):
        keep(tmp_path, replace(FALSE, alarm_id=alarm_id))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"schema": "edge_asd.label/9"}'])
def test_one_that_cannot_be_read_is_named_with_what_to_do(tmp_path: Path, content: str) -> None:
    keep(tmp_path, FALSE)
    path = tmp_path / FOLDER / "pump1" / "b-event-1.json"
    path.write_text(content)
    with pytest.raises(AudioError, match=f"{path}: cannot be read .* label the alarm again"):
        judgements(tmp_path)


def test_a_disk_that_takes_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    with pytest.raises(AudioError, match="cannot be written"):
        keep(tmp_path, FALSE)


def test_the_clips_of_an_alarm_begin_where_it_began(tmp_path: Path) -> None:
    samples = record(tmp_path)
    rate, cut = clips(tmp_path, FALSE)
    assert (rate, len(cut)) == (RATE, CLIPS)
    expected = samples[int(BEFORE * RATE) :].reshape(CLIPS, -1)
    assert np.abs(np.stack(cut) - expected).max() <= 2**-15


def test_without_sound_it_is_said_how_to_have_some_the_next_time(tmp_path: Path, listener: Listener) -> None:
    record(tmp_path, "b-event-7")
    assert sound(tmp_path, "b-event-1") is None
    with pytest.raises(AudioError, match=r"no sound of b-event-1 is kept; \[evidence\] enabled"):
        hear(tmp_path, FALSE, listener, DIGEST)


def test_sound_at_another_rate_or_without_a_whole_clip_is_refused(tmp_path: Path, listener: Listener) -> None:
    record(tmp_path, rate=8_000)
    with pytest.raises(AudioError, match="8000 hertz; the bundle wants 16000"):
        hear(tmp_path, FALSE, listener, DIGEST)
    with pytest.raises(AudioError, match="no whole clip of 60 s"):
        hear(tmp_path, replace(FALSE, clip_s=60.0), listener, DIGEST)


def test_features_that_were_kept_are_judged_as_the_sound_is(tmp_path: Path, listener: Listener) -> None:
    record(tmp_path)
    keep(tmp_path, FALSE)
    assert hear(tmp_path, FALSE, listener, DIGEST) == CLIPS
    (kept,) = lesson(tmp_path, "pump1", DIGEST).normals.values()
    for clip, heard in zip(clips(tmp_path, FALSE)[1], kept, strict=True):
        assert listener.head.judge(heard).score == listener.score(clip).score
        assert heard.outputs["embedding"].shape == (SECOND.segments, 3)


def test_a_lesson_tells_false_from_true_alarms_and_which_cannot_be_learned_from(
    tmp_path: Path, listener: Listener
) -> None:
    for number, each in enumerate((FALSE, TRUE)):
        keep(tmp_path, each)
        record(tmp_path, each.alarm_id, number)
        hear(tmp_path, each, listener, DIGEST)
    keep(tmp_path, replace(FALSE, alarm_id="b-event-3"))
    found = lesson(tmp_path, "pump1", DIGEST)
    assert (list(found.normals), list(found.faults), found.silent) == (["b-event-1"], ["b-event-2"], ("b-event-3",))
    assert [normal.recording for normal in found.as_normals()] == ["b-event-1"] * CLIPS
    keep(tmp_path, replace(FALSE, verdict=True))
    assert set(lesson(tmp_path, "pump1", DIGEST).faults) == {"b-event-1", "b-event-2"}


def test_features_outlive_the_sound_and_belong_to_one_bundle(tmp_path: Path, listener: Listener) -> None:
    keep(tmp_path, FALSE)
    record(tmp_path)
    hear(tmp_path, FALSE, listener, DIGEST)
    for file in (tmp_path / SOUNDS).glob("*/*"):
        file.unlink()
    assert len(lesson(tmp_path, "pump1", DIGEST).as_normals()) == CLIPS
    assert lesson(tmp_path, "pump1", OTHER).silent == ("b-event-1",)


def test_features_that_were_damaged_are_named(tmp_path: Path, listener: Listener) -> None:
    keep(tmp_path, FALSE)
    record(tmp_path)
    hear(tmp_path, FALSE, listener, DIGEST)
    path = tmp_path / FOLDER / "pump1" / "b-event-1.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(AudioError, match=f"{path}: cannot be read"):
        lesson(tmp_path, "pump1", DIGEST)


WRITER = """
import itertools, sys
from dataclasses import replace
from pathlib import Path
from edge_asd.judgement import keep
from tests.test_judgement import FALSE
for n in itertools.count():
    keep(Path(sys.argv[1]), replace(FALSE, verdict=n % 2 == 0, comment="x" * (997 * n % 9000)))
    print(n, flush=True)
"""


@pytest.mark.parametrize("written", [1, 8, 30])
def test_a_kill_at_any_moment_leaves_a_whole_word(tmp_path: Path, written: int) -> None:
    """Of the one before or of the new one, and nothing that is in the way of the next."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        for _ in range(written):
            assert process.stdout.readline()
        process.kill()
    (kept,) = judgements(tmp_path)
    assert kept.event == FALSE.event
    assert keep(tmp_path, replace(FALSE, comment="after"))
    assert judgements(tmp_path) == [replace(FALSE, comment="after")]
