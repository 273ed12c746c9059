"""Is this ear fit to listen? A minute of its machine, measured, and held against what the bundle was trained on."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.baseline import Commissioned, bind
from edge_asd.capture.opening import open_source
from edge_asd.capture.state import RULES, Trouble, Watch
from edge_asd.daemon import TIMELESS
from edge_asd.deliver.control import answers
from edge_asd.deliver.message import rfc3339
from edge_asd.errors import ConfigError, SourceError
from edge_asd.model.opening import open_model
from edge_asd.score.clip import ClipScore
from edge_asd.signal.profile import OFF, difference, profile

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_asd.bundle import HeadCard
    from edge_asd.capture.source import Source
    from edge_asd.config import Config
    from edge_asd.score.listener import Listener
    from edge_asd.signal.profile import Profile
    from edge_asd.signal.segment import Block

    Progress = Callable[[float], None]
    """told the seconds that were heard so far"""

NAP_S = 0.05
HEAR_S = 20.0
"""without sound before one gives up: a microphone may take 15 s to open"""
SETTLE_S = 1
"""of a live source that are not judged: amplifiers settle, and drivers clear their buffers"""
PATIENCE_S = 10
"""seconds of a trouble after which it is told here, though an ear that listens for years would wait"""
DRIFT_S = 30.0
"""of sound, before its clock can be told from the delays of a busy computer"""
QUARTZ_PPM = 200.0
"""by which clocks of sound cards differ from the computer's"""
LOSSY_PPM = 1_000.0
"""by which they never do: samples are lost"""
LEVEL_DB = 3.0
"""beyond the quietest and the loudest training clip"""
ABOVE_DB = 3.0
"""the machine over the room alone, in the median band"""
SURPRISED = 1 / 3
"""of the clips over the alarm threshold, from which on the machine is not the one that the bundle knows"""


@dataclass(frozen=True, slots=True)
class Finding:
    """How one thing is; what to do where it is not well."""

    what: str
    well: bool
    said: str


@dataclass(slots=True)
class Recording:
    """What has come so far."""

    rate: int
    pieces: list[np.ndarray] = field(default_factory=list)
    troubles: Counter[Trouble] = field(default_factory=Counter)
    """seconds that showed each"""
    reasons: dict[Trouble, str] = field(default_factory=dict)
    clips: list[ClipScore] = field(default_factory=list)
    gaps: int = 0
    lost: int = 0
    """samples"""
    effective_rate: float = 0.0
    """hertz by the computer's clock; 0 when it was not measured"""
    live: bool = True
    kept_s: float = math.inf
    """seconds of sound that are kept; what is older goes, and is counted all the same"""
    gone: int = 0
    """samples that were not kept"""

    @property
    def seconds(self) -> float:
        """Of sound."""
        return (self.gone + sum(piece.size for piece in self.pieces)) / self.rate

    def take(self, samples: np.ndarray) -> None:
        """Keep the latest."""
        self.pieces.append(samples)
        while self.seconds - self.gone / self.rate > self.kept_s + self.pieces[0].size / self.rate:
            self.gone += self.pieces.pop(0).size

    @property
    def drift_ppm(self) -> float | None:
        """By which the source's clock is fast."""
        known = self.effective_rate and self.seconds >= DRIFT_S
        return 1e6 * (self.effective_rate / self.rate - 1) if known else None


@dataclass(frozen=True, slots=True)
class Report:
    """What was found."""

    commissioned: Commissioned
    profile: Profile
    findings: tuple[Finding, ...]
    drift_ppm: float | None
    lost: int
    """samples"""
    scores: tuple[float, ...]
    """surprise of each clip"""
    threshold: float

    @property
    def fit(self) -> bool:
        """All is well."""
        return all(finding.well for finding in self.findings)


