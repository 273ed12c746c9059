from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.alarm.alarm import Policy
from edge_asd.config import (
    AlarmSettings,
    Config,
    MachineSettings,
    MetricSettings,
    SourceSettings,
    TlsSettings,
    load_config,
    node_name,
)
from edge_asd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

SHIPPED = Path(__file__).parents[1] / "deploy" / "edge-asd.toml"
MINIMAL = '[sources.mic0]\ninput = "microphone:name:default"\n[machines.pump1]\nsource = "mic0"\n'
MQTT = '[mqtt]\nhost = "broker"\n'


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    for name in [name for name in os.environ if name.startswith("EDGE_ASD__")]:
        monkeypatch.delenv(name)


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Config]:
    def load(text: str) -> Config:
        file = tmp_path / "edge-asd.toml"
        file.write_text(text)
        return load_config(file)

    return load


def test_the_shipped_file_says_the_defaults() -> None:
    defaults = Config(
        sources={"mic0": SourceSettings(input="microphone:name:default")},
        machines={"machine1": MachineSettings(source="mic0", head="rendered/valve/00")},
    )

    assert load_config(SHIPPED) == defaults


def test_the_shipped_file_names_every_setting() -> None:
    """Also those that are commented out, which parse once the mark is gone."""
    text = re.sub(r"^# (?=\[|\w+ = )", "", SHIPPED.read_text(), flags=re.MULTILINE)
    config = Config(**tomllib.loads(text))
    shown = tomllib.loads(text)

    tables = [
        (shown, Config),
        (shown["mqtt"], type(config.mqtt)),
        (shown["mqtt"]["tls"], TlsSettings),
        (shown["metrics"], MetricSettings),
        (shown["sources"]["mic0"], SourceSettings),
        (shown["machines"]["machine1"], MachineSettings),
        (shown["machines"]["machine1"]["alarm"], AlarmSettings),
    ]
    for table, model in tables:
        assert set(table) == set(model.model_fields)


def test_the_environment_wins_over_the_file(load: Callable[[str], Config], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ASD__MQTT__HOST", "elsewhere")
    monkeypatch.setenv("EDGE_ASD__MACHINES__pump1__ALARM__ON_DELAY", "5")
    config = load(MQTT + "port = 1884\n" + MINIMAL)

    assert config.mqtt is not None
    assert (config.mqtt.host, config.mqtt.port) == ("elsewhere", 1884)
    assert config.machines["pump1"].alarm.on_delay == 5


def test_a_credential_wins_over_everything_and_is_never_shown(
    load: Callable[[str], Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "mqtt__password").write_text("correct horse\n")
    (credentials / "of-somebody-else").write_text("x")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    monkeypatch.setenv("EDGE_ASD__MQTT__PASSWORD", "wrong horse")
    config = load(MQTT + 'password = "old horse"\n' + MINIMAL)

    assert config.mqtt is not None
    assert config.mqtt.broker().password == "correct horse"  # noqa: S105 - of no broker
    assert "horse" not in repr(config) + str(config.model_dump_json())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MINIMAL + MQTT + "prot = 1", "mqtt.prot: is unknown; did you mean port"),
        (MINIMAL + "[mqqt]\n", "mqqt: is unknown; did you mean mqtt"),
        (MINIMAL + "[machines.pump1.alarm]\nondelay = 1", "pump1.alarm.ondelay: is unknown; did you mean on_delay"),
        (MINIMAL + "xyz = 1", "machines.pump1.xyz: is unknown; allowed: source, bundle, head, alarm"),
        (MINIMAL + "[machines.pump1.alarm]\non_delay = 0", "on_delay: input should be greater than or equal to 1, got"),
        (MINIMAL + "[mqtt]\nport = 1", "mqtt.host: is missing"),
        (MINIMAL + '[mqtt]\nhost = "mqtt://broker"', "mqtt.host: string should match"),
        (MINIMAL + MQTT + 'base = "a/+"', "mqtt.base: the name '+' cannot be used in a topic"),
        (MINIMAL + MQTT + '[mqtt.tls]\ncert = "a.pem"', "mqtt.tls: cert and key belong together"),
        (MINIMAL.replace('source = "mic0"', 'source = "mic1"'), "pump1.source is 'mic1', but the sources are mic0"),
        (MINIMAL.replace("pump1", '"pump 1"'), "machines.pump 1: string should match pattern"),
        (
            MINIMAL + "[sources.a]\ninput = 'pcm:-'\n[sources.b]\ninput = 'pcm:-'",
            "pcm:- is the input of several sources, each of which would hear a part; give each its own pipe",
        ),
        (
            MINIMAL + "[sources.a]\ninput = 'pcm:-'\nformat = 's16be'",
            "input should be 's16le', 's24le', 's32le' or 'f32",
        ),
        ("", "sources: is missing"),
        ("[sources", "is no toml: "),
        ('node = "a/b"\n' + MINIMAL, "node: string should match pattern '^[a-zA-Z0-9_-]+$', got 'a/b'"),
        (MINIMAL + '[metrics]\nlisten = "9464"', "metrics.listen: need HOST:PORT with a port up to 65535"),
        (MINIMAL + '[metrics]\ncert = "node.pem"', "metrics: cert and key belong together, and client_ca needs both"),
        (
            MINIMAL + '[metrics]\nclient_ca = "ca.pem"',
            "metrics: cert and key belong together, and client_ca needs both",
        ),
        (MINIMAL + '[metrics]\nlisten = "127.0.0.1:99999"', "or '' to switch metrics off, got '127.0.0.1:99999'"),
        (
            'log_level = "loud"\n' + MINIMAL,
            "log_level: input should be 'debug', 'info', 'warning' or 'error', got",
        ),
        (MINIMAL.replace("[mach", "severity = 2.0\n[mach"), "mic0.severity: input should be less than or equal to 1"),
    ],
)
def test_a_mistake_is_named_with_its_place(load: Callable[[str], Config], text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)

    assert "edge-asd.toml: " in str(caught.value)
    assert says in str(caught.value)


