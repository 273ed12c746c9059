from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import librosa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from edge_asd.signal.view import LogMel, fft, fingerprint, frames, log_mel, magnitude, mel, mel_bank, phase, spectrum

SPECS = [LogMel(), LogMel(n_fft=512, hop=160, n_mels=40, f_min=50, f_max=7_000), LogMel(sample_rate=8_000, f_max=4_000)]
SLANEY = [replace(spec, scale="slaney") for spec in SPECS]


def waveforms(seed: int = 0, samples: int = 32_000) -> np.ndarray:
    """Noise and a tone, (2, S)."""
    rng = np.random.default_rng(seed)
    tone = 0.3 * np.sin(2 * np.pi * 440 / 16_000 * np.arange(samples))
    return np.stack([0.1 * rng.standard_normal(samples), tone]).astype(np.float32)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_mel_bank_is_librosas(spec: LogMel) -> None:
    expected = librosa.filters.mel(
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        n_mels=spec.n_mels,
        fmin=spec.f_min,
        fmax=spec.f_max,
        htk=True,
        norm=None,
    )
    np.testing.assert_allclose(mel_bank(spec).T, expected, atol=1e-5)


@pytest.mark.parametrize("spec", SLANEY, ids=str)
def test_slaneys_mel_bank_is_librosas_own(spec: LogMel) -> None:
    expected = librosa.filters.mel(
        sr=spec.sample_rate, n_fft=spec.n_fft, n_mels=spec.n_mels, fmin=spec.f_min, fmax=spec.f_max
    )
    np.testing.assert_allclose(mel_bank(spec).T, expected, atol=1e-7)  # of triangles about 0.02 high


def test_a_triangle_on_slaneys_scale_has_unit_area() -> None:
    spec = LogMel(n_fft=65_536, scale="slaney")
    np.testing.assert_allclose(mel_bank(spec).sum(axis=0) * spec.sample_rate / spec.n_fft, 1.0, atol=2e-3)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_magnitude_is_librosas(spec: LogMel) -> None:
    sound = waveforms()
    expected = np.abs(librosa.stft(sound, n_fft=spec.n_fft, hop_length=spec.hop, pad_mode="reflect"))
    np.testing.assert_allclose(magnitude(spec, sound), expected, atol=1e-4)


@pytest.mark.parametrize("spec", SLANEY, ids=str)
def test_linear_mel_bands_are_librosas_of_magnitudes(spec: LogMel) -> None:
    expected = librosa.feature.melspectrogram(
        y=waveforms(),
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop,
        pad_mode="reflect",
        power=1.0,
        n_mels=spec.n_mels,
        fmin=spec.f_min,
        fmax=spec.f_max,
    )
    assert mel(spec, waveforms()).dtype == np.float32
    np.testing.assert_allclose(mel(spec, waveforms()), expected, atol=1e-5)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_phase_and_magnitude_are_librosas_spectrum(spec: LogMel) -> None:
    sound = waveforms()
    angle = phase(spec, sound)
    expected = librosa.stft(sound, n_fft=spec.n_fft, hop_length=spec.hop, pad_mode="reflect")

    assert angle.dtype == np.float32
    np.testing.assert_allclose(magnitude(spec, sound) * np.exp(1j * angle), expected, atol=1e-4)


def test_silence_has_the_phase_zero() -> None:
    assert not phase(LogMel(), np.zeros((1, 4_000), np.float32)).any()


@given(st.integers(1, 800))
def test_a_whole_spectrum_peaks_where_the_tone_is(hertz: int) -> None:
    tone = np.sin(2 * np.pi * hertz * np.arange(3_200) / 3_200 + 0.3).astype(np.float32)[None]
    whole = fft(tone)

    assert (whole.shape, whole.dtype) == ((1, 1_600), np.float32)
    assert whole[0].argmax() == hertz
    assert whole[0, hertz] == pytest.approx(1_600, rel=1e-5)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_log_mel_is_librosas(spec: LogMel) -> None:
    sound = waveforms()
    power = np.square(np.abs(librosa.stft(sound, n_fft=spec.n_fft, hop_length=spec.hop, pad_mode="reflect")))
    bank = librosa.filters.mel(
        sr=spec.sample_rate, n_fft=spec.n_fft, n_mels=spec.n_mels, fmin=spec.f_min, fmax=spec.f_max, htk=True, norm=None
    )
    expected = librosa.power_to_db(bank @ power, ref=1.0, amin=spec.floor, top_db=None)
    # float32 spectra of a pure tone differ far below it
    np.testing.assert_allclose(log_mel(spec, sound)[0], expected[0], atol=2e-3)
    heard = expected[1] > expected[1].max() - 90
    np.testing.assert_allclose(log_mel(spec, sound)[1][heard], expected[1][heard], atol=2e-2)


