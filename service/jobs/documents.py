"""What `/batches` takes and gives."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from service.jobs.ledger import Job, State
from service.jobs.worker import Run
from service.problems import Problem
from service.schemas import PredictOptions
from service.security.names import PATH


class BatchFile(BaseModel):
    """A file in the service's own folder, instead of an upload."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    file: str = Field(pattern=f"^{PATH}$", description="its name below the folder HETLM_BATCH_INPUT_DIR")
    options: PredictOptions = Field(default=PredictOptions(), description="for rows that have none of their own")


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
    expires_at: datetime | None = Field(description="when it is deleted; null until it has ended")
    results: str | None = Field(description="where the result is, once it is `done`")
    problem: Problem | None = Field(description="why it `failed`")


class BatchesResponse(BaseModel):
    """The caller's own, the newest first."""

    model_config = ConfigDict(frozen=True)

    batches: list[BatchJobResponse]


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
