"""Who starts whom: ears, listeners, alarms and messengers in one loop on one thread.

Capture runs in child processes, MQTT and Prometheus in threads of their own; all that decides anything happens here.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edge_asd.alarm.alarm import Alarm, advance
from edge_asd.bundle import BUILTIN, Bundle, open_bundle
from edge_asd.capture.ear import Ear
from edge_asd.capture.opening import open_source
from edge_asd.capture.source import SourceState
from edge_asd.deliver.message import Device, Info, Model, Source, Stamp, Topics, Voice
from edge_asd.deliver.mqtt import MqttPublisher
from edge_asd.deliver.publisher import NullPublisher
from edge_asd.errors import ConfigError
from edge_asd.observe.clock import clock_synced
from edge_asd.observe.metric import MachineLabel, Metrics
from edge_asd.observe.notify import Notifier
from edge_asd.score.clip import ClipScore, Skipped
from edge_asd.signal.health import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from edge_asd.alarm.alarm import Policy, Transition
    from edge_asd.capture.opening import SourceSpec
    from edge_asd.config import Config, MachineSettings, SourceSettings
    from edge_asd.deliver.publisher import Publisher
    from edge_asd.score.listener import Listener
    from edge_asd.signal.segment import Block

log = logging.getLogger("edge_asd")

PATIENCE = 3.0
"""clip lengths without a score before a machine counts as unheard"""
NAP_S = 0.05
"""how long the loop rests between rounds"""
BACKLOG_S = 0.5
"""audio in one round from which on it does not rest: a source is behind, or as fast as it is read"""
UNFIT = {Fault.SILENT: SourceState.SILENT, Fault.STUCK: SourceState.STUCK, Fault.CLIPPING: SourceState.CLIPPING}


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


@dataclass(frozen=True, slots=True)
class Clock:
    """Both kinds of time."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(slots=True)
