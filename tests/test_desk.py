"""What the desk keeps, tells and obeys, on a store in memory and a clock of the test's own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from edge_asd.alarm.alarm import Alarm, Transition
from edge_asd.alarm.drift import Chart, Drift
from edge_asd.config import Config
from edge_asd.daemon import Daemon
from edge_asd.deliver.message import Kind
from edge_asd.deliver.publisher import Incoming, NullPublisher
from edge_asd.judgement import FOLDER as LABELS
from edge_asd.judgement import heard, judgements, lesson
from edge_asd.observe.clock import Clock
from edge_asd.observe.evidence import FOLDER as SOUNDS
from edge_asd.observe.evidence import Archive
from edge_asd.score.clip import ClipScore
from tests.conftest import until
from tests.example import bundle, noise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_asd.deliver.message import Message

NODE = "edge_asd/v1/node1"
OVER, UNDER = 9.0, 0.1
CLIP = 16_000


class Told(NullPublisher):
    """Remembers what was published."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def publish(self, message: Message) -> None:
        """Keep it."""
        self.messages.append(message)

    def last(self, ending: str) -> Any:  # noqa: ANN401 - a payload
        """Of the topic that ends so."""
        return next(json.loads(m.payload) for m in reversed(self.messages) if m.topic.endswith(ending))


@dataclass
class Scene:
    """A daemon whose sources are silent and whose clips are the test's."""

    config: Config
    now: float = 1000.0
    wall: datetime = datetime(2026, 11, 25, 12, tzinfo=UTC)
    told: Told = field(default_factory=Told)
    clips: int = 0

    def __post_init__(self) -> None:
        self.daemon = Daemon(self.config, clock=Clock(lambda: self.now, lambda: self.wall))
        self.daemon.publisher = self.told

    def hear(self, *surprises: float, machine: str = "pump1") -> list[Transition]:
        """Clips, a second each."""
        seen: list[Transition] = []
        for surprise in surprises:
            self.pass_time(1)
            clip = ClipScore(self.clips * CLIP, CLIP, 1.0, surprise, 5, (), (), -30.0)
            self.clips += 1
            seen += self.daemon.desk.judge(self.daemon.wards[machine], clip)
        return seen

    def live(self, *scores: float, machine: str = "pump1", day: int = 2) -> None:
        """Days of so many clips, none of which is strange enough for an alarm."""
        ward = self.daemon.wards[machine]
        ward.chart = Chart(hour=day, day=1)
        for score in scores:
            for _ in range(day):
                self.pass_time(1)
                clip = ClipScore(self.clips * CLIP, CLIP, score, UNDER, 9, (), (), -30.0)
                self.clips += 1
                self.daemon.desk.judge(ward, clip)

    def drift(self, machine: str = "pump1") -> tuple[float | None, float | None]:
        """How far, and whether, as Prometheus has it."""
        sample, labels = self.daemon.metrics.registry.get_sample_value, {"machine": machine}
        return sample("edge_asd_score_drift_ratio", labels), sample("edge_asd_score_drifting", labels)

    def pass_time(self, seconds: float) -> None:
        """On both clocks."""
        self.now += seconds
        self.wall += timedelta(seconds=seconds)
        self.daemon.desk.elapse()

    def command(self, verb: str, **body: object) -> dict[str, Any]:
        """What is answered to a command of the broker."""
        payload = json.dumps({"machine": "pump1"} | body).encode()
        reply = self.daemon.desk.obey(Incoming(f"{NODE}/cmd/{verb}", payload, retained=False))
        assert reply
        answered: dict[str, Any] = json.loads(reply.payload)
        return answered

    def events(self) -> list[dict[str, Any]]:
        """That wait for the broker, oldest first."""
        store = self.daemon._store  # noqa: SLF001 - the wire, as the publisher sees it
        return [json.loads(entry.message.payload) for entry in store.waiting(Kind.EVENT, -1, 2**62, 1000)]

    def journal(self) -> list[dict[str, Any]]:
        """Oldest first."""
        return [json.loads(entry.body) for entry in self.daemon._store.history()][::-1]  # noqa: SLF001 - same

    def end(self) -> None:
        """As after a stop."""
        self.daemon._store.close()  # noqa: SLF001 - the loop is not run here


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Config]:
    """Two machines on one file, with a broker that is never spoken to."""
    toy = bundle(tmp_path / "toy.asd")

    def make(state: Path | None = None, **more: Any) -> Config:  # noqa: ANN401 - of settings
        alarm = {"threshold": 4.0, "on_delay": 2, "off_delay": 2} | more.pop("alarm", {})
        machine = {"source": "mic", "bundle": str(toy), "alarm": alarm}
        mqtt = {"host": "127.0.0.1"} | more.pop("mqtt", {})
        return Config(
            node="node1",
            state_dir=state,
            mqtt=mqtt,
            metrics={"listen": ""},
            sources={"mic": {"input": f"file:{tmp_path}/none.wav"}},
            machines=dict.fromkeys(more.pop("machines", ["pump1", "pump2"]), machine),
            **more,
        )

    return make


