"""What the operator sees: metrics, readiness, the log. None of it shows a visitor."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections import defaultdict

import pytest
from prometheus_client.parser import text_string_to_metric_families

from browsing.bundle import Bundle
from browsing.engine import EngineError
from browsing.engines.table import TableEngine
from service.logs import Forward, described, logger
from service.settings import Settings
from tests.service.building import CountingEncoder, Made, SlowEngine, running, tables

PERSONAL = ("zq-user", "zq-page", "zq-url", "zq-session", "zq-event")
REQUEST = {"user_id": "zq-user", "sessions": [{"started_at": "2026-11-01T10:00:00Z", "pages": ["/", "/zq-page"]}]}
EVENTS = {
    "events": [{"time": "2026-11-01T10:00:00Z", "url": "/zq-url", "event": "zq-event", "session_id": "zq-session"}]
}


def values(text: str) -> dict[tuple[str, ...], float]:
    """`(name, label values...)` -> value; over all bundles, whose label is left out."""
    found: dict[tuple[str, ...], float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = (value for name, value in sample.labels.items() if name != "bundle")
            found[sample.name, *labels] += sample.value
    return dict(found)


async def exercise(made: Made) -> None:
    """Two answers (the second cached), one of the fallback, one prior, one refusal, one bug's worth of addresses."""
    await made.answer(REQUEST)
    await asyncio.sleep(0.05)
    await made.answer(REQUEST)
    made.engine.failures = [EngineError("zq-page")]
    await made.answer(EVENTS)
    await made.answer({"sessions": []})
    assert (await made.predict({**REQUEST, "zq-user": 1})).status_code == 422
    assert (await made.client.get("/zq-page")).status_code == 404


