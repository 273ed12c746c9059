from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from matplotlib.image import imread
from rich.progress import Progress

from edge_asd.errors import ConfigError
from edge_asd.signal.view import LogMel, log_mel
from tests.train.teach.test_lesson import coloured
from train.compare.fake import Fakes, flac, generate, picture, sound
from train.corpus.clip import normals
from train.teach.fit import fit
from train.teach.recipe import load_recipe
from train.teach.run import Run, create

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.train

SPEC, SEGMENT = LogMel(hop=160), 16_000


def fitted(folder: Path, method: str = "adversarial") -> Run:
    """Two machines of two conditions, three clips each."""
    for kind, tilt in (("fan", 0.9), ("pump", -0.9)):
        for number in range(6):
            name = f"section_00_source_train_normal_{number:04d}_spd_{number % 2}.wav"
            coloured(folder / "set" / kind / "train" / name, tilt, seed=number)
    changes = {"windows": {"segment": SEGMENT}, "training": {"epochs": 2, "batch": 6, "holdout": 0.0}}
    clips = normals([folder / "set"])
    run = create(Run(folder / "run", load_recipe(method, **changes), (folder / "set",)), clips)
    fit(run, clips, [], Progress(disable=True))
    return run


def test_every_group_gets_a_picture_and_as_many_sounds_as_asked_for(tmp_path: Path) -> None:
    run, out = fitted(tmp_path), tmp_path / "out"
    written = generate(run.folder, out, 2, Progress(disable=True))
    folders = [f"set/{kind}/00/{number:02d}_spd_{number % 2}" for number, kind in enumerate(["fan"] * 2 + ["pump"] * 2)]
    names = "fakes.png", "fake-1.flac", "fake-2.flac"
    assert set(written) == {out / folder / name for folder in folders for name in names}
    for path in written:
        if path.suffix == ".png":
            assert imread(path).ndim == 3
        else:
            wave, rate = soundfile.read(path)
            assert (wave.size, rate) == (SEGMENT, 16_000)
            assert wave.std() > 0

    again, other = tmp_path / "again", tmp_path / "other"
    generate(run.folder, again, 1, Progress(disable=True), machines=["*/pump/*"])
    generate(run.folder, other, 1, Progress(disable=True), machines=["*/pump/*"], seed=1)
    assert [path.name for path in (again / "set").iterdir()] == ["pump"]
    first, second = (next(place.rglob("fake-1.flac")).read_bytes() for place in (again, other))
    assert first != second

    with pytest.raises(ConfigError, match="no machine 'nix'"):
        generate(run.folder, out, 1, Progress(disable=True), machines=["nix"])
    coloured(tmp_path / "set/fan/train/section_00_source_train_normal_0099_spd_9.wav", 0.5, seed=9)
    with pytest.raises(ConfigError, match=r"not what .* learned from, its attribute groups are others"):
        generate(run.folder, out, 1, Progress(disable=True))


def test_a_run_that_draws_nothing_says_so(tmp_path: Path) -> None:
    create(Run(tmp_path / "run", load_recipe("grhd"), (tmp_path,)), [])
    with pytest.raises(ConfigError, match="is a run of grhd, which draws no fakes; give one of adversarial"):
        generate(tmp_path / "run", tmp_path / "out", 1, Progress(disable=True))


def test_a_sound_has_the_log_mel_that_was_drawn() -> None:
    """Least squares spread a tone over its neighbours, more than 20 dB below it."""
    time = np.arange(32_000) / 16_000
    noise = 0.01 * np.random.default_rng(0).standard_normal(time.size)
    wave = (0.1 * np.sin(2 * np.pi * 1000 * time) * (time > 1) + noise).astype(np.float32)
    image = log_mel(SPEC, wave[None])[0]
    made = sound(image, SPEC, wave.size)
    assert made.shape == wave.shape
    heard = log_mel(SPEC, made[None])[0]
    for half in (slice(0, 95), slice(106, 201)):
        asked, found = ((10 ** (one[:, half] / 10)).mean(1).reshape(16, 8).mean(1) for one in (image, heard))
        loud = asked > 0.01 * asked.max()
        assert loud.any()
        np.testing.assert_allclose(10 * np.log10(found[loud] / asked[loud]), 0, atol=1.0)
        np.testing.assert_allclose(found[~loud], asked[~loud], atol=0.01 * asked.max())
    np.testing.assert_array_equal(made, sound(image, SPEC, wave.size))


def test_what_is_too_loud_is_clipped() -> None:
    wave, _ = soundfile.read(io.BytesIO(flac(np.array([0.5, 3.0, -3.0], np.float32), SPEC)))
    np.testing.assert_allclose(wave, [0.5, 1.0, -1.0], atol=1e-4)


def test_fewer_real_segments_than_fakes_leave_their_places_empty() -> None:
    images = np.random.default_rng(0).normal(-40, 5, (3, 128, 101)).astype(np.float32)
    figure = picture(Fakes("set/fan/00", "spd_1", images, images[:1]), SPEC)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["real", "fake", "fake", "fake"]
    assert figure.axes[0].images[0].get_clim() == figure.axes[3].images[0].get_clim()


@pytest.mark.parametrize("hertz", [500, 1000, 4000])
def test_a_tone_lies_where_its_frequency_is_marked(hertz: int) -> None:
    tone = np.sin(2 * np.pi * hertz * np.arange(SEGMENT) / 16_000).astype(np.float32)
    image = log_mel(SPEC, tone[None])
    axes = picture(Fakes("set/fan/00", "spd_1", image, image), SPEC).axes[0]
    marks = zip((text.get_text() for text in axes.get_yticklabels()), axes.get_yticks(), strict=True)
    assert dict(marks)[f"{hertz / 1000:g}"] == pytest.approx(int(image[0].mean(1).argmax()), abs=1)
