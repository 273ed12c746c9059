from __future__ import annotations

import json
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

from edge_asd.archive import LARGEST, store
from edge_asd.bundle import (
    CARD,
    GOLDEN,
    HEADS,
    MANIFEST,
    NORMALS,
    TOLERANCE,
    Golden,
    Manifest,
    Normals,
    Thresholds,
    golden_scores,
    open_bundle,
    read_normals,
    write_bundle,
)
from edge_asd.errors import BundleCorrupt, BundleError, EdgeAsdError, GoldenMismatch, HeadUnknown
from edge_asd.score.backbone import Backbone
from edge_asd.score.centre import ConditionCentres
from edge_asd.score.gaussian import BandGaussians, DomainMoments, Gaussian
from edge_asd.score.head import Fusion, Member, fit_head
from edge_asd.score.likelihood import AsItIs, LargestOfMixture, Mixture, OwnClasses, Sigmoid, Value
from edge_asd.score.listener import Listener, evidence
from edge_asd.score.neighbour import Knn, LocalDensity
from edge_asd.score.part import DETECTORS, STATISTICS_PARTS, Normal, PartSpec, fit_part
from tests.example import COARSE, MACHINE, SECOND, bundle, contents, head, manifest, noise, resealed
from tests.network import several

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_asd.bundle import Precision
    from edge_asd.score.detector import Backend, Detector
    from edge_asd.score.head import Head
    from edge_asd.score.part import Part


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


def heard(seed: int, network: Backbone | None = None) -> Normal:
    """A clip of one of five recordings, targets and conditions among them."""
    clip = evidence(SECOND, COARSE, network, noise(seed, SECOND.clip))
    return Normal(clip, str(seed % 5), seed % 4 == 0, str(seed % 3))


def mixtures(kind: type[Mixture]) -> Detector:
    """Of the spectrum; made up."""
    rng = np.random.default_rng(0)
    return kind(*(rng.standard_normal(shape).astype(np.float32) for shape in ((2,), (2, 24), (2, 24, 24))))


DEVICE: list[Backend] = [
    *(Knn(3), Knn(2, by_domain=True), LocalDensity(), LocalDensity(ratio=False), Gaussian()),
    *(DomainMoments(), DomainMoments(by_row=True), BandGaussians(), BandGaussians(average=True)),
    *(ConditionCentres(), ConditionCentres(cosine=True), OwnClasses((3, 4)), OwnClasses((3, 4), odds=True)),
]


def every_part() -> list[Part]:
    """One for each detector there is, all of the spectrum."""
    normals = [heard(seed) for seed in range(20)]
    parts = [fit_part(PartSpec(b.detector, "spectrum", b.detector), normals, b)[0] for b in DEVICE]
    plain = parts[0]
    for name, made in (
        ("mixture", mixtures(Mixture)),
        ("mixture_maximum", mixtures(LargestOfMixture)),
        ("sigmoid", Sigmoid(np.eye(24, dtype=np.float32)[0])),
        ("value", Value()),
    ):
        parts.append(replace(plain, spec=PartSpec(name, "spectrum", name), detector=made))
    return parts


def written(path: Path, whole: Head, graphs: dict[Precision, bytes] | None = None, **said: object) -> Path:
    """A bundle of one head, its golden waveform scored."""
    card = (
        manifest()
        .heads[MACHINE]
        .model_copy(update={"parts": tuple(part.spec for part in whole.parts), "fusion": whole.fusion})
    )
    described = manifest().model_copy(update={"heads": {MACHINE: card}, "backbone": bool(graphs), **said})
    network = Backbone(graphs[described.precision], {"": COARSE}) if graphs else None
    waveform = (noise(99, SECOND.clip) * 32_768).astype(np.int16)
    golden = Golden(waveform, golden_scores(Listener(SECOND, COARSE, whole, 2.0, network), waveform))
    write_bundle(path, described, graphs or {}, {MACHINE: whole}, {MACHINE: golden}, "# Parts\n")
    return path


