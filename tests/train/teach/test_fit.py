from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.progress import Progress

from edge_asd.errors import ConfigError
from edge_asd.signal.view import LogMel, log_mel
from tests.train.teach.test_lesson import PLAIN, SEGMENT, coloured, lesson
from train.corpus.clip import Clip, normals
from train.corpus.group import groups
from train.method.grhd import Embedder, Grhd, Settings
from train.teach.fit import _held, _settle, begin, fit, load_network
from train.teach.lesson import held_out
from train.teach.recipe import Recipe, Training, load_recipe
from train.teach.run import Run, create

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.train

SMALL = Training(epochs=2, batch=4, holdout=0.2)


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_batch_norm_settles_on_the_mean_of_plain_segments(mixup: float) -> None:
    torch.manual_seed(0)
    clips = [np.random.default_rng(n).standard_normal(SEGMENT).astype(np.float32) for n in range(4)]
    taught = lesson(clips, PLAIN.model_copy(update={"mixup": mixup}))
    network = Grhd(taught.task, Settings())
    weights = [parameter.detach().clone() for parameter in network.parameters()]
    _settle(network, taught, epoch=3)
    waves = torch.from_numpy(np.stack(clips))  # all of them, once, in one batch
    conv, norm = (network.embedder.backbone[0][layer] for layer in (0, 1))  # type: ignore[index]
    with torch.no_grad():
        image = torch.from_numpy(log_mel(LogMel(), waves.numpy()))
        heard = conv(torch.stack([(image + 20.0) / 20.0, network.embedder.tgram(waves)], dim=1))
    torch.testing.assert_close(norm.running_mean, heard.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, heard.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1
    assert all(map(torch.equal, weights, network.parameters()))


# Fitting --------------------------------------------------------------------------------------------------------------


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
    return create(Run(folder, Recipe(method="grhd", training=training), (data,)), clips), clips


def fitted(folder: Path, data: Path, training: Training = SMALL) -> Run:
    run, clips = begun(folder, data, training)
    fit(run, clips, (), Progress(disable=True))
    return run


def stopped(folder: Path, data: Path, after: int, bar: str) -> Run:
    run, clips = begun(folder, data)
    with pytest.raises(KeyboardInterrupt):
        fit(run, clips, (), Stopper(after, bar))
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
        load_network(broken)
    broken.log(epoch=9)  # as if the power had failed between an epoch's line and its checkpoint
    resumed = fitted(tmp_path / "broken", data)
    assert differing(unbroken, resumed) == []
    timeless = [[{**line, "seconds": 0, "memory_mb": 0} for line in lines(run)] for run in (unbroken, resumed)]
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
        assert {"loss", "l_rev", "l_sec", "l_att", "strength", "accuracy", "held_accuracy", "rate", "seconds"} <= set(
            line
        )
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
    held = held_out(clips, groups(clips, 0, LogMel()), one_epoch.holdout, np.random.default_rng(before.recipe.seed))
    assert held.any()
    for number in np.flatnonzero(held):
        coloured(clips[number].path, 0.0, seed=99)
    assert differing(before, fitted(tmp_path / "after", data, one_epoch)) == []
    coloured(clips[int(np.flatnonzero(~held)[0])].path, 0.0, seed=99)
    assert differing(before, fitted(tmp_path / "taught", data, one_epoch)) != []


def test_the_losses_of_two_steps_are_what_they_were(tmp_path: Path, data: Path) -> None:
    """Pinned in torch 2.11; a change here is a change of the method. Processors differ by up to 0.4 %."""
    run = fitted(tmp_path / "run", data, Training(epochs=1, batch=6, holdout=0.0))
    line = lines(run)[0]
    pinned = {"loss": 1.59724, "l_rev": 0.791287, "l_sec": 0.690424, "l_att": 0.827689}
    assert {name: line[name] for name in pinned} == pytest.approx(pinned, rel=1e-2)


def test_the_embedder_of_a_finished_run_is_the_trained_one(tmp_path: Path, data: Path) -> None:
    run = fitted(tmp_path / "run", data, SMALL.model_copy(update={"epochs": 1}))
    embedder, task = load_network(run)
    assert len(task.groups) == 4
    assert isinstance(embedder, Embedder)
    assert not embedder.training
    trained = tensors(run)
    for name, tensor in embedder.state_dict().items():
        assert torch.equal(tensor, trained[f"embedder.{name}"])


def test_masks_of_what_a_method_does_not_look_at_are_refused() -> None:
    recipe, plain = load_recipe("oevae"), lesson([np.zeros(SEGMENT, np.float32)] * 2, PLAIN)
    masking = PLAIN.model_copy(update={"augmentations": ("identity", "noise", "time_mask")})
    task = recipe.task(sections=plain.task.sections, groups=plain.task.groups, sizes=plain.task.sizes)
    with pytest.raises(ConfigError, match="augmentations time_mask hide parts of a log-mel, and oevae looks at none"):
        begin(replace(plain, recipe=recipe, training=masking, task=task))


def test_a_single_segment_is_too_little_to_train_on(tmp_path: Path) -> None:
    coloured(tmp_path / "set/fan/train/section_00_source_train_normal_0000_spd_1.wav", 0.5, seed=0)
    with pytest.raises(ConfigError, match=r"set: need at least two segments to train on, got 1; record more"):
        fitted(tmp_path / "run", tmp_path / "set")


@given(st.sets(st.integers(0, 5)), st.integers(2, 7))
@settings(max_examples=5)
def test_held_out_clips_are_judged_the_same_in_any_batches(held: set[int], size: int) -> None:
    torch.manual_seed(0)
    clips = [np.random.default_rng(n).standard_normal(SEGMENT).astype(np.float32) for n in range(6)]
    network = Grhd(lesson(clips, PLAIN).task, Settings())
    in_one, in_several = (
        _held(network, lesson(clips, PLAIN.model_copy(update={"batch": batch}), held=sorted(held)))
        for batch in (6, size)
    )
    for name in ("held_loss", "held_accuracy"):
        assert in_several.get(name) == (pytest.approx(in_one[name], rel=1e-4) if held else None)


def test_a_recipe_without_training_trains_nothing(tmp_path: Path, data: Path) -> None:
    clips = normals([data])
    run = create(Run(tmp_path / "run", Recipe(method="statistics"), (data,)), clips)
    fit(run, clips, (), Progress(disable=True))
    assert not run.checkpoint.exists()
    with pytest.raises(ConfigError, match="holds no trained network"):
        load_network(run)


DIED = """
import resource, signal, sys
from pathlib import Path
import train.teach.fit
from rich.progress import Progress
from train.teach.run import load_run

run = load_run(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))  # a checkpoint is larger
try:
    train.teach.fit.fit(run, run.clips(), (), Progress(disable=True))
except OSError as error:
    sys.exit(f"stopped: {error.strerror}")
"""


def test_a_disk_that_fills_up_leaves_the_last_good_checkpoint(tmp_path: Path, data: Path) -> None:
    """A limit on the size of files stands for it: the same failing write, without a file system of one's own."""
    run = stopped(tmp_path / "run", data, after=1, bar="epochs")
    before = run.checkpoint.read_bytes()
    died = subprocess.run([sys.executable, "-c", DIED, str(run.folder)], check=False, capture_output=True, text=True)
    assert died.stderr.strip().splitlines()[-1] == "stopped: File too large"
    assert run.checkpoint.read_bytes() == before
    assert not list(run.folder.glob(".*.part"))
    assert differing(fitted(tmp_path / "run", data), fitted(tmp_path / "unbroken", data)) == []


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_its_checkpoint(tmp_path: Path, data: Path) -> None:
    run, clips = begun(tmp_path / "run", data, Training(epochs=3, batch=4, rate=1e30, clip_gradient=0.0, targets=0))
    with pytest.raises(ConfigError, match=r"epoch \d: the loss is (nan|-?inf); train with a lower training\.rate"):
        fit(run, clips, (), Progress(disable=True))
