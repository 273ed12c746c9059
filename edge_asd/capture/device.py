"""Microphones by names that outlive a reboot.

PortAudio counts devices in the order it found them and never looks again, so every look is taken by a new process, and
a device is known by what it is: its USB identity, its USB port, its ALSA card, and only then what PortAudio calls it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_asd.errors import SourceError

SOUND = Path("/sys/class/sound")
PATIENCE_S = 20.0  # for a look at all devices; PortAudio opens each of them
MISSING = "the PortAudio library is missing: apt install libportaudio2"


@dataclass(frozen=True, slots=True)
class Device:
    """Something that can be recorded from."""

    token: str
    """the name to put into the configuration"""
    names: tuple[str, ...]
    """every name it answers to, the most lasting first; not all are its alone"""
    index: int
    """PortAudio's number, good in the process that asked for it only"""
    name: str
    """PortAudio's name"""
    channels: int
    rate: int
    """hertz that it prefers"""


def devices() -> list[Device]:
    """Every microphone there is now, seen by a process of its own.

    Raises:
        SourceError: PortAudio is missing, hangs or fails.
    """
    command = [sys.executable, "-m", "edge_asd.capture.device"]
    try:
        seen = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired as error:
        msg = f"the list of microphones did not come within {PATIENCE_S:g} s: a device hangs, unplug it"
        raise SourceError(msg) from error
    if seen.returncode:
        msg = (seen.stderr.strip() or f"PortAudio died with code {seen.returncode}").splitlines()[-1]
        raise SourceError(msg)
    return [Device(**{**entry, "names": tuple(entry["names"])}) for entry in json.loads(seen.stdout)]


def find(token: str, among: list[Device] | None = None) -> Device:
    """The one microphone of this name; never another in its place.

    Args:
        token: one of the names of a device.
        among: what to search; by default a new look.

    Raises:
        SourceError: no device or more than one has this name; says which there are.
    """
    known = devices() if among is None else among
    found = [device for device in known if token in device.names]
    if len(found) == 1:
        return found[0]
    what = "more than one microphone is" if found else "no microphone is"
    there = (
        ", ".join(device.token for device in found or known) or "none at all; is it plugged in, may we open /dev/snd?"
    )
    msg = f"{what} called {token!r}, there are: {there}"
    raise SourceError(msg)


def here(sound: Path = SOUND) -> list[Device]:
    """Every microphone as PortAudio in this process numbers them.

    Raises:
        SourceError: the library is missing or fails.
    """
    portaudio = library()
    try:
        entries = list(enumerate(portaudio.query_devices()))
    except portaudio.PortAudioError as error:
        msg = f"PortAudio cannot list the microphones: {error}"
        raise SourceError(msg) from error
    return describe([entry for entry in entries if entry[1]["max_input_channels"] > 0], sound)


def library() -> Any:  # noqa: ANN401 - sounddevice ships no types
    """The module sounddevice; loading it starts PortAudio, which is for short-lived and child processes only.

    Raises:
        SourceError: PortAudio is not installed.
    """
    try:
        import sounddevice  # noqa: PLC0415 - the daemon itself must never load PortAudio
    except OSError as error:
        raise SourceError(MISSING) from error
    return sounddevice


def describe(entries: list[tuple[int, dict[str, Any]]], sound: Path = SOUND) -> list[Device]:
    """Give PortAudio's numbered entries their names."""
    names = [_names(str(entry["name"]), sound) for _, entry in entries]
    shared = Counter(name for each in names for name in each)
    return [
        Device(
            token=next((name for name in each if shared[name] == 1), each[-1]),
            names=each,
            index=index,
            name=str(entry["name"]),
            channels=int(entry["max_input_channels"]),
            rate=round(entry["default_samplerate"]),
        )
        for each, (index, entry) in zip(names, entries, strict=True)
    ]


def _names(name: str, sound: Path) -> tuple[str, ...]:
    """Names of a device from the lasting to the fleeting; ``,N`` where it is not its card's first."""
    hardware = re.search(r"\(hw:(\d+),(\d+)\)", name)
    if not hardware:
        return (f"name:{name}",)
    card, part = sound / f"card{hardware[1]}", "" if hardware[2] == "0" else f",{hardware[2]}"
    return (*(f"{kind}{part}" for kind in (*_usb(card), *_alsa(card))), f"name:{name}")


def _alsa(card: Path) -> list[str]:
    identity = _text(card / "id")
    return [f"alsa:{identity}"] if identity else []


def _usb(card: Path) -> list[str]:
    """Its vendor, product and serial, and the port it is plugged into; nothing for a card that is not USB."""
    place = (card / "device").resolve()
    for folder in (place, *place.parents):
        vendor, product, serial = (_text(folder / file) for file in ("idVendor", "idProduct", "serial"))
        if vendor:
            identity = [f"usb-id:{vendor}:{product}:{serial}"] if serial else []
            return [*identity, f"usb-path:{folder.name}"]
    return []


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def main() -> int:
    """Print the microphones as JSON."""
    try:
        sys.stdout.write(json.dumps([asdict(device) for device in here()]) + "\n")
    except SourceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
