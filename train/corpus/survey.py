"""What is in a data set, and what is odd about it: to be looked at before anyone trains on it."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_asd.capture.file import audio_format, read_audio
from edge_asd.errors import AudioError
from edge_asd.score.head import LEAST_CLIPS
from edge_asd.signal.health import Fault, fault
from edge_asd.signal.segment import Windows
from edge_asd.signal.statistic import SILENCE_DBFS

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.progress import Progress

    from train.corpus.clip import Clip

Countable = TypeVar("Countable", int, str)

LEAST_S = Windows().segment / Windows().sample_rate
"""seconds; what is shorter is repeated until it fills a segment"""
NAMED = 3
"""how many files or groups a line names"""
SHOWN = 12
"""how many groups of a section are listed"""


@dataclass(frozen=True, slots=True)
class Sound:
    """What one recording holds."""

    seconds: float
    rate: int
    """hertz"""
    channels: int
    level: float
    """RMS, dB relative to full scale, of the channel that is taken; of the first where none is chosen"""
    peak: float
    """largest magnitude, dB relative to full scale"""
    fault: Fault | None
    digest: str
    """of the samples, whatever kind of file they lie in"""


@dataclass(frozen=True, slots=True)
class Heard:
    """A clip, and what it sounds like or why nobody knows."""

    clip: Clip
    sound: Sound | None
    complaint: str = ""


@dataclass(frozen=True, slots=True)
class Range:
    """Of one quantity over recordings."""

    least: float
    median: float
    most: float


@dataclass(frozen=True, slots=True)
class Part:
    """One split of one section."""

    section: str
    split: str
    clips: int
    domains: Mapping[str, int]
    labels: Mapping[str, int]
    roles: Mapping[str, int]
    recordings: int
    """clips cut from one recording are not independent"""
    seconds: Range | None
    """None when no clip can be read"""
    minutes: float


@dataclass(frozen=True, slots=True)
class Oddity:
    """Something to know, and perhaps to mend, before training."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is of one machine, all its sections."""

    name: str
    """``set/machine``"""
    parts: tuple[Part, ...]
    groups: Mapping[str, Mapping[str, int]]
    """section -> attribute group -> normal training clips"""
    rates: Mapping[int, int]
    """hertz -> recordings"""
    channels: Mapping[int, int]
    level: Range | None
    peak: Range | None
    oddities: tuple[Oddity, ...]


# Listening ------------------------------------------------------------------------------------------------------------


def hear(clips: Sequence[Clip], progress: Progress) -> list[Heard]:
    """Decode every clip once."""
    return [_heard(clip) for clip in progress.track(clips, description="listening")]


def _heard(clip: Clip) -> Heard:
    try:
        return Heard(clip, _sound(clip))
    except AudioError as error:
        return Heard(clip, None, str(error))


def _sound(clip: Clip) -> Sound:
    form = audio_format(clip.path)
    samples = read_audio(clip.path, form.rate, channel=min(clip.channel or 1, form.channels))
    return Sound(
        seconds=samples.size / form.rate,
        rate=form.rate,
        channels=form.channels,
        level=_dbfs(float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))),
        peak=_dbfs(float(np.abs(samples).max())),
        fault=fault(samples),
        digest=hashlib.blake2b(samples.tobytes(), digest_size=16).hexdigest(),
    )


def _dbfs(amplitude: float) -> float:
    return max(SILENCE_DBFS, 20.0 * float(np.log10(max(amplitude, 1e-30))))


# Summing up -----------------------------------------------------------------------------------------------------------


def survey(heard: Sequence[Heard]) -> list[Machine]:
    """Sum up each machine."""
    by_name = _by(heard, lambda one: one.clip.key.rsplit("/", 1)[0])
    return [_machine(name, by_name[name]) for name in sorted(by_name)]


