"""What others are told of the node itself: how its ears are, whom it can hear, what it is, and whether it lives.

Alarms are the desk's. Here nothing is decided: what is, is said when it changes, and again to whoever has just come.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

from edge_asd.capture.source import SourceState
from edge_asd.deliver.discovery import Discovery
from edge_asd.deliver.message import Kind
from edge_asd.deliver.payload import Backlog, Check, Device, Health, Info, Source
from edge_asd.observe.board import free_bytes, temperature_c
from edge_asd.observe.clock import Direction, StepWatch, clock_synced
from edge_asd.observe.web import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from edge_asd.capture.ear import Ear
    from edge_asd.config import Config
    from edge_asd.deliver.command import Gate
    from edge_asd.deliver.message import Message
    from edge_asd.deliver.publisher import Publisher
    from edge_asd.deliver.store import Store
    from edge_asd.deliver.topic import Topics
    from edge_asd.observe.clock import Clock
    from edge_asd.observe.metric import Metrics
    from edge_asd.observe.notify import Notifier
    from edge_asd.ward import Ward

log = logging.getLogger("edge_asd")

HEALTH_S = 60.0
"""between two words on the node's own health"""
HANGS_S = 10.0
"""without a round of the daemon: it hangs"""


class Mouth(Protocol):
    """The daemon, as what speaks."""

    publisher: Publisher


