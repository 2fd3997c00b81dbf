from __future__ import annotations

import pytest

from service.security.rates import Rate, Rates, retry_after


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_and_then_the_rate() -> None:
    clock = Clock()
    rates = Rates(Rate(2.0, 3), clock)
    assert [rates.enter("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    clock.now += 0.25
    assert rates.enter("a") == pytest.approx(0.25)
    clock.now += 0.25
    assert rates.enter("a") == 0.0
    assert rates.enter("a") > 0
    clock.now += 1_000
    assert [rates.enter("a") > 0 for _ in range(4)] == [False, False, False, True], "never more than the burst"


def test_over_a_long_time_the_rate_holds() -> None:
    clock = Clock()
    rates = Rates(Rate(7.0, 5), clock)
    let_in = 0
    for _ in range(10_000):
        clock.now += 0.01
        let_in += rates.enter("a") == 0.0
    assert let_in == pytest.approx(100 * 7 + 5, abs=2)


def test_callers_do_not_share_and_may_have_their_own() -> None:
    rates = Rates(Rate(1.0, 1), Clock())
    assert [rates.enter("a"), rates.enter("b")] == [0.0, 0.0]
    assert rates.enter("a") > 0
    assert [rates.enter("c", Rate(1.0, 3)) for _ in range(3)] == [0.0] * 3


def test_what_costs_more_is_paid_afterwards() -> None:
    clock = Clock()
    rates = Rates(Rate(10.0, 20), clock)
    assert rates.enter("a") == 0.0
    rates.pay("a", 99)
    assert rates.enter("a") == pytest.approx(8.1), "19 - 99 tokens, and one to enter"
    clock.now += 8.0
    assert rates.enter("a") > 0
    clock.now += 0.2
    assert rates.enter("a") == 0.0
    rates.pay("nobody", 5)


def test_a_rate_that_was_raised_holds_at_once() -> None:
    clock = Clock()
    rates = Rates(Rate(1.0, 1), clock)
    assert rates.enter("a", Rate(1.0, 1)) == 0.0
    clock.now += 0.5
    assert rates.enter("a", Rate(100.0, 10)) == 0.0


def test_a_clock_that_stands_still_gives_nothing() -> None:
    rates = Rates(Rate(1e5, 1), Clock())
    assert rates.enter("a") == 0.0
    assert rates.enter("a") > 0


def test_seconds_to_wait() -> None:
    assert [retry_after(seconds) for seconds in (0.001, 1.0, 1.01, 99.5)] == ["1", "1", "2", "100"]