@pytest.fixture
def scene(settings: Callable[..., Config]) -> Scene:
    return Scene(settings())


def test_events_are_numbered_without_a_gap_over_all_machines(scene: Scene) -> None:
    for machine in ("pump1", "pump2"):
        scene.hear(OVER, OVER, UNDER, UNDER, machine=machine)
    assert [event["event_seq"] for event in scene.events()] == [1, 2, 3, 4]
    assert [event["event"] for event in scene.events()] == ["activated", "returned"] * 2
    assert scene.told.last("pump2/alarm")["event_seq"] == 4


def test_an_acknowledged_alarm_is_told_with_who_did_it_and_answered(scene: Scene) -> None:
    scene.hear(OVER, OVER)
    reply = scene.command("ack", by="smith", comment="bearing greased", transaction="t1")
    assert (reply["status"], reply["data"]["state"], reply["transaction"]) == ("ok", "active_acked", "t1")
    event = scene.events()[-1]
    assert (event["event"], event["by"], event["comment"]) == ("acked", "smith", "bearing greased")
    assert event["alarm_id"] == scene.events()[0]["id"]
    assert scene.told.last("pump1/alarm")["alarm"]["state"] == "active_acked"


def test_one_transaction_acts_once_and_is_answered_alike_again(scene: Scene) -> None:
    scene.hear(OVER, OVER)
    first = scene.command("shelve", minutes=10, transaction="t1")
    scene.pass_time(60)
    assert scene.command("shelve", minutes=10, transaction="t1") == first
    assert [event["event"] for event in scene.events()] == ["activated", "shelved"]


def test_a_transaction_is_remembered_over_a_restart(settings: Callable[..., Config], tmp_path: Path) -> None:
    before = Scene(settings(tmp_path / "state"))
    before.hear(OVER, OVER)
    first = before.command("ack", transaction="t1")
    before.end()
    after = Scene(settings(tmp_path / "state"))
    assert after.command("ack", transaction="t1") == first
    assert len(after.events()) == 2


@pytest.mark.parametrize(
    ("verb", "body", "reason"),
    [
        ("reset", {}, "condition"),
        ("ack", {"alarm_id": "another"}, "other_alarm"),
        ("ack", {"machine": "pump9"}, "unknown_machine"),
        ("shelve", {"minutes": 0}, "invalid"),
        ("label", {"verdict": True, "event_id": "never-was"}, "invalid"),
        ("threshold", {"value": 3.0}, "not_allowed"),
        ("snapshot", {}, "failed"),
        ("dance", {}, "unknown_verb"),
    ],
)
def test_what_cannot_be_done_changes_nothing_and_is_told_why(
    scene: Scene, verb: str, body: dict[str, object], reason: str
) -> None:
    scene.hear(OVER, OVER)
    reply = scene.command(verb, **body)
    assert (reply["status"], reply["reason"]) == ("error", reason)
    assert reply["error"]
    assert [event["event"] for event in scene.events()] == ["activated"]