def test_what_happened_is_counted(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            before = values(await made.metrics())
            await exercise(made)
            now = values(await made.metrics())
        assert before["hetlm_predictions_total", "ok"] == 0
        assert before["hetlm_cache_sessions_total", "hit"] == 0
        assert before["hetlm_requests_total", "/predict", "503"] == 0, "a share of nothing would be nothing"
        assert before["hetlm_request_seconds_count", "/predict"] == 0
        assert now["hetlm_bundle_info", "hetlm", bundle.root.name] == 1
        assert {r: now["hetlm_predictions_total", r] for r in ("ok", "engine_down", "no_history", "refused")} == {
            "ok": 2, "engine_down": 1, "no_history": 1, "refused": 1,
        }  # fmt: skip
        assert now["hetlm_requests_total", "/predict", "200"] == 4
        assert now["hetlm_requests_total", "/predict", "422"] == 1
        assert now["hetlm_requests_total", "other", "404"] == 1
        assert now["hetlm_fallbacks_total", "engine_down"] == now["hetlm_fallbacks_total", "no_history"] == 1
        assert now["hetlm_engine_errors_total", "error"] == 1
        assert sum(now["hetlm_clusters_total", str(k)] for k in range(2)) == 3, "the prior has no cluster"
        assert now["hetlm_outcome_probability_count", "cart"] == 4
        assert 0 < now["hetlm_outcome_probability_sum", "cart"] < 4
        assert (now["hetlm_cache_sessions_total", "hit"], now["hetlm_cache_sessions_total", "miss"]) == (1, 2)
        assert now["hetlm_stage_seconds_count", "generate"] == 4
        assert now["hetlm_request_seconds_count", "/predict"] == 5
        assert now["hetlm_in_flight",] == 0
        assert (now["hetlm_ready",], now["hetlm_engine_up", "0"], now["hetlm_engine_up", "1"]) == (1, 1, 1)
        assert now["hetlm_process_resident_memory_bytes",] > 0

    asyncio.run(scenario())


def test_names_and_labels_are_closed_sets(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            await exercise(made)
            text = await made.metrics()
        families = list(text_string_to_metric_families(text))
        assert all(family.name.startswith("hetlm_") for family in families)
        assert "vllm" not in text
        labels = {label for family in families for sample in family.samples for label in sample.labels}
        assert labels == {
            "route",
            "status",
            "le",
            "result",
            "stage",
            "cluster",
            "outcome",
            "reason",
            "bundle",
            "method",
            "name",
            "source",
            "distribution",
        }
        assert not any(word in text for word in PERSONAL)

    asyncio.run(scenario())


def test_two_services_in_one_process_count_apart(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as one, running(bundle) as two:
            await one.answer(REQUEST)
            assert values(await one.metrics())["hetlm_predictions_total", "ok"] == 1
            assert values(await two.metrics())["hetlm_predictions_total", "ok"] == 0

    asyncio.run(scenario())


def test_a_request_under_way_is_seen(bundle: Bundle) -> None:
    async def scenario() -> None:
        engine = SlowEngine(tables(len(bundle.vocabulary)), 0.0)
        async with running(bundle, engine=engine) as made:
            engine.seconds = 0.2
            call = asyncio.create_task(made.answer(REQUEST))
            await asyncio.sleep(0.1)
            assert values(await made.metrics())["hetlm_in_flight",] == 1
            await call
            assert values(await made.metrics())["hetlm_in_flight",] == 0

    asyncio.run(scenario())


def test_a_caller_who_leaves_is_counted(bundle: Bundle) -> None:
    async def scenario() -> None:
        engine = SlowEngine(tables(len(bundle.vocabulary)), 0.0)
        async with running(bundle, engine=engine) as made:
            engine.seconds = 5.0
            call = asyncio.create_task(made.predict(REQUEST))
            await asyncio.sleep(0.1)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert values(await made.metrics())["hetlm_requests_total", "/predict", "499"] == 1
            assert values(await made.metrics())["hetlm_in_flight",] == 0
            assert engine.running == 0

    asyncio.run(scenario())


class Moody(TableEngine):
    """Healthy as told; the start can be held and can fail."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(tables(len(bundle.vocabulary)))
        self.gate = asyncio.Event()
        self.gate.set()
        self.up = {0: True, 1: True}
        self.error: Exception | None = None
        self.stopped = False

    async def start(self) -> None:
        await self.gate.wait()
        if self.error is not None:
            raise self.error

    async def healthy(self) -> dict[int, bool]:
        if self.error is not None:
            raise self.error
        return self.up

    async def stop(self) -> None:
        self.stopped = True


async def ready(made: Made, status: int, words: str = "") -> str:
    """Waits for `/readyz` to give `status` and a body with `words`; the body."""
    for _ in range(200):
        response = await made.client.get("/readyz")
        if response.status_code == status and words in response.text:
            return response.text
        await asyncio.sleep(0.01)
    raise AssertionError(f"/readyz never gave {status} {words}")


def test_ready_when_engines_have_answered(bundle: Bundle) -> None:
    async def scenario() -> None:
        engine = Moody(bundle)
        engine.gate.clear()
        async with running(bundle, engine=engine, settings=Settings(probe_seconds=0.01), wait=False) as made:
            response = await made.client.get("/readyz")
            assert response.status_code == 503
            assert response.headers["content-type"] == "application/problem+json"
            assert "starts" in response.json()["detail"]
            live = await made.client.get("/livez")
            assert (live.status_code, live.content) == (200, b"")
            early = await made.answer(REQUEST)
            assert early["fallback"] == "engine_down", "nobody waits for an engine that starts"
            engine.gate.set()
            assert json.loads(await ready(made, 200)) == {
                "status": "ready",
                "bundle_version": bundle.manifest.version,
                "clusters": 2,
                "clusters_down": [],
            }
            for up in ({0: True, 1: False}, {0: True}):  # silence is no yes
                engine.up = up
                assert '"clusters_down":[1]' in await ready(made, 200, '"clusters_down":[1]')
                assert values(await made.metrics())["hetlm_engine_up", "1"] == 0
                engine.up = {0: True, 1: True}
                await ready(made, 200, '"clusters_down":[]')
            engine.up = {0: False, 1: False}
            assert "cluster 0, 1 does not answer" in await ready(made, 503)
            engine.up = {0: True, 1: True}
            await ready(made, 200)
            engine.error = RuntimeError("zq-page")
            assert "cluster 0, 1" in await ready(made, 503)
            engine.error = None
            await ready(made, 200)
            assert "zq-page" not in made.log.getvalue()
        assert engine.stopped

    asyncio.run(scenario())


def test_requests_do_not_probe(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            asked = len(made.engine.requests)
            for _ in range(20):
                assert (await made.client.get("/readyz")).status_code == 200
            assert len(made.engine.requests) == asked

    asyncio.run(scenario())


def test_an_engine_that_does_not_start(bundle: Bundle) -> None:
    async def scenario() -> None:
        engine = Moody(bundle)
        engine.error = EngineError("no such model")
        async with running(bundle, engine=engine, wait=False) as made:
            with pytest.raises(EngineError, match="no such model"):
                await made.service.health.started()
            assert (await made.client.get("/readyz")).status_code == 503
            assert (await made.client.get("/livez")).status_code == 200
            await asyncio.sleep(0)
            assert "engine_start_failed" in made.log.getvalue()
        assert engine.stopped

    asyncio.run(scenario())


def test_the_log_is_json_with_request_ids_and_without_visitors(bundle: Bundle) -> None:
    async def scenario() -> None:
        encoder = CountingEncoder()
        async with running(bundle, encoder=encoder, settings=Settings(log_level="debug")) as made:
            await exercise(made)
            encoder.error = RuntimeError("cannot read /zq-page")
            await made.answer({"sessions": [{"started_at": "2026-11-01T10:00:00Z", "pages": ["/zq-page/2"]}]})
            await made.client.post("/predict/batch", json={"items": [REQUEST, {"user_id": "zq-user"}]})
            answer = await made.predict(REQUEST, **{"X-Request-ID": "trace-1"})
            assert answer.status_code == 200
            lines = made.lines()
            for word in PERSONAL:
                assert word not in made.log.getvalue()
        requests = [line for line in lines if line["event"] == "request"]
        assert [line["status"] for line in requests] == [200, 200, 200, 200, 422, 404, 200, 200, 200]
        assert requests[-1]["request_id"] == "trace-1"
        assert {line["route"] for line in requests} == {"/predict", "/predict/batch", "other"}
        assert all({"level", "timestamp", "event"} <= line.keys() for line in lines)
        kinds = {line["event"] for line in lines}
        assert {"engine_failed", "embedding_failed"} <= kinds

    asyncio.run(scenario())


def test_the_level_is_kept(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle, settings=Settings(log_level="warning")) as made:
            await made.answer(REQUEST)
            assert made.log.getvalue() == ""

    asyncio.run(scenario())


def test_probes_do_not_bury_the_log(bundle: Bundle) -> None:
    async def scenario() -> None:
        for level, lines in (("info", 0), ("debug", 2)):
            async with running(bundle, settings=Settings.model_validate({"log_level": level})) as made:
                await made.client.get("/readyz")
                await made.client.get("/livez")
                assert sum(line["event"] == "request" for line in made.lines()) == lines

    asyncio.run(scenario())


def test_an_exception_is_described_by_type_and_place() -> None:
    try:
        raise KeyError("/zq-page")
    except KeyError as error:
        found = described(error)
    assert found["error"] == "KeyError"
    assert re.fullmatch(
        r"service/test_observing\.py:\d+ in test_an_exception_is_described_by_type_and_place",
        str(found["where"][0]),  # type: ignore[index]
    )
    assert "zq" not in str(found)


def test_what_libraries_log_is_forwarded_without_exceptions_messages() -> None:
    stream = io.StringIO()
    handler = Forward(logger("info", stream))
    library = logging.Logger("library")
    library.addHandler(handler)
    library.debug("not this")
    library.warning("slow: %d", 7)
    try:
        raise ValueError("/zq-page")
    except ValueError:
        library.exception("failed at /zq-page")
    plain, failed = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (plain["message"], plain["logger"], plain["level"]) == ("slow: 7", "library", "warning")
    assert (failed["error"], failed["level"]) == ("ValueError", "error")
    assert "zq-page" not in stream.getvalue()
