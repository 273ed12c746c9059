"""Draws the dashboards: what is shown is written here, and Grafana's JSON is made of it.

    python3 deploy/grafana/draw.py [DIRECTORY]

Import the files in Grafana, or provision the folder; the data source is chosen on the dashboard. They know the nodes as
the job `edge_asd` (deploy/prometheus/prometheus.yml).
"""
# ruff: noqa: INP001 - a script, no package

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCE = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
WIDTH = 24
"""columns of Grafana's grid"""
HEIGHTS = {"stat": 4}
USUAL_HEIGHT = 8
NODE = 'job="edge_asd", instance=~"$instance"'
EAR = f'{NODE}, source=~"$source"'
MACHINE = f'{NODE}, machine=~"$machine"'
RED_ABOVE_0 = ((None, "green"), (1, "red"))
GREEN_FROM_1 = ((None, "red"), (1, "green"))
VARIABLES = {
    "instance": 'label_values(edge_asd_build_info{job="edge_asd"}, instance)',
    "source": f"label_values(edge_asd_audio_frames_total{{{NODE}}}, source)",
    "machine": f"label_values(edge_asd_machine_info{{{NODE}}}, machine)",
}


@dataclass(frozen=True)
class Panel:
    """One picture: queries with the legend of each."""

    title: str
    queries: tuple[tuple[str, str], ...]
    about: str
    """what a reader may conclude from it"""
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 12
    steps: tuple[tuple[float | None, str], ...] = ((None, "green"),)
    """colours, each from a value on"""
    hidden: tuple[str, ...] = ()
    """columns that a table leaves out"""


@dataclass(frozen=True)
class Dashboard:
    """Panels, and what is chosen above them."""

    name: str
    title: str
    variables: tuple[str, ...]
    panels: tuple[Panel, ...]
    annotations: dict[str, str] = field(default_factory=dict)
    """queries whose rises are marked in all panels, by name"""


def quantiles(metric: str, labels: str, by: str) -> tuple[tuple[str, str], ...]:
    """The median, and what one in twenty and one in a hundred exceed."""
    return tuple(
        (f"histogram_quantile({q}, sum by (le, {by}) (rate({metric}_bucket{{{labels}}}[$__rate_interval])))", legend)
        for q, legend in ((0.5, f"p50 {{{{{by}}}}}"), (0.95, f"p95 {{{{{by}}}}}"), (0.99, f"p99 {{{{{by}}}}}"))
    )


