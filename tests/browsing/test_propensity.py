"""What a history alone says about outcomes."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from browsing.logistic import Feature
from browsing.propensity import HALF, OutcomeModel, Propensity, feature_names, features

CART = {"cart": frozenset({"/cart"})}
NAMES = feature_names(("cart",))


def model(**weights: float) -> OutcomeModel:
    """Unit scale, mean 0, values kept within [0, 1]."""
    own = [Feature(name=name, low=0.0, high=1.0, mean=0.0, scale=1.0, weight=weights.get(name, 0.0)) for name in NAMES]
    return OutcomeModel(intercept=-1.0, features=tuple(own))


def test_the_features_of_a_history() -> None:
    history = [["/", "/cart"], ["/bags"], ["/cart", "/bags", "/cart"]]
    known = features(history, CART)
    assert tuple(known) == NAMES
    weights = [0.5 ** (2 / HALF), 0.5 ** (1 / HALF), 1.0]
    assert known == pytest.approx(
        {
            "log_visits": math.log(3),
            "single_visit": 0.0,
            "log_mean_pages": math.log1p(2),
            "log_pages_of_last": math.log1p(3),
            "cart_share": 2 / 3,
            "cart_recent_share": (weights[0] + weights[2]) / sum(weights),
            "cart_in_last": 1.0,
            "cart_log_odds": math.log(2.5 / 1.5),
            "cart_log_since": 0.0,
            "cart_log_views": math.log1p(3),
        }
    )


def test_how_long_an_outcome_is_ago() -> None:
    since = [features([["/cart"], ["/"], ["/"]][:n], CART)["cart_log_since"] for n in (1, 2, 3)]
    assert since == pytest.approx([0.0, math.log(2), math.log(3)])
    assert features([["/"], ["/"]], CART)["cart_log_since"] == pytest.approx(math.log(3)), "never: all sessions"


def test_the_same_share_of_more_sessions_says_more() -> None:
    few, many = (features([["/cart"]] * n, CART) for n in (3, 30))
    assert few["cart_share"] == many["cart_share"] == 1.0
    assert (few["cart_log_odds"], many["cart_log_odds"]) == pytest.approx((math.log(7), math.log(61)))


def test_a_first_visit() -> None:
    assert features([["/"]], CART)["single_visit"] == 1.0
    with pytest.raises(ValueError, match="no features"):
        features([], CART)


def test_the_logit_is_the_line_within_what_was_seen() -> None:
    own = Propensity(pages={"cart": ("/cart",)}, models={"cart": model(cart_share=2.0, log_visits=0.5)})
    assert own.logits([["/cart"]]) == {"cart": pytest.approx(-1 + 2.0)}
    assert own.logits([["/"]] * 50) == {"cart": pytest.approx(-1 + 0.5)}, "log 50 counts as the largest seen, 1"
    assert own.logits([]) == {}


def test_a_model_may_weigh_some_features_alone_in_any_order() -> None:
    """A bundle goes on serving when a later release counts more."""
    known = {feature.name: feature for feature in model(cart_in_last=1.0, cart_share=2.0, single_visit=4.0).features}
    some = OutcomeModel(
        intercept=-1.0, features=tuple(known[name] for name in ("cart_in_last", "single_visit", "cart_share"))
    )
    made = Propensity(pages={"cart": ("/cart",)}, models={"cart": some})
    own = Propensity.model_validate_json(made.model_dump_json())
    assert own.logits([["/cart"], ["/"]]) == {"cart": pytest.approx(-1 + 2.0 * 0.5)}
    assert own.logits([["/cart"]]) == {"cart": pytest.approx(-1 + 1.0 + 1.0 * 4.0 + 2.0)}


@pytest.mark.parametrize(("name", "times"), [("purchase", 1), ("cart", 2)], ids=["another outcome's", "one twice"])
def test_features_that_are_not_counted_once_are_refused(name: str, times: int) -> None:
    twice = OutcomeModel(intercept=0.0, features=model().features * times)
    with pytest.raises(ValidationError, match=f"{name}: its features are .*; known, once each: log_visits"):
        Propensity(pages={name: (f"/{name}",)}, models={name: twice})
