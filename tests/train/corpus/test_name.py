from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.corpus.name import looks_like_dcase, read_name

UNKNOWN = {"attribute": ""}

# Names as they are distributed, or as the official lists give them, and what they say
NAMES = {
    "2020": {
        "normal_id_01_00000000": {"section": "01", "domain": "source", "label": "normal"},
        "anomaly_id_06_00000263": {"section": "06", "domain": "source", "label": "anomaly"},
        "id_05_00000000": {"section": "05", "domain": "source"},
    },
    "2021": {
        "section_00_source_train_normal_0000_strength_1_ambient": {
            "section": "00",
            "domain": "source",
            "label": "normal",
            "attribute": "strength_1_ambient",
        },
        "section_02_target_test_anomaly_0099": {"section": "02", "domain": "target", "label": "anomaly"},
        "section_03_source_test_0000": {"section": "03", "domain": "source"},
    },
    "2022": {
        "section_00_source_train_normal_0000_car_A1_spd_28V_mic_1_noise_-6dB": {
            "section": "00",
            "domain": "source",
            "label": "normal",
            "attribute": "car_A1_spd_28V_mic_1_noise_-6dB",
        },
        "section_02_target_test_anomaly_0049_n-lv_L3": {
            "section": "02",
            "domain": "target",
            "label": "anomaly",
            "attribute": "n-lv_L3",
        },
        "section_05_source_test_normal_0199_v1pat_04_v2pat_05": {
            "section": "05",
            "domain": "source",
            "label": "normal",
            "attribute": "v1pat_04_v2pat_05",
        },
        "section_03_source_test_anomaly_0000_volt_3.0": {
            "section": "03",
            "domain": "source",
            "label": "anomaly",
            "attribute": "volt_3.0",
        },
        "section_03_0000": {"section": "03"},
        "section_03_test_0000": {"section": "03"},
    },
    "2023": {
        "section_00_target_test_normal_0026_car_B1_spd_Lb_mic_1": {
            "section": "00",
            "domain": "target",
            "label": "normal",
            "attribute": "car_B1_spd_Lb_mic_1",
        },
        "section_00_source_test_anomaly_001": {"section": "00", "domain": "source", "label": "anomaly"},
        "section_00_0199": {"section": "00"},
    },
    "2024": {
        "section_00_source_train_normal_0001_noAttribute": {"section": "00", "domain": "source", "label": "normal"},
        "section_00_source_normal_0035_weight15_BckgF": {
            "section": "00",
            "domain": "source",
            "label": "normal",
            "attribute": "weight15_BckgF",
        },
        "section_00_target_anomaly_0091_weight_35_Bckg_E": {
            "section": "00",
            "domain": "target",
            "label": "anomaly",
            "attribute": "weight_35_Bckg_E",
        },
        "section_00_target_test_anomaly_0067_spd1300_BckgE": {
            "section": "00",
            "domain": "target",
            "label": "anomaly",
            "attribute": "spd1300_BckgE",
        },
    },
    "2025": {
        "section_00_source_train_normal_0000_": {"section": "00", "domain": "source", "label": "normal"},
        "section_00_machine_0001_": {"section": "00", "role": "machine"},
        "section_00_noise_0100_": {"section": "00", "role": "noise"},
        "section_00_machine_source_0000_noAttribute": {"section": "00", "domain": "source", "role": "machine"},
        "section_00_noise_supplemental_normal_0000": {"section": "00", "label": "normal", "role": "noise"},
        "section_00_source_test_normal_0233_mic_imp34dt05_mic_pos_A_grind_100_bkg_A": {
            "section": "00",
            "domain": "source",
            "label": "normal",
            "attribute": "mic_imp34dt05_mic_pos_A_grind_100_bkg_A",
        },
        "section_00_test_0000": {"section": "00"},
    },
}
EVERY = [(year, name, said) for year, names in NAMES.items() for name, said in names.items()]


@pytest.mark.parametrize(("year", "name", "said"), EVERY, ids=[f"{year} {name}" for year, name, _ in EVERY])
def test_every_years_names_say_what_they_mean(year: str, name: str, said: dict[str, str]) -> None:
    assert read_name(name) == UNKNOWN | said, year
    assert looks_like_dcase(name)


@pytest.mark.parametrize("name", ["fan", "section", "section_00", "section_0a_0000", "00_section_0000", "", "id_x_1"])
def test_what_is_no_name_of_dcases_says_nothing(name: str) -> None:
    assert read_name(name) is None


@pytest.mark.parametrize("name", ["monday", "pump_2024-01-03", "rec_section_00_0001", "idle_01_0001", "normal_01"])
def test_a_technicians_names_do_not_look_like_dcases(name: str) -> None:
    assert not looks_like_dcase(name)


@pytest.mark.parametrize("name", ["section_00_source_train_nromal", "section_03_0000_x", "NORMAL_ID_1_x"])
def test_a_broken_name_of_dcases_still_looks_like_one(name: str) -> None:
    assert looks_like_dcase(name)


def test_a_word_that_means_nothing_is_the_label_for_others_to_refuse() -> None:
    said = read_name("section_00_source_test_broken_0000")
    assert said
    assert said["label"] == "broken"


WORDS = st.fixed_dictionaries(
    {},
    optional={
        "domain": st.sampled_from(["source", "target"]),
        "split": st.sampled_from(["train", "test"]),
        "label": st.sampled_from(["normal", "anomaly"]),
    },
)
ATTRIBUTES = st.lists(st.from_regex(r"[A-Za-z0-9.+-]{1,5}", fullmatch=True), max_size=6)


@given(section=st.integers(0, 99), number=st.integers(0, 9999), words=WORDS, attributes=ATTRIBUTES, data=st.data())
def test_neither_order_nor_doubled_underscores_nor_what_is_left_out_changes_the_rest(
    section: int, number: int, words: dict[str, str], attributes: list[str], data: st.DataObject
) -> None:
    between = data.draw(st.permutations(sorted(words.values())))
    pieces = ["section", f"{section:02d}", *between, f"{number:04d}", *attributes]
    gaps = data.draw(st.lists(st.integers(1, 3), min_size=len(pieces), max_size=len(pieces)))
    name = "".join(piece + "_" * gap for piece, gap in zip(pieces, gaps, strict=True))

    said = {field: word for field, word in words.items() if field != "split"}
    assert read_name(name) == {
        "section": f"{section:02d}",
        "attribute": "_".join(attributes),
        **said,
    }