FLEET = Dashboard(
    "fleet",
    "edge_asd: fleet",
    ("instance",),
    (
        Panel(
            "Nodes up",
            ((f"sum(up{{{NODE}}})", "up"),),
            "Nodes that answer.",
            "stat",
            width=4,
            steps=GREEN_FROM_1,
        ),
        Panel(
            "Nodes down",
            ((f"sum(1 - up{{{NODE}}})", "down"),),
            "Nodes that Prometheus knows and that do not answer.",
            "stat",
            width=4,
            steps=RED_ABOVE_0,
        ),
        Panel(
            "Machines in alarm",
            ((f'sum(edge_asd_alarms{{{NODE}, edge_asd_alarm_state=~"active_.*|latched_.*"}})', "in alarm"),),
            "Acknowledged or not.",
            "stat",
            width=4,
            steps=RED_ABOVE_0,
        ),
        Panel(
            "Microphones not well",
            ((f'sum(1 - edge_asd_audio_source_state{{{NODE}, edge_asd_audio_source_state="ok"}})', "not well"),),
            "Their machines are not listened to.",
            "stat",
            width=4,
            steps=RED_ABOVE_0,
        ),
        Panel(
            "Longest without a score",
            ((f"max(time() - (edge_asd_clip_last_scored_timestamp_seconds{{{NODE}}} > 0))", "longest"),),
            "Of all machines: since the end of the clip that was scored last.",
            "stat",
            "s",
            4,
            ((None, "green"), (60, "orange"), (900, "red")),
        ),
        Panel(
            "Oldest message that waits",
            (
                (
                    f"max(time() - (edge_asd_mqtt_outbox_oldest_timestamp_seconds{{{NODE}}} > 0)) or vector(0)",
                    "oldest",
                ),
            ),
            "Of all nodes; minutes mean that a broker is not reached.",
            "stat",
            "s",
            4,
            ((None, "green"), (60, "orange"), (600, "red")),
        ),
        Panel(
            "Machines in alarm",
            (
                (
                    f'edge_asd_alarms{{{NODE}, edge_asd_alarm_state=~"active_.*|latched_.*"}} == 1 or on () vector(0)',
                    "{{instance}} {{machine}} {{edge_asd_alarm_state}}",
                ),
            ),
            "When, and until when.",
            "state-timeline",
        ),
        Panel(
            "Machines that nothing judges",
            ((f"edge_asd_machine_absent{{{NODE}}} == 1 or on () vector(0)", "{{instance}} {{machine}}"),),
            "Their model cannot be opened; tried again each minute.",
            "state-timeline",
        ),
        Panel(
            "Microphones that are not well",
            (
                (
                    f'edge_asd_audio_source_state{{{NODE}, edge_asd_audio_source_state!="ok"}} == 1 or on () vector(0)',
                    "{{instance}} {{source}} {{edge_asd_audio_source_state}}",
                ),
            ),
            "When, and what they were instead.",
            "state-timeline",
        ),
        Panel(
            "Score over threshold",
            (
                (
                    f"topk(10, edge_asd_clip_score{{{NODE}}} / edge_asd_clip_threshold{{{NODE}}})",
                    "{{instance}} {{machine}}",
                ),
            ),
            "The ten machines that are closest to an alarm, or beyond: 1 is the threshold.",
        ),
        Panel(
            "What the rules say",
            (('ALERTS{alertname=~"EdgeAsd.*", alertstate="firing"}', ""),),
            "Firing now (deploy/prometheus/rules.yml).",
            "table",
            hidden=("Time", "Value", "__name__", "alertstate", "job"),
        ),
        Panel(
            "Versions",
            ((f"edge_asd_build_info{{{NODE}}}", ""),),
            "Of the program, by node.",
            "table",
            hidden=("Time", "Value", "__name__", "job"),
        ),
        Panel(
            "Clock not synchronised",
            ((f"1 - edge_asd_clock_synchronised{{{NODE}}}", "{{instance}}"),),
            "1 where nobody sets the clock: times of its events drift.",
            "state-timeline",
        ),
    ),
)

