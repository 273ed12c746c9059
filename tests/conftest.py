"""Real services for the tests: a broker, a microphone, a metrics store, and the recordings of machines.

Nothing here is an imitation: what is missing on this computer fails with the line that installs it. Only the recordings
may be absent (they are not ours to give away); their tests are then skipped, unless EDGE_ASD_NO_SKIPS says otherwise.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import hypothesis
import paho.mqtt.client as mqtt
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
RECORDINGS = Path(os.environ.get("EDGE_ASD_DATA") or ROOT.parent / "shared" / "data")
T = TypeVar("T")
PATIENCE = 15.0  # seconds a service may take on a busy computer

hypothesis.settings.register_profile("here", deadline=None)  # a slow computer is not a wrong result
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


# What may be skipped --------------------------------------------------------------------------------------------------


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if RECORDINGS.is_dir():
        return
    absent = pytest.mark.skip(reason=f"no recordings at {RECORDINGS}: point EDGE_ASD_DATA to a folder of data sets")
    for item in items:
        if item.get_closest_marker("recordings"):
            item.add_marker(absent)


def _forbidden_skips(config: pytest.Config) -> list[str]:
    """The skipped tests, where none may be; benchmarks are measured apart and do not count."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("EDGE_ASD_NO_SKIPS"):
        return []
    skipped = reporter.stats.get("skipped", [])
    return [report.nodeid for report in skipped if "--benchmark-skip" not in str(report.longrepr)]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.OK and _forbidden_skips(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for test in _forbidden_skips(config):
        terminalreporter.write_line(f"EDGE_ASD_NO_SKIPS: skipped, which counts as failed here: {test}", red=True)


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test's daemons remember in a place of their own, and take the bundles that tests make and nobody signs."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("EDGE_ASD__TRUST__ALLOW_UNSIGNED", "true")


# Processes ------------------------------------------------------------------------------------------------------------


def until(condition: Callable[[], T], timeout: float, what: str | Callable[[], str]) -> T:
    """Poll until the condition gives something true, and return it; AssertionError at the deadline."""
    deadline, pause = time.monotonic() + timeout, threading.Event()
    while not (found := condition()):
        if time.monotonic() > deadline:
            msg = f"not within {timeout:g} s: {what() if callable(what) else what}"
            raise AssertionError(msg)
        pause.wait(0.02)
    return found


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _demand(program: str, package: str) -> str:
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.fail(f"{program} is missing: apt install {package}", pytrace=False)
    return found


@dataclass
class Service:
    """A program that a test starts, stops, kills and starts again; what it prints goes to a file."""

    command: Sequence[str]
    log: Path
    ready: Callable[[], object]
    environment: Mapping[str, str] | None = None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when the program serves."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=self.environment)
        until(lambda: self._fallen() or self.ready(), PATIENCE, self._complaint)
        if self._fallen():
            raise AssertionError(self._complaint())

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """End it like a power cut would."""
        self._end(subprocess.Popen.kill)

    def _end(self, how: Callable[[subprocess.Popen[bytes]], None]) -> None:
        if self.process is None:
            return
        how(self.process)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _fallen(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def _complaint(self) -> str:
        return f"{self.command[0]} does not serve; it said: {self.log.read_text(errors='replace')[-2000:]}"


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """`eventually(condition, timeout, what)`: polls with a deadline instead of sleeping."""
    return until


# Broker ---------------------------------------------------------------------------------------------------------------


class Message(NamedTuple):
    """What a subscriber was given, and when (monotonic seconds)."""

    topic: str
    payload: bytes
    retain: bool
    time: float

    def json(self) -> Any:  # noqa: ANN401 - what a payload decodes to is what the test is about
        """The payload, decoded."""
        return json.loads(self.payload)


class Recorder:
    """A subscriber that keeps everything it is given; it comes back when the broker does."""

    def __init__(self, port: int, topic_filter: str, credentials: tuple[str, str] | None) -> None:
        self.messages: list[Message] = []
        self._filter = topic_filter
        self._arrival = threading.Condition()
        self._subscribed = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        if credentials:
            self._client.username_pw_set(*credentials)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_disconnect = lambda *_: self._subscribed.clear()
        self._client.on_message = self._received
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        if not self._subscribed.wait(PATIENCE):
            self.close()
            msg = f"the broker did not grant {topic_filter!r} within {PATIENCE:g} s"
            raise AssertionError(msg)

    def wait_for(self, predicate: Callable[[Message], object], timeout: float = PATIENCE) -> Message:
        """The first message, past or future, of which the predicate is true.

        Raises:
            AssertionError: none came in time; lists what did.
        """
        with self._arrival:
            if not self._arrival.wait_for(lambda: any(map(predicate, self.messages)), timeout):
                came = "\n".join(f"  {topic} {payload[:200]!r}" for topic, payload, *_ in self.messages) or "  nothing"
                msg = f"no such message within {timeout:g} s; on {self._filter!r} came:\n{came}"
                raise AssertionError(msg)
            return next(filter(predicate, self.messages))

    @property
    def present(self) -> bool:
        """Whether the broker knows of it now."""
        return self._subscribed.is_set()

    def close(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()
        self._client.on_connect = self._client.on_subscribe = self._client.on_disconnect = None
        self._client.on_message = None
        del self._client  # paho closes its own sockets only when nobody knows it any more

    def _connected(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe(self._filter, qos=1)

    def _received(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        with self._arrival:
            self.messages.append(Message(message.topic, message.payload, message.retain, time.monotonic()))
            self._arrival.notify_all()


@dataclass
class Broker:
    """A mosquitto on a loopback port of its own that forgets everything when it ends."""

    folder: Path
    credentials: tuple[str, str] | None = None
    host: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    recorders: list[Recorder] = field(default_factory=list)
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(self._settings()) + "\n")
        command = [_demand("mosquitto", "mosquitto"), "-c", str(config)]
        self.service = Service(command, self.folder / "mosquitto.log", lambda: listens(self.port))
        self.start, self.stop, self.kill = self.service.start, self.service.stop, self.service.kill

    def subscribe(self, topic_filter: str) -> Recorder:
        """A recorder that is subscribed when this returns."""
        recorder = Recorder(self.port, topic_filter, self.credentials)
        self.recorders.append(recorder)
        return recorder

    def close(self) -> None:
        """End it and everybody who listens."""
        for recorder in self.recorders:
            recorder.close()
        self.stop()

    def _settings(self) -> Iterator[str]:
        yield f"listener {self.port} {self.host}"
        yield "persistence false"
        yield "user root"  # only heeded when started as root: the folder of a test is closed to other users
        yield f"allow_anonymous {'false' if self.credentials else 'true'}"
        if self.credentials:
            yield f"password_file {self._password_file()}"
        yield from self.settings

    def _password_file(self) -> Path:
        file = self.folder / "mosquitto.passwords"
        program = _demand("mosquitto_passwd", "mosquitto")
        subprocess.run([program, "-c", "-b", str(file), *self.credentials], check=True, capture_output=True)
        return file


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that anybody may use."""
    yield from _serving(Broker(tmp_path))


@pytest.fixture
def broker_with_password(tmp_path: Path) -> Iterator[Broker]:
    """A broker that wants the name and password in `.credentials`."""
    yield from _serving(Broker(tmp_path, ("listener", "correct horse")))


def _serving(broker: Broker) -> Iterator[Broker]:
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


# Microphone -----------------------------------------------------------------------------------------------------------


@dataclass
class PulseMicrophone:
    """A microphone without hardware: what is played into the sink `mic` is what PortAudio's default device records."""

    folder: Path
    token: str = "name:default"  # noqa: S105 - the name of a device in the configuration, no secret
    channels: int = 1
    players: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        socket_file = self.folder / "native"
        self.environment = {
            "HOME": str(self.folder),  # ALSA looks for .asoundrc here
            "XDG_RUNTIME_DIR": str(self.folder),
            "PULSE_SERVER": f"unix:{socket_file}",
            "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent",  # a private daemon asks no desktop
        }
        pcm = 'type pulse\n  server "{}"\n  device "mic.monitor"'.format(self.environment["PULSE_SERVER"])
        (self.folder / ".asoundrc").write_text(f"pcm.!default {{\n  {pcm}\n}}\n")
        self.service = Service(
            self._command(socket_file), self.folder / "pulseaudio.log", socket_file.exists, self._surroundings()
        )

    def play(self, path: Path, sink: str = "mic") -> subprocess.Popen[bytes]:
        """Speak a file into the microphone; returns at once, `.wait()` for its end."""
        command = [_demand("paplay", "pulseaudio-utils"), f"--device={sink}", str(path)]
        self.players.append(subprocess.Popen(command, env=self._surroundings()))
        return self.players[-1]

    def close(self) -> None:
        """Silence it."""
        for player in self.players:
            player.kill()
            player.wait()
        self.service.stop()

    def _surroundings(self) -> dict[str, str]:
        return {**os.environ, **self.environment}

    def _command(self, socket_file: Path) -> list[str]:
        return [
            _demand("pulseaudio", "pulseaudio pulseaudio-utils libasound2-plugins libportaudio2"),
            *("--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes", "-n"),
            f"--load=module-native-protocol-unix socket={socket_file} auth-anonymous=1",
            f"--load=module-null-sink sink_name=mic rate=16000 channels={self.channels}",
        ]


@pytest.fixture
def pulse_microphone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PulseMicrophone]:
    """The only microphone of every process this test starts. PortAudio must not have been opened in this one."""
    yield from _plugged_in(tmp_path / "pulse", monkeypatch, channels=1)


@pytest.fixture
def pulse_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PulseMicrophone]:
    """The same with two channels."""
    yield from _plugged_in(tmp_path / "pulse", monkeypatch, channels=2)


def _plugged_in(folder: Path, monkeypatch: pytest.MonkeyPatch, channels: int) -> Iterator[PulseMicrophone]:
    folder.mkdir(mode=0o700)
    microphone = PulseMicrophone(folder, channels=channels)
    try:
        microphone.service.start()
        for name, value in microphone.environment.items():
            monkeypatch.setenv(name, value)
        yield microphone
    finally:
        microphone.close()


# Metrics --------------------------------------------------------------------------------------------------------------


@dataclass
class Prometheus:
    """A Prometheus that scrapes one loopback port each second, as job `edge_asd`."""

    folder: Path
    target: int
    port: int = field(default_factory=free_port)
    more: Mapping[str, Any] = field(default_factory=dict)
    """settings besides, or instead"""

    def __post_init__(self) -> None:
        config = self.folder / f"prometheus-{self.port}.yml"
        scrape = {"job_name": "edge_asd", "static_configs": [{"targets": [f"127.0.0.1:{self.target}"]}]}
        settings = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [scrape]}
        config.write_text(json.dumps(settings | dict(self.more)))  # JSON is YAML
        command = [
            _demand("prometheus", "prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={self.folder / f'prometheus-{self.port}'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]
        self.service = Service(command, config.with_suffix(".log"), self._ready)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector: one `{"metric": labels, "value": [time, text]}` a series."""
        return list(self.get("query", query=expression)["result"])

    def get(self, what: str, **asked: str) -> dict[str, Any]:
        """The data that its HTTP interface gives."""
        answer = self._get(f"/api/v1/{what}?{urllib.parse.urlencode(asked)}")
        return dict(json.loads(answer)["data"])

    def wait_for(self, expression: str, timeout: float = PATIENCE) -> list[dict[str, Any]]:
        """The vector as soon as it is not empty; `up == 0` style comparisons make it wait for a value."""
        return list(until(lambda: self.query(expression), timeout, f"{expression}; all: {self.query('up')}"))

    def _ready(self) -> bool:
        try:
            return bool(self._get("/-/ready"))
        except (urllib.error.URLError, ConnectionError):
            return False

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as answer:
            return bytes(answer.read())


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[[int], Prometheus]]:
    """`prometheus(port)` starts one that scrapes this port."""
    started: list[Prometheus] = []

    def scrape(port: int) -> Prometheus:
        started.append(Prometheus(tmp_path, port))
        started[-1].service.start()
        return started[-1]

    yield scrape
    for one in started:
        one.service.stop()


# Recordings -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of data sets. A test that asks for it is marked `recordings`."""
    if not RECORDINGS.is_dir():
        pytest.fail(f"no recordings at {RECORDINGS}: mark this test `recordings`", pytrace=False)
    return RECORDINGS
