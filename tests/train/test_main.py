from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from rich.progress import Progress

from edge_asd.bundle import BUILTIN
from edge_asd.errors import ConfigError
from edge_asd.render.performance import MACHINES
from train.corpus.clip import normals
from train.teach.fit import fit as resume
from train.teach.fit import load_network
from train.teach.recipe import Training, load_recipe
from train.teach.run import Run, create, load_run

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.train

ROOT = Path(__file__).parents[2]
ALONE = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads that wait for each other are slow on a busy computer
ENDLESS = 'method = "grhd"\n[training]\nepochs = 1000\nbatch = 4\n'


def train(*arguments: object, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, "-m", "train", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=ALONE, capture_output=True, text=True, timeout=60, check=False)


def imported(report: str) -> set[str]:
    """Top-level packages in what `-X importtime` says."""
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in report.splitlines() if line.count("|") == 2}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "set" / "fan" / "train"
    folder.mkdir(parents=True)
    for number in range(4):
        noise = 0.1 * np.random.default_rng(number).standard_normal(32_000)
        soundfile.write(folder / f"section_00_source_train_normal_{number:04d}_spd_{number % 2}.wav", noise, 16_000)
    return tmp_path / "set"


def test_help_lists_the_commands_without_loading_torch() -> None:
    answer = train("--help", python=("-X", "importtime"))
    assert answer.returncode == 0
    for command in ("data", "fit", "generate", "render", "crowd", "export", "evaluate", "sweep"):
        assert re.search(rf"\b{command}\b", answer.stdout)
    assert "typer" in imported(answer.stderr)
    assert not {"torch", "sklearn", "scipy", "onnxruntime"} & imported(answer.stderr)


def test_data_are_surveyed_in_plain_text_without_torch(data: Path) -> None:
    (data / "fan/train/section_00_source_train_normal_0004_spd_1.wav").write_bytes(b"no sound")
    answer = train("data", data, python=("-X", "importtime"))
    assert answer.returncode == 0, answer.stderr
    lines = [line.rstrip() for line in answer.stdout.splitlines()]
    assert lines[0] == "set/fan"
    assert lines[2].split() == ["00", "train", "5", "5", "0", "5", "0", "0", "5", "2.0", "0.1"]
    assert "groups of 00: 2: spd_0 2, spd_1 3" in lines
    assert any(line.startswith("! 1 unreadable: ") and "0004_spd_1.wav is no audio file" in line for line in lines)
    assert lines[-1].startswith("1 machines, 5 clips, 0.1 minutes, ")
    assert "\x1b" not in answer.stdout
    assert not {"torch", "sklearn", "scipy", "onnxruntime"} & imported(answer.stderr)


def test_a_crowd_is_rendered_without_torch_and_the_next_command_is_told(tmp_path: Path) -> None:
    few = ("--machine", "fan", "--individuals", 2, "--states", 2, "--clips", 1, "--seconds", 2, "--workers", 1)
    answer = train("crowd", "--out", tmp_path / "crowd", *few, python=("-X", "importtime"))
    assert answer.returncode == 0, answer.stderr
    assert "4 clips of 2 machines in 2 states each" in answer.stdout
    command = answer.stdout.splitlines()[-1].split()
    assert load_recipe(command[command.index("fit") + 1]).name == "subcluster-house_tiny"
    assert len(normals([tmp_path / "crowd"])) == 4
    assert "torch" not in imported(answer.stderr)


def test_a_survey_is_given_as_json(data: Path) -> None:
    answer = train("data", data, "--json")
    (machine,) = json.loads(answer.stdout)["machines"]
    assert (machine["name"], machine["rates"], machine["groups"]) == (
        "set/fan",
        {"16000": 4},
        {"00": {"spd_0": 2, "spd_1": 2}},
    )
    assert {oddity["kind"] for oddity in machine["oddities"]} == {"too_few", "no_target", "one_section"}


def test_statistics_are_fitted_without_torch_and_the_next_command_is_told(tmp_path: Path, data: Path) -> None:
    answer = train("fit", "statistics", "--data", data, "--out", tmp_path / "run", python=("-X", "importtime"))
    assert answer.returncode == 0, answer.stderr
    assert "statistics on 4 clips of 1 machines" in answer.stdout
    assert f"python -m train export {tmp_path / 'run'} --out run.asd" in answer.stdout
    assert "torch" not in imported(answer.stderr)
    assert load_run(tmp_path / "run").recipe.name == "statistics"


