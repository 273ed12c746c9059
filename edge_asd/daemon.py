"""Who starts whom: ears, listeners, the desk and messengers in one loop on one thread.

Capture runs in child processes, MQTT and Prometheus in threads of their own; all that decides anything happens here.
"""

from __future__ import annotations

import logging
import math
import random
import signal
import threading
import time
import uuid
from collections import deque
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

from edge_asd.alarm.alarm import Transition
from edge_asd.alarm.drift import Chart
from edge_asd.baseline import Baselines, bind
from edge_asd.capture.ear import Ear
from edge_asd.capture.opening import Opener
from edge_asd.deliver.command import ALLOWED, Gate
from edge_asd.deliver.control import Control
from edge_asd.deliver.mqtt import MqttPublisher
from edge_asd.deliver.payload import Model
from edge_asd.deliver.publisher import NullPublisher
from edge_asd.deliver.store import FILE, Store
from edge_asd.deliver.topic import Topics
from edge_asd.deliver.voice import Stamp, Voice, source_level
from edge_asd.desk import Desk
from edge_asd.errors import ConfigError
from edge_asd.feedback import Feedback
from edge_asd.herald import Herald
from edge_asd.learn.notebook import Notebook, overlaid
from edge_asd.model.opening import INSTALLED, open_model, shelf, unsigned
from edge_asd.muster import Muster
from edge_asd.observe.clock import Clock, clock_synced
from edge_asd.observe.metric import UNFIT, MachineLabel, Metrics
from edge_asd.observe.notify import Notifier
from edge_asd.recorder import Recorder
from edge_asd.school import Lessons, School
from edge_asd.score.clip import ClipScore, Skipped
from edge_asd.score.queue import Piece
from edge_asd.signal.level import measure
from edge_asd.succession import Fallen, Succession, opened
from edge_asd.tutor import Tutor
from edge_asd.ward import Mind, Ward

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from edge_asd.alarm.alarm import Alarm, Policy
    from edge_asd.bundle import Bundle
    from edge_asd.capture.opening import SourceSpec
    from edge_asd.config import Config, MachineSettings, SourceSettings
    from edge_asd.deliver.command import Calibrate, ModelOrder, Models, Saved
    from edge_asd.deliver.payload import Health, LessonState
    from edge_asd.deliver.publisher import Incoming, Publisher
    from edge_asd.score.listener import Listener
    from edge_asd.signal.segment import Block

log = logging.getLogger("edge_asd")

NAP_S = 0.05
"""how long the loop rests between rounds"""
LEVEL_S = 10.0
"""between two levels of a source"""
BIRTH_S = 5.0
"""Home Assistant starts: at most so long until all is introduced again, by chance, lest all nodes speak at once"""
BACKLOG_S = 0.5
"""audio in one round from which on it does not rest: a source is behind, or as fast as it is read"""
ROUND_S = 0.25
"""scoring in one round, from which on the sources and the operators have their turn"""
TURN_S = 0.05
"""scoring of one machine, from which on the next has its turn"""
FULL_S = 1.0
"""audio in one read that may be all a source was willing to give at once"""
TIMELESS = ("file:", "render:")
"""inputs that need not come as fast as time passes"""


class Audience(Protocol):
    """Someone who looks on: the demo's screen, a test."""

    def heard(self, source: str, block: Block) -> None:
        """Audio came in."""
        ...

    def scored(self, machine: str, clip: ClipScore, policy: Policy) -> None:
        """A clip got its score."""
        ...

    def changed(self, machine: str, transition: Transition, alarm: Alarm, clip: ClipScore) -> None:
        """An alarm was raised, or returned."""
        ...


class Nobody:
    """Nobody looks on."""

    def heard(self, source: str, block: Block) -> None:
        """Unseen."""

    def scored(self, machine: str, clip: ClipScore, policy: Policy) -> None:
        """Unseen."""

    def changed(self, machine: str, transition: Transition, alarm: Alarm, clip: ClipScore) -> None:
        """Unseen."""