@dataclass(slots=True)
class Herald:
    """Says to MQTT, Prometheus, systemd and the log how the node is; to all of them the same."""

    mouth: Mouth
    config: Config
    ears: Mapping[str, Ear]
    wards: Mapping[str, Ward]
    absent: Mapping[str, str]
    """machines that cannot be judged, and why"""
    topics: Topics
    gate: Gate
    store: Store
    metrics: Metrics
    clock: Clock
    notifier: Notifier
    boot_id: str
    _discovery: Discovery | None = field(init=False)
    _born: float = field(init=False)
    _started: datetime = field(init=False)
    _health_at: float = 0.0
    _told: dict[str, tuple[SourceState, str]] = field(default_factory=dict)
    _missed: set[str] = field(default_factory=set)
    """absent machines of which that was said"""
    _status: str = ""
    _fed: float = float("-inf")
    _round_at: float = field(init=False)
    """monotonic seconds of the daemon's last round"""
    _steps: StepWatch = field(default_factory=StepWatch)

    def __post_init__(self) -> None:
        self._born, self._started = self.clock.monotonic(), self.clock.wall()
        self._round_at = self._born
        mqtt = self.config.mqtt
        self._discovery = (
            Discovery(self.topics, version("edge-asd"), self.gate.allowed, mqtt.discovery)
            if mqtt and mqtt.discovery
            else None
        )

    @property
    def birth(self) -> str | None:
        """The topic on which Home Assistant says that it has started, if it is to know of us."""
        return self._discovery.birth if self._discovery else None

    def ready(self) -> None:
        """Others may rely on us from now on."""
        self.notifier.ready(self._status)

    def tell(self) -> None:
        """Whatever has changed since the last word; and feed the watchdog, if that is honest."""
        now = self._round_at = self.clock.monotonic()
        self._tell_step(now)
        for ear in self.ears.values():
            if self._told.get(ear.name) != (ear.state, ear.reason):
                self._tell_source(ear)
        for ward in self.wards.values():
            online = ward.ear.state is SourceState.OK and not ward.failure and not ward.overdue(now)
            if online is not ward.online:
                ward.online = online
                self.mouth.publisher.publish(self.topics.availability(ward.name, online=online))
        for name in self.absent.keys() - self._missed:
            self._missed.add(name)
            self.mouth.publisher.publish(self.topics.availability(name, online=False))
        self._tell_health(now)
        self._feed_watchdog(now)
        self._tell_status(now)

    def _feed_watchdog(self, now: float) -> None:
        """Honest, not silent: announced trouble is alive, an unexplained silence is not (decision 10)."""
        period = self.notifier.watchdog_s
        if period is None or now - self._fed < period / 4:
            return
        if not self._unexplained(now):
            self.notifier.alive()
            self._fed = now

    def _unexplained(self, now: float) -> list[str]:
        """Machines that no clip was scored of for too long though nothing is known to be wrong."""
        listening = [ward for ward in self.wards.values() if ward.ear.state is SourceState.OK and not ward.ear.ended]
        return [ward.name for ward in listening if ward.overdue(now) and not ward.trouble(now)]

    def _tell_step(self, now: float) -> None:
        if moved := self._steps.see(now, self.clock.wall().timestamp()):
            self.metrics.stepped(Direction.FORWARD if moved > 0 else Direction.BACKWARD)
            log.warning("clock.stepped", extra={"seconds": round(moved, 3), "synced": clock_synced()})

    def _tell_source(self, ear: Ear) -> None:
        before, _ = self._told.get(ear.name, (None, ""))
        self._told[ear.name] = (ear.state, ear.reason)
        self.metrics.source_state(ear.name, ear.state)
        if before is SourceState.LOST:
            self.metrics.restarted(ear.name, ok=ear.state is not SourceState.LOST)
        spec = self.config.sources[ear.name]
        said = Source(
            node=self.config.node,
            source=ear.name,
            state=ear.state,
            reason=ear.reason,
            since=self.clock.wall(),
            device=Device(token=spec.input.partition(":")[2], name=spec.input),
            sample_rate_hz=ear.rate,
            restarts=ear.restarts,
        )
        self.mouth.publisher.publish(self.topics.source(said))
        if before is ear.state:
            return  # one notice an episode, however often its reason changes
        level = logging.INFO if ear.state in {SourceState.OK, SourceState.RECOVERING} else logging.WARNING
        log.log(level, f"source.{ear.state}", extra={"source": ear.name, "reason": ear.reason})  # noqa: G004 - a name

    def _tell_status(self, now: float) -> None:
        traffic = self.mouth.publisher.traffic()
        backends = sorted({ward.voice.model.backend for ward in self.wards.values()})
        parts = [f"{len(self.wards)} machine{'s' if len(self.wards) > 1 else ''} on {' and '.join(backends)}"]
        parts += [f"{name} without a bundle" for name in self.absent]
        parts += [f"{name} in alarm" for name, ward in self.wards.items() if ward.alarm.active]
        parts += [f"{name}: {trouble}" for name, ward in self.wards.items() if (trouble := ward.trouble(now))]
        parts += [f"{ear.name} {ear.state}" for ear in self.ears.values() if ear.state is not SourceState.OK]
        parts += [traffic.trouble] if traffic.trouble else []
        if (status := ", ".join(parts)) != self._status:
            self._status = status
            self.notifier.status(status)

    def health(self) -> Health:
        """How the node itself is."""
        traffic, store, config = self.mouth.publisher.traffic(), self.store.condition(), self.config
        checks = [
            Check(name=f"source {e.name}", well=e.state is SourceState.OK, said=e.reason) for e in self.ears.values()
        ]
        now = self.clock.monotonic()
        checks += [
            Check(name=f"machine {name}", well=False, said=trouble)
            for name, ward in self.wards.items()
            if (trouble := ward.trouble(now))
        ]
        checks += [
            Check(name=f"ear of {w.name}", well=False, said=w.unproven) for w in self.wards.values() if w.unproven
        ]
        checks += [Check(name=f"machine {name}", well=False, said=reason) for name, reason in self.absent.items()]
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
            scored=sum(ward.clip is not None for ward in self.wards.values()),
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

    def pages(self) -> Mapping[str, Callable[[], Page]]:
        """What is asked over HTTP: ``/healthz``, is all well? ``/livez``, would a restart be called for?

        A microphone that is gone makes the first say no and the second yes: it is announced, and a restart would not
        bring it back. They are asked from another thread, so that they answer when the daemon hangs.
        """
        return {"/healthz": self._health_page, "/livez": self._life_page}

    def _health_page(self) -> Page:
        health, hangs = self.health(), self._hangs()
        if hangs:
            said = (*health.checks, Check(name="daemon", well=False, said=hangs))
            health = health.model_copy(update={"well": False, "checks": said})
        return Page(health.well, health.model_dump_json(by_alias=True).encode())

    def _life_page(self) -> Page:
        unheard = self._unexplained(self.clock.monotonic())
        trouble = self._hangs() or (f"no clip scored of {', '.join(unheard)}, nobody knows why" if unheard else "")
        return Page(not trouble, json.dumps({"alive": not trouble, "said": trouble or "alive"}).encode())

    def _hangs(self) -> str:
        quiet = self.clock.monotonic() - self._round_at
        return f"no round for {quiet:.0f} s: it hangs" if quiet > HANGS_S else ""

    def introduce(self) -> None:
        """Say again, to whoever has just come, what is here and how it is."""
        self.describe()
        for message in self._discovered():
            self.mouth.publisher.publish(message)
        for ward in self.wards.values():
            ward.online = None
        self._told.clear()
        self._missed.clear()

    def _tell_health(self, now: float) -> None:
        if now >= self._health_at and self.mouth.publisher.traffic().connected:
            self._health_at = now + HEALTH_S
            self.mouth.publisher.publish(self.topics.health(self.health()))

    def describe(self) -> None:
        """Say what runs here: what judges which machine, above all."""
        info = Info(
            node=self.config.node,
            boot_id=self.boot_id,
            ts=self._started,
            version=version("edge-asd"),
            versions={name: version(name) for name in ("numpy", "onnxruntime", "paho-mqtt")},
            config_sha256=self.config.digest(),
            commands=tuple(sorted(self.gate.allowed)),
            machines={name: ward.voice.model for name, ward in self.wards.items()},
            sources=tuple(self.ears),
        )
        self.mouth.publisher.publish(self.topics.info(info))

    def _discovered(self) -> Iterator[Message]:
        """What Home Assistant makes its devices of; what it is not to show any more comes empty."""
        if self._discovery is None:
            return
        yield self._discovery.node(self.ears, self.health())
        for name, ward in self.wards.items():
            windows = ward.listener.windows
            yield self._discovery.machine(name, ward.ear.name, windows.clip / windows.sample_rate)
        for name in self.store.recall().keys() - self.wards.keys() - self.absent.keys():
            yield self._discovery.removed(name)
            yield from self.topics.forgotten(name)
