"""What `/admin/bundles` takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.versions.steps import Step

Status = Literal["serving", "canary", "loading", "retiring", "idle", "broken"]
Share = Annotated[float, Field(ge=0, le=1, description="of the users; those without an id are never the canary's")]


class CanaryRequest(BaseModel):
    """The body of `POST /admin/bundles/{version}/canary`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    share: Share = Field(description="of the users, 0 to 1; 0 ends the canary")


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True)


class BundleOut(_Response):
    """A version in the folder."""

    name: str = Field(description="of its folder; what it is activated by")
    version: str | None = Field(description="the hash of its contents, as in answers and metrics; null where broken")
    state: Status
    reason: str | None = Field(description="why it is broken, or what is amiss")
    share: Share
    method: str | None
    clusters: int | None
    users: int | None = Field(description="that it was trained on")
    trained_from: str | None = Field(description="first event of its training log")
    trained_until: str | None = Field(description="last event of its training log")
    written_at: datetime | None = Field(description="when its manifest was written here")


class UnderWay(_Response):
    """A rollout that has not ended."""

    version: str = Field(description="the folder's name")
    step: Step
    seconds: float


class BundlesResponse(_Response):
    """All versions, by name."""

    serving: str = Field(description="the folder's name")
    canary: str | None
    under_way: UnderWay | None
    bundles: list[BundleOut]


class StepOut(_Response):
    step: Step
    seconds: float


class RolloutResponse(_Response):
    """What stands after a rollout."""

    changed: bool = Field(description="false where it was so before")
    serving: str = Field(description="the folder's name")
    serving_version: str
    canary: str | None
    canary_version: str | None
    share: Share
    steps: list[StepOut]
    seconds: float
    unfinished: int = Field(
        ge=0, description="requests that the bundle that went was still working on when the time for draining was over"
    )
