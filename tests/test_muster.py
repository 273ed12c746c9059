"""A machine whose bundle cannot be opened, and the others, which must be heard all the same."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
import soundfile

from edge_asd.bundle import open_bundle
from edge_asd.config import Config, MachineSettings
from edge_asd.daemon import Daemon, Nobody
from edge_asd.deliver.command import Action, ModelOrder
from edge_asd.deliver.message import Verb
from edge_asd.deliver.payload import Model
from edge_asd.deliver.publisher import Incoming, NullPublisher
from edge_asd.errors import BundleError, ConfigError, HeadUnknown, UpdateRefused
from edge_asd.model.shelf import Shelf as ModelShelf
from edge_asd.muster import AGAIN_S, Muster
from edge_asd.signature import Trust
from edge_asd.ward import Mind
from tests.clock import Time
from tests.conftest import until
from tests.example import SECOND, bundle, noise

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from edge_asd.alarm.alarm import Policy
    from edge_asd.bundle import Bundle
    from edge_asd.deliver.message import Message
    from edge_asd.score.clip import ClipScore

RATE = 16_000


@dataclass
class Watcher(Nobody):
    """Counts clips by machine."""

    clips: dict[str, int] = field(default_factory=dict)

    def scored(self, machine: str, clip: ClipScore, policy: Policy) -> None:  # noqa: ARG002 - as an audience is told
        """A clip got its score."""
        self.clips[machine] = self.clips.get(machine, 0) + 1


class Told(NullPublisher):
    """Remembers what was to be published."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def publish(self, message: Message) -> None:
        """Keep it."""
        self.messages.append(message)

    def said(self, ending: str) -> list[str]:
        """Of the topics that end so."""
        return [m.payload.decode() for m in self.messages if m.topic.endswith(ending)]


# Of itself ------------------------------------------------------------------------------------------------------------


