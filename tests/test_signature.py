from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.archive import store
from edge_asd.bundle import MANIFEST, open_bundle, read_contents, sign_bundle
from edge_asd.errors import BundleError, BundleUntrusted, ConfigError
from edge_asd.signature import SIGNATURE, PublicKey, Seal, Trust, make_keys, read_key, read_seal, sign
from tests.example import bundle, contents

if TYPE_CHECKING:
    from collections.abc import Callable

RFC_8032 = (
    ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", b""),
    ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", b"\x72"),
)
"""secret keys and messages of its section 7.1"""
RFC_8032_SIGNATURES = (
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PublicKey]:
    """A private key's file, and the public one."""
    path = tmp_path_factory.mktemp("keys") / "plant"
    return path, make_keys(path, "press  hall\n3")


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, plant: tuple[Path, PublicKey]) -> Path:
    """A bundle with a signature; only read."""
    path = bundle(tmp_path_factory.mktemp("bundle") / "toy.asd")
    sign_bundle(path, plant[0], path)
    return path


def test_openssl_finds_the_signature_good(tmp_path: Path, signed: Path, plant: tuple[Path, PublicKey]) -> None:
    openssl = shutil.which("openssl")
    assert openssl, "openssl is missing: apt install openssl"
    files = contents(signed)
    (tmp_path / "manifest").write_bytes(files[MANIFEST])
    (tmp_path / "signature").write_bytes(base64.b64decode(json.loads(files[SIGNATURE])["signature"]))

    command = [openssl, "pkeyutl", "-verify", "-rawin", "-inkey", plant[0], "-in", tmp_path / "manifest"]
    answer = subprocess.run([*command, "-sigfile", tmp_path / "signature"], capture_output=True, text=True, check=False)

    assert answer.returncode == 0, answer.stderr
    assert "Signature Verified Successfully" in answer.stdout


@pytest.mark.parametrize(
    ("secret", "message", "wanted"), [(*a, b) for a, b in zip(RFC_8032, RFC_8032_SIGNATURES, strict=True)]
)
def test_signatures_are_those_of_the_standard(tmp_path: Path, secret: str, message: bytes, wanted: str) -> None:
    """PKCS #8 of a raw Ed25519 key is a fixed head (RFC 8410, section 7) and the key."""
    der = bytes.fromhex("302e020100300506032b657004220420" + secret)
    key = tmp_path / "key"
    key.write_text(f"-----BEGIN PRIVATE KEY-----\n{base64.b64encode(der).decode()}\n-----END PRIVATE KEY-----\n")
    key.chmod(0o600)

    assert base64.b64decode(json.loads(sign(message, key))["signature"]).hex() == wanted


def test_a_signed_bundle_is_opened_by_who_trusts_the_signer(signed: Path, plant: tuple[Path, PublicKey]) -> None:
    opened = open_bundle(signed, trust=Trust.of([plant[1]]))

    assert opened.signer == plant[1].id == hashlib.sha256(plant[1].raw).hexdigest()[:16]
    assert open_bundle(signed).signer is None  # nobody asked


def test_a_signature_changes_nothing_else(tmp_path: Path, signed: Path) -> None:
    plain = bundle(tmp_path / "plain.asd")

    assert {name: file for name, file in contents(signed).items() if name != SIGNATURE} == contents(plain)
    assert open_bundle(signed).digest == open_bundle(plain).digest


def test_signing_again_replaces_the_signature(tmp_path: Path, signed: Path) -> None:
    other = make_keys(tmp_path / "other")
    sign_bundle(signed, tmp_path / "other", tmp_path / "b.asd")

    assert open_bundle(tmp_path / "b.asd", trust=Trust.of([other])).signer == other.id


# Who is not trusted ---------------------------------------------------------------------------------------------------