def _machine(name: str, heard: Sequence[Heard]) -> Machine:
    parts = _by(heard, lambda one: (_section(one), one.clip.split))
    sounds = [one.sound for one in heard if one.sound]
    return Machine(
        name,
        tuple(_part(section, split, parts[section, split]) for section, split in sorted(parts)),
        {section: _groups(some) for section, some in sorted(_by(_taught(heard), _section).items())},
        _counts(sound.rate for sound in sounds),
        _counts(sound.channels for sound in sounds),
        _range(sound.level for sound in sounds),
        _range(sound.peak for sound in sounds),
        tuple(oddity for look in LOOKS for oddity in look(heard)),
    )


def _part(section: str, split: str, heard: Sequence[Heard]) -> Part:
    seconds = [one.sound.seconds for one in heard if one.sound]
    return Part(
        section,
        split,
        len(heard),
        _counts(one.clip.domain for one in heard),
        _counts(one.clip.label for one in heard),
        _counts(one.clip.role for one in heard if one.clip.role),
        len({one.clip.recording for one in heard}),
        _range(seconds),
        sum(seconds) / 60,
    )


def _groups(heard: Iterable[Heard]) -> dict[str, int]:
    return _counts(one.clip.attribute or one.clip.domain for one in heard)


def _counts(values: Iterable[Countable]) -> dict[Countable, int]:
    return dict(sorted(Counter(values).items()))


def _range(values: Iterable[float]) -> Range | None:
    known = list(values)
    return Range(min(known), float(np.median(known)), max(known)) if known else None


def _taught(heard: Iterable[Heard]) -> list[Heard]:
    """What is learned from."""
    return [one for one in heard if one.clip.split == "train" and one.clip.label == "normal"]


def _section(one: Heard) -> str:
    return one.clip.key.rsplit("/", 1)[1]


def _by(heard: Iterable[Heard], name: Callable[[Heard], Hashable]) -> dict[Any, list[Heard]]:
    found: dict[Any, list[Heard]] = defaultdict(list)
    for one in heard:
        found[name(one)].append(one)
    return found


# Oddities: each looks at all there is of one machine ------------------------------------------------------------------


def _unreadable(heard: Sequence[Heard]) -> Iterator[Oddity]:
    if broken := [one for one in heard if not one.sound]:
        reasons = _some([one.complaint for one in broken], "; ")
        yield Oddity("unreadable", f"{len(broken)} unreadable: {reasons}: mend them, or train with --skip-broken")


def _too_few(heard: Sequence[Heard]) -> Iterator[Oddity]:
    for section, some in sorted(_by(heard, _section).items()):
        if (count := len(_taught(some))) < LEAST_CLIPS:
            text = f"section {section}: {count} normal training clips, a head needs {LEAST_CLIPS}: record more"
            yield Oddity("too_few", text)


def _no_target(heard: Sequence[Heard]) -> Iterator[Oddity]:
    for section, some in sorted(_by(_taught(heard), _section).items()):
        if not any(one.clip.domain == "target" for one in some):
            text = (
                f"section {section}: no target clips: nothing tells a changed condition from a fault; add some if any"
            )
            yield Oddity("no_target", text)


def _one_section(heard: Sequence[Heard]) -> Iterator[Oddity]:
    if len(_by(heard, _section)) == 1:
        text = (
            "one section: a network that tells sections apart learns nothing from it alone; train with other machines"
        )
        yield Oddity("one_section", text)


def _few_groups(heard: Sequence[Heard]) -> Iterator[Oddity]:
    for section, some in sorted(_by(_taught(heard), _section).items()):
        sizes = _groups(some)
        if not any(one.clip.attribute for one in some):
            text = f"section {section}: no attributes: list them in a manifest.csv, or let pseudo-groups stand in"
            yield Oddity("no_attributes", text)
        if len(sizes) == 1:
            text = f"section {section}: one attribute group: there is nothing to tell apart; train with other machines"
            yield Oddity("one_group", text)
        if alone := [name for name, count in sizes.items() if count == 1]:
            text = f"section {section}: groups of one clip: {_some(alone)}: record more of them, or join them to others"
            yield Oddity("lone_clip", text)


