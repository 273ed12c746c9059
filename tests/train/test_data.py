from __future__ import annotations

import csv
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.errors import AudioError, ConfigError
from train.data import load, scan

HEADER = "file,machine,section,attribute,domain,split,label,recording,noise"
ROW = "test/a.wav,pump,01,fast,target,test,anomaly,rec7,rain"


def touch(folder: Path, *names: str) -> Path:
    """Files whose names are all that counts."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def manifest(folder: Path, *rows: str, header: str = HEADER) -> Path:
    touch(folder, *(row.split(",")[0] for row in rows))
    (folder / "manifest.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder


# Where data sets are --------------------------------------------------------------------------------------------------

NORMAL = "section_00_source_train_normal_0000_car_A1.wav"


@pytest.mark.parametrize("named", [".", "dev", "dev/fan"], ids=["two above", "one above", "itself"])
def test_a_machine_has_one_name_from_wherever_it_is_looked_at(tmp_path: Path, named: str) -> None:
    touch(tmp_path, f"dev/fan/train/{NORMAL}")
    assert [clip.key for clip in scan([tmp_path / named])] == ["dev/fan/00"]


def test_a_data_set_named_twice_is_read_once(tmp_path: Path) -> None:
    touch(tmp_path, f"dev/fan/train/{NORMAL}")
    assert len(scan([tmp_path, tmp_path / "dev/fan", tmp_path / "dev/../dev"])) == 1


def test_machines_of_one_name_in_two_sets_stay_apart(tmp_path: Path) -> None:
    touch(tmp_path, f"a/fan/train/{NORMAL}", f"b/fan/train/{NORMAL}")
    manifest(tmp_path / "c", ROW.replace("pump,01", "fan,00"))
    assert [clip.key for clip in scan([tmp_path])] == ["a/fan/00", "b/fan/00", "c/fan/00"]


def test_one_identity_in_two_places_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, f"x/raw/fan/train/{NORMAL}", f"y/raw/fan/train/{NORMAL}")
    with pytest.raises(ConfigError, match=r"x/raw/fan, .*y/raw/fan both hold raw/fan/00: rename"):
        scan([tmp_path / "x", tmp_path / "y"])


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such folder: .*nowhere"):
        scan([tmp_path / "nowhere"])


def test_a_folder_without_data_sets_says_what_one_looks_like(tmp_path: Path) -> None:
    touch(tmp_path, f"one/two/three/train/{NORMAL}")
    with pytest.raises(ConfigError, match=r"expected a folder with train/ or test/ in it, at most 2 folders down"):
        scan([tmp_path])


def test_a_data_set_without_recordings_says_which_files_count(tmp_path: Path) -> None:
    touch(tmp_path, "fan/train/notes.txt", f"fan/train/.{NORMAL}.part", f"fan/train/._{NORMAL}")
    with pytest.raises(ConfigError, match=r"no recordings in .*: expected .wav or .flac files"):
        scan([tmp_path])


# Manifest -------------------------------------------------------------------------------------------------------------


def test_a_manifest_is_believed_before_attributes_and_names(tmp_path: Path) -> None:
    name = "section_09_source_train_normal_0000_car_A1.wav"
    folder = manifest(tmp_path / "set", f"train/{name},pump,01,fast,target,test,anomaly,rec7,rain")
    (folder / "attributes_09.csv").write_text(f"file_name,d1p,d1v\ntrain/{name},car,B2\n")
    (clip,) = scan([folder])
    assert clip.path == folder / "train" / name
    assert (clip.key, clip.attribute, clip.domain, clip.split) == ("set/pump/01", "fast", "target", "test")
    assert (clip.label, clip.recording, clip.noise) == ("anomaly", "rec7", "rain")


def test_a_file_that_the_manifest_does_not_list_is_no_clip(tmp_path: Path) -> None:
    folder = manifest(tmp_path, ROW)
    touch(folder, f"train/{NORMAL}")
    assert len(scan([folder])) == 1


def test_a_manifest_line_without_its_file_is_an_error(tmp_path: Path) -> None:
    (manifest(tmp_path, ROW) / "test/a.wav").unlink()
    with pytest.raises(ConfigError, match=r"manifest.csv line 2: no such file: 'test/a.wav'; fetch"):
        scan([tmp_path])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (ROW.replace("anomaly", "broken"), "line 2: label: .*'normal', 'anomaly' or 'unknown', got 'broken'"),
        (ROW.replace("target", "elsewhere"), "line 2: domain: .*'source' or 'target', got 'elsewhere'"),
        (ROW.replace("01", ""), "line 2: section: .*, got ''"),
        ("test/a.wav,pump", "line 2: section: .*, got None"),
    ],
    ids=["label", "domain", "empty section", "short line"],
)
def test_a_manifest_line_that_makes_no_sense_says_what_would(tmp_path: Path, row: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        scan([manifest(tmp_path, row)])


def test_a_machine_cannot_be_named_like_a_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="machine: "):
        scan([manifest(tmp_path, ROW.replace("pump", "../pump"))])


def test_a_manifest_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    assert scan([manifest(tmp_path, ROW, header="\ufeff" + HEADER)])


def test_clips_of_unknown_recordings_are_taken_as_independent(tmp_path: Path) -> None:
    manifest(tmp_path, ROW.replace("rec7", ""), ROW.replace("rec7", "").replace("a.wav", "b.wav"))
    assert len({clip.recording for clip in scan([tmp_path])}) == 2


# Attributes and names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["fan/train/", "train/", ""])
def test_attributes_come_from_the_table_wherever_it_says_the_file_is(tmp_path: Path, prefix: str) -> None:
    touch(tmp_path, f"fan/train/{NORMAL}")
    table = tmp_path / "fan/attributes_00.csv"
    table.write_text(f"file_name,d1p,d1v,d2p,d2v\n{prefix}{NORMAL},car,A1,spd,28V\n")
    assert [clip.attribute for clip in scan([tmp_path])] == ["A1_28V"]


@pytest.mark.parametrize(
    ("name", "section", "domain", "label", "attribute"),
    [
        (
            "section_00_source_train_normal_0000_car_A1_spd_28V_mic_1_noise_-6dB",
            "00",
            "source",
            "normal",
            "A1_28V_1_-6dB",
        ),
        ("section_02_target_test_anomaly_0049_vel_10", "02", "target", "anomaly", "10"),
        ("section_00_source_test_normal_0001_noAttribute", "00", "source", "normal", ""),
        ("section_00_source_test_normal_0001_", "00", "source", "normal", ""),
        ("section_00_target_normal_0003_wt_1_2_bg_3", "00", "target", "normal", "wt_1_2_bg_3"),
        ("section_00_source_test_anomaly_0002_mic0", "00", "source", "anomaly", "mic0"),
        ("section_00_source_test_anomaly_001", "00", "source", "anomaly", ""),
        ("section_03_source_test_0000", "03", "source", "unknown", ""),
        ("section_00_0199", "00", "source", "unknown", ""),
    ],
)
def test_a_file_name_says_what_it_can(
    tmp_path: Path, name: str, section: str, domain: str, label: str, attribute: str
) -> None:
    (clip,) = scan([touch(tmp_path, f"fan/test/{name}.wav")])
    assert (clip.key, clip.domain, clip.label, clip.attribute) == (
        f"{tmp_path.name}/fan/{section}",
        domain,
        label,
        attribute,
    )


def test_what_lies_in_train_is_normal_where_the_name_does_not_say(tmp_path: Path) -> None:
    touch(tmp_path, "fan/train/section_00_0000.flac", "fan/test/section_00_0001.WAV")
    assert {clip.split: clip.label for clip in scan([tmp_path])} == {"train": "normal", "test": "unknown"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("normal_id_01_00000000.wav", "expected a name like section_00_source_train_normal_0000"),
        ("section_00_source_test_broken_0000.wav", "label: .*got 'broken'"),
    ],
)
def test_a_file_name_that_makes_no_sense_says_what_would(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        scan([touch(tmp_path, f"fan/test/{name}")])


@given(st.permutations([f"{d}/{m}/test/section_0{i}_0000.wav" for d in "ab" for m in ("fan", "pump") for i in (0, 1)]))
def test_the_order_of_clips_does_not_depend_on_the_disk(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = touch(tmp_path_factory.mktemp("sets"), *names)
    clips = scan([folder])
    assert [str(clip.path.relative_to(folder)) for clip in clips] == sorted(names)


# Samples --------------------------------------------------------------------------------------------------------------


def test_a_clip_is_loaded_at_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    path = touch(tmp_path, f"fan/train/{NORMAL}") / "fan/train" / NORMAL
    tone = np.sin(np.arange(8000) * 2 * np.pi * 440 / 8000).astype(np.float32) / 2
    soundfile.write(path, tone, 8000, "FLOAT")
    (clip,) = scan([tmp_path])
    assert np.array_equal(load(clip, 8000), tone)
    assert load(clip, 16_000).size == 16_000


def test_a_clip_that_is_gone_is_an_audio_error(tmp_path: Path) -> None:
    touch(tmp_path, f"fan/train/{NORMAL}")
    (clip,) = scan([tmp_path])
    with pytest.raises(AudioError, match="is no file"):
        load(replace(clip, path=tmp_path / "gone.wav"), 16_000)


@pytest.mark.recordings
def test_the_recordings_are_what_their_readme_says(recordings: Path) -> None:
    clips = [clip for clip in scan([recordings / "valve"]) if clip.key == "valve/valve/00"]
    assert Counter((clip.split, clip.domain, clip.label) for clip in clips if clip.label == "normal") == {
        ("train", "source", "normal"): 26,
        ("train", "target", "normal"): 5,
        ("test", "source", "normal"): 12,
        ("test", "target", "normal"): 20,
    }
    assert sum(clip.label == "anomaly" for clip in clips) == 51


@pytest.mark.recordings
def test_without_its_manifest_a_set_is_read_from_its_names(recordings: Path, tmp_path: Path) -> None:
    """Names of the real recordings, the manifest as the answer."""
    with (recordings / "valve/manifest.csv").open(encoding="utf-8") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    for split in ("train", "test"):
        shutil.copytree(
            recordings / "valve" / split, tmp_path / "dev/valve" / split, copy_function=lambda _, to: Path(to).touch()
        )
    for clip in scan([tmp_path]):
        row = rows[str(clip.path.relative_to(tmp_path / "dev/valve"))]
        assert (clip.domain, clip.split, clip.label) == (row["domain"], row["split"], row["label"])
        assert f"pat_{clip.attribute}" == row["attribute"]