class Ward:
    """One machine that is listened to."""

    name: str
    ear: Ear
    listener: Listener
    voice: Voice
    policy: Policy
    last_scored: float
    """monotonic seconds; the start counts as a score, so that the first clip has its time"""
    alarm: Alarm = field(default_factory=Alarm)
    raised_by: str | None = None
    """id of the event that raised the alarm"""
    online: bool | None = None
    """availability as last published"""


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
        self._config, self._audience, self._clock = config, audience or Nobody(), clock or Clock()
        self._notifier = notifier or Notifier.from_environment()
        self._stop = threading.Event()
        self._boot_id = uuid.uuid4().hex[:8]
        self._scores, self._events = 0, 0
        self._topics = Topics(config.node, config.mqtt.base if config.mqtt else "edge_asd")
        specs = {name: _spec(name, settings) for name, settings in config.sources.items()}
        bundles = {name: open_bundle(bundle_path(name)) for name in {m.bundle for m in config.machines.values()}}
        listeners = {name: bundles[m.bundle].scorer(m.head) for name, m in config.machines.items()}
        self.ears = self._ears(specs, listeners)
        self.wards = {name: self._ward(name, listeners[name], bundles[m.bundle]) for name, m in config.machines.items()}
        self.metrics = self._metrics(bundles)
        for ward in self.wards.values():
            self._time_inference(ward)
        self.publisher: Publisher = NullPublisher()
        self._told: dict[str, tuple[SourceState, str]] = {}
        self._status, self._fed = "", float("-inf")

    def stop(self) -> None:
        """Finish the round and go; from any thread or a signal."""
        self._stop.set()

    def run(self) -> None:
        """Until stopped, or until no source will ever deliver again."""
        with ExitStack() as stack:
            self._start(stack)
            while not self._stop.is_set() and not all(ear.ended for ear in self.ears.values()):
                if self.step() < BACKLOG_S:
                    self._stop.wait(NAP_S)
            self._notifier.stopping()
            log.info("daemon.stopped", extra={"clips": self._scores, "alarms": self._events})

    def step(self) -> float:
        """One round over all ears; the most audio that any had, seconds."""
        heard = [self._listen(name, ear) for name, ear in self.ears.items()]
        self._tell_state()
        return max(heard)

    # From sound to alarm

    def _listen(self, name: str, ear: Ear) -> float:
        block = ear.read()
        if block is None:
            return 0.0
        self.metrics.heard(name, block.samples.size, self._clock.wall().timestamp())
        self._audience.heard(name, block)
        mine = [ward for ward in self.wards.values() if ward.ear is ear]
        for ward in mine:
            for result in ward.listener.push(block):
                self._take(ward, result)
        self.metrics.lost(name, ear.loss)
        return block.samples.size / mine[0].listener.windows.sample_rate

    def _take(self, ward: Ward, result: ClipScore | Skipped) -> None:
        if isinstance(result, Skipped):
            self._skip(ward, result)
            return
        ward.last_scored = self._clock.monotonic()
        ward.ear.declare(SourceState.OK, "clips are scored")
        ended = self._when(ward, result.start + result.samples)
        self.metrics.scored(ward.name, result, ward.policy.threshold, ended.timestamp())
        self.metrics.heard(ward.ear.name, 0, ended.timestamp(), result.level_dbfs)
        self._audience.scored(ward.name, result, ward.policy)
        self._scores += 1
        self.publisher.publish(self._topics.score(ward.voice.score(self._stamp(self._scores, ended), result)))
        ward.alarm, transition = advance(ward.policy, ward.alarm, result.surprise, result.start)
        if transition:
            self._announce(ward, transition, result)

    def _skip(self, ward: Ward, skipped: Skipped) -> None:
        self.metrics.skipped(ward.name, skipped)
        if skipped.reason == "gap":
            self.metrics.lost_to(ward.ear.name, "gap", skipped.samples)
        else:
            ward.ear.declare(UNFIT.get(Fault(skipped.reason), SourceState.FAILED), f"audio is {skipped.reason}")

    def _announce(self, ward: Ward, transition: Transition, clip: ClipScore) -> None:
        self._events += 1
        stamp = self._stamp(self._events, self._when(ward, clip.start + clip.samples))
        since = self._when(ward, ward.alarm.since or 0)
        event, state = ward.voice.transition(stamp, transition, ward.alarm, since, clip, ward.raised_by)
        ward.raised_by = event.alarm_id
        self.publisher.publish(self._topics.event(event))
        self.publisher.publish(self._topics.alarm(state))
        self.metrics.alarm(ward.name, active=ward.alarm.active, transition=transition)
        self._audience.changed(ward.name, transition, ward.alarm, clip)
        log.warning(f"alarm.{transition}", extra={"machine": ward.name, "surprise": round(clip.surprise, 2)})  # noqa: G004 - a name

    def _when(self, ward: Ward, index: int) -> datetime:
        """Wall time of a sample: now, less the audio heard since; a device's clock may drift for years."""
        since = (ward.ear.heard - index) / ward.listener.windows.sample_rate
        return datetime.fromtimestamp(self._clock.wall().timestamp() - since, UTC)

    def _stamp(self, seq: int, moment: datetime) -> Stamp:
        return Stamp(self._boot_id, seq, moment, clock_synced())

    # What others are told of the daemon itself

    def _tell_state(self) -> None:
        now = self._clock.monotonic()
        for ear in self.ears.values():
            if self._told.get(ear.name) != (ear.state, ear.reason):
                self._tell_source(ear)
        for ward in self.wards.values():
            online = ward.ear.state is SourceState.OK and not self._overdue(ward, now)
            if online is not ward.online:
                ward.online = online
                self.publisher.publish(self._topics.availability(ward.name, online=online))
        self._feed_watchdog(now)
        self._tell_status()

    def _feed_watchdog(self, now: float) -> None:
        """Honest, not silent: an announced deaf ear is alive, an unexplained silence is not (decision 10)."""
        period = self._notifier.watchdog_s
        if period is None or now - self._fed < period / 4:
            return
        listening = [ward for ward in self.wards.values() if ward.ear.state is SourceState.OK and not ward.ear.ended]
        if not any(self._overdue(ward, now) for ward in listening):
            self._notifier.alive()
            self._fed = now

    def _tell_source(self, ear: Ear) -> None:
        before, _ = self._told.get(ear.name, (ear.state, ""))
        self._told[ear.name] = (ear.state, ear.reason)
        self.metrics.source_state(ear.name, ear.state)
        if before is SourceState.LOST:
            self.metrics.restarted(ear.name, ok=ear.state is SourceState.OK)
        spec = self._config.sources[ear.name]
        said = Source(
            node=self._config.node,
            source=ear.name,
            state=ear.state,
            reason=ear.reason,
            since=self._clock.wall(),
            device=Device(token=spec.input.partition(":")[2], name=spec.input),
            sample_rate_hz=next(w.listener.windows.sample_rate for w in self.wards.values() if w.ear is ear),
            restarts=ear.restarts,
        )
        self.publisher.publish(self._topics.source(said))
        level = logging.INFO if ear.state in {SourceState.OK, SourceState.RECOVERING} else logging.WARNING
        log.log(level, f"source.{ear.state}", extra={"source": ear.name, "reason": ear.reason})  # noqa: G004 - a name

    def _tell_status(self) -> None:
        traffic = self.publisher.traffic()
        parts = [f"{len(self.wards)} machine{'s' if len(self.wards) > 1 else ''}"]
        parts += [f"{name} in alarm" for name, ward in self.wards.items() if ward.alarm.active]
        parts += [f"{ear.name} {ear.state}" for ear in self.ears.values() if ear.state is not SourceState.OK]
        parts += [traffic.trouble] if traffic.trouble else []
        if (status := ", ".join(parts)) != self._status:
            self._status = status
            self._notifier.status(status)

    @staticmethod
    def _overdue(ward: Ward, now: float) -> bool:
        windows = ward.listener.windows
        return now - ward.last_scored > PATIENCE * windows.clip / windows.sample_rate

    # Getting ready

    def _start(self, stack: ExitStack) -> None:
        config = self._config
        if config.metrics.address:
            server = self.metrics.serve(*config.metrics.address)
            stack.callback(server.close)
            log.info("metrics.listening", extra={"port": server.port})
        if config.mqtt:
            self.publisher = MqttPublisher(config.mqtt.broker(), self._topics)
            stack.callback(self.publisher.close)
        self.metrics.watch(self.publisher.traffic)
        for ear in self.ears.values():
            stack.callback(ear.close)
        self._introduce()
        self.step()
        self._notifier.ready(self._status)
        log.info("daemon.ready", extra={"node": config.node, "machines": list(self.wards)})

    def _introduce(self) -> None:
        now = self._clock.wall()
        info = Info(
            node=self._config.node,
            boot_id=self._boot_id,
            ts=now,
            version=version("edge-asd"),
            machines={name: ward.voice.model for name, ward in self.wards.items()},
            sources=tuple(self.ears),
        )
        self.publisher.publish(self._topics.info(info))
        for ward in self.wards.values():
            self.publisher.publish(self._topics.alarm(ward.voice.alarm(self._stamp(0, now), ward.alarm, None)))

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
        return Ear(name, lambda: open_source(spec, rate, clock=self._clock.monotonic), self._clock.monotonic)

    def _ward(self, name: str, listener: Listener, bundle: Bundle) -> Ward:
        settings: MachineSettings = self._config.machines[name]
        thresholds = bundle.manifest.heads[bundle.key(settings.head)].thresholds
        policy = settings.alarm.policy(thresholds.alarm_for(settings.alarm.on_delay))
        listener.alarm = policy.threshold
        windows = listener.windows
        voice = Voice(
            self._config.node, name, settings.source, _model(bundle), windows.sample_rate, windows.clip, policy
        )
        return Ward(name, self.ears[settings.source], listener, voice, policy, self._clock.monotonic())

    def _metrics(self, bundles: Mapping[str, Bundle]) -> Metrics:
        labels = [
            MachineLabel(
                name, m.id, m.version, bundles[self._config.machines[name].bundle].digest, m.backend, m.precision
            )
            for name, m in ((name, ward.voice.model) for name, ward in self.wards.items())
        ]
        return Metrics(version("edge-asd"), "", self._clock.wall().timestamp(), list(self.ears), labels)

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
