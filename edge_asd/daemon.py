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
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edge_asd.alarm.alarm import Transition
from edge_asd.bundle import BUILTIN, Bundle, open_bundle
from edge_asd.capture.ear import Ear
from edge_asd.capture.opening import open_source
from edge_asd.capture.source import SourceState
from edge_asd.deliver.command import ALLOWED, Gate
from edge_asd.deliver.control import Control
from edge_asd.deliver.discovery import Discovery
from edge_asd.deliver.message import Kind
from edge_asd.deliver.mqtt import MqttPublisher
from edge_asd.deliver.payload import Backlog, Check, Device, Health, Info, Model, Source
from edge_asd.deliver.publisher import NullPublisher
from edge_asd.deliver.store import FILE, Store
from edge_asd.deliver.topic import Topics
from edge_asd.deliver.voice import Stamp, Voice, source_level
from edge_asd.desk import Desk
from edge_asd.errors import ConfigError
from edge_asd.observe.board import free_bytes, temperature_c
from edge_asd.observe.clock import Clock, clock_synced
from edge_asd.observe.metric import UNFIT, MachineLabel, Metrics
from edge_asd.observe.notify import Notifier
from edge_asd.recorder import Recorder
from edge_asd.score.clip import Skipped
from edge_asd.score.queue import Piece
from edge_asd.signal.level import measure
from edge_asd.ward import Ward

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from edge_asd.alarm.alarm import Alarm, Policy
    from edge_asd.capture.opening import SourceSpec
    from edge_asd.config import Config, MachineSettings, SourceSettings
    from edge_asd.deliver.command import Saved
    from edge_asd.deliver.message import Message
    from edge_asd.deliver.publisher import Incoming, Publisher
    from edge_asd.score.clip import ClipScore
    from edge_asd.score.listener import Listener
    from edge_asd.signal.segment import Block

log = logging.getLogger("edge_asd")

