from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress

from edge_asd.errors import AudioError, ConfigError
from train.corpus.clip import checked, load, normals, scan, strangers

HEADER = "file,machine,section,attribute,domain,split,label,recording,noise"
ROW = "test/a.wav,pump,01,fast,target,test,anomaly,rec7,rain"


def touch(folder: Path, *names: str) -> Path:
    """Files whose names are all that counts."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def record(path: Path, seconds: float = 0.1, channels: int = 1, rate: int = 16_000) -> Path:
    """A recording; its second channel is the first one's negative."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(int(1e6 * seconds)).standard_normal(int(seconds * rate))
    soundfile.write(path, np.stack([noise * (-1) ** channel for channel in range(channels)], axis=-1), rate)
    return path


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
    assert [clip.attribute for clip in scan([tmp_path])] == ["car_A1_spd_28V"]


@pytest.mark.parametrize(
    ("name", "section", "domain", "label", "attribute"),
    [
        (
            "section_00_source_train_normal_0000_car_A1_spd_28V_mic_1_noise_-6dB",
            "00",
            "source",
            "normal",
            "car_A1_spd_28V_mic_1_noise_-6dB",
        ),
        ("section_02_target_test_anomaly_0049_vel_10", "02", "target", "anomaly", "vel_10"),
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
        (
            "monday.wav",
            "monday.wav: expected a name like section_00_source_train_normal_0000_car_A1.wav, or a manifest",
        ),
        ("section_00_source_test_broken_0000.wav", "label: .*got 'broken'"),
    ],
)
def test_a_file_name_that_makes_no_sense_says_what_would(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        scan([touch(tmp_path, f"fan/test/{name}")])


def test_an_attribute_table_without_its_header_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, f"fan/train/{NORMAL}")
    (tmp_path / "fan/attributes_00.csv").write_text(f"{NORMAL},car,A1\n{NORMAL},car,A1\n")
    with pytest.raises(ConfigError, match=r"attributes_00.csv: expected the header file_name,d1p,d1v"):
        scan([tmp_path])


def test_a_table_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, f"fan/train/{NORMAL}")
    (tmp_path / "fan/manifest.csv").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(ConfigError, match=r"manifest.csv is no table: .*; save it as CSV in UTF-8"):
        scan([tmp_path])


