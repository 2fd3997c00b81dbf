"""What `POST /predict` takes and gives. Requests are strict: nothing is converted, nothing unknown is let through."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from browsing.forecast import Options
from browsing.newest import MAX_PAGES as MAX_PAGES
from browsing.newest import MAX_SESSION_PAGES as MAX_SESSION_PAGES
from browsing.newest import MAX_SESSIONS as MAX_SESSIONS
from service.problems import Problem

MAX_PAGE_LENGTH = 500
MAX_ITEMS = 1_000
EARLIEST = datetime(1995, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)


def _plausible(time: datetime) -> datetime:
    if not EARLIEST <= time <= LATEST:
        raise PydanticCustomError("time_range", "must lie between the years 1995 and 2200")
    return time


_TIME = (
    r"^(199[5-9]|20[0-9]{2}|21[0-9]{2})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
"""What the OpenAPI document says besides `format: date-time`."""
Time = Annotated[AwareDatetime, AfterValidator(_plausible), Field(json_schema_extra={"pattern": _TIME})]
PageName = Annotated[str, Field(min_length=1, max_length=MAX_PAGE_LENGTH)]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class SessionIn(_Request):
    """One earlier visit."""

    started_at: Time = Field(description="ISO 8601 with a time zone")
    pages: list[PageName] = Field(
        min_length=1, max_length=MAX_SESSION_PAGES, description="page names, in the order they were seen"
    )


class EventIn(_Request):
    """One row of a log; the bundle's page rules make a page of it."""

    time: Time = Field(description="ISO 8601 with a time zone")
    url: str | None = Field(default=None, max_length=4_096, description="URL or page name; an outcome needs none")
    event: str | None = Field(default=None, max_length=200, description="event type, such as product_added_to_cart")
    session_id: str | None = Field(
        default=None, max_length=200, description="the log's own session; else pauses part the sessions"
    )


class PredictOptions(_Request):
    samples: int = Field(
        default=Options().samples,
        ge=1,
        le=256,
        description="paths sampled per question: more are more exact. The calibration was fitted with the default "
        "number: with fewer paths a calibrated probability is too bold, with more a little too cautious",
    )
    tolerance: float | None = Field(
        default=None,
        ge=0.001,
        le=0.5,
        examples=[0.02],
        description="sampling stops as soon as every outcome's 95 % interval, before calibration, reaches no further "
        "than this to either side: after 8 paths, or 16, 32, and so on up to `samples`, which remains the maximum. It "
        "also stops where the deadline leaves no time for another round. By default all `samples` are drawn. `samples` "
        "of the answer says how many were; pages and next session rest on as many as the outcome that took most. "
        "Probabilities of rare outcomes then come out a little too low, by less than the tolerance",
    )
    top_pages: int = Field(default=20, ge=1, le=100, description="pages listed")
    decode: Literal["consensus", "greedy"] | None = Field(
        default=None, description="how one next session is chosen; by default the bundle's way"
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="equal requests with equal seeds have equal answers")
    deadline_ms: int | None = Field(
        default=None, ge=1, le=60_000, description="after this long the fallback model answers; default: the service's"
    )
    strict: bool = Field(default=False, description="an error instead of a fallback")
    as_of: Time | None = Field(
        default=None,
        description="ISO 8601 with a time zone: the time from which the 7 days of `return_within_7_days` run, by "
        "default the server's clock; nothing else depends on it",
    )


def _given(member: str) -> JsonDict:
    """In JSON Schema: the member is there, and not null."""
    return {"required": [member], "properties": {member: {"type": "array"}}}


