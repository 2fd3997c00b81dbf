"""What `/batches` takes and gives."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from service.jobs.ledger import Job, State
from service.jobs.worker import Run
from service.problems import Problem
from service.schemas import PredictOptions
from service.security.names import PATH

LISTED = 100
"""Batches in one list, at most."""
CURSOR = r"^[0-9]{1,12}\.[0-9]{1,17}~[A-Za-z0-9_-]{22}$"


class BatchFile(BaseModel):
    """A file in the service's own folder, instead of an upload."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    file: str = Field(pattern=f"^{PATH}$", description="its name below the folder HETLM_BATCH_INPUT_DIR")
    options: PredictOptions = Field(default=PredictOptions(), description="for rows that have none of their own")


class BatchesQuery(BaseModel):
    """Which of one's own batches are listed."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    limit: int = Field(default=LISTED, ge=1, le=LISTED, description="at most so many")
    before: str | None = Field(
        default=None, pattern=CURSOR, description="`next` of another list: the batches that are older than those in it"
    )

    @property
    def place(self) -> tuple[float, str] | None:
        """When the last one of the other list was created, in seconds since 1970, and its id."""
        if self.before is None:
            return None
        created, _, job_id = self.before.partition("~")
        return float(created), job_id


class BatchJobResponse(BaseModel):
    """A file being scored."""

    model_config = ConfigDict(frozen=True)

    id: str
    state: State
    rows: int | None = Field(description="of the whole file; null until it was read once")
    done: int = Field(description="rows that are scored, those with a problem among them")
    failed: int = Field(description="rows that could not be scored: their column `problem` says why")
    fallbacks: int = Field(description="rows that the fallback model answered, since no engine did")
    rows_per_second: float | None = Field(description="since the work was begun or taken up again; null while it rests")
    seconds_left: float | None = Field(description="at this rate; null while the work rests")
    bundle_version: str | None = Field(description="what the rows are scored with; null before that is known")
    restarts: int = Field(description="how often it began again from row 0, since another bundle version took over")
    options: PredictOptions = Field(description="for rows that have none of their own")
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None = Field(
        description="when it is deleted; until it has ended, when it fails unless another chunk of it is done before"
    )
    results: str | None = Field(description="where the result is, once it is `done`")
    problem: Problem | None = Field(description="why it `failed`")


class BatchesResponse(BaseModel):
    """The caller's own, the newest first."""

    model_config = ConfigDict(frozen=True)

    batches: list[BatchJobResponse]
    next: str | None = Field(description="`before` of the next list; null where there are no older ones")


def cursor(job: Job) -> str:
    """Of lists that go on behind this job, also when it is gone."""
    return f"{job.created!r}~{job.id}"


def document(job: Job, run: Run | None) -> BatchJobResponse:
    """`run`: the work under way on this very job, if any."""
    tally = run.tally if run is not None and job.state == "running" else job.tally
    rate = run.rate if run is not None and job.state == "running" else None
    return BatchJobResponse(
        id=job.id,
        state=job.state,
        rows=job.rows,
        done=tally.done,
        failed=tally.failed,
        fallbacks=tally.fallbacks,
        rows_per_second=round(rate, 3) if rate is not None else None,
        seconds_left=round((job.rows - tally.done) / rate, 1) if rate and job.rows is not None else None,
        bundle_version=job.bundle_version,
        restarts=job.restarts,
        options=job.options,
        created_at=_time(job.created),
        started_at=_time(job.started) if job.started is not None else None,
        ended_at=_time(job.ended) if job.ended is not None else None,
        expires_at=_time(job.expires) if job.expires is not None else None,
        results=f"/batches/{job.id}/results" if job.state == "done" else None,
        problem=job.problem,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
