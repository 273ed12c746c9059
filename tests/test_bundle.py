from __future__ import annotations

import re
import stat
import zipfile
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from edge_asd.bundle import (
    CARD,
    GOLDEN,
    HEADS,
    LARGEST,
    MANIFEST,
    TOLERANCE,
    Manifest,
    Thresholds,
    golden_scores,
    open_bundle,
    store,
    write_bundle,
)
from edge_asd.errors import BundleCorrupt, BundleError, EdgeAsdError, GoldenMismatch, HeadUnknown
from tests.example import COARSE, MACHINE, SECOND, bundle, contents, head, manifest, noise, resealed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that is only read."""
    path = bundle(tmp_path_factory.mktemp("bundle") / "toy.asd")
    path.chmod(stat.S_IREAD)
    return path


# What is kept ---------------------------------------------------------------------------------------------------------


def test_what_is_opened_scores_as_what_was_written(toy: Path) -> None:
    scorer = open_bundle(toy).scorer(MACHINE)
    original = replace(scorer, head=head(SECOND))

    for seed, level in [(200, 0.05), (201, 0.2), (202, 0.001)]:
        clip = noise(seed, 16_000, level)
        assert scorer.score(clip) == original.score(clip)


def test_the_manifest_says_what_was_written(toy: Path) -> None:
    opened = open_bundle(toy)

    assert opened.manifest.model_copy(update={"files": {}}) == manifest()
    assert (opened.manifest.windows, opened.manifest.front_end) == (SECOND, COARSE)
    assert set(opened.manifest.files) == {HEADS, GOLDEN, CARD}
    assert opened.scorer().alarm == manifest().heads[MACHINE].thresholds.alarm


def test_every_field_of_a_head_survives(toy: Path) -> None:
    opened, written = open_bundle(toy).heads[MACHINE], head(SECOND)

    assert [part.spec for part in opened.parts] == [part.spec for part in written.parts]
    for mine, other in zip(opened.parts, written.parts, strict=True):
        assert (mine.centre, mine.spread) == (other.centre, other.spread)
        for field in fields(mine.detector):
            np.testing.assert_array_equal(getattr(mine.detector, field.name), getattr(other.detector, field.name))
    assert opened.calibration.surprise(3.0) == written.calibration.surprise(3.0)


def test_the_same_content_gives_the_same_bytes(toy: Path, tmp_path: Path) -> None:
    assert bundle(tmp_path / "again.asd").read_bytes() == toy.read_bytes()


def test_the_digest_is_that_of_the_content(toy: Path, tmp_path: Path) -> None:
    again = bundle(tmp_path / "again.asd")
    changed = resealed(tmp_path / "changed.asd", contents(toy) | {CARD: b"# Another card\n"})

    assert open_bundle(again).digest == open_bundle(toy).digest != open_bundle(changed).digest


def test_a_bundle_is_a_stored_zip_without_code(toy: Path) -> None:
    with zipfile.ZipFile(toy) as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert set(archive.namelist()) == {MANIFEST, HEADS, GOLDEN, CARD}


def test_a_bundle_that_cannot_be_written_whole_leaves_the_old_one(tmp_path: Path) -> None:
    path = bundle(tmp_path / "toy.asd")
    before = path.read_bytes()

    with pytest.raises(TypeError):
        store(path, {CARD: b"new", HEADS: None})  # breaks off after the first file
    assert path.read_bytes() == before
    bundle(path)
    assert [each.name for each in tmp_path.iterdir()] == ["toy.asd"]


# What is damaged ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [HEADS, GOLDEN, CARD])
def test_a_file_with_another_byte_is_named(toy: Path, tmp_path: Path, name: str) -> None:
    files = contents(toy)
    store(tmp_path / "b.asd", files | {name: files[name][:-1] + bytes([files[name][-1] ^ 1])})

    with pytest.raises(BundleCorrupt, match=rf"b\.asd: {name} has digest \w+…, the manifest says \w+…; copy it here"):
        open_bundle(tmp_path / "b.asd")


@pytest.mark.parametrize("name", [HEADS, GOLDEN, CARD])
def test_a_missing_file_is_named(toy: Path, tmp_path: Path, name: str) -> None:
    files = contents(toy)
    del files[name]
    store(tmp_path / "b.asd", files)

    with pytest.raises(BundleCorrupt, match=f"files and manifest disagree about {name}; copy the bundle here again"):
        open_bundle(tmp_path / "b.asd")


def test_a_file_too_many_is_named(toy: Path, tmp_path: Path) -> None:
    store(tmp_path / "b.asd", contents(toy) | {"run_me.py": b"import os"})

    with pytest.raises(BundleCorrupt, match=r"files and manifest disagree about run_me\.py"):
        open_bundle(tmp_path / "b.asd")


def test_a_bundle_without_a_manifest_is_none(toy: Path, tmp_path: Path) -> None:
    files = contents(toy)
    del files[MANIFEST]
    store(tmp_path / "b.asd", files)

    with pytest.raises(BundleError, match=r"b\.asd: manifest not understood at manifest\.json"):
        open_bundle(tmp_path / "b.asd")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", bytes(10_000)], ids=["empty", "text", "pk", "zeros"])
def test_what_is_no_zip_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.asd").write_bytes(content)

    with pytest.raises(BundleCorrupt, match=r"b\.asd is no bundle, or is damaged \(.+\); copy it here again"):
        open_bundle(tmp_path / "b.asd")


def test_a_bundle_that_is_not_there_is_told_with_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle at .*away\.asd; export one with: python -m train export"):
        open_bundle(tmp_path / "away.asd")


def test_a_folder_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        open_bundle(tmp_path)


@settings(max_examples=50)
@given(st.data())
def test_a_bundle_that_was_cut_off_is_damaged(toy: Path, tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:  # noqa: ANN401 - of hypothesis
    whole = toy.read_bytes()
    path = tmp_path_factory.getbasetemp() / "cut.asd"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])

    with pytest.raises(BundleCorrupt):
        open_bundle(path)


@settings(max_examples=300)
@given(st.data())
def test_a_changed_byte_anywhere_is_noticed_or_means_nothing(
    toy: Path,
    tmp_path_factory: pytest.TempPathFactory,
    data: Any,  # noqa: ANN401 - of hypothesis
) -> None:
    """The zip's directory, where most bytes matter, is as likely to be hit as all the rest."""
    content = bytearray(toy.read_bytes())
    directory = content.index(b"PK\x01\x02")
    place = st.one_of(st.integers(0, len(content) - 1), st.integers(directory, len(content) - 1))
    content[data.draw(place)] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "flipped.asd"
    path.write_bytes(content)

    try:
        digest = open_bundle(path).digest
    except BundleError:
        return
    assert digest == open_bundle(toy).digest


