from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.progress import Progress

from edge_asd.errors import ConfigError
from edge_asd.signal.view import log_mel
from train.data import Clip, normals
from train.fit import (
    Lesson,
    _batch,
    _batches,
    _group,
    _held_accuracy,
    _held_out,
    _settle,
    fit,
    learn_from,
    load_embedder,
)
from train.grhd import Embedder, Grhd
from train.recipe import GrhdSettings, Recipe, Training
from train.run import Run, create

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.train

SEGMENT = 32_000
PLAIN = Training(batch=4, mixup=0.0, gain_db=0.0, targets=0)
SMALL = Training(epochs=2, batch=4, holdout=0.2)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy computer are 25 times as slow as one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Crops and batches ----------------------------------------------------------------------------------------------------


def lesson(
    clips: Sequence[NDArray[np.float32]], training: Training, targets: Sequence[int] = (), held: Sequence[int] = ()
) -> Lesson:
    """Every clip its own section and group."""
    numbers = np.arange(len(clips))
    recipe = Recipe(name="grhd", training=training)
    marks = np.isin(numbers, targets), np.isin(numbers, held)
    return Lesson(recipe, training, list(clips), numbers, numbers, *marks)


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
    _, waves, _, group = _batch(lesson(clips, PLAIN), chosen, np.random.default_rng(seed))
    number, start = np.divmod(waves[:, 0].numpy().astype(np.int64), 2**18)
    np.testing.assert_array_equal(number, chosen)
    np.testing.assert_array_equal(group.argmax(1), chosen)
    for wave, clip, first in zip(waves.numpy(), chosen, start, strict=True):
        np.testing.assert_array_equal(wave, clips[clip][first : first + SEGMENT])


def test_crops_reach_the_whole_clip() -> None:
    clips = counting([SEGMENT + 1])
    _, waves, *_ = _batch(lesson(clips, PLAIN), np.zeros(32, np.int64), np.random.default_rng(0))
    assert set(waves[:, 0].tolist()) == {0.0, 1.0}


def test_the_network_is_shown_the_views_of_a_device() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal(2 * SEGMENT).astype(np.float32) for _ in range(3)]
    taught = lesson(clips, Training(mixup=1.0))
    image, waves, *_ = _batch(taught, np.arange(3), rng)
    np.testing.assert_array_equal(image, log_mel(taught.recipe.front_end, waves.numpy()))


@given(st.integers(1, 8), st.integers(0, 99))
def test_soft_labels_sum_to_one_and_say_what_was_mixed(count: int, seed: int) -> None:
    mixing = PLAIN.model_copy(update={"mixup": 1.0})
    chosen = np.random.default_rng(seed).permutation(count)
    _, waves, section, group = _batch(lesson(level(count), mixing), chosen, np.random.default_rng(seed))
    torch.testing.assert_close(group.sum(1), torch.ones(count))
    torch.testing.assert_close(section, group)
    levels = group @ torch.arange(1.0, count + 1)
    torch.testing.assert_close(waves, levels[:, None].expand(count, SEGMENT), rtol=1e-5, atol=1e-5)
    partners = {frozenset(row.nonzero().flatten().tolist()) for row in group}
    assert all(len(pair) <= 2 for pair in partners)


def test_only_the_share_that_was_asked_for_is_mixed() -> None:
    half = PLAIN.model_copy(update={"mixup": 0.5})
    _, _, _, group = _batch(lesson(level(64), half), np.arange(64), np.random.default_rng(0))
    assert 20 <= int((group.max(1).values < 1).sum()) <= 44


