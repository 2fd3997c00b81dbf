"""What an evaluation comes to, as a JSON document: one row of metrics per cluster, and one over all users."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Decode = Literal["consensus", "greedy", "own"]
"""How one next session came about. `own`: a baseline's, which decodes as it pleases."""
Interval = tuple[float, float]
"""95 %, by resampling users."""


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
    """Whether an outcome was predicted, against whether the actual session holds its page."""

    accuracy: float
    recall: float = Field(description="0 where it happened to nobody")
    precision: float = Field(description="0 where it was predicted for nobody")
    f1: float
    predicted: int = Field(description="users for whom it was predicted")
    happened: int = Field(description="users to whom it happened")
    hits: int = Field(description="users with both")


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


class TextMetrics(_Document):
    """The generated sessions read as sentences of page tokens."""

    bleu: float = Field(description="corpus BLEU, 0 to 100")
    bert_precision: float | None = Field(default=None, description="BERTScore on the pinned encoder, where asked for")
    bert_recall: float | None = None
    bert_f1: float | None = None


class Generation(_Document):
    """What one decode's sessions are worth. `outcomes`: predicted where the decoded session holds their page.

    `intervals`: by the path of the figure within this object, such as `pages.iou`, `variance.hr`, `outcomes.cart.f1`,
    `lengths.empty`; a figure that is undefined in too many resamples has none.
    """

    pages: PageMetrics
    variance: VarianceMetrics
    outcomes: dict[str, OutcomeMetrics] = Field(description="cart, purchase, and cart_or_purchase where there are both")
    lengths: LengthMetrics
    text: TextMetrics | None = None
    intervals: dict[str, Interval] = {}


class RankingMetrics(_Document):
    """Means over users, of the pages in the order of their probability."""

    recall_5: float
    recall_10: float
    recall_20: float
    ndcg_5: float
    ndcg_10: float
    ndcg_20: float
    mrr: float = Field(description="1 / the place of the first page that came true, 0 beyond place 20")


class Bin(_Document):
    """Users of like probability: predicted against what happened."""

    lower: float = Field(description="the least probability among them")
    upper: float
    n: int
    predicted: float = Field(description="mean probability")
    observed: float = Field(description="share to whom it happened")
    interval: Interval = Field(description="95 % of `observed`, Wilson")
    happened: int


class ProbabilityMetrics(_Document):
    mean: float = Field(description="the mean probability, to be compared with the rate")
    brier: float
    log_loss: float
    auc: float | None = Field(description="none where it happened to nobody or to everybody")
    average_precision: float | None = Field(default=None, description="none where it happened to nobody")
    ece: float | None = Field(default=None, description="expected calibration error, over bins of equal mass")
    ece_null: float | None = Field(
        default=None, description="95 % quantile of the ECE of a calibrated forecaster with the same probabilities"
    )
    reliability: tuple[Bin, ...] = Field(default=(), description="the bins of `ece`, rising; in the combined row alone")
    buckets: tuple[Bin, ...] = Field(
        default=(), description="deciles of propensity, the likeliest users first; in the combined row alone"
    )


class Decision(_Document):
    """An outcome predicted wherever its probability reaches a threshold chosen on validation users."""

    threshold: float | None = Field(description="the one of the highest F1; none with too few positives to choose by")
    users: int = Field(description="validation users")
    positives: int = Field(description="those of them to whom it happened")
    kind: Literal["calibrated", "raw"] = Field(description="which probability the threshold cuts")
    metrics: OutcomeMetrics | None = Field(description="none without a threshold")


class OutcomeProbability(_Document):
    rate: float = Field(description="share of users to whom it happened")
    raw: ProbabilityMetrics
    calibrated: ProbabilityMetrics | None = Field(description="none where there is no calibration for it")


class WithinHorizon(_Document):
    """A probability that something happens within the horizon, against whether it did.

    `intervals`: by field, such as `rate`, `quality.auc`.
    """

    users: int
    rate: float = Field(description="share of them to whom it happened")
    base_log_loss: float = Field(description="of saying `rate` to everybody")
    base_brier: float
    quality: ProbabilityMetrics
    intervals: dict[str, Interval] = {}