def test_a_zip_that_claims_too_much_is_refused_unread(toy: Path, tmp_path: Path) -> None:
    content = bytearray(toy.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (LARGEST + 1).to_bytes(4, "little")
    (tmp_path / "bomb.asd").write_bytes(content)

    with pytest.raises(BundleError, match=rf"bomb\.asd: claims \d+ bytes; a bundle holds at most {LARGEST}"):
        open_bundle(tmp_path / "bomb.asd")


# What is not understood -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda m: m.update(schema="edge_asd.bundle/2"), "schema"),
        (lambda m: m.update(colour="red"), "colour"),
        (lambda m: m["windows"].update(overlap=3), r"windows.*overlap"),
        (lambda m: m["front_end"].update(window="hamming"), r"front_end.*window"),
        (lambda m: m["heads"][MACHINE].update(secret=1), r"secret"),
        (lambda m: m["heads"][MACHINE]["parts"][0].update(detector="forest"), "detector"),
        (lambda m: m["heads"][MACHINE]["thresholds"].update(alarm=0), "alarm"),
        (lambda m: m["heads"][MACHINE]["thresholds"].update(decision=float("inf")), "decision"),
        (lambda m: m["windows"].update(segments=0), "windows"),
        (lambda m: m.update(heads={}), "heads"),
        (lambda m: m.pop("licence"), "licence"),
    ],
    ids=str,
)
def test_a_manifest_that_is_not_understood_is_told_with_its_place(
    toy: Path, tmp_path: Path, change: Callable[[Any], object], place: str
) -> None:
    path = resealed(tmp_path / "b.asd", contents(toy), change)

    with pytest.raises(BundleError, match=rf"b\.asd: manifest not understood at .*{place}.*: .+; was it exported by"):
        open_bundle(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_manifest_that_is_no_json_is_no_manifest(toy: Path, tmp_path: Path, content: bytes) -> None:
    store(tmp_path / "b.asd", contents(toy) | {MANIFEST: content})

    with pytest.raises(BundleError, match=r"manifest not understood at manifest\.json"):
        open_bundle(tmp_path / "b.asd")


@pytest.mark.parametrize(("name", "tensor"), [(HEADS, f"{MACHINE}/spectrum/whitening"), (GOLDEN, f"{MACHINE}/z")])
def test_a_missing_tensor_is_named(toy: Path, tmp_path: Path, name: str, tensor: str) -> None:
    files = contents(toy)
    tensors = load(files[name])
    del tensors[tensor]
    path = resealed(tmp_path / "b.asd", files | {name: save(tensors)})

    with pytest.raises(BundleError, match=rf"heads or golden vectors cannot be used \('{tensor}'\); export"):
        open_bundle(path)


@pytest.mark.parametrize(
    ("file", "tensor", "shape", "wanted"),
    [
        (HEADS, "indicators/feature_mean", (4,), "(3)"),
        (HEADS, "spectrum/feature_mean", (23,), "(24)"),
        (HEADS, "spectrum/whitening", (24, 23), "(24, 24)"),
        (HEADS, "neighbour/references", (24,), "(N, 24)"),
        (HEADS, "neighbour/references", (0, 24), "(N, 24)"),
        (HEADS, "neighbour/density", (19,), "(20)"),
        (HEADS, "neighbour/centre", (3,), "(2)"),
        (HEADS, "tail", (1,), "(2)"),
        (HEADS, "body", (5,), "(11)"),
        (GOLDEN, "z", (3,), "(4)"),
        (GOLDEN, "waveform", (0,), "(L)"),
    ],
)
def test_tensors_that_do_not_fit_each_other_are_named(
    toy: Path, tmp_path: Path, file: str, tensor: str, shape: tuple[int, ...], wanted: str
) -> None:
    files = contents(toy)
    tensors = load(files[file])
    tensors[f"{MACHINE}/{tensor}"] = np.zeros(shape, tensors[f"{MACHINE}/{tensor}"].dtype)
    path = resealed(tmp_path / "b.asd", files | {file: save(tensors)})

    with pytest.raises(
        BundleError, match=re.escape(f"({MACHINE}/{tensor} has the shape {shape}, not {wanted}); export")
    ):
        open_bundle(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda m: m["front_end"].update(sample_rate=48_000), "windows are at 16000 hertz, the front end at 48000"),
        (
            lambda m: m["heads"][MACHINE]["parts"][0].update(feature="embedding"),
            f"head {MACHINE} listens to a network, and there is none",
        ),
    ],
    ids=["rates", "network"],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    toy: Path, tmp_path: Path, change: Callable[[Any], object], complaint: str
) -> None:
    path = resealed(tmp_path / "b.asd", contents(toy), change)

    with pytest.raises(BundleError, match=complaint):
        open_bundle(path)


