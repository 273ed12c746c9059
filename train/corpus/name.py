"""What a DCASE Task 2 file name says, in every year from 2020 to 2025 (methods.md §9.3).

The names as distributed, all of which are understood:

    2020        normal_id_01_00000000   anomaly_id_01_00000000   id_05_00000000
    2021        section_00_source_train_normal_0000_strength_1_ambient   section_03_source_test_0000
    2022-2025   section_00_source_train_normal_0000_car_A1_spd_28V_mic_1   section_00_0199   section_00_test_0000
    2024        section_00_source_normal_0035_weight15_BckgF   section_00_source_test_normal_0001_noAttribute
    2025        section_00_machine_0001_   section_00_noise_0001_
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

EXAMPLE = "section_00_source_train_normal_0000_car_A1"
NAME = re.compile(
    r"(?:(?P<before>[a-z]+)_)?(?P<kind>section|id)_(?P<section>\d+)(?P<words>(?:_[a-z]+)*)_\d+(?:_(?P<attribute>.+))?",
    re.IGNORECASE,
)
LIKE = re.compile(r"_*(?:(?:normal|anomaly)_+)?(?:section|id)_+\d", re.IGNORECASE)
MEANINGS = {
    **dict.fromkeys(("source", "target"), "domain"),
    **dict.fromkeys(("normal", "anomaly"), "label"),
    **dict.fromkeys(("machine", "noise"), "role"),
    **dict.fromkeys(("train", "test", "supplemental"), None),  # the folder says so, whatever the name does
}
"""word before the number -> the field that it is a value of"""
NONE = "noAttribute"


def read_name(stem: str) -> dict[str, str] | None:
    """Fields that the name of a file (without its extension) gives; None when it is no name of DCASE's.

    Words may be missing or change places, and underscores may come double. A word that means nothing is handed
    on as the label, for whoever checks that to complain about.
    """
    found = NAME.fullmatch("_".join(word for word in stem.split("_") if word))
    if found is None:
        return None
    fields = {"section": found["section"], "attribute": joined((found["attribute"] or "").split("_"))}
    if found["kind"].lower() == "id":
        fields["domain"] = "source"  # 2020 knew no other
    for word in f"{found['before'] or ''}{found['words']}".lower().split("_"):
        if word and (field := MEANINGS.get(word, "label")):
            fields[field] = word
    return fields


def looks_like_dcase(stem: str) -> bool:
    """Whether a name begins as DCASE's do, however it goes on."""
    return LIKE.match(stem) is not None


def joined(words: Iterable[str]) -> str:
    """One name for all attributes, names and values: ``v1pat_05`` is not ``v2pat_05``. Empty when there are none."""
    return "_".join(word for word in words if word and word != NONE)
