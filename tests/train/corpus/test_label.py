"""What was said of alarms on a device, as a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import soundfile

from edge_asd.judgement import keep
from tests.test_judgement import CLIPS, FALSE, RATE, TRUE, record
from tests.test_labels import labels
from train.corpus.clip import scan

if TYPE_CHECKING:
    from pathlib import Path


def test_train_reads_the_clips_of_an_export_as_a_data_set(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for each in (FALSE, TRUE):
        keep(state, each)
    record(state, FALSE.alarm_id)
    samples = record(state, TRUE.alarm_id, seed=1)
    labels(state, "--export", tmp_path / "taken")
    found = scan([tmp_path / "taken"])
    assert [(clip.label, clip.recording, clip.split) for clip in found] == [
        *[("normal", FALSE.alarm_id, "test")] * CLIPS,
        *[("anomaly", TRUE.alarm_id, "test")] * CLIPS,
    ]
    assert {clip.key for clip in found} == {"taken/pump1/00"}
    heard = np.concatenate([soundfile.read(clip.path, dtype="float32")[0] for clip in found[CLIPS:]])
    assert np.abs(heard - samples[-CLIPS * RATE :]).max() <= 2**-15
