"""Where jobs live on the disk: `jobs/<id>/` with the input, the finished parts and the result. For one process alone.

```
lock  jobs.sqlite3  incoming/<id>
jobs/<id>/input     jobs/<id>/parts/     jobs/<id>/result.parquet
```
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from browsing.whole import sync_directory


class StorageError(RuntimeError):
    """The directory cannot be had; the message names it and the remedy."""


class Storage:
    """Every method blocks, and raises `OSError`."""

    def __init__(self, root: Path) -> None:
        """Takes the directory for this process. Raises `StorageError`."""
        self.root = root
        self._jobs = root / "jobs"
        self._incoming = root / "incoming"
        try:
            for directory in (root, self._jobs, self._incoming):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"{root}: {error.strerror}; name a directory that can be written to") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise StorageError(
                f"{root}: another service keeps its batches there; give each its own directory"
            ) from None

    def close(self) -> None:
        os.close(self._lock)

    @property
    def ledger(self) -> Path:
        return self.root / "jobs.sqlite3"

    def incoming(self, job_id: str) -> Path:
        """Where an input arrives, before it is a job's."""
        return self._incoming / job_id

    def input(self, job_id: str) -> Path:
        return self._jobs / job_id / "input"

    def parts(self, job_id: str) -> Path:
        return self._jobs / job_id / "parts"

    def result(self, job_id: str) -> Path:
        return self._jobs / job_id / "result.parquet"

    def adopt(self, job_id: str) -> None:
        """Make what arrived the job's input, for good."""
        place = self._jobs / job_id
        place.mkdir(mode=0o700)
        self.incoming(job_id).replace(self.input(job_id))
        sync_directory(place)
        sync_directory(self._jobs)

    def drop_incoming(self, job_id: str) -> None:
        _remove(self.incoming(job_id))

    def drop_output(self, job_id: str) -> None:
        """All but the input."""
        _remove(self.parts(job_id))
        _remove(self.result(job_id))

    def drop_work(self, job_id: str) -> None:
        """All but the result: histories are kept no longer than they are needed."""
        _remove(self.input(job_id))
        _remove(self.parts(job_id))

    def remove(self, job_id: str) -> None:
        _remove(self._jobs / job_id)

    def sweep(self, unfinished: Collection[str], done: Collection[str]) -> list[str]:
        """After a crash: drop what is not needed by any job, of those that are done all but their results. The ids of
        what could not be removed."""
        for entry in self._incoming.iterdir():
            _remove(entry)
        stuck = []
        for entry in self._jobs.iterdir():
            try:
                if entry.name in done:
                    self.drop_work(entry.name)
                elif entry.name not in unfinished:
                    _remove(entry)
            except OSError:
                stuck.append(entry.name)
        return stuck


def _remove(path: Path) -> None:
    """A file or a directory with all that is in it, also where somebody else is removing it."""
    while os.path.lexists(path):
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            continue
