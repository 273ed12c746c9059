"""The dashboards as they are shipped, each query asked of a real Prometheus that scrapes a real daemon with a broker.

So are the alert rules: on that daemon none may fire, and all must be understood.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import soundfile

from edge_asd.render.machine import Condition
from edge_asd.render.performance import Performance, machine
from edge_asd.render.room import Room
from tests.conftest import Broker, Prometheus, free_port, until
from tests.deploy.exported import exported, selectors

if TYPE_CHECKING:
    from collections.abc import Iterator

SHIPPED = Path(__file__).resolve().parents[2] / "deploy"
NAMES = ("fleet", "machine", "ear", "engine", "delivery")
RATE = 16_000
CHOSEN = {"$instance": ".*", "$source": ".*", "$machine": ".*", "$__rate_interval": "10s", "$__range": "1m"}
EMPTY = re.compile(r"offset 7d|^ALERTS|temperature_celsius|outbox_oldest.*> 0\)+$|effective_sample_rate")
"""of which a node that is well, young, and hears a recording has nothing to show"""
NUMBER = re.compile(r"histogram_quantile")


@cache
def dashboard(name: str) -> dict[str, Any]:
    return dict(json.loads((SHIPPED / "grafana" / f"{name}.json").read_text()))


def queries(name: str) -> list[str]:
    """Of all panels, and of the marks in them."""
    shown = [target["expr"] for panel in dashboard(name)["panels"] for target in panel["targets"]]
    return shown + [mark["expr"] for mark in dashboard(name)["annotations"]["list"]]


def chosen(query: str) -> str:
    """As Grafana asks it when everything is shown."""
    for variable, value in CHOSEN.items():
        query = query.replace(variable, value)
    return query


def test_the_files_are_what_the_script_draws(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(SHIPPED / "grafana" / "draw.py"), str(tmp_path)], check=True)
    assert {file.stem for file in tmp_path.glob("*.json")} == set(NAMES)
    for name in NAMES:
        assert (tmp_path / f"{name}.json").read_bytes() == (SHIPPED / "grafana" / f"{name}.json").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_asks_only_for_what_a_node_exports(name: str) -> None:
    for query in queries(name):
        asked = list(selectors(query))
        assert asked, query
        assert [selector for selector in asked if not selector.found()] == [], query


@pytest.mark.parametrize("name", NAMES)
def test_what_a_query_leaves_open_can_be_chosen_above(name: str) -> None:
    variables = {f"${variable['name']}" for variable in dashboard(name)["templating"]["list"]}
    used = set(re.findall(r"\$\w+", " ".join(queries(name))))
    assert used - {"$__rate_interval", "$__range"} <= variables


@pytest.mark.parametrize("name", NAMES)
def test_panels_lie_beside_each_other(name: str) -> None:
    places = [panel["gridPos"] for panel in dashboard(name)["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_each_dashboard_is_known_by_a_name_of_its_own() -> None:
    assert {dashboard(name)["uid"] for name in NAMES} == {f"edge-asd-{name}" for name in NAMES}
    for name in NAMES:
        sources = {panel["datasource"]["uid"] for panel in dashboard(name)["panels"]}
        assert sources == {"${DS_PROMETHEUS}"}


def test_every_quantity_of_a_node_is_on_a_dashboard() -> None:
    """What nobody can look at need not be measured; what Python's own client adds may stay aside."""
    shown = {re.sub(r"_bucket$", "", s.name) for name in NAMES for query in queries(name) for s in selectors(query)}
    ours = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported() if name.startswith("edge_asd_")}
    assert ours - shown == {"edge_asd_alarm_flood", "edge_asd_config_last_reload_successful"}


# Alive ----------------------------------------------------------------------------------------------------------------