EARS = Dashboard(
    "ear",
    "edge_asd: ear",
    ("instance", "source"),
    (
        Panel(
            "State",
            ((f"edge_asd_audio_source_state{{{EAR}}} == 1", "{{source}} {{edge_asd_audio_source_state}}"),),
            "Only sound that is ok is judged.",
            "state-timeline",
            width=24,
        ),
        Panel(
            "Level",
            ((f"edge_asd_audio_level_dbfs{{{EAR}}}", "{{source}}"),),
            "RMS of the last clip, 0 is full scale. A step without a reason is a gain that was turned.",
            unit="dB",
        ),
        Panel(
            "Sound at full scale",
            (
                (
                    (
                        f"rate(edge_asd_audio_clipped_frames_total{{{EAR}}}[$__rate_interval]) "
                        f"/ (rate(edge_asd_audio_frames_total{{{EAR}}}[$__rate_interval]) > 0)"
                    ),
                    "{{source}}",
                ),
            ),
            "Share of samples; from 1 % on a clip is not judged. Turn the gain down.",
            unit="percentunit",
        ),
        Panel(
            "Clock of the microphone",
            (
                (
                    (
                        f"1e6 * ((edge_asd_audio_effective_sample_rate_hertz{{{EAR}}} > 0) "
                        f"/ edge_asd_audio_sample_rate_hertz{{{EAR}}} - 1)"
                    ),
                    "{{source}}",
                ),
            ),
            "Parts per million off its nominal rate; crystals are within 100, and what is far off loses sound.",
            unit="ppm",
        ),
        Panel(
            "Sound lost",
            (
                (
                    (
                        f"sum by (instance, source, reason) "
                        f"(rate(edge_asd_audio_frames_lost_total{{{EAR}}}[$__rate_interval])) / on (instance, source) "
                        f"group_left () edge_asd_audio_sample_rate_hertz{{{EAR}}}"
                    ),
                    "{{source}} {{reason}}",
                ),
            ),
            "Share of time, by reason.",
            unit="percentunit",
        ),
        Panel(
            "Overflows",
            ((f"increase(edge_asd_audio_overflows_total{{{EAR}}}[$__rate_interval])", "{{source}}"),),
            "Times the device dropped sound because nobody took it.",
        ),
        Panel(
            "Opened again",
            ((f"increase(edge_asd_audio_restarts_total{{{EAR}}}[$__rate_interval])", "{{source}} {{outcome}}"),),
            "Attempts. A loose plug shows here.",
        ),
        Panel(
            "Time since sound came",
            ((f"time() - (edge_asd_audio_last_frame_timestamp_seconds{{{EAR}}} > 0)", "{{source}}"),),
            "Below a second on a live microphone, and what the scrape adds.",
            unit="s",
        ),
        Panel(
            "Buffer unread",
            ((f"edge_asd_ring_buffer_fill_ratio{{{EAR}}}", "{{source}}"),),
            "At 1 sound is lost.",
            unit="percentunit",
        ),
    ),
)

MACHINES = Dashboard(
    "machine",
    "edge_asd: machine",
    ("instance", "machine"),
    (
        Panel(
            "Score and threshold",
            (
                (f"edge_asd_clip_score{{{MACHINE}}}", "{{machine}}"),
                (f"edge_asd_clip_threshold{{{MACHINE}}}", "{{machine}} threshold"),
                (f"edge_asd_segment_score{{{MACHINE}}}", "{{machine}} last segment"),
            ),
            "Surprise: minus the logarithm of how probable so odd a clip is on a healthy machine.",
            width=24,
        ),
        Panel(
            "Scores, in multiples of the threshold",
            (
                (
                    f"sum by (le) (increase(edge_asd_clip_score_distribution_bucket{{{MACHINE}}}[$__rate_interval]))",
                    "{{le}}",
                ),
            ),
            "Counts every clip, however seldom one looks: a distribution that moves is a machine that changes.",
            "heatmap",
        ),
        Panel(
            "This hour a week ago",
            (
                (f"avg_over_time(edge_asd_clip_score{{{MACHINE}}}[1h])", "{{machine}}"),
                (f"avg_over_time(edge_asd_clip_score{{{MACHINE}}}[1h] offset 7d)", "{{machine}} a week ago"),
            ),
            "The mean score of an hour beside that of the same hour last week: same shift, same product?",
        ),
        Panel(
            "Drift",
            (
                (f"edge_asd_score_drift_ratio{{{MACHINE}}}", "{{machine}}"),
                (f"edge_asd_score_drifting{{{MACHINE}}}", "{{machine}} drifts"),
            ),
            "How far the days have gone from the machine's first weeks; at 1 it is told, below 0.5 over. No alarm.",
            width=24,
        ),
        Panel(
            "Alarm",
            ((f"edge_asd_alarms{{{MACHINE}}} == 1", "{{machine}} {{edge_asd_alarm_state}}"),),
            "Its state; unacked wants somebody.",
            "state-timeline",
        ),
        Panel(
            "Kept from people",
            (
                (
                    f"edge_asd_alarm_suppression{{{MACHINE}}} == 1",
                    "{{machine}} {{edge_asd_alarm_suppression}}",
                ),
            ),
            "Shelved, suppressed by design, or out of service.",
            "state-timeline",
        ),
        Panel(
            "What became of the clips",
            (
                (
                    f"sum by (machine, outcome) (increase(edge_asd_clips_total{{{MACHINE}}}[$__rate_interval])) > 0",
                    "{{machine}} {{outcome}}",
                ),
            ),
            "Only scored ones can raise an alarm or end it.",
        ),
        Panel(
            "Alarms raised and ended",
            (
                (
                    f"sum by (machine, to) (increase(edge_asd_alarm_transitions_total{{{MACHINE}}}[$__range]))",
                    "{{machine}} {{to}}",
                ),
            ),
            "In the time shown.",
            "bargauge",
        ),
        Panel(
            "Since the last score",
            ((f"time() - (edge_asd_clip_last_scored_timestamp_seconds{{{MACHINE}}} > 0)", "{{machine}}"),),
            "Somewhat more than a clip is usual.",
            unit="s",
        ),
        Panel(
            "Heard by, judged by",
            (
                (
                    (
                        f"edge_asd_model_info{{{MACHINE}}} * on (job, instance, machine) group_left (source) "
                        f"edge_asd_machine_info{{{MACHINE}}}"
                    ),
                    "",
                ),
            ),
            "Source, bundle and backend.",
            "table",
            hidden=("Time", "Value", "__name__", "job"),
        ),
    ),
    {"Alarms": f'changes(edge_asd_alarms{{{MACHINE}, edge_asd_alarm_state="active_unacked"}}[1m]) > 0'},
)

