"""With which bundle version a job is scored: with one, from its first row to its last, or in the end not at all."""

from __future__ import annotations

from dataclasses import replace

from service.jobs.ledger import Job
from service.problems import ProblemError
from service.scoring.results import Tally

MOST_RESTARTS = 3
"""Where versions change faster than a file is scored, it would be begun again for ever."""


def scored_with(job: Job, version: str) -> Job:
    """The job, to be scored with this version: as far as it is, or from row 0 where it was begun with another. Raises
    `ProblemError` where that has come to pass `MOST_RESTARTS` times before."""
    if job.bundle_version == version:
        return job
    restarts = job.restarts + (job.bundle_version is not None)
    if restarts > MOST_RESTARTS:
        raise ProblemError(
            "versions-changed",
            f"Another bundle version took over {restarts} times before all rows were scored by one. Send the batch "
            "again when versions change less often, or in smaller files.",
        )
    return replace(job, bundle_version=version, tally=Tally(), restarts=restarts)
