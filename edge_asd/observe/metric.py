"""Everything that Prometheus can ask about (``device.md`` section 3.2).

Metrics watch the watcher; MQTT carries the alarms.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from enum import StrEnum
from itertools import product
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    make_wsgi_app,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from edge_asd.alarm.alarm import Alarm, State, Suppression
from edge_asd.capture.source import SourceState
from edge_asd.deliver.message import Verb
from edge_asd.observe.board import free_bytes, temperature_c
from edge_asd.observe.clock import Direction, clock_synced
from edge_asd.observe.web import serve
from edge_asd.signal.health import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from prometheus_client import Metric

    from edge_asd.capture.source import Loss
    from edge_asd.deliver.publisher import Traffic
    from edge_asd.deliver.store import Condition
    from edge_asd.observe.web import Certificate, MetricServer, Page
    from edge_asd.score.clip import ClipScore, Skipped

LOST = ("overflow", "gap", "ring_full", "restart")
RESTARTS = ("ok", "failed")
UNFIT = "unfit_source"
"""of a clip: it looks well by itself, but the ear was not"""
CLIPS = ("scored", "gap", "overload", "error", UNFIT, *Fault)
SEGMENTS = ("scored", "skipped_invalid", "skipped_overload", "error")
OUTCOMES = ("ok", "refused")
"""of a command"""
KEPT = ("ok", "failed")
"""of a recording for people"""
STRANGE = "unknown"
"""stands for every verb that is none, of which there are without end"""
INFERENCE_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
LATENCY_S = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
MULTIPLES = (0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0, 4.0)
"""clip score over threshold"""


class Outcome(StrEnum):
    """What became of a model, or of the wish to change it."""

    INSTALLED = "installed"
    REFUSED = "refused"
    FIT = "fit"
    UNFIT = "unfit"
    UNDECIDED = "undecided"
    ACTIVATED = "activated"
    KEPT = "kept"
    RETURNED = "returned"
    """the node went back to the one before by itself"""
    ROLLED_BACK = "rolled_back"
    """because somebody wanted it"""


@dataclass(frozen=True, slots=True)
class MachineLabel:
    """A machine as the metrics name it."""

    machine: str
    model: str
    version: str
    sha256: str
    backend: str
    precision: str


class Metrics:
    """All series of one daemon, in a registry of their own; every label is there from the start."""

    def __init__(
        self, version: str, revision: str, started_at: float, sources: Iterable[str], machines: Iterable[MachineLabel]
    ) -> None:
        """Register everything; ``started_at`` is Unix time."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._build(version, revision, started_at)
        self._declare_audio()
        self._declare_scores()
        self._declare_evidence()
        self._declare_models()
        self._labels: dict[str, MachineLabel] = {}
        self._frames_before: dict[str, tuple[int, ...]] = {}
        self._ear_before: dict[str, tuple[int, int]] = {}
        self._states: dict[str, State] = {}
        for source in sources:
            self.begin_source(source)
        for label in machines:
            self.begin_machine(label)

    # What the daemon calls

    def hears(self, machine: str, source: str) -> None:
        """Which source a machine is heard by: what joins the series of both."""
        self._machine.labels(machine, source).set(1)

    def heard(self, source: str, samples: int, at: float, level_dbfs: float | None = None) -> None:
        """Samples came from a source, at Unix time ``at``."""
        self._frames.labels(source).inc(samples)
        self._last_frame.labels(source).set(at)
        if level_dbfs is not None:
            self._level.labels(source).set(level_dbfs)

    def lost(self, source: str, loss: Loss) -> None:
        """The running total of a source, as often as you like; it begins anew with a reopened source."""
        now, before = astuple(loss), self._frames_before.get(source, (0, 0))
        self._frames_before[source] = now
        self._overflows.labels(source).inc(0 < now[0] != before[0])
        for reason, total, known in zip(("overflow", "ring_full"), now, before, strict=True):
            self._lost.labels(source, reason).inc(total - known if total >= known else total)

    def lost_to(self, source: str, reason: str, samples: int) -> None:
        """Samples that were lost for another reason: ``gap`` or ``restart``."""
        self._lost.labels(source, reason).inc(samples)

    def absent(self, machine: str, *, absent: bool) -> None:
        """Whether a machine cannot be judged for want of a bundle that can be opened."""
        self._absent.labels(machine).set(absent)

    def paced(self, source: str, rate: int, effective: float) -> None:
        """Hertz of a source, as it is used and as the monotonic clock has it."""
        self._rate.labels(source).set(rate)
        self._effective.labels(source).set(effective)

    def flawed(self, source: str, clipped: int, missing: int) -> None:
        """Running totals of an ear: samples at full scale, and those that the clock misses."""
        known_clipped, known_missing = self._ear_before.get(source, (0, 0))
        self._ear_before[source] = clipped, missing
        self._clipped.labels(source).inc(clipped - known_clipped)
        self.lost_to(source, "gap", missing - known_missing)

    def source_state(self, source: str, state: SourceState) -> None:
        """The state an ear is in; the others are nought."""
        for each in SourceState:
            self._state.labels(source, each).set(each is state)

    def restarted(self, source: str, *, ok: bool) -> None:
        """A source was opened again, or could not be."""
        self._restarts.labels(source, "ok" if ok else "failed").inc()

    def unsigned(self, models: int) -> None:
        """So many models are in use that nobody vouches for."""
        self._unsigned.set(models)

    def scored(self, machine: str, clip: ClipScore, threshold: float, at: float) -> None:
        """A clip got its score at Unix time ``at``."""
        self._clips.labels(machine, "scored").inc()
        self._segments.labels(machine, "scored").inc(len(clip.segment_scores))
        self._clip_score.labels(machine).set(clip.surprise)
        self._threshold.labels(machine).set(threshold)
        self._last_scored.labels(machine).set(at)
        self._distribution.labels(machine).observe(clip.surprise / threshold)
        if clip.segment_scores:
            self._segment_score.labels(machine).set(clip.segment_scores[-1])

    def skipped(self, machine: str, skipped: Skipped, segments: int = 0) -> None:
        """Audio was heard and not scored; ``segments`` would have been cut from it."""
        self._clips.labels(machine, skipped.reason).inc()
        self._segments.labels(machine, "skipped_invalid").inc(segments)

    def shed(self, machine: str, clips: int, segments: int) -> None:
        """So many clips of so many segments each were given up, unheard: the computer is too slow."""
        self._clips.labels(machine, "overload").inc(clips)
        self._segments.labels(machine, "skipped_overload").inc(clips * segments)

    def failed(self, machine: str, segments: int) -> None:
        """A clip of so many segments could not be scored."""
        self._clips.labels(machine, "error").inc()
        self._segments.labels(machine, "error").inc(segments)

    def late(self, machine: str, seconds: float) -> None:
        """From a clip's last sample to its score and what came of it."""
        self._latency.labels(machine).observe(seconds)

    def filled(self, source: str, ratio: float) -> None:
        """How much of a source's buffer is taken by audio that nobody has read."""
        self._fill.labels(source).set(ratio)

    def inferred(self, model: str, seconds: float) -> None:
        """The network looked at one segment."""
        self._inference.labels(model).observe(seconds)

    def alarm(self, machine: str, alarm: Alarm) -> None:
        """The alarm as it stands; a new state counts as a transition to it."""
        for state in State:
            self._alarms.labels(machine, state).set(alarm.state is state)
        for suppression in Suppression:
            self._suppressions.labels(machine, suppression).set(alarm.suppression is suppression)
        if self._states.get(machine, alarm.state) is not alarm.state:
            self._transitions.labels(machine, alarm.state).inc()
        self._states[machine] = alarm.state

    def drifting(self, machine: str, reach: float, *, lasting: bool) -> None:
        """How far the days of a machine's scores have gone, 1 being a drift, and whether one lasts."""
        self._reach.labels(machine).set(reach)
        self._drifting.labels(machine).set(lasting)

    def flooded(self, *, lasting: bool) -> None:
        """Whether alarms come too fast to be told one by one."""
        self._flood.set(lasting)

    def commanded(self, verb: str, outcome: str) -> None:
        """Somebody asked for something, which may be nothing that we know."""
        self._commands.labels(verb if verb in list(Verb) else STRANGE, outcome).inc()

    def kept(self, evicted: int, total: int) -> None:
        """A recording was kept; older ones made room for it, and all take so many bytes now."""
        self._kept.labels("ok").inc()
        self._evicted.labels("room").inc(evicted)
        self.stored(total)

    def not_kept(self) -> None:
        """A recording could not be kept."""
        self._kept.labels("failed").inc()

    def stored(self, total: int) -> None:
        """All recordings take so many bytes."""
        self._clip_bytes.set(total)

    def stepped(self, direction: Direction) -> None:
        """Somebody has set the wall clock."""
        self._steps.labels(direction).inc()

    def switched(self, label: MachineLabel) -> None:
        """A machine is judged by another model."""
        self._model.remove(*astuple(self._labels[label.machine]))
        self._name(label)

    def shadowed(self, machine: str, surprise: float | None) -> None:
        """What the model beside the one that speaks says of a clip; None: nobody hears along any more."""
        self._shadow.labels(machine).set(math.nan if surprise is None else surprise)

    def updated(self, outcome: Outcome) -> None:
        """A model was installed, tried or changed."""
        self._updates.labels(outcome).inc()

    def watch(self, traffic: Callable[[], Traffic], store: Callable[[], Condition], wall: Callable[[], float]) -> None:
        """Show what the publisher and the store count; they are asked at every scrape, and ``wall`` for Unix time."""
        self.registry.register(_DeliveryCollector(traffic, store, wall))

    def watch_node(self, folder: Path | None) -> None:
        """Show how the computer is, asked at every scrape; ``folder`` is where state is kept."""
        self.registry.register(_NodeCollector(folder))

    def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 9464,
        certificate: Certificate | None = None,
        pages: Mapping[str, Callable[[], Page]] | None = None,
    ) -> MetricServer:
        """Answer Prometheus, and health checks by the path of their page; port 0 takes a free one.

        Raises:
            ConfigError: somebody else has the port, the address is not ours, or the certificate cannot be used.
        """
        return serve(make_wsgi_app(self.registry), host, port, certificate, pages)

    # Series

    def _build(self, version: str, revision: str, started_at: float) -> None:
        build = self._gauge("build_info", "Version and revision.", "version", "revision")
        build.labels(version, revision).set(1)
        self._gauge("start_time_seconds", "Unix time the daemon started.").set(started_at)
        self._gauge("config_last_reload_successful", "1 when the settings in force are those last read.").set(1)
        read = self._gauge("config_last_reload_success_timestamp_seconds", "Unix time the settings in force were read.")
        read.set(started_at)
        self._steps = self._counter("clock_steps_total", "Times the wall clock was set.", "direction")
        for direction in Direction:
            self._steps.labels(direction)

    def _declare_audio(self) -> None:
        state = "edge_asd_audio_source_state"
        self._state = self._gauge("audio_source_state", "State of the audio source.", "source", state)
        self._last_frame = self._gauge("audio_last_frame_timestamp_seconds", "Unix time of the last frame.", "source")
        self._frames = self._counter("audio_frames_total", "Audio frames received.", "source")
        self._lost = self._counter("audio_frames_lost_total", "Audio frames lost.", "source", "reason")
        self._overflows = self._counter("audio_overflows_total", "Times the device dropped audio.", "source")
        self._clipped = self._counter("audio_clipped_frames_total", "Audio frames at full scale.", "source")
        self._rate = self._gauge("audio_sample_rate_hertz", "Sample rate audio is used at.", "source")
        self._effective = self._gauge(
            "audio_effective_sample_rate_hertz", "Sample rate by the monotonic clock, 0 until measured.", "source"
        )
        self._restarts = self._counter("audio_restarts_total", "Attempts to open again.", "source", "outcome")
        self._fill = self._gauge("ring_buffer_fill_ratio", "Share of the ring buffer that is unread.", "source")
        self._level = self._gauge("audio_level_dbfs", "RMS level of the last clip in dBFS.", "source")

    def _declare_scores(self) -> None:
        labels = ("machine", "model", "version", "sha256", "backend", "precision")
        self._absent = self._gauge("machine_absent", "1 while the machine's bundle cannot be opened.", "machine")
        self._model = self._gauge("model_info", "Bundle that a machine is judged by.", *labels)
        self._unsigned = self._gauge("unsigned_models", "Models in use that nobody who is trusted signed.")
        self._machine = self._gauge("machine_info", "Source that a machine is heard by.", "machine", "source")
        self._segments = self._counter("segments_total", "Segments by outcome.", "machine", "outcome")
        self._clips = self._counter("clips_total", "Clips by outcome.", "machine", "outcome")
        self._inference = self._histogram(
            "inference_duration_seconds", "Model run time per segment.", INFERENCE_S, "model"
        )
        self._latency = self._histogram(
            "end_to_end_latency_seconds", "From a clip's last sample to its score.", LATENCY_S, "machine"
        )
        self._segment_score = self._gauge("segment_score", "Last segment score.", "machine")
        self._clip_score = self._gauge("clip_score", "Last clip score.", "machine")
        self._threshold = self._gauge("clip_threshold", "Alarm threshold in force.", "machine")
        self._last_scored = self._gauge(
            "clip_last_scored_timestamp_seconds", "Unix time of the last scored clip, 0 before the first.", "machine"
        )
        self._distribution = self._histogram(
            "clip_score_distribution", "Clip score divided by threshold.", MULTIPLES, "machine"
        )
        self._alarms = self._gauge("alarms", "Alarms by state.", "machine", "edge_asd_alarm_state")
        self._transitions = self._counter("alarm_transitions_total", "Alarm state changes.", "machine", "to")
        self._suppressions = self._gauge(
            "alarm_suppression", "Why an alarm is kept from people.", "machine", "edge_asd_alarm_suppression"
        )
        self._reach = self._gauge("score_drift_ratio", "How far scores have drifted, 1 is told.", "machine")
        self._drifting = self._gauge("score_drifting", "1 while scores are not as they were.", "machine")
        self._flood = self._gauge("alarm_flood", "1 while alarms are told together.")
        self._commands = self._counter("commands_total", "Commands of operators.", "verb", "outcome")
        for verb, outcome in product((*Verb, STRANGE), OUTCOMES):
            self._commands.labels(verb, outcome)

    def _declare_evidence(self) -> None:
        self._kept = self._counter("clips_kept_total", "Recordings kept for people, by outcome.", "outcome")
        self._evicted = self._counter("clips_evicted_total", "Recordings deleted for newer ones.", "reason")
        self._clip_bytes = self._gauge("clip_store_bytes", "Bytes of recordings, when one was kept or at the start.")
        self._evicted.labels("room")
        for outcome in KEPT:
            self._kept.labels(outcome)

    def _declare_models(self) -> None:
        self._shadow = self._gauge(
            "shadow_clip_score", "Last clip score of the model that hears along, NaN while none does.", "machine"
        )
        self._updates = self._counter("model_updates_total", "Models installed, tried and changed.", "outcome")
        for outcome in Outcome:
            self._updates.labels(outcome)

    def _name(self, label: MachineLabel) -> None:
        self._labels[label.machine] = label
        self._model.labels(*astuple(label)).set(1)
        self._inference.labels(label.model)

    def begin_source(self, source: str) -> None:
        """Every series of a source is there before anything is heard."""
        counters, gauges = (self._overflows, self._clipped), (self._rate, self._effective)
        for series in (self._frames, self._last_frame, self._level, self._fill, *counters, *gauges):
            series.labels(source)
        for reason in LOST:
            self._lost.labels(source, reason)
        for outcome in RESTARTS:
            self._restarts.labels(source, outcome)
        self.source_state(source, SourceState.RECOVERING)
        self._level.labels(source).set(-120.0)

    def begin_machine(self, label: MachineLabel) -> None:
        """Every series of a machine is there before anything is scored."""
        machine = label.machine
        self._name(label)
        self.absent(machine, absent=False)
        self.shadowed(machine, None)
        for histogram in (self._distribution, self._latency):
            histogram.labels(machine)
        for series in (self._segment_score, self._clip_score, self._threshold, self._last_scored):
            series.labels(machine)
        for counter, outcomes in ((self._segments, SEGMENTS), (self._clips, CLIPS), (self._transitions, State)):
            for outcome in outcomes:
                counter.labels(machine, outcome)
        self.alarm(machine, Alarm())
        self.drifting(machine, 0.0, lasting=False)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"edge_asd_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"edge_asd_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"edge_asd_{name}", text, labels, buckets=buckets, registry=self.registry)