class OutcomeWithin(WithinHorizon):
    """P(returns) P(outcome | returns), which speaks of the first session within the horizon."""

    any_rate: float = Field(description="share of users any of whose sessions within the horizon held the outcome")


class Returns(_Document):
    """What is answered about the days after a reference time, on every user with a visit before it, whether they came
    back or not. `outcomes`: on `Settings.return_users` of them, where the dataset holds what they saw."""

    horizon_days: int
    as_of: str = Field(description="the reference time, ISO 8601")
    returned: WithinHorizon
    outcomes: dict[str, OutcomeWithin] = {}


class LossMetrics(_Document):
    """-log p(actual next session), `[EOS]` counted, `[BOS]` not, a page outside the vocabulary as `[UNK]`."""

    nats_per_page: float = Field(description="all nats over all tokens")
    user_mean: float = Field(description="the mean over users of their own nats per token")
    tokens: int
    cut_sessions: int = Field(description="actual sessions whose end lies beyond the predictor's context, not scored")


class Row(Generation):
    """One cluster's users, or all. As a `Generation` it is that of `Settings.decode`.

    `intervals` has besides, for what no decode touches: `ranking.ndcg_10`, `probabilities.cart.calibrated.log_loss`,
    `decisions.cart.metrics.f1`, `loss.nats_per_page`.
    """

    cluster: int | None = Field(description="none: all users together")
    name: str
    n: int = Field(description="next sessions")
    users: int | None = Field(default=None, description="distinct users behind them")
    others: dict[Decode, Generation] = Field(default={}, description="of the same paths, decoded otherwise")
    ranking: RankingMetrics | None = None
    probabilities: dict[str, OutcomeProbability]
    decisions: dict[str, Decision] = Field(
        default={}, description="by outcome, cart_or_purchase included, whose score is the higher of the two"
    )
    loss: LossMetrics | None


class Settings(_Document):
    split: Literal["train", "select", "calibrate", "test"]
    model: str = Field(description="bundle, shared, fallback, or a baseline's name")
    users: int = Field(description="next sessions evaluated")
    of_users: int = Field(description="next sessions in the split")
    decode: Decode = Field(description="whose figures stand in the rows themselves; the other's in `others`")
    samples: int
    seed: int = Field(description="of the paths, the choice of users and the resamples")
    max_steps: int
    prompt_tokens: int
    resamples: int = Field(default=0, description="bootstrap resamples behind every interval")
    validation_users: int = Field(default=0, description="selection users forecast to choose thresholds")
    calibration_users: int = Field(
        default=0,
        description="next sessions of calibration users, forecast to calibrate; 0 where the bundle's own is used",
    )
    return_users: int = Field(
        default=0, description="users forecast, whether they came back or not, for outcomes within the horizon"
    )


class Machine(_Document):
    cpu: str
    cores: int = Field(description="that this process may use")
    memory_gib: float
    python: str
    torch: str
    threads: int = Field(description="torch's")


class Evaluation(_Document):
    """The whole result of one (dataset, method, seed). Everything but `seconds`, `machine` and `peak_memory_mib`
    depends on the inputs alone, up to the rounding of floats. Per-user values stand beside it, in
    `<stem>.users.parquet`."""

    schema_version: Literal[2] = 2
    bundle_version: str
    dataset: str = Field(default="", description="the dataset directory's name")
    dataset_sha256: str = Field(description="sha256 over the dataset's sorted (file, sha256) pairs")
    vocabulary_sha256: str = Field(default="", description="losses compare over one vocabulary only")
    method: str = Field(description="the training method for the bundle's predictors, else the model's name")
    seed: int = Field(default=0, description="the training's; for a baseline the evaluation's")
    training: dict[str, JsonValue] = Field(
        default={}, description="the bundle's training settings; none for a baseline"
    )
    settings: Settings
    clusters: tuple[Row, ...] = Field(description="clusters that at least one evaluated user falls into")
    combined: Row
    returns: Returns | None = Field(
        default=None, description="none but for a bundle with a model of returning, on a dataset that knows of it"
    )
    users_sha256: str | None = Field(default=None, description="of the file of per-user values beside this document")
    machine: Machine | None = None
    peak_memory_mib: float | None = Field(default=None, description="of the evaluating process")
    seconds: dict[str, float] = Field(description="wall time of every stage")