NAP_S = 0.05
"""how long the loop rests between rounds"""
LEVEL_S = 10.0
"""between two levels of a source"""
HEALTH_S = 60.0
"""between two words on the node's own health"""
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
            BundleError: a bundle cannot be used here.
        """
        self._config, self._audience, self.clock = config, audience or Nobody(), clock or Clock()
        self._notifier = notifier or Notifier.from_environment()
        self._stop = threading.Event()
        self.boot_id = uuid.uuid4().hex[:8]
        self._born, self._started = self.clock.monotonic(), self.clock.wall()
        self._scores, self._alarms = 0, 0
        self._topics = Topics(config.node, config.mqtt.base if config.mqtt else "edge_asd")
        specs = {name: _spec(name, settings) for name, settings in config.sources.items()}
        bundles = {name: open_bundle(bundle_path(name)) for name in {m.bundle for m in config.machines.values()}}
        listeners = {name: bundles[m.bundle].scorer(m.head) for name, m in config.machines.items()}
        self.ears = self._ears(specs, listeners)
        self.wards = {name: self._ward(name, listeners[name], bundles[m.bundle]) for name, m in config.machines.items()}
        self._turns = deque(self.wards.values())
        self._patient = {n for n, spec in specs.items() if spec.speed == 0 and spec.input.startswith(TIMELESS)}
        self._heard_at: dict[str, float] = {}
        self._listened = self._born
        self.metrics = self._metrics(bundles)
        for ward in self.wards.values():
            self._time_inference(ward)
        self._store = self._open_store()
        self._gate = Gate(self._topics, frozenset(self.wards), config.mqtt.commands if config.mqtt else ALLOWED)
        self.publisher: Publisher = NullPublisher()
        self._discovery = (
            Discovery(self._topics, version("edge-asd"), self._gate.allowed, config.mqtt.discovery)
            if config.mqtt and config.mqtt.discovery
            else None
        )
        self.desk = Desk(self.wards, self._gate, self._store, self, config.flood())
        self._control: Control | None = None
        self._recorder = Recorder(config.evidence, config.state_dir, self.wards.values(), self.clock, self.metrics)
        self._spoke: dict[str, float] = {}
        self._introduce_at, self._health_at = math.inf, 0.0
        self._told: dict[str, tuple[SourceState, str]] = {}
        self._status, self._fed = "", float("-inf")

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
        passed, self._listened = self.clock.monotonic() - self._listened, self.clock.monotonic()
        heard = [self._listen(name, ear, passed) for name, ear in self.ears.items()]
        self._serve()
        self._attend()
        self.desk.elapse()
        self._tell_state()
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
        seconds = block.samples.size / self._rate(name)
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
        try:
            results = ward.listener.push(piece.block)
        except Exception as error:  # noqa: BLE001 - whatever one bundle does wrong, the other machines are heard
            self._fail(ward, error)
            return
        for result in results:
            self._take(ward, result)
            if not isinstance(result, Skipped):
                self.metrics.late(ward.name, max(self.clock.monotonic() - piece.heard_at, 0.0))

    def _fail(self, ward: Ward, error: Exception) -> None:
        """Give up the clip in progress and try again with the next; said once, and as long as it lasts."""
        windows, reason = ward.listener.windows, f"{type(error).__name__}: {error}"
        if not ward.failure:
            log.error("machine.failed", extra={"machine": ward.name, "reason": reason}, exc_info=error)
        ward.failure = reason
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
            level = measure(block.samples, self._rate(name))
            said = source_level(self._config.node, name, self.clock.wall(), level, clock_synced=clock_synced())
            self.publisher.publish(self._topics.level(said))

    # What operators want

    def _attend(self) -> None:
        for incoming in self.publisher.incoming():
            if self._discovery and incoming.topic == self._discovery.birth:
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

    # What others are told of the daemon itself

    def _tell_state(self) -> None:
        now = self.clock.monotonic()
        for ear in self.ears.values():
            if self._told.get(ear.name) != (ear.state, ear.reason):
                self._tell_source(ear)
        for ward in self.wards.values():
            online = ward.ear.state is SourceState.OK and not ward.failure and not ward.overdue(now)
            if online is not ward.online:
                ward.online = online
                self.publisher.publish(self._topics.availability(ward.name, online=online))
        self._tell_health(now)
        self._feed_watchdog(now)
        self._tell_status(now)

    def _feed_watchdog(self, now: float) -> None:
        """Honest, not silent: announced trouble is alive, an unexplained silence is not (decision 10)."""
        period = self._notifier.watchdog_s
        if period is None or now - self._fed < period / 4:
            return
        listening = [ward for ward in self.wards.values() if ward.ear.state is SourceState.OK and not ward.ear.ended]
        if not any(ward.overdue(now) and not ward.trouble(now) for ward in listening):
            self._notifier.alive()
            self._fed = now

    def _tell_source(self, ear: Ear) -> None:
        before, _ = self._told.get(ear.name, (None, ""))
        self._told[ear.name] = (ear.state, ear.reason)
        self.metrics.source_state(ear.name, ear.state)
        if before is SourceState.LOST:
            self.metrics.restarted(ear.name, ok=ear.state is not SourceState.LOST)
        spec = self._config.sources[ear.name]
        said = Source(
            node=self._config.node,
            source=ear.name,
            state=ear.state,
            reason=ear.reason,
            since=self.clock.wall(),
            device=Device(token=spec.input.partition(":")[2], name=spec.input),
            sample_rate_hz=self._rate(ear.name),
            restarts=ear.restarts,
        )
        self.publisher.publish(self._topics.source(said))
        if before is ear.state:
            return  # one notice an episode, however often its reason changes
        level = logging.INFO if ear.state in {SourceState.OK, SourceState.RECOVERING} else logging.WARNING
        log.log(level, f"source.{ear.state}", extra={"source": ear.name, "reason": ear.reason})  # noqa: G004 - a name

    def _tell_status(self, now: float) -> None:
        traffic = self.publisher.traffic()
        parts = [f"{len(self.wards)} machine{'s' if len(self.wards) > 1 else ''}"]
        parts += [f"{name} in alarm" for name, ward in self.wards.items() if ward.alarm.active]
        parts += [f"{name}: {trouble}" for name, ward in self.wards.items() if (trouble := ward.trouble(now))]
        parts += [f"{ear.name} {ear.state}" for ear in self.ears.values() if ear.state is not SourceState.OK]
        parts += [traffic.trouble] if traffic.trouble else []
        if (status := ", ".join(parts)) != self._status:
            self._status = status
            self._notifier.status(status)

    def health(self) -> Health:
        """How the node itself is."""
        traffic, store, config = self.publisher.traffic(), self._store.condition(), self._config
        checks = [
            Check(name=f"source {e.name}", well=e.state is SourceState.OK, said=e.reason) for e in self.ears.values()
        ]
        now = self.clock.monotonic()
        checks += [
            Check(name=f"machine {name}", well=False, said=trouble)
            for name, ward in self.wards.items()
            if (trouble := ward.trouble(now))
        ]
        if config.mqtt:
            deaf = f"the broker does not let us hear {', '.join(traffic.deaf)}" if traffic.deaf else ""
            well = traffic.connected and not deaf
            checks.append(Check(name="broker", well=well, said=traffic.trouble or deaf or "connected"))
        checks.append(Check(name="store", well=not store.trouble, said=store.trouble or "kept on disk"))
        return Health(
            node=config.node,
            boot_id=self.boot_id,
            ts=self.clock.wall(),
            clock_synced=clock_synced(),
            version=version("edge-asd"),
            uptime_s=self.clock.monotonic() - self._born,
            well=all(check.well for check in checks),
            checks=tuple(checks),
            outbox=Backlog(
                messages=sum(store.waiting.values()),
                size_bytes=sum(store.waiting_bytes.values()),
                kept=not store.trouble,
                trouble=store.trouble or None,
                dropped={
                    "event": sum(n for (kind, _), n in store.dropped.items() if kind is Kind.EVENT),
                    "score": sum(n for (kind, _), n in store.dropped.items() if kind is Kind.SCORE),
                },
            ),
            disk_free_bytes=free_bytes(config.state_dir) if config.state_dir else None,
            temperature_celsius=temperature_c(),
        )

    def introduce(self) -> None:
        """Say again, to whoever has just come, what is here and how it is."""
        self._describe()
        for message in self._discovered():
            self.publisher.publish(message)
        self.desk.introduce()
        for ward in self.wards.values():
            ward.online = None
        self._told.clear()

    def _tell_health(self, now: float) -> None:
        if now >= self._health_at and self.publisher.traffic().connected:
            self._health_at = now + HEALTH_S
            self.publisher.publish(self._topics.health(self.health()))

    def _rate(self, source: str) -> int:
        return next(w.listener.windows.sample_rate for w in self.wards.values() if w.ear.name == source)

    # Getting ready

    def _start(self, stack: ExitStack) -> None:
        config = self._config
        if config.metrics.address:
            server = self.metrics.serve(*config.metrics.address)
            stack.callback(server.close)
            log.info("metrics.listening", extra={"port": server.port})
        stack.callback(self._store.close)
        self._listen_at_the_box(stack)
        if config.mqtt:
            birth = (self._discovery.birth,) if self._discovery else ()
            self.publisher = MqttPublisher(
                config.mqtt.broker(), self._topics, self._store, (*self._topics.commands, *birth)
            )
            stack.callback(self.publisher.close)
        self.metrics.watch(self.publisher.traffic, self._store.condition, lambda: self.clock.wall().timestamp())
        for ear in self.ears.values():
            stack.callback(ear.close)
        self.introduce()
        self.step()
        self._notifier.ready(self._status)
        log.info("daemon.ready", extra={"node": config.node, "machines": list(self.wards)})

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

    def _describe(self) -> None:
        info = Info(
            node=self._config.node,
            boot_id=self.boot_id,
            ts=self._started,
            version=version("edge-asd"),
            versions={name: version(name) for name in ("numpy", "onnxruntime", "paho-mqtt")},
            config_sha256=self._config.digest(),
            commands=tuple(sorted(self._gate.allowed)),
            machines={name: ward.voice.model for name, ward in self.wards.items()},
            sources=tuple(self.ears),
        )
        self.publisher.publish(self._topics.info(info))

    def _discovered(self) -> Iterator[Message]:
        """What Home Assistant makes its devices of; what it is not to show any more comes empty."""
        if self._discovery is None:
            return
        yield self._discovery.node(self.ears, self.health())
        for name, ward in self.wards.items():
            windows = ward.listener.windows
            yield self._discovery.machine(name, ward.ear.name, windows.clip / windows.sample_rate)
        for name in self._store.recall().keys() - self.wards.keys():
            yield self._discovery.removed(name)
            yield from self._topics.forgotten(name)

    def _ears(self, specs: Mapping[str, SourceSpec], listeners: Mapping[str, Listener]) -> dict[str, Ear]:
        ears = {}
        for name, spec in specs.items():
            mine = [listeners[m] for m, machine in self._config.machines.items() if machine.source == name]
            rates = {listener.windows.sample_rate for listener in mine}
            if len(rates) > 1:
                msg = f"sources.{name}: its machines want {sorted(rates)} hertz; give each rate a source of its own"
                raise ConfigError(msg)
            if not rates:
                log.warning("source.unused", extra={"source": name})
                continue
            ears[name] = self._ear(name, spec, rates.pop())
        return ears

    def _ear(self, name: str, spec: SourceSpec, rate: int) -> Ear:
        clock, floor = self.clock.monotonic, self._config.sources[name].floor_dbfs
        live = not spec.input.startswith(TIMELESS)
        return Ear(name, lambda: open_source(spec, rate, clock=clock), clock, rate, live, floor)

    def _ward(self, name: str, listener: Listener, bundle: Bundle) -> Ward:
        settings: MachineSettings = self._config.machines[name]
        thresholds = bundle.manifest.heads[bundle.key(settings.head)].thresholds
        policy = settings.alarm.policy(thresholds.alarm_for(settings.alarm.on_delay))
        listener.alarm = policy.threshold
        windows = listener.windows
        voice = Voice(
            self._config.node, name, settings.source, _model(bundle), windows.sample_rate, windows.clip, policy
        )
        ear = self.ears[settings.source]
        return Ward(name, ear, listener, voice, self.clock.monotonic(), policy.threshold, bundle.digest)

    def _metrics(self, bundles: Mapping[str, Bundle]) -> Metrics:
        labels = [
            MachineLabel(
                name, m.id, m.version, bundles[self._config.machines[name].bundle].digest, m.backend, m.precision
            )
            for name, m in ((name, ward.voice.model) for name, ward in self.wards.items())
        ]
        return Metrics(version("edge-asd"), "", self.clock.wall().timestamp(), list(self.ears), labels)

    def _time_inference(self, ward: Ward) -> None:
        embed = ward.listener.embed
        if embed is None:
            return

        def timed(segment: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
            began = time.perf_counter()
            outputs = embed(segment)
            self.metrics.inferred(ward.voice.model.id, time.perf_counter() - began)
            return outputs

        ward.listener = replace(ward.listener, embed=timed)


def bundle_path(name: str) -> Path:
    """Where a bundle lies: ``builtin`` is the one in the package."""
    return BUILTIN if name == "builtin" else Path(name).expanduser()


def _spec(name: str, settings: SourceSettings) -> SourceSpec:
    try:
        return settings.spec()
    except ConfigError as error:
        msg = f"sources.{name}: {error}"
        raise ConfigError(msg) from error


def _model(bundle: Bundle) -> Model:
    backend = bundle.backbone.provider if bundle.backbone else "numpy"
    precision = bundle.precision if bundle.backbone else "float32"
    return Model(id=bundle.manifest.name, version=bundle.manifest.version, backend=backend, precision=precision)


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
