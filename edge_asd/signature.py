"""Who vouches for a bundle: Ed25519 over the bytes of its manifest, which holds the digests of all else.

A private key is a PEM file that only its owner may read; a public one is a line, ``edge-asd-key BASE64 COMMENT``. A
signature travels in the bundle, as ``manifest.sig``, and says by which key it was made.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_asd.errors import BundleUntrusted, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# cryptography is imported where it is used: a daemon whose bundles are unsigned need not carry it

SIGNATURE = "manifest.sig"
"""in the bundle"""
LONGEST = 1024
"""bytes; a signature has 200"""
WORD = "edge-asd-key"
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Whose signatures may be believed."""

    raw: bytes
    """32 bytes"""
    comment: str = ""

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            msg = f"a public key has {KEY_BYTES} bytes, got {len(self.raw)}"
            raise ValueError(msg)

    @property
    def id(self) -> str:
        """First 16 hex digits of its SHA-256."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def __str__(self) -> str:
        return f"{WORD} {base64.b64encode(self.raw).decode()} {self.comment}".rstrip()


class Seal(BaseModel):
    """A signature, and by which key it was made."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_: Literal["edge_asd.signature/1"] = Field(default="edge_asd.signature/1", alias="schema")
    key: str = Field(pattern="^[0-9a-f]{16}$")
    signature: str = Field(pattern="^[A-Za-z0-9+/]{86}==$")
    """base64 of 64 bytes"""

    def dump(self) -> bytes:
        """As it lies in the bundle, which is the one way to write it."""
        return self.model_dump_json(by_alias=True).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose bundles are used here."""

    keys: Mapping[str, PublicKey] = field(default_factory=dict)
    """by key id"""
    allow_unsigned: bool = False
    """whether a bundle without a signature will do; one with a signature that says nothing here never does"""

    @classmethod
    def of(cls, keys: Iterable[PublicKey], *, allow_unsigned: bool = False) -> Trust:
        """In these keys."""
        return cls({key.id: key for key in keys}, allow_unsigned)

    def signer(self, path: Path, manifest: bytes, seal: bytes | None) -> str | None:
        """The id of the key that signed a manifest; None where nobody did and that is allowed.

        Raises:
            BundleUntrusted: nobody who is trusted vouches for these bytes.
        """
        if seal is None:
            self._refuse_unsigned(path)
            return None
        read = read_seal(path, seal)
        if (key := self.keys.get(read.key)) is None:
            msg = (
                f"{path}: is signed by key {read.key}, which is not trusted here ({self._told()}); "
                "get that key's .pub file from who made the bundle and add it to trust.keys"
            )
            raise BundleUntrusted(msg)
        if not _holds(key, read, manifest):
            msg = (
                f"{path}: the signature of key {key.id} is not that of this manifest: the bundle was changed after it "
                "was signed; get it again from who made it"
            )
            raise BundleUntrusted(msg)
        return key.id

    def _refuse_unsigned(self, path: Path) -> None:
        if not self.allow_unsigned:
            msg = (
                f"{path}: is not signed; sign it (edge-asd bundle sign FILE --key …) with a key that trust.keys "
                "names, or set trust.allow_unsigned = true to use whatever lies there"
            )
            raise BundleUntrusted(msg)

    def _told(self) -> str:
        return f"trust.keys: {', '.join(self.keys)}" if self.keys else "trust.keys names none"


def read_seal(path: Path, content: bytes) -> Seal:
    """What a bundle says of its signature; it may be a lie.

    Raises:
        BundleUntrusted: that is no signature of ours, or not written as we do.
    """
    try:
        read = Seal.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or SIGNATURE
        msg = f"{path}: signature not understood at {place}: {first['msg'].lower()}; was it made by another version?"
        raise BundleUntrusted(msg) from error
    if read.dump() != content:
        msg = f"{path}: {SIGNATURE} is not as edge-asd bundle sign writes it; sign the bundle again"
        raise BundleUntrusted(msg)
    return read


def make_keys(private: Path, comment: str = "") -> PublicKey:
    """A new pair: ``private``, and the public one beside it, called ``private`` and ``.pub``.

    Raises:
        ConfigError: one of them is there already, or cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    made = Ed25519PrivateKey.generate()
    public = PublicKey(made.public_key().public_bytes_raw(), " ".join(comment.split()))
    _create(private, _pem(made), stat.S_IRUSR | stat.S_IWUSR)
    _create(private.with_name(private.name + ".pub"), f"{public}\n".encode(), 0o644)
    return public


def read_key(path: Path) -> PublicKey:
    """The public key in a file.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        word, encoded, *comment = path.read_text("utf-8").split()
        if word != WORD:
            msg = f"it begins with {word[:20]!r}"
            raise ValueError(msg)  # noqa: TRY301 - all that can be wrong with a key is told in one way
        return PublicKey(base64.b64decode(encoded, validate=True), " ".join(comment))
    except (OSError, ValueError) as error:
        msg = f"{path}: is no public key ({error}); it should be the .pub file that edge-asd bundle keygen made"
        raise ConfigError(msg) from error


def sign(manifest: bytes, private: Path) -> bytes:
    """The signature of a manifest's bytes, as it lies in the bundle.

    Raises:
        ConfigError: the private key cannot be read, is none, or may be read by others.
    """
    key = _private(private)
    public = PublicKey(key.public_key().public_bytes_raw())
    return Seal(key=public.id, signature=base64.b64encode(key.sign(manifest)).decode()).dump()


def _holds(key: PublicKey, seal: Seal, manifest: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(base64.b64decode(seal.signature), manifest)
    except InvalidSignature:
        return False
    return True


def _private(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        mode, text = stat.S_IMODE(path.stat().st_mode), path.read_bytes()
        key = load_pem_private_key(text, password=None)
    except (OSError, ValueError, TypeError) as error:
        msg = f"{path}: is no private key ({error}); edge-asd bundle keygen makes one"
        raise ConfigError(msg) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        msg = f"{path}: others may use this private key (mode {mode:o}); chmod 600 it, or make a new one if they did"
        raise ConfigError(msg)
    if not isinstance(key, Ed25519PrivateKey):
        msg = f"{path}: is a private key, but not an Ed25519 one; edge-asd bundle keygen makes one"
        raise ConfigError(msg)
    return key


def _pem(key: Ed25519PrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization as how  # noqa: PLC0415

    return key.private_bytes(how.Encoding.PEM, how.PrivateFormat.PKCS8, how.NoEncryption())


def _create(path: Path, content: bytes, mode: int) -> None:
    """Never over another one."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        msg = f"{path}: cannot be written: {reason}; a key is never overwritten, name another file"
        raise ConfigError(msg) from error