@dataclass
class Plant:
    """A node that hears a rendered valve, and who watches it."""

    prometheus: Prometheus
    log: Path

    def vector(self, query: str) -> list[dict[str, Any]]:
        """Series, now."""
        return self.prometheus.query(chosen(query))


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """Ten clips old; time goes ten times as fast there."""
    folder, port = tmp_path_factory.mktemp("plant"), free_port()
    sound = Performance(machine("valve", 0), Room(number=0), seed=0, rate=RATE).render(20 * RATE, Condition())
    soundfile.write(folder / "valve.wav", sound, RATE)
    with closing(Broker(folder)) as broker:
        broker.start()
        (folder / "node.toml").write_text(f"""
            node = "node1"
            state_dir = "{folder}/state"
            mqtt = {{ host = "127.0.0.1", port = {broker.port} }}
            metrics.listen = "127.0.0.1:{port}"
            evidence.enabled = true
            sources.mic0 = {{ input = "file:{folder}/valve.wav", loop = true, speed = 10 }}
            machines.valve1 = {{ source = "mic0", head = "rendered/valve/00" }}
            """)
        command = [sys.executable, "-m", "edge_asd", "run", "--config", str(folder / "node.toml")]
        with (folder / "node.log").open("wb") as log, subprocess.Popen(command, stderr=log) as node:
            often = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
            rules = {"rule_files": [str(SHIPPED / "prometheus" / "rules.yml")], "global": often}
            prometheus = Prometheus(folder, port, more=rules)
            try:
                prometheus.service.start()
                prometheus.wait_for("increase(edge_asd_mqtt_messages_total{kind='score'}[10s]) > 5", 60)
                yield Plant(prometheus, folder / "node.log")
            finally:
                prometheus.service.stop()
                node.terminate()


@pytest.mark.system
@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_shows_what_a_daemon_does(plant: Plant, name: str) -> None:
    for query in queries(name):
        found = plant.vector(query)
        marks = query in {mark["expr"] for mark in dashboard(name)["annotations"]["list"]}
        assert found or marks or EMPTY.search(query), query
        if NUMBER.search(query):
            assert all(math.isfinite(float(series["value"][1])) for series in found), query


@pytest.mark.system
def test_the_choices_above_a_dashboard_are_there_to_choose(plant: Plant) -> None:
    lists = [variable for name in NAMES for variable in dashboard(name)["templating"]["list"]]
    for variable in lists:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert asked
            assert {series["metric"][asked[2]] for series in plant.vector(asked[1])} <= {
                "mic0",
                "valve1",
                f"127.0.0.1:{plant.prometheus.target}",
            }


@pytest.mark.system
def test_prometheus_understands_every_rule_and_a_healthy_node_fires_none(plant: Plant) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for group in plant.prometheus.get("rules")["groups"] for rule in group["rules"]]

    until(lambda: all(rule["health"] == "ok" for rule in rules()), 15, lambda: f"not all are well: {rules()}")
    assert len(rules()) > 20
    assert [rule["name"] for rule in rules() if rule["state"] == "firing"] == []


@pytest.mark.system
def test_promtool_has_nothing_to_say_about_what_is_really_scraped(plant: Plant) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{plant.prometheus.target}/metrics", timeout=15) as page:
        text = page.read()
    check = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (check.returncode, check.stdout + check.stderr) == (0, b"")


@pytest.mark.system
def test_health_is_asked_where_the_metrics_are(plant: Plant) -> None:
    for path in ("healthz", "livez"):
        with urllib.request.urlopen(f"http://127.0.0.1:{plant.prometheus.target}/{path}", timeout=15) as page:
            assert page.status == HTTPStatus.OK
            assert json.loads(page.read())


@pytest.mark.system
def test_while_nothing_changes_nothing_is_logged(plant: Plant) -> None:
    """Neither a clip nor a scrape is a change."""
    before = plant.log.read_text()
    (now,) = plant.vector("edge_asd_clips_total{outcome='scored'}")
    plant.prometheus.wait_for(f"edge_asd_clips_total{{outcome='scored'}} > {now['value'][1]} + 10", 30)

    assert plant.log.read_text() == before
    events = [json.loads(line)["event"] for line in before.splitlines()]
    assert {"metrics.listening", "mqtt.connected", "source.ok", "daemon.ready"} <= set(events)
    assert len(events) < 12
