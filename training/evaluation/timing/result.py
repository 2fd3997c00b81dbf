"""What a timing comes to, as a JSON document."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from training.dataset import Split
from training.evaluation.result import Machine

EXTRAPOLATED = 10_000
"""Samples of Table 18; times of fewer are extrapolated to them in proportion."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Timed(_Document):
    """One configuration's times."""

    name: str = Field(description="the bundle directory's name, or single (and the bundle's name) for its shared model")
    kind: Literal["single", "bundle"]
    bundle_version: str
    method: str = Field(description="the bundle's training method; single for a shared model")
    models: int = Field(description="predictors: 1, or the bundle's clusters")
    parameters: int = Field(description="of one predictor")
    total_parameters: int = Field(description="of all predictors together")
    seconds: tuple[float, ...] = Field(description="generation for all the users, one figure per round")
    ratios: tuple[float, ...] = Field(description="of the seconds to the first configuration's of the same round")
    extrapolated_seconds: float = Field(description="mean seconds in proportion for 10,000 samples, not measured")
    tokens: int = Field(description="generated in one round: pages and ends of sessions, over all paths")
    route_seconds: float | None = Field(
        description="once, and not in `seconds`: embedding every history anew and selecting; none for a single model"
    )


class Timing(_Document):
    """Inference times of several configurations, measured side by side in one run."""

    kind: Literal["timing"] = "timing"
    schema_version: Literal[1] = 1
    dataset: str = Field(description="the dataset directory's name")
    dataset_sha256: str
    split: Split
    users: int = Field(description="next sessions forecast in every turn, the same for all")
    rounds: int
    samples: int = Field(description="paths per user and set")
    sets: int = Field(description="sets of paths per user: an unrestricted one, and one per outcome; and a greedy path")
    seed: int
    max_steps: int
    concurrency: int = Field(description="users in flight at once")
    machine: Machine
    configurations: tuple[Timed, ...]
