"""Scores a file chunk by chunk; what is finished stays finished."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, closing, nullcontext
from dataclasses import dataclass, field
from itertools import islice

from structlog.typing import FilteringBoundLogger

from service.batch import in_order
from service.logs import described
from service.problems import ProblemError
from service.schemas import PredictOptions, PredictRequest, PredictResponse
from service.scoring.inputs import Source
from service.scoring.parts import Parts
from service.scoring.results import Record, Tally, record_of, record_of_problem, tally_of
from service.scoring.rows import Row, asked_with
from service.scoring.served import Served, VersionGone
from service.scoring.threads import Stop

Turn = Callable[[], AbstractAsyncContextManager[object]]

SLICE = 100
"""Rows in memory at once, beside the finished ones of the chunk."""
PAUSES = (0.5, 2.0, 8.0)
"""Seconds after which a row is tried again when no engine answered: a file is in no hurry, and a model beats its
fallback."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a file's rows are asked about. `served`: what with, from the first row to the last. `options`: complete, for
    rows without their own. `label`: begins the rows' request ids. `stop`: the source's."""

    served: Served
    options: PredictOptions
    label: str
    stop: Stop = field(default_factory=Stop)


@dataclass(frozen=True, slots=True)
class Work:
    """A file to score."""

    source: Source
    parts: Parts
    terms: Terms


class Scorer:
    """At most `width` rows at once, each in its own `turn`. `pauses`: seconds, as `PAUSES`. One file at a time."""

    def __init__(
        self,
        log: FilteringBoundLogger,
        *,
        width: int,
        turn: Turn = nullcontext,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._log = log
        self._width = width
        self._turn = turn
        self._pauses = pauses
        self._engine_lost = False

    async def score(
        self, work: Work, report: Callable[[Tally], None], keep: Callable[[Tally], Awaitable[None]]
    ) -> Tally:
        """Score what is not finished yet. `report` hears of every row, first of those of an earlier run; `keep` is
        awaited after every chunk that is safe on the disk. Raises `ProblemError` where the input breaks off, `OSError`,
        and `VersionGone`, after which only what is left is to be scored if the same version is served again.
        """
        parts, stop = work.parts, work.terms.stop
        self._engine_lost = False
        kept = await stop.in_thread(parts.resume, stop)
        report(kept)
        with closing(work.source.rows(kept.done)) as rows:
            for chunk in range(-(-kept.done // parts.chunk_rows), parts.chunks):
                size = min(parts.chunk_rows, parts.rows - kept.done)
                records: list[Record] = []
                under_way = kept
                async with aclosing(self.records(rows, kept.done, size, work.terms)) as scored:
                    async for record in scored:
                        records.append(record)
                        under_way += tally_of(record)
                        report(under_way)
                kept += await stop.in_thread(parts.write, chunk, records)
                await keep(kept)
        return kept

    async def records(self, rows: Iterator[Row], first: int, size: int, terms: Terms) -> AsyncGenerator[Record]:
        """The next `size` of `rows`, scored, in their order; `first`: the number of the next one. Raises what `score`
        does."""
        done = 0
        while done < size:
            few = await terms.stop.in_thread(list, islice(rows, min(SLICE, size - done)))
            if not few:
                raise ProblemError("broken-file", f"The file ends after {first + done} rows.")
            async with aclosing(in_order(range(len(few)), self._working(few, terms), self._width)) as finished:
                async for record in finished:
                    yield record
            done += len(few)

    def _working(self, rows: Sequence[Row], terms: Terms) -> Callable[[int], Awaitable[Record]]:
        async def one(place: int) -> Record:
            row = rows[place]
            request_id = f"{terms.label}.{row.number}"
            try:
                if isinstance(row.asked, ProblemError):
                    raise row.asked
                asked = asked_with(row.asked, terms.options)
                return record_of(row, await self._patiently(terms.served, asked, request_id))
            except VersionGone:
                raise  # no fault of the row
            except ProblemError as problem:
                return record_of_problem(row, problem, request_id)
            except Exception as error:
                self._log.error("row_failed", request_id=request_id, **described(error))
                internal = ProblemError("internal", "The service's operator finds the cause under the request id.")
                return record_of_problem(row, internal, request_id)

        return one

    async def _patiently(self, served: Served, asked: PredictRequest, request_id: str) -> PredictResponse:
        """Tries again while no engine answers. Rows after one that has given up try once, until an engine is back."""
        for pause in () if self._engine_lost else self._pauses:
            answer = await self._once(served, asked, request_id)
            if isinstance(answer, PredictResponse) and answer.fallback != "engine_down":
                return answer
            await asyncio.sleep(pause)
        answer = await self._once(served, asked, request_id)
        if isinstance(answer, ProblemError):
            self._engine_lost = True
            raise answer
        if answer.fallback != "no_history":  # for a visitor without history no engine was asked
            self._engine_lost = answer.fallback == "engine_down"
        return answer

    async def _once(self, served: Served, asked: PredictRequest, request_id: str) -> PredictResponse | ProblemError:
        """The answer, or the problem that no engine gave one. Raises any other."""
        try:
            async with self._turn():
                answer = await served.answer(asked, request_id)
        except ProblemError as problem:
            if problem.kind != "engine-down":
                raise
            return problem
        if answer.bundle_version != served.version:  # whoever mixed them up: one result is of one version
            raise VersionGone
        return answer
