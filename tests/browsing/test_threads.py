"""How many threads torch computes with, thread by thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
import torch

from browsing.threads import WORTH, as_many_as_pay, keep_to

A = TypeVar("A")


def elsewhere(call: Callable[[], A]) -> A:
    """In a thread of its own: what is set there is gone with it."""
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(1) as other:
            return other.submit(call).result()
    finally:
        torch.set_num_threads(before)  # what threads that are still to come begin with


def test_a_thread_chooses_for_itself() -> None:
    def chosen() -> int:
        keep_to(3)
        return torch.get_num_threads()

    before = torch.get_num_threads()
    assert elsewhere(chosen) == 3
    assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match="0 threads"):
        keep_to(0)


def test_what_others_choose_meanwhile_changes_nothing() -> None:
    """A thread that has not looked yet would take it."""

    def chosen() -> int:
        keep_to(3)
        elsewhere(lambda: keep_to(5))
        torch.set_num_threads(torch.get_num_threads())
        return torch.get_num_threads()

    assert elsewhere(chosen) == 3


def test_helpers_only_where_they_pay() -> None:
    def counted() -> list[int]:
        keep_to(2)
        found = []
        for multiplications in (1, WORTH - 1, WORTH):
            with as_many_as_pay(multiplications, 3):
                found.append(torch.get_num_threads())
        with pytest.raises(ZeroDivisionError), as_many_as_pay(1, 3):
            _ = 1 / 0
        return [*found, torch.get_num_threads()]

    assert elsewhere(counted) == [1, 1, 3, 2]
