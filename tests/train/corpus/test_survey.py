from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress

from edge_asd.signal.health import Fault
from train.corpus.clip import Clip, scan
from train.corpus.survey import Heard, Machine, Range, Sound, as_json, hear, show, survey


def heard(number: int, sound: dict[str, Any] | None = None, complaint: str = "", **said: Any) -> Heard:  # noqa: ANN401
    """A clip as good data has them, but for what is said."""
    holds = {"seconds": 10.0, "rate": 16_000, "channels": 1, "level": -30.0, "peak": -10.0, "fault": None}
    one = Clip(
        Path(f"/s/fan/train/{number}.wav"),
        f"s/fan/0{number // 2 % 2}",
        ("A", "B")[number // 4 % 2],
        ("source", "target")[number % 2],  # type: ignore[arg-type]
        *("train", "normal", f"recording {number}"),  # type: ignore[arg-type]
    )
    made = None if complaint else Sound(**{**holds, "digest": f"sound {number}", **(sound or {})})
    return Heard(replace(one, **said), made, complaint)


def good(*changed: Heard) -> list[Heard]:
    """Two sections with two groups and both domains, and whatever else is given."""
    return [*(heard(number) for number in range(16)), *changed]


def kinds(some: list[Heard]) -> dict[str, str]:
    (machine,) = survey(some)
    return {oddity.kind: oddity.text for oddity in machine.oddities}


TEST = {"split": "test", "label": "normal"}
ONLY = "s/fan/00"


def test_good_data_have_nothing_odd() -> None:
    assert kinds(good(heard(20, **TEST), heard(21, split="test", label="anomaly"))) == {}


@pytest.mark.parametrize(
    ("some", "kind", "said"),
    [
        ([one for one in good() if one.clip.domain == "source"], "no_target", "section 00: no target clips"),
        ([one for one in good() if one.clip.key == ONLY], "one_section", "one section"),
        ([replace(one, clip=replace(one.clip, attribute="A")) for one in good()], "one_group", "one attribute group"),
        (good(heard(16, attribute="C")), "lone_clip", "section 00: groups of one clip: C: record more"),
        (
            [replace(one, clip=replace(one.clip, attribute="")) for one in good()],
            *("no_attributes", "section 01: no attributes: list them in a manifest.csv"),
        ),
        (good(heard(16, {"seconds": 6.0})), "mixed_lengths", "6.0 to 10.0 s long"),
        (good(heard(16, {"rate": 8_000})), "mixed_rates", "rates of 8000 (1 recordings), 16000 (16 recordings) Hz"),
        (good(heard(16, {"channels": 2})), "mixed_channels", "1 (16 recordings), 2 (1 recordings) channels"),
        (good(heard(16, {"channels": 2}, channel=3)), "several_channels", "1 with several channels: train/16.wav"),
        (good(heard(16, complaint="16.wav is empty")), "unreadable", "1 unreadable: 16.wav is empty: mend them"),
        (
            good(heard(16, {"digest": "sound 3"}, **TEST)),
            "copied_into_test",
            "1 test clips are copies of training clips",
        ),
        (good(heard(16, {"digest": "sound 3"})), "copies", "1 copies of other clips: train/16.wav"),
        (good(heard(16, recording="recording 3", **TEST)), "shared_recording", "1 test clips come from recordings"),
        (good(heard(16, label="anomaly")), "anomaly_in_train", "1 in train/ are not normal: train/16.wav"),
        (good(heard(16, {"fault": Fault.CLIPPING})), "clipping", "1 clipped: train/16.wav: lower the gain"),
        (good(heard(16, {"fault": Fault.SILENT})), "silent", "1 with digital silence: train/16.wav"),
        (good(heard(16, {"fault": Fault.STUCK})), "stuck", "1 with a stuck input: train/16.wav"),
        (good(heard(16, split="test", label="unknown")), "unlabelled", "1 of 1 test clips have no label"),
        (good(heard(16, **TEST)), "one_sided_test", "section 00: all labelled test clips are normal: not scorable"),
        (good(heard(16, key="s/fan/02")), "too_few", "section 02: 1 normal training clips, a head needs 5"),
        (good(heard(16, {"seconds": 1.9})), "short", "1 shorter than 2 s: train/16.wav"),
    ],
    ids=lambda value: value if isinstance(value, str) and "_" in value else "",
)
def test_what_is_odd_is_said_in_one_line(some: list[Heard], kind: str, said: str) -> None:
    (machine,) = survey(some)
    told = [oddity.text for oddity in machine.oddities if oddity.kind == kind]
    assert any(said in text for text in told)
    assert not any("\n" in oddity.text for oddity in machine.oddities)


def test_silent_recordings_are_no_copies_of_each_other() -> None:
    silent = [heard(16 + number, {"digest": "zeros", "fault": Fault.SILENT}) for number in range(3)]
    assert set(kinds(good(*silent))) == {"silent"}


def test_a_line_names_three_files_and_counts_the_rest() -> None:
    text = kinds(good(*(heard(16 + number, {"seconds": 1.0}) for number in range(8))))["short"]
    assert text.startswith("8 shorter than 2 s: train/16.wav, train/17.wav, train/18.wav and 5 more: ")


@given(st.lists(st.integers(0, 200), min_size=1, unique=True), st.randoms(use_true_random=False))
def test_every_clip_is_counted_once_whatever_the_order(numbers: list[int], random: Any) -> None:  # noqa: ANN401
    some = [heard(number, split=("train", "test", "supplemental")[number % 3]) for number in numbers]
    (machine,) = survey(some)
    assert sum(part.clips for part in machine.parts) == len(numbers)
    for part in machine.parts:
        assert sum(part.domains.values()) == sum(part.labels.values()) == part.clips
    assert sum(machine.rates.values()) == len(numbers)
    taught = Counter((one.clip.key[-2:], one.clip.attribute) for one in some if one.clip.split == "train")
    assert {(s, name): count for s, sizes in machine.groups.items() for name, count in sizes.items()} == taught
    random.shuffle(some)
    assert survey(some)[0].parts == machine.parts


# Real files -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Machine, ...]:
    """A machine with nearly everything wrong with it."""
    folder = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    sine = np.sin(np.arange(32_000) * 2 * np.pi * 440 / 16_000)
    sounds = {
        "train/section_00_source_train_normal_0000": 0.5 * sine,
        "train/section_00_source_train_normal_0001": np.clip(4.0 * sine, -1.0, 1.0),
        "train/section_00_target_train_normal_0002": np.zeros(32_000),
        "train/section_00_source_train_normal_0003": 0.1 * rng.normal(size=(48_000, 2)),
        "test/section_00_source_test_normal_0004": 0.5 * sine,
        "supplemental/section_00_noise_0001_": 0.1 * rng.normal(size=16_000),
    }
    for name, samples in sounds.items():
        path = folder / "[old] fan" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, 16_000, "FLOAT")
    # a tone that repeats itself to the last bit is no microphone's
    steps = (np.round(3_000 * sine) + rng.integers(-1, 2, sine.size)).astype(np.int16)
    soundfile.write(folder / "[old] fan/train/section_00_source_train_normal_0005.wav", steps, 16_000)
    soundfile.write(folder / "[old] fan/test/section_00_source_test_normal_0005.flac", steps, 16_000)
    (folder / "[old] fan/test/section_00_0006.wav").write_bytes(b"RIFF")
    with Progress(disable=True) as progress:
        return tuple(survey(hear(scan([folder]), progress)))


