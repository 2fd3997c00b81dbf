"""The keys of a running service, which follows the file that they come from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from service.security.key_file import KeyFileError, Signature, read_signed, signature, usable
from service.security.keys import KeyFile, Keyring

GRACE_SECONDS = 300.0
"""For how long keys stay valid after the file that held them became unreadable: time to mend a mistake. It ends because
the change that cannot be read may be the revocation of a key that was stolen."""
COMPLAINT_SECONDS = 60.0
"""Between two lines in the log about the same trouble."""
RETRY_SECONDS = 1.0
"""Between two attempts to read a file that looks as it did when it could not be read."""


class KeysUnusable(Exception):
    """For longer than the grace nobody knows which keys are valid."""


class LiveKeys:
    """A file that changed is read before the next request. One that is broken, unreadable or gone leaves the keys that
    were read last valid for `GRACE_SECONDS`, so that half a file locks nobody out and lets nobody in; after that nobody
    is let in until it can be read. `clock`: seconds that never jump."""

    def __init__(self, path: Path, log: FilteringBoundLogger, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises `KeyFileError` for a file that cannot be used, or holds no key."""
        usable(path)
        self._path = path
        self._log = log
        self._clock = clock
        self._seen: Signature | None
        self._file, self._seen = read_signed(path)
        self._ring = Keyring(self._file)
        self._unusable_since: float | None = None
        self._left: float | None = None
        self._tried = self._complained = clock()

    def ring(self) -> Keyring:
        """What recognises the keys that the file holds now. Raises `KeysUnusable`."""
        if self.unusable_seconds() > GRACE_SECONDS:
            raise KeysUnusable
        return self._ring

    def file(self) -> KeyFile:
        """As it is now; where it cannot be read, as it was."""
        self._follow()
        return self._file

    def unusable_seconds(self) -> float:
        """For how long the file could not be read; 0.0 while it can."""
        self._follow()
        return 0.0 if self._unusable_since is None else self._clock() - self._unusable_since

    def _follow(self) -> None:
        try:
            there: Signature | None = signature(self._path.stat())
        except OSError:
            there = None
        broken = self._unusable_since is not None
        if there != self._seen or (broken and self._clock() - self._tried >= RETRY_SECONDS):
            self._again(there)

    def _again(self, there: Signature | None) -> None:
        now = self._tried = self._clock()
        changed, self._seen = there != self._seen, there
        try:
            self._file, self._seen = read_signed(self._path)
        except KeyFileError as error:
            self._unusable(error.why, now, changed=changed)
            return
        self._unusable_since = self._left = None
        self._ring = Keyring(self._file)
        self._log.info("api_keys_read", keys=len(self._ring))

    def _unusable(self, why: str, now: float, *, changed: bool) -> None:
        """Complain: at once, when nobody is let in any more, and every minute."""
        since = self._unusable_since = now if self._unusable_since is None else self._unusable_since
        before, left = self._left, max(0.0, since + GRACE_SECONDS - now)
        self._left = left
        if changed or before is None or (before > 0 and not left) or now - self._complained >= COMPLAINT_SECONDS:
            self._complained = now
            self._log.error(
                "api_keys_unusable",
                why=why,
                old_keys_valid_for_seconds=math.ceil(left),
                remedy="hetlm keys list, run as the service's user, names what is wrong",
            )