def test_render_names_every_machine_it_knows() -> None:
    said = " ".join(re.sub(r"[^\w,;.]", " ", train("render", "--help").stdout).split())
    assert f"{', '.join(MACHINES)}; all by default." in said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("fit", "grdh", "--data", "DATA", "--out", "RUN"), "no recipe 'grdh'; choose one of "),
        (("fit", "grhd", "--data", "NOWHERE", "--out", "RUN"), "no such folder: "),
        (("data", "NOWHERE"), "no such folder: "),
        (("data", "DATA", "--truth", "NOWHERE"), "no ground truth in "),
        (("export", "NOWHERE", "--out", "a.asd"), "is no run folder"),
        (("evaluate", "a.asd", "--data", "DATA", "--precision", "int4"), "no precision 'int4'; choose int8 or fp32"),
        (("evaluate", "a.asd", "--data", "DATA", "--protocol", "2024"), "choose 2020, 2021, or 2022 for it and later"),
        (("evaluate", BUILTIN, "--data", "DATA"), "no test clips in "),
        (
            ("evaluate", BUILTIN, "--data", "TESTS"),
            "no head for other/fan/07; it has rendered/fan/00, rendered/valve/00",
        ),
        (
            ("evaluate", BUILTIN, "--data", "TESTS", "--machine", "a/b/c"),
            "no machine 'a/b/c'; there are other/fan/07",
        ),
        (("render", "--out", "DATA"), "set is not empty, name a folder that is new or empty"),
        (("render", "--out", "RUN", "--machine", "moon"), "called 'moon', choose one of fan, valve"),
        (
            ("fit", "statistics", "--data", "DATA", "--out", "/proc/1/none"),
            "/proc/1/none: no such file or directory; name",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_an_error_is_one_line(tmp_path: Path, data: Path, arguments: tuple[str, ...], complaint: str) -> None:
    places = {"DATA": data, "RUN": tmp_path / "run", "NOWHERE": tmp_path / "nowhere", "TESTS": tmp_path / "other"}
    (tmp_path / "other" / "fan" / "test").mkdir(parents=True)
    soundfile.write(
        tmp_path / "other/fan/test/section_07_source_test_normal_0000_spd_1.wav", np.full(16_000, 0.1), 16_000
    )
    answer = train(*(places.get(argument, argument) for argument in arguments))
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.count("\n") == 1
    assert answer.stderr.startswith("error: ")
    assert complaint in answer.stderr
    assert not (tmp_path / "run").exists()


def test_an_unfinished_run_is_not_exported(tmp_path: Path, data: Path) -> None:
    source = next(data.rglob("*_0000_spd_0.wav"))
    shutil.copy(source, source.with_name(source.name.replace("0000", "0004")))  # five clips make a head
    create(Run(tmp_path / "run", load_recipe("grhd"), (data,)), normals([data]))
    answer = train("export", tmp_path / "run", "--out", tmp_path / "a.asd")

    said = "run holds no trained network; go on with the same command and --out\n"
    assert (answer.returncode, answer.stderr.endswith(said)) == (1, True), answer.stderr
    assert not (tmp_path / "a.asd").exists()


def test_ctrl_c_leaves_a_run_that_can_be_gone_on_with(
    tmp_path: Path, data: Path, eventually: Callable[..., Any]
) -> None:
    recipe, run = tmp_path / "endless.toml", tmp_path / "run"
    recipe.write_text(ENDLESS)
    command = [sys.executable, "-m", "train", "fit", str(recipe), "--data", str(data), "--out", str(run)]

    log = run / "log.jsonl"
    with subprocess.Popen(command, cwd=ROOT, env=ALONE, stderr=subprocess.PIPE, text=True) as process:
        try:
            # an epoch is logged just before it is saved: the second line says that the first one was
            eventually(lambda: log.exists() and log.read_text().count("\n") > 1, 60, "two epochs")
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=30)[1]
        finally:
            process.kill()
    assert process.returncode == 130
    assert said.endswith("stopped; the same command goes on from the last whole epoch\n")
    assert "Traceback" not in said
    endless = load_run(run)
    with pytest.raises(ConfigError, match=r"has \d+ of 1000 epochs; go on with the same command") as refusal:
        load_network(endless)

    done = int(re.findall(r"has (\d+) of", str(refusal.value))[0])
    one_more = Training(epochs=done + 1, batch=4)
    shorter = replace(endless, recipe=endless.recipe.model_copy(update={"training": one_more}))
    resume(shorter, normals([data]), (), Progress(disable=True))
    load_network(shorter)
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == list(range(done + 1))