def test_tensors_that_are_none_are_refused(toy: Path, tmp_path: Path) -> None:
    path = resealed(tmp_path / "b.asd", contents(toy) | {HEADS: b"no tensors"})

    with pytest.raises(BundleError, match="heads or golden vectors cannot be used"):
        open_bundle(path)


def test_a_promised_network_must_be_there(toy: Path, tmp_path: Path) -> None:
    path = resealed(tmp_path / "b.asd", contents(toy), lambda m: m.update(backbone=True))

    with pytest.raises(BundleError, match=r"holds no int8 backbone; it has \[\]"):
        open_bundle(path)


# Heads and golden waveforms -------------------------------------------------------------------------------------------


def test_an_unknown_head_is_told_with_those_there_are(toy: Path) -> None:
    with pytest.raises(HeadUnknown, match=rf"toy\.asd: no head 'toy/fan/00'; choose one of {MACHINE}"):
        open_bundle(toy).scorer("toy/fan/00")


def test_of_several_heads_one_must_be_named(toy: Path, tmp_path: Path) -> None:
    opened = open_bundle(toy)
    twice = dict.fromkeys(("a", "b"), opened.heads[MACHINE])
    cards = dict.fromkeys(twice, opened.manifest.heads[MACHINE])
    described = opened.manifest.model_copy(update={"heads": cards})
    write_bundle(tmp_path / "b.asd", described, {}, twice, dict.fromkeys(twice, opened.golden[MACHINE]), "")
    several = open_bundle(tmp_path / "b.asd")

    assert several.key("b") == "b"
    with pytest.raises(HeadUnknown, match="no head was named; choose one of a, b"):
        several.scorer()


