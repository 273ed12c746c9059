from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_asd.errors import ConfigError
from train.corpus.clip import scan

if TYPE_CHECKING:
    from pathlib import Path

FILE = "ground_truth_fan_section_00_test.csv"


def clips(tmp_path: Path, *names: str) -> Path:
    """A data set of empty files."""
    for name in names:
        (tmp_path / "eval" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "eval" / name).touch()
    return tmp_path / "eval"


def evaluator(tmp_path: Path, labels: str, domains: str = "", file: str = FILE) -> Path:
    """The folder of an official evaluator."""
    for folder, text in (("ground_truth_data", labels), ("ground_truth_domain", domains)):
        if text:
            (tmp_path / "evaluator" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "evaluator" / folder / file).write_text(text)
    return tmp_path / "evaluator"


def told(folder: Path, truth: Path) -> dict[str, tuple[str, str]]:
    return {clip.path.name: (clip.label, clip.domain) for clip in scan([folder], truth=truth)}


@pytest.mark.parametrize("named", [".", "ground_truth_data"])
def test_label_and_domain_of_a_nameless_clip_come_from_the_evaluator(tmp_path: Path, named: str) -> None:
    folder = clips(tmp_path, "fan/test/section_00_0000.wav", "fan/test/section_00_0001.wav")
    truth = evaluator(
        tmp_path, "section_00_0000.wav,0\nsection_00_0001.wav,1\n", "section_00_0000.wav,1\nsection_00_0001.wav,0\n"
    )
    assert told(folder, truth / named) == {
        "section_00_0000.wav": ("normal", "target"),
        "section_00_0001.wav": ("anomaly", "source"),
    }


def test_the_domain_may_stand_in_the_name_as_in_2021(tmp_path: Path) -> None:
    name = "section_03_target_test_0000.wav"
    folder = clips(tmp_path, f"fan/target_test/{name}")
    truth = evaluator(tmp_path, f"{name},1\n", file="ground_truth_fan_section_03_target_test.csv")
    assert told(folder, truth) == {name: ("anomaly", "target")}


def test_both_domains_files_of_2021_are_read(tmp_path: Path) -> None:
    names = [f"section_03_{domain}_test_0000.wav" for domain in ("source", "target")]
    folder = clips(tmp_path, f"fan/source_test/{names[0]}", f"fan/target_test/{names[1]}")
    for name, domain in zip(names, ("source", "target"), strict=True):
        truth = evaluator(tmp_path, f"{name},1\n", file=f"ground_truth_fan_section_03_{domain}_test.csv")
    assert told(folder, truth) == {names[0]: ("anomaly", "source"), names[1]: ("anomaly", "target")}


def test_the_list_of_2020_is_read(tmp_path: Path) -> None:
    folder = clips(tmp_path, "fan/test/id_01_00000000.wav", "pump/test/id_01_00000000.wav")
    truth = tmp_path / "evaluator"
    truth.mkdir()
    (truth / "eval_data_list.csv").write_text(
        "fan\nid_01_00000000.wav,normal_id_01_00000000.wav,0\npump\nid_01_00000000.wav,anomaly_id_01_00000000.wav,1\n"
    )
    labels = {clip.key: (clip.label, clip.domain) for clip in scan([folder], truth=truth)}
    assert labels == {"eval/fan/01": ("normal", "source"), "eval/pump/01": ("anomaly", "source")}


def test_training_clips_labelled_names_and_other_machines_are_left_as_they_are(tmp_path: Path) -> None:
    labelled = "section_00_target_test_normal_0001.wav"
    folder = clips(
        tmp_path,
        "fan/train/section_00_0000.wav",
        "fan/test/section_00_0000.wav",
        f"fan/test/{labelled}",
        "pump/test/section_00_0000.wav",
    )
    truth = evaluator(tmp_path, f"section_00_0000.wav,1\n{labelled},1\n", f"section_00_0000.wav,0\n{labelled},0\n")
    found = {(clip.key, clip.split, clip.path.name): (clip.label, clip.domain) for clip in scan([folder], truth=truth)}
    assert found == {
        ("eval/fan/00", "train", "section_00_0000.wav"): ("normal", "source"),
        ("eval/fan/00", "test", "section_00_0000.wav"): ("anomaly", "source"),
        ("eval/fan/00", "test", labelled): ("normal", "target"),
        ("eval/pump/00", "test", "section_00_0000.wav"): ("unknown", "source"),
    }


@pytest.mark.parametrize(
    ("labels", "domains", "said"),
    [
        ("section_00_0000.wav,2\n", "x", r"section_00_test.csv line 1: expected a file name and 0 or 1, got '.*,2'"),
        ("\nsection_00_0000.wav\n", "x", "line 1: expected a file name and 0 or 1"),
        ("section_00_0007.wav,1\n", "section_00_0007.wav,1\n", "knows 1 clips of fan 00, but not section_00_0000.wav"),
        ("section_00_0000.wav,1\n", "", "neither gives its domain: add the evaluator's ground_truth_domain/"),
        ("", "section_00_0000.wav,1\n", "no ground truth in .*: expected ground_truth_data/ground_truth_MACHINE"),
    ],
    ids=["value", "no value", "another clip", "no domain", "no label"],
)
def test_ground_truth_that_does_not_fit_says_what_would(tmp_path: Path, labels: str, domains: str, said: str) -> None:
    folder = clips(tmp_path, "fan/test/section_00_0000.wav")
    truth = evaluator(tmp_path, labels, "section_00_0000.wav,0\n" if domains == "x" else domains)
    with pytest.raises(ConfigError, match=said):
        scan([folder], truth=truth)


def test_ground_truth_of_other_machines_is_refused(tmp_path: Path) -> None:
    folder = clips(tmp_path, "pump/test/section_00_0000.wav")
    truth = evaluator(tmp_path, "section_00_0000.wav,1\n")
    with pytest.raises(ConfigError, match=r"is about fan 00, but the test clips are of pump 00; name"):
        scan([folder], truth=truth)


def test_a_list_of_2020_without_labels_is_refused(tmp_path: Path) -> None:
    folder = clips(tmp_path, "fan/test/id_01_00000000.wav")
    (tmp_path / "eval_data_list.csv").write_text("fan\nid_01_00000000.wav,id_01_00000000.wav\n")
    with pytest.raises(ConfigError, match=r"eval_data_list.csv line 2: expected id_05"):
        scan([folder], truth=tmp_path)


def test_a_ground_truth_that_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = clips(tmp_path, "fan/test/section_00_0000.wav")
    truth = evaluator(tmp_path, "x")
    (truth / "ground_truth_data" / FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"section_00_test.csv is no table: .*; fetch it again"):
        scan([folder], truth=truth)
