from __future__ import annotations

import json
import multiprocessing
import os
import struct
import zipfile
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from safetensors.numpy import load, save

from edge_asd.archive import LARGEST, store
from edge_asd.bundle import BUILTIN, CARD, GOLDEN, LIMITS, MANIFEST, open_bundle, sign_bundle
from edge_asd.errors import BundleCorrupt, BundleError, BundleOutdated, BundleUntrusted, GoldenMismatch
from edge_asd.model.opening import bundle_path, open_model, unsigned
from edge_asd.model.shelf import Shelf
from edge_asd.signature import Trust, make_keys
from tests.example import MACHINE, bundle, contents, resealed

if TYPE_CHECKING:
    from pathlib import Path

    from edge_asd.model.shelf import Installed

ANYBODY = Trust(allow_unsigned=True)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three versions of one model, a day apart; only read."""
    folder = tmp_path_factory.mktemp("toys")
    files = contents(bundle(folder / "toy.asd"))
    return [
        resealed(
            folder / f"v{day}.asd", files, lambda m, day=day: m.update(version=f"{day}", created=f"2026-01-0{day}")
        )
        for day in (1, 2, 3)
    ]


@pytest.fixture(scope="module")
def signed(toys: list[Path]) -> tuple[Path, Trust]:
    """The first of them with a signature, and whose that is; only read."""
    folder = toys[0].parent
    key = make_keys(folder / "key")
    sign_bundle(toys[0], folder / "key", folder / "signed.asd")
    return folder / "signed.asd", Trust.of([key])


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Empty, and content with anything."""
    return Shelf(tmp_path / "state" / "models", ANYBODY)


def roles(shelf: Shelf) -> dict[str, str]:
    """Version by role, of the one name there is."""
    return {model.role: model.version for model in shelf.list()}


def lying(shelf: Shelf) -> set[str]:
    """What is in the folder besides the lock, and elsewhere in the state folder."""
    return {path.name for path in shelf.folder.parent.rglob("*") if path.is_file()} - {"lock"}


# What it does ---------------------------------------------------------------------------------------------------------


def test_the_first_of_a_name_is_in_use_at_once(shelf: Shelf, toys: list[Path]) -> None:
    installed = shelf.install(toys[0])

    assert installed == shelf.current("toy") == shelf.find("toy", installed.digest[:8])
    assert (installed.role, installed.version, installed.signer, installed.pinned) == ("current", "1", None, False)
    assert installed.path == shelf.path("toy") == shelf.folder / f"{open_bundle(toys[0]).digest[:16]}.asd"
    assert installed.path.read_bytes() == toys[0].read_bytes()


def test_another_waits_until_it_is_activated(shelf: Shelf, toys: list[Path]) -> None:
    shelf.install(toys[0])

    assert shelf.install(toys[1]).role == "candidate"
    assert shelf.current("toy").version == "1"
    assert shelf.activate("toy").version == "2"
    assert roles(shelf) == {"current": "2", "previous": "1"}


def test_a_rollback_swaps(shelf: Shelf, toys: list[Path]) -> None:
    shelf.install(toys[0])
    shelf.install(toys[1])
    shelf.activate("toy")

    assert shelf.rollback("toy").version == "1"
    assert roles(shelf) == {"current": "1", "previous": "2"}
    assert shelf.rollback("toy").version == "2"


def test_nothing_is_kept_that_has_no_role(shelf: Shelf, toys: list[Path]) -> None:
    shelf.install(toys[0])
    for toy in (toys[1], toys[2]):
        shelf.install(toy)
    assert roles(shelf) == {"current": "1", "candidate": "3"}

    digest = shelf.find("toy").digest
    assert [model.digest for model in shelf.prune()] == [digest]
    assert roles(shelf) == {"current": "1"}
    assert lying(shelf) == {"shelf.json", shelf.path("toy").name}
    with pytest.raises(BundleError, match=r"there is not a candidate of toy; installed: \w{16} \(current, version 1\)"):
        shelf.activate("toy")


