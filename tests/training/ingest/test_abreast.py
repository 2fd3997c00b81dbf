"""Work by several threads comes back as `map` would bring it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from training.ingest.abreast import abreast


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_keep_the_order(threads: int) -> None:
    # Every even item waits for the odd one after it, so that results are ready out of order.
    ready = [threading.Event() for _ in range(20)]

    def work(item: int) -> int:
        if item % 2:
            ready[item].set()
        elif threads > 1:
            assert ready[item + 1].wait(30)
        return item * item

    assert list(abreast(work, range(20), threads)) == [n * n for n in range(20)]
    assert list(abreast(work, [], threads)) == []


def test_items_are_taken_little_ahead_of_what_is_asked_for() -> None:
    taken = []

    def items() -> Iterator[int]:
        for n in range(100):
            taken.append(n)
            yield n

    results = abreast(lambda n: n, items(), 2)
    assert taken == []
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert taken[-1] <= 2 + 2
    results.close()  # type: ignore[attr-defined]
    assert taken[-1] <= 2 + 2


def test_an_error_comes_after_the_results_before_it() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise OSError("the file ends here")

    results = abreast(lambda n: n, items(), 4)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(OSError, match="the file ends here"):
        next(results)

    results = abreast(lambda n: 6 // n, [3, 2, 0, 1], 4)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