def test_every_detector_there_is_survives_and_scores_as_before(tmp_path: Path) -> None:
    parts = every_part()
    whole = replace(head(SECOND), parts=tuple(parts))

    opened = open_bundle(written(tmp_path / "b.asd", whole))

    assert {part.spec.detector for part in parts} == set(DETECTORS)
    for mine, other in zip(opened.heads[MACHINE].parts, parts, strict=True):
        assert type(mine.detector) is type(other.detector)
        for name in other.detector.AXES:
            np.testing.assert_array_equal(getattr(mine.detector, name), getattr(other.detector, name))
        np.testing.assert_array_equal(mine.z(heard(40).evidence), other.z(heard(40).evidence))
    opened.scorer()


@pytest.mark.parametrize("fusion", [Fusion("min"), Fusion(weights={"indicators": 0.0, "neighbour": 2.5})], ids=str)
def test_how_parts_are_fused_travels_with_them(tmp_path: Path, fusion: Fusion) -> None:
    whole = replace(head(SECOND), fusion=fusion)
    opened = open_bundle(written(tmp_path / "b.asd", whole))

    assert opened.manifest.heads[MACHINE].fusion == opened.heads[MACHINE].fusion == fusion
    assert opened.heads[MACHINE].judge(heard(40).evidence) == whole.judge(heard(40).evidence)
    assert whole.judge(heard(40).evidence).score != head(SECOND).judge(heard(40).evidence).score
    opened.scorer()


def test_what_is_as_usual_is_not_written_so_that_a_bundle_keeps_its_digest(toy: Path, tmp_path: Path) -> None:
    described = json.loads(contents(toy)[MANIFEST])
    explicit = resealed(
        tmp_path / "b.asd",
        contents(toy),
        lambda m: m.update(precision="int8") or m["heads"][MACHINE].update(fusion={"rule": "mean", "weights": {}}),
    )

    assert "precision" not in described
    assert "fusion" not in described["heads"][MACHINE]
    assert open_bundle(explicit).digest == open_bundle(resealed(tmp_path / "a.asd", contents(toy))).digest


def test_bundles_that_are_no_ensembles_do_not_speak_of_members(tmp_path: Path) -> None:
    path = written(tmp_path / "b.asd", replace(head(SECOND), fusion=Fusion(weights={"spectrum": 2.0})))
    said = json.loads(contents(path)[MANIFEST])["heads"][MACHINE]["fusion"]

    assert said == {"rule": "mean", "weights": {"spectrum": 2.0}}


def test_members_travel_with_their_parts(tmp_path: Path) -> None:
    plain = head(SECOND)
    parts = (replace(part, spec=replace(part.spec, name=f"floor.{part.spec.name}")) for part in plain.parts)
    fusion = Fusion("min", {"floor": 2.0}, {"floor": Member(weights={"neighbour": 0.0}, centre=0.5, spread=0.25)})
    opened = open_bundle(written(tmp_path / "b.asd", replace(plain, parts=tuple(parts), fusion=fusion)))

    assert opened.manifest.heads[MACHINE].fusion == opened.heads[MACHINE].fusion == fusion
    z = [part.z for part in opened.scorer().score(noise(40, SECOND.clip)).parts]
    score = opened.scorer().score(noise(40, SECOND.clip)).score
    assert score == pytest.approx(((z[0] + z[1]) / 2 - 0.5) / 0.25)
    changed = resealed(
        tmp_path / "c.asd",
        contents(opened.path),
        lambda m: m["heads"][MACHINE]["fusion"].update(members={"roof": {}}, weights={}),
    )
    with pytest.raises(BundleError, match=r"heads\.toy/noise/00: value error, no member with a part: floor, roof"):
        open_bundle(changed)


# What training clips scored -------------------------------------------------------------------------------------------

NUMBERS = np.random.default_rng(0)
SCORED = Normals(
    NUMBERS.standard_normal((20, 3)).astype(np.float32), NUMBERS.integers(0, 256, (20, 8)).astype(np.uint8)
)


def remembering(path: Path, normals: Normals) -> Path:
    bundle(path)
    opened = open_bundle(path)
    scored = {MACHINE: normals}
    write_bundle(path, opened.manifest, {}, opened.heads, opened.golden, "# Toy\n", scored)
    return path


