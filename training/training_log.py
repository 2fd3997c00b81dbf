"""What a training tells of itself: the records in its run's directory, and what the bundle keeps of them.

A bundle's version covers every byte of it. What the clock said differs between two trainings that are equal in
everything else, and therefore stays in the run's directory; the report takes it from there where it can.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

TRAINING_LOG = "training-log.json"
RUN_LOG = "log.jsonl"
TIMES = ("seconds", "probe_seconds")
"""What the clock said, in any record."""

Record = Mapping[str, Any]
"""One line of a run's log: `stage`, `epoch`, and what the stage measured."""


class TrainingLog(BaseModel):
    """`training-log.json`: the run's records without their times, so that equal trainings make equal bundles."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    run: str = Field(default="", description="name of the run's directory, whose log has the times too")
    records: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, records: Iterable[Record], run: str = "") -> Self:
        """The same records in whatever order give the same document, and so the same bundle."""
        kept = ({name: value for name, value in record.items() if name not in TIMES} for record in records)
        return cls(run=run, records=tuple(sorted(kept, key=lambda r: (r["stage"], r["epoch"]))))

    @classmethod
    def load(cls, bundle: Path) -> Self | None:
        """A bundle's; None where it was written before there was any. Raises `ValueError` for a broken one."""
        path = bundle / TRAINING_LOG
        return cls.model_validate_json(path.read_bytes()) if path.is_file() else None

    def timed(self, runs: Path) -> tuple[Record, ...]:
        """The records with the times of the run among `runs` that they are of; as they are where it is not there."""
        path = runs / Path(self.run).name / RUN_LOG  # a name, whatever a bundle says
        if not self.run or not path.is_file():
            return self.records
        times = {
            (record["stage"], record["epoch"]): {name: record[name] for name in TIMES if name in record}
            for record in read_log(path)
        }
        return tuple({**record, **times.get((record["stage"], record["epoch"]), {})} for record in self.records)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a run's `log.jsonl`. Raises `ValueError` for a line that is none."""
    try:
        records = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not the log of a training run: {error}") from error
    if not all(isinstance(record, dict) and "stage" in record for record in records):
        raise ValueError(f"{path} is not the log of a training run: a line has no stage")
    return records


def of_stage(records: Sequence[Record], *stages: str) -> list[Record]:
    """The records of some stages, by epoch: a run that went on after an interruption has them in another order."""
    return sorted((record for record in records if record["stage"] in stages), key=lambda r: int(r["epoch"]))