def commission(
    config: Config,
    machine: str,
    seconds: float,
    state: str,
    before: Commissioned | None = None,
    *,
    progress: Progress = lambda _: None,
) -> Report:
    """Listen to a machine and judge its ear.

    Args:
        config: of the daemon.
        machine: its name there.
        seconds: of sound.
        state: that the machine is in.
        before: what was found the last time.
        progress: looks on.

    Raises:
        ConfigError: no machine of that name, or the daemon would lose what is heard here.
        BundleError: its bundle cannot be used here.
        SourceError: its source delivers nothing.
    """
    if machine not in config.machines:
        msg = f"no machine {machine!r} in the config, which has {', '.join(config.machines)}"
        raise ConfigError(msg)
    settings = config.machines[machine]
    bundle = open_model(settings.bundle, config.state_dir, config.trust.trust())
    source = config.sources[settings.source]
    listener, card = bundle.scorer(settings.head), bundle.manifest.heads[bundle.key(settings.head)]
    threshold = settings.alarm.policy(card.thresholds.alarm_for(settings.alarm.on_delay)).threshold
    heard = record(config, settings.source, listener, seconds, progress=progress)
    measured = profile(np.concatenate(heard.pieces), heard.rate)
    fresh = Commissioned(
        machine=machine,
        ear=bind(source, heard.rate),
        bundle_sha256=bundle.digest,
        head=bundle.key(settings.head),
        version=1,
        created=rfc3339(datetime.now(UTC)),
        states={state: measured},
    )
    known = before.then(fresh) if before else fresh
    findings = (*judge(heard, measured), *compare(known, before, state), *(_taught(heard, card, threshold, state)))
    scores = tuple(clip.surprise for clip in heard.clips)
    return Report(known, measured, findings, heard.drift_ppm, heard.lost, scores, threshold)


# Listening


def record(
    config: Config, name: str, listener: Listener, seconds: float, kept_s: float = math.inf, *, progress: Progress
) -> Recording:
    """Listen to a source for so long, or until it has ended; of the sound the last ``kept_s`` seconds are kept.

    Raises:
        ConfigError: the daemon would lose what is heard here.
        SourceError: it delivers nothing.
    """
    spec, rate = config.sources[name].spec(), listener.windows.sample_rate
    busy = config.state_dir is not None and answers(config.state_dir)
    if busy and spec.input.startswith("pcm:"):
        msg = f"the daemon reads {spec.input}, and of a pipe each reader gets a part; stop it: systemctl stop edge-asd"
        raise ConfigError(msg)
    source = open_source(spec, rate)
    try:
        heard = Recording(rate, kept_s=kept_s, live=not spec.input.startswith(TIMELESS))
        return _listened(heard, source, listener, seconds, progress)
    except SourceError as error:
        if spec.input.startswith(TIMELESS):
            raise
        advice = "the daemon is running and may hold it; stop it meanwhile: systemctl stop edge-asd"
        msg = f"{error}; {advice if busy else 'is it held by another program?'}"
        raise SourceError(msg) from error
    finally:
        source.close()


def _listened(heard: Recording, source: Source, listener: Listener, seconds: float, progress: Progress) -> Recording:
    watch = Watch(heard.rate, heard.live)
    end, skip = 0, SETTLE_S * heard.rate if heard.live else 0
    deadline = time.monotonic() + HEAR_S
    while heard.seconds < seconds and time.monotonic() < deadline and not source.ended:
        block = source.read()
        if block is None:
            time.sleep(NAP_S)
            continue
        deadline = time.monotonic() + HEAR_S
        if block.start >= skip:
            _take(heard, watch, listener, block, end)
            progress(min(heard.seconds, seconds))
        end = block.start + block.samples.size
    if heard.seconds < 1:
        msg = f"less than a second of sound came in {HEAR_S:g} s"
        raise SourceError(msg)
    heard.effective_rate = watch.tempo.effective
    return heard


def _take(heard: Recording, watch: Watch, listener: Listener, block: Block, end: int) -> None:
    if heard.pieces and block.start != end:
        heard.gaps, heard.lost = heard.gaps + 1, heard.lost + block.start - end
    heard.take(block.samples)
    for shown in watch.push(block, time.monotonic()):
        heard.troubles.update(shown.keys())
        heard.reasons |= shown
    heard.clips += [result for result in listener.push(block) if isinstance(result, ClipScore)]


# Judging


def judge(heard: Recording, measured: Profile) -> list[Finding]:
    """The sound itself, whatever made it."""
    return [*_sound(heard), *_clock(heard), *_gain(measured)]


def compare(known: Commissioned, before: Commissioned | None, state: str) -> list[Finding]:
    """The states of the machine with each other, and with what was found before."""
    return [*_room(known, state), *_since(before, known, state)]


def _taught(heard: Recording, card: HeadCard, threshold: float, state: str) -> list[Finding]:
    """What the bundle makes of it; nothing of a machine that is off."""
    return [] if state == OFF else [*_level(heard.clips, card), *_model(heard.clips, threshold)]


