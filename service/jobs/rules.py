"""What every job is held to."""

from __future__ import annotations

from dataclasses import dataclass

from service.problems import ProblemError
from service.scoring.inputs import Limits

HOUR = 3_600.0


@dataclass(frozen=True, slots=True)
class Rules:
    """`chunk_rows`: as in `Parts`. `retention_hours`: from a job's end to its removal; and how long one that has not
    ended may go without another chunk, since an input must not be kept for ever because its job never ends."""

    limits: Limits
    chunk_rows: int
    retention_hours: float

    def expiry(self, now: float) -> float:
        """Of a job that has come this far by `now`; both in seconds since 1970."""
        return now + self.retention_hours * HOUR

    def overdue(self) -> ProblemError:
        """Of a job whose time was over before it had ended."""
        return ProblemError(
            "batch-overdue",
            f"For {self.retention_hours:g} hours no further chunk of it was done: its file is deleted. Send it again "
            "when the service has less to do, or in smaller files.",
        )