def _mixed(heard: Sequence[Heard]) -> Iterator[Oddity]:
    sounds = [one.sound for one in heard if one.sound]
    seconds = _range(sound.seconds for sound in sounds)
    if seconds and seconds.most - seconds.least > 0.01 * seconds.most:
        text = f"{seconds.least:.1f} to {seconds.most:.1f} s long: each file is one clip; short ones score less surely"
        yield Oddity("mixed_lengths", text)
    if len(rates := Counter(sound.rate for sound in sounds)) > 1:
        text = (
            f"rates of {_counted(rates)} Hz: all are resampled, but what only some can hold tells rates apart; use one"
        )
        yield Oddity("mixed_rates", text)
    channels = Counter(sound.channels for sound in sounds)
    if len(channels) > 1:
        yield Oddity("mixed_channels", f"{_counted(channels)} channels: see that the same microphone is taken of each")
    if several := [one for one in heard if one.sound and one.sound.channels > 1 and not _chosen(one)]:
        text = f"{len(several)} with several channels: {_files(several)}: choose one that all have with --channel"
        yield Oddity("several_channels", text)


def _chosen(one: Heard) -> bool:
    return one.sound is not None and 1 <= (one.clip.channel or 0) <= one.sound.channels


def _short(heard: Sequence[Heard]) -> Iterator[Oddity]:
    if short := [one for one in heard if one.sound and one.sound.seconds < LEAST_S]:
        text = f"{len(short)} shorter than {LEAST_S:g} s: {_files(short)}: they are repeated up to that; record longer"
        yield Oddity("short", text)


def _unfit(heard: Sequence[Heard]) -> Iterator[Oddity]:
    what = {Fault.CLIPPING: "clipped", Fault.SILENT: "with digital silence", Fault.STUCK: "with a stuck input"}
    todo = {Fault.CLIPPING: "lower the gain and record again"}
    for kind, called in what.items():
        if unfit := [one for one in heard if one.sound and one.sound.fault == kind]:
            text = f"{len(unfit)} {called}: {_files(unfit)}: {todo.get(kind, 'leave them out, or record again')}"
            yield Oddity(kind.value, text)


def _anomalous(heard: Sequence[Heard]) -> Iterator[Oddity]:
    if wrong := [one for one in heard if one.clip.split == "train" and one.clip.label != "normal"]:
        text = (
            f"{len(wrong)} in train/ are not normal: {_files(wrong)}: nothing is learned from them; move them to test/"
        )
        yield Oddity("anomaly_in_train", text)


def _unlabelled(heard: Sequence[Heard]) -> Iterator[Oddity]:
    tests = [one for one in heard if one.clip.split == "test"]
    if nameless := [one for one in tests if one.clip.label == "unknown"]:
        text = f"{len(nameless)} of {len(tests)} test clips have no label: give the evaluator's folder with --truth"
        yield Oddity("unlabelled", text)
    for section, some in sorted(_by(tests, _section).items()):
        known = {one.clip.label for one in some} - {"unknown"}
        if len(known) == 1:
            text = f"section {section}: all labelled test clips are {known.pop()}: not scorable, needs both"
            yield Oddity("one_sided_test", text)


def _same(heard: Sequence[Heard]) -> Iterator[Oddity]:
    sounding = [one for one in heard if one.sound and one.sound.fault not in {Fault.SILENT, Fault.STUCK}]
    copies = [some for some in _by(sounding, lambda one: one.sound and one.sound.digest).values() if len(some) > 1]
    if both := [one for some in copies for one in _in_test_too(some)]:
        text = f"{len(both)} test clips are copies of training clips: {_files(both)}: remove them, they prove nothing"
        yield Oddity("copied_into_test", text)
    if again := [one for some in copies for one in some[1:] if one.clip.split == some[0].clip.split]:
        yield Oddity("copies", f"{len(again)} copies of other clips: {_files(again)}: remove them, they count double")
    told, shared = {one.clip.path for one in both}, _by(heard, lambda one: one.clip.recording).values()
    if cut := [one for some in shared for one in _in_test_too(some) if one.clip.path not in told]:
        text = f"{len(cut)} test clips come from recordings that are trained on: {_files(cut)}: results will flatter"
        yield Oddity("shared_recording", text)


