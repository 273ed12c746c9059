"""Everything that somebody who is to help wants to see, in one archive; whatever cannot be had says so in its place.

No secret leaves: passwords of the settings and whatever lies in the credentials' folder are struck out of every file
that goes in, wherever they may have come from, and of settings that cannot be read no text goes in at all.
"""

from __future__ import annotations

import io
import json
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import tarfile
import time
import tomllib
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, SecretStr

from edge_asd.bench import bench
from edge_asd.capture.device import devices
from edge_asd.check import check
from edge_asd.config import PREFIX, load_config, state_folder
from edge_asd.deliver.control import ask
from edge_asd.deliver.message import Verb
from edge_asd.engine import FILE
from edge_asd.errors import ConfigError
from edge_asd.model.opening import bundle_path, open_model, shelf
from edge_asd.observe.board import free_bytes, temperature_c
from edge_asd.observe.clock import clock_synced
from edge_asd.score.provider import spare_threads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from edge_asd.config import Config
    from edge_asd.engine import Engine

STRUCK = "[struck out]"
SECRET = re.compile(r"password|passwd|passphrase|secret|token", re.IGNORECASE)
"""settings and variables whose values stay here"""
IN_ADDRESS = re.compile(r"(?<=://)[^\"'\n]+(?=@)")
"""who and with what, in an address"""
PATIENCE_S = 5.0
LOG_LINES = 2_000
LARGEST = 64 * 2**10
"""bytes of one file of the kernel's"""
MOST_FILES = 400
ROUNDS = 5
BOARD = (
    "/etc/os-release",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/uptime",
    "/proc/device-tree/model",
    "/proc/driver/nvidia/version",
    "/etc/nv_tegra_release",
    "/sys/devices/platform/soc/soc:firmware/get_throttled",
)
USB = ("id", "idVendor", "idProduct", "manufacturer", "product", "serial", "speed")

Section = Callable[[], str]


def archive(path: Path, out: Path, now: datetime) -> list[str]:
    """Write the archive whole or not at all.

    Args:
        path: of the settings; they may be broken.
        out: where to; readable by its owner only.
        now: wall time, which the files bear.

    Returns:
        What could not be had, a line each.

    Raises:
        ConfigError: the archive cannot be written there.
    """
    secrets = known_secrets(path)
    files, missing = {}, []
    for name, section in sections(path).items():
        try:
            text = section()
        except Exception as error:  # noqa: BLE001 - whatever is broken here is what the others are to explain
            text = f"could not be had: {type(error).__name__}: {error}\n"
            missing.append(f"{name}: {error}")
        files[f"doctor/{name}"] = strike(text, secrets).encode()
    _write(out, files, now)
    return [strike(line, secrets) for line in missing]


def sections(path: Path) -> dict[str, Section]:
    """What goes in, by file name."""
    always: dict[str, Section] = {
        "check.txt": lambda: _lines(f"{'ok  ' if f.well else 'FAIL'}  {f.what}: {f.said}" for f in check(path)),
        "settings-as-written.json": lambda: _json(_written(path)),
        "versions.txt": _versions,
        "board.txt": lambda: _lines(f"== {file}\n{_text(Path(file))}" for file in BOARD),
        "microphones.json": lambda: _json([asdict(device) for device in devices()]),
        "sound-cards.txt": lambda: _lines(sound_cards()),
        "journal.txt": _journal,
        "environment.txt": lambda: _lines(f"{name}={value}" for name, value in sorted(_ours().items())),
    }
    try:
        config = load_config(path)
    except ConfigError:
        return always | {"node.json": lambda: _json(_node(state_folder()))}
    return always | {
        "settings-in-force.json": lambda: config.model_dump_json(indent=1),
        "node.json": lambda: _json(_node(config.state_dir)),
        "health.json": lambda: _json(_health(config)),
        "metrics.txt": lambda: _metrics(config),
        "bundles.json": lambda: _json(_bundles(config)),
        "models.json": lambda: _json(_models(config)),
        "timing.json": lambda: _json(_timing(config)),
        "state.txt": lambda: _lines(_listing(config.state_dir)),
    }


def known_secrets(path: Path) -> list[str]:
    """Every secret this process can know of, the longest first."""
    found = {value for name, value in os.environ.items() if name.startswith(PREFIX) and SECRET.search(name)}
    found |= set(_secrets_in(_parsed(path)))
    if folder := os.environ.get("CREDENTIALS_DIRECTORY"):
        found |= {_text(file).strip() for file in Path(folder).rglob("*") if file.is_file()}
    with suppress(ConfigError):  # what of such a file can be read was found above
        found |= set(_hidden(load_config(path)))
    return sorted(filter(None, found), key=len, reverse=True)


def strike(text: str, secrets: list[str]) -> str:
    """A text without the secrets, as they are and as JSON writes them."""
    for secret in secrets:
        for form in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
            text = text.replace(form, STRUCK)
    return IN_ADDRESS.sub(STRUCK, text)


def sound_cards(asound: Path = Path("/proc/asound"), sound: Path = Path("/sys/class/sound")) -> Iterator[str]:
    """What the kernel says of its sound cards: ALSA's own files, and where each card hangs."""
    files = sorted(file for file in asound.rglob("*") if file.is_file() and not file.is_symlink())
    for file in files[:MOST_FILES]:
        yield f"== {file}\n{_text(file)}"
    for card in sorted(sound.glob("*")):
        place = card.resolve()
        yield f"== {card} -> {place}"
        for folder in (place, *list(place.parents)[:6]):
            told = {name: _text(folder / name).strip() for name in USB if (folder / name).is_file()}
            if told:
                yield f"   {folder}: {told}"


# Each part ------------------------------------------------------------------------------------------------------------


