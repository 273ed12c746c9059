"""One model follows another in a daemon that listens, second by second, to noise."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import soundfile

from edge_asd.bundle import open_bundle
from edge_asd.capture.source import Loss
from edge_asd.config import Config
from edge_asd.daemon import Daemon, Nobody
from edge_asd.deliver.publisher import Incoming, NullPublisher
from edge_asd.errors import BundleError, GoldenMismatch
from edge_asd.model.shelf import Shelf
from edge_asd.observe.clock import Clock
from edge_asd.observe.metric import Outcome
from edge_asd.score.head import fit_head
from edge_asd.score.listener import evidence
from edge_asd.score.part import STATISTICS_PARTS, Normal
from edge_asd.signal.segment import Block
from edge_asd.signature import Trust
from tests.conftest import PATIENCE, until
from tests.example import MACHINE, SECOND, bundle, contents, front_end, noise, resealed
from tests.model.server import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edge_asd.alarm.alarm import Policy
    from edge_asd.bundle import Bundle
    from edge_asd.deliver.message import Message
    from edge_asd.score.clip import ClipScore
    from edge_asd.ward import Mind

RATE = 16_000
CLIPS = 5
NODE = "edge_asd/v1/node1"


@dataclass
class Noise:
    """A source that gives a second of the machine each time it is asked."""

    seconds: int = 0
    level: float = 0.05
    ended: bool = False
    loss: Loss = field(default_factory=Loss)
    fill: float = 0.0

    def read(self) -> Block:
        """Unbroken."""
        self.seconds += 1
        return Block((self.seconds - 1) * RATE, noise(self.seconds, RATE, self.level))

    def close(self) -> None:
        """Nothing to let go of."""


class Told(NullPublisher):
    """Remembers what was published."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def publish(self, message: Message) -> None:
        """Keep it."""
        self.messages.append(message)


class Ears(Nobody):
    """Remembers the scores."""

    def __init__(self) -> None:
        self.clips: dict[str, list[ClipScore]] = {}

    def scored(self, machine: str, clip: ClipScore, policy: Policy) -> None:  # noqa: ARG002 - as an audience is told
        """A clip got its score."""
        self.clips.setdefault(machine, []).append(clip)


class Fragile(Daemon):
    """Its computer has faults with some versions, which no golden test finds beforehand."""

    proofs = 0

    def mind(self, machine: str, bundle: Bundle) -> Mind:
        """Proven, and then not as it was."""
        mind = super().mind(machine, bundle)
        if bundle.manifest.version == "breaks":
            return replace(mind, listener=replace(mind.listener, embed=_break))
        if bundle.manifest.version == "drifts":
            self.proofs += 1
            if self.proofs > 1:
                msg = "scores its golden waveform otherwise now"
                raise GoldenMismatch(msg)
        return mind


