"""What an evaluation comes to, as a JSON document: one row of metrics per cluster, and one over all users."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PageMetrics(_Document):
    """Means over users."""

    hr: float
    ioa: float
    iop: float
    iou: float
    new_p: float
    val_p: float


class VarianceMetrics(_Document):
    """Population variances over users. `iog`: the variance of IoP, as the paper's text calls it."""

    hr: float
    ioa: float
    iog: float
    iou: float


class OutcomeMetrics(_Document):
    """Whether the decoded session holds the outcome's page, against whether the actual one does."""

    accuracy: float
    recall: float = Field(description="0 where it happened to nobody")
    precision: float = Field(description="0 where it was predicted for nobody")
    f1: float
    predicted: int = Field(description="users for whom it was predicted")
    happened: int = Field(description="users to whom it happened")
    hits: int = Field(description="users with both")


class ProbabilityMetrics(_Document):
    mean: float = Field(description="the mean probability, to be compared with the rate")
    brier: float
    log_loss: float
    auc: float | None = Field(description="none where it happened to nobody or to everybody")


class OutcomeProbability(_Document):
    rate: float = Field(description="share of users to whom it happened")
    raw: ProbabilityMetrics
    calibrated: ProbabilityMetrics | None = Field(description="none where the bundle has no calibration for it")


class LossMetrics(_Document):
    """-log p(actual next session), `[EOS]` counted, `[BOS]` not, a page outside the vocabulary as `[UNK]`."""

    nats_per_page: float = Field(description="all nats over all tokens")
    user_mean: float = Field(description="the mean over users of their own nats per token")
    tokens: int
    cut_sessions: int = Field(description="actual sessions whose end lies beyond the predictor's context, not scored")


class LengthMetrics(_Document):
    """Means over users. `views` counts every page view, `pages` distinct pages."""

    generated_views: float
    actual_views: float
    generated_pages: float
    actual_pages: float
    actual_unknown: float = Field(description="share of the distinct actual pages that the vocabulary does not hold")
    actual_new: float = Field(description="share of the distinct actual pages that are not in the history")
    empty: float = Field(description="share of users for whom no page was generated")
    unfinished_paths: float = Field(description="share of sampled paths that did not end within max_steps")


class Row(_Document):
    cluster: int | None = Field(description="none: all users together")
    name: str
    n: int
    pages: PageMetrics
    variance: VarianceMetrics
    outcomes: dict[str, OutcomeMetrics] = Field(description="cart, purchase, and cart_or_purchase where there are both")
    probabilities: dict[str, OutcomeProbability]
    loss: LossMetrics | None
    lengths: LengthMetrics


class Settings(_Document):
    split: Literal["train", "select", "calibrate", "test"]
    model: Literal["bundle", "markov"]
    users: int = Field(description="users evaluated")
    of_users: int = Field(description="users in the split")
    decode: Literal["consensus", "greedy"]
    samples: int
    seed: int
    max_steps: int
    prompt_tokens: int


class Evaluation(_Document):
    """The whole result. Everything but `seconds` depends on the inputs alone, up to the rounding of floats."""

    schema_version: Literal[1] = 1
    bundle_version: str
    dataset_sha256: str = Field(description="sha256 over the dataset's sorted (file, sha256) pairs")
    method: str
    settings: Settings
    clusters: tuple[Row, ...] = Field(description="clusters that at least one evaluated user falls into")
    combined: Row
    seconds: dict[str, float] = Field(description="wall time of every stage")