class Daemon:
    """Listens until it is told to stop, or every source has ended."""

    def __init__(
        self,
        config: Config,
        audience: Audience | None = None,
        *,
        clock: Clock | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        """Open and prove the bundles; nothing is heard or said yet.

        Raises:
            ConfigError: a source cannot be, or its machines want different sample rates.
            BundleError: no machine's bundle can be used here.
        """
        self._config, self._audience, self.clock = config, audience or Nobody(), clock or Clock()
        self._notifier = notifier or Notifier.from_environment()
        self._stop = threading.Event()
        self.boot_id = uuid.uuid4().hex[:8]
        self._scores, self._alarms = 0, 0
        self._topics = Topics(config.node, config.mqtt.base if config.mqtt else "edge_asd")
        self._trust = config.trust.trust()
        specs = {name: _spec(name, settings) for name, settings in config.sources.items()}
        self._engine = config.engine.engine(config.state_dir, self._notifier.extend)
        self._muster = Muster(config.machines, self._together, self._alone, self.clock.monotonic)
        self._fallen: list[Fallen] = []
        minds = self._muster.first()
        self._specs, self._opener = specs, Opener(self.clock.monotonic)
        self.ears = self._ears(minds)
        self.wards = {name: self._ward(name, mind) for name, mind in minds.items()}
        self._bindings = {name: bind(config.sources[name], ear.rate) for name, ear in self.ears.items()}
        self._baselines = Baselines(config.state_dir, self.wards.values(), self._bindings)
        self._turns = deque(self.wards.values())
        self._patient = {n for n, spec in specs.items() if spec.speed == 0 and spec.input.startswith(TIMELESS)}
        self._heard_at: dict[str, float] = {}
        self._listened = self.clock.monotonic()
        self.metrics = self._new_metrics()
        self._count_unsigned()
        self._store = self._open_store()
        self._gate = Gate(self._topics, self.wards.keys(), config.mqtt.commands if config.mqtt else ALLOWED)
        self.publisher: Publisher = NullPublisher()
        self.feedback = Feedback(config.state_dir)
        self._herald = self._new_herald()
        self.desk = Desk(self.wards, self._gate, self._store, self, config.flood())
        self._succession = self._begin_succession()
        self._school = School(config.state_dir, self.wards.values(), self, self._succession.trying)
        self._tutor = Tutor(config, self._engine.open, self.wards.values(), self, self._topics)
        self._control: Control | None = None
        self._recorder = Recorder(config.evidence, config.state_dir, self.wards.values(), self.clock, self.metrics)
        self._spoke: dict[str, float] = {}
        self._introduce_at = math.inf

    def stop(self) -> None:
        """Finish the round and go; from any thread or a signal."""
        self._stop.set()

    def run(self) -> None:
        """Until stopped, or until no source will ever deliver again."""
        with ExitStack() as stack:
            self._start(stack)
            while not self._stop.is_set() and (self._waiting() or not all(ear.ended for ear in self.ears.values())):
                if self.step() < BACKLOG_S and not self._waiting():
                    self._stop.wait(NAP_S)
            self._notifier.stopping()
            log.info("daemon.stopped", extra={"clips": self._scores, "alarms": self._alarms})

    def step(self) -> float:
        """One round over all ears and machines; the most audio that any had, seconds."""
        self._baselines.refresh(self.clock.monotonic())
        passed, self._listened = self.clock.monotonic() - self._listened, self.clock.monotonic()
        heard = [self._listen(name, ear, passed) for name, ear in self.ears.items()]
        self._serve()
        self._attend()
        self._succession.attend()
        self.feedback.attend()
        self._tutor.attend()
        self._school.attend()
        self._muster_late()
        self.desk.elapse()
        self._herald.tell()
        return max(heard)

    # From sound to alarm

    def _listen(self, name: str, ear: Ear, passed: float) -> float:
        """Take in what an ear has heard in so many seconds, however scoring is doing; how much it was.

        A recording that nobody hurries waits for scoring instead.
        """
        mine = [ward for ward in self.wards.values() if ward.ear is ear]
        patient = name in self._patient
        if patient and any(ward.queue.samples for ward in mine):
            return 0.0
        self.metrics.filled(name, ear.fill)
        heard, new = 0.0, FULL_S
        while new >= FULL_S and (not heard or (heard < passed and not patient)):
            new = self._hear(name, ear, mine)
            heard += new
        return heard

    def _hear(self, name: str, ear: Ear, mine: list[Ward]) -> float:
        block = ear.read()
        self.metrics.lost(name, ear.loss)
        if block is None:
            self._heard_at[name] = self.clock.monotonic()
            return 0.0
        self.metrics.heard(name, block.samples.size, self.clock.wall().timestamp())
        self._audience.heard(name, block)
        self._recorder.hear(name, block)
        seconds = block.samples.size / self.ears[name].rate
        piece = Piece(block, self._date(name, seconds))
        for ward in mine:
            self._queue(ward, piece)
        self.metrics.paced(name, ear.rate, ear.effective_rate)
        self.metrics.flawed(name, ear.clipped, ear.missing)
        self._measure(name, block)
        return seconds

    def _date(self, name: str, seconds: float) -> float:
        """When the last of so many new seconds was heard: now, unless a source that is behind has more to give."""
        now = self.clock.monotonic()
        last = min(self._heard_at.get(name, now) + seconds, now) if seconds >= FULL_S else now
        self._heard_at[name] = last
        return last

    def _queue(self, ward: Ward, piece: Piece) -> None:
        shed = ward.queue.push(piece, ward.listener)
        if not shed:
            return
        now = self.clock.monotonic()
        if not ward.trouble(now):
            log.warning("machine.overloaded", extra={"machine": ward.name, "waiting_s": self._waiting()})
        ward.shed_at = now
        self.metrics.shed(ward.name, shed, ward.listener.windows.segments)

    def _waiting(self) -> float:
        """Audio whose turn has not come, of the machine that has most of it, seconds."""
        return max(ward.queue.samples / ward.listener.windows.sample_rate for ward in self.wards.values())

    def _serve(self) -> None:
        """Score what waits, the machines in turn, until nothing waits or the round has lasted long enough."""
        until, idle = self.clock.monotonic() + ROUND_S, 0
        while idle < len(self._turns) and self.clock.monotonic() < until:
            ward = self._turns[0]
            self._turns.rotate(-1)
            idle = 0 if self._turn(ward) else idle + 1

    def _turn(self, ward: Ward) -> bool:
        """Score of one machine what waits, or as much as it may before the next; whether there was any."""
        until, served = self.clock.monotonic() + TURN_S, False
        while (not served or self.clock.monotonic() < until) and (piece := ward.queue.pop(ward.listener)):
            self._score(ward, piece)
            served = True
        return served

    def _score(self, ward: Ward, piece: Piece) -> None:
        self._school.before(ward, piece.start)
        begins = self._succession.before(ward, piece.start)
        try:
            with self._tutor.overhearing(ward) as told:
                results = ward.listener.push(piece.block)
        except Exception as error:  # noqa: BLE001 - whatever one bundle does wrong, the other machines are heard
            self._fail(ward, error)
            return
        for result in results:
            self._take(ward, result)
            if not isinstance(result, Skipped):
                self.metrics.late(ward.name, max(self.clock.monotonic() - piece.heard_at, 0.0))
        clips = [result for result in results if isinstance(result, ClipScore)]
        scores = [clip for clip in clips if ward.ear.fit(clip.start)]
        self._tutor.hear(ward, told, clips)
        self._succession.after(ward, piece, scores, begins=begins)
        self._school.after(ward, piece, scores, begins=begins)

    def _fail(self, ward: Ward, error: Exception) -> None:
        """Give up the clip in progress and try again with the next; said once, and as long as it lasts."""
        windows, reason = ward.listener.windows, f"{type(error).__name__}: {error}"
        if not ward.failure:
            log.error("machine.failed", extra={"machine": ward.name, "reason": reason}, exc_info=error)
        ward.failure = reason
        self._succession.failed(ward, error)
        self.metrics.failed(ward.name, windows.segments)
        end = ward.listener.start + windows.clip
        ward.listener.forget(end)
        ward.queue.skip(end, ward.listener)

    def _take(self, ward: Ward, result: ClipScore | Skipped) -> None:
        if isinstance(result, Skipped):
            self._skip(ward, result)
            return
        if ward.failure:
            log.info("machine.recovered", extra={"machine": ward.name, "from": ward.failure})
            ward.failure = ""
        if not ward.ear.fit(result.start):
            self.metrics.skipped(ward.name, Skipped(result.start, result.samples, UNFIT))
            return
        ward.last_scored = self.clock.monotonic()
        ended = ward.when(result.start + result.samples, self.clock.wall())
        self.metrics.scored(ward.name, result, ward.policy.threshold, ended.timestamp())
        self.metrics.heard(ward.ear.name, 0, ended.timestamp(), result.level_dbfs)
        self._audience.scored(ward.name, result, ward.policy)
        self._scores += 1
        stamp = Stamp(self.boot_id, self._scores, ended, clock_synced())
        self._store.put(self._topics.score(ward.voice.score(stamp, result)))
        self.publisher.wake()
        for transition in self.desk.judge(ward, result):
            if transition is Transition.ACTIVATED:
                self._alarms += 1
                self._recorder.raised(ward, result)
            self._audience.changed(ward.name, transition, ward.alarm, result)

    def _skip(self, ward: Ward, skipped: Skipped) -> None:
        self.metrics.skipped(ward.name, skipped)
        if skipped.reason == "gap":
            self.metrics.lost_to(ward.ear.name, "gap", skipped.samples)

    def _measure(self, name: str, block: Block) -> None:
        """How loud it is, once a clip at most: the latest block speaks for all."""
        now = self.clock.monotonic()
        if now - self._spoke.get(name, -math.inf) >= LEVEL_S:
            self._spoke[name] = now
            level = measure(block.samples, self.ears[name].rate)
            said = source_level(self._config.node, name, self.clock.wall(), level, clock_synced=clock_synced())
            self.publisher.publish(self._topics.level(said))

    # What operators want

    def _attend(self) -> None:
        for incoming in self.publisher.incoming():
            if incoming.topic == self._herald.birth:
                self._greet(incoming)
            elif reply := self.desk.obey(incoming):
                self.publisher.publish(reply)
        for asked in self._control.asked() if self._control else ():
            asked.answer(self.desk.ask(asked))
        if self.clock.monotonic() >= self._introduce_at:
            self._introduce_at = math.inf
            self.introduce()

    def _greet(self, birth: Incoming) -> None:
        if birth.payload == b"online" and not birth.retained:
            self._introduce_at = self.clock.monotonic() + random.uniform(0, BIRTH_S)  # noqa: S311 - spreads load

    def snapshot(self, ward: Ward, seconds: float) -> Saved:
        """Keep the last of what was heard.

        Raises:
            AudioError: the settings forbid it, nothing was heard, or the disk fails.
        """
        return self._recorder.snapshot(ward, seconds)

    def model(self, order: ModelOrder) -> Models:
        """Begin to change the models.

        Raises:
            UpdateRefused: not now, or not like that.
            BundleError: there is no such model.
        """
        return self._succession.order(order)

    def calibrate(self, ward: Ward, request: Calibrate) -> LessonState:
        """Have a machine taught; how it stands then.

        Raises:
            UpdateRefused: not now, or not like that.
        """
        stands = self._tutor.order(ward, request)
        self._school.look()
        return stands

    def health(self) -> Health:
        """How the node itself is."""
        return self._herald.health()

    def introduce(self) -> None:
        """Say again, to whoever has just come, what is here and how it is."""
        self._herald.introduce()
        self.desk.introduce()
        self._tutor.introduce()

    # Getting ready

    def _start(self, stack: ExitStack) -> None:
        config = self._config
        if config.metrics.address:
            server = self.metrics.serve(*config.metrics.address, config.metrics.certificate(), self._herald.pages())
            stack.callback(server.close)
            log.info("metrics.listening", extra={"port": server.port})
        stack.callback(self._store.close)
        stack.callback(self._succession.close)
        stack.callback(self.feedback.close)
        stack.callback(self._school.close)
        stack.callback(self._tutor.close)
        self._listen_at_the_box(stack)
        if config.mqtt:
            birth = (self._herald.birth,) if self._herald.birth else ()
            self.publisher = MqttPublisher(
                config.mqtt.broker(), self._topics, self._store, (*self._topics.commands, *birth)
            )
            stack.callback(self.publisher.close)
        self.metrics.watch_node(config.state_dir)
        self.metrics.watch(self.publisher.traffic, self._store.condition, lambda: self.clock.wall().timestamp())
        stack.callback(self._close_ears)
        self.introduce()
        self.step()
        self._herald.ready()
        log.info("daemon.ready", extra={"node": config.node, "machines": list(self.wards)})

    def _close_ears(self) -> None:
        """Late ones, too."""
        for ear in self.ears.values():
            ear.close()

    def _muster_late(self) -> None:
        """Machines whose bundle can be opened now are listened to from now on."""
        come = self._muster.late()
        for name, mind in come:
            if reason := self._unready(name, mind):
                self._muster.refuse(name, reason)
            else:
                self._admit(name, mind)
        if come:
            self.introduce()

    def _unready(self, name: str, mind: Mind) -> str:
        """Why a machine that can be judged cannot be listened to now; empty when it can."""
        settings, rate = self._config.machines[name], mind.listener.windows.sample_rate
        ear = self.ears.get(settings.source)
        if ear and ear.rate != rate:
            return f"sources.{settings.source} is heard at {ear.rate} hertz, it wants {rate}"
        return self._succession.unready(_installed(settings), mind)

    def _admit(self, name: str, mind: Mind) -> None:
        settings = self._config.machines[name]
        source = settings.source
        if source not in self.ears:
            ear = self.ears[source] = self._ear(source, mind.listener.windows.sample_rate)
            self._bindings[source] = bind(self._config.sources[source], ear.rate)
            self.metrics.begin_source(source)
        ward = self.wards[name] = self._ward(name, mind)
        self._turns.append(ward)
        self.metrics.begin_machine(_label(ward))
        self.metrics.hears(name, source)
        self._succession.admit(_installed(settings), ward)
        self._count_unsigned()
        self.desk.admit(ward)
        self._recorder.admit(ward)
        log.info("machine.present", extra={"machine": name, "bundle": ward.digest})

    def _new_metrics(self) -> Metrics:
        labels = [_label(ward) for ward in self.wards.values()]
        metrics = Metrics(version("edge-asd"), "", self.clock.wall().timestamp(), list(self.ears), labels)
        for name in self._muster.absent:
            metrics.absent(name, absent=True)
        for name, ward in self.wards.items():
            metrics.hears(name, ward.ear.name)
        return metrics

    def _new_herald(self) -> Herald:
        return Herald(
            self,
            self._config,
            self.ears,
            self.wards,
            self._muster.absent,
            self._topics,
            self._gate,
            self._store,
            self.metrics,
            self.clock,
            self._notifier,
            self.boot_id,
        )

    def _open_store(self) -> Store:
        config = self._config
        path = config.state_dir and config.state_dir / FILE
        clock = self.clock
        return Store(
            path, config.outbox.limits(), deliver=config.mqtt is not None, clock=clock.monotonic, wall=clock.wall
        )

    def _listen_at_the_box(self, stack: ExitStack) -> None:
        if self._config.state_dir is None:
            return
        try:
            self._control = Control(self._config.state_dir)
        except OSError as error:
            log.warning("control.absent", extra={"reason": f"no commands at the box: {error}"})
        else:
            stack.callback(self._control.close)

    def _ears(self, minds: Mapping[str, Mind]) -> dict[str, Ear]:
        ears = {}
        for name in self._specs:
            users = [m for m, machine in self._config.machines.items() if machine.source == name]
            rates = {minds[m].listener.windows.sample_rate for m in users if m in minds}
            if len(rates) > 1:
                msg = f"sources.{name}: its machines want {sorted(rates)} hertz; give each rate a source of its own"
                raise ConfigError(msg)
            if not users:
                log.warning("source.unused", extra={"source": name})
            if rates:
                ears[name] = self._ear(name, rates.pop())
        return ears

    def _ear(self, name: str, rate: int) -> Ear:
        spec, floor = self._specs[name], self._config.sources[name].floor_dbfs
        live = not spec.input.startswith(TIMELESS)
        return Ear(name, self._opener.prepare(spec, rate), self.clock.monotonic, rate, live, floor)

    def _ward(self, name: str, mind: Mind) -> Ward:
        settings: MachineSettings = self._config.machines[name]
        policy, windows = settings.alarm.policy(mind.threshold, knows_days=mind.cusum), mind.listener.windows
        voice = Voice(self._config.node, name, settings.source, mind.model, windows.sample_rate, windows.clip, policy)
        ear = self.ears[settings.source]
        now, chart = self.clock.monotonic(), Chart.of(windows.clip / windows.sample_rate)
        return Ward(name, ear, mind.listener, voice, now, policy.threshold, mind.digest, mind.unsigned, chart=chart)

    def _together(self, reference: str, machines: Collection[str]) -> dict[str, Mind]:
        """What machines are judged by: all by one bundle, or all by the installed one before it."""

        def prove(bundle: Bundle) -> dict[str, Mind]:
            return {name: self.mind(name, bundle) for name in machines}

        minds, fallen = opened(reference, self._config.state_dir, self._trust, self._engine.open, prove)
        self._fallen += fallen
        return minds

    def _alone(self, machine: str) -> Mind:
        reference = self._config.machines[machine].bundle
        return self.mind(machine, open_model(reference, self._config.state_dir, self._trust, self._engine.open))

    # Models that change

    def mind(self, machine: str, bundle: Bundle) -> Mind:
        """What a machine would be judged by, proven on this computer; from any thread.

        Raises:
            BundleError: not with this bundle.
        """
        settings = self._config.machines[machine]
        bundle.scorer(settings.head)  # a head that was learned here speaks only through a bundle that is proven
        key = bundle.key(settings.head)
        return self._mind(machine, overlaid(self._config.state_dir, machine, bundle, key), key)

    def _mind(self, machine: str, known: Bundle, key: str) -> Mind:
        settings = self._config.machines[machine]
        card = known.manifest.heads[key]
        threshold = card.thresholds.alarm_for(settings.alarm.on_delay)
        policy = settings.alarm.policy(threshold, knows_days=card.knows_days)
        model = _model(known)
        listener = self._timed(known.listener(key), model)
        listener.alarm = policy.threshold
        return Mind(listener, model, policy.threshold, known.digest, unsigned(known), policy.cusum)

    def learned(self, machine: str) -> Lessons:
        """What is learned of a machine, proven on this computer; from any thread.

        Raises:
            BundleError: its bundle cannot be used.
            UpdateRefused: what is learned cannot be read.
        """
        settings, state = self._config.machines[machine], self._config.state_dir
        bundle = open_model(settings.bundle, state, self._trust, self._engine.open)
        found, key = Notebook.of(state, machine).candidate(bundle) if state else None, bundle.key(settings.head)
        waits = found[1].over(bundle, found[0]) if found and found[1].note.key == key else None
        return Lessons(self.mind(machine, bundle), self._mind(machine, waits, key) if waits else None)

    def switched(self, ward: Ward) -> None:
        """A machine is judged by another model from now on."""
        self.metrics.switched(_label(ward))
        self._count_unsigned()
        self._herald.describe()

    def note(self, event: str, said: dict[str, Any]) -> None:
        """Write into the node's journal."""
        self.desk.note(event, said)

    def _count_unsigned(self) -> None:
        strange = {ward.digest: ward.voice.model.id for ward in self.wards.values() if ward.unsigned}
        self.metrics.unsigned(len(strange))
        for digest, model in strange.items():
            log.warning("model.unsigned", extra={"model": model, "digest": digest})

    def _begin_succession(self) -> Succession:
        config = self._config
        there = shelf(config.state_dir, self._trust, self._engine.open) if config.state_dir else None
        succession = Succession(there, self, config.models.clips, config.models.allow, config.models.ca_file)
        for name, ward in self.wards.items():
            succession.admit(_installed(config.machines[name]), ward)
        for each in self._fallen:
            succession.fell(each)
        return succession

    def _timed(self, listener: Listener, model: Model) -> Listener:
        embed = listener.embed
        if embed is None:
            return listener

        def timed(segment: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
            began = time.perf_counter()
            outputs = embed(segment)
            self.metrics.inferred(model.id, time.perf_counter() - began)
            return outputs

        return replace(listener, embed=timed)


def _spec(name: str, settings: SourceSettings) -> SourceSpec:
    try:
        return settings.spec()
    except ConfigError as error:
        msg = f"sources.{name}: {error}"
        raise ConfigError(msg) from error


def _installed(settings: MachineSettings) -> str:
    """Name on the shelf of what a machine is judged by; empty when its bundle does not lie there."""
    return settings.bundle.removeprefix(INSTALLED) if settings.bundle.startswith(INSTALLED) else ""


def _model(bundle: Bundle) -> Model:
    backend = bundle.backbone.provider if bundle.backbone else "numpy"
    precision = bundle.precision if bundle.backbone else "float32"
    return Model(id=bundle.manifest.name, version=bundle.manifest.version, backend=backend, precision=precision)


def _label(ward: Ward) -> MachineLabel:
    model = ward.voice.model
    return MachineLabel(ward.name, model.id, model.version, ward.digest, model.backend, model.precision)


@contextmanager
def stopped_by_signals(daemon: Daemon) -> Iterator[None]:
    """SIGTERM and Ctrl-C end the round; a second Ctrl-C ends the process."""

    def stop(signum: int, _frame: object) -> None:
        signal.signal(signum, signal.SIG_DFL)
        daemon.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, what in before.items():
            signal.signal(number, what)
