"""Lessons that a daemon holds out of what it hears: what counts, what does not, and what outlives the process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.alarm.alarm import Policy
from edge_asd.attendance import attend
from edge_asd.bundle import open_bundle
from edge_asd.config import Config
from edge_asd.deliver.control import answers
from edge_asd.deliver.publisher import Incoming
from edge_asd.learn.memory import FIRST, Memory
from edge_asd.learn.notebook import Notebook, Order
from edge_asd.learn.overlay import read_overlay
from edge_asd.lesson import Guard
from edge_asd.score.listener import evidence
from edge_asd.tutor import LOOK_S
from tests.conftest import PATIENCE, until
from tests.example import MACHINE, SECOND, bundle, front_end, head, noise
from tests.hall import LOUD, RATE, Hall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edge_asd.learn.overlay import Overlay
    from edge_asd.score.part import Evidence

ENGINEER = {"host": "127.0.0.1", "commands": ["calibrate"]}
"""a broker that is never spoken to, and may have machines taught"""
HEAD = head(SECOND)
SLOW_S = 60.0
"""that a process may take to begin, listen and fit on a busy computer"""


class Scene(Hall):
    """Somebody orders lessons over the broker."""

    def order(self, action: str, **body: object) -> dict[str, Any]:
        """The answer."""
        ts = self.clock.wall().isoformat()
        payload = json.dumps({"machine": "press", "action": action, "by": "smith", "ts": ts} | body).encode()
        topic = f"{self.config.mqtt.base if self.config.mqtt else 'edge_asd'}/v1/{self.config.node}/cmd/calibrate"
        reply = self.daemon.desk.obey(Incoming(topic, payload, retained=False))
        assert reply
        answered: dict[str, Any] = json.loads(reply.payload)
        return answered

    def stands(self) -> dict[str, Any]:
        """How the lesson does."""
        found: dict[str, Any] = self.order("status")["data"]
        return found

    def until_stage(self, stage: str) -> dict[str, Any]:
        """Listen until the lesson is so far; how it stands then."""

        def reached() -> dict[str, Any] | None:
            self.hear()
            return stands if (stands := self.stands())["stage"] == stage else None

        return until(reached, PATIENCE, lambda: f"not {stage}: {self.stands()}")

    def learn(self, **what: object) -> dict[str, Any]:
        """A lesson from its order to its end."""
        assert self.order("start", minutes=0.5, **what)["status"] == "ok"
        return self.until_stage("done")

    def overlay(self, number: int) -> Overlay:
        """What was learned."""
        return read_overlay(self.notebook.path(number), self.bundle)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path, node="node1", mqtt=ENGINEER)
    yield scene
    scene.end()


def clip(seed: int, level: float) -> Evidence:
    return evidence(SECOND, front_end(SECOND), None, noise(seed, SECOND.clip, level))


def test_nobody_is_taught_over_the_broker_unless_the_settings_allow_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path, node="node1", mqtt={"host": "127.0.0.1"})
    answer = scene.order("start")
    assert (answer["status"], answer["reason"]) == ("error", "not_allowed")
    scene.end()


def test_a_lesson_is_told_from_its_order_to_what_speaks_in_the_end(scene: Scene) -> None:
    assert scene.order("start", minutes=1)["data"]["stage"] == "beginning"
    done = scene.until_stage("done")
    assert (done["minutes"], done["wanted_minutes"], done["candidate"]) == (1.0, 1.0, 1)
    assert done["said"] == "1.0 of 1 minutes, operating points: 1"
    assert done["proposal"]["points"] == {FIRST: 60}
    told = scene.told.bodies("machine/press/lesson")
    stages = [body["stage"] for body in told]
    assert list(dict.fromkeys(stages)) == ["beginning", "listening", "fitting", "done"]
    assert len(told) == len({json.dumps(body | {"ts": ""}) for body in told}) < 10  # not with each clip
    scene.until_noted("learnt_hears_along")

    assert scene.order("commit")["data"]["active"] == 1
    scene.until_noted("learnt_speaks")
    assert scene.speaks == "1.2.3+learnt.1"
    assert scene.order("undo")["data"]["active"] == 0
    scene.notebook.undo()  # as the command does beside the daemon
    scene.hear(int(LOOK_S))
    assert scene.told.bodies("machine/press/lesson")[-1]["active"] == 1
    journal = [json.loads(entry.body) for entry in scene.daemon._store.history()]  # noqa: SLF001 - as it is kept
    asked = [entry["action"] for entry in journal if entry["event"] == "command"]
    assert asked[::-1] == ["start", "commit", "undo"]  # who only looks leaves no trace
    again = scene.order("commit")
    assert (again["reason"], "nothing waits" in again["error"]) == ("condition", True)


def test_what_the_daemon_learns_is_what_the_command_would_have_learned(scene: Scene, tmp_path: Path) -> None:
    scene.learn()
    sound = np.concatenate([scene.source.sound(second) for second in range(1, scene.source.seconds + 1)])
    learned = scene.overlay(1)
    first = next(
        second
        for second in range(scene.source.seconds)
        if learned.memory.knows(evidence(SECOND, front_end(SECOND), None, sound[second * RATE :][:RATE]))
    )
    soundfile.write(tmp_path / "mic.wav", sound[first * RATE :], RATE, "FLOAT")
    mic = {"mic": {"input": f"file:{tmp_path / 'mic.wav'}", "speed": 0}}
    alone = Config(**scene.config.model_dump() | {"sources": mic, "state_dir": tmp_path / "alone"})
    assert attend(alone, "press", 0.5, progress=lambda *_: None).points == {FIRST: 30}
    other = read_overlay(Notebook.of(tmp_path / "alone", "press").path(1), scene.bundle)
    assert other.note.card == learned.note.card
    for name in other.memory.features.keys() - {"day"}:  # time is the test's
        np.testing.assert_array_equal(learned.memory.features[name], other.memory.features[name])


def test_clips_of_an_ear_that_is_not_well_or_at_full_scale_do_not_count(scene: Scene) -> None:
    scene.order("start", minutes=0.5)
    scene.until_stage("listening")
    heard = scene.stands()["minutes"]
    scene.source.sound = lambda second: np.where(np.arange(RATE) == 9, 1.0, noise(second, RATE, LOUD)).astype("f4")  # type: ignore[method-assign]
    scene.hear(5)
    assert "full scale" in scene.stands()["reason"]
    scene.source.sound = lambda _: np.zeros(RATE, np.float32)  # type: ignore[method-assign]
    scene.hear(3)
    stands = scene.stands()
    assert "the source is silent" in stands["reason"]
    assert (stands["minutes"], stands["unfit"]) == (heard, 5)
    del scene.source.sound
    done = scene.until_stage("done")
    assert (done["minutes"], done["proposal"]["clips"], done["proposal"]["clipped"]) == (0.5, 30, 5)


def test_an_alarm_of_what_was_learned_is_not_learned_unless_it_is_called_normal(scene: Scene) -> None:
    scene.learn()
    scene.order("commit")
    scene.until_noted("learnt_speaks")
    scene.source.level = 0.02
    scene.order("start", minutes=0.5)
    scene.until_stage("listening")
    scene.hear(40)
    stands = scene.stands()
    assert (stands["minutes"], stands["candidate"]) == (0.0, None)
    assert stands["strange"] >= 38
    assert "over the alarm threshold" in stands["reason"]
    refused = scene.order("start", minutes=0.5, add="quiet")
    assert (refused["status"], refused["reason"]) == ("error", "condition")

    assert scene.order("abort")["data"]["stage"] == "idle"
    assert scene.learn(add="quiet")["proposal"]["points"] == {FIRST: 30, "quiet": 30}
    assert scene.learn(alarms=True)["proposal"]["points"] == {FIRST: 30}


@given(over=st.lists(st.booleans(), max_size=40))
def test_clips_over_the_threshold_are_learned_one_by_one_and_left_out_as_an_alarm(over: list[bool]) -> None:
    kinds = {strange: clip(number, level) for number, (strange, level) in enumerate(((False, 0.05), (True, 0.5)))}
    guard = Guard(HEAD, Policy(threshold=1.5, on_delay=3, off_delay=2, chatter_clips=0))
    admitted, strange = [], 0
    for each in over:
        clips, left_out = guard.admit(kinds[each])
        admitted += [each_of is kinds[True] for each_of in clips]
        strange += left_out
    assert (admitted, strange) == by_hand(over)


def by_hand(over: list[bool]) -> tuple[list[bool], int]:
    """Three in a row begin an alarm and two that are normal end it; only then clips count again."""
    learned: list[bool] = []
    strange, active, run = 0, False, 0
    for each in over:
        if active:
            run = 0 if each else run + 1
            active = run < 2
            learned += [] if active else [each]
            strange += active
            run = 0 if not active else run
        elif not each:
            learned += [True] * run + [False]
            run = 0
        else:
            run += 1
            active = run == 3
            strange += 3 * active
            run = 0 if active else run
    return learned, strange


def test_what_was_heard_is_kept_over_a_pause_and_forgotten_when_it_is_aborted(scene: Scene) -> None:
    scene.order("start", minutes=0.5)
    scene.until_stage("listening")
    scene.hear(7)
    heard = scene.order("pause")["data"]
    assert heard["stage"] == "paused"
    scene.hear(int(LOOK_S) + 5)
    assert scene.stands()["minutes"] == heard["minutes"] >= 7 / 60
    scene.order("start", minutes=0.5)
    assert scene.until_stage("listening")["minutes"] >= heard["minutes"]
    scene.hear(3)
    scene.order("abort")
    scene.order("start", minutes=0.5)
    assert scene.until_stage("listening")["minutes"] < heard["minutes"]


def test_minutes_may_be_taken_from_hours(scene: Scene) -> None:
    scene.order("start", minutes=0.5, over_hours=0.05)
    assert scene.until_stage("listening")["said"].endswith("one clip in 6")
    scene.until_stage("done")
    known = scene.overlay(1).memory
    sounds = [scene.source.sound(second + 1) for second in range(scene.source.seconds)]
    taken = [n for n, sound in enumerate(sounds) if known.knows(evidence(SECOND, front_end(SECOND), None, sound))]
    assert np.diff(taken).tolist() == [6] * 29


def test_a_clip_that_does_not_count_is_made_up_for_by_the_next(scene: Scene) -> None:
    scene.order("start", minutes=0.5, over_hours=0.05)
    scene.until_stage("listening")
    scene.hear(12)
    before = scene.stands()["minutes"]
    scene.source.sound = lambda _: np.zeros(RATE, np.float32)  # type: ignore[method-assign]
    scene.hear(12)
    del scene.source.sound
    assert scene.stands()["minutes"] <= before + 1 / 60
    assert scene.until_stage("done")["proposal"]["clips"] == 30


def test_a_head_that_knows_five_days_hears_what_is_a_little_strange_for_long(scene: Scene) -> None:
    scene.order("start", minutes=1)
    scene.until_stage("listening")
    for _ in range(5):
        scene.hear(4)
        scene.later += 86_400
    assert scene.until_stage("done")["proposal"]["days"] == 6
    ward = scene.daemon.wards["press"]
    assert not ward.policy.cusum
    scene.order("commit")
    scene.until_noted("learnt_speaks")
    assert ward.policy.cusum
    scene.source.level = 1.3 * LOUD
    until(lambda: scene.hear() or ward.alarm.sum > 0.5, PATIENCE, lambda: ward.alarm)
    scene.end()
    scene.begin()
    ward = scene.daemon.wards["press"]
    assert (ward.policy.cusum, ward.alarm.sum) == (True, 0.0)  # those clips are too long ago
    scene.order("undo")
    until(lambda: scene.hear() or not ward.policy.cusum, PATIENCE, lambda: ward.policy)


@pytest.mark.parametrize("killed", [True, False])
def test_a_lesson_goes_on_in_the_next_daemon(scene: Scene, *, killed: bool) -> None:
    scene.order("start", minutes=0.5, add=None)
    scene.until_stage("listening")
    scene.hear(10)
    heard = scene.stands()["minutes"]
    if killed:
        scene.daemon._store.close()  # noqa: SLF001 - the lock would go with the process
        scene.daemon._tutor._errands.close()  # noqa: SLF001 - same
    else:
        scene.end()
    scene.begin()
    went_on = scene.until_stage("listening")["minutes"]
    assert went_on >= heard - (3 / 60 if killed else 0)
    assert scene.until_stage("done")["proposal"]["clips"] == 30


def test_a_version_of_before_understands_an_order_that_passes_over_no_clip() -> None:
    assert "every" not in json.loads(Order(number=1, minutes=10).model_dump_json())
    assert json.loads(Order(number=1, minutes=10, every=1008).model_dump_json())["every"] == 1008


def test_an_order_that_was_carried_out_is_not_carried_out_again(scene: Scene) -> None:
    scene.learn()
    scene.notebook.keep_order(Order(number=1, minutes=0.5))  # as if killed before it was taken away
    scene.end()
    scene.begin()
    scene.hear(int(2 * LOOK_S))
    assert scene.stands()["stage"] == "idle"
    assert scene.notebook.slots().last == 1


def test_what_cannot_be_learned_is_refused_with_the_reason_and_the_order_withdrawn(scene: Scene) -> None:
    scene.order("start", add="hot")
    assert "nothing is learned yet" in scene.until_stage("refused")["reason"]
    assert scene.notebook.order() is None


def test_a_lesson_that_cannot_go_on_is_given_up_and_the_machine_is_heard(scene: Scene) -> None:
    other = evidence(SECOND, replace(front_end(SECOND), n_mels=5), None, noise(1, RATE))
    scene.notebook.keep_heard(Memory().with_clip(other, FIRST), scene.bundle.digest, MACHINE)
    scene.order("start")
    scene.until_stage("refused")
    scene.hear(3)
    assert len(scene.ears.clips) == scene.now


def test_a_lesson_waits_while_another_model_speaks(scene: Scene) -> None:
    scene.order("start", minutes=0.5)
    scene.until_stage("listening")
    ward = scene.daemon.wards["press"]
    ward.digest, own = "f" * 64, ward.digest
    scene.hear(3)
    assert scene.stands()["minutes"] < 30 / 60
    ward.digest = own
    assert scene.until_stage("done")["minutes"] == 0.5


def test_a_command_that_finds_no_daemon_takes_an_order_back_for_it(scene: Scene) -> None:
    scene.order("start", minutes=0.5)
    scene.until_stage("listening")
    scene.notebook.discard()
    scene.until_stage("idle")


# As typed -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def typed(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``edge-asd learn`` beside a daemon that hears a quarter of an hour of noise five times as fast as time."""
    soundfile.write(tmp_path / "mic.wav", np.clip(noise(3, 900 * RATE, LOUD), -0.999, 0.999), RATE, "PCM_16")
    (tmp_path / "edge.toml").write_text(
        f'state_dir = "{tmp_path / "state"}"\ntrust.allow_unsigned = true\nmetrics.listen = ""\n'
        f'[sources.mic]\ninput = "file:{tmp_path / "mic.wav"}"\nspeed = 5\n'
        f'[machines.press]\nsource = "mic"\nbundle = "{bundle(tmp_path / "toy.asd")}"\n'
    )

    def begin(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "edge_asd", *arguments, "--config", str(tmp_path / "edge.toml")]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    daemon = begin("run")
    until(lambda: answers(tmp_path / "state"), SLOW_S, "no daemon")
    yield begin
    daemon.terminate()
    daemon.communicate(timeout=SLOW_S)


