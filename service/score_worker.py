"""One of several workers on a file: a service of its own, which scores the chunks that it is asked for."""

from __future__ import annotations

import sys
from contextlib import ExitStack, aclosing, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from browsing.bundle import Bundle, BundleError
from browsing.hashing import file_sha256
from service.schemas import PredictOptions
from service.scoring.inputs import Source, limits_of, open_input
from service.scoring.on_ray import Refused
from service.scoring.parts import Part, part_of
from service.scoring.results import schema
from service.scoring.scorer import Scorer, Terms
from service.scoring.served import Served
from service.scoring.threads import Stop, in_thread
from service.settings import Settings

if TYPE_CHECKING:
    from service.app import Service

LABEL = "score"
"""Begins the rows' request ids."""
_REACHABLE = "every worker must find it under this path: put it on storage that all machines share, or copy it there"


@dataclass(frozen=True, slots=True)
class Order:
    """What to score and with what: `bundle`, of this `version`, and `histories`, with this `sha256`, under the same
    paths on every machine. `options`: complete."""

    bundle: Path
    version: str
    histories: Path
    sha256: str
    chunk_rows: int
    options: PredictOptions
    settings: Settings


class ChunkScorer:
    """Scores chunks of a file, one at a time. Its service runs in a thread of its own, also between two chunks."""

    def __init__(self, order: Order) -> None:
        """Blocks until the service is up. Raises `Refused`."""
        _look_for(order)
        import transformers
        from anyio.from_thread import start_blocking_portal

        from browsing.engine import EngineError
        from browsing.threads import keep_to
        from service.cores import divided

        transformers.utils.logging.disable_progress_bar()
        self._order = order
        self._stop = Stop()
        try:
            bundle, self._source = _opened(order, self._stop)
            alone = order.settings.model_copy(update={"threads": order.settings.threads or 1})
            service = service_of(divided(alone), bundle)
        except BundleError as error:
            raise Refused(str(error)) from None
        self._columns = schema(tuple(bundle.outcome_ids()))
        served = Served(order.version, tuple(bundle.outcome_ids()), partial(service.pipeline.answer, patient=True))
        self._terms = Terms(served, order.options, LABEL, self._stop)
        self._scorer = Scorer(service.log, width=order.settings.batch_concurrency)
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal(name="hetlm-score"))
            running = service.app.router.lifespan_context(service.app)
            self._portal.call(keep_to, 1)  # it is the event loop's thread
            stack.enter_context(self._portal.wrap_async_context_manager(running))
            try:
                self._portal.call(service.health.started)
            except EngineError as error:
                raise Refused(f"{order.bundle}: the predictors do not start: {error}") from None
            self.close = stack.pop_all().close

    def __call__(self, chunk: int) -> Part:
        """Raises `ProblemError` and `OSError` where the input cannot be read any more."""
        return self._portal.call(self._scored, chunk)

    async def _scored(self, chunk: int) -> Part:
        order, source = self._order, self._source
        first = chunk * order.chunk_rows
        size = min(order.chunk_rows, source.count - first)
        with closing(source.rows(first)) as rows:
            async with aclosing(self._scorer.records(rows, first, size, self._terms)) as scored:
                records = [record async for record in scored]
        return await in_thread(part_of, chunk, records, self._columns, order.version)


def service_of(settings: Settings, bundle: Bundle) -> Service:
    """The server's own, without a server. Raises `BundleError` where the encoder is another one."""
    from service.app import build, choose_encoder, choose_engine, choose_store

    encoder = choose_encoder(settings, bundle)
    return build(settings, bundle, choose_engine(settings, bundle), encoder, choose_store(settings), stream=sys.stderr)


def _opened(order: Order, stop: Stop) -> tuple[Bundle, Source]:
    """Raises `Refused`, `BundleError`, and what `open_input` does."""
    bundle = Bundle.load(order.bundle, order.version)
    try:
        source = open_input(order.histories, limits_of(order.settings), stop)
        digest = file_sha256(order.histories)
    except OSError as error:
        raise Refused(f"{order.histories}: {error.strerror}; {_REACHABLE}") from None
    if digest != order.sha256:
        raise Refused(f"{order.histories}: is another file than where the command was given; {_REACHABLE}")
    return bundle, source


def _look_for(order: Order) -> None:
    """Raises `Refused`."""
    for path in (order.bundle, order.histories):
        if not path.exists():
            raise Refused(f"{path}: is not there; {_REACHABLE}")
