"""`POST /predict/batch`: many requests in one, answered in order, each by itself."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json, to_json
from structlog.typing import FilteringBoundLogger

from service.logs import described
from service.metrics import Metrics
from service.problems import ProblemError, invalid
from service.schemas import MAX_ITEMS, ItemProblem, PredictRequest, PredictResponse
from service.security.values import MAX_BATCH_VALUES, MAX_VALUES, bounded

Item = PredictRequest | ProblemError
Answer = PredictResponse | ItemProblem
T = TypeVar("T")


class _Envelope(BaseModel):
    """The outside of `BatchRequest`: its items are checked one by one."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    items: list[object] = Field(min_length=1, max_length=MAX_ITEMS)


def items_of(body: bytes) -> list[Item]:
    """Every item, or what is wrong with it. Raises `ProblemError` where the whole is no list of items."""
    bounded(body, MAX_BATCH_VALUES)
    try:
        document = from_json(body)
    except ValueError as error:  # its message has a place in it, and nothing of the body
        raise ProblemError("broken-json", f"The body cannot be read as JSON: {error}.") from None
    try:
        envelope = _Envelope.model_validate(document)
    except ValidationError as error:
        raise invalid(error) from None
    return [_item(i, value) for i, value in enumerate(envelope.items)]


def _item(place: int, value: object) -> Item:
    try:
        # Times are strings in JSON only: an item is checked as the document that it is.
        content = to_json(value)
        bounded(content, MAX_VALUES)
        return PredictRequest.model_validate_json(content)
    except ValidationError as error:
        return invalid(error, f"/items/{place}")
    except ProblemError as problem:
        return problem


class Batch:
    """Works on at most `width` items at once."""

    def __init__(
        self,
        answer: Callable[[PredictRequest, str], Awaitable[PredictResponse]],
        metrics: Metrics,
        log: FilteringBoundLogger,
        width: int,
    ) -> None:
        self._answer = answer
        self._metrics = metrics
        self._log = log
        self._width = width

    def answers(self, items: Sequence[Item], request_id: str) -> AsyncGenerator[Answer]:
        """One answer per item, in order, each as soon as it and those in front of it are ready."""

        async def work(place: int) -> Answer:
            return await self._one(items[place], f"{request_id}.{place}")

        return in_order(range(len(items)), work, self._width)

    async def _one(self, item: Item, request_id: str) -> Answer:
        if isinstance(item, ProblemError):
            self._metrics.no_prediction("refused")
            return ItemProblem(problem=item.document(request_id))
        try:
            return await self._answer(item, request_id)
        except ProblemError as problem:
            return ItemProblem(problem=problem.document(request_id))
        except Exception as error:
            self._log.error("item_failed", request_id=request_id, **described(error))
            internal = ProblemError("internal", "The service's operator finds the cause under the request id.")
            return ItemProblem(problem=internal.document(request_id))


async def in_order(places: Sequence[int], work: Callable[[int], Awaitable[T]], width: int) -> AsyncGenerator[T]:
    """`work` of every place, in order, at most `width` unfinished or unread at once. Leaving early cancels the rest."""
    running: deque[asyncio.Future[T]] = deque()
    try:
        for place in places:
            if len(running) == width:
                yield await running.popleft()
            running.append(asyncio.ensure_future(work(place)))
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
