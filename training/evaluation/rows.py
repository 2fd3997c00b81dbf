"""From forecasts and what happened to rows of metrics: one per cluster, and one over all users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from browsing.calibration import Calibration
from browsing.forecast import Forecast, Question
from browsing.vocabulary import Vocabulary
from training.dataset import Sample
from training.evaluation.loss import Loss
from training.evaluation.metrics import (
    UNKNOWN,
    Confusion,
    Flags,
    Floats,
    Ints,
    PageScores,
    auc,
    brier,
    log_loss,
    page_scores,
    pages_of,
    variance,
)
from training.evaluation.result import (
    LengthMetrics,
    LossMetrics,
    OutcomeMetrics,
    OutcomeProbability,
    PageMetrics,
    ProbabilityMetrics,
    Row,
    VarianceMetrics,
)

EITHER = "cart_or_purchase"
"""The paper's Cart/Purchase: the session holds a page of either outcome."""


@dataclass(frozen=True, slots=True)
class Site:
    """What sessions are held against. `vocabulary`: pages that can match; `pages`: the site's real pages; `outcomes`:
    every outcome's pages, also those that the vocabulary lacks."""

    vocabulary: Vocabulary
    pages: frozenset[str]
    outcomes: Mapping[str, tuple[str, ...]]

    def groups(self) -> dict[str, frozenset[str]]:
        """The outcomes that are counted: each alone, and either of them where there are two or more."""
        groups = {name: frozenset(pages) for name, pages in self.outcomes.items()}
        return groups | {EITHER: frozenset().union(*groups.values())} if len(groups) > 1 else groups


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """Every user's scores, as arrays over users [N]; `lengths` [N, 8] in the order of `LengthMetrics`' fields."""

    clusters: Ints
    scores: dict[str, Floats]
    lengths: Floats
    predicted: dict[str, Flags]
    happened: dict[str, Flags]
    raw: dict[str, Floats]
    calibrated: dict[str, Floats]
    loss: Loss | None

    @classmethod
    def of(
        cls,
        samples: Sequence[Sample],
        questions: Sequence[Question],
        answers: Sequence[Forecast],
        site: Site,
        calibration: Calibration | None = None,
        loss: Loss | None = None,
    ) -> Self:
        """Judge answer i against sample i. Raises `ValueError` for different lengths, or for no user at all."""
        if not samples:
            raise ValueError("there is nobody to evaluate")
        scores, lengths = [], []
        for sample, answer in zip(samples, answers, strict=True):
            seen = frozenset(page for pages in sample.history for page in pages)
            scores.append(page_scores(answer.next_session, sample.next_session, seen, site.vocabulary, site.pages))
            lengths.append(_lengths(answer, sample, seen, site.vocabulary))
        groups = site.groups()
        names = [name for name in site.outcomes if name in answers[0].outcomes]
        raw = {name: np.array([answer.outcomes[name].probability for answer in answers]) for name in names}
        calibrated = {}
        if calibration is not None:
            for name in names:
                applied = [calibration.apply(name, float(p)) for p in raw[name]]
                if all(done for _, done in applied):
                    calibrated[name] = np.array([p for p, _ in applied])
        return cls(
            clusters=np.array([question.cluster for question in questions], np.int64),
            scores={name: np.array([getattr(s, name) for s in scores]) for name in PageScores.__slots__},
            lengths=np.array(lengths, np.float64),
            predicted={
                name: np.array([not pages.isdisjoint(answer.next_session) for answer in answers])
                for name, pages in groups.items()
            },
            happened={
                name: np.array([not pages.isdisjoint(sample.next_session) for sample in samples])
                for name, pages in groups.items()
            },
            raw=raw,
            calibrated=calibrated,
            loss=loss,
        )

    def rows(self, names: Sequence[str]) -> tuple[tuple[Row, ...], Row]:
        """(one row per cluster that has a user, the combined row over all users alike). `names`: the clusters'."""
        per_cluster = tuple(
            self.row(self.clusters == cluster, int(cluster), names[cluster]) for cluster in np.unique(self.clusters)
        )
        return per_cluster, self.row(np.ones(len(self.clusters), bool), None, "Combined")

    def row(self, members: Flags, cluster: int | None, name: str) -> Row:
        """The metrics over the users that `members` [N] marks; at least one."""
        own = {metric: values[members] for metric, values in self.scores.items()}
        return Row(
            cluster=cluster,
            name=name,
            n=int(members.sum()),
            pages=PageMetrics(**{metric: float(values.mean()) for metric, values in own.items()}),
            variance=VarianceMetrics(
                hr=variance(own["hr"]), ioa=variance(own["ioa"]), iog=variance(own["iop"]), iou=variance(own["iou"])
            ),
            outcomes={
                outcome: _outcome(self.predicted[outcome][members], self.happened[outcome][members])
                for outcome in self.happened
            },
            probabilities={outcome: self._probability(outcome, members) for outcome in self.raw},
            loss=None if self.loss is None else _loss(self.loss, members),
            lengths=LengthMetrics(
                **dict(zip(LengthMetrics.model_fields, self.lengths[members].mean(0).tolist(), strict=True))
            ),
        )

    def _probability(self, outcome: str, members: Flags) -> OutcomeProbability:
        happened = self.happened[outcome][members]
        calibrated = self.calibrated.get(outcome)
        return OutcomeProbability(
            rate=float(happened.mean()),
            raw=_quality(self.raw[outcome][members], happened),
            calibrated=None if calibrated is None else _quality(calibrated[members], happened),
        )


def _lengths(answer: Forecast, sample: Sample, seen: frozenset[str], vocabulary: Vocabulary) -> tuple[float, ...]:
    drawn, truth = pages_of(answer.next_session) - {UNKNOWN}, pages_of(sample.next_session)
    return (
        len(answer.next_session),
        len(sample.next_session),
        len(drawn),
        len(truth),
        sum(page not in vocabulary for page in truth) / len(truth),
        sum(page not in seen for page in truth) / len(truth),
        not drawn,
        answer.unfinished_paths,
    )


def _outcome(predicted: Flags, happened: Flags) -> OutcomeMetrics:
    counts = Confusion.count(predicted, happened)
    return OutcomeMetrics(
        accuracy=counts.accuracy,
        recall=counts.recall,
        precision=counts.precision,
        f1=counts.f1,
        predicted=counts.predicted,
        happened=counts.happened,
        hits=counts.hits,
    )


def _quality(probabilities: Floats, happened: Flags) -> ProbabilityMetrics:
    return ProbabilityMetrics(
        mean=float(probabilities.mean()),
        brier=brier(probabilities, happened),
        log_loss=log_loss(probabilities, happened),
        auc=auc(probabilities, happened),
    )


def _loss(loss: Loss, members: Flags) -> LossMetrics:
    nats, tokens = loss.nats[members], loss.tokens[members]
    return LossMetrics(
        nats_per_page=float(nats.sum() / tokens.sum()),
        user_mean=float((nats / tokens).mean()),
        tokens=int(tokens.sum()),
        cut_sessions=int(loss.cut[members].sum()),
    )
