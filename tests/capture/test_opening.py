"""From one line of configuration to a source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from edge_asd.capture.file import FileSource
from edge_asd.capture.microphone import MicrophoneSource
from edge_asd.capture.opening import SourceSpec, open_source
from edge_asd.capture.rendered import RenderedSource
from edge_asd.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from pathlib import Path

RATE = 16_000


@pytest.mark.parametrize("wrong", ["rtsp:camera", "clip.wav", "file:", ""])
def test_what_nobody_can_listen_to_is_refused_with_what_one_can(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"use one of microphone:TOKEN \(.*\), file:PATH, render:MACHINE, pcm:"):
        SourceSpec(wrong)


@pytest.mark.parametrize("wrong", [{"speed": -1.0}, {"speed": float("nan")}, {"fault_after_s": -1.0}, {"channel": 0}])
def test_a_setting_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="need speed >= 0, fault_after_s >= 0 and channel >= 1"):
        SourceSpec("render:fan", **wrong)


def test_a_file_is_opened_with_its_settings(tmp_path: Path) -> None:
    sound = np.stack([np.zeros(100), np.full(100, 0.5)], axis=1)
    soundfile.write(tmp_path / "a:b.wav", sound, RATE)
    source = open_source(SourceSpec(f"file:{tmp_path}/a:b.wav", channel=2, loop=True, speed=0), RATE)
    assert isinstance(source, FileSource)
    block = source.read()
    source.close()
    assert block
    np.testing.assert_array_equal(block.samples, np.full(RATE, 0.5))


def test_a_file_that_is_not_there_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is no file"):
        open_source(SourceSpec(f"file:{tmp_path}/missing.wav"), RATE)


def test_a_machine_is_rendered_with_its_fault() -> None:
    def second(fault: str | None = None, fault_after_s: float = 0, seed: int = 0) -> np.ndarray:
        spec = SourceSpec("render:valve/1", speed=0, fault=fault, fault_after_s=fault_after_s, seed=seed)
        source = open_source(spec, RATE)
        assert isinstance(source, RenderedSource)
        block = source.read()
        assert block
        return block.samples

    healthy = second()
    np.testing.assert_array_equal(healthy, second(fault="leak", fault_after_s=9))
    assert not np.allclose(healthy, second(fault="leak"))
    assert not np.allclose(healthy, second(seed=1))


@pytest.mark.parametrize(
    ("machine", "settings", "complaint"),
    [
        ("moon", {}, "'moon', choose one of fan, valve"),
        ("fan/one", {}, "such as render:fan/1, got 'one'"),
        ("fan", {"fault": "rust"}, "a fan has no fault called 'rust', choose one of "),
        ("fan", {"fault": "bearing", "severity": 2}, "severity above 0 up to 1"),
    ],
)
def test_what_cannot_be_rendered_is_refused_before_anything_is_opened(
    machine: str, settings: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        SourceSpec(f"render:{machine}", **settings)


def test_a_microphone_is_listened_to_by_a_child() -> None:
    source = open_source(SourceSpec("microphone:usb-id:1:2:3"), RATE)
    assert isinstance(source, MicrophoneSource)
    source.close()