def test_a_bundle_without_a_signature_is_refused_with_both_remedies(
    tmp_path: Path, plant: tuple[Path, PublicKey]
) -> None:
    path = bundle(tmp_path / "toy.asd")

    with pytest.raises(
        BundleUntrusted, match=r"toy\.asd: is not signed; sign it .* or set trust\.allow_unsigned = true"
    ):
        open_bundle(path, trust=Trust.of([plant[1]]))
    assert open_bundle(path, trust=Trust(allow_unsigned=True)).signer is None


@pytest.mark.parametrize("allow_unsigned", [False, True])
def test_a_foreign_key_is_refused_even_where_unsigned_bundles_are_not(
    tmp_path: Path, signed: Path, plant: tuple[Path, PublicKey], *, allow_unsigned: bool
) -> None:
    mine = make_keys(tmp_path / "mine")

    with pytest.raises(
        BundleUntrusted, match=rf"signed by key {plant[1].id}, which is not trusted here \(.*{mine.id}\)"
    ):
        open_bundle(signed, trust=Trust.of([mine], allow_unsigned=allow_unsigned))


def test_a_key_that_claims_anothers_id_does_not_pass(
    tmp_path: Path, signed: Path, plant: tuple[Path, PublicKey]
) -> None:
    make_keys(tmp_path / "thief")
    files = contents(signed)
    stolen = json.loads(sign(files[MANIFEST], tmp_path / "thief")) | {"key": plant[1].id}
    store(tmp_path / "b.asd", files | {SIGNATURE: Seal.model_validate(stolen).dump()})

    with pytest.raises(BundleUntrusted, match="is not that of this manifest: the bundle was changed after"):
        open_bundle(tmp_path / "b.asd", trust=Trust.of([plant[1]]))


def test_the_signature_of_another_bundle_does_not_pass(
    tmp_path: Path, signed: Path, plant: tuple[Path, PublicKey]
) -> None:
    files = contents(signed)
    changed = files[MANIFEST].replace(b'"version": "1.2.3"', b'"version": "9.9.9"')
    assert changed != files[MANIFEST]
    store(tmp_path / "b.asd", files | {MANIFEST: changed})

    with pytest.raises(BundleUntrusted, match=r"b\.asd: the signature of key \w+ is not that of this manifest"):
        open_bundle(tmp_path / "b.asd", trust=Trust.of([plant[1]]))


@settings(max_examples=150)
@given(st.data())
def test_no_byte_of_a_signed_manifest_or_signature_can_change(
    tmp_path_factory: pytest.TempPathFactory,
    signed: Path,
    plant: tuple[Path, PublicKey],
    data: Any,  # noqa: ANN401 - of hypothesis
) -> None:
    """By somebody who makes the zip anew, so that its own sums hold."""
    files = contents(signed)
    name = data.draw(st.sampled_from([MANIFEST, SIGNATURE]))
    content = bytearray(files[name])
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "forged.asd"
    store(path, files | {name: bytes(content)})

    with pytest.raises(BundleUntrusted):
        read_contents(path, Trust.of([plant[1]]))


