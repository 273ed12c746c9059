"""A fleet's files as they are shipped: a site that bridges into a centre, and the centre's Prometheus."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import pytest
import soundfile
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from tests.certificate import self_signed
from tests.conftest import Broker, Prometheus, free_port, until
from tests.deploy.test_acl import Peer
from tests.deploy.test_grafana import chosen, queries
from tests.example import bundle, noise

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "deploy" / "fleet"
RATE = 16_000
NODE = "north/edge_asd/v1/node1"
LATE = 40.0
"""seconds until a bridge that was down is up again, and what waited has come"""


@dataclass
class Centre(Broker):
    """The central broker; it forgets nothing, and may be killed."""

    def _settings(self) -> Iterator[str]:
        self_signed(self.folder, "broker")
        (self.folder / "central.acl").write_text((SHIPPED / "central.acl").read_text())
        for user in ("north", "viewer", "operator"):
            create = [] if (self.folder / "passwords").exists() else ["-c"]
            command = ["mosquitto_passwd", *create, "-b", str(self.folder / "passwords"), user, f"secret of {user}"]
            subprocess.run(command, check=True, capture_output=True)
        text = (SHIPPED / "central.conf").read_text().replace("/etc/mosquitto/edge_asd", str(self.folder))
        text = text.replace("/var/lib/mosquitto/", f"{self.folder}/")
        yield text.replace("listener 8883", f"listener {self.port} {self.host}")
        yield "user root"  # only heeded when started as root: the folder of a test is closed to other users


@dataclass
class Site(Broker):
    """The broker of a site; its nodes need no password here."""

    centre: Centre | None = None

    def _settings(self) -> Iterator[str]:
        yield f"listener {self.port} {self.host}"
        yield "allow_anonymous true"
        yield "user root"
        assert self.centre
        text = (SHIPPED / "site.conf").read_text()
        for shipped, ours in (
            ("central.example:8883", f"127.0.0.1:{self.centre.port}"),
            ("/etc/mosquitto/edge_asd/central-ca.pem", str(self.centre.folder / "broker.pem")),
            ("change-me", "secret of north"),
            ("/var/lib/mosquitto/", f"{self.folder}/"),
        ):
            assert shipped in text
            text = text.replace(shipped, ours)
        yield text


@dataclass
class Fleet:
    """One node of one site, and the centre."""

    centre: Centre
    site: Site
    metrics_port: int = field(default_factory=free_port)

    @contextmanager
    def node(self, folder: Path) -> Iterator[None]:
        """Whose machine sounds wrong every other second, so that it never ceases to tell events."""
        bundle(folder / "toy.asd")
        sound = [noise(n, RATE, 0.2 if n % 2 else 0.05) for n in range(4)]
        soundfile.write(folder / "mic.wav", [sample for second in sound for sample in second], RATE)
        (folder / "node.toml").write_text(f"""
            node = "node1"
            state_dir = "{folder}/state"
            flood_limit = 0
            mqtt = {{ host = "127.0.0.1", port = {self.site.port} }}
            metrics.listen = "127.0.0.1:{self.metrics_port}"
            trust.allow_unsigned = true
            sources.mic = {{ input = "file:{folder}/mic.wav", loop = true }}
            [machines.pump1]
            source = "mic"
            bundle = "{folder}/toy.asd"
            alarm = {{ on_delay = 1, off_delay = 1, chatter_clips = 0 }}
            """)
        command = [sys.executable, "-m", "edge_asd", "run", "--config", str(folder / "node.toml")]
        with (folder / "node.log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
            try:
                yield
            finally:
                process.terminate()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with ExitStack() as stack:
        centre = stack.enter_context(closing(Centre(tmp_path_factory.mktemp("centre"))))
        centre.start()
        site = stack.enter_context(closing(Site(tmp_path_factory.mktemp("site"), centre=centre)))
        site.start()
        fleet = Fleet(centre, site)
        stack.enter_context(fleet.node(tmp_path_factory.mktemp("node")))
        with peer(fleet, "viewer", "+/edge_asd/#") as viewer:
            viewer.hears(f"{NODE}/machine/pump1/score")  # whoever asks before that asks nobody
        yield fleet


@contextmanager
def peer(fleet: Fleet, user: str, *filters: str) -> Iterator[Peer]:
    """Somebody at the centre."""
    with closing(Peer(fleet.centre, user)) as one:
        for topic_filter in filters:
            one.subscribe(topic_filter)
        yield one


class Historian:
    """A subscriber of the centre with a session that outlives its connection."""

    def __init__(self, centre: Centre) -> None:
        self.seen: set[int] = set()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "historian", clean_session=False)
        self._client.username_pw_set("viewer", "secret of viewer")
        self._client.tls_set_context(ssl.create_default_context(cafile=centre.folder / "broker.pem"))
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(f"{NODE}/machine/+/event", qos=1)
        self._client.on_message = lambda _client, _data, m: self.seen.add(json.loads(m.payload)["event_seq"])
        self._client.connect(centre.host, centre.port)
        self._client.loop_start()

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()
        self._client.on_connect = self._client.on_message = None
        del self._client  # paho closes its own sockets only when nobody knows it any more


def test_what_a_node_says_on_its_site_is_said_in_the_centre_under_the_name_of_the_site(fleet: Fleet) -> None:
    with peer(fleet, "viewer", "+/edge_asd/#") as viewer:
        for topic in ("status", "info", "health", "source/mic/state", "machine/pump1/score", "machine/pump1/event"):
            viewer.hears(f"{NODE}/{topic}")
        viewer.hears("north/edge_asd/bridge")
        assert {topic.split("/")[0] for topic, _ in viewer.got} == {"north"}
        assert not [topic for topic, _ in viewer.got if topic.endswith("/level")]


def test_the_centre_asks_a_node_and_is_answered(fleet: Fleet) -> None:
    with peer(fleet, "operator", f"{NODE}/rsp/+") as operator:
        assert operator.say(f"{NODE}/cmd/health_check", b'{"transaction": "t1"}')
        operator.hears(f"{NODE}/rsp/health_check")
        assert any(b'"t1"' in payload for _, payload in operator.got)


def test_a_site_writes_below_its_own_name_only(fleet: Fleet) -> None:
    with peer(fleet, "north") as site, peer(fleet, "viewer") as viewer:
        assert site.say("north/edge_asd/v1/node9/status", b"online")
        assert not site.say("south/edge_asd/v1/node9/status", b"online")
        assert not viewer.say(f"{NODE}/cmd/ack", b"{}")


def test_a_historian_misses_no_event_of_the_time_when_the_centre_was_away(fleet: Fleet) -> None:
    with closing(Historian(fleet.centre)) as historian:
        until(lambda: len(historian.seen) > 2, 20, "no events")
        fleet.centre.stop()
        at_site = fleet.site.subscribe("edge_asd/v1/+/machine/+/event")
        until(lambda: len(at_site.messages) > 8, 30, "the site tells nothing")
        fleet.centre.start()
        told = {message.json()["event_seq"] for message in at_site.messages}
        until(lambda: told <= historian.seen, LATE, lambda: f"{told} {historian.seen}")
        numbers = sorted(historian.seen)
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_prometheus_of_the_centre_has_what_the_dashboard_of_the_fleet_shows(fleet: Fleet, tmp_path: Path) -> None:
    site_settings = settings("prometheus-site.yml")
    node = {"targets": [f"127.0.0.1:{fleet.metrics_port}"], "labels": {"hall": "3"}}
    (tmp_path / "node.json").write_text(json.dumps([node]))
    site_settings["scrape_configs"][0]["file_sd_configs"][0]["files"] = [str(tmp_path / "*.json")]
    site_settings["rule_files"] = [str(ROOT / "deploy/prometheus/rules.yml")]
    with ExitStack() as stack:
        site = Prometheus(tmp_path, 0, more=site_settings)
        stack.callback(site.service.stop)
        site.service.start()
        centre_settings = settings("prometheus-central.yml")
        centre_settings["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{site.port}"]
        centre_settings["rule_files"] = [str(SHIPPED / "rules-central.yml")]
        centre = Prometheus(tmp_path, 0, more=centre_settings)
        stack.callback(centre.service.stop)
        centre.service.start()
        (up,) = centre.wait_for('up{job="edge_asd"} == 1 and on (instance) edge_asd_clip_score', 30)
        assert (up["metric"]["site"], up["metric"]["hall"]) == ("north", "3")
        assert centre.query('{__name__=~".*_bucket"}') == []
        for query in queries("fleet"):
            if "ALERTS" not in query:
                assert centre.query(chosen(query)) or "outbox" in query, query


def settings(name: str) -> dict[str, Any]:
    """As shipped, but a second is enough between two scrapes."""
    shipped = dict(yaml.safe_load((SHIPPED / name).read_text()))
    often = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    return shipped | {"global": shipped["global"] | often}


def test_the_rule_of_the_centre_fires() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", "rules-central_test.yml"],
        cwd=SHIPPED,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_simulated_nodes_lose_nothing_and_are_accounted_for() -> None:
    command = [
        sys.executable,
        "-m",
        "deploy.fleet.simulate",
        "--nodes",
        "4",
        "--seconds",
        "8",
        "--speed",
        "10",
        "--json",
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["scores_lost"] == result["events_lost"] == 0
    assert result["scored"] >= 4 * 4
    assert result["events"] > 0
    assert result["messages_per_s"]["score"] > 1
    assert min(result["node_cores"], result["node_mb"], result["broker_mb"]) > 0
