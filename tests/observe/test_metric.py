from __future__ import annotations

import shutil
import subprocess
import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from edge_asd.alarm.alarm import Alarm
from edge_asd.capture.source import Loss, SourceState
from edge_asd.deliver.message import Kind, Message
from edge_asd.deliver.outbox import Limit
from edge_asd.deliver.publisher import Traffic
from edge_asd.deliver.store import Change, Store
from edge_asd.errors import ConfigError
from edge_asd.observe.clock import Direction
from edge_asd.observe.metric import MachineLabel, Metrics
from edge_asd.score.clip import ClipScore, Skipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Prometheus

PUMP = MachineLabel("pump1", model="pump", version="2026.11.1", sha256="9f2c", backend="cpu", precision="int8")
ACTIVE = Alarm(active=True, acked=False)
CLIP = ClipScore(0, 160_000, 1.0, surprise=2.0, health_index=7, parts=(), segment_scores=(0.5, 1.5), level_dbfs=-30.0)


@pytest.fixture
def metrics(tmp_path: Path) -> Metrics:
    metrics = Metrics("0.1.0", "abc", 1.0, ["mic0"], [PUMP])
    metrics.watch(Traffic, Store(None).condition, lambda: 1000.0)
    metrics.watch_node(tmp_path)
    metrics.hears("pump1", "mic0")
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"edge_asd_{name}", labels)


def use(metrics: Metrics) -> None:
    """One of everything."""
    metrics.heard("mic0", 16_000, at=100.0, level_dbfs=-30.0)
    metrics.lost("mic0", Loss(overflow=3, ring_full=5))
    metrics.lost_to("mic0", "gap", 7)
    metrics.paced("mic0", 16_000, 15_999.5)
    metrics.flawed("mic0", clipped=11, missing=0)
    metrics.restarted("mic0", ok=True)
    metrics.source_state("mic0", SourceState.OK)
    metrics.scored("pump1", CLIP, threshold=4.0, at=110.0)
    metrics.skipped("pump1", Skipped(0, 160_000, "silent"), segments=8)
    metrics.shed("pump1", clips=2, segments=8)
    metrics.failed("pump1", segments=8)
    metrics.late("pump1", 0.3)
    metrics.filled("mic0", 0.25)
    metrics.inferred("pump", 0.004)
    metrics.alarm("pump1", ACTIVE)
    metrics.commanded("ack", "ok")
    metrics.flooded(lasting=True)
    metrics.drifting("pump1", 0.25, lasting=True)
    metrics.stepped(Direction.BACKWARD)
    metrics.kept(evicted=2, total=1_000_000)
    metrics.not_kept()


def series(metrics: Metrics) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return {(sample.name, tuple(sorted(sample.labels.items()))) for family in families for sample in family.samples}


def test_every_series_is_there_before_anything_happens(metrics: Metrics) -> None:
    """A counter that appears at one loses its first increment in ``rate``."""
    before = series(metrics)
    use(metrics)

    assert series(metrics) == before
    assert not [name for name, _ in before if name.endswith("_created")]


def test_two_daemons_may_live_in_one_process() -> None:
    first, second = (Metrics("0.1.0", "abc", 1.0, ["mic0"], [PUMP]) for _ in range(2))
    first.heard("mic0", 5, at=1.0)

    assert value(second, "audio_frames_total", source="mic0") == 0


