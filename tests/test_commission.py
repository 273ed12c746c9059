"""A minute at a new ear: what is found, what is said of it, and what is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from edge_asd.baseline import Binding, Commissioned, read
from edge_asd.capture.state import Trouble
from edge_asd.commission import DRIFT_S, Recording, commission, compare, judge
from edge_asd.config import Config, SourceSettings
from edge_asd.deliver.control import Control
from edge_asd.errors import ConfigError, SourceError
from edge_asd.signal.profile import OFF, RUNNING, profile
from tests.example import bundle, noise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_asd.commission import Finding, Report
    from tests.conftest import PulseMicrophone

RATE = 16_000
WHITE = noise(7, 40 * RATE)


def bad(findings: list[Finding] | tuple[Finding, ...]) -> dict[str, str]:
    return {finding.what: finding.said for finding in findings if not finding.well}


def looked(folder: Path, sound: np.ndarray, seconds: float = 20, state: str = RUNNING) -> Report:
    """Of a recording in the place of a microphone, and a bundle that knows noise of -26 dBFS."""
    soundfile.write(folder / "mic.wav", np.clip(sound, -1, 1), RATE, "FLOAT")
    return commission(config(folder), "press", seconds, state)


def config(folder: Path) -> Config:
    source = {"input": f"file:{folder / 'mic.wav'}", "speed": 0}
    machines = {"press": {"source": "mic", "bundle": str(bundle(folder / "toy.asd"))}}
    return Config(state_dir=folder / "state", sources={"mic": source}, machines=machines)


def test_an_ear_at_the_sound_that_the_bundle_knows_is_fit(tmp_path: Path) -> None:
    heard: list[float] = []
    soundfile.write(tmp_path / "mic.wav", WHITE, RATE, "FLOAT")
    report = commission(config(tmp_path), "press", 20, RUNNING, progress=heard.append)

    assert report.fit, report.findings
    assert report.profile == profile(WHITE[: 20 * RATE], RATE)
    assert len(report.scores) == 20
    assert heard[-1] == 20
    assert heard == sorted(heard)
    assert report.commissioned.ear == Binding(f"file:{tmp_path / 'mic.wav'}", 0, RATE)
    assert report.commissioned.states == {RUNNING: report.profile}


@pytest.mark.parametrize(
    ("spoil", "what", "advice"),
    [
        (lambda sound: sound / 10, "level", "raise the gain by 18 dB"),
        (lambda sound: 8 * sound, "level", "lower the gain by 15 dB"),
        (lambda sound: np.where(np.arange(sound.size) % 5_000 == 0, 1.0, sound), "headroom", "lower the gain by 10 dB"),
        (lambda sound: 1_000 * sound, "sound", "clipping"),
        (lambda sound: np.where(np.arange(sound.size) < 10 * RATE, 0, sound), "sound", "is the input muted"),
        (lambda sound: np.cumsum(sound) / 20, "model", "choose another head"),
    ],
)
def test_what_is_not_well_is_told_with_what_to_do(
    tmp_path: Path, spoil: Callable[[np.ndarray], np.ndarray], what: str, advice: str
) -> None:
    report = looked(tmp_path, spoil(WHITE))
    assert not report.fit
    assert advice in bad(report.findings)[what]


def test_a_machine_that_is_off_is_not_held_against_the_bundle(tmp_path: Path) -> None:
    report = looked(tmp_path, WHITE / 30, state=OFF)
    assert report.fit
    assert {finding.what for finding in report.findings}.isdisjoint({"level", "model"})


def heard(**facts: Any) -> Recording:  # noqa: ANN401 - its fields
    return Recording(RATE, [WHITE], **facts)


@pytest.mark.parametrize(("ppm", "well"), [(0, True), (-150, True), (900, True), (1_100, False), (-1_100, False)])
def test_a_clock_that_no_quartz_has_is_a_loss(ppm: float, *, well: bool) -> None:
    findings = judge(heard(effective_rate=RATE * (1 + ppm * 1e-6)), profile(WHITE, RATE))
    clock = next(finding for finding in findings if finding.what == "clock")
    assert clock.well is well
    assert clock.said.startswith(f"{ppm:+.0f} ppm")


def test_a_clock_is_not_judged_by_a_few_seconds() -> None:
    short = Recording(RATE, [WHITE[: int(DRIFT_S - 1) * RATE]], effective_rate=RATE * 1.01)
    assert short.drift_ppm is None
    assert bad(judge(short, profile(WHITE, RATE))) == {}


def test_lost_sound_is_counted_and_a_single_bad_second_of_a_slow_trouble_is_not_held_against_it() -> None:
    findings = judge(heard(gaps=2, lost=4_000, troubles=Counter({Trouble.BAND_LIMITED: 2})), profile(WHITE, RATE))
    assert bad(findings) == {"flow": "4000 samples were lost in 2 gaps; free the processor or the bus it shares"}


def known(**states: np.ndarray) -> Commissioned:
    profiles = {name: profile(sound, RATE) for name, sound in states.items()}
    return Commissioned("press", Binding("pcm:-", 0, RATE), "", "", 1, "2026-11-25T04:00:00.000Z", profiles)


def test_a_machine_that_is_hardly_heard_over_its_room_wants_a_closer_microphone() -> None:
    assert bad(compare(known(running=WHITE, off=WHITE / 3), None, RUNNING)) == {}
    assert "move the microphone closer" in bad(compare(known(running=WHITE, off=WHITE / 1.2), None, OFF))["room"]


def test_a_room_that_is_not_known_is_asked_for_and_what_has_changed_since_is_told() -> None:
    room, since = compare(known(running=WHITE), known(running=WHITE / 2), RUNNING)
    assert "--state off" in room.said
    assert since.said == "since 2026-11-25T04:00:00.000Z: +6.0 dB in the median band, bands else 0.0 dB apart"


def test_a_machine_that_the_config_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no machine 'pump' in the config, which has press"):
        commission(config(tmp_path), "pump", 10, RUNNING)


def at(folder: Path, **source: Any) -> Config:  # noqa: ANN401 - its settings
    return config(folder).model_copy(update={"sources": {"mic": SourceSettings(**source)}})


def test_a_microphone_that_cannot_be_opened_is_told_with_who_may_hold_it(tmp_path: Path) -> None:
    stranger = at(tmp_path, input="microphone:usb-id:dead:beef:0")
    with pytest.raises(SourceError, match=r"is it held by another program\?"):
        commission(stranger, "press", 10, RUNNING)

    (tmp_path / "state").mkdir()
    daemon = Control(tmp_path / "state")
    with pytest.raises(SourceError, match="systemctl stop edge-asd"):
        commission(stranger, "press", 10, RUNNING)
    with pytest.raises(ConfigError, match="of a pipe each reader gets a part"):
        commission(at(tmp_path, input="pcm:-", format="s16le", rate=RATE), "press", 10, RUNNING)
    daemon.close()


def test_a_recording_that_is_missing_is_told_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"mic\.wav is no file$"):
        commission(config(tmp_path), "press", 10, RUNNING)


# As typed -------------------------------------------------------------------------------------------------------------


def typed(folder: Path, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "edge.toml").write_text(
        f'state_dir = "{folder / "state"}"\n[sources.mic]\ninput = "file:{folder / "mic.wav"}"\nspeed = 0\n'
        f'[machines.press]\nsource = "mic"\nbundle = "{bundle(folder / "toy.asd")}"\n'
    )
    command = [
        sys.executable,
        "-m",
        "edge_asd",
        "commission",
        "press",
        "--config",
        str(folder / "edge.toml"),
        *arguments,
    ]
    return subprocess.run(command, input=answer, capture_output=True, text=True, timeout=60, check=False)


def test_a_fit_ear_is_shown_and_kept_and_the_room_is_added_to_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mic.wav", WHITE, RATE, "FLOAT")
    said = typed(tmp_path)
    assert said.returncode == 0, said.stderr
    assert "this ear is fit to listen to press" in said.stdout
    assert "  1000 Hz" in said.stdout
    assert "version 1" in said.stderr

    soundfile.write(tmp_path / "mic.wav", WHITE / 30, RATE, "FLOAT")
    said = typed(tmp_path, "--state", "off", "--json")
    assert said.returncode == 0, said.stderr
    report = json.loads(said.stdout)
    assert report["fit"] is True
    assert report["profile"]["level_dbfs"] == pytest.approx(20 * np.log10(np.std(WHITE / 30)), abs=0.01)
    kept = read(tmp_path / "state", "press")
    assert kept is not None
    assert (kept.version, set(kept.states)) == (2, {RUNNING, OFF})


def test_an_ear_that_is_not_fit_is_kept_only_when_told_so(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mic.wav", WHITE / 100, RATE, "FLOAT")

    said = typed(tmp_path, answer="n\n")
    assert said.returncode == 1
    assert "NOT fit" in said.stdout
    assert read(tmp_path / "state", "press") is None
    assert typed(tmp_path, "--yes").returncode == 1
    assert read(tmp_path / "state", "press") is not None


@pytest.mark.system
def test_a_real_microphone_is_heard_by_its_own_process(tmp_path: Path, pulse_microphone: PulseMicrophone) -> None:
    soundfile.write(tmp_path / "noise.wav", WHITE, RATE)
    pulse_microphone.play(tmp_path / "noise.wav")
    report = commission(at(tmp_path, input=f"microphone:{pulse_microphone.token}"), "press", 4, RUNNING)

    assert report.profile.level_dbfs == pytest.approx(profile(WHITE, RATE).level_dbfs, abs=1)
    assert report.commissioned.ear.input == "microphone:name:default"
    assert {finding.what for finding in report.findings if not finding.well} <= {"flow"}  # a busy computer loses some