def test_installing_what_is_there_changes_no_role(shelf: Shelf, toys: list[Path]) -> None:
    shelf.install(toys[0])
    shelf.install(toys[1])
    before = shelf.list()

    assert [shelf.install(toy).role for toy in toys[:2]] == ["current", "candidate"]
    assert shelf.list() == before


def test_names_are_apart(shelf: Shelf, toys: list[Path], tmp_path: Path) -> None:
    shelf.install(toys[0])
    other = shelf.install(resealed(tmp_path / "o.asd", contents(toys[0]), lambda m: m.update(name="a.B_2-c")))

    assert (other.name, other.role) == ("a.B_2-c", "current")
    assert [model.name for model in shelf.list()] == ["a.B_2-c", "toy"]
    with pytest.raises(
        BundleError, match=r"no model 'fan' is installed in .*models \(installed: a\.B_2-c, toy\); edge"
    ):
        shelf.path("fan")


def test_an_empty_shelf_says_how_to_fill_it(shelf: Shelf) -> None:
    assert shelf.list() == ()
    with pytest.raises(BundleError, match=r"no model 'toy' is installed .* \(none is\); edge-asd model install FILE"):
        shelf.current("toy")


def test_what_root_installs_is_the_owners_of_the_state_folder(shelf: Shelf, toys: list[Path]) -> None:
    """For everybody else that is so anyway."""
    shelf.folder.parent.mkdir()
    if os.geteuid() == 0:
        os.chown(shelf.folder.parent, 65_534, 65_534)
    owner = shelf.folder.parent.stat().st_uid

    shelf.install(toys[0])

    assert {path.stat().st_uid for path in (shelf.folder, *shelf.folder.iterdir())} == {owner}


class Use(RuleBasedStateMachine):
    """Whatever is done in whatever order, the shelf is what a list of three says."""

    toys: list[Path]
    folder: Path

    def __init__(self) -> None:
        super().__init__()
        for path in self.folder.glob("*"):
            path.unlink()
        self.shelf = Shelf(self.folder, ANYBODY)
        self.current = self.previous = self.candidate = None
        self.floor = None

    @rule(day=st.sampled_from([1, 2, 3]))
    def install(self, day: int) -> None:
        """Any version."""
        if self.floor and day < self.current:
            with pytest.raises(BundleOutdated):
                self.shelf.install(self.toys[day - 1])
            return
        self.shelf.install(self.toys[day - 1])
        if self.current is None:
            self.current = day
        elif day not in {self.current, self.previous}:
            self.candidate = day

    @precondition(lambda self: self.candidate)
    @rule()
    def activate(self) -> None:
        """The candidate."""
        if self.floor and self.candidate < self.current:
            with pytest.raises(BundleOutdated):
                self.shelf.activate("toy")
            return
        self.shelf.activate("toy")
        self.current, self.previous, self.candidate = self.candidate, self.current, None

    @precondition(lambda self: self.previous)
    @rule()
    def rollback(self) -> None:
        """To the previous."""
        if self.floor and self.previous < self.floor:
            with pytest.raises(BundleOutdated):
                self.shelf.rollback("toy")
            return
        self.shelf.rollback("toy")
        self.current, self.previous = self.previous, self.current

    @precondition(lambda self: self.current)
    @rule(pinned=st.booleans())
    def pin(self, pinned: bool) -> None:  # noqa: FBT001 - drawn
        """Or not."""
        (self.shelf.pin if pinned else self.shelf.unpin)("toy")
        self.floor = self.current if pinned else None

    @rule()
    def prune(self) -> None:
        """Candidates go."""
        self.shelf.prune()
        self.candidate = None

    @invariant()
    def is_as_it_should_be(self) -> None:
        """On the disk, too."""
        wanted = {"current": self.current, "previous": self.previous, "candidate": self.candidate}
        found = self.shelf.list()
        assert {model.role: int(model.version) for model in found} == {r: day for r, day in wanted.items() if day}
        assert all(model.pinned is (self.floor is not None) for model in found)
        assert lying(self.shelf) - {"shelf.json"} == {model.path.name for model in found}