class Shelf:
    """Bundles by name that come and go, and how often each was opened."""

    def __init__(self, path: Path, *there: str) -> None:
        self.path, self.there, self.opened = path, set(there), []

    def open(self, name: str) -> Bundle:
        """Really opened, if it is there."""
        self.opened.append(name)
        if name not in self.there:
            msg = f"no bundle called {name}"
            raise BundleError(msg)
        return open_bundle(self.path)

    def muster(self, time: Time, machines: dict[str, MachineSettings]) -> Muster:
        """As the daemon has one, without models that are installed."""

        def mind(name: str, bundle: Bundle) -> Mind:
            listener = bundle.scorer(machines[name].head)
            return Mind(listener, Model(id="toy", version="1", backend="numpy", precision="float32"), 1, "", True)

        def together(bundle: str, names: Collection[str]) -> dict[str, Mind]:
            opened = self.open(bundle)
            return {name: mind(name, opened) for name in names}

        return Muster(machines, together, lambda name: mind(name, self.open(machines[name].bundle)), lambda: time.now)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that judges seconds."""
    return bundle(tmp_path_factory.mktemp("bundle") / "toy.asd")


def muster(shelf: Shelf, time: Time, **bundles: str) -> Muster:
    """Machines by the bundle they are judged by."""
    machines = {name: MachineSettings(source="mic", bundle=wanted) for name, wanted in bundles.items()}
    return shelf.muster(time, machines)


def test_a_bundle_is_opened_once_for_all_its_machines(toy: Path) -> None:
    shelf = Shelf(toy, "a")
    present = muster(shelf, Time(), one="a", two="a").first()

    assert shelf.opened == ["a"]
    assert present["one"].listener is not present["two"].listener


def test_when_not_one_bundle_opens_the_reason_is_raised(toy: Path) -> None:
    with pytest.raises(BundleError, match="no bundle called a"):
        muster(Shelf(toy), Time(), one="a", two="b").first()


def test_what_is_absent_is_tried_again_each_minute_until_it_comes_and_said_once(
    toy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    time, shelf = Time(), Shelf(toy, "a")
    waiting = muster(shelf, time, one="a", two="b")
    assert set(waiting.first()) == {"one"}
    assert waiting.absent == {"two": "no bundle called b"}

    for tries in (2, 3):
        time.now += AGAIN_S - 1
        assert (waiting.late(), len(shelf.opened)) == ([], tries)
        time.now += 1
        waiting.late()
        waiting.trying.join()
        waiting.late()
        assert len(shelf.opened) == tries + 1

    shelf.there.add("b")
    time.now += AGAIN_S
    come = until(waiting.late, 5, "it did not come")

    assert [name for name, _ in come] == ["two"]
    assert waiting.absent == {}
    time.now += 10 * AGAIN_S
    assert (waiting.late(), shelf.opened) == ([], ["a", "b", "b", "b", "b"])
    assert [r.getMessage() for r in caplog.records] == ["machine.absent"]


def test_a_head_that_is_not_in_its_bundle_keeps_only_its_machine_away(toy: Path) -> None:
    machines = {
        "one": MachineSettings(source="mic", bundle="a"),
        "two": MachineSettings(source="mic", bundle="a", head="x/y/00"),
    }
    waiting = Shelf(toy, "a").muster(Time(), machines)

    assert set(waiting.first()) == {"one"}
    assert "no head 'x/y/00'; choose one of toy/noise/00" in waiting.absent["two"]


# In the daemon --------------------------------------------------------------------------------------------------------


def two(tmp_path: Path, toy: Path, late: Path, *, shared: bool = False) -> Config:
    """Two machines, the second of which has its bundle at ``late``; at the same microphone or at one of its own."""
    wav = tmp_path / "mic.wav"
    soundfile.write(wav, noise(5, 30 * RATE), RATE)
    sources = {name: {"input": f"file:{wav}", "loop": True} for name in ("mic1", "mic2")[: 1 if shared else 2]}
    machines = {
        "pump1": {"source": "mic1", "bundle": str(toy)},
        "pump2": {"source": "mic1" if shared else "mic2", "bundle": str(late)},
    }
    return Config(node="node1", state_dir=tmp_path / "kept", sources=sources, machines=machines)


def passing(daemon: Daemon, time: Time, seconds: int) -> None:
    """Let time pass, a second a round."""
    for _ in range(seconds):
        daemon.step()
        time.now += 1


@pytest.mark.parametrize("shared", [True, False], ids=["at one microphone", "at its own microphone"])
def test_a_machine_without_a_bundle_is_announced_and_joins_when_it_has_one(
    toy: Path, tmp_path: Path, *, shared: bool
) -> None:
    time, watcher, late = Time(), Watcher(), tmp_path / "late.asd"
    daemon = Daemon(two(tmp_path, toy, late, shared=shared), watcher, clock=time.clock)
    daemon.publisher = told = Told()
    daemon.introduce()
    passing(daemon, time, 5)

    assert set(watcher.clips) == {"pump1"}
    assert told.said("pump1/availability") == ["offline", "online"]
    assert told.said("pump2/availability") == ["offline"]
    checks = {check.name: check for check in daemon.health().checks}
    assert f"no bundle at {late}" in checks["machine pump2"].said
    assert not daemon.health().well
    ask = daemon.metrics.registry.get_sample_value
    assert [ask("edge_asd_machine_absent", {"machine": name}) for name in ("pump1", "pump2")] == [0, 1]

    bundle(late)
    time.now += AGAIN_S
    until(lambda: passing(daemon, time, 1) or watcher.clips.get("pump2", 0) > 2, 20, "it was never scored")

    assert told.said("pump2/availability")[-1] == "online"
    assert [json.loads(info)["machines"].keys() for info in told.said("info")][-1] == {"pump1", "pump2"}
    assert [ask("edge_asd_machine_absent", {"machine": name}) for name in ("pump1", "pump2")] == [0, 0]
    assert ask("edge_asd_clips_total", {"machine": "pump2", "outcome": "scored"}) == watcher.clips["pump2"]
    assert daemon.health().checks[-1].name == "store"
    daemon._close_ears()  # noqa: SLF001 - as run does


def test_a_machine_whose_model_is_installed_late_follows_that_model_from_then_on(toy: Path, tmp_path: Path) -> None:
    time, config = Time(), two(tmp_path, toy, tmp_path / "late.asd", shared=True)
    late = config.machines["pump2"].model_copy(update={"bundle": "installed:toy"})
    config = config.model_copy(update={"machines": config.machines | {"pump2": late}})
    daemon = Daemon(config, clock=time.clock)
    daemon.step()
    order = ModelOrder(action=Action.ROLLBACK, name="toy")
    with pytest.raises(UpdateRefused, match='no machine has bundle = "installed:toy"'):
        daemon.model(order)

    ModelShelf(tmp_path / "kept/models", Trust.of((), allow_unsigned=True)).install(toy)
    time.now += AGAIN_S
    until(lambda: daemon.step() is not None and "pump2" in daemon.wards, 20, "it did not come")

    assert daemon.model(ModelOrder(action=Action.LIST)).installed[0].name == "toy"
    daemon.model(order)  # begins, and finds that there is none before it
    daemon._store.close()  # noqa: SLF001 - as run does
    daemon._succession.close()  # noqa: SLF001 - as run does


def test_a_late_machine_that_wants_another_rate_stays_away_with_the_reason(toy: Path, tmp_path: Path) -> None:
    time, late = Time(), tmp_path / "late.asd"
    daemon = Daemon(two(tmp_path, toy, late, shared=True), clock=time.clock)
    passing(daemon, time, 1)
    bundle(late, replace(SECOND, sample_rate=8_000))
    time.now += AGAIN_S

    def said() -> str:
        daemon.step()
        return {check.name: check.said for check in daemon.health().checks}["machine pump2"]

    until(lambda: "sources.mic1 is heard at 16000 hertz, it wants 8000" in said(), 20, said)


def test_the_alarm_of_a_machine_is_there_again_when_its_bundle_is(toy: Path, tmp_path: Path) -> None:
    time, late = Time(), bundle(tmp_path / "late.asd")
    before = Daemon(two(tmp_path, toy, late), clock=time.clock)
    before.desk.obey(
        Incoming(f"edge_asd/v1/node1/cmd/{Verb.SHELVE}", b'{"machine": "pump2", "minutes": 60}', retained=False)
    )
    before._store.close()  # noqa: SLF001 - as run does
    late.unlink()

    daemon = Daemon(two(tmp_path, toy, late), clock=time.clock)
    passing(daemon, time, 2)
    bundle(late)
    time.now += AGAIN_S
    until(lambda: daemon.step() is not None and "pump2" in daemon.wards, 20, "it did not come")

    assert daemon.wards["pump2"].alarm.shelved_s
    daemon._store.close()  # noqa: SLF001 - as run does


def test_when_no_machine_can_be_judged_the_daemon_says_why_and_ends(tmp_path: Path, toy: Path) -> None:
    nowhere = tmp_path / "nowhere.asd"
    with pytest.raises(BundleError, match="no bundle at"):
        Daemon(two(tmp_path, nowhere, nowhere))
    wrong = two(tmp_path, toy, toy)
    machines = {name: m.model_copy(update={"head": "x/y/00"}) for name, m in wrong.machines.items()}
    with pytest.raises(HeadUnknown):
        Daemon(wrong.model_copy(update={"machines": machines}))


def test_machines_of_one_source_that_want_different_rates_from_the_start_are_a_mistake(
    toy: Path, tmp_path: Path
) -> None:
    slow = bundle(tmp_path / "slow.asd", replace(SECOND, sample_rate=8_000))
    with pytest.raises(ConfigError, match=r"its machines want \[8000, 16000\] hertz"):
        Daemon(two(tmp_path, toy, slow, shared=True))
