"""What people said of alarms, in the state folder beside the outbox: for who learns from it, and for who measures.

One JSON file an alarm, written whole or not at all; said again, the latest word holds. Beside it lie the features of
the clips that raised the alarm, where their sound was kept: recordings make room for newer ones, and what is to be
learned of them shall not go with them. Features belong to the bundle that made them, and to no other.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edge_asd.archive import settle, sync
from edge_asd.deliver.message import NAME
from edge_asd.errors import AudioError
from edge_asd.observe.evidence import FOLDER as SOUNDS
from edge_asd.observe.evidence import recordings
from edge_asd.score.listener import evidence
from edge_asd.score.part import Evidence, Normal
from edge_asd.signal.statistic import Statistics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_asd.score.listener import Listener

FOLDER = "labels"
"""within the state folder"""
SCHEMA = "edge_asd.label/1"
BUNDLE, OUTPUT = "bundle", "output/"
"""names of tensors: the digest of the bundle, and what outputs of its network begin with"""
SCALARS = ("level", "peak", "crest", "kurtosis")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What somebody said of one alarm."""

    machine: str
    alarm_id: str
    """id of the event that raised it"""
    verdict: bool
    """true: the machine had something; false: a false alarm"""
    fault: str | None
    """what it was"""
    comment: str | None
    by: str | None
    labelled: str
    """when it was said, RFC 3339"""
    clip_s: float
    """seconds of a clip, as the machine was judged then"""
    event: Mapping[str, Any]
    """the alarm as it was told, with its evidence"""

    def repeats(self, other: Judgement) -> bool:
        """Whether both say the same of the same alarm, whoever says it."""
        told = ("machine", "alarm_id", "verdict", "fault", "comment")
        return all(getattr(self, name) == getattr(other, name) for name in told)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What can be learned from the alarms of one machine with one bundle."""

    normals: Mapping[str, tuple[Evidence, ...]]
    """clips of each false alarm, by ``alarm_id``"""
    faults: Mapping[str, tuple[Evidence, ...]]
    """the same of each true one: what no head may forget (:mod:`edge_asd.score.forgetting`)"""
    silent: tuple[str, ...]
    """alarms that were judged and of which there is nothing to learn from: no sound was kept, or another bundle's"""

    def as_normals(self) -> list[Normal]:
        """False alarms as clips to learn from; those of one alarm are one recording."""
        return [Normal(clip, recording=alarm_id) for alarm_id, clips in self.normals.items() for clip in clips]


# Judgements -----------------------------------------------------------------------------------------------------------


def keep(folder: Path, judgement: Judgement) -> bool:
    """Write it down in a state folder; False where the same was said before.

    Raises:
        AudioError: it cannot be written.
    """
    path = _path(folder, judgement.machine, judgement.alarm_id)
    text = json.dumps({"schema": SCHEMA, **asdict(judgement)}, indent=1) + "\n"
    try:
        if path.exists() and judgement.repeats(_read(path)):
            return False
        _write(path, text.encode())
    except OSError as error:
        msg = f"{path}: cannot be written ({str(error.strerror or error).lower()}); make room, and label it again"
        raise AudioError(msg) from error
    return True


def judgements(folder: Path, machine: str | None = None) -> list[Judgement]:
    """All that are kept in a state folder, or those of one machine, the oldest alarm first.

    Raises:
        AudioError: one cannot be read.
    """
    found = [_read(path) for path in (folder / FOLDER).glob(f"{machine or '*'}/*.json")]
    return sorted(found, key=lambda each: (str(each.event.get("ts")), each.alarm_id))


def verdicts(folder: Path) -> dict[str, bool]:
    """By alarm, for lists of other things: one that cannot be read is left out, as :func:`judgements` says which."""
    found = {}
    for path in (folder / FOLDER).glob("*/*.json"):
        with suppress(AudioError):
            judgement = _read(path)
            found[judgement.alarm_id] = judgement.verdict
    return found


