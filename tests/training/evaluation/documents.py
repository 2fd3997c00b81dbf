"""Documents of evaluations, made by hand: every figure is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.evaluation.result import (
    Bin,
    Decode,
    Evaluation,
    Generation,
    Interval,
    LengthMetrics,
    LossMetrics,
    OutcomeMetrics,
    OutcomeProbability,
    OutcomeWithin,
    PageMetrics,
    ProbabilityMetrics,
    RankingMetrics,
    Returns,
    Row,
    Settings,
    TextMetrics,
    VarianceMetrics,
    WithinHorizon,
)

PAGES = {"hr": 0.8, "ioa": 0.4, "iop": 0.5, "iou": 0.3, "new_p": 0.2, "val_p": 1.0}
VARIANCES = {"hr": 0.16, "ioa": 0.12, "iog": 0.11, "iou": 0.1}


def outcome(value: float, predicted: int = 5, happened: int = 4) -> OutcomeMetrics:
    """Accuracy, recall, precision and F1 are all `value`."""
    return OutcomeMetrics(
        accuracy=value, recall=value, precision=value, f1=value, predicted=predicted, happened=happened, hits=2
    )


def quality(log_loss: float) -> ProbabilityMetrics:
    return ProbabilityMetrics(mean=0.3, brier=0.2, log_loss=log_loss, auc=0.7, average_precision=0.5)


def generation(
    pages: Mapping[str, float] = {},
    variance: Mapping[str, float] = {},
    outcomes: Mapping[str, float] = {},
    intervals: Mapping[str, Interval] = {},
    bleu: float | None = None,
) -> Generation:
    """What is not given is as in `PAGES` and `VARIANCES`; no outcome unless given, by its value."""
    return Generation(
        pages=PageMetrics(**{**PAGES, **pages}),
        variance=VarianceMetrics(**{**VARIANCES, **variance}),
        outcomes={name: outcome(value) for name, value in outcomes.items()},
        lengths=LengthMetrics(**dict.fromkeys(LengthMetrics.model_fields, 0.5)),
        text=None if bleu is None else TextMetrics(bleu=bleu),
        intervals=dict(intervals),
    )


def row(
    own: Generation | None = None,
    *,
    cluster: int | None = None,
    name: str = "Combined",
    n: int = 1200,
    nats: float | None = 2.5,
    others: Mapping[Decode, Generation] = {},
    log_losses: Mapping[str, float] = {},
) -> Row:
    """`log_losses`: of the outcomes' raw probabilities."""
    own = own or generation()
    loss = None if nats is None else LossMetrics(nats_per_page=nats, user_mean=nats, tokens=100, cut_sessions=0)
    return Row(
        **{field: getattr(own, field) for field in Generation.model_fields},
        cluster=cluster,
        name=name,
        n=n,
        others=dict(others),
        ranking=RankingMetrics(**dict.fromkeys(RankingMetrics.model_fields, 0.6)),
        probabilities={
            name: OutcomeProbability(rate=0.25, raw=quality(value), calibrated=None)
            for name, value in log_losses.items()
        },
        loss=loss,
    )


def within(auc: float, users: int = 900) -> dict[str, Any]:
    """The fields of a `WithinHorizon`."""
    own = Bin(lower=0.1, upper=0.4, n=users, predicted=0.25, observed=0.3, interval=(0.2, 0.4), happened=270)
    return {
        "users": users,
        "rate": 0.3,
        "base_log_loss": 0.611,
        "base_brier": 0.21,
        "quality": quality(0.55).model_copy(update={"auc": auc, "buckets": (own,), "reliability": (own, own)}),
        "intervals": {"quality.auc": (auc - 0.05, auc + 0.05)},
    }


def about_time(auc: float = 0.7, outcomes: Mapping[str, float] = {}) -> Returns:
    """`outcomes`: the AUC of each."""
    return Returns(
        horizon_days=7,
        as_of="2026-03-02T00:00:00+00:00",
        returned=WithinHorizon(**within(auc)),
        outcomes={name: OutcomeWithin(**within(own, 400), any_rate=0.45) for name, own in outcomes.items()},
    )


def evaluation(
    method: str = "hetlm",
    combined: Row | None = None,
    *,
    seed: int = 0,
    clusters: tuple[Row, ...] = (),
    dataset: str = "shop",
    training: Mapping[str, Any] = {},
    decode: Decode = "consensus",
    users: int = 1200,
    split: Any = "test",
    returns: Returns | None = None,
) -> Evaluation:
    return Evaluation(
        bundle_version="b" * 64,
        dataset=dataset,
        dataset_sha256=dataset.encode().hex().ljust(64, "0"),
        method=method,
        seed=seed,
        training=dict(training),
        settings=Settings(
            split=split,
            model="bundle",
            users=users,
            of_users=users,
            decode=decode,
            samples=16,
            seed=seed,
            max_steps=8,
            prompt_tokens=56,
            resamples=100,
        ),
        clusters=clusters,
        combined=combined or row(),
        returns=returns,
        seconds={},
    )