ENGINE = Dashboard(
    "engine",
    "edge_asd: engine",
    ("instance",),
    (
        Panel(
            "Model run time",
            quantiles("edge_asd_inference_duration_seconds", NODE, "model"),
            "Per segment; a clip has eight in ten seconds.",
            unit="s",
        ),
        Panel(
            "From a clip's end to its score",
            quantiles("edge_asd_end_to_end_latency_seconds", NODE, "instance"),
            "Seconds here mean that the node is close to its limit.",
            unit="s",
        ),
        Panel(
            "Processor",
            ((f"rate(process_cpu_seconds_total{{{NODE}}}[$__rate_interval])", "{{instance}}"),),
            "Cores in use by the daemon itself; the microphones' processes are not in it.",
        ),
        Panel(
            "Memory",
            ((f"process_resident_memory_bytes{{{NODE}}}", "{{instance}}"),),
            "Resident. It must not grow.",
            unit="bytes",
        ),
        Panel(
            "Clips given up or failed",
            (
                (
                    (
                        f"sum by (instance, machine, outcome) "
                        f'(increase(edge_asd_clips_total{{{NODE}, outcome=~"overload|error"}}[$__rate_interval]))'
                    ),
                    "{{instance}} {{machine}} {{outcome}}",
                ),
            ),
            "overload: the node is too slow. error: the log has the reason.",
        ),
        Panel(
            "Segments",
            (
                (
                    f"sum by (instance, outcome) (rate(edge_asd_segments_total{{{NODE}}}[$__rate_interval]))",
                    "{{instance}} {{outcome}}",
                ),
            ),
            "Per second, by what became of them.",
        ),
        Panel(
            "Temperature",
            ((f"edge_asd_temperature_celsius{{{NODE}}}", "{{instance}}"),),
            "Of the hottest zone; from 80 degrees on small computers slow down. Nothing where no sensor is.",
            unit="celsius",
        ),
        Panel(
            "Files open",
            ((f"process_open_fds{{{NODE}}}", "{{instance}}"),),
            "It must not grow.",
        ),
        Panel(
            "Clock set",
            (
                (
                    f"increase(edge_asd_clock_steps_total{{{NODE}}}[$__rate_interval])",
                    "{{instance}} {{direction}}",
                ),
            ),
            "Times that somebody set the wall clock.",
        ),
        Panel(
            "Running since, settings read",
            (
                (f"1e3 * edge_asd_start_time_seconds{{{NODE}}}", "{{instance}} running since"),
                (
                    f"1e3 * edge_asd_config_last_reload_success_timestamp_seconds{{{NODE}}}",
                    "{{instance}} settings read",
                ),
            ),
            "Neither changes but by a restart.",
            "stat",
            "dateTimeAsIso",
        ),
        Panel(
            "Models on trial",
            ((f"edge_asd_shadow_clip_score{{{NODE}}}", "{{instance}} {{machine}}"),),
            "Surprise of the model that hears along; nothing while none does.",
        ),
        Panel(
            "Models installed and changed",
            (
                (
                    f"sum by (instance, outcome) (increase(edge_asd_model_updates_total{{{NODE}}}[$__rate_interval]))",
                    "{{instance}} {{outcome}}",
                ),
            ),
            "returned: a model was taken back because it erred.",
        ),
        Panel(
            "Models that nobody vouches for",
            ((f"edge_asd_unsigned_models{{{NODE}}}", "{{instance}}"),),
            "In use though no key under trust.keys signed them.",
        ),
        Panel(
            "Models",
            ((f"edge_asd_model_info{{{NODE}}}", ""),),
            "Version, digest, backend and precision by machine.",
            "table",
            width=24,
            hidden=("Time", "Value", "__name__", "job"),
        ),
    ),
)

