"""Names of microphones."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.capture.device import Device, describe, devices, find
from edge_asd.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import PulseMicrophone


def usb(sound: Path, card: int, port: str, *, serial: str = "", identity: str = "Mic") -> None:
    """A USB card as the kernel shows it: the sound device sits on an interface of the USB device."""
    device = sound.parent / "devices" / "usb1" / port
    interface = device / f"{device.name}:1.0"
    interface.mkdir(parents=True)
    for name, text in {"idVendor": "2886", "idProduct": "0018", "serial": serial}.items():
        if text:
            (device / name).write_text(f"{text}\n")
    onboard(sound, card, identity)
    (sound / f"card{card}" / "device").symlink_to(interface)


def onboard(sound: Path, card: int, identity: str) -> None:
    (sound / f"card{card}").mkdir(parents=True)
    (sound / f"card{card}" / "id").write_text(f"{identity}\n")


def entry(name: str) -> dict[str, Any]:
    return {"name": name, "max_input_channels": 2, "default_samplerate": 48_000.0}


def tokens(sound: Path, *names: str) -> list[str]:
    return [device.token for device in describe([(3 + i, entry(name)) for i, name in enumerate(names)], sound)]


def test_a_usb_microphone_is_known_by_its_serial_number(tmp_path: Path) -> None:
    usb(tmp_path / "sound", 1, "1-1.2", serial="A7")
    (device,) = describe([(3, entry("ReSpeaker: USB Audio (hw:1,0)"))], tmp_path / "sound")
    assert device == Device(
        token="usb-id:2886:0018:A7",  # noqa: S106 - the name of a device
        names=("usb-id:2886:0018:A7", "usb-path:1-1.2", "alsa:Mic", "name:ReSpeaker: USB Audio (hw:1,0)"),
        index=3,
        name="ReSpeaker: USB Audio (hw:1,0)",
        channels=2,
        rate=48_000,
    )


def test_a_usb_microphone_without_a_serial_number_is_known_by_its_port(tmp_path: Path) -> None:
    usb(tmp_path / "sound", 0, "1-1.4")
    assert tokens(tmp_path / "sound", "USB Audio (hw:0,0)") == ["usb-path:1-1.4"]


def test_a_usb_microphone_behind_a_hub_is_not_taken_for_the_hub(tmp_path: Path) -> None:
    usb(tmp_path / "sound", 0, "1-1/1-1.4", serial="A7")
    hub = tmp_path / "devices" / "usb1" / "1-1"
    for name, text in {"idVendor": "05e3", "idProduct": "0610", "serial": "hub"}.items():
        (hub / name).write_text(f"{text}\n")
    (device,) = describe([(0, entry("USB (hw:0,0)"))], tmp_path / "sound")
    assert device.names[:2] == ("usb-id:2886:0018:A7", "usb-path:1-1.4")


def test_two_of_the_same_serial_number_are_told_apart_by_their_ports(tmp_path: Path) -> None:
    usb(tmp_path / "sound", 0, "1-1", serial="0001")
    usb(tmp_path / "sound", 1, "1-2", serial="0001", identity="Mic_1")
    assert tokens(tmp_path / "sound", "USB (hw:0,0)", "USB (hw:1,0)") == ["usb-path:1-1", "usb-path:1-2"]


def test_the_second_input_of_a_card_has_a_name_of_its_own(tmp_path: Path) -> None:
    onboard(tmp_path / "sound", 0, "PCH")
    assert tokens(tmp_path / "sound", "HDA (hw:0,0)", "HDA (hw:0,2)") == ["alsa:PCH", "alsa:PCH,2"]


def test_what_is_no_card_is_known_by_what_portaudio_calls_it(tmp_path: Path) -> None:
    assert tokens(tmp_path / "sound", "default", "pulse") == ["name:default", "name:pulse"]


def test_a_card_whose_number_has_changed_is_found_again(tmp_path: Path) -> None:
    usb(tmp_path / "sound", 4, "1-3", serial="A7")
    known = describe([(0, entry("default")), (9, entry("USB (hw:4,0)"))], tmp_path / "sound")
    assert [find(name, known).index for name in ("usb-id:2886:0018:A7", "usb-path:1-3", "alsa:Mic")] == [9, 9, 9]


def test_a_missing_microphone_is_never_replaced_by_another(tmp_path: Path) -> None:
    known = describe([(0, entry("default")), (1, entry("pulse"))], tmp_path / "sound")
    with pytest.raises(SourceError, match=r"no microphone is called 'usb-id:1:2:3', there are: name:default, name:pu"):
        find("usb-id:1:2:3", known)


@dataclass(frozen=True)
class Plugged:
    """A sound card, and where it is."""

    port: str
    """empty: on the board"""
    serial: str

    @property
    def label(self) -> str:
        """By which the test knows it again: PortAudio's name without the number of the card."""
        return f"{self.port} {self.serial}"