def test_files_are_measured(machines: tuple[Machine, ...]) -> None:
    (machine,) = machines
    assert (machine.rates, machine.channels) == ({16_000: 8}, {1: 7, 2: 1})
    assert machine.peak
    assert (machine.peak.least, machine.peak.most) == (-120.0, pytest.approx(0.0, abs=1e-6))
    assert machine.level
    one_period = np.clip(4.0 * np.sin(np.linspace(0.0, 2 * np.pi, 10_001)), -1.0, 1.0)
    assert machine.level.most == pytest.approx(10 * np.log10(np.mean(one_period**2)), abs=0.01)
    assert {(part.split, part.clips) for part in machine.parts} == {("train", 5), ("test", 3), ("supplemental", 1)}
    (train,) = (part for part in machine.parts if part.split == "train")
    assert train.seconds == Range(2.0, 2.0, 3.0)
    assert train.minutes == pytest.approx(11 / 60)


def test_files_are_found_wanting(machines: tuple[Machine, ...]) -> None:
    told = {oddity.kind: oddity.text for oddity in machines[0].oddities}
    assert "test/section_00_source_test_normal_0005.flac" in told["copied_into_test"]  # another kind of file
    assert told["copied_into_test"].startswith("2 test clips are copies")
    assert "train/section_00_source_train_normal_0001.wav" in told["clipping"]
    assert "train/section_00_target_train_normal_0002.wav" in told["silent"]
    assert "train/section_00_source_train_normal_0003.wav" in told["several_channels"]
    assert "section_00_0006.wav" in told["unreadable"]
    assert "supplemental/section_00_noise_0001_.wav" in told["short"]
    assert told["unlabelled"].startswith("1 of 3 test clips have no label")


def test_what_is_shown_holds_all_of_it_even_names_like_markup(machines: tuple[Machine, ...]) -> None:
    text = io.StringIO()
    show(machines, Console(file=text))
    lines = text.getvalue().splitlines()
    assert lines[0].strip().endswith("[old] fan")
    rows = [line.split() for line in lines if line.startswith("00 ")]
    assert [row[:-2] for row in rows] == [
        ["00", "supplemental,", "1", "noise", "1", "1", "0", "0", "0", "1", "1"],
        ["00", "test", "3", "3", "0", "2", "0", "1", "3"],
        ["00", "train", "5", "4", "1", "5", "0", "0", "5"],
    ]
    assert [line[2:] for line in lines if line.startswith("! ")] == [oddity.text for oddity in machines[0].oddities]
    assert lines[-1] == f"1 machines, 9 clips, 0.3 minutes, {len(machines[0].oddities)} oddities"


def test_a_program_can_read_all_of_it(machines: tuple[Machine, ...]) -> None:
    (machine,) = json.loads(json.dumps(as_json(machines)))["machines"]
    assert machine["parts"][0] == {
        "section": "00",
        "split": "supplemental",
        "clips": 1,
        "domains": {"source": 1},
        "labels": {"unknown": 1},
        "roles": {"noise": 1},
        "recordings": 1,
        "seconds": {"least": 1.0, "median": 1.0, "most": 1.0},
        "minutes": pytest.approx(1 / 60),
    }
    assert [oddity["kind"] for oddity in machine["oddities"]] == [oddity.kind for oddity in machines[0].oddities]
