"""From every sample's scores to rows of metrics: one per cluster, and one over all samples, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.evaluation.metrics import probabilities as chances
from training.evaluation.metrics.figures import Figures
from training.evaluation.metrics.pages import Flags, Floats
from training.evaluation.metrics.ranking import NAMES
from training.evaluation.metrics.text import BERT
from training.evaluation.result import (
    Decision,
    Decode,
    Generation,
    Interval,
    LengthMetrics,
    LossMetrics,
    OutcomeMetrics,
    OutcomeProbability,
    PageMetrics,
    ProbabilityMetrics,
    RankingMetrics,
    Row,
    TextMetrics,
    VarianceMetrics,
)
from training.evaluation.rows import Judged, Judgement

VARIANCES = {"hr": "hr", "ioa": "ioa", "iog": "iop", "iou": "iou"}
"""Field of `VarianceMetrics`: the score it is the variance of."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How intervals are drawn; 0 resamples: none are."""

    resamples: int = 0
    seed: int = 0


def rows(judgement: Judgement, names: Sequence[str], sampling: Sampling = Sampling()) -> tuple[tuple[Row, ...], Row]:
    """(one row per cluster that has a sample, the combined row over all samples alike). `names`: the clusters'.

    No names: no clusters, and the combined row alone.
    """
    present = np.unique(judgement.clusters) if names else ()
    per_cluster = tuple(
        _Summary(judgement, judgement.clusters == cluster, sampling).row(int(cluster), names[cluster])
        for cluster in present
    )
    everybody = np.ones(len(judgement.clusters), bool)
    return per_cluster, _Summary(judgement, everybody, sampling).row(None, "Combined")