@contextmanager
def computer(cards: list[Plugged]) -> Iterator[list[Device]]:
    """Its microphones, the cards counted in this order and their ALSA names made unique as the kernel does."""
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "class" / "sound"
        for number, card in enumerate(cards):
            identity = "Mic" if number == 0 else f"Mic_{number}"
            if card.port:
                usb(sound, number, card.port, serial=card.serial, identity=identity)
            else:
                onboard(sound, number, "PCH")
        names = [f"{card.label} (hw:{number},0)" for number, card in enumerate(cards)]
        yield describe([(index, entry(name)) for index, name in enumerate(["default", *names])], sound)


PORTS = ["1-1", "1-1.2", "1-1.4", "2-3"]
USB = st.builds(Plugged, st.sampled_from(PORTS), st.sampled_from(["", "A7", "B8", "C9"]))
CARDS = st.lists(
    st.just(Plugged("", "")) | USB, min_size=1, max_size=5, unique_by=(lambda c: c.port, lambda c: c.serial or c.port)
)


@given(before=CARDS, data=st.data())
@settings(max_examples=60)
def test_a_token_means_the_same_microphone_whatever_else_is_plugged_in_or_pulled_out(
    before: list[Plugged], data: st.DataObject
) -> None:
    mine = data.draw(st.sampled_from(before))
    after = data.draw(st.permutations([card for card in before if card == mine or data.draw(st.booleans())]))
    with computer(before) as known:
        token = next(device.token for device in known if device.name.startswith(mine.label + " ("))
    with computer(after) as known:
        assert find(token, known).name.startswith(mine.label + " (")
    with computer([card for card in after if card != mine]) as known, pytest.raises(SourceError, match="no microphone"):
        find(token, known)


def test_a_computer_without_a_microphone_says_so() -> None:
    with pytest.raises(SourceError, match="there are: none at all"):
        find("name:default", [])


def test_a_name_of_two_microphones_is_refused(tmp_path: Path) -> None:
    usb(tmp_path / "sound", 0, "1-1", serial="0001")
    usb(tmp_path / "sound", 1, "1-2", serial="0001", identity="Mic_1")
    known = describe([(0, entry("USB (hw:0,0)")), (1, entry("USB (hw:1,0)"))], tmp_path / "sound")
    with pytest.raises(SourceError, match=r"more than one microphone is called .* usb-path:1-1, usb-path:1-2"):
        find("usb-id:2886:0018:0001", known)


def test_without_portaudio_one_line_says_what_to_install() -> None:
    code = "import sys, ctypes.util as u; u.find_library = lambda _: None\n"
    code += "from edge_asd.capture.device import main; sys.exit(main())"
    seen = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (seen.returncode, seen.stderr) == (1, "the PortAudio library is missing: apt install libportaudio2\n")


@pytest.mark.system
def test_the_virtual_microphone_is_listed(pulse_microphone: PulseMicrophone) -> None:
    found = find(pulse_microphone.token)
    assert found in devices()
    assert found.channels >= 1
    assert found.token == "name:default"  # noqa: S105 - the name of a device


@pytest.mark.system
def test_the_list_is_json_for_other_programs(pulse_microphone: PulseMicrophone) -> None:
    command = [sys.executable, "-m", "edge_asd.capture.device"]
    seen = subprocess.run(command, check=True, capture_output=True, text=True)
    assert pulse_microphone.token in [entry["token"] for entry in json.loads(seen.stdout)]
