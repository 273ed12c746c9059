from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress
from scipy import signal

from edge_asd.signal.segment import Windows
from edge_asd.signal.view import LogMel, log_mel
from train.corpus.clip import Clip, normals
from train.corpus.feature import cached_log_mels
from train.corpus.group import groups
from train.teach.augmentation import noisy
from train.teach.label import Labels
from train.teach.lesson import Lesson, batch, batches, held_out, learn_from, middles
from train.teach.recipe import Recipe, Training

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

pytestmark = pytest.mark.train

SEGMENT = 32_000
PLAIN = Training(batch=4, mixup=0.0, gain_db=0.0, targets=0)


# Crops and batches ----------------------------------------------------------------------------------------------------


def lesson(
    clips: Sequence[NDArray[np.float32]], training: Training, targets: Sequence[int] = (), held: Sequence[int] = ()
) -> Lesson:
    """Every clip its own section and group."""
    numbers = np.arange(len(clips))
    recipe = Recipe(method="grhd", training=training)
    names = tuple(f"set/machine/{number:02d}" for number in numbers)
    task = recipe.task(sections=names, groups=tuple(f"{name} A" for name in names), sizes=(1,) * len(names))
    lengths = np.array([clip.size for clip in clips])
    marks = np.isin(numbers, targets), np.isin(numbers, held)
    own = np.eye(len(clips), dtype=np.float32)
    labels = Labels(own, own, np.arange(len(clips), dtype=np.float32), own[:, :0])
    return Lesson(recipe, training, task, list(clips), lengths, labels, *marks)


def counting(lengths: Sequence[int]) -> list[NDArray[np.float32]]:
    """Clips whose every sample says which one it is; exact, being below 2^24."""
    return [(number * 2**18 + np.arange(length)).astype(np.float32) for number, length in enumerate(lengths)]


def level(clips: int) -> list[NDArray[np.float32]]:
    """Clip c is c + 1 throughout."""
    return [np.full(SEGMENT, number + 1, np.float32) for number in range(clips)]


@given(st.lists(st.integers(SEGMENT, 5 * SEGMENT), min_size=1, max_size=6), st.integers(0, 99))
def test_a_crop_is_a_stretch_of_the_chosen_clip(lengths: list[int], seed: int) -> None:
    clips = counting(lengths)
    chosen = np.random.default_rng(seed).integers(len(clips), size=4)
    shown = batch(lesson(clips, PLAIN), chosen, np.random.default_rng(seed))
    waves = shown.views["waveform"]
    number, start = np.divmod(waves[:, 0].numpy().astype(np.int64), 2**18)
    np.testing.assert_array_equal(number, chosen)
    np.testing.assert_array_equal(shown.group.argmax(1), chosen)
    for wave, clip, first in zip(waves.numpy(), chosen, start, strict=True):
        np.testing.assert_array_equal(wave, clips[clip][first : first + SEGMENT])


def test_crops_reach_the_whole_clip() -> None:
    clips = counting([SEGMENT + 1])
    waves = batch(lesson(clips, PLAIN), np.zeros(32, np.int64), np.random.default_rng(0)).views["waveform"]
    assert set(waves[:, 0].tolist()) == {0.0, 1.0}


def test_the_network_is_shown_the_views_of_a_device() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal(2 * SEGMENT).astype(np.float32) for _ in range(3)]
    taught = lesson(clips, Training(mixup=1.0))
    views = batch(taught, np.arange(3), rng).views
    np.testing.assert_array_equal(views["log_mel"], log_mel(taught.recipe.front_end, views["waveform"].numpy()))


@given(st.integers(1, 8), st.integers(0, 99))
def test_soft_labels_sum_to_one_and_say_what_was_mixed(count: int, seed: int) -> None:
    mixing = PLAIN.model_copy(update={"mixup": 1.0})
    chosen = np.random.default_rng(seed).permutation(count)
    shown = batch(lesson(level(count), mixing), chosen, np.random.default_rng(seed))
    group, waves = shown.group, shown.views["waveform"]
    torch.testing.assert_close(group.sum(1), torch.ones(count))
    torch.testing.assert_close(shown.section, group)
    levels = group @ torch.arange(1.0, count + 1)
    torch.testing.assert_close(waves, levels[:, None].expand(count, SEGMENT), rtol=1e-5, atol=1e-5)
    partners = {frozenset(row.nonzero().flatten().tolist()) for row in group}
    assert all(len(pair) <= 2 for pair in partners)


