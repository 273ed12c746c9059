"""What was heard of a machine when its ear was commissioned, in the state folder, and the ears that are held to it.

One JSON file a machine, written whole or not at all; the one before stays beside it. The bundle is left as it is: this
lies over it, and belongs to this box.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from edge_asd.archive import settle
from edge_asd.errors import ConfigError
from edge_asd.signal.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from edge_asd.config import SourceSettings
    from edge_asd.ward import Ward

log = logging.getLogger(__name__)

FOLDER = "commissioned"
"""within the state folder"""
SCHEMA = "edge_asd.commissioned/1"
LOOK_S = 10.0
"""between two looks whether somebody has commissioned anew"""


@dataclass(frozen=True, slots=True)
class Binding:
    """The ear that was commissioned; of another the profile says nothing."""

    input: str
    """as the config names it, the microphone's token within"""
    channel: int
    """counted from 1; 0 is the usual one"""
    rate: int
    """hertz"""

    def other(self, ear: Binding) -> str:
        """In what that ear is not this one; empty when it is."""
        told = asdict(ear)
        return ", ".join(f"{k} {v} and not {told[k]}" for k, v in asdict(self).items() if told[k] != v)


@dataclass(frozen=True, slots=True)
class Commissioned:
    """One machine at one ear."""

    machine: str
    ear: Binding
    bundle_sha256: str
    """by which it was judged"""
    head: str
    version: int
    """counted from 1"""
    created: str
    """RFC 3339"""
    states: Mapping[str, Profile]
    """``running``, ``off``, and what else the machine does for long"""

    def then(self, later: Commissioned) -> Commissioned:
        """With what was heard later, in the next version; at another ear what was known is of no use."""
        kept = self.states if self.ear == later.ear else {}
        return replace(later, version=self.version + 1, states={**kept, **later.states})


def bind(settings: SourceSettings, rate: int) -> Binding:
    """The ear that a config describes."""
    return Binding(settings.input, settings.channel, rate)


def read(folder: Path, machine: str) -> Commissioned | None:
    """What is kept of a machine in a state folder; None when nothing is.

    Raises:
        ConfigError: what is there cannot be read.
    """
    path = _path(folder, machine)
    try:
        return _parsed(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        msg = f"{path}: cannot be read ({error}); commission again: edge-asd commission {machine} --config FILE"
        raise ConfigError(msg) from error


def keep(folder: Path, commissioned: Commissioned) -> Path:
    """Write it in the place of the one before, which stays beside it.

    Raises:
        ConfigError: the folder cannot be written.
    """
    path = _path(folder, commissioned.machine)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _write(path.with_suffix(".previous.json"), path.read_text("utf-8"))
        _write(path, json.dumps({"schema": SCHEMA, **asdict(commissioned)}, indent=1) + "\n")
    except OSError as error:
        reason = str(error.strerror or error).lower()
        msg = f"{path}: cannot be written ({reason}); may you write state_dir? with the service, use sudo"
        raise ConfigError(msg) from error
    return path


class Baselines:
    """Holds each ear to what was commissioned there, and looks now and then whether that has changed."""

    def __init__(self, folder: Path | None, wards: Collection[Ward], ears: Mapping[str, Binding]) -> None:
        """Without a state folder nothing is known of any ear.

        Args:
            folder: the state folder.
            wards: machines.
            ears: as they are configured, by the name of the source.
        """
        self._folder, self._wards, self._ears = folder, wards, ears
        self._look_at, self._seen = -math.inf, dict[str, tuple[int, int]]()
        self._known: dict[str, Commissioned] = {}

    def refresh(self, now: float) -> None:
        """Read what is new at ``now``, monotonic seconds."""
        if self._folder is None or now < self._look_at:
            return
        self._look_at = now + LOOK_S
        for ward in self._wards:
            stamp = _stamp(_path(self._folder, ward.name))
            if stamp != self._seen.get(ward.name, (0, 0)):
                self._seen[ward.name] = stamp
                self._learn(self._folder, ward)
                self._hold(ward)

    def _learn(self, folder: Path, ward: Ward) -> None:
        self._known.pop(ward.name, None)
        try:
            found = read(folder, ward.name)
        except ConfigError as error:
            ward.unproven = str(error)
            log.error("ear.unknown", extra={"machine": ward.name, "reason": ward.unproven})  # noqa: TRY400 - the reason says it
            return
        ward.unproven = ""
        if found and self._same(ward, found):
            self._known[ward.name] = found
            states = list(found.states)
            log.info("ear.commissioned", extra={"machine": ward.name, "version": found.version, "states": states})

    def _same(self, ward: Ward, found: Commissioned) -> bool:
        """It is the ear that was commissioned; whatever is not as it was then is said."""
        if other := self._ears[ward.ear.name].other(found.ear):
            ward.unproven = f"not the ear that was commissioned: it has {other}; commission {ward.name} again"
        elif ward.digest != found.bundle_sha256:
            ward.unproven = f"the bundle is not the one that was tried at this ear; commission {ward.name} again"
        if ward.unproven:
            log.warning("ear.uncommissioned", extra={"machine": ward.name, "reason": ward.unproven})
        return not other

    def _hold(self, ward: Ward) -> None:
        """Of several machines at one ear the one that was commissioned last says how it hears."""
        mine = [self._known[w.name] for w in self._wards if w.ear is ward.ear and w.name in self._known]
        ward.ear.heed(max(mine, key=lambda known: known.created).states if mine else {})


def _path(folder: Path, machine: str) -> Path:
    return folder / FOLDER / f"{machine}.json"


def _stamp(path: Path) -> tuple[int, int]:
    """What differs when a file was replaced; zeros without one."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_ino


def _parsed(kept: Mapping[str, Any]) -> Commissioned:
    told = dict(kept)
    if (schema := told.pop("schema")) != SCHEMA:
        msg = f"schema is {schema!r}, not {SCHEMA!r}"
        raise ValueError(msg)
    states = {str(name): Profile(**each) for name, each in told.pop("states").items()}
    return Commissioned(ear=Binding(**told.pop("ear")), states=states, **told)


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, "utf-8")
    settle(partial, path)
