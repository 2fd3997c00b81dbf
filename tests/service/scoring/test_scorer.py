"""The loop over a file: every row once, in order, interrupted or not; patience with an engine that is away."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from browsing.bundle import Bundle
from browsing.engine import EngineError
from service.logs import logger
from service.problems import ProblemError
from service.schemas import PredictOptions, PredictRequest, PredictResponse
from service.scoring.inputs import Limits, open_input
from service.scoring.parts import Parts
from service.scoring.results import Record, Tally, schema
from service.scoring.rows import asked_with, defaults_of
from service.scoring.scorer import Scorer, Terms, Work
from service.scoring.served import Answer, Served, VersionGone
from service.scoring.threads import Stop, in_thread
from tests.service.building import running
from tests.service.scoring.building import BAD, OUTCOMES, VERSION, Answering, dataset, documents, ndjson, served

NOW = datetime(2026, 11, 20, tzinfo=UTC)
LOG = logger("error", io.StringIO())


def work_on(
    path: Path,
    root: Path,
    answer: Answer,
    *,
    chunk: int = 10,
    options: PredictOptions | None = None,
    version: str = VERSION,
) -> Work:
    source = open_input(path, Limits())
    parts = Parts(root / "parts", schema(OUTCOMES), chunk, source.count, version)
    complete = defaults_of(options or PredictOptions(), NOW)
    return Work(source, parts, Terms(served(answer, version), complete, "t"))


async def kept(_: Tally) -> None:
    """Nothing to note down."""


def ignored(_: Tally) -> None:
    """Nobody looks."""


def result(parts: Parts, root: Path) -> list[Record]:
    parts.assemble(root / "out", "parquet")
    rows: list[Record] = pq.read_table(root / "out").to_pylist()
    return rows


def test_every_row_is_answered_once_and_in_order(tmp_path: Path) -> None:
    rows = documents(47)
    rows[12], rows[46] = BAD, BAD
    answering, told, safe = Answering(), list[Tally](), list[Tally]()
    work = work_on(ndjson(tmp_path / "in", rows), tmp_path, answering)

    async def keep(tally: Tally) -> None:
        safe.append(tally)

    tally = asyncio.run(Scorer(LOG, width=4).score(work, told.append, keep))
    assert tally == Tally(47, 2, 0)
    assert [t.done for t in safe] == [10, 20, 30, 40, 47]
    assert [t.done for t in told] == list(range(48))
    assert [t.failed for t in told] == [int(i > 12) + int(i > 46) for i in range(48)]
    found = result(work.parts, tmp_path)
    assert [row["user_id"] for row in found] == [row["user_id"] for row in rows]
    assert [row["row"] for row in found if row["problem"] is not None] == [12, 46]
    assert len(answering.asked) == 45


@pytest.mark.parametrize("after", [0, 3, 10, 25, 44])
def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(tmp_path: Path, after: int) -> None:
    path = dataset(tmp_path / "in", documents(45))
    whole = work_on(path, tmp_path / "whole", Answering())
    (tmp_path / "whole").mkdir()
    asyncio.run(Scorer(LOG, width=4).score(whole, ignored, kept))

    async def interrupted() -> None:
        enough = asyncio.Event()

        def watch(tally: Tally) -> None:
            if tally.done >= after:
                enough.set()

        work = work_on(path, tmp_path, Answering(0.001))
        task = asyncio.ensure_future(Scorer(LOG, width=4).score(work, watch, kept))
        await enough.wait()
        task.cancel()
        await asyncio.wait((task,))

    asyncio.run(interrupted())
    again = Answering()
    first = list[Tally]()
    work = work_on(path, tmp_path, again)
    assert asyncio.run(Scorer(LOG, width=3).score(work, first.append, kept)).done == 45
    assert first[0].done % 10 == 0 or first[0].done == 45
    assert first[0].done >= after - after % 10 - 10
    assert len(again.asked) == 45 - first[0].done, "what was finished is not asked again"
    assert result(work.parts, tmp_path) == result(whole.parts, tmp_path / "whole")


def test_the_files_options_are_for_rows_without_their_own(tmp_path: Path) -> None:
    rows = documents(2)
    rows[1]["options"] = {"seed": 3, "strict": True}
    answering = Answering()
    options = PredictOptions(samples=5, seed=9)
    work = work_on(ndjson(tmp_path / "in", rows), tmp_path, answering, options=options)
    asyncio.run(Scorer(LOG, width=1).score(work, ignored, kept))
    one, two = (request.options for request in answering.asked)
    assert (one.samples, one.seed, one.strict, one.as_of, one.deadline_ms) == (5, 9, False, NOW, 60_000)
    assert (two.samples, two.seed, two.strict, two.as_of, two.deadline_ms) == (5, 3, True, NOW, 60_000)


def test_an_engine_that_is_away_for_a_moment_costs_no_row_its_model(tmp_path: Path) -> None:
    answering = Answering()
    work = work_on(ndjson(tmp_path / "in", documents(3)), tmp_path, answering)
    answering.fallbacks = 2
    tally = asyncio.run(Scorer(LOG, width=1, pauses=(0, 0)).score(work, ignored, kept))
    assert tally == Tally(3, 0, 0)
    assert len(answering.asked) == 5


def test_an_engine_that_stays_away_is_waited_for_once(tmp_path: Path) -> None:
    answering = Answering()
    work = work_on(ndjson(tmp_path / "in", documents(6)), tmp_path, answering)
    answering.fallbacks = 3 + 1 + 1  # the first row with its two repetitions, two rows without
    tally = asyncio.run(Scorer(LOG, width=1, pauses=(0, 0)).score(work, ignored, kept))
    assert tally == Tally(6, 0, 3)
    assert len(answering.asked) == 8
    assert [row["fallback"] == "engine_down" for row in result(work.parts, tmp_path)] == [True] * 3 + [False] * 3


@pytest.mark.parametrize(
    ("error", "status", "tries"),
    [
        (ProblemError("engine-down", "none"), 503, 3),
        (ProblemError("no-history", "none"), 422, 1),
        (RuntimeError("zq-personal"), 500, 1),
    ],
)
def test_a_row_that_fails_has_its_problem(tmp_path: Path, error: Exception, status: int, tries: int) -> None:
    log = io.StringIO()
    answering = Answering()
    work = work_on(ndjson(tmp_path / "in", documents(1)), tmp_path, answering)
    answering.error = error
    tally = asyncio.run(Scorer(logger("info", log), width=1, pauses=(0, 0)).score(work, ignored, kept))
    assert tally == Tally(1, 1, 0)
    assert len(answering.asked) == tries
    (row,) = result(work.parts, tmp_path)
    problem = json.loads(str(row["problem"]))
    assert (problem["status"], problem["request_id"], row["cluster_id"]) == (status, "t.0", None)
    assert "zq-personal" not in str(row) + log.getvalue()
    assert ("row_failed" in log.getvalue()) == (status == 500)


@pytest.mark.parametrize("after", [0, 4, 14, 22])
def test_a_version_that_goes_ends_the_run_and_leaves_only_its_own_chunks(tmp_path: Path, after: int) -> None:
    """Whether it says so itself, or another answers in its place."""
    path = ndjson(tmp_path / "in", documents(25))
    for goes in ("says so", "another answers"):
        root = tmp_path / goes
        answering = Answering()

        async def answer(
            request: PredictRequest, request_id: str, goes: str = goes, answering: Answering = answering
        ) -> PredictResponse:
            if len(answering.asked) == after:
                if goes == "says so":
                    raise VersionGone
                answering.version = "w" * 64
            given = await answering(request, request_id)
            answering.version = VERSION  # one row alone is of another
            return given

        work = work_on(path, root, answer)
        with pytest.raises(VersionGone):
            asyncio.run(Scorer(LOG, width=1).score(work, ignored, kept))
        assert work.parts.resume().done == after - after % 10
        again = work_on(path, root, Answering())
        assert asyncio.run(Scorer(LOG, width=3).score(again, ignored, kept)) == Tally(25, 0, 0)
        assert {row["bundle_version"] for row in result(again.parts, root)} == {VERSION}


def test_an_engine_that_was_given_up_is_asked_again_by_the_next_file(tmp_path: Path) -> None:
    answering = Answering()
    scorer = Scorer(LOG, width=1, pauses=(0, 0))
    answering.fallbacks = 3
    asyncio.run(scorer.score(work_on(ndjson(tmp_path / "a", documents(1)), tmp_path / "1", answering), ignored, kept))
    answering.fallbacks = 1
    work = work_on(ndjson(tmp_path / "b", documents(1)), tmp_path / "2", answering)
    assert asyncio.run(scorer.score(work, ignored, kept)) == Tally(1, 0, 0)


def test_who_is_cancelled_tells_the_thread_to_stop(tmp_path: Path) -> None:
    async def scenario() -> None:
        stop, begun = Stop(), threading.Event()

        def long() -> None:
            begun.set()
            while True:
                stop.check()

        task = asyncio.ensure_future(stop.in_thread(long))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_a_file_that_was_exchanged_for_a_shorter_one_is_no_result(tmp_path: Path) -> None:
    path = ndjson(tmp_path / "in", documents(30))
    work = work_on(path, tmp_path, Answering())
    ndjson(path, documents(15))
    with pytest.raises(ProblemError, match="broken-file"):
        asyncio.run(Scorer(LOG, width=2).score(work, ignored, kept))
    assert work.parts.resume().done == 10


def test_a_batch_answers_as_single_requests_do(bundle: Bundle, tmp_path: Path) -> None:
    """The real pipeline: the same seed, the same numbers, whatever is computed beside them."""
    rows = documents(12, seed=5)
    rows[3]["options"] = {"samples": 8, "seed": 4, "decode": "greedy"}
    path = ndjson(tmp_path / "in", rows)
    source = open_input(path, Limits())
    columns = schema(tuple(bundle.outcome_ids()))
    defaults = defaults_of(PredictOptions(seed=11, top_pages=4), NOW)
    version = bundle.manifest.version
    parts = Parts(tmp_path / "parts", columns, 5, source.count, version)

    async def scenario() -> list[dict[str, Any]]:
        async with running(bundle) as made:
            model = Served(version, (), partial(made.service.pipeline.answer, patient=True))
            tally = await Scorer(LOG, width=4).score(Work(source, parts, Terms(model, defaults, "t")), ignored, kept)
            assert tally == Tally(12, 0, 0)
            singles = []
            for row in rows:
                asked = asked_with(PredictRequest.model_validate_json(json.dumps(row)), defaults)
                singles.append(await made.answer(json.loads(asked.model_dump_json(exclude_none=True))))
            return singles

    singles = asyncio.run(scenario())
    for row, single in zip(result(parts, tmp_path), singles, strict=True):
        assert row["user_id"] == single["user_id"]
        assert (row["cluster_id"], row["cluster_probability"]) == (
            single["cluster"]["id"],
            single["cluster"]["probability"],
        )
        for name in ("next_session", "fallback", "return_within_7_days", "bundle_version"):
            assert row[name] == single[name]
        assert row["pages"] == [
            {k: page[k] for k in ("page", "probability", "seen_before")} for page in single["pages"]
        ]
        for name, outcome in single["outcomes"].items():
            low, high = outcome.pop("interval")
            assert row[f"outcome_{name}"] == {**outcome, "low": low, "high": high}


def test_an_engine_that_fails_once_changes_no_row(bundle: Bundle, tmp_path: Path) -> None:
    path = ndjson(tmp_path / "in", [row for row in documents(12, seed=5) if row["sessions"]])

    async def scored(root: Path, failures: list[Exception]) -> list[Record]:
        async with running(bundle) as made:
            work = work_on(
                path, root, partial(made.service.pipeline.answer, patient=True), version=bundle.manifest.version
            )
            made.engine.failures = failures
            scorer = Scorer(LOG, width=1, pauses=(0.0, 1.0, 3.0))
            tally = await scorer.score(work, ignored, kept)
        assert tally.fallbacks == 0
        return result(work.parts, root)

    roots = [tmp_path / "a", tmp_path / "b"]
    for root in roots:
        root.mkdir()
    assert asyncio.run(scored(roots[0], [])) == asyncio.run(scored(roots[1], [EngineError("gone")]))


def test_who_is_cancelled_waits_for_the_thread() -> None:
    async def scenario() -> None:
        go, ended = threading.Event(), threading.Event()

        def slowly() -> None:
            go.wait(60)
            ended.set()

        task = asyncio.ensure_future(in_thread(slowly))
        await asyncio.sleep(0.01)
        task.cancel()
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(scenario())
