"""Rows against answers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from browsing.calibration import Calibration, OutcomeCalibration
from browsing.forecast import Forecast, OutcomeForecast, Question
from tests import tiny
from tests.training.evaluation.site import sample
from training.dataset import Sample
from training.evaluation.loss import Loss
from training.evaluation.rows import Judgement, Site

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
) -> Judgement:
    samples: list[Sample] = []
    questions: list[Question] = []
    answers: list[Forecast] = []
    for generated, before, actual, cluster, cart, purchase in users:
        samples.append(sample("u", [[before], actual]))
        questions.append(Question(cluster, WORDS.prompt([[before]], 20).ids, ((before,),)))
        chances = {"cart": OutcomeForecast(cart, (0.0, 1.0)), "purchase": OutcomeForecast(purchase, (0.0, 1.0))}
        answers.append(Forecast(tuple(generated), (), {k: v for k, v in chances.items() if k in site.outcomes}, 0.25))
    n = len(users)
    loss = Loss(np.arange(1, n + 1).astype(np.float64), np.full(n, 2) + (np.arange(n) == 0), np.arange(n) == 0)
    return Judgement.of(samples, questions, answers, site, calibration, loss)


def test_page_metrics_per_cluster_and_combined() -> None:
    (lookers, buyers), combined = judged().rows(NAMES)
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
    (lookers, buyers), combined = judged().rows(NAMES)
    assert lookers.variance.model_dump() == pytest.approx({"hr": 0.25, "ioa": 0.25, "iog": 0.25, "iou": 0.25})
    assert buyers.variance.model_dump() == pytest.approx({"hr": 0.25, "ioa": 1 / 36, "iog": 1 / 16, "iou": 1 / 64})
    iou = np.array([1, 0, 0.25, 0])
    assert combined.variance.iou == pytest.approx(float((iou**2).mean() - iou.mean() ** 2))
    assert combined.variance.hr == pytest.approx(0.25)


def test_outcomes_per_cluster_and_combined() -> None:
    (lookers, buyers), combined = judged().rows(NAMES)
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
    (_, buyers), combined = judged().rows(NAMES)
    cart = combined.probabilities["cart"]
    assert cart.rate == 0.25
    assert cart.raw.mean == pytest.approx(0.5)
    assert cart.raw.brier == pytest.approx((0.04 + 0.16 + 0.04 + 0.36) / 4)
    assert cart.raw.auc == 1.0
    assert cart.calibrated is None
    assert buyers.probabilities["purchase"].raw.auc is None  # it happened to everybody


def test_calibrated_probabilities_stand_beside_the_raw_ones() -> None:
    shift = OutcomeCalibration(method="platt", intercept=-1.0, n=1000, positives=100, calibrated=True)
    _, combined = judged(calibration=Calibration(outcomes={"cart": shift})).rows(NAMES)
    cart, purchase = combined.probabilities["cart"], combined.probabilities["purchase"]
    assert cart.calibrated is not None
    expected = np.mean([1 / (1 + np.exp(1 - np.log(p / (1 - p)))) for p in (0.2, 0.4, 0.8, 0.6)])
    assert cart.calibrated.mean == pytest.approx(expected)
    assert cart.calibrated.auc == cart.raw.auc
    assert purchase.calibrated is None


def test_loss_weighs_tokens_or_users() -> None:
    (lookers, _), combined = judged().rows(NAMES)
    assert combined.loss is not None
    assert combined.loss.nats_per_page == pytest.approx(10 / 9)
    assert combined.loss.user_mean == pytest.approx((1 / 3 + 1 + 3 / 2 + 2) / 4)
    assert (combined.loss.tokens, combined.loss.cut_sessions) == (9, 1)
    assert lookers.loss is not None
    assert lookers.loss.nats_per_page == pytest.approx(3 / 5)


def test_lengths() -> None:
    _, combined = judged().rows(NAMES)
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
    (only,), combined = judged([(*user[:3], 2, *user[4:]) for user in USERS]).rows(NAMES)
    assert (only.cluster, only.name) == (2, "nobody")
    assert only.model_dump(exclude={"cluster", "name"}) == combined.model_dump(exclude={"cluster", "name"})


def test_combined_means_are_the_clusters_weighted_by_their_users() -> None:
    users = [*USERS, USERS[2], USERS[2]]
    rows, combined = judged(users).rows(NAMES)
    for metric in ("hr", "ioa", "iop", "iou", "new_p", "val_p"):
        weighted = sum(row.n * getattr(row.pages, metric) for row in rows) / len(users)
        assert getattr(combined.pages, metric) == pytest.approx(weighted)


def test_a_site_without_outcomes_has_none() -> None:
    _, combined = judged(site=Site(WORDS, frozenset(WORDS.pages), {})).rows(NAMES)
    assert combined.outcomes == {}
    assert combined.probabilities == {}


def test_one_outcome_alone_has_no_union() -> None:
    _, combined = judged(site=Site(WORDS, frozenset(WORDS.pages), {"cart": ("/cart",)})).rows(NAMES)
    assert list(combined.outcomes) == ["cart"]


def test_an_outcome_that_the_vocabulary_lacks_still_happens() -> None:
    site = Site(WORDS, frozenset(WORDS.pages), {"purchase": ("/unheard-of",)})
    users = judged()
    answers = [Forecast((), (), {}, 0.0)] * len(USERS)
    samples = [sample("u", [[before], actual]) for _, before, actual, *_ in USERS]
    questions = [Question(cluster, (1,), ()) for *_, cluster, _, _ in USERS]
    _, combined = Judgement.of(samples, questions, answers, site, None, users.loss).rows(NAMES)
    purchase = combined.outcomes["purchase"]
    assert (purchase.happened, purchase.predicted, purchase.recall, purchase.precision) == (1, 0, 0.0, 0.0)
    assert combined.probabilities == {}


def test_nobody_cannot_be_evaluated() -> None:
    with pytest.raises(ValueError, match="nobody"):
        judged([])
