"""What an answer of the service must look like: the public contract, written down a second time, on purpose.

Members that are not named here are let through: a service may say more, never less.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MEDIA_TYPE = "application/problem+json"
REFUSALS = {429: ("overloaded", "too-many-requests"), 503: ("engine-down", "not-ready")}
"""Kinds of problem by which a request is refused honestly: not now, and when to come again."""

Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)


class Cluster(_Part):
    id: int = Field(ge=0)
    name: str
    probability: Probability


class Page(_Part):
    page: str = Field(min_length=1)
    probability: Probability
    seen_before: bool
    estimator: Literal["hazard", "count"]


class Outcome(_Part):
    probability: Probability
    raw: Probability
    calibrated: bool
    interval: Annotated[list[Probability], Field(min_length=2, max_length=2)]


class Truncated(_Part):
    sessions_dropped: int = Field(ge=0)


class Embedding(_Part):
    sessions: int = Field(ge=0)
    cached: int = Field(ge=0)


class Took(_Part):
    total: Milliseconds
    embed: Milliseconds
    select: Milliseconds
    generate: Milliseconds
    estimate: Milliseconds


class Answer(_Part):
    """200 of `POST /predict`."""

    request_id: str
    bundle_version: str
    user_id: str | None
    condition: Literal["next_session"]
    cluster: Cluster
    next_session: list[str]
    pages: list[Page]
    outcomes: dict[str, Outcome]
    unknown_pages: list[str]
    truncated: Truncated
    unfinished_paths: Probability
    fallback: Literal["no_history", "engine_down"] | None
    embedding: Embedding
    took_ms: Took


class Problem(_Part):
    """RFC 9457."""

    type: str = Field(pattern=r"^urn:hetlm:problem:[a-z-]+$")
    title: str
    status: int
    detail: str
    request_id: str | None = None


class Ready(_Part):
    """200 of `GET /readyz`."""

    bundle_version: str
    clusters: int = Field(ge=1)


class BatchJob(_Part):
    """Of `/batches`."""

    id: str = Field(pattern=r"^[A-Za-z0-9_-]{8,128}$")
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    rows: int | None
    done: int = Field(ge=0)
    failed: int = Field(ge=0)


class BatchRow(_Part):
    """A line of a batch's result."""

    row: int = Field(ge=0)
    user_id: str | None
    problem: dict[str, object] | None = None