def test_an_alarm_outlives_the_daemon_with_its_acknowledgement_its_beginning_and_its_numbers(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    before = Scene(settings(tmp_path / "state"))
    before.hear(OVER, OVER)
    before.command("ack")
    raised = before.events()[0]
    before.end()
    after = Scene(settings(tmp_path / "state"), wall=before.wall + timedelta(hours=1))
    after.daemon.desk.introduce()
    state = after.told.last("pump1/alarm")
    assert (state["alarm"]["state"], state["alarm_id"]) == ("active_acked", raised["id"])
    assert state["alarm"]["since"] == raised["alarm"]["since"]
    after.hear(UNDER, UNDER)
    assert [event["event_seq"] for event in after.events()] == [1, 2, 3]
    assert after.events()[-1]["alarm_id"] == raised["id"]


def test_clips_before_and_after_a_restart_are_no_streak(settings: Callable[..., Config], tmp_path: Path) -> None:
    before = Scene(settings(tmp_path / "state"))
    before.hear(OVER, OVER, UNDER, UNDER, OVER)
    before.end()
    after = Scene(settings(tmp_path / "state"))
    assert not after.hear(OVER)
    assert after.hear(OVER) == [Transition.ACTIVATED]


def test_shelving_goes_on_after_a_kill_and_ends_by_the_clock_that_cannot_be_set(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    before = Scene(settings(tmp_path / "state"))
    before.command("shelve", minutes=10)
    for _ in range(5):
        before.pass_time(61)
    before.end()
    after = Scene(settings(tmp_path / "state"))
    after.wall += timedelta(days=400)
    after.pass_time(60)
    assert after.daemon.wards["pump1"].alarm.shelved_s == pytest.approx(600 - 5 * 61 - 60, abs=61)
    after.pass_time(600)
    assert after.events()[-1]["event"] == "unshelved"


@pytest.mark.parametrize("step", [timedelta(hours=1), timedelta(hours=-1), timedelta(days=365), timedelta(days=-365)])
def test_a_step_of_the_clock_changes_no_alarm_and_the_numbers_keep_the_order(scene: Scene, step: timedelta) -> None:
    twin = Scene(scene.config)
    surprises = [UNDER, OVER, OVER, OVER, UNDER, UNDER, UNDER, OVER, OVER, UNDER]
    seen = scene.hear(*surprises[:3])
    scene.wall += step
    seen += scene.hear(*surprises[3:])
    assert seen == twin.hear(*surprises)
    assert [e["event"] for e in scene.events()] == [e["event"] for e in twin.events()]
    assert [e["event_seq"] for e in scene.events()] == list(range(1, len(seen) + 1))


def test_an_operators_threshold_holds_after_a_restart_until_it_is_taken_back(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    allowed = {"commands": ["threshold"]}
    before = Scene(settings(tmp_path / "state", mqtt=allowed))
    now = before.wall.isoformat()
    assert before.command("threshold", value=20.0, ts=now)["data"]["threshold"] == 20.0
    before.end()
    after = Scene(settings(tmp_path / "state", mqtt=allowed), wall=before.wall)
    assert not after.hear(OVER, OVER, OVER)
    assert after.command("threshold", value=None, ts=now)["data"] == {
        "kind": "threshold",
        "threshold": 4.0,
        "own": False,
    }
    assert after.hear(OVER, OVER) == [Transition.ACTIVATED]


def test_a_flood_is_told_once_and_the_rest_is_in_the_journal(settings: Callable[..., Config]) -> None:
    names = [f"pump{n}" for n in range(30)]
    scene = Scene(settings(machines=names))
    for name in names:
        scene.hear(OVER, OVER, machine=name)
    on_the_wire = scene.events()
    assert [event["event"] for event in on_the_wire] == ["activated"] * 10 + ["began"]
    assert [event["event_seq"] for event in on_the_wire] == list(range(1, 12))
    held = [event for event in scene.journal() if event.get("held") is True]
    assert [event["machine"] for event in held] == names[10:]
    assert len({event["id"] for event in scene.journal()}) == 31
    assert scene.told.last("pump29/alarm")["alarm"]["active"]
    scene.pass_time(700)
    assert scene.events()[-1]["event"] == "ended"
    assert scene.events()[-1]["held"] == 19


def test_a_label_is_kept_with_the_alarm_it_judges(settings: Callable[..., Config], tmp_path: Path) -> None:
    scene = Scene(settings(tmp_path / "state"))
    scene.hear(OVER, OVER)
    reply = scene.command("label", verdict=False, fault="forklift", by="smith", comment="drove by")
    raised, labelled = scene.events()
    assert reply["data"] == labelled["detail"]
    assert {"event_id": raised["id"], "alarm_id": raised["id"], "sound": False}.items() <= reply["data"].items()
    assert (labelled["event"], labelled["detail"]["verdict"]) == ("labelled", False)
    (kept,) = judgements(tmp_path / "state")
    assert (kept.machine, kept.alarm_id, kept.verdict, kept.fault) == ("pump1", raised["id"], False, "forklift")
    assert (kept.by, kept.comment, kept.clip_s, kept.event) == ("smith", "drove by", 1.0, raised)


@pytest.mark.parametrize("kept", [True, False])
def test_the_same_label_again_is_no_event_and_another_verdict_is(
    settings: Callable[..., Config], tmp_path: Path, *, kept: bool
) -> None:
    scene = Scene(settings(tmp_path / "state" if kept else None))
    scene.hear(OVER, OVER)
    first = scene.command("label", verdict=False, by="smith")
    assert scene.command("label", verdict=False, by="jones")["data"] == first["data"]
    assert scene.command("label", verdict=True)["status"] == "ok"
    assert [event["detail"]["verdict"] for event in scene.events()[1:]] == [False, True]
    assert [judgement.verdict for judgement in judgements(tmp_path / "state")] == [True] * kept


def test_any_event_of_an_alarm_names_it(settings: Callable[..., Config], tmp_path: Path) -> None:
    scene = Scene(settings(tmp_path / "state"))
    scene.hear(OVER, OVER)
    scene.command("ack")
    raised, acked = scene.events()
    assert scene.command("label", verdict=True, event_id=acked["id"])["data"]["alarm_id"] == raised["id"]
    assert judgements(tmp_path / "state")[0].event == raised


def test_what_belongs_to_no_alarm_cannot_be_labelled(scene: Scene) -> None:
    scene.live(*USUAL, *[2.0] * 10)
    (drifted,) = scene.events()
    reply = scene.command("label", verdict=True, event_id=drifted["id"])
    assert (reply["status"], reply["reason"]) == ("error", "invalid")
    assert "no event of an alarm of pump1" in reply["error"]


def test_a_label_that_cannot_be_written_is_refused_and_told_to_nobody(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    scene = Scene(settings(tmp_path / "state"))
    scene.hear(OVER, OVER)
    (tmp_path / "state" / LABELS).write_text("in the way")
    reply = scene.command("label", verdict=True)
    assert (reply["status"], reply["reason"]) == ("error", "failed")
    assert "cannot be written" in reply["error"]
    assert len(scene.events()) == 1


def test_an_alarm_whose_sound_was_kept_is_heard_again_when_it_is_labelled(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    scene = Scene(settings(state))
    scene.hear(OVER, OVER)
    (raised,) = scene.events()
    about = {"event_id": raised["id"], "alarm_begins_s": 0.5}
    Archive(state / SOUNDS, 10**7).keep("pump1", noise(1, int(2.5 * CLIP)), CLIP, scene.wall, about)
    assert scene.command("label", verdict=False)["data"]["sound"] is True

    def learned() -> int:
        scene.daemon.feedback.attend()
        return len(lesson(state, "pump1", scene.daemon.wards["pump1"].digest).as_normals())

    assert until(learned, 15, "nothing was heard again") == 2
    for features in (state / LABELS).glob("*/*.safetensors"):
        features.write_bytes(b"as by a kill")
    assert scene.command("label", verdict=False)["status"] == "ok"

    def again() -> bool:
        scene.daemon.feedback.attend()
        return heard(state, judgements(state)[0], scene.daemon.wards["pump1"].digest)

    assert until(again, 15, "what was damaged was not heard again")
    assert len(scene.events()) == 2
    scene.daemon.feedback.close()


USUAL = [0.2, 0.4, 0.1, 0.3, 0.2, 0.5, 0.3]
"""days of a machine"""


def test_a_slow_change_is_told_once_with_advice_and_raises_no_alarm(scene: Scene) -> None:
    scene.live(*USUAL, *[2.0] * 10)
    (event,) = scene.events()
    assert (event["event"], event["detail"]["days"]) == ("drifted", event["detail"]["days"])
    assert "clean the microphone" in event["detail"]["advice"]
    assert event["alarm"]["state"] == "normal"
    assert scene.drift() == (1.0, 1.0)
    assert scene.drift("pump2") == (0.0, 0.0)
    scene.live(*USUAL, *USUAL)
    assert [event["event"] for event in scene.events()] == ["drifted", "settled"]
    assert scene.drift()[1] == 0.0


def test_a_drift_goes_on_after_a_restart(settings: Callable[..., Config], tmp_path: Path) -> None:
    whole = Scene(settings())
    whole.live(*USUAL, 2.0, 2.0, 2.0)
    before = Scene(settings(tmp_path / "state"))
    before.live(*USUAL, 2.0)
    before.end()
    after = Scene(settings(tmp_path / "state"), wall=before.wall)
    assert 0 < (after.drift()[0] or 0) < 1
    after.live(2.0, 2.0)
    assert after.daemon.wards["pump1"].drift == whole.daemon.wards["pump1"].drift


@pytest.mark.parametrize("learned", [False, True])
def test_what_another_head_has_scored_says_nothing_of_this_one(scene: Scene, *, learned: bool) -> None:
    scene.live(*USUAL)
    ward = scene.daemon.wards["pump1"]
    kept, ward.drift = ward.text(), Drift()
    if learned:
        ward.voice = replace(ward.voice, model=ward.voice.model.model_copy(update={"version": "1.2.3+learnt.1"}))
    else:
        ward.digest = "another"
    ward.recall(kept)
    assert ward.drift == Drift()


def test_a_drift_that_cannot_be_read_costs_no_alarm(scene: Scene) -> None:
    scene.hear(OVER, OVER)
    ward = scene.daemon.wards["pump1"]
    kept = json.loads(ward.text())
    ward.alarm, ward.drift = Alarm(), Drift()
    ward.recall(json.dumps(kept | {"drift": {"of": kept["drift"]["of"], "scores": "nonsense"}}))
    assert (ward.alarm.active, ward.drift) == (True, Drift())


def test_a_machine_that_is_off_or_in_alarm_says_nothing_of_its_usual_days(scene: Scene) -> None:
    scene.live(*USUAL)
    known = scene.daemon.wards["pump1"].drift
    scene.command("suppress", on=True)
    scene.live(*[5.0] * 10)
    scene.command("suppress", on=False)
    scene.hear(OVER, OVER)
    scene.daemon.wards["pump1"].drift = known
    scene.hear(*[OVER] * 10)
    assert scene.daemon.wards["pump1"].drift == known


def test_every_command_is_in_the_journal_also_one_that_changed_nothing_or_was_refused(scene: Scene) -> None:
    scene.command("ack", by="smith")
    scene.command("shelve", minutes=0, by="jones")
    scene.pass_time(6)
    done, refused = scene.journal()
    assert (done["event"], done["verb"], done["by"]) == ("command", "ack", "smith")
    assert (refused["event"], refused["verb"], refused["reason"]) == ("refused", "shelve", "invalid")
    assert "minutes" in refused["said"]
    assert not scene.events()


def test_a_storm_of_nonsense_is_answered_and_does_not_fill_the_journal(scene: Scene) -> None:
    for n in range(2000):
        assert scene.command("shelve", minutes=-n)["status"] == "error"
    scene.pass_time(6)
    assert len(scene.journal()) == 500


def test_nothing_is_done_for_what_the_broker_kept_or_what_is_meant_for_others(scene: Scene) -> None:
    scene.hear(OVER, OVER)
    payload = json.dumps({"machine": "pump1"}).encode()
    for incoming in (
        Incoming(f"{NODE}/cmd/ack", payload, retained=True),
        Incoming("edge_asd/v1/node2/cmd/ack", payload, retained=False),
        Incoming("edge_asd/v1/all/cmd/ack", payload, retained=False),
    ):
        assert scene.daemon.desk.obey(incoming) is None
    assert [event["event"] for event in scene.events()] == ["activated"]


def test_the_roll_call_is_answered_with_the_health_of_the_node(scene: Scene) -> None:
    reply = scene.daemon.desk.obey(Incoming("edge_asd/v1/all/cmd/health_check", b"", retained=False))
    assert reply
    said = json.loads(reply.payload)
    assert (reply.topic, said["status"]) == (f"{NODE}/rsp/health_check", "ok")
    assert {check["name"] for check in said["data"]["checks"]} == {"source mic", "broker", "store"}


def test_health_counts_the_machines_that_were_scored_since_the_start(scene: Scene) -> None:
    assert scene.daemon.health().scored == 0
    scene.hear(OVER, OVER)
    assert scene.daemon.health().scored == 1