@given(st.permutations([f"{d}/{m}/test/section_0{i}_0000.wav" for d in "ab" for m in ("fan", "pump") for i in (0, 1)]))
def test_the_order_of_clips_does_not_depend_on_the_disk(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = touch(tmp_path_factory.mktemp("sets"), *names)
    clips = scan([folder])
    assert [str(clip.path.relative_to(folder)) for clip in clips] == sorted(names)


# DCASE, year by year --------------------------------------------------------------------------------------------------

# name of the file -> section, attribute, domain, split, label, role
YEARS = {
    "2020": {
        "train/normal_id_01_00000000.wav": ("01", "", "source", "train", "normal", ""),
        "test/normal_id_01_00000000.wav": ("01", "", "source", "test", "normal", ""),
        "test/anomaly_id_01_00000000.wav": ("01", "", "source", "test", "anomaly", ""),
        "test/id_05_00000000.wav": ("05", "", "source", "test", "unknown", ""),
    },
    "2021": {
        "train/section_00_source_train_normal_0000_strength_1_ambient.wav": (
            *("00", "strength_1_ambient", "source", "train", "normal", ""),
        ),
        "train/section_00_target_train_normal_0000_strength_1_ambient.wav": (
            *("00", "strength_1_ambient", "target", "train", "normal", ""),
        ),
        "source_test/section_00_source_test_normal_0000.wav": ("00", "", "source", "test", "normal", ""),
        "target_test/section_00_target_test_anomaly_0000.wav": ("00", "", "target", "test", "anomaly", ""),
        "source_test/section_03_source_test_0000.wav": ("03", "", "source", "test", "unknown", ""),
        "target_test/section_03_0001.wav": ("03", "", "target", "test", "unknown", ""),
    },
    "2022": {
        "train/section_00_source_train_normal_0000_m-n_W.wav": ("00", "m-n_W", "source", "train", "normal", ""),
        "train/section_02_target_train_normal_0009_n-lv_L3.wav": ("02", "n-lv_L3", "target", "train", "normal", ""),
        "test/section_01_target_test_anomaly_0049_f-n_D.wav": ("01", "f-n_D", "target", "test", "anomaly", ""),
        "test/section_03_0000.wav": ("03", "", "source", "test", "unknown", ""),
    },
    "2023": {
        "train/section_00_source_train_normal_0000_car_A1_spd_28V_mic_1_noise_-6dB.wav": (
            *("00", "car_A1_spd_28V_mic_1_noise_-6dB", "source", "train", "normal", ""),
        ),
        "test/section_00_target_test_normal_0049_car_B1_spd_31V_mic_1_noise_1.wav": (
            *("00", "car_B1_spd_31V_mic_1_noise_1", "target", "test", "normal", ""),
        ),
        "test/section_00_0199.wav": ("00", "", "source", "test", "unknown", ""),
    },
    "2024": {
        "train/section_00_source_train_normal_0001_noAttribute.wav": ("00", "", "source", "train", "normal", ""),
        "train/section_00_target_normal_0002_weight35_BckgE.wav": (
            *("00", "weight35_BckgE", "target", "train", "normal", ""),
        ),
        "test/section_00_source_anomaly_0035_weight15_BckgF.wav": (
            *("00", "weight15_BckgF", "source", "test", "anomaly", ""),
        ),
    },
    "2025": {
        "supplemental/section_00_machine_0001_.wav": ("00", "", "source", "supplemental", "unknown", "machine"),
        "supplemental/section_00_noise_0002_.wav": ("00", "", "source", "supplemental", "unknown", "noise"),
        "train/section_00_target_train_normal_0009_.wav": ("00", "", "target", "train", "normal", ""),
        "test/section_00_source_test_anomaly_0049_.wav": ("00", "", "source", "test", "anomaly", ""),
    },
}


@pytest.mark.parametrize("year", YEARS)
def test_a_years_layout_is_read_as_it_is_distributed(tmp_path: Path, year: str) -> None:
    for number, name in enumerate(YEARS[year]):
        record(tmp_path / "dev_data" / "fan" / name, seconds=0.01 * (1 + number))
    clips = scan([tmp_path / "dev_data"])
    assert {
        f"{clip.path.parent.name}/{clip.path.name}": (
            *(clip.key.removeprefix("dev_data/fan/"), clip.attribute, clip.domain, clip.split, clip.label, clip.role),
        )
        for clip in clips
    } == YEARS[year]
    assert len(checked(clips)) == len(clips)
    learned = {clip.path.parent.name for clip in normals([tmp_path])}
    assert learned == {"train"}


@pytest.mark.parametrize("folder", ["train", "test", "supplemental"])
def test_a_supplemental_clip_is_never_learned_from_nor_tested_with(tmp_path: Path, folder: str) -> None:
    touch(tmp_path, f"fan/train/{NORMAL}", f"fan/{folder}/section_00_source_machine_normal_0001_.wav")
    (clip,) = (clip for clip in scan([tmp_path]) if clip.path.stem.endswith("_"))
    assert (clip.split, clip.label, clip.role) == ("supplemental", "unknown", "machine")
    assert [clip.path.name for clip in normals([tmp_path])] == [NORMAL]


def test_a_manifest_can_hold_supplemental_clips(tmp_path: Path) -> None:
    row = "a.wav,fan,00,,source,supplemental,normal,,"
    (clip,) = scan([manifest(tmp_path, f"{row},noise", header=f"{HEADER},role")])
    assert (clip.split, clip.label, clip.role) == ("supplemental", "unknown", "noise")


def test_strangers_are_other_machines_what_surrounds_them_and_what_was_named(tmp_path: Path) -> None:
    dev = touch(
        tmp_path / "dev",
        f"fan/train/{NORMAL}",
        f"valve/train/{NORMAL}",
        "valve/test/section_00_source_test_anomaly_0000_car_A1.wav",
        "fan/supplemental/section_00_noise_0001_.wav",
        "fan/supplemental/section_00_machine_0001_.wav",
    )
    noises = manifest(
        tmp_path / "noise", *(f"{name}.wav,background,00,,source,train,normal,,{name}" for name in ("rain", "wind"))
    )
    noisy = manifest(tmp_path / "noisy", "a.wav,pump,00,,source,test,anomaly,,rain")

    def names(machines: list[str]) -> set[str]:
        return {str(clip.path.relative_to(tmp_path)) for clip in strangers([dev, noisy], machines, [noises])}

    around = {"dev/fan/supplemental/section_00_noise_0001_.wav", "noise/wind.wav"}  # rain is in a test clip
    assert names([]) == around
    assert names(["dev/fan/*"]) == {*around, f"dev/valve/train/{NORMAL}"}


def test_a_supplemental_clip_that_does_not_say_what_it_holds_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, f"fan/train/{NORMAL}", "fan/supplemental/section_00_0001_.wav")
    with pytest.raises(
        ConfigError, match=r"section_00_0001_.wav: expected a name like section_00_machine_0001_.wav or"
    ):
        scan([tmp_path])


