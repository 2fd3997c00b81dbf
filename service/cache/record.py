"""Keys and records of the embedding cache.

A key says everything that a session's vector depends on, under the deployment's secret, so that nobody who reads the
cache learns a page. A record carries its key: a value that stands under the wrong key is never taken.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from browsing.encoder import Encoder

SCHEMA = b"hetlm session vector 1"
MAGIC = b"HLMV"
VERSION = 1
_HEADER = struct.Struct("<4sBxH32s")
_CHECKSUM = 16

Vector = NDArray[np.float32]


def _framed(*fields: bytes) -> bytes:
    """Every field after its length: `("ab", "c")` and `("a", "bc")` stay apart."""
    return b"".join(len(field).to_bytes(8, "little") + field for field in fields)


class Keys:
    """Makes the keys of one deployment, encoder and set of page rules."""

    def __init__(self, secret: bytes, encoder: Encoder, rule_version: str) -> None:
        """Raises `ValueError` for a secret below 16 bytes."""
        if len(secret) < 16:
            raise ValueError("the cache's secret must have at least 16 bytes")
        context = _framed(
            SCHEMA,
            encoder.weights_sha256.encode(),
            encoder.tokenizer_sha256.encode(),
            rule_version.encode(),
            str(encoder.max_tokens).encode(),
        )
        self._begun = hmac.new(secret, context, "sha256")  # what all keys have in common is digested once

    def key(self, pages: Sequence[str]) -> bytes:
        """HMAC-SHA256, 32 bytes, of one session."""
        mac = self._begun.copy()
        mac.update(_framed(*(page.encode() for page in pages)))
        return mac.digest()


def pack(key: bytes, vector: Vector) -> bytes:
    """The record of `vector` [d]: magic, version, dimension, key, float16 values, checksum."""
    body = _HEADER.pack(MAGIC, VERSION, len(vector), key) + vector.astype("<f2").tobytes()
    return body + _checksum(body)


def unpack(key: bytes, record: bytes, dimension: int) -> Vector | None:
    """The vector [d] of a record, or None where it is not whole, not of this version and size, or not this key's."""
    if len(record) != _HEADER.size + 2 * dimension + _CHECKSUM:
        return None
    body, checksum = record[:-_CHECKSUM], record[-_CHECKSUM:]
    if _HEADER.unpack_from(body) != (MAGIC, VERSION, dimension, key) or _checksum(body) != checksum:
        return None
    vector = np.frombuffer(body, "<f2", offset=_HEADER.size).astype(np.float32)
    return vector if np.isfinite(vector).all() else None


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECKSUM).digest()