DELIVERY = Dashboard(
    "delivery",
    "edge_asd: delivery",
    ("instance",),
    (
        Panel(
            "Connected",
            ((f"edge_asd_mqtt_connected{{{NODE}}}", "{{instance}}"),),
            "To the broker. While it is away, events wait on the node's disk.",
            "state-timeline",
            steps=GREEN_FROM_1,
        ),
        Panel(
            "Attempts to connect",
            (
                (
                    f"sum by (instance, outcome) (increase(edge_asd_mqtt_connects_total{{{NODE}}}[1h]))",
                    "{{instance}} {{outcome}}",
                ),
            ),
            "In the last hour.",
        ),
        Panel(
            "Messages",
            (
                (
                    f"sum by (instance, kind) (rate(edge_asd_mqtt_messages_total{{{NODE}}}[$__rate_interval]))",
                    "{{instance}} {{kind}}",
                ),
            ),
            "Per second that the broker has acknowledged.",
        ),
        Panel(
            "Messages dropped",
            (
                (
                    (
                        f"sum by (instance, kind, reason) "
                        f"(increase(edge_asd_mqtt_outbox_dropped_total{{{NODE}}}[$__rate_interval]))"
                    ),
                    "{{instance}} {{kind}} {{reason}}",
                ),
            ),
            "An event here is an alarm that nobody was told of.",
            steps=RED_ABOVE_0,
        ),
        Panel(
            "Messages that wait",
            ((f"edge_asd_mqtt_outbox_messages{{{NODE}}}", "{{instance}}"),),
            "In the outbox.",
        ),
        Panel(
            "Bytes that wait",
            ((f"edge_asd_mqtt_outbox_bytes{{{NODE}}}", "{{instance}}"),),
            "In the outbox; outbox.event_mb and outbox.score_mb say how many may.",
            unit="bytes",
        ),
        Panel(
            "Oldest that waits",
            (
                (
                    (
                        f"(time() - (edge_asd_mqtt_outbox_oldest_timestamp_seconds{{{NODE}}} > 0)) "
                        f"or 0 * edge_asd_mqtt_connected{{{NODE}}}"
                    ),
                    "{{instance}}",
                ),
            ),
            "Age.",
            unit="s",
        ),
        Panel(
            "Disk",
            ((f"edge_asd_disk_free_bytes{{{NODE}}}", "{{instance}} free"),),
            "Free where state is kept.",
            unit="bytes",
        ),
        Panel(
            "State kept on disk",
            ((f"edge_asd_store_ok{{{NODE}}}", "{{instance}}"),),
            "While it is not, alarms live in memory only.",
            "state-timeline",
            steps=GREEN_FROM_1,
        ),
        Panel(
            "Kept in memory only",
            ((f"edge_asd_store_spare_messages{{{NODE}}}", "{{instance}}"),),
            "Messages that would not survive a power cut.",
        ),
        Panel(
            "Commands",
            (
                (
                    f"sum by (instance, verb, outcome) (increase(edge_asd_commands_total{{{NODE}}}[$__range])) >= 0",
                    "{{instance}} {{verb}} {{outcome}}",
                ),
            ),
            "Of operators, in the time shown.",
            "bargauge",
        ),
        Panel(
            "Broker unverified, commands unheard",
            (
                (f"edge_asd_mqtt_insecure{{{NODE}}}", "{{instance}} unverified"),
                (f"edge_asd_mqtt_deaf_filters{{{NODE}}}", "{{instance}} unheard"),
            ),
            "Both should be 0.",
            steps=RED_ABOVE_0,
        ),
        Panel(
            "Recordings",
            (
                (f"increase(edge_asd_clips_kept_total{{{NODE}}}[$__rate_interval])", "{{instance}} {{outcome}}"),
                (f"increase(edge_asd_clips_evicted_total{{{NODE}}}[$__rate_interval])", "{{instance}} made room"),
            ),
            "Of alarms, where the settings keep them.",
        ),
        Panel(
            "Recordings on disk",
            ((f"edge_asd_clip_store_bytes{{{NODE}}}", "{{instance}}"),),
            "evidence.quota_mb is the most.",
            unit="bytes",
        ),
    ),
)