def test_the_command_asks_the_daemon_and_pauses_with_ctrl_c(
    typed: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    notebook = Notebook.of(tmp_path / "state", "press")
    first = typed("learn", "press", "--minutes", "30")
    until(notebook.order, SLOW_S, "nothing was ordered")
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=SLOW_S)
    assert (first.returncode, "the same command goes on" in said) == (130, True)
    assert notebook.order() is None
    second = typed("learn", "press", "--minutes", "0.5", "--yes")
    told, said = second.communicate(timeout=SLOW_S)
    assert second.returncode == 0, said
    assert "0.5 of 0.5 minutes, operating points: 1" in told
    assert notebook.slots().active == 1


def test_a_lesson_over_a_week_is_left_to_the_daemon(
    typed: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    def said(*arguments: str) -> str:
        told, complaint = typed("learn", "press", *arguments).communicate(timeout=SLOW_S)
        return told or complaint

    assert "beginning" in said("--minutes", "0.5", "--over", "0.02")
    notebook = Notebook.of(tmp_path / "state", "press")
    until(lambda: notebook.slots().candidate, SLOW_S, lambda: said("status"))
    assert said("status").startswith("press: the bundle's own head is in use, candidate 1; done: 0.5 of 0.5 minutes")
    assert len(read_overlay(notebook.path(1), open_bundle(tmp_path / "toy.asd")).memory) == 30