def _break(_segment: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
    msg = "the accelerator has gone"
    raise RuntimeError(msg)


class Scene:
    """A daemon with installed models, one second after the other."""

    def __init__(self, state: Path, machines: tuple[str, ...] = ("pump1",), **models: object) -> None:
        self.now, self.noise, self.told, self.ears = 0.0, Noise(), Told(), Ears()
        self.shelf = Shelf(state / "models", Trust(allow_unsigned=True))
        config = Config(
            node="node1",
            state_dir=state,
            metrics={"listen": ""},
            models={"clips": CLIPS} | models,
            trust={"allow_unsigned": True},
            mqtt={"host": "broker.invalid", "commands": ["model"]},
            sources={"mic0": {"input": "file:unused.wav"}},
            machines={name: {"source": "mic0", "bundle": "installed:toy"} for name in machines},
        )
        clock = Clock(lambda: self.now, lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now))
        self.daemon = Fragile(config, self.ears, clock=clock)
        self.daemon.publisher = self.told
        self.daemon.ears["mic0"].open_source = lambda: self.noise

    @property
    def clips(self) -> list[ClipScore]:
        """Of the first machine."""
        return self.ears.clips.get("pump1", [])

    def hear(self, seconds: int = 1) -> None:
        """So many clips."""
        for _ in range(seconds):
            self.now += 1
            self.daemon.step()

    def ask(self, action: str, **fields: object) -> dict[str, Any]:
        """What the node answers over MQTT."""
        ts = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now)).isoformat()
        body = {"action": action, "ts": ts} | ({} if action in {"install", "list"} else {"name": "toy"}) | fields
        reply = self.daemon.desk.obey(Incoming(f"{NODE}/cmd/model", json.dumps(body).encode(), retained=False))
        assert reply
        return json.loads(reply.payload)

    def trial(self) -> dict[str, Any]:
        """Of the model on trial."""
        return self.ask("list")["data"]["trials"][0]

    def until(self, *stages: str) -> dict[str, Any]:
        """Listen until a model has come so far."""

        def come() -> dict[str, Any] | None:
            self.hear()
            return self.trial() if self.trial()["stage"] in stages else None

        return until(come, PATIENCE, lambda: f"{stages}: {self.ask('list')['data']}")

    def count(self, outcome: Outcome) -> float | None:
        """Of what became of models."""
        return self.metric("edge_asd_model_updates_total", outcome=outcome)

    def metric(self, name: str, **labels: str) -> float | None:
        """As Prometheus would see it."""
        return self.daemon.metrics.registry.get_sample_value(name, labels)

    def speaks(self) -> str:
        """Version of the model that judges the machine."""
        return self.daemon.wards["pump1"].voice.model.version

    def version(self, role: str) -> str | None:
        """On the shelf."""
        return next((model.version for model in self.shelf.list() if model.role == role), None)

    def close(self) -> None:
        """Like a daemon that ends."""
        self.daemon._succession.close()  # noqa: SLF001 - as its run() does
        self.daemon._store.close()  # noqa: SLF001 - same


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Versions of one model; ``quiet`` knows a machine that is ten times more quiet."""
    folder = tmp_path_factory.mktemp("toys")
    files = contents(bundle(folder / "toy.asd"))
    made = {}
    for day, version in enumerate(("one", "two", "breaks", "drifts"), 1):
        made[version] = resealed(
            folder / f"{version}.asd", files, lambda m, v=version, d=day: m.update(version=v, created=f"2026-01-0{d}")
        )
    made["quiet"] = _quiet(folder / "quiet.asd")
    return made


def _quiet(path: Path) -> Path:
    from edge_asd.bundle import Golden, golden_scores, write_bundle  # noqa: PLC0415
    from edge_asd.score.listener import Listener  # noqa: PLC0415
    from tests.example import manifest  # noqa: PLC0415

    clips = [noise(seed, SECOND.clip, 0.005) for seed in range(20)]
    fitted = fit_head(STATISTICS_PARTS, [Normal(evidence(SECOND, front_end(SECOND), None, c)) for c in clips])[0]
    described = manifest().model_copy(update={"version": "quiet", "created": "2026-01-09"})
    waveform = (noise(99, SECOND.clip, 0.005) * 32_768).astype("int16")
    golden = Golden(waveform, golden_scores(Listener(SECOND, front_end(SECOND), fitted, 3.0, None), waveform))
    write_bundle(path, described, {}, {MACHINE: fitted}, {MACHINE: golden}, "# Quiet\n")
    return path


@pytest.fixture
def scene(toys: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Callable[..., Scene]:
    """A daemon that is judged by version one; further versions are put on the shelf by name."""
    made: list[Scene] = []
    caplog.set_level("INFO")  # what is not logged is not put together, either

    def begin(*candidates: str, **how: Any) -> Scene:  # noqa: ANN401 - as Scene takes it
        state = tmp_path / "state"
        state.mkdir(exist_ok=True)
        shelf = Shelf(state / "models", Trust(allow_unsigned=True))
        for version in ("one", *candidates):
            shelf.install(toys[version])
        made.append(Scene(state, **how))
        return made[-1]

    yield begin
    for each in made:
        each.close()


def test_a_fit_model_hears_along_takes_over_between_two_clips_and_is_kept(scene: Callable[..., Scene]) -> None:
    s = scene("two")
    s.hear(3)
    assert s.ask("activate")["data"]["trials"][0]["stage"] == "loading"
    shadowing = s.until("shadow")
    assert (s.speaks(), s.version("current")) == ("one", "one")
    assert shadowing["clips_needed"] == CLIPS
    s.until("watch")
    assert (s.speaks(), s.version("current"), s.version("previous")) == ("two", "two", "one")
    s.until("kept")
    s.hear(2)

    assert all(b.start - a.start == RATE for a, b in pairwise(s.clips)), "each second is scored, and once"
    assert [s.count(o) for o in (Outcome.FIT, Outcome.ACTIVATED, Outcome.KEPT, Outcome.RETURNED)] == [1, 1, 1, 0]
    names = {m.topic: json.loads(m.payload) for m in s.told.messages if m.topic.endswith("/info")}
    assert names[f"{NODE}/info"]["machines"]["pump1"]["version"] == "two"
    current = next(model for model in s.shelf.list() if model.role == "current")
    labels = {"machine": "pump1", "model": "toy", "backend": "numpy", "precision": "float32"}
    assert s.metric("edge_asd_model_info", **labels, version="two", sha256=current.digest) == 1


def test_while_a_model_hears_along_both_scores_are_told_and_the_one_that_speaks_says_what_it_would(
    scene: Callable[..., Scene], toys: dict[str, Path]
) -> None:
    s = scene("quiet")
    s.ask("shadow")
    s.until("shadow")
    s.hear()

    last, other = s.clips[-1], open_bundle(toys["quiet"]).scorer(MACHINE)
    along = other.score(noise(s.noise.seconds, RATE)).surprise
    said = s.trial()["scores"]["pump1"]
    assert said == {"speaks": last.surprise, "hears_along": pytest.approx(along)}
    assert s.metric("edge_asd_shadow_clip_score", machine="pump1") == pytest.approx(along)
    assert last.surprise == open_bundle(toys["one"]).scorer(MACHINE).score(noise(s.noise.seconds, RATE)).surprise


def test_a_model_that_finds_normal_sound_strange_never_speaks_unless_it_is_overruled(
    scene: Callable[..., Scene],
) -> None:
    s = scene("quiet")
    s.ask("activate")
    unfit = s.until("unfit")
    assert "normal clips are over its alarm threshold" in unfit["reason"]
    assert (s.speaks(), s.version("current"), s.count(Outcome.UNFIT)) == ("one", "one", 1)
    refused = s.ask("activate")
    assert (refused["reason"], "at_once" in refused["error"]) == ("condition", True)

    assert s.ask("activate", at_once=True)["status"] == "ok"
    s.until("watch")
    assert (s.speaks(), s.version("current")) == ("quiet", "quiet")
    returned = s.until("returned")
    assert "over its alarm threshold" in returned["reason"]
    until(lambda: s.version("current") == "one", PATIENCE, "the shelf does not follow")
    assert (s.speaks(), s.count(Outcome.RETURNED)) == ("one", 1)


def test_a_model_that_breaks_while_it_speaks_is_taken_back(scene: Callable[..., Scene]) -> None:
    s = scene("breaks")
    s.ask("activate", at_once=True)
    returned = s.until("returned")
    s.hear(3)

    assert returned["reason"] == "pump1: RuntimeError: the accelerator has gone"
    assert (s.speaks(), s.daemon.wards["pump1"].failure) == ("one", "")
    until(lambda: s.version("current") == "one", PATIENCE, "the shelf does not follow")
    assert s.metric("edge_asd_clips_total", machine="pump1", outcome="error") == 1
    assert s.clips[-1].start == (s.noise.seconds - 1) * RATE


def test_a_model_that_breaks_while_it_hears_along_disturbs_nobody(scene: Callable[..., Scene]) -> None:
    s = scene("breaks")
    s.ask("activate")
    assert s.until("unfit")["reason"] == "pump1: RuntimeError: the accelerator has gone"

    assert len(s.clips) == s.noise.seconds
    assert s.metric("edge_asd_clips_total", machine="pump1", outcome="error") == 0


def test_a_model_that_leaves_its_golden_tolerance_while_it_speaks_is_taken_back(scene: Callable[..., Scene]) -> None:
    s = scene("drifts")
    s.ask("activate")
    assert s.until("returned")["reason"] == "scores its golden waveform otherwise now"
    assert s.speaks() == "one"


def test_an_alarm_stays_what_it_is_when_the_model_changes(scene: Callable[..., Scene]) -> None:
    s = scene("two")
    s.noise.level = 0.2
    s.hear(4)
    ward = s.daemon.wards["pump1"]
    raised_by, count = ward.raised_by, ward.alarm.count
    assert ward.alarm.active
    ward.heed(2.5)

    s.ask("activate", at_once=True)
    s.until("watch")
    assert (ward.alarm.active, ward.raised_by, ward.alarm.count) == (True, raised_by, count)
    assert ward.policy.threshold == ward.listener.alarm == 2.5, "an operator's threshold stays in force"


@pytest.mark.parametrize("kept", [False, True], ids=["on watch", "kept"])
def test_an_operator_goes_back_to_the_model_before(scene: Callable[..., Scene], *, kept: bool) -> None:
    s = scene("two")
    s.ask("activate", at_once=True)
    s.until("kept" if kept else "watch")
    assert s.speaks() == "two"
    assert s.ask("rollback")["status"] == "ok"
    s.until("rolled_back")

    assert s.speaks() == "one"
    until(lambda: s.hear() or not s.ask("list")["data"]["busy"], PATIENCE, "the shelf does not follow")
    assert (s.version("current"), s.count(Outcome.ROLLED_BACK)) == ("one", 1)
    assert s.ask("rollback")["status"] == "ok", "and forth again"
    s.until("rolled_back")
    until(lambda: s.hear() or s.speaks() == "two", PATIENCE, "it does not speak")


def test_machines_of_one_model_change_together(scene: Callable[..., Scene]) -> None:
    s = scene("two", machines=("pump1", "pump2"))
    s.ask("activate")
    s.until("kept")
    assert {ward.voice.model.version for ward in s.daemon.wards.values()} == {"two"}
    assert len(s.ears.clips["pump1"]) == len(s.ears.clips["pump2"]) == s.noise.seconds


def test_a_computer_that_cannot_follow_lets_nobody_hear_along(scene: Callable[..., Scene]) -> None:
    s = scene("two")
    s.ask("shadow")
    s.until("shadow")
    s.daemon.wards["pump1"].shed_at = s.now
    before = s.trial()["clips"]
    s.hear(4)
    assert s.trial()["clips"] == before
    assert len(s.clips) == s.noise.seconds


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "fields", "reason", "said"),
    [
        ("activate", {"name": "fan"}, "failed", "no model 'fan' is installed"),
        ("activate", {"digest": "0000"}, "failed", "whose digest begins with 0000"),
        ("shadow", {"name": None}, "invalid", "name: is missing"),
        ("install", {"ref": "https://models.plant/x.asd"}, "invalid", "sha256: is missing"),
        ("install", {"ref": "http://models.plant/x.asd", "sha256": "0" * 64}, "invalid", "ref: string should match"),
        ("install", {"ref": "https://models.plant/x.asd", "sha256": "0" * 64}, "condition", "what the settings allow"),
        ("burn", {}, "invalid", "action: "),
        ("rollback", {}, "condition", "busy"),
    ],
)
def test_an_order_that_cannot_be_is_refused_with_its_reason(
    scene: Callable[..., Scene], action: str, fields: dict[str, object], reason: str, said: str
) -> None:
    s = scene("two")
    if "busy" in said:
        s.ask("shadow")
    reply = s.ask(action, **fields)
    assert (reply["status"], reply["reason"]) == ("error", reason)
    assert said in reply["error"]


def test_the_model_that_speaks_is_not_tried_beside_itself(scene: Callable[..., Scene]) -> None:
    s = scene()
    reply = s.ask("shadow", digest=s.daemon.wards["pump1"].digest)
    assert (reply["reason"], "speaks already for pump1" in reply["error"]) == ("condition", True)


def test_a_model_that_wants_other_sound_is_refused_until_a_restart(scene: Callable[..., Scene], tmp_path: Path) -> None:
    windows = replace(SECOND, clip=2 * SECOND.clip)
    s = scene()
    s.shelf.install(bundle(tmp_path / "long.asd", windows))
    s.ask("activate")
    assert "activate it while the daemon is stopped" in s.until("unfit")["reason"]
    assert (s.speaks(), s.count(Outcome.REFUSED)) == ("one", 1)


@pytest.mark.parametrize(
    ("commands", "reason", "said"),
    [({}, "not_allowed", "is not allowed here"), ({"commands": ["model"]}, "condition", "give it a state_dir")],
    ids=["as usual", "allowed, and without state"],
)
def test_models_are_changed_from_afar_only_where_settings_and_state_are_for_it(
    toys: dict[str, Path], commands: dict[str, Any], reason: str, said: str
) -> None:
    config = Config(
        node="node1",
        state_dir=None,
        trust={"allow_unsigned": True},
        mqtt={"host": "broker.invalid"} | commands,
        sources={"mic0": {"input": "file:unused.wav"}},
        machines={"pump1": {"source": "mic0", "bundle": str(toys["one"])}},
    )
    daemon = Daemon(config, clock=Clock(lambda: 0.0, lambda: datetime(2026, 1, 1, tzinfo=UTC)))
    body = json.dumps({"action": "list", "ts": "2026-01-01T00:00:00Z"}).encode()
    reply = daemon.desk.obey(Incoming(f"{NODE}/cmd/model", body, retained=False))
    assert reply
    refused = json.loads(reply.payload)
    assert (refused["reason"], said in refused["error"]) == (reason, True)


# From afar ------------------------------------------------------------------------------------------------------------


def test_a_bundle_is_fetched_installed_and_activated_from_afar(
    scene: Callable[..., Scene], toys: dict[str, Path], tmp_path: Path
) -> None:
    content = toys["two"].read_bytes()
    with serving(tmp_path, {"/edge/two.asd": content}) as server:
        s = scene(allow=[server.url("/edge/")], ca_file=server.ca_file)
        wrong = s.ask("install", ref=server.url("/edge/two.asd"), sha256="0" * 64)
        assert wrong["data"]["busy"].startswith("install https://")
        until(lambda: s.hear() or s.count(Outcome.REFUSED) == 1, PATIENCE, "it is not refused")
        assert len(s.ask("list")["data"]["installed"]) == 1

        s.ask("install", ref=server.url("/edge/two.asd"), sha256=hashlib.sha256(content).hexdigest())
        until(lambda: s.hear() or s.count(Outcome.INSTALLED) == 1, PATIENCE, "it is not installed")
    assert sorted(p.name for p in (tmp_path / "state").iterdir() if p.suffix == ".asd") == []
    s.ask("pin")
    assert {(m["version"], m["role"], m["pinned"]) for m in s.ask("list")["data"]["installed"]} == {
        ("one", "current", True),
        ("two", "candidate", True),
    }
    s.ask("activate")
    s.until("kept")
    s.hear(6)
    journal = [json.loads(entry.body)["event"] for entry in s.daemon._store.history()][::-1]  # noqa: SLF001 - what it keeps
    wanted = ["model_refused", "model_installed", "model_fit", "model_activated", "model_kept"]
    assert [event for event in journal if event.startswith("model_")] == wanted


# At the box -----------------------------------------------------------------------------------------------------------

SETTINGS = """
node = "node1"
state_dir = "{folder}/state"
metrics.listen = ""
trust.allow_unsigned = true
models.clips = 5
sources.mic = {{ input = "file:{folder}/mic.wav", loop = true, speed = 5.0 }}
machines.pump1 = {{ source = "mic", bundle = "installed:toy" }}
"""


def test_a_person_at_the_box_sees_both_scores_and_changes_the_model_of_a_running_daemon(
    toys: dict[str, Path], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "mic.wav", noise(1, 20 * RATE), RATE)
    settings = tmp_path / "edge-asd.toml"
    settings.write_text(SETTINGS.format(folder=tmp_path))
    (tmp_path / "state").mkdir()

    def type_(*words: object) -> str:
        command = [sys.executable, "-m", "edge_asd", "model", *map(str, words), "--config", str(settings)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout + done.stderr

    assert "current" in type_("install", toys["one"])
    assert "no daemon runs" in type_("shadow", "toy")
    with _running(settings):
        assert "candidate" in type_("install", toys["two"])
        until(lambda: "load" in type_("shadow", "toy"), 4 * PATIENCE, "no daemon answers")
        until(lambda: re.search(r"pump1 \d+\.\d\d / \d+\.\d\d", type_("list")), 4 * PATIENCE, "no pair of scores")
        assert "error: " not in type_("activate", "toy")
        kept = until(lambda: '"stage": "kept"' in (said := type_("list", "--json")) and said, 4 * PATIENCE, "not kept")
    rows = [json.loads(line) for line in kept.splitlines()]
    assert {row["role"]: row["version"] for row in rows if "role" in row} == {"current": "two", "previous": "one"}
    assert "toy one" in type_("rollback", "toy"), "also when nothing runs"


@contextmanager
def _running(settings: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "edge_asd", "run", "--config", str(settings)]
    with settings.with_suffix(".log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield
        finally:
            process.terminate()
            assert process.wait(20) == 0


# At the start ---------------------------------------------------------------------------------------------------------


def test_when_the_current_model_cannot_be_used_the_one_before_speaks(toys: dict[str, Path], tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "state" / "models", Trust(allow_unsigned=True))
    (tmp_path / "state").mkdir()
    for version in ("one", "two"):
        shelf.install(toys[version])
    current = shelf.activate("toy")
    damaged = bytearray(current.path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    current.path.write_bytes(damaged)
    s = Scene(tmp_path / "state")
    s.hear(2)

    assert (s.speaks(), s.version("current"), len(s.clips)) == ("one", "one", 2)
    assert s.count(Outcome.RETURNED) == 1
    s.close()


def test_when_no_model_can_be_used_the_daemon_says_what_is_wrong_with_the_current_one(
    toys: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    only = Shelf(tmp_path / "state" / "models", Trust(allow_unsigned=True)).install(toys["one"])
    only.path.write_bytes(b"no bundle")
    with pytest.raises(BundleError, match=only.path.name):
        Scene(tmp_path / "state")