def test_only_the_share_that_was_asked_for_is_mixed() -> None:
    half = PLAIN.model_copy(update={"mixup": 0.5})
    group = batch(lesson(level(64), half), np.arange(64), np.random.default_rng(0)).group
    assert 20 <= int((group.max(1).values < 1).sum()) <= 44


def test_gain_stays_within_its_decibels_either_way() -> None:
    loud = PLAIN.model_copy(update={"gain_db": 3.0})
    waves = batch(lesson(level(1), loud), np.zeros(64, np.int64), np.random.default_rng(0)).views["waveform"]
    gains = 20 * np.log10(waves.numpy().astype(np.float64))
    assert np.ptp(gains, axis=1).max() < 1e-5  # one gain a segment
    assert -3.0001 <= gains.min() < -2 < 2 < gains.max() <= 3.0001


@given(
    lengths=st.lists(st.integers(SEGMENT, 6 * SEGMENT), min_size=3, max_size=12),
    size=st.integers(2, 7),
    seed=st.integers(0, 99),
)
def test_an_epoch_visits_a_clip_once_for_every_segment_it_is_long(lengths: list[int], size: int, seed: int) -> None:
    training = PLAIN.model_copy(update={"batch": size})
    clips = [np.zeros(length, np.float32) for length in lengths]
    cut = list(batches(lesson(clips, training, held=[0]), np.random.default_rng(seed)))
    due = Counter({number: length // SEGMENT for number, length in enumerate(lengths) if number})
    seen = Counter(np.concatenate(cut).tolist()) if cut else Counter()
    alone = due.total() % size == 1  # a last segment that batch norm cannot take
    assert not seen - due
    assert (due - seen).total() == int(alone)
    assert all(1 < len(chosen) <= size for chosen in cut)


@given(sources=st.integers(1, 30), targets=st.integers(1, 3), least=st.integers(1, 3), seed=st.integers(0, 99))
def test_every_batch_holds_the_target_domain(sources: int, targets: int, least: int, seed: int) -> None:
    training = PLAIN.model_copy(update={"targets": least})
    count = sources + targets + 1
    marks = range(sources, count)
    rare = lesson(level(count), training, targets=marks, held=[count - 1])
    for chosen in batches(rare, np.random.default_rng(seed)):
        assert np.isin(chosen, marks).sum() >= least
        assert count - 1 not in chosen


# Classes and held-out recordings --------------------------------------------------------------------------------------

some_clips = st.lists(
    st.builds(
        Clip,
        path=st.just(Path("a.wav")),
        key=st.sampled_from(["s/fan/00", "s/pump/00"]),
        attribute=st.sampled_from(["", "A", "B"]),
        domain=st.sampled_from(["source", "target"]),
        split=st.just("train"),
        label=st.just("normal"),
        recording=st.sampled_from("abcdefgh"),
    ),
    min_size=1,
    max_size=40,
)


def named_groups(clips: Sequence[Clip]) -> list[str]:
    return groups(clips, 0, LogMel())


@given(some_clips, st.floats(0, 0.9), st.integers(0, 99))
def test_whole_recordings_are_held_out_and_never_all_of_a_group(clips: list[Clip], share: float, seed: int) -> None:
    named = named_groups(clips)
    held = held_out(clips, named, share, np.random.default_rng(seed))
    assert {name for name, out in zip(named, held, strict=True) if not out} == set(named)
    places: dict[tuple[str, str], set[bool]] = {}
    for clip, out in zip(clips, held, strict=True):
        places.setdefault((clip.key, clip.recording), set()).add(bool(out))
    assert all(len(where) == 1 for where in places.values())
    assert share or not held.any()


def test_about_the_share_that_was_asked_for_is_held_out() -> None:
    one = Clip(Path("a.wav"), "s/fan/00", "A", "source", "train", "normal", "")
    clips = [replace(one, recording=str(number // 2)) for number in range(200)]
    assert held_out(clips, named_groups(clips), 0.1, np.random.default_rng(0)).sum() == 20


def test_a_recording_that_is_most_of_the_data_is_not_held_out() -> None:
    one = Clip(Path("a.wav"), "s/fan/00", "A", "source", "train", "normal", "long")
    clips = [one] * 60 + [replace(one, recording=str(number)) for number in range(40)]
    for seed in range(20):
        held = held_out(clips, named_groups(clips), 0.1, np.random.default_rng(seed))
        assert held.sum() == 10
        assert not held[:60].any()


# Augmentation ---------------------------------------------------------------------------------------------------------


def test_noise_is_pink_and_as_far_below_the_segment_as_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    waves = (0.1 * rng.standard_normal((64, SEGMENT))).astype(np.float32)
    added = noisy(waves, 10.0, np.random.default_rng(1)).astype(np.float64) - waves
    below = 10 * np.log10(np.square(waves).mean(1) / np.square(added).mean(1))
    assert 10 <= below.min() < 13
    assert 27 < below.max() <= 30.01
    hertz, power = signal.welch(added, 16_000, nperseg=2048)
    inside = (hertz > 50) & (hertz < 7000)
    slope = np.polyfit(np.log10(hertz[inside]), 10 * np.log10(power.mean(0)[inside]), 1)[0]
    assert slope == pytest.approx(-10, abs=0.5)  # dB a decade


@pytest.mark.parametrize(("setting", "axis"), [("mask_mels", 1), ("mask_frames", 0)])
def test_a_mask_hides_one_stretch_of_bands_or_of_frames(setting: str, axis: int) -> None:
    masking = PLAIN.model_copy(update={setting: 20})
    clips = [np.random.default_rng(n).standard_normal(SEGMENT).astype(np.float32) for n in range(16)]
    views = batch(lesson(clips, masking), np.arange(16), np.random.default_rng(0)).views
    plain = log_mel(LogMel(), views["waveform"].numpy())
    sizes = set()
    for image, bare in zip(views["log_mel"].numpy(), plain, strict=True):
        hidden = (image != bare).all(axis=axis)
        (places,) = np.nonzero(hidden)
        sizes.add(places.size)
        assert places.size <= 20
        assert not places.size or places[-1] - places[0] + 1 == places.size
        np.testing.assert_allclose(image[(image != bare)], bare.mean(), atol=1e-3)
    assert len(sizes) > 3


KINDS = ("pitch", "identity", "noise", "time_mask")


def augmented(clips: Sequence[NDArray[np.float32]]) -> Lesson:
    taught = lesson(clips, PLAIN.model_copy(update={"augmentations": KINDS}))
    return replace(taught, task=replace(taught.task, augmentations=KINDS))


def test_each_segment_gets_one_augmentation_that_the_batch_names() -> None:
    clips = [(0.1 * np.random.default_rng(n).standard_normal(SEGMENT)).astype(np.float32) for n in range(24)]
    shown = batch(augmented(clips), np.arange(24), np.random.default_rng(0))
    waves, images = shown.views["waveform"].numpy(), shown.views["log_mel"].numpy()
    assert shown.augmentation.sum(1).tolist() == [1.0] * 24
    drawn = [KINDS[number] for number in shown.augmentation.argmax(1)]
    assert set(drawn) == set(KINDS)
    for kind, wave, clip, image, bare in zip(drawn, waves, clips, images, log_mel(LogMel(), waves), strict=True):
        assert (wave != clip).any() == (kind in {"pitch", "noise"})
        assert (image != bare).any() == (kind == "time_mask")


def test_held_out_and_settling_segments_are_left_alone_and_named_so() -> None:
    clips = [(0.1 * np.random.default_rng(n).standard_normal(SEGMENT)).astype(np.float32) for n in range(8)]
    taught = augmented(clips)
    for shown in (
        middles(taught, np.arange(8)),
        batch(taught.plain, np.arange(8), np.random.default_rng(0)),
    ):
        np.testing.assert_array_equal(shown.views["waveform"], np.stack(clips))
        assert shown.augmentation.tolist() == [[0.0, 1.0, 0.0, 0.0]] * 8


def test_without_augmentations_there_is_nothing_to_name() -> None:
    assert batch(lesson(level(3), PLAIN), np.arange(3), np.random.default_rng(0)).augmentation.shape == (3, 0)


@pytest.mark.parametrize("crops", [1, 2, 9])
def test_a_clip_gives_no_more_segments_than_asked_for(crops: int) -> None:
    clips = [np.zeros(5 * SEGMENT, np.float32), np.zeros(SEGMENT, np.float32)]
    taught = lesson(clips, PLAIN.model_copy(update={"crops": crops}))
    assert taught.crops.tolist() == [min(5, crops), 1]


def test_a_group_that_gives_few_segments_gives_them_oftener() -> None:
    """Group A of six segments stays; B of two, one of which is held out, and C of one come up to four."""
    clips = [np.zeros(seconds * SEGMENT, np.float32) for seconds in (3, 3, 1, 1, 1)]
    taught = lesson(clips, PLAIN.model_copy(update={"least": 4}), held=[3])
    of = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2]]
    taught = replace(taught, labels=replace(taught.labels, group=of))
    seen = Counter(np.concatenate(list(batches(taught, np.random.default_rng(0)))).tolist())

    assert seen == {0: 3, 1: 3, 2: 4, 4: 4}


# From the disk --------------------------------------------------------------------------------------------------------


def coloured(path: Path, tilt: float, seed: int, seconds: float = 2.5) -> None:
    """Noise that two machines and two speeds tell apart by its spectrum."""
    noise = np.random.default_rng(seed).standard_normal(int(seconds * 16_000))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.05 * (noise[1:] + tilt * noise[:-1]), 16_000)


@pytest.fixture
def data(tmp_path: Path) -> list[Clip]:
    for number in range(4):
        name = f"section_00_source_train_normal_{number:04d}_spd_{number % 2}.wav"
        coloured(tmp_path / "set/fan/train" / name, 0.9, seed=number, seconds=4 + number)
    return normals([tmp_path / "set"])


def taught_by(clips: Sequence[Clip], training: Training) -> Lesson:
    method = "dg_mix" if training.cache else "grhd"
    return learn_from(clips, (), Recipe(method=method, training=training), Progress(disable=True))


def test_a_short_clip_is_repeated_up_to_one_segment(tmp_path: Path) -> None:
    coloured(tmp_path / "set/fan/train/section_00_source_train_normal_0000_spd_1.wav", 0.5, seed=0, seconds=1.5)
    (samples,) = taught_by(normals([tmp_path / "set"]), PLAIN).clips
    assert samples.size == SEGMENT
    np.testing.assert_array_equal(samples[23_999:], samples[: SEGMENT - 23_999])


CACHED = PLAIN.model_copy(update={"cache": True})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_ASD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.usefixtures("cache")
def test_cached_images_are_those_of_a_device(data: list[Clip]) -> None:
    kept, fresh = taught_by(data, CACHED), taught_by(data, PLAIN)
    assert kept.task == fresh.task
    for images, samples in zip(kept.clips, fresh.clips, strict=True):
        starts = range(0, samples.size - SEGMENT + 1, SEGMENT // 2)
        expected = log_mel(LogMel(), np.stack([samples[start : start + SEGMENT] for start in starts]))
        np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(kept.crops, fresh.crops)


def test_features_are_computed_once(data: list[Clip], cache: Path) -> None:
    taught_by(data, CACHED)
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")}
    taught_by(data, CACHED)
    assert len(before) == len(data)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")} == before


@pytest.mark.parametrize("other", ["front end", "segment", "content"])
def test_features_of_something_else_are_computed_anew(data: list[Clip], cache: Path, other: str) -> None:
    front_end, windows = LogMel(), Windows()
    first = cached_log_mels(data[0], windows, front_end)
    match other:
        case "front end":
            front_end = replace(front_end, f_min=50.0)
        case "segment":
            windows = replace(windows, segment=16_000)
        case "content":
            coloured(data[0].path, -0.9, seed=9, seconds=4)
    second = cached_log_mels(data[0], windows, front_end)
    assert len(list(cache.rglob("*.npy"))) == 2
    assert first.shape != second.shape or not np.array_equal(first, second)


@pytest.mark.usefixtures("cache")
def test_a_gain_of_cached_images_is_a_sum_in_decibels(data: list[Clip]) -> None:
    loud = taught_by(data, CACHED.model_copy(update={"gain_db": 3.0}))
    images = batch(loud, np.zeros(32, np.int64), np.random.default_rng(0)).views["log_mel"].numpy()
    nearest = [min((image - bare for bare in loud.clips[0]), key=np.ptp) for image in images]
    gains = np.array([gain.mean() for gain in nearest])
    assert max(np.ptp(gain) for gain in nearest) < 1e-4
    assert -3.0001 <= gains.min() < -1 < 1 < gains.max() <= 3.0001


@pytest.mark.usefixtures("cache")
def test_views_are_single_precision_whether_cached_or_not(data: list[Clip]) -> None:
    for training in (CACHED, PLAIN.model_copy(update={"noise_db": 10.0, "mixup": 0.5})):
        taught = taught_by(data, training.model_copy(update={"gain_db": 3.0, "mask_mels": 9}))
        shown = batch(taught, np.arange(4), np.random.default_rng(0))
        assert {tensor.dtype for tensor in (*shown.views.values(), shown.section, shown.group)} == {torch.float32}


@pytest.mark.usefixtures("cache")
def test_middles_are_unchanged_whether_cached_or_not(data: list[Clip]) -> None:
    louder = {"gain_db": 6.0, "mask_mels": 30}
    kept, fresh = (taught_by(data, start.model_copy(update=louder)) for start in (CACHED, PLAIN))
    by_cache, by_wave = middles(kept, np.arange(4)), middles(fresh, np.arange(4))
    whole = log_mel(LogMel(), by_wave.views["waveform"].numpy())
    np.testing.assert_array_equal(by_wave.views["log_mel"], whole)
    torch.testing.assert_close(by_cache.group, by_wave.group)
    assert all((image == kept.clips[n]).all((1, 2)).any() for n, image in enumerate(by_cache.views["log_mel"].numpy()))


# Outliers, virtual clips, partners ------------------------------------------------------------------------------------


def test_outliers_are_of_no_class_and_a_share_of_every_batch(data: list[Clip]) -> None:
    training = Training(batch=8, outliers=0.5, targets=0, holdout=0.0, mixup=0.0)
    taught = learn_from(data[:3], data[3:], Recipe(method="grhd", training=training), Progress(disable=True))
    cut = list(batches(taught, np.random.default_rng(0)))

    assert taught.task.outliers
    assert taught.task.sections == ("set/fan/00",)
    assert sum((one < 3).sum() for one in cut) == taught.crops[:3].sum()
    for one in cut:
        shown = batch(taught, one, np.random.default_rng(0))
        assert (one == 3).sum() == (one < 3).sum()
        assert shown.section.sum() == shown.group.sum() == (one < 3).sum()
        assert not taught.labels[one[one == 3]].section.any()


def test_partners_within_a_machine_leave_its_class_whole() -> None:
    mixing = PLAIN.model_copy(update={"mixup": 1.0, "mixup_within": True})
    taught = lesson(level(4), mixing)
    chosen = np.repeat(np.arange(4), 8)
    shown = batch(taught, chosen, np.random.default_rng(0))

    assert torch.allclose(shown.section, torch.eye(4)[chosen])


def test_a_mixed_segment_has_a_mixed_condition() -> None:
    mixing = PLAIN.model_copy(update={"mixup": 1.0})
    shown = batch(lesson(level(2), mixing), np.array([0, 1]), np.random.default_rng(0))

    assert torch.allclose(shown.condition, shown.section[:, 1])  # of clips 0 and 1 the conditions 0 and 1
    assert torch.allclose(shown.views["waveform"][:, 0], 1.0 + shown.section[:, 1])


def test_beta_of_a_small_alpha_mixes_little() -> None:
    def near(alpha: float) -> float:
        mixing = PLAIN.model_copy(update={"mixup": 1.0, "mixup_alpha": alpha})
        shares = batch(lesson(level(2), mixing), np.tile([0, 1], 200), np.random.default_rng(0)).section.amax(1)
        return float((shares > 0.95).float().mean())

    assert near(0.2) > 2 * near(1.0)


def rare(tmp_path: Path, targets: int) -> list[Clip]:
    """Ten source clips of one speed, targets of two."""
    for number in range(10 + targets):
        domain = "source" if number < 10 else "target"
        name = f"section_00_{domain}_train_normal_{number:04d}_spd_{1 if number < 10 else 3 + number % 2}.wav"
        coloured(tmp_path / "set/fan/train" / name, 0.9, seed=number)
    return normals([tmp_path / "set"])


def test_virtual_targets_lie_between_real_ones_and_so_do_their_labels(tmp_path: Path) -> None:
    clips = rare(tmp_path, 2)
    training = Training(smote=0.5, holdout=0.0)
    taught = learn_from(clips, (), Recipe(method="grhd", training=training), Progress(disable=True))
    virtual = np.arange(12, len(taught.clips))

    assert virtual.size == 3  # up to half of ten
    assert taught.targets[virtual].all()
    real = np.flatnonzero(taught.targets[:12])
    one, other = (taught.clips[clip] for clip in real)
    for number in virtual:
        share = float(np.dot(taught.clips[number] - one, other - one) / np.dot(other - one, other - one))
        np.testing.assert_allclose(taught.clips[number], one + share * (other - one), atol=1e-5)
        expected = taught.labels[real].mixed(np.array([1 - share, 1 - share], np.float32), np.array([1, 0]))
        for made, wanted in zip(taught.labels[np.array([number])].rows(), expected.rows(), strict=True):
            np.testing.assert_allclose(made[0], wanted[0], atol=1e-4)


@pytest.mark.parametrize("targets", [0, 1])
def test_where_there_is_nothing_between_no_target_is_made(
    targets: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taught = learn_from(rare(tmp_path, targets), (), Recipe(method="grhd", training=Training(smote=0.5)), Progress())
    assert len(taught.clips) == 10 + targets
    said = " ".join(capsys.readouterr().out.split())
    assert ("set/fan/00: SMOTE needs two target clips and has one, so none is made" in said) == (targets == 1)


def test_who_trains_is_told_of_conditions_out_of_range(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, speed in enumerate((1, 2, 400)):
        coloured(tmp_path / f"set/fan/train/section_00_source_train_normal_{number:04d}_spd_{speed}.wav", 0.5, seed=0)
    clips, recipe = normals([tmp_path / "set"]), Recipe(method="grhd", training=PLAIN)
    taught = learn_from(clips, (), recipe, Progress())

    assert taught.labels.condition.tolist() == [-50.0, -50.0, 50.0]
    said = " ".join(capsys.readouterr().out.split())
    assert "set/fan/00: conditions of 3 clips lie more than 50 from their mean" in said


def test_attributes_are_blocks_a_machine(tmp_path: Path) -> None:
    for machine, words in (("fan", ("spd_1", "spd_2")), ("valve", ("pat_A_v_1", "pat_B_v_1"))):
        for number, word in enumerate(words):
            coloured(
                tmp_path / f"set/{machine}/train/section_00_source_train_normal_{number:04d}_{word}.wav",
                0.5,
                seed=number,
            )
    taught = taught_by(normals([tmp_path / "set"]), PLAIN)

    assert taught.task.attributes == (("set/fan/00 spd", 2), ("set/valve/00 pat", 2))
    assert taught.labels.attributes.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert taught.labels.condition.tolist() == [-2.5, 2.5, -2.5, 2.5]