def test_gain_stays_within_its_decibels_either_way() -> None:
    loud = PLAIN.model_copy(update={"gain_db": 3.0})
    _, waves, *_ = _batch(lesson(level(1), loud), np.zeros(64, np.int64), np.random.default_rng(0))
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
    batches = list(_batches(lesson(clips, training, held=[0]), np.random.default_rng(seed)))
    due = Counter({number: length // SEGMENT for number, length in enumerate(lengths) if number})
    seen = Counter(np.concatenate(batches).tolist()) if batches else Counter()
    alone = due.total() % size == 1  # a last segment that batch norm cannot take
    assert not seen - due
    assert (due - seen).total() == int(alone)
    assert all(1 < len(batch) <= size for batch in batches)


@given(sources=st.integers(1, 30), targets=st.integers(1, 3), least=st.integers(1, 3), seed=st.integers(0, 99))
def test_every_batch_holds_the_target_domain(sources: int, targets: int, least: int, seed: int) -> None:
    training = PLAIN.model_copy(update={"targets": least})
    count = sources + targets + 1
    marks = range(sources, count)
    rare = lesson(level(count), training, targets=marks, held=[count - 1])
    for batch in _batches(rare, np.random.default_rng(seed)):
        assert np.isin(batch, marks).sum() >= least
        assert count - 1 not in batch


# Classes and held-out recordings --------------------------------------------------------------------------------------

some_clips = st.lists(
    st.builds(
        Clip,
        path=st.none(),
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


@given(some_clips, st.floats(0, 0.9), st.integers(0, 99))
def test_whole_recordings_are_held_out_and_never_all_of_a_group(clips: list[Clip], share: float, seed: int) -> None:
    held = _held_out(clips, share, np.random.default_rng(seed))
    assert {_group(clip) for clip, out in zip(clips, held, strict=True) if not out} == set(map(_group, clips))
    places: dict[tuple[str, str], set[bool]] = {}
    for clip, out in zip(clips, held, strict=True):
        places.setdefault((clip.key, clip.recording), set()).add(bool(out))
    assert all(len(where) == 1 for where in places.values())
    assert share or not held.any()


def test_about_the_share_that_was_asked_for_is_held_out() -> None:
    one = Clip(None, "s/fan/00", "A", "source", "train", "normal", "")  # type: ignore[arg-type]
    clips = [replace(one, recording=str(number // 2)) for number in range(200)]
    assert _held_out(clips, 0.1, np.random.default_rng(0)).sum() == 20


def test_a_recording_that_is_most_of_the_data_is_not_held_out() -> None:
    one = Clip(None, "s/fan/00", "A", "source", "train", "normal", "long")  # type: ignore[arg-type]
    clips = [one] * 60 + [replace(one, recording=str(number)) for number in range(40)]
    for seed in range(20):
        held = _held_out(clips, 0.1, np.random.default_rng(seed))
        assert held.sum() == 10
        assert not held[:60].any()


def test_a_group_is_one_condition_of_one_machine_or_else_one_domain_of_it() -> None:
    fan = Clip(None, "s/fan/00", "A", "source", "train", "normal", "")  # type: ignore[arg-type]
    assert _group(fan) == _group(replace(fan, domain="target"))
    assert _group(fan) != _group(replace(fan, key="s/fan/01"))
    unknown = replace(fan, attribute="")
    assert len({_group(fan), _group(unknown), _group(replace(unknown, domain="target"))}) == 3


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_batch_norm_settles_on_the_mean_of_plain_segments(mixup: float) -> None:
    torch.manual_seed(0)
    network = Grhd(4, [1] * 4, GrhdSettings())
    clips = [np.random.default_rng(n).standard_normal(SEGMENT).astype(np.float32) for n in range(4)]
    weights = [parameter.detach().clone() for parameter in network.parameters()]
    _settle(network, lesson(clips, PLAIN.model_copy(update={"mixup": mixup})), epoch=3)
    waves = torch.from_numpy(np.stack(clips))  # all of them, once, in one batch
    conv, norm = (network.embedder.backbone[0][layer] for layer in (0, 1))  # type: ignore[index]
    with torch.no_grad():
        image = torch.from_numpy(log_mel(Recipe(name="grhd", training=PLAIN).front_end, waves.numpy()))
        heard = conv(torch.stack([(image + 20.0) / 20.0, network.embedder.tgram(waves)], dim=1))
    torch.testing.assert_close(norm.running_mean, heard.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, heard.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1
    assert all(map(torch.equal, weights, network.parameters()))


# Fitting --------------------------------------------------------------------------------------------------------------


def coloured(path: Path, tilt: float, seed: int, seconds: float = 2.5) -> None:
    """Noise that two machines and two speeds tell apart by its spectrum."""
    noise = np.random.default_rng(seed).standard_normal(int(seconds * 16_000))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.05 * (noise[1:] + tilt * noise[:-1]), 16_000)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve clips of two machines in two domains, as DCASE lays them out."""
    for machine, tilt in (("fan", 0.9), ("pump", -0.9)):
        for domain, count in (("source", 4), ("target", 2)):
            for number in range(count):
                name = f"section_00_{domain}_train_normal_{number:04d}_spd_{domain[0]}.wav"
                coloured(tmp_path / "set" / machine / "train" / name, tilt * (1 + count) / 5, seed=number)
    return tmp_path / "set"


class Stopper(Progress):
    """Somebody who presses Ctrl-C after so many steps of a bar; an epoch's own bar, or that of all epochs."""

    def __init__(self, after: int, bar: str) -> None:
        super().__init__(disable=True)
        self.left, self.bar, self.bars = after, bar, dict[int, str]()

    def add_task(self, description: str, *args: Any, **settings: Any) -> Any:  # noqa: ANN401 - as rich has it
        """Remember whose bar it is."""
        task = super().add_task(description, *args, **settings)
        self.bars[task] = description
        return task

    def update(self, task_id: Any, **settings: Any) -> None:  # noqa: ANN401 - as rich has it
        """Press at the last of the steps."""
        super().update(task_id, **settings)
        self.left -= self.bars[task_id] == self.bar
        if self.left == 0:
            raise KeyboardInterrupt


def begun(folder: Path, data: Path, training: Training = SMALL) -> tuple[Run, list[Clip]]:
    clips = normals([data])
    return create(folder, Recipe(name="grhd", training=training), [data], clips), clips


def fitted(folder: Path, data: Path, training: Training = SMALL) -> Run:
    run, clips = begun(folder, data, training)
    fit(run, clips, Progress(disable=True))
    return run


def stopped(folder: Path, data: Path, after: int, bar: str) -> Run:
    run, clips = begun(folder, data)
    with pytest.raises(KeyboardInterrupt):
        fit(run, clips, Stopper(after, bar))
    return run


def tensors(run: Run) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run.checkpoint, weights_only=True)["network"]
    return state


def lines(run: Run) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]


def differing(a: Run, b: Run) -> list[str]:
    theirs = tensors(b)
    return [name for name, tensor in tensors(a).items() if not torch.equal(tensor, theirs[name])]


@pytest.mark.parametrize(("after", "bar"), [(1, "epochs"), (2, "epoch 2"), (1, "epoch 1")])
def test_a_stopped_run_ends_where_an_unbroken_one_does(tmp_path: Path, data: Path, after: int, bar: str) -> None:
    """Stopped between epochs, in the midst of the second, and before anything was saved."""
    unbroken = fitted(tmp_path / "unbroken", data)
    broken = stopped(tmp_path / "broken", data, after, bar)
    with pytest.raises(ConfigError, match=r"1 of 2 epochs|no trained network"):
        load_embedder(broken)
    broken.log(epoch=9)  # as if the power had failed between an epoch's line and its checkpoint
    resumed = fitted(tmp_path / "broken", data)
    assert differing(unbroken, resumed) == []
    timeless = [[{**line, "seconds": 0} for line in lines(run)] for run in (unbroken, resumed)]
    assert timeless[0] == timeless[1]


def test_every_epoch_cuts_and_mixes_anew(tmp_path: Path, data: Path) -> None:
    """With weights that stand still, only what is shown can change the loss."""
    still = SMALL.model_copy(update={"rate": 1e-30, "last_rate": 1e-30})
    first, second = lines(fitted(tmp_path / "run", data, still))
    assert first["l_sec"] != second["l_sec"]


def test_a_finished_run_is_not_trained_again(tmp_path: Path, data: Path) -> None:
    once = fitted(tmp_path / "run", data)
    before = once.checkpoint.read_bytes()
    assert fitted(tmp_path / "run", data).checkpoint.read_bytes() == before
    assert len(lines(once)) == SMALL.epochs


def test_the_log_has_a_line_an_epoch_with_every_loss(tmp_path: Path, data: Path) -> None:
    run = fitted(tmp_path / "run", data)
    said = lines(run)
    assert [line["epoch"] for line in said] == [0, 1]
    for line in said:
        assert {"loss", "l_rev", "l_sec", "l_att", "accuracy", "held_accuracy", "rate", "seconds"} <= set(line)
        loss = 0.1 * line["l_rev"] + line["l_sec"] + line["l_att"]  # eq. (6), methods.md's weights
        assert line["loss"] == pytest.approx(loss, rel=1e-5)
    assert said[0]["rate"] > said[1]["rate"] > SMALL.last_rate
    assert list(run.folder.glob("events.out.tfevents.*"))


def test_the_rate_follows_a_cosine_over_the_whole_run(tmp_path: Path, data: Path) -> None:
    run = fitted(tmp_path / "run", data, Training(epochs=2, batch=6, holdout=0.0))  # 2 batches an epoch
    cosine = [1e-5 + (1e-3 - 1e-5) * (1 + np.cos(np.pi * done)) / 2 for done in (0.25, 0.75)]
    assert [line["rate"] for line in lines(run)] == pytest.approx(cosine)


def test_nothing_is_learned_from_held_out_recordings(tmp_path: Path, data: Path) -> None:
    """Other sounds in them leave the weights as they were, to the last bit."""
    one_epoch = SMALL.model_copy(update={"epochs": 1})
    before = fitted(tmp_path / "before", data, one_epoch)
    clips = normals([data])
    held = _held_out(clips, one_epoch.holdout, np.random.default_rng(before.recipe.seed))
    assert held.any()
    for number in np.flatnonzero(held):
        coloured(clips[number].path, 0.0, seed=99)
    assert differing(before, fitted(tmp_path / "after", data, one_epoch)) == []
    coloured(clips[int(np.flatnonzero(~held)[0])].path, 0.0, seed=99)
    assert differing(before, fitted(tmp_path / "taught", data, one_epoch)) != []


def test_the_losses_of_two_steps_are_what_they_were(tmp_path: Path, data: Path) -> None:
    """Pinned on a CPU in torch 2.11; a change here is a change of the method."""
    run = fitted(tmp_path / "run", data, Training(epochs=1, batch=6, holdout=0.0))
    line = lines(run)[0]
    pinned = {"loss": 1.59724, "l_rev": 0.791287, "l_sec": 0.690424, "l_att": 0.827689}
    assert {name: line[name] for name in pinned} == pytest.approx(pinned, rel=1e-3)


def test_the_embedder_of_a_finished_run_is_the_trained_one(tmp_path: Path, data: Path) -> None:
    run = fitted(tmp_path / "run", data, SMALL.model_copy(update={"epochs": 1}))
    embedder = load_embedder(run)
    assert isinstance(embedder, Embedder)
    assert not embedder.training
    trained = tensors(run)
    for name, tensor in embedder.state_dict().items():
        assert torch.equal(tensor, trained[f"embedder.{name}"])


def test_a_single_segment_is_too_little_to_train_on(tmp_path: Path) -> None:
    coloured(tmp_path / "set/fan/train/section_00_source_train_normal_0000_spd_1.wav", 0.5, seed=0)
    with pytest.raises(ConfigError, match=r"set: need at least two segments to train on, got 1; record more"):
        fitted(tmp_path / "run", tmp_path / "set")


@given(st.sets(st.integers(0, 5)), st.integers(2, 7))
@settings(max_examples=5)
def test_held_out_clips_are_classified_the_same_in_any_batches(held: set[int], size: int) -> None:
    torch.manual_seed(0)
    network = Grhd(6, [1] * 6, GrhdSettings())
    clips = [np.random.default_rng(n).standard_normal(SEGMENT).astype(np.float32) for n in range(6)]
    in_one, in_several = (
        _held_accuracy(network, lesson(clips, PLAIN.model_copy(update={"batch": batch}), held=sorted(held)))
        for batch in (6, size)
    )
    assert in_several == pytest.approx(in_one)
    assert bool(in_one) == bool(held)


def test_a_recipe_without_training_trains_nothing(tmp_path: Path, data: Path) -> None:
    clips = normals([data])
    run = create(tmp_path / "run", Recipe(name="statistics"), [data], clips)
    fit(run, clips, Progress(disable=True))
    assert not run.checkpoint.exists()
    with pytest.raises(ConfigError, match="holds no trained network"):
        load_embedder(run)


def test_a_short_clip_is_repeated_up_to_one_segment(tmp_path: Path) -> None:
    coloured(tmp_path / "set/fan/train/section_00_source_train_normal_0000_spd_1.wav", 0.5, seed=0, seconds=1.5)
    clips = normals([tmp_path / "set"])
    recipe = Recipe(name="grhd", training=SMALL)
    taught = learn_from(clips, recipe, SMALL, Progress(disable=True))
    (samples,) = taught.clips
    assert samples.size == SEGMENT
    np.testing.assert_array_equal(samples[23_999:], samples[: SEGMENT - 23_999])
