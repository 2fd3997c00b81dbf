"""`POST /predict`: what it answers, from known models."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch

from browsing.bundle import Bundle
from browsing.calibration import wilson
from browsing.encoder import pool, rounded
from browsing.engine import EngineError, EngineTimeout
from browsing.engines.markov import MarkovEngine
from browsing.engines.table import TableEngine
from browsing.forecast import Forecast, Forecaster, Options, Question
from tests.service.building import SESSIONS, CountingEncoder, SlowEngine, running, same, tables
from tests.tiny import TinyEncoder

HISTORY = (("/", "/bags"), ("/", "/bags", "/bags/tote"))
FIELDS = {
    "request_id", "bundle_version", "user_id", "condition", "cluster", "next_session", "pages", "outcomes",
    "return_within_7_days", "unknown_pages", "truncated", "unfinished_paths", "samples", "fallback",
    "embedding", "took_ms",
}  # fmt: skip


def pi(bundle: Bundle, history: tuple[tuple[str, ...], ...] = HISTORY) -> torch.Tensor:
    z = pool(rounded(TinyEncoder().encode(history)), bundle.manifest.encoder.decay)
    return bundle.selector.probabilities(torch.from_numpy(z)[None])[0]


def expected(bundle: Bundle, engine: TableEngine | MarkovEngine, options: Options) -> Forecast:
    """What the forecaster says when it is asked directly."""
    manifest = bundle.manifest
    forecaster = Forecaster(bundle.vocabulary, bundle.outcome_ids(), bundle.reference, manifest.limits.max_steps)
    prompt = bundle.vocabulary.prompt(HISTORY, manifest.limits.prompt)
    question = Question(int(pi(bundle).argmax()), prompt.ids, HISTORY)

    async def ask() -> Forecast:
        return forecaster.summarise(question, await forecaster.draw(engine, question, options, 10.0), options)

    return asyncio.run(ask())


def ask(bundle: Bundle, body: dict[str, Any], engine: TableEngine | None = None) -> dict[str, Any]:
    async def scenario() -> dict[str, Any]:
        async with running(bundle, engine=engine) as made:
            return await made.answer(body)

    return asyncio.run(scenario())


def test_the_answer_is_the_forecasters_for_the_selected_cluster(bundle: Bundle) -> None:
    answer = ask(bundle, {"user_id": "u-17", "sessions": SESSIONS, "options": {"seed": 7, "top_pages": 4}})
    probabilities = pi(bundle)
    cluster = int(probabilities.argmax())
    truth = expected(bundle, TableEngine(tables(len(bundle.vocabulary))), Options(top_pages=4, seed=7))
    assert set(answer) == FIELDS
    assert answer["bundle_version"] == bundle.manifest.version
    assert answer["user_id"] == "u-17"
    assert answer["condition"] == "next_session"
    assert answer["cluster"] == {
        "id": cluster,
        "name": f"kind {cluster}",
        "probability": pytest.approx(float(probabilities[cluster]), abs=1e-6),
    }
    assert answer["next_session"] == list(truth.next_session)
    assert [(p["page"], p["probability"], p["seen_before"], p["estimator"]) for p in answer["pages"]] == [
        (p.page, pytest.approx(p.probability), p.seen_before, p.estimator) for p in truth.pages
    ]
    assert len(answer["pages"]) == 4
    assert answer["unfinished_paths"] == truth.unfinished_paths
    assert (answer["unknown_pages"], answer["truncated"], answer["fallback"]) == ([], {"sessions_dropped": 0}, None)
    assert answer["embedding"] == {"sessions": 2, "cached": 0}
    assert answer["samples"] == {"pages": 16, "outcomes": {"cart": 16, "purchase": 16}}
    took = answer["took_ms"]
    assert set(took) == {"total", "embed", "select", "generate", "estimate"}
    assert took["total"] >= took["embed"] + took["select"] + took["generate"] + took["estimate"] - 0.01


def test_outcomes_are_raw_and_calibrated(bundle: Bundle) -> None:
    answer = ask(bundle, {"sessions": SESSIONS, "options": {"seed": 7}})
    truth = expected(bundle, TableEngine(tables(len(bundle.vocabulary))), Options(seed=7))
    assert set(answer["outcomes"]) == {"cart", "purchase"}
    for name, outcome in answer["outcomes"].items():
        raw, interval = truth.outcomes[name].probability, truth.outcomes[name].interval
        calibrate = bundle.calibration.apply
        assert outcome["raw"] == pytest.approx(raw)
        assert (outcome["probability"], outcome["calibrated"]) == (pytest.approx(calibrate(name, raw)[0]), True)
        assert outcome["interval"] == pytest.approx(bundle.calibration.interval(name, raw, interval))
        assert outcome["interval"][0] <= outcome["probability"] <= outcome["interval"][1]
        assert outcome["probability"] != outcome["raw"]


def test_equal_requests_have_equal_answers_and_the_second_is_cached(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            first = await made.answer({"sessions": SESSIONS})
            second = await made.answer({"sessions": SESSIONS})
            other = await made.answer({"sessions": SESSIONS, "options": {"seed": 2**63 - 1}})
        assert same(first) == same(second)
        assert same(first) != same(other)
        assert (first["embedding"]["cached"], second["embedding"]["cached"]) == (0, 2)
        assert first["request_id"] != second["request_id"]

    asyncio.run(scenario())


def test_a_tolerance_ends_the_sampling(bundle: Bundle) -> None:
    options = {"seed": 7, "samples": 256, "tolerance": 0.04}
    answer = ask(bundle, {"sessions": SESSIONS, "options": options})
    truth = expected(bundle, TableEngine(tables(len(bundle.vocabulary))), Options(samples=256, seed=7, tolerance=0.04))
    assert answer["samples"] == {"pages": truth.drawn.pages, "outcomes": truth.drawn.outcomes}
    assert answer["samples"]["pages"] == max(answer["samples"]["outcomes"].values()) < 256
    for name, outcome in answer["outcomes"].items():
        assert outcome["raw"] == truth.outcomes[name].probability
        low, high = truth.outcomes[name].interval
        assert high - low <= 2 * 0.04
    few = ask(bundle, {"sessions": SESSIONS, "options": {**options, "tolerance": 0.5}})
    assert few["samples"] == {"pages": 8, "outcomes": {"cart": 8, "purchase": 8}}
    assert ask(bundle, {"sessions": []})["samples"] == {"pages": 0, "outcomes": {}}


def test_questions_that_differ_in_their_tolerance_are_not_shared(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle, engine=SlowEngine(tables(len(bundle.vocabulary)), 0.1)) as made:
            bodies = [
                {"sessions": SESSIONS, "options": {"samples": 16, "tolerance": tolerance}}
                for tolerance in (None, 0.5, 0.5, 0.001)
            ]
            answers = await asyncio.gather(*(made.answer(body) for body in bodies))
            assert [answer["samples"]["pages"] for answer in answers] == [16, 8, 8, 16]
            # Free, cart, purchase, greedy; the two equal ones are one, the last one has two rounds.
            assert len(made.engine.requests) == 4 + 4 + 4 + 3

    asyncio.run(scenario())


def test_the_bundles_way_to_decode_is_the_default(bundle: Bundle) -> None:
    default = ask(bundle, {"sessions": SESSIONS})
    assert bundle.manifest.decode == "consensus"
    for decode in ("consensus", "greedy"):
        truth = expected(bundle, TableEngine(tables(len(bundle.vocabulary))), Options(decode=decode))
        answer = ask(bundle, {"sessions": SESSIONS, "options": {"decode": decode}})
        assert answer["next_session"] == list(truth.next_session)
        assert (answer["next_session"] == default["next_session"]) is (decode == "consensus")


@pytest.mark.parametrize(
    "body",
    [{"sessions": []}, {"events": []}, {"events": [{"time": "2026-01-01T00:00:00Z", "url": "/", "event": "ping"}]}],
)
def test_without_history_the_prior_answers(bundle: Bundle, body: dict[str, Any]) -> None:
    rules = bundle.rules.model_copy(update={"ignore_events": ("ping",)})
    bundle = Bundle(**{**{f: getattr(bundle, f) for f in Bundle.__slots__}, "rules": rules})
    engine = TableEngine(tables(len(bundle.vocabulary)))
    answer = ask(bundle, {**body, "options": {"top_pages": 2}}, engine)
    prior = bundle.prior
    assert set(answer) == FIELDS
    assert answer["fallback"] == "no_history"
    assert answer["next_session"] == list(prior.next_session)
    assert answer["pages"] == [
        {"page": p.page, "probability": p.probability, "seen_before": False, "estimator": "count"}
        for p in prior.pages[:2]
    ]
    for name, outcome in answer["outcomes"].items():
        assert outcome["probability"] == outcome["raw"] == prior.outcomes[name]
        assert outcome["interval"] == list(wilson(prior.outcomes[name], prior.sessions))
    assert answer["cluster"] == {"id": 0, "name": "kind 0", "probability": bundle.manifest.clusters[0].share}
    assert answer["embedding"] == {"sessions": 0, "cached": 0}
    assert all(len(request.prompt) == 1 for request in engine.requests), "only readiness asks"


def test_strict_without_history_is_an_error(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            response = await made.predict({"sessions": [], "options": {"strict": True}})
            assert response.status_code == 422
            assert response.json()["type"] == "urn:hetlm:problem:no-history"
            assert response.json()["errors"][0]["pointer"] == "/sessions"

    asyncio.run(scenario())


def test_unknown_pages_are_listed_once_in_order_and_read_as_unknown(bundle: Bundle) -> None:
    engine = TableEngine(tables(len(bundle.vocabulary)))
    pages = ["/new", "/", "[EOS]", "/new", "/bags with spaces", "/bags"]
    answer = ask(bundle, {"sessions": [{"started_at": "2026-11-01T10:00:00Z", "pages": pages}]}, engine)
    assert answer["unknown_pages"] == ["/new", "[EOS]", "/bags with spaces"]
    id_of = bundle.vocabulary.id
    assert engine.requests[-1].prompt == (1, 3, id_of("/"), 3, 3, 3, id_of("/bags"), 2, 1)
    assert answer["fallback"] is None


def test_strict_takes_unknown_pages(bundle: Bundle) -> None:
    body = {"sessions": [{"started_at": "2026-11-01T10:00:00Z", "pages": ["/new"]}], "options": {"strict": True}}
    assert ask(bundle, body)["unknown_pages"] == ["/new"]


def test_a_long_history_keeps_its_newest_sessions_and_says_so(bundle: Bundle) -> None:
    engine = TableEngine(tables(len(bundle.vocabulary)))
    sessions = [{"started_at": f"2026-11-{day:02}T10:00:00Z", "pages": ["/", "/bags"]} for day in range(1, 30)]
    sessions[-1]["pages"] = ["/shoes"]
    answer = ask(bundle, {"sessions": sessions}, engine)
    room = bundle.manifest.limits.prompt  # 56 tokens: the newest session takes 3, the last [BOS] 1, each other 4
    assert answer["truncated"] == {"sessions_dropped": 29 - 1 - (room - 4) // 4}
    prompt = engine.requests[-1].prompt
    assert len(prompt) <= room
    assert prompt[-4:] == (1, bundle.vocabulary.id("/shoes"), 2, 1)
    assert answer["embedding"]["sessions"] == 29


def test_raw_events_become_the_same_question_as_their_sessions(bundle: Bundle) -> None:
    events = [
        {"time": "2026-11-02T09:01:00Z", "url": "https://shop.example/bags/?utm_source=mail&gclid=Cj0"},
        {"time": "2026-11-02T09:00:00Z", "url": "https://shop.example/?fbclid=1"},
        {"time": "2026-11-02T09:20:00Z", "url": "https://shop.example/bags/tote#top", "event": "page_viewed"},
        {"time": "2026-11-02T09:21:00Z", "event": "product_added_to_cart"},
        {"time": "2026-11-01T10:00:00+01:00", "url": "/", "event": None},
    ]
    sessions = [
        {"started_at": "2026-11-01T09:00:00Z", "pages": ["/"]},
        {"started_at": "2026-11-02T09:00:00Z", "pages": ["/", "/bags", "/bags/tote", "/cart"]},
    ]
    by_events, by_sessions = (TableEngine(tables(len(bundle.vocabulary))) for _ in range(2))
    assert same(ask(bundle, {"events": events}, by_events)) == same(ask(bundle, {"sessions": sessions}, by_sessions))
    assert by_events.requests[-1].prompt == by_sessions.requests[-1].prompt


def test_events_may_name_their_sessions(bundle: Bundle) -> None:
    engine = TableEngine(tables(len(bundle.vocabulary)))
    events = [
        {"time": f"2026-11-02T09:0{i}:00Z", "url": url, "session_id": own}
        for i, (url, own) in enumerate([("/", "a"), ("/shoes", "b"), ("/bags", "a")])
    ]
    ask(bundle, {"events": events}, engine)
    session = bundle.vocabulary.session
    assert engine.requests[-1].prompt == (*session(["/", "/bags"]), *session(["/shoes"]), 1)


def test_blank_cells_of_an_event_are_no_values(bundle: Bundle) -> None:
    """As at ingest: a blank session id names no session, and white space around a value is none of it."""
    engine = TableEngine(tables(len(bundle.vocabulary)))
    times = ("2026-11-02T09:00:00Z", "2026-11-02T15:00:00Z")
    ask(bundle, {"events": [{"time": t, "url": " /bags ", "session_id": " ", "event": ""} for t in times]}, engine)
    session = bundle.vocabulary.session(["/bags"])
    assert engine.requests[-1].prompt == (*session, *session, 1)


@pytest.mark.parametrize("kind", ["events", "sessions"])
def test_very_many_sessions_keep_the_newest_200(bundle: Bundle, kind: str) -> None:
    time = "2026-11-01T10:00:00Z"
    events = [{"time": time, "url": "/", "session_id": str(i)} for i in range(250)]
    sessions = [{"started_at": time, "pages": ["/"]}] * 250
    answer = ask(bundle, {"events": events} if kind == "events" else {"sessions": sessions})
    assert answer["embedding"]["sessions"] == 200
    assert answer["truncated"]["sessions_dropped"] == 250 - (bundle.manifest.limits.prompt - 1) // 3


@pytest.mark.parametrize("error", [EngineError("gone"), EngineTimeout("late"), RuntimeError("a bug"), ValueError("id")])
def test_a_failing_engine_is_answered_from_the_markov_model(bundle: Bundle, error: Exception) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            made.engine.failures = [error]
            answer = await made.answer({"sessions": SESSIONS, "options": {"seed": 3, "strict": False}})
            truth = await asyncio.to_thread(expected, bundle, MarkovEngine(bundle.fallback), Options(seed=3))
            assert set(answer) == FIELDS
            assert answer["fallback"] == "engine_down"
            assert answer["next_session"] == list(truth.next_session)
            for name, outcome in answer["outcomes"].items():
                assert outcome["raw"] == outcome["probability"] == pytest.approx(truth.outcomes[name].probability)
                assert outcome["calibrated"] is False
            assert (await made.answer({"sessions": SESSIONS}))["fallback"] is None, "the next one works again"

    asyncio.run(scenario())


def test_strict_asks_for_an_error_where_the_engine_fails(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            made.engine.failures = [EngineError("gone")]
            response = await made.predict({"sessions": SESSIONS, "options": {"strict": True}})
            assert response.status_code == 503
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["type"] == "urn:hetlm:problem:engine-down"
            assert int(response.headers["retry-after"]) > 0

    asyncio.run(scenario())


def test_an_engine_that_misses_the_deadline_is_left_behind(bundle: Bundle) -> None:
    async def scenario() -> None:
        engine = SlowEngine(tables(len(bundle.vocabulary)), 0.0)
        async with running(bundle, engine=engine) as made:
            engine.seconds = 30.0
            answer = await made.answer({"sessions": SESSIONS, "options": {"deadline_ms": 100}})
            assert answer["fallback"] == "engine_down"
            assert 100 <= answer["took_ms"]["total"] < 5_000
            assert engine.running == 0, "what it was asked is cancelled"

    asyncio.run(scenario())


def test_the_engine_is_told_what_is_left_of_the_deadline(bundle: Bundle) -> None:
    engine = TableEngine(tables(len(bundle.vocabulary)))
    ask(bundle, {"sessions": SESSIONS, "options": {"deadline_ms": 4_000}}, engine)
    assert 2.0 < engine.requests[-1].deadline < 4.0
    ask(bundle, {"sessions": SESSIONS}, engine)
    assert 4.0 < engine.requests[-1].deadline < 5.0, "the default of the settings"


def test_a_failing_encoder_costs_the_cluster_and_not_the_answer(bundle: Bundle) -> None:
    async def scenario() -> None:
        encoder = CountingEncoder()
        encoder.error = RuntimeError("no memory")
        async with running(bundle, encoder=encoder) as made:
            answer = await made.answer({"sessions": SESSIONS})
            assert answer["fallback"] == "engine_down"
            assert answer["embedding"] == {"sessions": 0, "cached": 0}
            assert answer["cluster"]["probability"] == bundle.manifest.clusters[0].share

    asyncio.run(scenario())


def test_a_request_id_comes_back_if_it_is_a_plain_one(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            kept = await made.predict({"sessions": []}, **{"X-Request-ID": "trace-17.a_b"})
            assert kept.headers["x-request-id"] == kept.json()["request_id"] == "trace-17.a_b"
            for given in ("", "a b", "x" * 65, 'a"b', "-a", "a\tb", "é"):
                response = await made.client.post(
                    "/predict", json={"sessions": []}, headers=[(b"X-Request-ID", given.encode())]
                )
                own = response.json()["request_id"]
                assert own != given
                assert len(own) == 32
                assert response.headers["x-request-id"] == own

    asyncio.run(scenario())
