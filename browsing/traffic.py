"""What training's histories look like to the service, were they requests: what its traffic is compared with.

A history is one observation. Its newest visit is the news in it (the older ones were seen before), and weighs one,
spread evenly over its page views, however long it was.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

CONFIDENCE_EDGES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Upper edges of the bins of the selector's highest probability, each included in its bin."""

Share = Annotated[float, Field(ge=0, le=1)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VisitPages(_Document):
    """The pages of the newest visits."""

    users: int = Field(ge=1, description="distinct users behind it")
    pages: dict[str, Share] = Field(description="the likeliest pages of the vocabulary, and their share")
    unknown: Share = Field(description="share of pages outside the vocabulary")
    unknown_views: Share = Field(description="share of page views outside it: here a long visit weighs more")


class Routing(_Document):
    """Where the selector sends histories, and how sure it is."""

    users: int = Field(ge=1, description="distinct users behind it")
    clusters: tuple[Share, ...] = Field(description="share of histories per likeliest cluster")
    confidence: tuple[Share, ...] = Field(
        min_length=len(CONFIDENCE_EDGES),
        max_length=len(CONFIDENCE_EDGES),
        description="share of histories per bin of the highest probability; edges: `CONFIDENCE_EDGES`",
    )
    mean_confidence: Share = Field(description="mean of the highest probability")


def confidence_bin(probability: float) -> int:
    """The place among `CONFIDENCE_EDGES` of the highest probability of a selector."""
    return min(bisect_left(CONFIDENCE_EDGES, probability), len(CONFIDENCE_EDGES) - 1)
