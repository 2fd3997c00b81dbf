"""Profiles: what each cluster's visitors are like, in aggregates over the training users (`profiles.json`).

Every page in one was seen by at least `min_users` of the cluster's users; the journeys are generated, not recorded.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

NAME_LENGTH = 40
PROFILES = "profiles.json"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PageProfile(_Document):
    page: str
    share: float = Field(ge=0, le=1, description="share of the cluster's sessions that hold the page")
    lift: float = Field(ge=0, description="that share over the share among everybody's sessions")


class SessionLength(_Document):
    """Page views per session."""

    mean: float = Field(ge=0)
    lower_quartile: float = Field(ge=0)
    median: float = Field(ge=0)
    upper_quartile: float = Field(ge=0)


class Visits(_Document):
    """How a group of users visits; a user's sessions in the data, next sessions among them."""

    users: int = Field(ge=0)
    sessions: int = Field(ge=0)
    length: SessionLength
    sessions_per_user: float = Field(ge=0)
    repeated: float = Field(
        ge=0, le=1, description="share of the page views after a user's first session whose page an earlier one holds"
    )


class OutcomeRate(_Document):
    rate: float = Field(ge=0, le=1, description="share of the cluster's next sessions that hold the outcome")
    everybody: float = Field(ge=0, le=1, description="the same among all next sessions")


class Journey(_Document):
    """A session that the cluster's predictor generated for a visitor of whom it knows nothing."""

    pages: tuple[str, ...] = Field(min_length=1)
    weight: float = Field(ge=0, le=1, description="share of the sampled sessions that are more like it than the others")


class ClusterProfile(_Document):
    id: int = Field(ge=0)
    built_name: str = Field(max_length=NAME_LENGTH, description="the name read off pages and behaviours")
    share: float = Field(ge=0, le=1, description="share of the training users")
    visits: Visits
    typical: tuple[PageProfile, ...] = Field(description="the pages of most sessions, most first")
    distinctive: tuple[PageProfile, ...] = Field(description="the pages with the highest lift, highest first")
    behaviours: tuple[str, ...] = Field(description="what its users do clearly more or less than the others, in words")
    outcomes: dict[str, OutcomeRate]
    journeys: tuple[Journey, ...]


class Profiles(_Document):
    """`profiles.json`. `named_by`: the language model that named the clusters; None: they have their built names."""

    schema_version: Literal[1] = 1
    named_by: str | None = None
    min_users: int = Field(ge=1, description="distinct users of a cluster behind every page that is shown of it")
    everybody: Visits
    clusters: tuple[ClusterProfile, ...] = Field(min_length=1)