def test_what_happens_is_counted(metrics: Metrics) -> None:
    use(metrics)

    assert value(metrics, "audio_frames_total", source="mic0") == 16_000
    assert value(metrics, "audio_frames_lost_total", source="mic0", reason="overflow") == 3
    assert value(metrics, "audio_frames_lost_total", source="mic0", reason="gap") == 7
    assert value(metrics, "clip_score", machine="pump1") == 2.0
    assert value(metrics, "segment_score", machine="pump1") == 1.5
    assert value(metrics, "clip_last_scored_timestamp_seconds", machine="pump1") == 110.0
    assert value(metrics, "segments_total", machine="pump1", outcome="scored") == 2
    assert value(metrics, "segments_total", machine="pump1", outcome="skipped_invalid") == 8
    assert value(metrics, "clips_total", machine="pump1", outcome="silent") == 1
    assert value(metrics, "clips_total", machine="pump1", outcome="overload") == 2
    assert value(metrics, "segments_total", machine="pump1", outcome="skipped_overload") == 16
    assert value(metrics, "clips_total", machine="pump1", outcome="error") == 1
    assert value(metrics, "segments_total", machine="pump1", outcome="error") == 8
    assert value(metrics, "end_to_end_latency_seconds_bucket", machine="pump1", le="0.25") == 0
    assert value(metrics, "end_to_end_latency_seconds_bucket", machine="pump1", le="0.5") == 1
    assert value(metrics, "ring_buffer_fill_ratio", source="mic0") == 0.25
    assert value(metrics, "inference_duration_seconds_bucket", model="pump", le="0.005") == 1
    assert value(metrics, "clock_steps_total", direction="backward") == 1
    assert value(metrics, "clock_steps_total", direction="forward") == 0
    assert value(metrics, "clip_store_bytes") == 1_000_000
    assert value(metrics, "score_drift_ratio", machine="pump1") == 0.25
    assert value(metrics, "score_drifting", machine="pump1") == 1


def test_the_distribution_is_in_multiples_of_the_threshold(metrics: Metrics) -> None:
    metrics.scored("pump1", replace(CLIP, surprise=3.7), threshold=4.0, at=1.0)  # 0.925

    assert value(metrics, "clip_score_distribution_bucket", machine="pump1", le="0.9") == 0
    assert value(metrics, "clip_score_distribution_bucket", machine="pump1", le="1.0") == 1


def test_a_source_is_in_exactly_one_state(metrics: Metrics) -> None:
    for state in SourceState:
        metrics.source_state("mic0", state)
        shown = {
            each: value(metrics, "audio_source_state", source="mic0", edge_asd_audio_source_state=each)
            for each in SourceState
        }
        assert {each for each, on in shown.items() if on} == {state}


def test_a_source_that_was_opened_again_loses_no_count(metrics: Metrics) -> None:
    for total in (4, 4, 10, 3, 3):  # the total began anew before the fourth
        metrics.lost("mic0", Loss(overflow=total))

    assert value(metrics, "audio_frames_lost_total", source="mic0", reason="overflow") == 13


def test_an_overflow_is_counted_once_whatever_it_took(metrics: Metrics) -> None:
    for total in (0, 400, 400, 900, 0, 100):  # the source was opened again before the fifth
        metrics.lost("mic0", Loss(overflow=total))

    assert value(metrics, "audio_overflows_total", source="mic0") == 3


def test_totals_of_an_ear_are_counted_once(metrics: Metrics) -> None:
    for clipped, missing in ((5, 0), (5, 480), (9, 480)):
        metrics.flawed("mic0", clipped, missing)

    assert value(metrics, "audio_clipped_frames_total", source="mic0") == 9
    assert value(metrics, "audio_frames_lost_total", source="mic0", reason="gap") == 480


def test_the_rate_is_shown_as_it_is_used_and_as_it_is(metrics: Metrics) -> None:
    assert value(metrics, "audio_effective_sample_rate_hertz", source="mic0") == 0
    metrics.paced("mic0", 16_000, 15_999.5)

    assert value(metrics, "audio_sample_rate_hertz", source="mic0") == 16_000
    assert value(metrics, "audio_effective_sample_rate_hertz", source="mic0") == 15_999.5


