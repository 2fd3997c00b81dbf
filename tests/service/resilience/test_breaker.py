"""The circuit breaker against a clock of its own: every change of state, and none that the wall clock could cause."""

from __future__ import annotations

import random

import pytest

from service.resilience.backoff import Backoff
from service.resilience.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def made(clock: Clock, threshold: int = 3) -> Breaker:
    return Breaker(Backoff(random.Random(1), first=1.0, most=8.0), threshold=threshold, clock=clock)


def test_a_few_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    breaker = made(Clock())
    for _ in range(5):
        assert not breaker.failed(breaker.ticket)
        assert not breaker.failed(breaker.ticket)
        breaker.succeeded(breaker.ticket)
    assert [breaker.failed(breaker.ticket) for _ in range(3)] == [False, False, True]
    assert (breaker.state, breaker.closed) == ("open", False)


def test_where_nobody_is_there_once_is_enough() -> None:
    breaker = made(Clock())
    assert breaker.failed(breaker.ticket, at_once=True)
    assert not breaker.failed(breaker.ticket, at_once=True), "it is open already"


def test_open_half_open_and_back() -> None:
    clock = Clock()
    breaker = made(clock)
    breaker.failed(breaker.ticket, at_once=True)
    first = breaker.wait
    assert 0.5 <= first <= 1.0
    clock.now += first / 2
    assert breaker.wait == pytest.approx(first / 2)
    clock.now += first
    assert breaker.wait == 0.0
    breaker.half_open()
    assert (breaker.state, breaker.closed, breaker.wait) == ("half_open", False, 0.0)
    breaker.reopen()
    assert breaker.state == "open"
    assert 1.0 <= breaker.wait <= 2.0
    breaker.half_open()
    breaker.close()
    assert (breaker.closed, breaker.wait) == (True, 0.0)


def test_pauses_grow_until_a_call_is_answered() -> None:
    """Where probes pass and calls fail, being asked again and again must not become a habit."""
    breaker = made(Clock())
    waits = []
    for _ in range(6):
        breaker.failed(breaker.ticket, at_once=True)
        waits.append(breaker.wait)
        breaker.half_open()
        breaker.close()
    for wait, longest in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
        assert longest / 2 <= wait <= longest
    breaker.succeeded(breaker.ticket)
    breaker.failed(breaker.ticket, at_once=True)
    assert breaker.wait <= 1.0


def test_what_began_before_it_changed_says_nothing_about_now() -> None:
    breaker = made(Clock(), threshold=1)
    old = breaker.ticket
    breaker.failed(old)
    breaker.half_open()
    breaker.close()
    assert not breaker.failed(old), "a call that hung while the engine was broken"
    assert breaker.failed(breaker.ticket)
    breaker.succeeded(old)
    assert not breaker.closed


def test_pauses_are_drawn_from_the_generator_that_is_given() -> None:
    draws = [[Backoff(random.Random(seed)).next() for _ in range(1)] for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    backoff = Backoff(random.Random(3), first=0.2, most=3.0)
    pauses = [backoff.next() for _ in range(10)]
    assert all(0.1 <= pause <= 3.0 for pause in pauses)
    assert min(pauses[4:]) >= 1.5
    backoff.reset()
    assert backoff.next() <= 0.2