DASHBOARDS = (FLEET, MACHINES, EARS, ENGINE, DELIVERY)


def drawn(dashboard: Dashboard) -> dict[str, Any]:
    """As Grafana imports it."""
    return {
        "uid": f"edge-asd-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["edge_asd"],
        "schemaVersion": 38,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_data_source(), *map(_variable, dashboard.variables)]},
        "annotations": {"list": [_annotation(name, query) for name, query in dashboard.annotations.items()]},
        "links": [{"type": "dashboards", "tags": ["edge_asd"], "title": "edge_asd", "includeVars": True}],
        "panels": [_panel(*placed) for placed in _placed(dashboard.panels)],
    }


def _data_source() -> dict[str, Any]:
    return {"name": "DS_PROMETHEUS", "label": "data source", "type": "datasource", "query": "prometheus"}


def _variable(name: str) -> dict[str, Any]:
    choice = {"includeAll": True, "multi": True, "current": {"text": "All", "value": "$__all"}, "allValue": ".*"}
    query = {"query": VARIABLES[name], "refId": name}
    return {"name": name, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2, "sort": 1} | choice


def _annotation(name: str, query: str) -> dict[str, Any]:
    return {"name": name, "datasource": SOURCE, "enable": True, "expr": query, "iconColor": "red", "step": "15s"}


def _placed(panels: tuple[Panel, ...]) -> list[tuple[int, Panel, dict[str, int]]]:
    """From left to right, in rows that are as high as what begins them."""
    placed, x, y, height = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > WIDTH:
            x, y = 0, y + height
        height = HEIGHTS.get(panel.kind, USUAL_HEIGHT) if x == 0 else height
        placed.append((number, panel, {"x": x, "y": y, "w": panel.width, "h": height}))
        x += panel.width
    return placed


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    steps = [{"value": value, "color": colour} for value, colour in panel.steps]
    table = panel.kind == "table"
    targets = [
        {"refId": chr(ord("A") + n), "datasource": SOURCE, "expr": query, "legendFormat": legend}
        | ({"instant": True, "format": "table"} if table else {})
        | ({"format": "heatmap"} if panel.kind == "heatmap" else {})
        for n, (query, legend) in enumerate(panel.queries)
    ]
    described = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
    }
    if table:
        hide = {"excludeByName": dict.fromkeys(panel.hidden, True)}
        described["transformations"] = [{"id": "organize", "options": hide}]
    return described


def main() -> None:
    """One file a dashboard."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for dashboard in DASHBOARDS:
        text = json.dumps(drawn(dashboard), indent=1, ensure_ascii=False) + "\n"
        (folder / f"{dashboard.name}.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