@pytest.mark.parametrize("spec", SLANEY, ids=str)
def test_log_mel_on_slaneys_scale_is_librosas_own(spec: LogMel) -> None:
    sound = waveforms(1)[0]
    mel = librosa.feature.melspectrogram(
        y=sound,
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop,
        n_mels=spec.n_mels,
        fmin=spec.f_min,
        fmax=spec.f_max,
        pad_mode="reflect",
    )
    expected = librosa.power_to_db(mel, ref=1.0, amin=spec.floor, top_db=None)
    np.testing.assert_allclose(log_mel(spec, sound[None])[0], expected, atol=2e-3)


@pytest.mark.train
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_log_mel_is_torchaudios(spec: LogMel) -> None:
    import torch  # noqa: PLC0415 - not in the test group
    import torchaudio  # noqa: PLC0415 - same

    transform = torchaudio.transforms.MelSpectrogram(
        spec.sample_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop,
        n_mels=spec.n_mels,
        f_min=spec.f_min,
        f_max=spec.f_max,
        norm=None,
        mel_scale="htk",
    )
    sound = waveforms(1)[:1]
    expected = 10 * torch.log10(transform(torch.from_numpy(sound)).clamp(min=spec.floor))
    assert log_mel(spec, sound).dtype == np.float32
    np.testing.assert_allclose(log_mel(spec, sound), expected.numpy(), atol=2e-3)


@pytest.mark.train
def test_magnitude_is_torchaudios() -> None:
    import torch  # noqa: PLC0415 - not in the test group
    import torchaudio  # noqa: PLC0415 - same

    expected = torchaudio.transforms.Spectrogram(1024, hop_length=512, power=1.0)(torch.from_numpy(waveforms()))
    np.testing.assert_allclose(magnitude(LogMel(), waveforms()), expected.numpy(), atol=1e-4)


@given(st.integers(600, 5_000))
def test_a_segment_gives_a_frame_a_hop_and_one_more(samples: int) -> None:
    spec = LogMel()
    assert log_mel(spec, waveforms(samples=samples)).shape == (2, 128, 1 + samples // 512)


def test_each_segment_of_a_batch_is_seen_alone() -> None:
    sound = waveforms()
    np.testing.assert_allclose(log_mel(LogMel(), sound)[:1], log_mel(LogMel(), sound[:1]), atol=1e-4)


def test_ten_times_the_amplitude_is_twenty_decibels_everywhere() -> None:
    sound = waveforms()[:1]
    np.testing.assert_allclose(log_mel(LogMel(), 10 * sound) - log_mel(LogMel(), sound), 20, atol=1e-3)


def test_silence_lies_on_the_floor() -> None:
    # to the last bit but one: logarithms differ from processor to processor
    np.testing.assert_allclose(log_mel(LogMel(), np.zeros((1, 4_000), np.float32)), -100, rtol=1e-6)


def test_frames_are_whole_and_need_no_padding() -> None:
    spec = LogMel()
    cut = frames(spec, np.arange(3_000, dtype=np.float32))

    assert cut[:, 0].tolist() == [0, 512, 1024, 1536]
    assert spectrum(spec, cut).shape == (4, 513)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"f_max": 9_000}, "need 0 <= f_min < f_max <= 8000.0 Hz, got 0.0 and 9000"),
        ({"f_min": 500, "f_max": 400}, "need 0 <= f_min < f_max"),
        ({"hop": 2_048}, "need 0 < hop <= n_fft, got 2048 and 1024"),
        ({"hop": 0}, "need 0 < hop <= n_fft, got 0 and 1024"),
    ],
)
def test_a_front_end_that_cannot_be_is_refused(wrong: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        LogMel(**wrong)


# What it is kept and sent under ---------------------------------------------------------------------------------------


def test_a_front_end_from_before_there_were_two_scales_is_htks() -> None:
    before = '{"sample_rate":16000,"n_fft":1024,"hop":512,"n_mels":128,"f_min":0.0,"f_max":8000.0,"floor":1e-10}'
    assert TypeAdapter(LogMel).validate_json(before) == LogMel()


def test_a_scale_that_nobody_defined_is_refused() -> None:
    with pytest.raises(ValidationError, match="'htk' or 'slaney'"):
        TypeAdapter(LogMel).validate_python({"scale": "bark"})


def test_equal_front_ends_have_one_fingerprint() -> None:
    assert fingerprint(LogMel(f_max=8_000)) == fingerprint(LogMel(f_max=8_000.0)) == fingerprint(LogMel())
    assert len(bytes.fromhex(fingerprint(LogMel()))) == 32


CHANGES: dict[str, Any] = {
    "sample_rate": 32_000,
    "n_fft": 2_048,
    "hop": 256,
    "n_mels": 64,
    "f_min": 1.0,
    "f_max": 7_999.0,
    "floor": 1e-12,
    "scale": "slaney",
}


def test_every_field_of_a_front_end_is_in_its_fingerprint() -> None:
    changed = [fingerprint(replace(LogMel(), **{field.name: CHANGES[field.name]})) for field in fields(LogMel)]
    assert len({fingerprint(LogMel()), *changed}) == 1 + len(fields(LogMel))


def test_other_code_is_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(LogMel())
    monkeypatch.setattr("edge_asd.signal.view.REVISION", 0)
    assert fingerprint(LogMel()) != before
