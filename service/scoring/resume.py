"""The unfinished work of `hetlm score`, beside its result: the same command finds it and goes on."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from browsing.whole import whole
from service.schemas import PredictOptions

Begun = Literal["new", "resumed", "changed"]
RUN = "run.json"


class Busy(RuntimeError):
    """Another process works on the same result."""


class Run(BaseModel):
    """What a result depends on. `now`: when the run began; the rows' 7 days run from then unless the options name
    another time, however often it is interrupted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_sha256: str
    bundle_version: str
    options: PredictOptions
    chunk_rows: int
    now: AwareDatetime

    def same_as(self, other: Run) -> bool:
        return self.model_copy(update={"now": other.now}) == other


class Unfinished:
    """`<out>.work`: what the run is, and its finished chunks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.parts = root / "parts"

    @classmethod
    def of(cls, out: Path) -> Unfinished:
        return cls(out.with_name(out.name + ".work"))

    @contextmanager
    def held(self) -> Iterator[None]:
        """For one process at a time. Raises `Busy`, `OSError`."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.root / "lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy from None
            yield

    def begin(self, run: Run) -> tuple[Run, Begun]:
        """The run to go on with: the one that is there if it is the same, else `run`, from its first row. Raises
        `OSError`."""
        kept = self._read()
        if kept is not None and run.same_as(kept):
            return kept, "resumed"
        changed = (self.root / RUN).exists()
        shutil.rmtree(self.parts, ignore_errors=True)
        with whole(self.root / RUN, durable=True) as partial:
            partial.write_bytes(run.model_dump_json(indent=2).encode())
        return run, "changed" if changed else "new"

    def remove(self) -> None:
        shutil.rmtree(self.root)

    def _read(self) -> Run | None:
        try:
            return Run.model_validate_json((self.root / RUN).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None


def run_of(input_sha256: str, bundle_version: str, options: PredictOptions, chunk_rows: int, now: datetime) -> Run:
    return Run(
        input_sha256=input_sha256, bundle_version=bundle_version, options=options, chunk_rows=chunk_rows, now=now
    )
