"""What a comparison of evaluations comes to, as a JSON document: differences of the same users' figures."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from training.evaluation.result import Decode, Interval

Verdict = Literal["better", "worse", "not distinguishable"]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Difference(_Document):
    reference: float
    other: float
    difference: float = Field(description="other - reference")
    standard_error: float = Field(description="of the difference, over resampled users")
    interval: Interval = Field(description="95 % of the difference, over resampled users")
    better: Literal["higher", "lower", "neither"]
    verdict: Verdict | None = Field(description="whether the interval holds 0; none where neither is better")


class Side(_Document):
    """One evaluation that takes part."""

    name: str = Field(description="the file's name without .json")
    method: str
    seed: int
    decode: Decode
    bundle_version: str


class Compared(_Document):
    """One evaluation against the reference. `differences` by figure: `pages.iou`, `variance.iog`, per outcome
    `outcomes.cart.recall` of the decoded session and `decisions.cart.recall` of the threshold, `text.bleu`,
    `ranking.ndcg_10`, `loss.nats_per_page` (pooled), `loss.user_mean`, `worst_decile.iou`,
    `worst_decile.nats_per_page`, and per outcome `cart.log_loss`, `cart.brier`, `cart.auc`, `cart.average_precision`
    of the probability that would be answered, `cart.raw.log_loss`, `cart.raw.brier` of the uncalibrated one. Where it
    was asked for, `equal_mean.iou` and `equal_each.iou`: of this method's likeliest pages, as many as the reference's
    sessions have, against them. A figure that either side lacks is left out."""

    side: Side
    differences: dict[str, Difference]


class Comparison(_Document):
    schema_version: Literal[1] = 1
    dataset: str
    dataset_sha256: str
    split: str
    n: int = Field(description="next sessions")
    users: int = Field(description="distinct users behind them: what is resampled")
    resamples: int
    seed: int
    reference: Side
    others: tuple[Compared, ...]