@dataclass(frozen=True, slots=True)
class _DeliveryCollector:
    """Publisher and store count; this only tells."""

    traffic: Callable[[], Traffic]
    store: Callable[[], Condition]
    wall: Callable[[], float]

    def collect(self) -> Iterator[Metric]:
        now, kept = self.traffic(), self.store()
        oldest = 0.0 if kept.oldest_s is None else self.wall() - kept.oldest_s
        for name, text, value in (
            ("mqtt_connected", "1 when connected.", now.connected),
            ("mqtt_insecure", "1 when the broker is not verified.", now.insecure),
            ("mqtt_outbox_messages", "Messages that wait for the broker.", sum(kept.waiting.values())),
            ("mqtt_outbox_bytes", "Bytes that wait for the broker.", sum(kept.waiting_bytes.values())),
            ("mqtt_outbox_oldest_timestamp_seconds", "Unix time of the oldest that waits, 0 when none does.", oldest),
            ("mqtt_deaf_filters", "Topics that the broker does not let us hear commands on.", len(now.deaf)),
            ("store_ok", "1 while state and outbox can be kept on disk.", not kept.trouble),
            ("store_spare_messages", "Messages kept in memory only, because the disk fails.", kept.spare),
        ):
            yield GaugeMetricFamily(f"edge_asd_{name}", text, value)
        yield _counted(
            "mqtt_connects", "Attempts to connect.", ("outcome",), {(k,): n for k, n in now.connects.items()}
        )
        messages = {(k,): n for k, n in now.published.items()}
        yield _counted("mqtt_messages", "Messages the broker has acknowledged.", ("kind",), messages)
        dropped = dict(now.dropped)
        for key, count in kept.dropped.items():
            dropped[key] = dropped.get(key, 0) + count
        yield _counted("mqtt_outbox_dropped", "Messages dropped.", ("kind", "reason"), dropped)


@dataclass(frozen=True, slots=True)
class _NodeCollector:
    """What nobody can say is left out: an invented number would be worse than none."""

    folder: Path | None

    def collect(self) -> Iterator[Metric]:
        for name, text, value in (
            ("clock_synchronised", "1 when the kernel's clock was set by NTP or the like.", clock_synced()),
            ("disk_free_bytes", "Bytes free where state is kept.", free_bytes(self.folder) if self.folder else None),
            ("temperature_celsius", "Temperature of the hottest zone of the computer.", temperature_c()),
        ):
            if value is not None:
                yield GaugeMetricFamily(f"edge_asd_{name}", text, value)


def _counted(name: str, text: str, labels: tuple[str, ...], counts: Mapping[Any, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"edge_asd_{name}", text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family