def test_a_file_that_changed_under_a_good_signature_is_damaged(
    tmp_path: Path, signed: Path, plant: tuple[Path, PublicKey]
) -> None:
    store(tmp_path / "b.asd", contents(signed) | {"CARD.md": b"other"})

    with pytest.raises(BundleError, match=r"CARD\.md has digest"):
        open_bundle(tmp_path / "b.asd", trust=Trust.of([plant[1]]))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.replace(b"/1", b"/2"),
        lambda s: s.replace(b'"key"', b'"keys"'),
        lambda s: s.replace(b"==", b"="),
        lambda s: s.replace(b"{", b"{ "),
        lambda s: s.strip(),
        lambda _: b"",
        lambda _: b"null",
        lambda _: b"\xff",
        lambda s: s.replace(b"}", b',"more":1}'),
    ],
    ids=["schema", "field", "short", "space", "line", "empty", "null", "no text", "more"],
)
def test_a_signature_that_is_written_otherwise_is_none(
    plant: tuple[Path, PublicKey], change: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(BundleUntrusted, match=r"b\.asd: (signature not understood at|manifest\.sig is not as)"):
        read_seal(Path("b.asd"), change(sign(b"{}", plant[0])))


def test_a_signature_of_many_bytes_is_not_looked_at(tmp_path: Path, signed: Path) -> None:
    store(tmp_path / "b.asd", contents(signed) | {SIGNATURE: bytes(100_000)})

    with pytest.raises(BundleError, match=r"manifest\.sig has 100000 bytes, and may have 1024"):
        open_bundle(tmp_path / "b.asd")


def test_a_manifest_of_many_megabytes_is_not_looked_at(tmp_path: Path, signed: Path) -> None:
    store(tmp_path / "b.asd", contents(signed) | {MANIFEST: b"[" * 5_000_000})

    with pytest.raises(BundleError, match=r"manifest\.json has 5000000 bytes, and may have 4194304"):
        open_bundle(tmp_path / "b.asd")


def test_a_manifest_nested_without_end_is_not_understood(tmp_path: Path, signed: Path) -> None:
    store(tmp_path / "b.asd", contents(signed) | {MANIFEST: b"[" * 4_000_000})

    with pytest.raises(BundleError, match=r"manifest not understood at manifest\.json: .*recursion"):
        open_bundle(tmp_path / "b.asd")


def test_a_damaged_bundle_is_not_signed(tmp_path: Path, signed: Path, plant: tuple[Path, PublicKey]) -> None:
    store(tmp_path / "b.asd", contents(signed) | {"CARD.md": b"other"})
    before = (tmp_path / "b.asd").read_bytes()

    with pytest.raises(BundleError, match=r"CARD\.md has digest"):
        sign_bundle(tmp_path / "b.asd", plant[0], tmp_path / "b.asd")
    assert (tmp_path / "b.asd").read_bytes() == before


# Keys -----------------------------------------------------------------------------------------------------------------


def test_a_private_key_is_its_owners_alone(plant: tuple[Path, PublicKey]) -> None:
    assert stat.S_IMODE(plant[0].stat().st_mode) == 0o600
    assert plant[0].read_text().startswith("-----BEGIN PRIVATE KEY-----\n")


def test_a_public_key_is_a_line(plant: tuple[Path, PublicKey]) -> None:
    path = plant[0].with_name("plant.pub")

    assert re.fullmatch(r"edge-asd-key [A-Za-z0-9+/]{43}= press hall 3\n", path.read_text())
    assert read_key(path) == plant[1]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    make_keys(tmp_path / "key")
    before = (tmp_path / "key").read_bytes(), (tmp_path / "key.pub").read_bytes()

    with pytest.raises(ConfigError, match=r"key: cannot be written: file exists; a key is never overwritten"):
        make_keys(tmp_path / "key")
    assert ((tmp_path / "key").read_bytes(), (tmp_path / "key.pub").read_bytes()) == before


def test_a_private_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    make_keys(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)

    with pytest.raises(ConfigError, match=r"key: others may use this private key \(mode 640\); chmod 600"):
        sign(b"", tmp_path / "key")


@pytest.mark.parametrize(
    "text", ["", "edge-asd-key", "ssh-ed25519 AAAA", "edge-asd-key AAAA x", "edge-asd-key §", "\0"]
)
def test_what_is_no_public_key_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "key.pub").write_text(text)

    with pytest.raises(ConfigError, match=r"key\.pub: is no public key \(.+\); it should be the \.pub file"):
        read_key(tmp_path / "key.pub")


def test_what_is_no_private_key_is_told(tmp_path: Path, plant: tuple[Path, PublicKey]) -> None:
    with pytest.raises(ConfigError, match=r"plant\.pub: is no private key"):
        sign(b"", plant[0].with_name("plant.pub"))
    with pytest.raises(ConfigError, match=r"away: is no private key \(.*No such file"):
        sign(b"", tmp_path / "away")