def _read(path: Path) -> Judgement:
    try:
        return _parsed(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        msg = f"{path}: cannot be read ({error}); delete it, and label the alarm again"
        raise AudioError(msg) from error


def _parsed(told: dict[str, Any]) -> Judgement:
    if (schema := told.pop("schema")) != SCHEMA:
        msg = f"schema is {schema!r}, not {SCHEMA!r}"
        raise ValueError(msg)
    return Judgement(**told)


# Sound and features ---------------------------------------------------------------------------------------------------


def sound(folder: Path, alarm_id: str) -> tuple[Path, Mapping[str, Any]] | None:
    """The recording of an alarm in a state folder, and what is known of it; None where none was kept, or it went."""
    for files in recordings(folder / SOUNDS).values():
        about = next((_about(file) for file in files if file.suffix == ".json"), {})
        flac = next((file for file in files if file.suffix == ".flac"), None)
        if flac and about.get("event_id") == alarm_id:
            return flac, about
    return None


def clips(folder: Path, judgement: Judgement) -> tuple[int, list[NDArray[np.float32]]]:
    """Hertz, and the clips that raised the alarm, (L,) each: without what was kept from before them.

    Raises:
        AudioError: there is no sound of it, or no whole clip.
    """
    found = sound(folder, judgement.alarm_id)
    if found is None:
        msg = f"no sound of {judgement.alarm_id} is kept; [evidence] enabled = true keeps that of alarms to come"
        raise AudioError(msg)
    flac, about = found
    try:
        samples, rate = soundfile.read(flac, dtype="float32")
    except (OSError, soundfile.LibsndfileError) as error:
        msg = f"{flac}: cannot be read ({error})"
        raise AudioError(msg) from error
    length, begin = round(judgement.clip_s * rate), round(float(about.get("alarm_begins_s") or 0.0) * rate)
    cut = [samples[start : start + length] for start in range(begin, samples.size - length + 1, length)]
    if not cut:
        msg = f"{flac}: holds no whole clip of {judgement.clip_s:g} s of the alarm"
        raise AudioError(msg)
    return int(rate), cut


def hear(folder: Path, judgement: Judgement, listener: Listener, digest: str) -> int:
    """Write the features of the clips that raised an alarm beside what was said of it; how many clips those are.

    Args:
        folder: the state folder.
        judgement: kept there.
        listener: of the bundle that is to learn from them; its front end and network alone are used, not its state.
        digest: SHA-256 that the bundle is known by, hex.

    Raises:
        AudioError: no sound was kept, it is of another rate, or the disk fails.
    """
    rate, cut = clips(folder, judgement)
    if rate != listener.windows.sample_rate:
        msg = f"the sound of {judgement.alarm_id} has {rate} hertz; the bundle wants {listener.windows.sample_rate}"
        raise AudioError(msg)
    found = [evidence(listener.windows, listener.spec, listener.embed, clip) for clip in cut]
    path = _path(folder, judgement.machine, judgement.alarm_id).with_suffix(".safetensors")
    try:
        _write(path, pack(found, digest))
    except OSError as error:
        msg = f"{path}: cannot be written ({str(error.strerror or error).lower()})"
        raise AudioError(msg) from error
    return len(found)


def heard(folder: Path, judgement: Judgement, digest: str) -> bool:
    """Whether features of it are there that the bundle of this digest has made."""
    with suppress(AudioError):
        return bool(_heard(_path(folder, judgement.machine, judgement.alarm_id).with_suffix(".safetensors"), digest))
    return False


def lesson(folder: Path, machine: str, digest: str) -> Lesson:
    """What is to be learned from all alarms of a machine that were judged, with the bundle of this digest.

    Raises:
        AudioError: a judgement or its features cannot be read.
    """
    found: dict[bool, dict[str, tuple[Evidence, ...]]] = {True: {}, False: {}}
    silent = []
    for judgement in judgements(folder, machine):
        path = _path(folder, machine, judgement.alarm_id).with_suffix(".safetensors")
        if features := _heard(path, digest):
            found[judgement.verdict][judgement.alarm_id] = features
        else:
            silent.append(judgement.alarm_id)
    return Lesson(found[False], found[True], tuple(silent))


def pack(found: Sequence[Evidence], digest: str) -> bytes:
    """Clips of one bundle as named tensors, first axis the N clips."""
    tensors = {BUNDLE: np.frombuffer(bytes.fromhex(digest), np.uint8)}
    for each in fields(Statistics):
        tensors[each.name] = np.stack([np.asarray(getattr(clip.statistics, each.name)) for clip in found])
    for name in found[0].outputs:
        tensors[OUTPUT + name] = np.stack([clip.outputs[name] for clip in found])
    return save(tensors)


def unpack(content: bytes, digest: str) -> tuple[Evidence, ...]:
    """Back from :func:`pack`; nothing where another bundle made them.

    Raises:
        KeyError, SafetensorError: it is nothing that was packed.
    """
    tensors = load(content)
    if tensors[BUNDLE].tobytes().hex() != digest:
        return ()
    names = [name for name in tensors if name.startswith(OUTPUT)]
    return tuple(
        Evidence(_statistics(tensors, n), {name.removeprefix(OUTPUT): tensors[name][n] for name in names})
        for n in range(len(tensors["level"]))
    )


def _statistics(tensors: Mapping[str, NDArray[Any]], n: int) -> Statistics:
    given = {each.name: tensors[each.name][n] for each in fields(Statistics)}
    return Statistics(**given | {name: float(given[name]) for name in SCALARS})


def _heard(path: Path, digest: str) -> tuple[Evidence, ...]:
    try:
        return unpack(path.read_bytes(), digest)
    except FileNotFoundError:
        return ()
    except (OSError, KeyError, SafetensorError) as error:
        msg = f"{path}: cannot be read ({error}); delete it, and label the alarm again"
        raise AudioError(msg) from error


def _about(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _path(folder: Path, machine: str, alarm_id: str) -> Path:
    if not (NAME.fullmatch(machine) and NAME.fullmatch(alarm_id)):
        msg = f"{machine!r}, {alarm_id!r}: need letters, digits, _ and -, as `edge-asd events --json` shows them"
        raise AudioError(msg)
    return folder / FOLDER / machine / f"{alarm_id}.json"


def _write(path: Path, content: bytes) -> None:
    """Whole, and on the medium with the folders that it lies in."""
    if not path.parent.exists():
        path.parent.mkdir(parents=True)
        sync(path.parents[1])
        sync(path.parents[2])
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    settle(partial, path)
