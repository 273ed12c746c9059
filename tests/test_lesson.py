"""A device learns its machine: what is listened to, what is refused, what is typed, and what the daemon makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from edge_asd.attendance import attend
from edge_asd.bundle import open_bundle
from edge_asd.config import Config
from edge_asd.daemon import Daemon, Nobody
from edge_asd.errors import AudioError, BundleError, ConfigError
from edge_asd.judgement import Judgement, hear, keep
from edge_asd.learn.memory import FIRST
from edge_asd.learn.notebook import Notebook, Slots
from edge_asd.lesson import FALSE_ALARMS
from edge_asd.observe.evidence import FOLDER as SOUNDS
from edge_asd.observe.evidence import Archive
from tests.example import MACHINE, bundle, noise

if TYPE_CHECKING:
    from pathlib import Path

    from edge_asd.alarm.alarm import Policy
    from edge_asd.deliver.payload import Proposal
    from edge_asd.score.clip import ClipScore

RATE = 16_000
LOUD = noise(7, 40 * RATE, level=0.15)
"""three times as loud as what the bundle knows"""


def config(folder: Path, sound: np.ndarray) -> Config:
    soundfile.write(folder / "mic.wav", np.clip(sound, -1, 1), RATE, "FLOAT")
    source = {"input": f"file:{folder / 'mic.wav'}", "speed": 0}
    machines = {"press": {"source": "mic", "bundle": str(bundle(folder / "toy.asd"))}}
    return Config(
        state_dir=folder / "state", sources={"mic": source}, machines=machines, trust={"allow_unsigned": True}
    )


def learned(folder: Path, sound: np.ndarray, minutes: float = 0.5, add: str | None = None) -> Proposal:
    return attend(config(folder, sound), "press", minutes, add, progress=lambda *_: None)


def notebook(folder: Path) -> Notebook:
    return Notebook.of(folder / "state", "press")


class Ears(Nobody):
    """Hears what a daemon says of each clip."""

    def __init__(self) -> None:
        self.said: list[tuple[float, float]] = []

    def scored(self, machine: str, clip: ClipScore, policy: Policy) -> None:  # noqa: ARG002 - there is one
        """Keep it."""
        self.said.append((clip.surprise, policy.threshold))


def judged(folder: Path, sound: np.ndarray) -> tuple[str, list[tuple[float, float]]]:
    """Version of the model by which a daemon that starts now judges this sound; surprise and threshold of each clip."""
    ears = Ears()
    daemon = Daemon(config(folder, sound), ears)
    daemon.run()
    return daemon.wards["press"].voice.model.version, ears.said


def test_a_lesson_tells_what_it_covers_and_proposes_a_threshold(tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    proposal = attend(config(tmp_path, LOUD), "press", 0.5, progress=lambda *said: told.append(said))
    assert [minutes for minutes, _ in told] == [pytest.approx(number / 60) for number in range(1, 31)]
    assert told[17][1] == "0.3 of 0.5 minutes, operating points: 1"
    assert (proposal.minutes, proposal.wanted_minutes, proposal.clips) == (0.5, 0.5, 30)
    assert (proposal.points, proposal.points_found, proposal.repeated) == ({FIRST: 30}, 1, 0)
    assert proposal.threshold == pytest.approx(np.log10(604_800) / 3)  # once a week, three clips of a second in a row
    assert proposal.over <= 2
    assert notebook(tmp_path).slots() == Slots(candidate=1, last=1)


def test_a_recording_that_ends_teaches_what_it_has(tmp_path: Path) -> None:
    assert learned(tmp_path, LOUD[: 12 * RATE], minutes=30).minutes == pytest.approx(12 / 60)


@pytest.mark.parametrize(("clips", "few"), [(19, True), (20, False)])
def test_clips_too_few_to_keep_to_the_rate_that_is_stated_are_told(tmp_path: Path, clips: int, few: bool) -> None:  # noqa: FBT001 - a parameter
    assert learned(tmp_path, LOUD[: clips * RATE]).few is few


def test_sound_that_goes_round_counts_once(tmp_path: Path) -> None:
    proposal = learned(tmp_path, np.tile(LOUD[: 8 * RATE], 3))
    assert (proposal.clips, proposal.repeated) == (8, 16)
    notebook(tmp_path).commit()
    with pytest.raises(AudioError, match="no clip counts: 8 were heard before"):
        learned(tmp_path, LOUD[: 8 * RATE], add="again")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda sound: 1_000 * sound, "clipping"),
        (lambda sound: np.where(np.arange(sound.size) > 20 * RATE, 0, sound), "is the input muted"),
        (lambda sound: np.where(np.arange(sound.size) % 5_000 == 0, 1.0, sound), "lower the gain by 10 dB"),
    ],
)
def test_unfit_sound_teaches_nothing(tmp_path: Path, spoil: object, said: str) -> None:
    assert callable(spoil)
    with pytest.raises(AudioError, match=said):
        learned(tmp_path, spoil(LOUD))
    toy = open_bundle(tmp_path / "toy.asd")
    assert len(notebook(tmp_path).heard(toy.digest, MACHINE)) == 0
    assert notebook(tmp_path).slots() == Slots()


def test_an_interrupted_lesson_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def weary(minutes: float, _: str) -> None:
        if minutes == pytest.approx(9 / 60):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attend(config(tmp_path, LOUD), "press", 0.5, progress=weary)
    proposal = learned(tmp_path, noise(8, 40 * RATE, level=0.15))
    assert (proposal.clips, proposal.minutes) == (30, 0.5)


def test_an_operating_point_can_be_added_once_something_is_learned_and_once_only(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nothing is learned yet"):
        learned(tmp_path, LOUD, add="hot")
    learned(tmp_path, LOUD)
    notebook(tmp_path).commit()
    hot = learned(tmp_path, noise(9, 6 * RATE, level=0.02), add="hot")
    assert hot.points == {FIRST: 30, "hot": 6}
    notebook(tmp_path).commit()
    with pytest.raises(ConfigError, match="the operating points first, hot are known already"):
        learned(tmp_path, LOUD, add="hot")


def labelled(folder: Path, seed: int, *, verdict: bool) -> None:
    """Somebody said of an alarm, ten times as loud as what the bundle knows, what it was."""
    state, toy, alarm_id = folder / "state", open_bundle(bundle(folder / "toy.asd")), f"b-event-{seed}"
    told = {"fault": None, "comment": None, "by": None, "labelled": "2026-11-25T12:00:00.000Z", "event": {}}
    judgement = Judgement(machine="press", alarm_id=alarm_id, verdict=verdict, clip_s=1.0, **told)
    about = {"event_id": alarm_id, "alarm_begins_s": 0.0}
    archive, at = Archive(state / SOUNDS, 10**7), datetime(2026, 11, 25, 12, 0, seed, tzinfo=UTC)
    archive.keep("press", np.clip(noise(seed, 3 * RATE, level=0.5), -1, 1), RATE, at, about)
    keep(state, judgement)
    hear(state, judgement, toy.scorer(), toy.digest)


def test_false_alarms_are_learned_as_normal_unless_a_fault_that_is_known_would_go_unheard(tmp_path: Path) -> None:
    labelled(tmp_path, 1, verdict=False)
    proposal = learned(tmp_path, LOUD)
    assert (proposal.points, proposal.refused) == ({FIRST: 30, FALSE_ALARMS: 3}, "")

    labelled(tmp_path, 2, verdict=True)
    proposal = learned(tmp_path, LOUD)
    assert proposal.points == {FIRST: 30}
    assert proposal.refused.startswith("1 of 1 known faults would not be heard any more")
    assert "b-event-2 from " in proposal.refused


def test_a_lesson_on_something_else_must_be_over(tmp_path: Path) -> None:
    toy = open_bundle(bundle(tmp_path / "toy.asd"))
    learned(tmp_path, LOUD)
    notebook(tmp_path).commit()
    known = notebook(tmp_path).active(toy)
    assert known
    notebook(tmp_path).keep_heard(known[1].memory, toy.digest, MACHINE)
    with pytest.raises(ConfigError, match="a lesson on first is not over"):
        learned(tmp_path, LOUD, add="hot")


def test_no_machine_and_no_state_folder_are_refused(tmp_path: Path) -> None:
    settings = config(tmp_path, LOUD)
    with pytest.raises(ConfigError, match="no machine 'saw' in the config, which has press"):
        attend(settings, "saw", 1, progress=lambda *_: None)
    with pytest.raises(ConfigError, match="state_dir is off"):
        attend(settings.model_copy(update={"state_dir": None}), "press", 1, progress=lambda *_: None)


def test_a_daemon_judges_by_what_was_committed_and_by_the_bundle_again_once_that_is_undone(tmp_path: Path) -> None:
    fresh = noise(55, 10 * RATE, level=0.15)
    learned(tmp_path, LOUD)
    version, before = judged(tmp_path, fresh)  # a candidate changes nothing
    assert version == "1.2.3"
    notebook(tmp_path).commit()
    version, after = judged(tmp_path, fresh)
    assert version == "1.2.3+learnt.1"
    notebook(tmp_path).undo()
    assert judged(tmp_path, fresh) == ("1.2.3", before)
    assert min(surprise for surprise, _ in before) > max(surprise for surprise, _ in after)
    assert all(surprise > threshold for surprise, threshold in before)
    assert not any(surprise > threshold for surprise, threshold in after)


# As typed -------------------------------------------------------------------------------------------------------------


def typed(folder: Path, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "edge.toml").write_text(
        f'state_dir = "{folder / "state"}"\ntrust.allow_unsigned = true\n'
        f'[sources.mic]\ninput = "file:{folder / "mic.wav"}"\nspeed = 0\n'
        f'[machines.press]\nsource = "mic"\nbundle = "{folder / "toy.asd"}"\n'
    )
    command = [sys.executable, "-m", "edge_asd", *arguments, "--config", str(folder / "edge.toml")]
    return subprocess.run(command, input=answer, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_learned_waits_unless_one_says_yes_and_travels_once_it_is_in_use(tmp_path: Path) -> None:
    config(tmp_path, LOUD)
    nothing = typed(tmp_path, "model", "export-learnt", "press", "--out", str(tmp_path / "out.asd"))
    assert "nothing that was learned is in use" in nothing.stderr
    said = typed(tmp_path, "learn", "press", "--minutes", "0.5", answer="n\n")
    assert "0.5 of 0.5 minutes, operating points: 1" in said.stdout
    assert "for 1 false alarm a week at 3 clips in a row" in said.stdout
    assert notebook(tmp_path).slots().active == 0
    slots = json.loads(typed(tmp_path, "learn", "press", "commit", "--json").stdout)
    assert slots == {"machine": "press", "active": 1, "previous": 0, "candidate": None, "last": 1}
    assert not typed(tmp_path, "model", "export-learnt", "press", "--out", str(tmp_path / "out.asd")).returncode
    assert open_bundle(tmp_path / "out.asd").manifest.version == "1.2.3+learnt.1"
    assert "the bundle's own head is in use" in typed(tmp_path, "learn", "press", "undo").stdout
    stands = typed(tmp_path, "learn", "press", "status").stdout
    assert stands == "press: the bundle's own head is in use, no candidate\n"


def test_days_are_learned_by_a_daemon_only(tmp_path: Path) -> None:
    config(tmp_path, LOUD)
    refused = typed(tmp_path, "learn", "press", "--over", "168")
    assert (refused.returncode, "no daemon runs that could listen so long" in refused.stderr) == (78, True)