class PredictRequest(_Request):
    """A visitor's history: exactly one of `sessions` and `events`. An empty one asks about an unknown visitor."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [_given("sessions"), _given("events")]})

    user_id: str | None = Field(default=None, max_length=200, description="comes back in the answer; never logged")
    sessions: list[SessionIn] | None = Field(
        default=None, max_length=MAX_PAGES, description="earlier visits, oldest first; the newest 200 are read"
    )
    events: list[EventIn] | None = Field(
        default=None, max_length=MAX_PAGES, description="raw events, in any order, instead of sessions"
    )
    options: PredictOptions = Field(default=PredictOptions())

    @model_validator(mode="after")
    def _whole(self) -> PredictRequest:
        if (self.sessions is None) == (self.events is None):
            raise _error("", "needs exactly one of sessions and events")
        sessions = self.sessions or []
        for i, (older, newer) in enumerate(pairwise(sessions)):
            if newer.started_at < older.started_at:
                raise _error(
                    f"/sessions/{i + 1}/started_at", "is before the session in front of it: order them oldest first"
                )
        if sum(len(session.pages) for session in sessions) > MAX_PAGES:
            raise _error("/sessions", f"hold more than {MAX_PAGES} pages together: keep the newest sessions")
        times = [session.started_at for session in sessions] + [event.time for event in self.events or ()]
        if self.options.as_of is not None and times and self.options.as_of < max(times):
            raise _error("/options/as_of", "is before the newest of the visits: leave out what came later")
        return self


def _error(pointer: str, message: str) -> PydanticCustomError:
    return PydanticCustomError("history", "{message}", {"message": message, "pointer": pointer})


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True)


Probability = Annotated[float, Field(ge=0, le=1)]


class ClusterOut(_Response):
    """The kind of visitor. Without history: the commonest kind, and its share."""

    id: int
    name: str
    probability: Probability


class PageOut(_Response):
    page: str
    probability: Probability = Field(description="that the next session holds the page, given that the visitor returns")
    seen_before: bool
    estimator: Literal["hazard", "count"]


class OutcomeOut(_Response):
    probability: Probability = Field(
        description="that the next session holds the outcome, given that the visitor returns; calibrated where "
        "`calibrated` says so, else equal to `raw`"
    )
    raw: Probability = Field(description="the model's own")
    calibrated: bool = Field(description="false where too few visitors were kept for calibration, and for fallbacks")
    interval: tuple[Probability, Probability] = Field(
        description="95 %, around `probability`: of the sampling and, where it is calibrated, of the calibration. More "
        "samples narrow the one, more visitors kept for calibration the other"
    )
    within_7_days: Probability | None = Field(
        default=None,
        description="`return_within_7_days` times `probability`: that the visitor returns within 7 days and the first "
        "session then holds the outcome, as if it did not matter how soon it comes; null where there is no "
        "`return_within_7_days`",
    )


class TruncatedOut(_Response):
    sessions_dropped: int = Field(ge=0, description="oldest sessions that the model's context has no room for")


class SamplesOut(_Response):
    """Paths that the answer rests on; none without history."""

    pages: int = Field(ge=0, description="for the pages and the next session")
    outcomes: dict[str, Annotated[int, Field(ge=0)]] = Field(
        description="for each outcome, besides; with `options.tolerance` as many as it took"
    )


class EmbeddingOut(_Response):
    sessions: int = Field(ge=0)
    cached: int = Field(ge=0, description="of these, found in the cache")


class TookOut(_Response):
    """Milliseconds."""

    total: float
    embed: float
    select: float
    generate: float
    estimate: float


class PredictResponse(_Response):
    """The next session, GIVEN THAT the visitor returns: every probability but `return_within_7_days` and
    `within_7_days` is conditional on there being a next session, however late."""

    request_id: str
    bundle_version: str
    user_id: str | None
    condition: Literal["next_session"] = Field(
        default="next_session", description="what the probabilities of pages and outcomes are conditional on"
    )
    cluster: ClusterOut
    next_session: list[str]
    pages: list[PageOut] = Field(description="likeliest first")
    outcomes: dict[str, OutcomeOut]
    return_within_7_days: Probability | None = Field(
        default=None,
        description="that any session starts within 7 days after `options.as_of`; null without history, where the "
        "bundle has no model of it (its log was too short), and where a session lies in the future",
    )
    unknown_pages: list[str] = Field(description="pages that the bundle does not know, each once")
    truncated: TruncatedOut
    unfinished_paths: Probability = Field(description="share of sampled paths cut at the maximal number of pages")
    samples: SamplesOut = Field(default=SamplesOut(pages=0, outcomes={}), description="paths that were sampled")
    fallback: Literal["no_history", "engine_down"] | None
    embedding: EmbeddingOut
    took_ms: TookOut


_ANYTHING: JsonDict = {"anyOf": [{"$ref": "#/components/schemas/PredictRequest"}, {}]}
"""What an item may be: a wrong one is no reason to refuse the whole."""


class BatchRequest(_Request):
    """Up to 1,000 requests. Each is checked by itself: a wrong one becomes a problem at its place."""

    items: list[Annotated[PredictRequest, WithJsonSchema(_ANYTHING, mode="validation")]] = Field(
        min_length=1, max_length=MAX_ITEMS
    )


class ItemProblem(_Response):
    problem: Problem


class BatchResponse(_Response):
    """Answers in the order of the items."""

    items: list[PredictResponse | ItemProblem]


class ReadyResponse(_Response):
    status: Literal["ready"] = "ready"
    bundle_version: str
    clusters: int
    clusters_down: list[int] = Field(description="whose engine does not answer: their visitors get the fallback model")