def test_what_training_clips_scored_is_kept_and_changes_no_score(toy: Path, tmp_path: Path) -> None:
    path = remembering(tmp_path / "b.asd", SCORED)

    np.testing.assert_array_equal(read_normals(path)[MACHINE].z, SCORED.z)
    np.testing.assert_array_equal(read_normals(path)[MACHINE].clip, SCORED.clip)
    clip = noise(40, SECOND.clip)
    told, silent = open_bundle(path).scorer().score(clip), open_bundle(toy).scorer().score(clip)
    assert replace(told, why=replace(told.why, nearest=None)) == silent


def test_a_device_learns_from_it_what_the_nearest_normal_clip_is_called(tmp_path: Path) -> None:
    path = remembering(tmp_path / "b.asd", SCORED)
    assert open_bundle(path).scorer().score(noise(7, SECOND.clip)).why.nearest == bytes(SCORED.clip[7]).hex()


def test_what_training_clips_scored_is_verified_too(tmp_path: Path) -> None:
    files = contents(remembering(tmp_path / "b.asd", SCORED))
    store(tmp_path / "b.asd", files | {NORMALS: files[NORMALS][:-1] + bytes([files[NORMALS][-1] ^ 1])})
    with pytest.raises(BundleCorrupt, match=f"{NORMALS} has digest"):
        open_bundle(tmp_path / "b.asd")


@pytest.mark.parametrize(
    ("normals", "complaint"),
    [
        (Normals(SCORED.z[:, :2], SCORED.clip), r"toy/noise/00/z has the shape \(20, 2\), not \(20, 3\)"),
        (Normals(SCORED.z, SCORED.clip[:19]), r"toy/noise/00/clip has the shape \(19, 8\), not \(20, 8\)"),
        (Normals(SCORED.z, SCORED.clip[:, :7]), r"toy/noise/00/clip has the shape \(20, 7\), not \(20, 8\)"),
        (Normals(np.full_like(SCORED.z, np.nan), SCORED.clip), "z holds NaN or infinity"),
    ],
)
def test_what_no_training_clips_can_have_scored_is_refused(tmp_path: Path, normals: Normals, complaint: str) -> None:
    path = remembering(tmp_path / "b.asd", normals)
    with pytest.raises(
        BundleError, match=rf"b\.asd: {NORMALS} cannot be used \(.*{complaint}.*; export the bundle again"
    ):
        read_normals(path)


def test_a_bundle_need_not_know_what_training_clips_scored(toy: Path) -> None:
    with pytest.raises(BundleError, match=r"toy\.asd: does not say what its training clips scored.*; export it again"):
        read_normals(toy)


# What a network says --------------------------------------------------------------------------------------------------


NETWORK_SAYS = {
    PartSpec("network", "embedding", "nearest"): LocalDensity(),
    PartSpec("network.rows", "residual", "selective_rows"): DomainMoments(by_row=True),
    PartSpec("network.error", "error", "value"): AsItIs(),
}


def networked(path: Path, graphs: dict[Precision, bytes], precision: Precision) -> Path:
    """A bundle whose parts look at several outputs of one of its graphs."""
    network = Backbone(graphs[precision], {"": COARSE})
    whole, _ = fit_head({**STATISTICS_PARTS, **NETWORK_SAYS}, [heard(seed, network) for seed in range(20)])
    return written(path, whole, graphs, precision=precision)


@pytest.mark.train
def test_parts_may_look_at_several_outputs_and_at_one_of_them_twice(tmp_path: Path) -> None:
    opened = open_bundle(networked(tmp_path / "b.asd", {"int8": several()}, "int8"))
    verdict = opened.scorer().score(noise(40, SECOND.clip))

    assert opened.backbone is not None
    assert set(opened.backbone.widths) == {"embedding", "residual", "error"}
    assert [part.name for part in verdict.parts][3:] == ["network", "network.rows", "network.error"]
    assert len(verdict.segment_scores) == SECOND.segments


@pytest.mark.train
def test_a_bundle_may_carry_the_fp32_graph_alone(tmp_path: Path) -> None:
    path = networked(tmp_path / "b.asd", {"fp32": several()}, "fp32")

    assert open_bundle(path).precision == "fp32"
    open_bundle(path).scorer()
    with pytest.raises(BundleError, match=r"holds no int8 backbone; it has \['backbone\.fp32\.onnx'\]"):
        open_bundle(path, "int8")


