"""From forecasts and what happened to every sample's scores: all that metrics are means and ratios of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from browsing.calibration import Calibration
from browsing.forecast import Forecast
from browsing.vocabulary import Vocabulary
from training.dataset import Sample
from training.evaluation.metrics import ranking
from training.evaluation.metrics.bootstrap import groups_of
from training.evaluation.metrics.decisions import EITHER as EITHER
from training.evaluation.metrics.decisions import Threshold, members_of
from training.evaluation.metrics.lengths import Likeliest
from training.evaluation.metrics.loss import Loss
from training.evaluation.metrics.pages import UNKNOWN, Flags, Floats, Ints, PageScores, page_scores, pages_of
from training.evaluation.metrics.probabilities import Probabilities, happenings
from training.evaluation.metrics.text import TextScores
from training.evaluation.result import Decode, LengthMetrics

Pages = tuple[str, ...]
Text = Callable[[Sequence[Pages], Sequence[Pages]], TextScores]
"""(generated, actual) -> what the sessions are worth as text."""


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
class Judged:
    """The scores of one decode's sessions, [N] each; `lengths` by the fields of `LengthMetrics`; `text`: where it was
    asked for."""

    scores: dict[str, Floats]
    lengths: dict[str, Floats]
    predicted: dict[str, Flags]
    text: TextScores | None

    @classmethod
    def of(cls, samples: Sequence[Sample], answers: Sequence[Forecast], site: Site, text: Text | None = None) -> Self:
        scores, lengths = [], []
        for sample, answer in zip(samples, answers, strict=True):
            seen = frozenset(page for pages in sample.history for page in pages)
            scores.append(page_scores(answer.next_session, sample.next_session, seen, site.vocabulary, site.pages))
            lengths.append(_lengths(answer, sample, seen, site.vocabulary))
        sessions = [answer.next_session for answer in answers]
        return cls(
            scores={name: np.array([getattr(s, name) for s in scores]) for name in PageScores.__slots__},
            lengths=dict(zip(LengthMetrics.model_fields, np.array(lengths, np.float64).T, strict=True)),
            predicted=happenings(site.groups(), sessions),
            text=None if text is None else text(sessions, [sample.next_session for sample in samples]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """Every sample's scores, [N] each. `users`: numbers of the samples' users; `ranking` [N, 7] in the order of
    `ranking.NAMES`; `likeliest`: which of the ranked pages came true; `decided`: by outcome, whether its score reaches
    the threshold, where there is one."""

    users: Ints
    clusters: Ints
    decode: Decode
    judged: dict[Decode, Judged]
    ranking: Floats
    likeliest: Likeliest
    happened: dict[str, Flags]
    probabilities: Probabilities
    thresholds: Mapping[str, Threshold]
    decided: dict[str, Flags]
    loss: Loss | None

    @classmethod
    def of(
        cls,
        samples: Sequence[Sample],
        clusters: Sequence[int],
        answers: Mapping[Decode, Sequence[Forecast]],
        site: Site,
        *,
        decode: Decode,
        calibration: Calibration | None = None,
        thresholds: Mapping[str, Threshold] | None = None,
        loss: Loss | None = None,
        text: Text | None = None,
    ) -> Self:
        """Judge answer i of every decode against sample i; the decodes' answers differ in `next_session` alone.

        `decode`: the one that comes first. Raises `ValueError` for different lengths, or for no sample at all.
        """
        if not samples:
            raise ValueError("there is nobody to evaluate")
        actual = [sample.next_session for sample in samples]
        first = answers[decode]
        ranked = [[page.page for page in answer.pages] for answer in first]
        probabilities = Probabilities.of(first, calibration)
        thresholds = thresholds or {}
        return cls(
            users=groups_of([sample.user_id for sample in samples]),
            clusters=np.array(clusters, np.int64),
            decode=decode,
            judged={name: Judged.of(samples, own, site, text) for name, own in answers.items()},
            ranking=np.array(
                [
                    ranking.ranking_scores(pages, session, site.vocabulary)
                    for pages, session in zip(ranked, actual, strict=True)
                ]
            ),
            likeliest=Likeliest.of(ranked, actual, site.vocabulary),
            happened=happenings(site.groups(), actual),
            probabilities=probabilities,
            thresholds=thresholds,
            decided={
                name: probabilities.score(members_of(name, probabilities.raw))[0] >= threshold.value
                for name, threshold in thresholds.items()
                if threshold.value is not None
            },
            loss=loss,
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