def _parsed(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def _written(path: Path) -> object:
    """The file as its author wrote it, less comments, which may hold a password of old."""
    return _struck(_parsed(path)) or f"{path} cannot be read, see check.txt"


def _struck(value: object) -> object:
    if isinstance(value, Mapping):
        return {n: STRUCK if _secret(n, inner) else _struck(inner) for n, inner in value.items()}
    return [_struck(inner) for inner in value] if isinstance(value, list) else value


def _secret(name: str, value: object) -> bool:
    return bool(SECRET.search(name)) and not isinstance(value, Mapping)


def _secrets_in(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if _secret(str(name), inner):
                yield from map(str, inner if isinstance(inner, list) else [inner])
            else:
                yield from _secrets_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _secrets_in(inner)
    elif isinstance(value, str):  # what a message makes of an address need not look like one
        for who in IN_ADDRESS.findall(value):
            yield from (who, who.partition(":")[2])


def _hidden(settings: BaseModel) -> Iterator[str]:
    """Of settings, those that hide their value."""
    for _, value in settings:
        for inner in value.values() if isinstance(value, dict) else [value]:
            if isinstance(inner, SecretStr):
                yield inner.get_secret_value()
            elif isinstance(inner, BaseModel):
                yield from _hidden(inner)


def _versions() -> str:
    names = sorted(f"{d.name} {d.version}" for d in distributions())
    return _lines([f"python {sys.version}", platform.platform(), f"{sys.executable}", *names])


def _journal() -> str:
    program = shutil.which("journalctl")
    if program is None:
        return "there is no journalctl here\n"
    command = [program, "-u", "edge-asd", "-n", str(LOG_LINES), "--no-pager", "-o", "short-iso-precise"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE_S, check=False)
    return done.stdout + done.stderr


def _ours() -> dict[str, str]:
    names = ("STATE_DIRECTORY", "CACHE_DIRECTORY", "CREDENTIALS_DIRECTORY", "OMP_NUM_THREADS", "LANG", "TZ")
    return {
        name: STRUCK if SECRET.search(name) else value
        for name, value in os.environ.items()
        if name.startswith(PREFIX) or name in names
    }


def _node(state: Path | None) -> dict[str, object]:
    return {
        "clock_synced": clock_synced(),
        "wall_time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "temperature_celsius": temperature_c(),
        "disk_free_bytes": free_bytes(state) if state else None,
        "user": os.getuid(),
        "groups": os.getgroups(),
        "processors": sorted(os.sched_getaffinity(0)),
    }


def _health(config: Config) -> object:
    return ask(config.state_dir or state_folder(), Verb.HEALTH_CHECK, {})


def _metrics(config: Config) -> str:
    settings, context = config.metrics, None
    if settings.cert:  # ours, whatever name it is for
        context = ssl.create_default_context(cafile=settings.cert)
        context.check_hostname = False
    address = f"http{'s' if context else ''}://{settings.listen}/metrics"
    with urllib.request.urlopen(address, timeout=PATIENCE_S, context=context) as answer:  # noqa: S310 - http or https
        return str(answer.read().decode())


def _models(config: Config) -> list[dict[str, object]]:
    return [asdict(model) for model in shelf(config.state_dir, config.trust.trust()).list()]


def _paths(config: Config) -> dict[str, str | None]:
    """Bundles in use, each with one head that is."""
    return {machine.bundle: machine.head for machine in config.machines.values()}


def _bundles(config: Config) -> dict[str, object]:
    engine = config.engine.engine(config.state_dir)
    choices = {"file": FILE, "installed": engine.installed, "threads": config.engine.threads or spare_threads()}
    return {"engine": choices} | {name: _guarded(partial(_bundle, name, config, engine)) for name in _paths(config)}


def _bundle(name: str, config: Config, engine: Engine) -> dict[str, object]:
    bundle = open_model(name, config.state_dir, config.trust.trust())
    manifest = bundle.manifest.model_dump(mode="json", by_alias=True, include={"name", "version", "created", "files"})
    trials = [asdict(trial) for trial in engine.trials(bundle.digest)]
    return manifest | {"digest": bundle.digest, "heads": list(bundle.heads), "trials": trials}


def _timing(config: Config) -> dict[str, object]:
    return {name: _guarded(partial(_timed, name, config, head)) for name, head in _paths(config).items()}


def _timed(name: str, config: Config, head: str | None) -> dict[str, object]:
    timings, share = bench(bundle_path(name, config.state_dir), head, ROUNDS)
    return {"stages": [asdict(timing) for timing in timings], "real_time_factor": share}


def _guarded(look: Callable[[], object]) -> object:
    """One bundle that is broken does not hide the others."""
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - as above
        return f"could not be had: {type(error).__name__}: {error}"


def _listing(folder: Path | None) -> Iterator[str]:
    for file in sorted(folder.rglob("*"))[:MOST_FILES] if folder else ():
        told = file.lstat()
        yield f"{told.st_mode:o} {told.st_uid} {told.st_size:>12} {file}"


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(LARGEST).decode("utf-8", "replace")
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _json(value: object) -> str:
    return json.dumps(value, indent=1, default=str) + "\n"


def _lines(lines: Iterator[str] | list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _write(out: Path, files: Mapping[str, bytes], now: datetime) -> None:
    unfinished = out.with_name(f"{out.name}.partial")
    try:
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
        with tarfile.open(unfinished, "w:gz") as packed:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mtime, entry.mode = len(content), int(now.timestamp()), 0o600
                packed.addfile(entry, io.BytesIO(content))
        unfinished.replace(out)
    except OSError as error:
        msg = f"{out}: cannot be written: {str(error.strerror).lower()}; name another place with --out"
        raise ConfigError(msg) from error
    finally:
        unfinished.unlink(missing_ok=True)