@pytest.mark.train
@pytest.mark.parametrize(("own", "other"), [("int8", "fp32"), ("fp32", "int8")])
def test_only_the_graph_that_the_heads_belong_to_is_put_to_the_test(
    tmp_path: Path, own: Precision, other: Precision
) -> None:
    """The other one gives other numbers, and is for diagnosis."""
    path = networked(tmp_path / "b.asd", {own: several(), other: several(3.0)}, own)

    assert open_bundle(path).precision == own
    assert open_bundle(path, other).scorer().score(noise(40, SECOND.clip)).parts[-1].z > 5
    swapped = contents(path)
    names = [f"backbone.{precision}.onnx" for precision in (own, other)]
    resealed(path, swapped | {names[0]: swapped[names[1]]})
    with pytest.raises(GoldenMismatch):
        open_bundle(path).scorer()


@pytest.mark.train
def test_an_output_that_the_graph_does_not_have_is_named(tmp_path: Path) -> None:
    path = networked(tmp_path / "b.asd", {"int8": several()}, "int8")
    changed = resealed(path, contents(path), lambda m: m["heads"][MACHINE]["parts"][4].update(feature="latent"))

    with pytest.raises(BundleError, match=r"backbone gives \['embedding', 'error', 'residual'\], not latent; export"):
        open_bundle(changed)


@pytest.mark.train
def test_a_tensor_that_does_not_fit_its_output_is_named(tmp_path: Path) -> None:
    path = networked(tmp_path / "b.asd", {"int8": several()}, "int8")
    changed = resealed(path, contents(path), lambda m: m["heads"][MACHINE]["parts"][4].update(feature="error"))

    with pytest.raises(BundleError, match=r"network\.rows/feature_mean has the shape \(4,\), not \(1\)\)"):
        open_bundle(changed)


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
def test_a_changed_byte_anywhere_is_noticed(
    toy: Path,
    tmp_path_factory: pytest.TempPathFactory,
    data: Any,  # noqa: ANN401 - of hypothesis
) -> None:
    """The zip's directory, where a reader is most easily led astray, is as likely to be hit as all the rest."""
    content = bytearray(toy.read_bytes())
    directory = content.index(b"PK\x01\x02")
    place = st.one_of(st.integers(0, len(content) - 1), st.integers(directory, len(content) - 1))
    content[data.draw(place)] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "flipped.asd"
    path.write_bytes(content)

    with pytest.raises(BundleError, match=r"flipped\.asd"):
        open_bundle(path)


def test_ten_gigabytes_of_zeros_are_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "b.asd").open("wb") as sparse:
        sparse.truncate(10_000_000_000)

    with pytest.raises(BundleError, match=rf"b\.asd: has 10000000000 bytes; a bundle has at most {LARGEST}"):
        open_bundle(tmp_path / "b.asd")


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
        (lambda m: m["heads"][MACHINE].update(fusion={"rule": "median"}), "fusion"),
        (lambda m: m.update(precision="fp16"), "precision"),
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
        (lambda m: m["front_end"].update(sample_rate=48_000), "windows are at 16000 hertz, a front end at 48000"),
        (
            lambda m: m["heads"][MACHINE]["parts"][0].update(feature="embedding"),
            f"head {MACHINE} listens to a network, and there is none",
        ),
        (
            lambda m: m["heads"][MACHINE].update(fusion={"rule": "min", "weights": {"network": 1}}),
            "fusion weighs network; the parts are indicators, spectrum, neighbour",
        ),
        (
            lambda m: m["heads"][MACHINE].update(
                fusion={"weights": dict.fromkeys(("indicators", "spectrum", "neighbour"), 0)}
            ),
            "fusion gives weight 0 to all of indicators, spectrum, neighbour",
        ),
        (
            lambda m: m["heads"][MACHINE].update(fusion={"weights": {"spectrum": -1}}),
            r"weights of fusion must be 0 or more, got \{'spectrum': -1",
        ),
        (
            lambda m: m["heads"][MACHINE]["parts"][1].update(name="indicators"),
            r"parts need names that differ and hold no '/', got \['indicators', 'indicators', 'neighbour'\]",
        ),
        (lambda m: m["heads"][MACHINE]["parts"][1].update(name="a/b"), "hold no '/'"),
    ],
    ids=["rates", "network", "stranger", "weightless", "negative", "twins", "slash"],
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