class _Summary:
    """The metrics over the samples that `members` [N] marks; at least one."""

    def __init__(self, judgement: Judgement, members: Flags, sampling: Sampling) -> None:
        self._judgement = judgement
        self._members = members
        self._sampling = sampling
        self._places = np.flatnonzero(members)
        figures = self._figures()
        self._point = figures.point()
        groups = np.unique(judgement.users[members], return_inverse=True)[1]
        self._users = int(groups.max()) + 1
        self._intervals = figures.intervals(groups, sampling.resamples, sampling.seed)

    def row(self, cluster: int | None, name: str) -> Row:
        judgement, whole = self._judgement, cluster is None
        others = [decode for decode in judgement.judged if decode != judgement.decode]
        own = self._generation(judgement.decode)
        apart = tuple(f"{decode}/" for decode in judgement.judged)
        return Row(
            **{field: getattr(own, field) for field in Generation.model_fields if field != "intervals"},
            intervals=own.intervals | {k: v for k, v in self._intervals.items() if not k.startswith(apart)},
            cluster=cluster,
            name=name,
            n=len(self._places),
            users=self._users,
            others={decode: self._generation(decode) for decode in others},
            ranking=RankingMetrics(**_part(self._point, "ranking.")),
            probabilities={outcome: self._probability(outcome, whole) for outcome in judgement.probabilities.raw},
            decisions={outcome: self._decision(outcome) for outcome in judgement.thresholds},
            loss=self._loss(),
        )

    def _figures(self) -> Figures:
        judgement, members = self._judgement, self._members
        figures = Figures(len(self._places))
        for decode, judged in judgement.judged.items():
            self._add_generation(figures, f"{decode}/", judged)
        for column, name in enumerate(NAMES):
            figures.ratio(f"ranking.{name}", judgement.ranking[members, column])
        for outcome in judgement.probabilities.raw:
            happened = judgement.happened[outcome][members]
            figures.ratio(f"probabilities.{outcome}.rate", happened)
            for kind, p in self._kinds(outcome).items():
                name = f"probabilities.{outcome}.{kind}"
                figures.ratio(f"{name}.mean", p)
                figures.ratio(f"{name}.brier", chances.squared_errors(p, happened))
                figures.ratio(f"{name}.log_loss", chances.surprises(p, happened))
                figures.order(name, p, happened)
        for outcome, decided in judgement.decided.items():
            happened = judgement.happened[outcome][members]
            figures.confusion(f"decisions.{outcome}.metrics", decided[members], happened)
        if judgement.loss is not None:
            nats, tokens = judgement.loss.nats[members], judgement.loss.tokens[members]
            figures.ratio("loss.nats_per_page", nats, tokens)
            figures.ratio("loss.user_mean", nats / tokens)
        return figures

    def _add_generation(self, figures: Figures, prefix: str, judged: Judged) -> None:
        members = self._members
        for name, values in judged.scores.items():
            figures.ratio(f"{prefix}pages.{name}", values[members])
        for name, score in VARIANCES.items():
            figures.variance(f"{prefix}variance.{name}", judged.scores[score][members])
        for outcome, predicted in judged.predicted.items():
            happened = self._judgement.happened[outcome][members]
            figures.confusion(f"{prefix}outcomes.{outcome}", predicted[members], happened)
        for name, values in judged.lengths.items():
            figures.ratio(f"{prefix}lengths.{name}", values[members])
        if judged.text is not None:
            figures.bleu(f"{prefix}text.bleu", judged.text.overlaps.among(members))
            if (bert := judged.text.bert) is not None:
                for column, name in enumerate(BERT):
                    figures.ratio(f"{prefix}text.{name}", bert[members, column])

    def _kinds(self, outcome: str) -> dict[str, Floats]:
        """The outcome's probabilities, raw and, where there is a calibration, calibrated."""
        own = self._judgement.probabilities
        both = {"raw": own.raw[outcome], "calibrated": own.calibrated.get(outcome)}
        return {kind: p[self._members] for kind, p in both.items() if p is not None}

    def _generation(self, decode: Decode) -> Generation:
        judged, prefix = self._judgement.judged[decode], f"{decode}/"
        point = _part(self._point, prefix)
        return Generation(
            pages=PageMetrics(**_part(point, "pages.")),
            variance=VarianceMetrics(**_part(point, "variance.")),
            outcomes={
                outcome: self._outcome(point, f"outcomes.{outcome}.", predicted, self._judgement.happened[outcome])
                for outcome, predicted in judged.predicted.items()
            },
            lengths=LengthMetrics(**_part(point, "lengths.")),
            text=None if judged.text is None else TextMetrics(**_part(point, "text.")),
            intervals=_part(self._intervals, prefix),
        )

    def _outcome(self, point: Mapping[str, float], prefix: str, predicted: Flags, happened: Flags) -> OutcomeMetrics:
        predicted, happened = predicted[self._members], happened[self._members]
        return OutcomeMetrics(
            **_part(point, prefix),
            predicted=int(predicted.sum()),
            happened=int(happened.sum()),
            hits=int((predicted & happened).sum()),
        )

    def _probability(self, outcome: str, whole: bool) -> OutcomeProbability:
        happened = self._judgement.happened[outcome][self._members]
        qualities = {}
        for kind, p in self._kinds(outcome).items():
            point = _part(self._point, f"probabilities.{outcome}.{kind}.")
            qualities[kind] = ProbabilityMetrics(
                mean=point["mean"],
                brier=point["brier"],
                log_loss=point["log_loss"],
                auc=_known(point["auc"]),
                average_precision=_known(point["average_precision"]),
                ece=chances.calibration_error(p, happened),
                ece_null=chances.null_calibration_error(p, self._sampling.seed),
                reliability=chances.reliability(p, happened) if whole else (),
                buckets=chances.buckets(p, happened) if whole else (),
            )
        rate = self._point[f"probabilities.{outcome}.rate"]
        return OutcomeProbability(rate=rate, raw=qualities["raw"], calibrated=qualities.get("calibrated"))

    def _decision(self, outcome: str) -> Decision:
        judgement, threshold = self._judgement, self._judgement.thresholds[outcome]
        decided, metrics = judgement.decided.get(outcome), None
        if decided is not None:
            prefix = f"decisions.{outcome}.metrics."
            metrics = self._outcome(self._point, prefix, decided, judgement.happened[outcome])
        return Decision(
            threshold=threshold.value,
            users=threshold.users,
            positives=threshold.positives,
            kind=threshold.kind,
            metrics=metrics,
        )

    def _loss(self) -> LossMetrics | None:
        loss = self._judgement.loss
        if loss is None:
            return None
        return LossMetrics(
            **_part(self._point, "loss."),
            tokens=int(loss.tokens[self._members].sum()),
            cut_sessions=int(loss.cut[self._members].sum()),
        )


def _part(figures: Mapping[str, float | Interval], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in figures.items() if name.startswith(prefix)}


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
