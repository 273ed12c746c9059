"""Everything that Prometheus can ask about (``device.md`` section 3.2).

Metrics watch the watcher; MQTT carries the alarms.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from edge_asd.alarm.alarm import Transition
from edge_asd.capture.source import SourceState
from edge_asd.errors import ConfigError
from edge_asd.signal.health import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import Metric

    from edge_asd.capture.source import Loss
    from edge_asd.deliver.publisher import Traffic
    from edge_asd.score.clip import ClipScore, Skipped

LOST = ("overflow", "gap", "ring_full", "restart")
RESTARTS = ("ok", "failed")
CLIPS = ("scored", "gap", *Fault)
SEGMENTS = ("scored", "skipped_invalid", "skipped_overload", "error")
ALARM_STATES = ("normal", "active_unacked")
TRANSITION_TO = {Transition.ACTIVATED: "active_unacked", Transition.RETURNED: "normal"}
INFERENCE_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
MULTIPLES = (0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0, 4.0)
"""clip score over threshold"""


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
        self._frames_before: dict[str, tuple[int, ...]] = {}
        for source in sources:
            self._begin_source(source)
        for label in machines:
            self._begin_machine(label)

    # What the daemon calls

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
        for reason, total, known in zip(("overflow", "ring_full"), now, before, strict=True):
            self._lost.labels(source, reason).inc(total - known if total >= known else total)

    def lost_to(self, source: str, reason: str, samples: int) -> None:
        """Samples that were lost for another reason: ``gap`` or ``restart``."""
        self._lost.labels(source, reason).inc(samples)

    def source_state(self, source: str, state: SourceState) -> None:
        """The state an ear is in; the others are nought."""
        for each in SourceState:
            self._state.labels(source, each).set(each is state)

    def restarted(self, source: str, *, ok: bool) -> None:
        """A source was opened again, or could not be."""
        self._restarts.labels(source, "ok" if ok else "failed").inc()

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

    def inferred(self, model: str, seconds: float) -> None:
        """The network looked at one segment."""
        self._inference.labels(model).observe(seconds)

    def alarm(self, machine: str, *, active: bool, transition: Transition | None = None) -> None:
        """The alarm as it stands, and what has just happened to it."""
        for state in ALARM_STATES:
            self._alarms.labels(machine, state).set(active is (state == "active_unacked"))
        if transition:
            self._transitions.labels(machine, TRANSITION_TO[transition]).inc()

    def watch(self, traffic: Callable[[], Traffic]) -> None:
        """Show what the publisher counts; it is asked at every scrape."""
        self.registry.register(_TrafficCollector(traffic))

    def serve(self, host: str = "127.0.0.1", port: int = 9464) -> MetricServer:
        """Answer Prometheus; port 0 takes a free one.

        Raises:
            ConfigError: somebody else has the port, or the address is not ours.
        """
        try:
            server, _ = start_http_server(port, host, self.registry)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            msg = f"metrics.listen: cannot listen on {host}:{port} ({reason}); choose another port, or ''"
            raise ConfigError(msg) from error
        return MetricServer(server)

    # Series

    def _build(self, version: str, revision: str, started_at: float) -> None:
        build = self._gauge("build_info", "Version and revision.", "version", "revision")
        build.labels(version, revision).set(1)
        self._gauge("start_time_seconds", "Unix time the daemon started.").set(started_at)

    def _declare_audio(self) -> None:
        state = "edge_asd_audio_source_state"
        self._state = self._gauge("audio_source_state", "State of the audio source.", "source", state)
        self._last_frame = self._gauge("audio_last_frame_timestamp_seconds", "Unix time of the last frame.", "source")
        self._frames = self._counter("audio_frames_total", "Audio frames received.", "source")
        self._lost = self._counter("audio_frames_lost_total", "Audio frames lost.", "source", "reason")
        self._restarts = self._counter("audio_restarts_total", "Attempts to open again.", "source", "outcome")
        self._level = self._gauge("audio_level_dbfs", "RMS level of the last clip in dBFS.", "source")

    def _declare_scores(self) -> None:
        labels = ("machine", "model", "version", "sha256", "backend", "precision")
        self._model = self._gauge("model_info", "Bundle that a machine is judged by.", *labels)
        self._segments = self._counter("segments_total", "Segments by outcome.", "machine", "outcome")
        self._clips = self._counter("clips_total", "Clips by outcome.", "machine", "outcome")
        self._inference = self._histogram(
            "inference_duration_seconds", "Model run time per segment.", INFERENCE_S, "model"
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

    def _begin_source(self, source: str) -> None:
        for series in (self._frames, self._last_frame, self._level):
            series.labels(source)
        for reason in LOST:
            self._lost.labels(source, reason)
        for outcome in RESTARTS:
            self._restarts.labels(source, outcome)
        self.source_state(source, SourceState.RECOVERING)
        self._level.labels(source).set(-120.0)

    def _begin_machine(self, label: MachineLabel) -> None:
        machine = label.machine
        self._model.labels(*astuple(label)).set(1)
        self._inference.labels(label.model)
        self._distribution.labels(machine)
        for series in (self._segment_score, self._clip_score, self._threshold, self._last_scored):
            series.labels(machine)
        for counter, outcomes in ((self._segments, SEGMENTS), (self._clips, CLIPS), (self._transitions, ALARM_STATES)):
            for outcome in outcomes:
                counter.labels(machine, outcome)
        self.alarm(machine, active=False)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"edge_asd_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"edge_asd_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"edge_asd_{name}", text, labels, buckets=buckets, registry=self.registry)


@dataclass(frozen=True, slots=True)
class MetricServer:
    """The HTTP server that answers Prometheus."""

    server: WSGIServer

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server.server_port)

    def close(self) -> None:
        """Give the port back."""
        self.server.shutdown()
        self.server.server_close()


@dataclass(frozen=True, slots=True)
class _TrafficCollector:
    """The publisher counts; this only tells."""

    traffic: Callable[[], Traffic]

    def collect(self) -> Iterator[Metric]:
        now = self.traffic()
        yield GaugeMetricFamily("edge_asd_mqtt_connected", "1 when connected.", now.connected)
        yield GaugeMetricFamily("edge_asd_mqtt_insecure", "1 when the broker is not verified.", now.insecure)
        yield GaugeMetricFamily("edge_asd_mqtt_outbox_messages", "Messages that wait for the broker.", now.waiting)
        yield GaugeMetricFamily("edge_asd_mqtt_outbox_bytes", "Bytes that wait for the broker.", now.waiting_bytes)
        connects = CounterMetricFamily("edge_asd_mqtt_connects", "Attempts to connect.", labels=["outcome"])
        for outcome, count in now.connects.items():
            connects.add_metric([outcome], count)
        messages = CounterMetricFamily(
            "edge_asd_mqtt_messages", "Messages the broker has acknowledged.", labels=["kind"]
        )
        for kind, count in now.published.items():
            messages.add_metric([kind], count)
        dropped = CounterMetricFamily("edge_asd_mqtt_outbox_dropped", "Messages dropped.", labels=["kind", "reason"])
        for (kind, reason), count in now.dropped.items():
            dropped.add_metric([kind, reason], count)
        yield from (connects, messages, dropped)