def test_every_mistake_is_named_at_once(load: Callable[[str], Config]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(MINIMAL + "[mqtt]\nport = 0\nprot = 1")

    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("EDGE_ASD__MQT__HOST", "mqt: is unknown; did you mean mqtt"),
        ("EDGE_ASD__MQTT__HSOT", "mqtt.hsot: is unknown; did you mean host"),
        ("EDGE_ASD__MQTT__PORT", "mqtt.port: input should be a valid integer"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    load: Callable[[str], Config], monkeypatch: pytest.MonkeyPatch, variable: str, says: str
) -> None:
    monkeypatch.setenv(variable, "wrong")
    with pytest.raises(ConfigError, match=f"environment variable {variable}: {re.escape(says)}"):
        load(MQTT + MINIMAL)


def test_a_password_that_is_no_text_is_not_repeated(load: Callable[[str], Config]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(MQTT + "password = 12345\n" + MINIMAL)

    assert "mqtt.password" in str(caught.value)
    assert "12345" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: no such file"):
        load_config(tmp_path / "none.toml")


def test_the_bundles_threshold_holds_unless_one_is_set() -> None:
    assert AlarmSettings().policy(4.0) == Policy(threshold=4.0)
    assert AlarmSettings(threshold=5.0, on_delay=2).policy(4.0) == Policy(threshold=5.0, on_delay=2)


def test_metrics_may_be_switched_off(load: Callable[[str], Config]) -> None:
    assert load(MINIMAL).metrics.address == ("127.0.0.1", 9464)
    assert load(MINIMAL + '[metrics]\nlisten = ""').metrics.address is None
    assert load(MINIMAL + '[metrics]\nlisten = "[::1]:0"').metrics.address == ("::1", 0)


def test_the_node_is_called_like_its_host_as_far_as_a_topic_allows() -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", node_name())


@given(text=st.text(max_size=200))
def test_no_text_at_all_brings_it_down(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("config") / "edge-asd.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError):
        load_config(file)
