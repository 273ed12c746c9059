"""Who vouches for a bundle: Ed25519 over the bytes of its manifest, which holds the digests of all else.

A private key is a PEM file that only its owner may read; a public one is a line, ``edge-asd-key BASE64 COMMENT``. The
signature travels in the bundle, as ``manifest.sig``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Whose signatures may be believed."""

    raw: bytes
    """32 bytes"""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose bundles are used here."""

    keys: Mapping[str, PublicKey] = field(default_factory=dict)
    """by key id"""
    allow_unsigned: bool = False
    """whether a bundle without a signature will do; one with a bad signature never does"""