def test_an_alarm_and_its_transitions_agree(metrics: Metrics) -> None:
    metrics.alarm("pump1", ACTIVE)
    metrics.alarm("pump1", replace(ACTIVE, streak=1))
    assert value(metrics, "alarms", machine="pump1", edge_asd_alarm_state="active_unacked") == 1
    metrics.alarm("pump1", replace(ACTIVE, active=False, acked=True, out_of_service=True))

    assert value(metrics, "alarms", machine="pump1", edge_asd_alarm_state="active_unacked") == 0
    assert value(metrics, "alarms", machine="pump1", edge_asd_alarm_state="normal") == 1
    assert value(metrics, "alarm_transitions_total", machine="pump1", to="normal") == 1
    assert value(metrics, "alarm_transitions_total", machine="pump1", to="active_unacked") == 1
    assert value(metrics, "alarm_suppression", machine="pump1", edge_asd_alarm_suppression="out_of_service") == 1
    assert value(metrics, "alarm_suppression", machine="pump1", edge_asd_alarm_suppression="none") == 0


def test_what_publisher_and_store_count_is_shown_as_it_is() -> None:
    metrics = Metrics("0.1.0", "abc", 1.0, [], [])
    traffic = replace(Traffic(), connected=True, published={Kind.EVENT: 3}, dropped={(Kind.EVENT, "full"): 2})
    store = Store(None, {Kind.EVENT: Limit(10)}, clock=(moments := iter(range(10, 10**6, 5))).__next__)
    for number, payload in enumerate((b"12345678", b"123456789"), 1):
        store.commit(Change(number, events=(Message("t", payload, Kind.EVENT),)))
    metrics.watch(lambda: traffic, store.condition, lambda: 1000.0)

    assert value(metrics, "mqtt_connected") == 1
    assert value(metrics, "mqtt_messages_total", kind="event") == 3
    assert value(metrics, "mqtt_outbox_dropped_total", kind="event", reason="full") == 2 + 1
    assert value(metrics, "mqtt_outbox_messages") == 1
    assert value(metrics, "mqtt_outbox_bytes") == 9
    assert value(metrics, "store_ok") == 1
    before = next(moments)
    oldest = value(metrics, "mqtt_outbox_oldest_timestamp_seconds")
    assert oldest is not None
    assert 0 < 1000 - oldest <= before


def test_the_disk_is_the_one_that_state_is_kept_on(metrics: Metrics, tmp_path: Path) -> None:
    free = value(metrics, "disk_free_bytes")
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)


def test_without_a_place_for_state_no_disk_is_invented() -> None:
    metrics = Metrics("0.1.0", "abc", 1.0, [], [])
    metrics.watch_node(None)

    assert value(metrics, "disk_free_bytes") is None
    assert value(metrics, "clock_synchronised") in {0, 1}


def test_the_settings_count_as_read_when_the_daemon_starts() -> None:
    metrics = Metrics("0.1.0", "abc", 42.0, [], [])

    assert value(metrics, "config_last_reload_successful") == 1
    assert value(metrics, "config_last_reload_success_timestamp_seconds") == 42


def test_it_is_served_on_loopback_and_a_taken_port_is_named(metrics: Metrics) -> None:
    server = metrics.serve(port=0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as answer:
            assert b"edge_asd_build_info" in answer.read()
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{server.port} "):
            metrics.serve(port=server.port)
    finally:
        server.close()


@pytest.mark.system
def test_promtool_finds_nothing_to_say(metrics: Metrics) -> None:
    use(metrics)

    check = subprocess.run(
        ["promtool", "check", "metrics"], input=generate_latest(metrics.registry), capture_output=True, check=False
    )
    assert (check.returncode, check.stdout + check.stderr) == (0, b"")


@pytest.mark.system
def test_a_real_prometheus_scrapes_it(metrics: Metrics, prometheus: Callable[[int], Prometheus]) -> None:
    use(metrics)
    server = metrics.serve(port=0)
    try:
        (found,) = prometheus(server.port).wait_for("edge_asd_clip_score == 2")
    finally:
        server.close()

    assert found["metric"]["machine"] == "pump1"
