"""`hetlm score`: a whole file of visitors without a server, by the server's own pipeline, here or on a Ray cluster."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import ValidationError

from browsing.console import STDERR, emit, fail, progress

if TYPE_CHECKING:
    from service.app import Service
    from service.schemas import PredictOptions
    from service.score_worker import Order
    from service.scoring.parts import Parts
    from service.scoring.results import Tally
    from service.scoring.scorer import Work
    from service.settings import Settings

INTERRUPTED = 130
FORMS: dict[str, Literal["parquet", "ndjson"]] = {".parquet": "parquet", ".ndjson": "ndjson", ".jsonl": "ndjson"}


@dataclass(frozen=True, slots=True)
class _Scored:
    tally: Tally
    resumed: int
    seconds: float


def score(
    bundle: Annotated[Path, typer.Argument(help="the bundle's directory")],
    histories: Annotated[
        Path,
        typer.Argument(
            help="Parquet in a dataset's columns (user_id, history, history_started_at) or with those of POST /predict "
            "(user_id, sessions or events, options); or such documents as NDJSON, gzipped or not"
        ),
    ],
    out: Annotated[Path, typer.Option(help="the result: .parquet, or .ndjson")],
    samples: Annotated[int | None, typer.Option(min=1, max=256, help="paths sampled per question")] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=0.5, help="draw fewer where every outcome's raw interval reaches no further; default: never"
        ),
    ] = None,
    top_pages: Annotated[int | None, typer.Option(min=1, max=100, help="pages listed per visitor")] = None,
    decode: Annotated[
        Literal["consensus", "greedy"] | None,
        typer.Option(help="how one next session is chosen; default: the bundle's"),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="equal seeds, equal results")] = None,
    as_of: Annotated[
        str | None,
        typer.Option(help="when the 7 days of return_within_7_days begin (2026-11-01T10:00:00Z); default: now"),
    ] = None,
    chunk_rows: Annotated[
        int, typer.Option(min=1, max=100_000, help="rows that an interruption costs at most")
    ] = 1_000,
    concurrency: Annotated[int | None, typer.Option(min=1, max=256, help="rows at once, per worker")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; by default all, and one for each of Ray's workers")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="score on a Ray cluster: local (this machine's CPUs), auto (the one that runs here) or host:port of "
            "its head. Needs the extra ray, and bundle and file under the same paths on all its machines",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="end with one line of JSON on stdout")] = False,
) -> None:
    """Score every visitor of a file: one row out for every row in, in order.

    A row that cannot be scored has its problem in the column `problem`. Interrupted with Ctrl-C (or worse), the same
    command goes on from the last finished chunk, which lies in OUT.work; a changed file, bundle or option starts
    afresh. A row's own `options` come before these flags. Limits are those of the server (HETLM_BATCH_MAX_ROWS, ...).

    With --ray, the workers of a Ray cluster score chunks side by side, to the same result; one that dies is started
    again, with the chunk that it was at.

    Examples:

      hetlm score bundle shop/test.parquet --out scored.parquet

      hetlm score bundle visitors.ndjson.gz --out scored.parquet --samples 64 --seed 7

      hetlm score bundle visitors.parquet --out scored.parquet --ray 10.0.0.7:6379

      duckdb -c "SELECT user_id FROM 'scored.parquet' WHERE outcome_purchase.probability > 0.2"
    """
    form = FORMS.get(out.suffix)
    if form is None:
        raise fail(f"--out {out}: its name must end in {', '.join(FORMS)}")
    given: dict[str, object] = {"samples": samples, "tolerance": tolerance, "top_pages": top_pages, "decode": decode}
    given |= {"seed": seed, "as_of": as_of}
    options = _options({name: value for name, value in given.items() if value is not None})
    settings = _settings({"threads": threads, "batch_concurrency": concurrency})
    try:
        scored, version = _run(bundle, histories, out, form, options, chunk_rows, settings, ray)
    except KeyboardInterrupt:
        STDERR.print("\n[bold]interrupted:[/] the same command goes on from the last finished chunk")
        raise typer.Exit(INTERRUPTED) from None
    tally = scored.tally
    if tally.failed:
        STDERR.print(f"{tally.failed} rows could not be scored: their column problem says why")
    if tally.fallbacks:
        STDERR.print(f"{tally.fallbacks} rows were answered by the fallback model: see the column fallback")
    document = {
        "out": str(out),
        "rows": tally.done,
        "failed": tally.failed,
        "fallbacks": tally.fallbacks,
        "resumed_rows": scored.resumed,
        "seconds": round(scored.seconds, 3),
        "rows_per_second": round((tally.done - scored.resumed) / scored.seconds, 3),
        "bundle_version": version,
    }
    emit(document, as_json)


def _options(given: dict[str, object]) -> PredictOptions:
    from service.schemas import PredictOptions

    try:
        return PredictOptions.model_validate_json(json.dumps(given))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise fail(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}") from None


def _settings(flags: dict[str, object]) -> Settings:
    """The server's, but for what only a server has: addresses, keys, a shared cache, an engine of its own."""
    from service.settings import Settings, variable

    alone: dict[str, object] = {
        "bundles": None,
        "canary": None,
        "engine": "local",
        "engine_urls": (),
        "engine_api_key": None,
        "host": "127.0.0.1",
        "admin_host": "127.0.0.1",
        "api_keys_file": None,
        "redis_url": None,
        "redis_ca_file": None,
        "cache_secret": None,
        "batch_dir": None,
        "batch_input_dir": None,
        "log_level": "warning",
    }
    try:
        return Settings.model_validate(alone | {name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        raise fail(f"{variable(field)}: {first['msg']}") from None


def _run(
    root: Path,
    histories: Path,
    out: Path,
    form: Literal["parquet", "ndjson"],
    options: PredictOptions,
    chunk_rows: int,
    settings: Settings,
    ray: str | None,
) -> tuple[_Scored, str]:
    import transformers

    from browsing.bundle import Bundle, BundleError
    from browsing.engine import EngineError
    from browsing.hashing import file_sha256
    from service.cores import divided
    from service.problems import ProblemError
    from service.score_worker import LABEL, Order, service_of
    from service.scoring.inputs import limits_of, open_input
    from service.scoring.on_ray import RayError
    from service.scoring.parts import Parts, disk_full
    from service.scoring.results import schema
    from service.scoring.resume import Busy, Unfinished, run_of
    from service.scoring.rows import defaults_of
    from service.scoring.scorer import Terms, Work
    from service.scoring.served import Served
    from service.scoring.threads import Stop

    transformers.utils.logging.disable_progress_bar()
    unfinished, stop = Unfinished.of(out), Stop()
    try:
        with progress("Reading bundle and input", 3, "parts") as advance:
            bundle = Bundle.load(root)
            advance(1)
            source = open_input(histories, limits_of(settings), stop)
            advance(1)
            digest = file_sha256(histories)
            advance(1)
        with unfinished.held():
            asked = run_of(digest, bundle.manifest.version, options, chunk_rows, datetime.now(UTC))
            run, begun = unfinished.begin(asked)
            if begun == "changed":
                STDERR.print("the input, the bundle or the options changed since the last run: starting afresh")
            version, outcomes = bundle.manifest.version, tuple(bundle.outcome_ids())
            parts = Parts(unfinished.parts, schema(outcomes), chunk_rows, source.count, version)
            complete = defaults_of(run.options, run.now)
            if ray is not None:
                paths = (root.absolute(), version, histories.absolute(), digest)
                scored = _score_on(ray, Order(*paths, chunk_rows, complete, settings), parts)
            else:
                service = service_of(divided(settings), bundle)
                served = Served(version, outcomes, partial(service.pipeline.answer, patient=True))
                work = Work(source, parts, Terms(served, complete, LABEL, stop))
                scored = asyncio.run(_score(service, work, settings.batch_concurrency))
            with progress("Writing the result", 1, "files") as advance:
                parts.assemble(out, form)
                advance(1)
            unfinished.remove()
    except BundleError as error:
        raise fail(str(error)) from None
    except ProblemError as problem:
        raise fail(f"{histories}: {problem.detail}") from None
    except Busy:
        raise fail(f"{unfinished.root}: another process is writing {out} just now") from None
    except EngineError as error:
        raise fail(f"{root}: the predictors do not start: {error}") from None
    except RayError as error:
        raise fail(f"--ray: {error}") from None
    except OSError as error:
        if disk_full(error):
            raise fail(f"{out.parent}: the disk is full; make room, and the same command goes on") from None
        raise fail(f"{error.filename or histories}: {error.strerror or 'cannot be read or written'}") from None
    return scored, bundle.manifest.version


async def _score(service: Service, work: Work, width: int) -> _Scored:
    from service.scoring.results import Tally
    from service.scoring.scorer import Scorer

    scorer = Scorer(service.log, width=width)
    async with service.app.router.lifespan_context(service.app):
        await service.health.started()
        with progress("Scoring", work.source.count, "rows") as advance:
            told = Tally()
            resumed: int | None = None

            def report(tally: Tally) -> None:
                nonlocal told, resumed
                if resumed is None and (resumed := tally.done):
                    _say_resumed(resumed)
                advance(tally.done - told.done)
                told = tally

            began = time.perf_counter()
            tally = await scorer.score(work, report, _kept)
    return _Scored(tally, resumed or 0, time.perf_counter() - began)


async def _kept(_: Tally) -> None:
    """The parts themselves tell what is finished."""


def _score_on(ray: str, order: Order, parts: Parts) -> _Scored:
    """Raises `RayError`, `OSError`."""
    from service.score_worker import ChunkScorer
    from service.scoring.on_ray import RayError, connected, scored
    from service.scoring.results import Tally

    finished = parts.finished()
    missing = [chunk for chunk in range(parts.chunks) if chunk not in finished]
    resumed = sum(tally.done for tally in finished.values())
    began = time.perf_counter()
    with progress("Scoring", parts.rows, "rows") as advance:
        if resumed:
            _say_resumed(resumed)
            advance(resumed)
        if missing:
            make, threads = partial(ChunkScorer, order), order.settings.threads or 1
            # Closed before Ray is: what goes on asking while Ray ends makes it end this whole process.
            with connected(ray, _say_gone), closing(scored(make, missing, threads)) as arriving:
                for part in arriving:
                    if part.chunk not in finished:
                        parts.keep(part)
                        finished[part.chunk] = part.tally
                        advance(part.tally.done)
    if len(finished) < parts.chunks:
        raise RayError(f"{parts.chunks - len(finished)} chunks did not come back: the same command goes on with them")
    return _Scored(sum(finished.values(), start=Tally()), resumed, time.perf_counter() - began)


def _say_gone(what: str) -> None:
    STDERR.print(f"--ray: {what}; the same command goes on from the finished chunks")


def _say_resumed(rows: int) -> None:
    STDERR.print(f"{rows} rows were scored before: going on with the next")
