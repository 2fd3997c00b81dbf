"""What `GET /pages` takes, and what it and `GET /bundle` give."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


class PagesQuery(BaseModel):
    """The query of `GET /pages`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    prefix: str = Field(
        default="",
        max_length=500,
        description="what a page's name begins with, or failing that holds; upper and lower case are one",
    )
    limit: int = Field(default=10, ge=1, le=50, description="pages listed at most")


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True)


class PagesResponse(_Response):
    pages: list[str] = Field(
        description="known pages: those that begin with the text before those that hold it elsewhere, outcomes before "
        "others, and then the most viewed first"
    )


class ClusterShown(_Response):
    """A kind of visitor, in aggregates over the training users."""

    id: int
    name: str
    share: Share = Field(description="of the training users")
    typical_pages: list[str]
    behaviours: list[str] = Field(description="what its visitors do clearly more or less than the others, in words")
    median_pages: float | None = Field(description="page views of its median session; null where the bundle lacks it")
    outcome_rates: dict[str, Share] = Field(
        description="share of its next sessions that hold the outcome; empty where the bundle lacks it"
    )


class OutcomeShown(_Response):
    pages: list[str] = Field(description="a session that holds one of them holds the outcome")
    calibrated: bool


class LimitsShown(_Response):
    max_steps: int = Field(description="a next session is followed for at most so many pages")
    context_tokens: int = Field(description="positions of a predictor; a longer history loses its oldest sessions")
    sessions_read: int = Field(description="the newest so many sessions are read")
    session_pages: int = Field(description="most pages of one session")
    pages: int = Field(description="most pages of one history")
    page_length: int = Field(description="most characters of a page's name")


class TrainingShown(_Response):
    method: str
    users: int
    window_start: str = Field(description="first event of the log, ISO 8601")
    window_end: str


class ExampleShown(_Response):
    """A made-up visitor: no session of it was ever recorded."""

    cluster: int = Field(description="whose generated sessions these are")
    sessions: list[list[str]] = Field(description="oldest first")


class BundleResponse(_Response):
    """The model that answers."""

    version: str
    clusters: list[ClusterShown]
    outcomes: dict[str, OutcomeShown]
    limits: LimitsShown
    training: TrainingShown
    vocabulary_pages: int = Field(description="pages that the bundle knows; see `/pages`")
    calibrated: bool = Field(description="whether all outcomes are; false where there are none")
    returns: bool = Field(description="whether answers can say `return_within_7_days`")
    report: bool = Field(description="whether there is a report at `/report`")
    examples: list[ExampleShown] = Field(description="histories to try, of generated sessions, never of recorded ones")