def _sound(heard: Recording) -> list[Finding]:
    told = [
        Finding("sound", well=False, said=heard.reasons[trouble])
        for trouble, rule in RULES.items()
        if trouble is not Trouble.LOSS and heard.troubles[trouble] >= min(rule.onset, PATIENCE_S)
    ]
    whole = f"{heard.seconds:.0f} s of sound"
    lost = f"{heard.lost} samples were lost in {heard.gaps} gaps; free the processor or the bus it shares"
    flow = Finding("flow", well=not heard.gaps, said=lost if heard.gaps else f"{whole}, none lost")
    return [*(told or [Finding("sound", well=True, said="neither silent, stuck, clipping nor band-limited")]), flow]


def _clock(heard: Recording) -> list[Finding]:
    drift = heard.drift_ppm
    if drift is None:
        said = f"not measured in less than {DRIFT_S:.0f} s" if heard.live else "of a recording, which has none"
        return [Finding("clock", well=True, said=said)]
    said = f"{drift:+.0f} ppm against this computer's"
    if abs(drift) > LOSSY_PPM:
        return [Finding("clock", well=False, said=f"{said}, as no quartz is; another device, or a shorter cable")]
    return [Finding("clock", well=True, said=said + (", more than usual" if abs(drift) > QUARTZ_PPM else ""))]


def _gain(measured: Profile) -> list[Finding]:
    said = f"peak {measured.peak_dbfs:.1f} dBFS, crest {measured.crest_db:.0f} dB, {measured.clipped:.3%} at full scale"
    advice = "; lower the gain by 10 dB" if measured.clipped else ""
    return [Finding("headroom", well=not measured.clipped, said=said + advice)]


def _room(known: Commissioned, state: str) -> list[Finding]:
    """Whether the machine is heard over the room, where that is known."""
    if OFF not in known.states:
        said = (
            "the room alone is not known, so a covered microphone looks like a machine that stands still: switch it "
            f"off and run edge-asd commission {known.machine} --state {OFF}"
        )
        return [Finding("room", well=True, said=said)]
    others = [name for name in known.states if name != OFF] if state == OFF else [state]
    return [_above(known, name) for name in others]


def _above(known: Commissioned, state: str) -> Finding:
    above, _ = difference(known.states[state].bands, known.states[OFF].bands)
    said = f"{state}: {above:+.1f} dB over the room alone in the median band"
    advice = "" if above >= ABOVE_DB else "; move the microphone closer, or away from other noise"
    return Finding("room", well=not advice, said=said + advice)


def _level(clips: list[ClipScore], card: HeadCard) -> list[Finding]:
    """Against the training clips."""
    if not clips:
        return []
    level, (quietest, loudest) = float(np.median([clip.level_dbfs for clip in clips])), card.level_dbfs
    said = f"{level:.1f} dBFS; trained from {quietest:.1f} to {loudest:.1f}"
    advice = ""
    if level < quietest - LEVEL_DB:
        advice = f"; raise the gain by {quietest - level:.0f} dB or move closer"
    if level > loudest + LEVEL_DB:
        advice = f"; lower the gain by {level - loudest:.0f} dB or move away"
    return [Finding("level", well=not advice, said=said + advice)]


def _model(clips: list[ClipScore], threshold: float) -> list[Finding]:
    if not clips:
        return [Finding("model", well=False, said="no clip was whole and fit to be scored; record longer")]
    over = sum(clip.surprise >= threshold for clip in clips)
    said = f"{over} of {len(clips)} clips over the alarm threshold {threshold:.2f}"
    if over > SURPRISED * len(clips):
        advice = "the bundle does not know this machine here, or it is not well: choose another head, or train on it"
        return [Finding("model", well=False, said=f"{said}; {advice}")]
    return [Finding("model", well=True, said=said)]


def _since(before: Commissioned | None, known: Commissioned, state: str) -> list[Finding]:
    """A microphone that was moved a little shows here and nowhere else."""
    if before is None or before.ear != known.ear or state not in before.states:
        return []
    shift, shape = difference(known.states[state].bands, before.states[state].bands)
    said = f"since {before.created}: {shift:+.1f} dB in the median band, bands else {shape:.1f} dB apart"
    return [Finding("before", well=True, said=said)]
