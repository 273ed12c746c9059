"""Is everything there that ``run`` will need? Each thing in turn: what is wrong, and what to do."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from edge_asd.capture.device import find
from edge_asd.capture.opening import open_source
from edge_asd.config import load_config
from edge_asd.deliver.probe import probe
from edge_asd.deliver.topic import Topics
from edge_asd.errors import ConfigError, EdgeAsdError
from edge_asd.model.opening import open_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edge_asd.config import Config, MachineSettings, SourceSettings

HEAR_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """How one thing is."""

    what: str
    well: bool
    said: str


def check(path: Path) -> Iterator[Finding]:
    """Config, bundles with their golden test, sources, metrics port, broker."""
    try:
        config = load_config(path)
    except ConfigError as error:
        yield from (Finding("config", well=False, said=mistake) for mistake in str(error).splitlines())
        return
    yield Finding("config", well=True, said=f"{path}: {len(config.sources)} sources, {len(config.machines)} machines")
    for name, machine in config.machines.items():
        yield _finding(f"bundle of {name}", partial(_bundle, config, machine))
    for name, source in config.sources.items():
        yield _finding(f"source {name}", partial(_source, source))
    if config.metrics.address:
        yield _finding("metrics", lambda: _port(config))
    if config.mqtt:
        yield _finding("broker", lambda: _broker(config))


def _finding(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, well=True, said=look())
    except EdgeAsdError as error:
        return Finding(what, well=False, said=str(error))


def _bundle(config: Config, machine: MachineSettings) -> str:
    engine = config.engine.engine(config.state_dir)
    bundle = open_model(machine.bundle, config.state_dir, config.trust.trust(), engine.open)
    bundle.scorer(machine.head)
    signed = f", signed by {bundle.signer}" if bundle.signer else ""
    known = f"{bundle.manifest.name} {bundle.manifest.version}, head {bundle.key(machine.head)}"
    return f"{known}, golden test passed{signed}"


def _source(settings: SourceSettings) -> str:
    """Sound must come within seconds."""
    spec = settings.spec()
    scheme, _, token = spec.input.partition(":")
    if scheme == "microphone":
        find(token)  # says which there are; opening would only say that this one is not
    source = open_source(spec, spec.rate or 16_000)
    try:
        return _heard(source.read)
    finally:
        source.close()


def _heard(read: Callable[[], object]) -> str:
    deadline = time.monotonic() + HEAR_S
    while time.monotonic() < deadline:
        if read() is not None:
            return "delivers sound"
        time.sleep(0.05)
    msg = f"opened, but no sound came within {HEAR_S:g} s; is it muted, or held by another program?"
    raise ConfigError(msg)


def _port(config: Config) -> str:
    address = config.metrics.address or ("", 0)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            msg = f"cannot listen on {config.metrics.listen}: {reason}; set metrics.listen to another port"
            raise ConfigError(msg) from error
    certificate = config.metrics.certificate()
    guarded = ", over TLS" if certificate and certificate.context() else ""
    return f"{config.metrics.listen} is free{guarded}"


def _broker(config: Config) -> str:
    """As ``edge-asd mqtt test`` does, in one line."""
    if config.mqtt is None:
        return "none"
    where = f"mqtt.host {config.mqtt.host!r}, mqtt.port {config.mqtt.port}"
    for stage in probe(config.mqtt.broker(), Topics(config.node, config.mqtt.base)):
        if not stage.well:
            msg = f"{where}: {stage.name}: {stage.said}; {stage.advice}"
            raise ConfigError(msg)
    return f"{config.mqtt.host}:{config.mqtt.port} accepts us, and what we publish comes back"
