"""API keys: who holds them, what they open, and how a presented one is recognised."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from service.security.rates import Rate

Scope = Literal["predict", "batch", "admin"]

LOCAL = "local"
"""The caller's name where no keys are configured; no key can have it."""
PREFIX = "hetlm_"
"""Begins every secret, so that a secret scanner recognises one that was committed or pasted somewhere."""
MAX_SECRET = 200
"""Bytes of a presented secret; a longer one is none of ours and is not even hashed."""

CallerName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class KeyEntry(_Entry):
    """One secret, of which the file knows the SHA-256 only."""

    # A slow hash (scrypt, argon2) makes guessing expensive where secrets are few, as passwords are. Ours are 256 random
    # bits: whoever reads this file would have to try 2^255 of them, at a nanosecond as hopeless as at a second, while
    # every request would pay for the slowness.
    sha256: Digest
    created: AwareDatetime
    expires: AwareDatetime | None = None

    @property
    def id(self) -> str:
        """Tells keys apart in lists and commands; opens nothing."""
        return self.sha256[:8]

    def live(self, now: datetime) -> bool:
        return self.expires is None or now < self.expires


class RateEntry(_Entry):
    """A caller's own rate, instead of the service's."""

    per_second: float = Field(gt=0, le=100_000)
    burst: int = Field(ge=1, le=1_000_000)


class CallerEntry(_Entry):
    """One purpose: its scopes and rate, and its keys: two while one replaces the other."""

    scopes: tuple[Scope, ...] = Field(min_length=1)
    rate: RateEntry | None = None
    keys: tuple[KeyEntry, ...] = Field(min_length=1)


class KeyFile(_Entry):
    """The whole file."""

    version: Literal[1] = 1
    callers: dict[CallerName, CallerEntry] = {}

    @model_validator(mode="after")
    def _plain(self) -> Self:
        if LOCAL in self.callers:
            raise ValueError(f"the name {LOCAL} means callers without a key: choose another")
        ids = [key.id for _, key in self.every()]
        if len(set(ids)) != len(ids):
            raise ValueError("two keys have the same id: revoke one of them")
        return self

    def every(self) -> Iterator[tuple[str, KeyEntry]]:
        """Every key after its caller's name."""
        return ((name, key) for name, caller in self.callers.items() for key in caller.keys)

    def with_key(
        self, name: str, scopes: tuple[Scope, ...], rate: RateEntry | None, expires_in: timedelta | None, now: datetime
    ) -> tuple[KeyFile, KeyEntry, str]:
        """A file with one more key, that key, and its secret, which is nowhere else.

        `scopes` and `rate` may be left empty for a caller who is there already. Raises `ValueError` where they differ
        from what the caller has, or the result is no valid file.
        """
        known = self.callers.get(name)
        if known is None and not scopes:
            raise ValueError(f"there is no {name} yet: say what the key opens, for example --scope predict")
        if known is not None and scopes and set(scopes) != set(known.scopes):
            raise ValueError(
                f"{name} has the scopes {', '.join(known.scopes)}: leave --scope out to add a second key, or choose "
                "another name"
            )
        secret = PREFIX + secrets.token_urlsafe(32)
        created = now.replace(microsecond=0)
        key = KeyEntry(
            sha256=digest(secret.encode()).hex(), created=created, expires=created + expires_in if expires_in else None
        )
        caller = CallerEntry(
            scopes=known.scopes if known else tuple(dict.fromkeys(scopes)),
            rate=rate or (known.rate if known else None),
            keys=(*(known.keys if known else ()), key),
        )
        document = self.model_copy(update={"callers": {**self.callers, name: caller}}).model_dump()
        return KeyFile.model_validate(document), key, secret

    def without(self, key_id: str) -> tuple[KeyFile, str]:
        """A file without that key, and whose it was; a caller without keys goes with the last one. Raises
        `KeyError`."""
        owner = next((name for name, key in self.every() if key.id == key_id), None)
        if owner is None:
            raise KeyError(key_id)
        callers = dict(self.callers)
        left = tuple(key for key in callers[owner].keys if key.id != key_id)
        if left:
            callers[owner] = callers[owner].model_copy(update={"keys": left})
        else:
            del callers[owner]
        return self.model_copy(update={"callers": callers}), owner


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `rate`: None where the service's own holds."""

    name: str
    scopes: frozenset[Scope]
    rate: Rate | None


@dataclass(frozen=True, slots=True)
class Expired:
    """A key that was valid once, and whose."""

    name: str


class Keyring:
    """Recognises secrets."""

    def __init__(self, file: KeyFile) -> None:
        self._keys: list[tuple[bytes, Caller, KeyEntry]] = []
        for name, entry in file.callers.items():
            rate = Rate(entry.rate.per_second, entry.rate.burst) if entry.rate else None
            caller = Caller(name, frozenset(entry.scopes), rate)
            self._keys += [(bytes.fromhex(key.sha256), caller, key) for key in entry.keys]

    def __len__(self) -> int:
        return len(self._keys)

    def opens(self, scope: Scope) -> bool:
        """Whether any key has the scope."""
        return any(scope in caller.scopes for _, caller, _ in self._keys)

    def find(self, secret: bytes, now: datetime | None = None) -> Caller | Expired | None:
        """Whose key it is; None for nobody's. Takes equally long whichever key it is, or none."""
        if len(secret) > MAX_SECRET:
            return None
        presented = digest(secret)
        found: tuple[Caller, KeyEntry] | None = None
        for stored, caller, key in self._keys:
            if hmac.compare_digest(stored, presented):
                found = caller, key  # and on to the last one: where it stood shows in no time
        if found is None:
            return None
        caller, key = found
        return caller if key.live(now or datetime.now(UTC)) else Expired(caller.name)


def digest(secret: bytes) -> bytes:
    """SHA-256 of a secret."""
    return hashlib.sha256(secret).digest()