def test_the_copies_that_the_baseline_of_2021_makes_are_not_counted_twice(tmp_path: Path) -> None:
    names = [f"section_00_{domain}_test_normal_0000.wav" for domain in ("source", "target")]
    touch(tmp_path, *(f"fan/test/{name}" for name in names))
    touch(tmp_path, f"fan/source_test/{names[0]}", f"fan/target_test/{names[1]}", f"fan/test_rename/{names[0]}")
    assert [clip.path.parent.name for clip in scan([tmp_path])] == ["test", "test"]


def test_the_same_value_of_another_attribute_is_another_condition(tmp_path: Path) -> None:
    """2022's valve, section 05."""
    stem = "section_05_source_train_normal_000"
    touch(
        tmp_path, f"valve/train/{stem}0_v1pat_05.wav", f"valve/train/{stem}1_v2pat_05.wav", f"valve/train/{stem}2.wav"
    )
    (tmp_path / "valve/attributes_05.csv").write_text(f"file_name,d1p,d1v,d2p,d2v\n{stem}2.wav,v1pat,,v2pat,05\n")
    assert [clip.attribute for clip in scan([tmp_path])] == ["v1pat_05", "v2pat_05", "v2pat_05"]


def test_the_table_is_believed_before_the_name_and_names_files_as_2025_does(tmp_path: Path) -> None:
    names = ["section_00_source_train_normal_0000_car_A1.wav", "section_00_source_train_normal_0001_car_A1.wav"]
    touch(tmp_path, *(f"fan/train/{name}" for name in names))
    stem = names[0].removesuffix(".wav")
    (tmp_path / "fan/attributes_00.csv").write_text(f"file_name,d1p,d1v\n{stem},car,noAttribute\n")
    assert [clip.attribute for clip in scan([tmp_path])] == ["", "car_A1"]


# Recordings alone -----------------------------------------------------------------------------------------------------


def test_a_folder_of_recordings_is_one_machine_that_is_well(tmp_path: Path) -> None:
    touch(tmp_path, "hall/pump 3/monday.wav", "hall/pump 3/2024-01-03 12.00.FLAC", "hall/pump 3/notes.txt")
    clips = scan([tmp_path / "hall/pump 3"])
    assert [clip.path.name for clip in clips] == ["2024-01-03 12.00.FLAC", "monday.wav"]
    assert {(clip.key, clip.attribute, clip.domain, clip.split, clip.label) for clip in clips} == {
        ("hall/pump 3/00", "", "source", "train", "normal")
    }
    assert len({clip.recording for clip in clips}) == 2
    assert normals([tmp_path / "hall/pump 3"]) == clips


@pytest.mark.parametrize(
    ("files", "named", "said"),
    [
        (
            [f"fan/trian/{NORMAL}"],
            "fan/trian",
            r"section_00\w+.wav is named as in DCASE, but is in no train/ or test/: move",
        ),
        (["fan/anomaly_id_00_00000001.wav", "fan/x.wav"], "fan", "anomaly_id_00_00000001.wav is named as in DCASE"),
        (["fan/section_00_oops.wav"], "fan", "section_00_oops.wav is named as in DCASE"),
        (
            ["fan/train/a.wav"],
            "fan/train",
            r"looks like a piece of a DCASE data set, .* or name .*/fan where train/ is",
        ),
        (["fan/a.wav", "fan/attributes_00.csv"], "fan", "looks like a piece of a DCASE data set"),
        (["fan/a.wav", "fan/broken/b.wav"], "fan", "holds recordings and broken/ more of them: name one folder"),
        (["fan/good/a.wav"], "fan", r"or one machine's normal recordings; there are recordings in .*/fan/good"),
        ([f"fan/trian/{NORMAL}"], ".", r"no data set in .*; there are recordings in .*/fan/trian"),
    ],
    ids=["mistyped", "2020", "broken name", "inside", "table", "two kinds", "one below", "two below"],
)
def test_a_piece_of_a_data_set_is_not_taken_for_a_machine(
    tmp_path: Path, files: list[str], named: str, said: str
) -> None:
    touch(tmp_path, *files)
    with pytest.raises(ConfigError, match=said):
        scan([tmp_path / named])


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