def _in_test_too(heard: Sequence[Heard]) -> list[Heard]:
    """The test clips, if there are training clips among these as well."""
    if not any(one.clip.split == "train" for one in heard):
        return []
    return [one for one in heard if one.clip.split == "test"]


LOOKS: tuple[Callable[[Sequence[Heard]], Iterator[Oddity]], ...] = (
    _unreadable,
    _too_few,
    _no_target,
    _one_section,
    _few_groups,
    _mixed,
    _short,
    _unfit,
    _anomalous,
    _unlabelled,
    _same,
)


def _files(heard: Sequence[Heard]) -> str:
    return _some([_place(one.clip.path) for one in heard])


def _place(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _some(names: Sequence[str], between: str = ", ") -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return between.join(names[:NAMED]) + more


def _counted(counts: Mapping[int, int]) -> str:
    return ", ".join(f"{value} ({count} recordings)" for value, count in sorted(counts.items()))


# Showing --------------------------------------------------------------------------------------------------------------


def as_json(machines: Sequence[Machine]) -> dict[str, Any]:
    """For programs."""
    return {"machines": [asdict(machine) for machine in machines]}


def show(machines: Sequence[Machine], console: Console | None = None) -> None:
    """Print a table a machine, and what is odd about it; plain text, not folded, when piped."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=160)
    for machine in machines:
        console.print(_table(machine, plain=not console.is_terminal))
        for line in _lines(machine):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        for oddity in machine.oddities:
            console.print(f"! {oddity.text}", style="yellow", markup=False, highlight=False, soft_wrap=True)
        console.print()
    clips = sum(part.clips for machine in machines for part in machine.parts)
    minutes = sum(part.minutes for machine in machines for part in machine.parts)
    odd = sum(len(machine.oddities) for machine in machines)
    console.print(f"{len(machines)} machines, {clips} clips, {minutes:.1f} minutes, {odd} oddities", highlight=False)


def _table(machine: Machine, *, plain: bool) -> Table:
    table = Table(
        title=escape(machine.name),
        title_justify="left",
        box=None if plain else box.SIMPLE_HEAD,
        padding=(0, 2, 0, 0) if plain else (0, 1),
    )
    for column in ("section", "split"):
        table.add_column(column)
    for column in ("clips", "source", "target", "normal", "anomaly", "unknown", "recordings", "s", "minutes"):
        table.add_column(column, justify="right", no_wrap=True)
    for part in machine.parts:
        table.add_row(*_cells(part))
    return table


def _cells(part: Part) -> Iterator[str]:
    yield escape(part.section)
    yield part.split + "".join(f", {count} {role}" for role, count in part.roles.items())
    yield str(part.clips)
    yield from (str(part.domains.get(domain, 0)) for domain in ("source", "target"))
    yield from (str(part.labels.get(label, 0)) for label in ("normal", "anomaly", "unknown"))
    yield str(part.recordings)
    yield "–" if part.seconds is None else _spread(part.seconds)
    yield f"{part.minutes:.1f}"


def _spread(seconds: Range) -> str:
    """``6.0–10.0–18.0``: least, median, most; one number where they are the same."""
    said = [f"{value:.1f}" for value in (seconds.least, seconds.median, seconds.most)]
    return said[0] if len(set(said)) == 1 else "–".join(said)


def _lines(machine: Machine) -> Iterator[str]:
    if machine.level and machine.peak:
        channels = " and ".join(map(str, machine.channels))
        yield (
            f"{' and '.join(map(str, machine.rates))} Hz, {channels} channel{'' if channels == '1' else 's'}, "
            f"{machine.level.least:.1f} to {machine.level.most:.1f} dBFS RMS, "
            f"peaks {machine.peak.least:.1f} to {machine.peak.most:.1f} dBFS"
        )
    for section, sizes in machine.groups.items():
        listed = [f"{name} {count}" for name, count in sizes.items()]
        more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
        yield f"groups of {section}: {len(listed)}: {', '.join(listed[:SHOWN])}{more}"