def test_any_order_of_changes_leaves_what_it_should(toys: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    case = type("Case", (Use,), {"toys": toys, "folder": folder}).TestCase
    case.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
    folder.mkdir()
    case().runTest()


# What it refuses ------------------------------------------------------------------------------------------------------


def refused(shelf: Shelf, file: Path, kind: type[BundleError], match: str) -> None:
    """Nothing is left behind, and the person's own path is told."""
    before = lying(shelf), shelf.list()
    with pytest.raises(kind, match=match) as told:
        shelf.install(file)
    assert type(told.value) is kind
    assert str(file) in str(told.value)
    assert (lying(shelf), shelf.list()) == before


def test_unsigned_and_foreign_bundles_are_refused(shelf: Shelf, toys: list[Path], tmp_path: Path) -> None:
    plant, _ = make_keys(tmp_path / "plant"), make_keys(tmp_path / "foreign")
    strict = replace(shelf, trust=Trust.of([plant]))
    sign_bundle(toys[0], tmp_path / "foreign", tmp_path / "foreign.asd")
    sign_bundle(toys[0], tmp_path / "plant", tmp_path / "plant.asd")

    refused(strict, toys[0], BundleUntrusted, "is not signed")
    refused(strict, tmp_path / "foreign.asd", BundleUntrusted, "which is not trusted here")
    assert strict.install(tmp_path / "plant.asd").signer == plant.id


def test_who_is_trusted_no_longer_is_not_activated(shelf: Shelf, toys: list[Path], tmp_path: Path) -> None:
    key = make_keys(tmp_path / "key")
    for number, toy in enumerate(toys[:2]):
        sign_bundle(toy, tmp_path / "key", tmp_path / f"{number}.asd")
        replace(shelf, trust=Trust.of([key])).install(tmp_path / f"{number}.asd")

    with pytest.raises(BundleUntrusted, match=f"signed by key {key.id}, which is not trusted here"):
        replace(shelf, trust=Trust()).activate("toy")


def test_an_older_one_is_refused_where_the_name_is_pinned(shelf: Shelf, toys: list[Path], tmp_path: Path) -> None:
    """Signed by whom we trust, as it once was."""
    key = make_keys(tmp_path / "key")
    signed = replace(shelf, trust=Trust.of([key]))
    for number, toy in enumerate(toys):
        sign_bundle(toy, tmp_path / "key", tmp_path / f"{number}.asd")
    signed.install(tmp_path / "1.asd")
    assert signed.pin("toy").pinned

    refused(
        signed,
        tmp_path / "0.asd",
        BundleOutdated,
        "was created 2026-01-01T00:00:00.00:00, and its name is pinned: nothing",
    )
    signed.install(tmp_path / "2.asd")
    signed.activate("toy")
    refused(signed, tmp_path / "0.asd", BundleOutdated, "nothing from before 2026-01-03")
    assert signed.rollback("toy").version == "2"  # to where it was pinned, and no further
    signed.unpin("toy")
    assert signed.install(tmp_path / "0.asd").role == "candidate"


def test_a_candidate_from_before_the_pin_is_not_activated(shelf: Shelf, toys: list[Path]) -> None:
    shelf.install(toys[1])
    shelf.install(toys[0])
    shelf.pin("toy")

    with pytest.raises(BundleOutdated, match=r"\w{16}\.asd: was created 2026-01-01T00:00:00\+00:00"):
        shelf.activate("toy")


def test_a_model_that_scores_otherwise_here_is_refused(shelf: Shelf, toys: list[Path], tmp_path: Path) -> None:
    files = contents(toys[0])
    golden = load(files[GOLDEN])
    golden[f"{MACHINE}/z"] = golden[f"{MACHINE}/z"] + np.float64(1)
    path = resealed(tmp_path / "b.asd", files | {GOLDEN: save(golden)})

    refused(shelf, path, GoldenMismatch, rf"b\.asd: head '{MACHINE}' scores its golden waveform")


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "", ".hidden", "a b", "ä", "n" * 65, "a/b", "a\n"])
def test_a_name_that_says_too_much_is_refused(shelf: Shelf, toys: list[Path], tmp_path: Path, name: str) -> None:
    path = resealed(tmp_path / "b.asd", contents(toys[0]), lambda m: m.update(name=name))

    refused(shelf, path, BundleError, r"b\.asd: is called .*; a name to install has 1 to 64 letters")