# What is wrong with recordings ----------------------------------------------------------------------------------------


def thousand(folder: Path) -> list[Path]:
    """A machine with many good recordings (one file in many places) and four bad ones, which are returned."""
    good = record(folder / "good.wav", 0.05)
    train = folder / "set/fan/train"
    train.mkdir(parents=True)
    bad = [train / f"section_00_source_train_normal_{number:04d}_x.wav" for number in (7, 77, 777, 999)]
    for number in range(1000):
        os.link(good, train / f"section_00_source_train_normal_{number:04d}_x.wav")
    for path in bad:
        path.unlink()
    bad[0].write_bytes(b"this is no sound")
    bad[1].write_bytes(good.read_bytes()[:200])
    bad[2].write_bytes(good.read_bytes()[:44])
    soundfile.write(bad[3], np.array([0.0, np.nan]), 16_000, "FLOAT")
    return bad


def test_broken_files_among_a_thousand_are_all_named_and_stop_everything(tmp_path: Path) -> None:
    bad = thousand(tmp_path)
    with pytest.raises(
        AudioError, match=r"^4 of 1000 recordings cannot be read: .*leave them out with --skip-broken$"
    ) as said:
        checked(normals([tmp_path / "set"]))
    assert all(str(path) in str(said.value) for path in bad)


def test_broken_files_are_left_out_on_request_and_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = thousand(tmp_path)
    clips = normals([tmp_path / "set"])
    with Progress(disable=True) as progress:
        assert checked(clips, skip_broken=True, progress=progress) == [clip for clip in clips if clip.path not in bad]
    said = capsys.readouterr().err
    assert said.startswith("4 of 1000 recordings cannot be read and are left out:\n")
    assert [said.count(str(path)) for path in bad] == [1, 1, 1, 1]


def test_a_message_does_not_grow_with_the_damage(tmp_path: Path) -> None:
    touch(tmp_path, *(f"fan/train/section_00_{number:04d}.wav" for number in range(30)))
    record(tmp_path / "fan/train/section_00_0030.wav")
    with pytest.raises(AudioError, match=r"^30 of 31 recordings .*; and 25 more; mend them"):
        checked(normals([tmp_path]))


def test_nothing_left_is_an_error_even_where_some_may_be_left_out(tmp_path: Path) -> None:
    touch(tmp_path, f"fan/train/{NORMAL}")
    with pytest.raises(AudioError, match="1 of 1 recordings cannot be read"):
        checked(normals([tmp_path]), skip_broken=True)


def test_mixed_lengths_and_rates_are_no_damage(tmp_path: Path) -> None:
    for number, (seconds, rate) in enumerate([(0.1, 8_000), (0.5, 16_000), (0.2, 44_100)]):
        record(tmp_path / f"fan/train/section_00_{number:04d}.wav", seconds, rate=rate)
    clips = checked(normals([tmp_path]))
    assert [load(clip, 16_000).size for clip in clips] == [1600, 8000, 3200]


@pytest.mark.parametrize("channel", [None, 3])
def test_several_channels_are_refused_until_one_that_is_there_is_chosen(tmp_path: Path, channel: int | None) -> None:
    record(tmp_path / f"fan/train/{NORMAL}", channels=2)
    clips = normals([tmp_path], channel=channel)
    with pytest.raises(ConfigError, match=rf"{NORMAL} has 2 channels: pick one of them with --channel 1 to 2$"):
        checked(clips, skip_broken=True)


def test_the_chosen_channel_is_taken_of_every_recording_that_has_several(tmp_path: Path) -> None:
    record(tmp_path / "fan/train/section_00_0000.wav", 0.1, channels=1)
    record(tmp_path / "fan/train/section_00_0001.wav", 0.1, channels=2)
    first, second = ([load(clip, 16_000) for clip in checked(normals([tmp_path], channel=n))] for n in (1, 2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], first[0])
    assert np.allclose(second[1], -first[0], atol=2**-15)


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
        assert clip.attribute == row["attribute"]
