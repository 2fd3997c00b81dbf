"""Rows against answers worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU

from browsing.calibration import Calibration, OutcomeCalibration
from browsing.forecast import Forecast, OutcomeForecast, Question
from tests import tiny
from tests.training.evaluation.site import sample
from training.dataset import Sample
from training.evaluation.metrics.bleu import Overlaps
from training.evaluation.metrics.decisions import Threshold
from training.evaluation.metrics.loss import Loss
from training.evaluation.metrics.text import TextScores
from training.evaluation.result import Decode
from training.evaluation.rows import Judgement, Site, Text
from training.evaluation.summary import Sampling, rows

WORDS = tiny.vocabulary()
SITE = Site(WORDS, frozenset(WORDS.pages), {"cart": ("/cart",), "purchase": ("/purchase",)})
NAMES = ("lookers", "buyers", "nobody")

# generated, history's page, actual, cluster, P(cart), P(purchase)
USERS: list[tuple[list[str], str, list[str], int, float, float]] = [
    (["/", "/bags", "/"], "/", ["/", "/bags"], 0, 0.2, 0.1),  # all right
    (["/shoes"], "/", ["/bags", "/unheard-of"], 0, 0.4, 0.1),  # nothing in common; half of it unknown
    (["/bags", "/cart"], "/bags", ["/cart", "/purchase", "/"], 1, 0.8, 0.3),  # the cart right, the purchase missed
    ([], "/", ["/purchase"], 1, 0.6, 0.5),  # an empty generation
]


def judged(
    users: list[tuple[list[str], str, list[str], int, float, float]] = USERS,
    site: Site = SITE,
    calibration: Calibration | None = None,
    thresholds: Mapping[str, Threshold] | None = None,
    names: Sequence[str] | None = None,
    text: Text | None = None,
) -> Judgement:
    samples: list[Sample] = []
    questions: list[Question] = []
    answers: list[Forecast] = []
    for i, (generated, before, actual, cluster, cart, purchase) in enumerate(users):
        samples.append(sample(names[i] if names else f"u{i}", [[before], actual]))
        questions.append(Question(cluster, WORDS.prompt([[before]], 20).ids, ((before,),)))
        chances = {"cart": OutcomeForecast(cart, (0.0, 1.0)), "purchase": OutcomeForecast(purchase, (0.0, 1.0))}
        answers.append(Forecast(tuple(generated), (), {k: v for k, v in chances.items() if k in site.outcomes}, 0.25))
    n = len(users)
    loss = Loss(np.arange(1, n + 1).astype(np.float64), np.full(n, 2) + (np.arange(n) == 0), np.arange(n) == 0)
    return Judgement.of(
        samples,
        [question.cluster for question in questions],
        {"greedy": answers},
        site,
        decode="greedy",
        calibration=calibration,
        thresholds=thresholds,
        loss=loss,
        text=text,
    )


def test_page_metrics_per_cluster_and_combined() -> None:
    (lookers, buyers), combined = rows(judged(), NAMES)
    assert (lookers.cluster, lookers.name, lookers.n) == (0, "lookers", 2)
    assert (buyers.cluster, buyers.name, buyers.n) == (1, "buyers", 2)
    assert (combined.cluster, combined.name, combined.n) == (None, "Combined", 4)
    # HR 1 0 | 1 0; IoA 1 0 | 1/3 0; IoP 1 0 | 1/2 0; IoU 1 0 | 1/4 0; New-P 1/2 1 | 1/2 0; Val-P 1 1 | 1 0
    assert lookers.pages.model_dump() == pytest.approx(
        {"hr": 0.5, "ioa": 0.5, "iop": 0.5, "iou": 0.5, "new_p": 0.75, "val_p": 1.0}
    )
    assert buyers.pages.model_dump() == pytest.approx(
        {"hr": 0.5, "ioa": 1 / 6, "iop": 1 / 4, "iou": 1 / 8, "new_p": 0.25, "val_p": 0.5}
    )
    assert combined.pages.model_dump() == pytest.approx(
        {"hr": 0.5, "ioa": 1 / 3, "iop": 3 / 8, "iou": 5 / 16, "new_p": 0.5, "val_p": 0.75}
    )


def test_variances_are_over_all_users_not_over_clusters() -> None:
    (lookers, buyers), combined = rows(judged(), NAMES)
    assert lookers.variance.model_dump() == pytest.approx({"hr": 0.25, "ioa": 0.25, "iog": 0.25, "iou": 0.25})
    assert buyers.variance.model_dump() == pytest.approx({"hr": 0.25, "ioa": 1 / 36, "iog": 1 / 16, "iou": 1 / 64})
    iou = np.array([1, 0, 0.25, 0])
    assert combined.variance.iou == pytest.approx(float((iou**2).mean() - iou.mean() ** 2))
    assert combined.variance.hr == pytest.approx(0.25)


def test_outcomes_per_cluster_and_combined() -> None:
    (lookers, buyers), combined = rows(judged(), NAMES)
    assert list(combined.outcomes) == ["cart", "purchase", "cart_or_purchase"]
    assert lookers.outcomes["cart"].model_dump() == {
        "accuracy": 1.0,
        "recall": 0.0,
        "precision": 0.0,
        "f1": 0.0,
        "predicted": 0,
        "happened": 0,
        "hits": 0,
    }
    assert buyers.outcomes["cart"].f1 == 1.0
    purchase = buyers.outcomes["purchase"]
    assert (purchase.accuracy, purchase.predicted, purchase.happened, purchase.hits) == (0.0, 0, 2, 0)
    either = combined.outcomes["cart_or_purchase"]  # predicted for the third user, happened to the third and the fourth
    assert (either.accuracy, either.recall, either.precision) == (0.75, 0.5, 1.0)
    assert either.f1 == pytest.approx(2 / 3)


def test_probabilities() -> None:
    (_, buyers), combined = rows(judged(), NAMES)
    cart = combined.probabilities["cart"]
    assert cart.rate == 0.25
    assert cart.raw.mean == pytest.approx(0.5)
    assert cart.raw.brier == pytest.approx((0.04 + 0.16 + 0.04 + 0.36) / 4)
    assert cart.raw.auc == 1.0
    assert cart.calibrated is None
    assert buyers.probabilities["purchase"].raw.auc is None  # it happened to everybody


def test_calibrated_probabilities_stand_beside_the_raw_ones() -> None:
    shift = OutcomeCalibration(method="platt", intercept=-1.0, n=1000, positives=100, calibrated=True)
    _, combined = rows(judged(calibration=Calibration(outcomes={"cart": shift})), NAMES)
    cart, purchase = combined.probabilities["cart"], combined.probabilities["purchase"]
    assert cart.calibrated is not None
    expected = np.mean([1 / (1 + np.exp(1 - np.log(p / (1 - p)))) for p in (0.2, 0.4, 0.8, 0.6)])
    assert cart.calibrated.mean == pytest.approx(expected)
    assert cart.calibrated.auc == cart.raw.auc
    assert purchase.calibrated is None


def test_loss_weighs_tokens_or_users() -> None:
    (lookers, _), combined = rows(judged(), NAMES)
    assert combined.loss is not None
    assert combined.loss.nats_per_page == pytest.approx(10 / 9)
    assert combined.loss.user_mean == pytest.approx((1 / 3 + 1 + 3 / 2 + 2) / 4)
    assert (combined.loss.tokens, combined.loss.cut_sessions) == (9, 1)
    assert lookers.loss is not None
    assert lookers.loss.nats_per_page == pytest.approx(3 / 5)


def test_lengths() -> None:
    _, combined = rows(judged(), NAMES)
    assert combined.lengths.model_dump() == pytest.approx(
        {
            "generated_views": (3 + 1 + 2 + 0) / 4,
            "actual_views": (2 + 2 + 3 + 1) / 4,
            "generated_pages": (2 + 1 + 2 + 0) / 4,
            "actual_pages": 2.0,
            "actual_unknown": 0.5 / 4,
            "actual_new": (0.5 + 1 + 1 + 1) / 4,
            "empty": 0.25,
            "unfinished_paths": 0.25,
        }
    )


def test_all_users_in_one_cluster_make_its_row_the_combined_one() -> None:
    (only,), combined = rows(judged([(*user[:3], 2, *user[4:]) for user in USERS]), NAMES)
    assert (only.cluster, only.name) == (2, "nobody")
    tables = {"probabilities": {"__all__": {"raw": {"reliability", "buckets"}}}}  # in the combined row alone
    apart: dict[str, Any] = {"cluster": True, "name": True, **tables}
    assert only.model_dump(exclude=apart) == combined.model_dump(exclude=apart)
    assert only.probabilities["cart"].raw.reliability == ()
    assert sum(bin.n for bin in combined.probabilities["cart"].raw.reliability) == 4


def test_combined_means_are_the_clusters_weighted_by_their_users() -> None:
    users = [*USERS, USERS[2], USERS[2]]
    per_cluster, combined = rows(judged(users), NAMES)
    for metric in ("hr", "ioa", "iop", "iou", "new_p", "val_p"):
        weighted = sum(row.n * getattr(row.pages, metric) for row in per_cluster) / len(users)
        assert getattr(combined.pages, metric) == pytest.approx(weighted)


def test_a_site_without_outcomes_has_none() -> None:
    _, combined = rows(judged(site=Site(WORDS, frozenset(WORDS.pages), {})), NAMES)
    assert combined.outcomes == {}
    assert combined.probabilities == {}


def test_one_outcome_alone_has_no_union() -> None:
    _, combined = rows(judged(site=Site(WORDS, frozenset(WORDS.pages), {"cart": ("/cart",)})), NAMES)
    assert list(combined.outcomes) == ["cart"]


def test_an_outcome_that_the_vocabulary_lacks_still_happens() -> None:
    site = Site(WORDS, frozenset(WORDS.pages), {"purchase": ("/unheard-of",)})
    users = judged()
    answers = [Forecast((), (), {}, 0.0)] * len(USERS)
    samples = [sample("u", [[before], actual]) for _, before, actual, *_ in USERS]
    clusters = [cluster for *_, cluster, _, _ in USERS]
    judgement = Judgement.of(samples, clusters, {"greedy": answers}, site, decode="greedy", loss=users.loss)
    _, combined = rows(judgement, NAMES)
    purchase = combined.outcomes["purchase"]
    assert (purchase.happened, purchase.predicted, purchase.recall, purchase.precision) == (1, 0, 0.0, 0.0)
    assert combined.probabilities == {}


def test_both_decodes_stand_in_one_row() -> None:
    samples = [sample("u", [["/"], ["/bags"]]), sample("v", [["/"], ["/shoes"]])]
    answers: dict[Decode, list[Forecast]] = {
        "consensus": [Forecast(("/bags",), (), {}, 0.0), Forecast(("/shoes",), (), {}, 0.0)],
        "greedy": [Forecast(("/bags",), (), {}, 0.0), Forecast((), (), {}, 0.0)],
    }
    _, combined = rows(Judgement.of(samples, [0, 0], answers, SITE, decode="consensus"), NAMES)
    assert combined.pages.iou == 1.0
    assert list(combined.others) == ["greedy"]
    assert combined.others["greedy"].pages.iou == 0.5
    assert combined.others["greedy"].lengths.empty == 0.5
    _, turned = rows(Judgement.of(samples, [0, 0], answers, SITE, decode="greedy"), NAMES)
    assert turned.pages == combined.others["greedy"].pages
    assert turned.others["consensus"].pages == combined.pages


def test_thresholds_decide_beside_the_decoded_session() -> None:
    chosen = {
        "cart": Threshold(0.5, 90, 30, "raw"),
        "purchase": Threshold(None, 90, 3, "raw"),
        "cart_or_purchase": Threshold(0.6, 90, 31, "raw"),
    }
    _, combined = rows(judged(thresholds=chosen), NAMES)
    cart = combined.decisions["cart"]
    assert (cart.threshold, cart.users, cart.positives, cart.kind) == (0.5, 90, 30, "raw")
    assert cart.metrics is not None
    # P(cart) 0.2 0.4 0.8 0.6, it happened to the third
    assert (cart.metrics.predicted, cart.metrics.hits, cart.metrics.recall, cart.metrics.precision) == (2, 1, 1.0, 0.5)
    assert combined.decisions["purchase"].metrics is None
    either = combined.decisions["cart_or_purchase"].metrics
    assert either is not None  # the higher of the two: 0.2 0.4 0.8 0.6, it happened to the last two
    assert (either.predicted, either.hits, either.f1) == (2, 2, 1.0)


def test_every_interval_is_named_by_its_figures_path() -> None:
    chosen = {"cart": Threshold(0.5, 90, 30, "raw")}
    _, combined = rows(judged([*USERS] * 20, thresholds=chosen), NAMES, Sampling(200, seed=1))
    document = combined.model_dump()
    assert {"pages.iou", "variance.hr", "outcomes.cart_or_purchase.f1", "loss.nats_per_page"} <= set(combined.intervals)
    assert {"probabilities.cart.raw.auc", "decisions.cart.metrics.f1", "ranking.mrr"} <= set(combined.intervals)
    for path, (low, high) in combined.intervals.items():
        value = document
        for part in path.split("."):
            value = value[part]
        assert low - 1e-9 <= float(str(value)) <= high + 1e-9
    assert rows(judged(), NAMES)[1].intervals == {}


def test_samples_of_one_user_are_resampled_together() -> None:
    """Twenty samples of four users, alike within a user, say no more than the four: the interval stays as wide."""
    people = ["a", "b", "c", "d"]
    once = rows(judged(USERS, names=people), NAMES, Sampling(1000))[1]
    repeated = judged([user for user in USERS for _ in range(20)], names=[p for p in people for _ in range(20)])
    many = rows(repeated, NAMES, Sampling(1000))[1]
    assert (once.n, once.users, many.n, many.users) == (4, 4, 80, 4)
    assert many.pages.iou == pytest.approx(once.pages.iou)
    assert many.intervals["pages.iou"] == pytest.approx(once.intervals["pages.iou"])


def test_text_metrics_are_each_rows_own_and_have_intervals() -> None:
    def measure(generated: Sequence[Sequence[str]], actual: Sequence[Sequence[str]]) -> TextScores:
        bert = np.repeat(np.array([[float(len(session)) for session in generated]]).T / 10, 3, axis=1)
        return TextScores(Overlaps.of(generated, actual), bert)

    people = [*USERS] * 10
    (lookers, buyers), combined = rows(judged(people, text=measure), NAMES, Sampling(200))
    for row, members in ((lookers, (0, 1)), (buyers, (2, 3)), (combined, (0, 1, 2, 3))):
        generated = [" ".join(user[0]) for user in people if USERS.index(user) in members]
        actual = [" ".join(user[2]) for user in people if USERS.index(user) in members]
        longest = max(len(session.split()) for session in actual)
        expected = BLEU(tokenize="none", max_ngram_order=longest, force=True).corpus_score(generated, [actual]).score
        assert row.text is not None
        assert row.text.bleu == pytest.approx(expected)
        assert row.text.bert_f1 == pytest.approx(np.mean([len(USERS[i][0]) / 10 for i in members]))
        assert {"text.bleu", "text.bert_precision", "text.bert_recall", "text.bert_f1"} <= set(row.intervals)
        low, high = row.intervals["text.bleu"]
        assert low <= row.text.bleu <= high
    (plain, _), without = rows(judged(), NAMES, Sampling(100))
    assert plain.text is without.text is None
    assert not [name for name in without.intervals if name.startswith("text.")]


def test_nobody_cannot_be_evaluated() -> None:
    with pytest.raises(ValueError, match="nobody"):
        judged([])
