"""Work on a sequence by a few threads at once, with its results in order and only a few of them in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST = 4
"""Threads: each holds one item's work in memory, so that more cores must not mean more memory without end."""


def width() -> int:
    return min(MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def abreast(work: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None) -> Iterator[Result]:
    """`work(item)` of every item, in order. Polars and Arrow let go of the interpreter while they compute.

    Items are taken no more than `threads` ahead of the result that is asked for. An error, of `items` or of `work`,
    comes where it would come from `map`: after the results before it.
    """
    threads = threads or width()
    waiting: deque[Future[Result]] = deque()
    failed: BaseException | None = None
    source = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="ingest") as pool:
        try:
            while True:
                while failed is None and len(waiting) <= threads:
                    try:
                        waiting.append(pool.submit(work, next(source)))
                    except StopIteration:
                        break
                    except Exception as error:
                        failed = error
                if not waiting:
                    break
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
    if failed is not None:
        raise failed
