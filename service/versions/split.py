"""Which users a canary answers: a share of them, always the same ones."""

from __future__ import annotations

import hashlib
import math

from service.security import names

_BITS = 53
"""As many as a float keeps: the largest position stays below 1."""


def position(user_id: str, salt: str) -> float:
    """Where a user stands in [0, 1): uniform over users, and independent for different salts.

    A hash and no random number: the same in every process and after every restart. It only sorts users into groups;
    whoever picks a user id picks a group with it.
    """
    key = hashlib.blake2b(salt.encode(), digest_size=32).digest()
    digest = hashlib.blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest()
    return (int.from_bytes(digest, "big") >> (64 - _BITS)) / 2.0**_BITS


def chosen(user_id: str | None, salt: str, share: float) -> bool:
    """Whether a canary that gets `share` (0 to 1) of the users gets this one. `salt`: the canary's version, so that the
    users of one experiment are no selection of those of another. A larger share keeps the users of a smaller one.

    A request without a user id is never the canary's: nothing in it would stay the same the next time.
    """
    return user_id is not None and position(user_id, salt) < share


def split_of(canary: str) -> tuple[str, float]:
    """The version and the share of `VERSION=SHARE`. Raises `ValueError`."""
    name, _, number = canary.rpartition("=")
    try:
        share = float(number)
    except ValueError:
        share = math.nan
    if not name or not 0 < share <= 1:
        raise ValueError("needs a version and a share of the users above 0 and at most 1, such as 2026-11=0.1")
    return names.version(name), share
