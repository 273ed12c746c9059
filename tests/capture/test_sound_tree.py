"""Names of microphones over whole trees of /sys as kernels lay them out.

The trees under ``sound/`` are text: ``PATH = CONTENT`` is a file, ``PATH -> TARGET`` a link, ``portaudio INDEX CHANNELS
RATE NAME`` what PortAudio makes of it. They are written down after what such machines show, not copied from one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_asd.capture.device import describe, find
from edge_asd.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_asd.capture.device import Device

TREES = Path(__file__).parent / "sound"

TOKENS = {
    "laptop": ["alsa:PCH", "usb-id:2886:0018:4C4B300A12", "name:sysdefault", "name:pulse", "name:default"],
    "laptop-rebooted": ["usb-id:2886:0018:4C4B300A12", "alsa:PCH", "name:sysdefault", "name:pulse", "name:default"],
    "twins": ["usb-path:1-1.2", "usb-path:1-1.4"],
    "twins-rebooted": ["usb-path:1-1.4", "usb-path:1-1.2"],
    "hubs": ["usb-path:3-1.4.1", "usb-path:3-4"],
    "pi": ["alsa:seeed2micvoicec", "usb-path:1-1.3", "name:default"],
}


@pytest.fixture
def plant(tmp_path: Path) -> Callable[[str], list[Device]]:
    """`plant(tree)` makes the tree and says which microphones are seen in it."""
    return lambda name: grown(TREES / f"{name}.txt", tmp_path / name)


def grown(tree: Path, root: Path) -> list[Device]:
    entries = []
    for line in tree.read_text(encoding="utf-8").splitlines():
        if line.startswith("portaudio "):
            _, index, channels, rate, name = line.split(" ", 4)
            known = {"name": name, "max_input_channels": int(channels), "default_samplerate": float(rate)}
            entries.append((int(index), known))
        elif not line.startswith("#"):
            grow(root, line)
    return describe(entries, root / "class" / "sound")


def grow(root: Path, line: str) -> None:
    path, kind, what = f"{line} ".split(" ", 2)
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    if kind == "->":
        (root / path).symlink_to(what.strip())
    else:
        (root / path).write_text(what.strip().replace("\\n", "\n") + "\n", encoding="utf-8")


def test_every_tree_is_told_of() -> None:
    assert {tree.stem for tree in TREES.glob("*.txt")} == set(TOKENS)


@pytest.mark.parametrize("tree", TOKENS)
def test_links_lead_somewhere(plant: Callable[[str], list[Device]], tree: str, tmp_path: Path) -> None:
    plant(tree)
    links = [path for path in (tmp_path / tree).rglob("*") if path.is_symlink()]
    assert links
    assert [str(link) for link in links if not link.exists()] == []


@pytest.mark.parametrize("tree", TOKENS)
def test_each_microphone_is_offered_by_the_most_lasting_name_that_is_its_alone(
    plant: Callable[[str], list[Device]], tree: str
) -> None:
    known = plant(tree)
    assert [device.token for device in known] == TOKENS[tree]
    assert [find(device.token, known) for device in known] == known


@pytest.mark.parametrize(
    ("token", "before", "after"),
    [("usb-id:2886:0018:4C4B300A12", 4, 0), ("usb-path:1-2", 4, 0), ("alsa:PCH", 0, 1), ("alsa:ArrayUAC10", 4, 0)],
)
def test_a_reboot_that_counts_the_cards_anew_changes_no_name(
    plant: Callable[[str], list[Device]], token: str, before: int, after: int
) -> None:
    assert find(token, plant("laptop")).index == before
    assert find(token, plant("laptop-rebooted")).index == after


def test_twins_are_known_by_their_ports_and_not_by_what_alsa_calls_them(
    plant: Callable[[str], list[Device]],
) -> None:
    before, after = plant("twins"), plant("twins-rebooted")
    for port in ("usb-path:1-1.2", "usb-path:1-1.4"):
        assert find(port, before).index != find(port, after).index
    alsa = [name for name in find("usb-path:1-1.2", before).names if name.startswith("alsa:")]
    assert find(alsa[0], after).token == "usb-path:1-1.4", "why it is not offered"  # noqa: S105 - a device's name


def test_a_serial_number_that_two_have_names_neither(plant: Callable[[str], list[Device]]) -> None:
    with pytest.raises(SourceError, match=r"more than one microphone is called .* usb-path:3-1.4.1, usb-path:3-4"):
        find("usb-id:0d8c:0005:0001", plant("hubs"))


@pytest.mark.parametrize("token", ["usb-id:2109:2813:HUB00031", "usb-path:3-1", "usb-path:3-1.4", "usb-path:usb3"])
def test_a_hub_is_no_microphone(plant: Callable[[str], list[Device]], token: str) -> None:
    with pytest.raises(SourceError, match="no microphone is called"):
        find(token, plant("hubs"))


def test_a_card_on_the_board_of_a_raspberry_pi_is_no_usb_device(plant: Callable[[str], list[Device]]) -> None:
    names = find("alsa:seeed2micvoicec", plant("pi")).names
    assert not [name for name in names if name.startswith("usb-")]