def changed_tensor(toy: Path, path: Path, file: str, tensor: str, by: float) -> Path:
    """One that is consistent with its digests."""
    files = contents(toy)
    tensors = load(files[file])
    tensors[tensor] = tensors[tensor] + np.asarray(by, tensors[tensor].dtype)
    return resealed(path, files | {file: save(tensors)})


@pytest.mark.parametrize(
    ("file", "tensor", "by"),
    [
        (GOLDEN, f"{MACHINE}/z", 0.5),
        (HEADS, f"{MACHINE}/indicators/mean", 1.0),
        (HEADS, f"{MACHINE}/neighbour/density", 1.0),
    ],
)
def test_other_numbers_than_where_it_was_exported_are_refused(
    toy: Path, tmp_path: Path, file: str, tensor: str, by: float
) -> None:
    path = changed_tensor(toy, tmp_path / "b.asd", file, tensor, by)

    for precision in ("int8", "fp32"):  # without a network there is but one graph: none
        with pytest.raises(GoldenMismatch, match=rf"head '{MACHINE}' scores its golden waveform \[.*tolerance 0\.1\)"):
            open_bundle(path, precision).scorer()


@pytest.mark.parametrize(("file", "tensor"), [(GOLDEN, f"{MACHINE}/z"), (HEADS, f"{MACHINE}/spectrum/centre")])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(toy: Path, tmp_path: Path, file: str, tensor: str, value: float) -> None:
    path = changed_tensor(toy, tmp_path / "b.asd", file, tensor, value)

    with pytest.raises(BundleError, match=rf"cannot be used \({tensor} holds NaN or infinity\)"):
        open_bundle(path)


def test_numbers_within_the_tolerance_are_accepted(toy: Path, tmp_path: Path) -> None:
    path = changed_tensor(toy, tmp_path / "b.asd", GOLDEN, f"{MACHINE}/z", 0.9 * TOLERANCE)
    open_bundle(path).scorer()


def test_the_golden_scores_are_the_fused_one_and_those_of_the_parts(toy: Path) -> None:
    opened = open_bundle(toy)
    z = golden_scores(opened.scorer(), opened.golden[MACHINE].waveform)

    np.testing.assert_array_equal(z, opened.golden[MACHINE].z)
    assert z[0] == pytest.approx(z[1:].mean())


def test_another_on_delay_shares_the_same_surprise() -> None:
    thresholds = Thresholds(decision=1.0, alarm=2.0, on_delay=3)

    assert [thresholds.alarm_for(n) for n in (1, 2, 3, 6)] == [6.0, 3.0, 2.0, 1.0]


def test_every_complaint_about_a_bundle_is_one_of_ours() -> None:
    assert all(issubclass(kind, BundleError) for kind in (BundleCorrupt, GoldenMismatch, HeadUnknown))
    assert issubclass(BundleError, EdgeAsdError)


def test_a_manifest_is_never_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        manifest().name = "other"
    assert Manifest.model_validate(manifest().model_dump(by_alias=True)) == manifest()