def test_a_model_of_no_time_is_refused(shelf: Shelf, toys: list[Path], tmp_path: Path) -> None:
    path = resealed(tmp_path / "b.asd", contents(toys[0]), lambda m: m.update(created="yesterday"))

    refused(shelf, path, BundleError, r"b\.asd: was created 'yesterday', which is no ISO time")


def test_what_is_damaged_away_or_too_large_is_refused(shelf: Shelf, toys: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "b.asd"
    refused(shelf, path, BundleError, r"b\.asd: cannot be installed: no such file or directory")
    store(path, contents(toys[0]) | {CARD: b"other"})
    refused(shelf, path, BundleCorrupt, r"b\.asd: CARD\.md has digest")
    with path.open("wb") as sparse:
        sparse.truncate(10_000_000_000)
    refused(shelf, path, BundleError, rf"has 10000000000 bytes; a bundle has at most {LARGEST}")
    resealed(path, contents(toys[0]), lambda m: m.update(schema="edge_asd.bundle/2"))
    refused(shelf, path, BundleError, r"b\.asd: manifest not understood at schema")
    refused(shelf, tmp_path, BundleError, "is no file")


@settings(max_examples=100)
@given(data=st.data())
def test_a_signed_bundle_with_another_byte_anywhere_is_refused(
    signed: tuple[Path, Trust],
    tmp_path_factory: pytest.TempPathFactory,
    data: Any,  # noqa: ANN401 - of hypothesis
) -> None:
    whole, trust = signed
    folder = tmp_path_factory.mktemp("flipped")
    content = bytearray(whole.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / "b.asd").write_bytes(content)

    shelf = Shelf(folder / "state" / "models", trust)
    with pytest.raises(BundleError, match=r"b\.asd"):
        shelf.install(folder / "b.asd")
    assert not lying(shelf)


def test_ten_gigabytes_of_zeros_made_small_are_refused_though_the_rest_is_signed(
    shelf: Shelf, signed: tuple[Path, Trust], tmp_path: Path
) -> None:
    whole, trust = signed
    files = contents(whole)
    with (tmp_path / "b.asd").open("wb") as file:
        file.write(deflated_zeros(CARD, 10_000))
        with zipfile.ZipFile(file, "a") as archive:
            for name in sorted(files.keys() - {CARD}):
                archive.writestr(zipfile.ZipInfo(name), files[name])

    assert (tmp_path / "b.asd").stat().st_size < 20_000_000
    refused(replace(shelf, trust=trust), tmp_path / "b.asd", BundleCorrupt, rf"{CARD} is compressed")


def deflated_zeros(name: str, megabytes: int) -> bytes:
    """An entry of a zip: a million zeros, packed once, said again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = piece * megabytes + packer.flush()
    sizes = struct.pack("<2H2Q", 1, 16, megabytes * 1_000_000, len(packed))
    head = struct.pack("<4s5H3L2H", b"PK\x03\x04", 45, 0, 8, 0, 33, 0, 2**32 - 1, 2**32 - 1, len(name), len(sizes))
    return head + name.encode() + sizes + packed


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/passwd", "a/b", "C:\\x", "..", ".hidden", "a\0b"])
def test_a_file_that_is_called_like_a_path_is_refused(
    shelf: Shelf, tmp_path: Path, toys: list[Path], name: str
) -> None:
    store(tmp_path / "b.asd", contents(toys[0]) | {"Q" * len(name): b"x"})
    content = (tmp_path / "b.asd").read_bytes()
    (tmp_path / "b.asd").write_bytes(content.replace(b"Q" * len(name), name.encode()))

    refused(shelf, tmp_path / "b.asd", BundleCorrupt, "a file in it is called .*: letters, digits")


def test_a_huge_manifest_is_refused_unread(shelf: Shelf, toys: list[Path], tmp_path: Path) -> None:
    huge = b"[" * (LIMITS[MANIFEST] + 1)
    store(tmp_path / "b.asd", contents(toys[0]) | {MANIFEST: huge})

    refused(shelf, tmp_path / "b.asd", BundleError, rf"manifest\.json has {len(huge)} bytes, and may have")


def test_a_model_that_rotted_on_the_shelf_is_not_activated(shelf: Shelf, toys: list[Path]) -> None:
    shelf.install(toys[0])
    waiting = shelf.install(toys[1])
    waiting.path.write_bytes(waiting.path.read_bytes()[:-100])

    with pytest.raises(BundleCorrupt, match="is no bundle, or is damaged"):
        shelf.activate("toy")
    assert shelf.current("toy").version == "1"


def test_a_model_that_was_exchanged_on_the_shelf_is_not_used(shelf: Shelf, toys: list[Path]) -> None:
    """By another that is whole and as well signed: an old one."""
    shelf.install(toys[1])
    waiting = shelf.install(toys[2])
    for model in (waiting, shelf.current("toy")):
        model.path.write_bytes(toys[0].read_bytes())

    with pytest.raises(BundleCorrupt, match="is another bundle than was installed; install toy again"):
        shelf.activate("toy")
    with pytest.raises(BundleCorrupt, match="is another bundle than was installed; install toy again"):
        open_model("installed:toy", shelf.folder.parent, ANYBODY)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": "edge_asd.shelf/2"}', '{"slots": {"toy": {"current": "../x", "models": {}}}}']
)
def test_a_shelf_that_cannot_be_read_is_not_overwritten(shelf: Shelf, toys: list[Path], text: str) -> None:
    shelf.install(toys[0])
    (shelf.folder / "shelf.json").write_text(text)
    before = lying(shelf)

    with pytest.raises(
        BundleError, match=r"shelf\.json: cannot be read .*; delete .*models and install the models again"
    ):
        shelf.install(toys[1])
    assert lying(shelf) == before


# Others at the same time ----------------------------------------------------------------------------------------------


def _install(folder: Path, file: Path) -> None:
    Shelf(folder, ANYBODY).install(file)


def test_those_who_install_at_once_wait_for_each_other(shelf: Shelf, toys: list[Path], tmp_path: Path) -> None:
    named = [
        resealed(tmp_path / f"{n}.asd", contents(toys[0]), lambda m, n=n: m.update(name=f"model{n}")) for n in range(3)
    ]
    fork = multiprocessing.get_context("forkserver")
    others = [fork.Process(target=_install, args=(shelf.folder, path)) for path in named]
    for other in others:
        other.start()
    for other in others:
        other.join(60)

    assert [(model.name, model.role) for model in shelf.list()] == [(f"model{n}", "current") for n in range(3)]
    assert len(lying(shelf)) == 4


def test_what_a_killed_one_left_is_swept_away(shelf: Shelf, toys: list[Path]) -> None:
    installed: Installed = shelf.install(toys[0])
    for name in ("incoming.partial", "shelf.json.partial", "0123456789abcdef.asd"):
        (shelf.folder / name).write_bytes(b"half of it")

    shelf.pin("toy")

    assert lying(shelf) == {"shelf.json", installed.path.name}
    assert json.loads((shelf.folder / "shelf.json").read_text())["slots"]["toy"]["current"] == installed.digest


# From the config ------------------------------------------------------------------------------------------------------


def test_a_reference_is_a_name_or_a_path(shelf: Shelf, toys: list[Path]) -> None:
    installed = shelf.install(toys[0])
    state = shelf.folder.parent

    assert bundle_path("builtin", None) == BUILTIN
    assert bundle_path(str(toys[0]), None) == toys[0]
    assert bundle_path("installed:toy", state) == installed.path
    assert open_model("installed:toy", state, ANYBODY).digest == installed.digest
    with pytest.raises(BundleError, match="installed models lie in state_dir, and there is none"):
        bundle_path("installed:toy", None)


def test_the_built_in_bundle_needs_nobodys_word(toys: list[Path]) -> None:
    for builtin in ("builtin", str(BUILTIN)):
        assert not unsigned(open_model(builtin, None, Trust()))
    assert unsigned(open_model(str(toys[0]), None, ANYBODY))
    with pytest.raises(BundleUntrusted, match="is not signed"):
        open_model(str(toys[0]), None, Trust())
