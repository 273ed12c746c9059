from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional

from edge_asd.errors import ConfigError
from tests.train.teach.test_lesson import coloured
from train.corpus.clip import normals
from train.pack.bench import OURS, PLAIN, STARTS, bench_epoch, bench_start

if TYPE_CHECKING:
    from pathlib import Path

    from train.corpus.clip import Clip

pytestmark = pytest.mark.train


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Clip]:
    monkeypatch.setenv("EDGE_ASD_CACHE", str(tmp_path / "cache"))
    for number in range(4):
        name = f"section_00_source_train_normal_{number:04d}_spd_{number % 2}.wav"
        coloured(tmp_path / "set/fan/train" / name, 0.9, seed=number)
    return normals([tmp_path / "set"])


def test_an_epoch_is_measured_against_the_same_network_in_a_plain_loop(
    clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both loops step as often, and on as many segments."""
    seen: list[int] = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, *given: (seen.append(1), step(self, *given))[1])
    found = {timing.stage: timing for timing in bench_epoch("dg_mix", clips, rounds=1)}
    assert list(found) == [OURS, "an epoch without cached features", PLAIN]
    assert found[PLAIN].ratio == 1.0
    assert found[OURS].ratio == pytest.approx(found[OURS].seconds / found[PLAIN].seconds)
    assert len(seen) % 6 == 0  # three loops, each once to warm up and once to count


def test_what_trains_no_network_has_no_epoch(clips: list[Clip]) -> None:
    with pytest.raises(ConfigError, match="statistics trains no network; choose a recipe that does"):
        bench_epoch("statistics", clips, rounds=1)


def test_torchaudio_s_features_are_ours_but_for_rounding(clips: list[Clip]) -> None:
    """Else the two loops would not learn the same."""
    import torchaudio  # noqa: PLC0415 - slow to load

    from edge_asd.signal.view import LogMel, log_mel  # noqa: PLC0415
    from train.corpus.clip import load  # noqa: PLC0415

    wave = load(clips[0], 16_000)[None, :32_000]
    mel = torchaudio.transforms.MelSpectrogram(16_000, 1024, hop_length=512, n_mels=128)
    theirs = torchaudio.transforms.AmplitudeToDB()(mel(torch.from_numpy(wave)))
    assert float(functional.l1_loss(torch.from_numpy(log_mel(LogMel(), wave)), theirs)) < 1e-3


def test_a_start_is_measured_against_the_import_of_torch_in_processes_of_their_own() -> None:
    ours, torchs = bench_start(rounds=1)

    assert (ours.what, torchs.what) == tuple(STARTS)
    assert all(start.seconds > 0 and start.memory_bytes > 20e6 for start in (ours, torchs))
    assert ours.memory_bytes < torchs.memory_bytes
