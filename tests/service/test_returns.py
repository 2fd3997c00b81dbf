"""P(return within 7 days) beside the answers that are given that the visitor returns."""

from __future__ import annotations

import asyncio
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from browsing.bundle import Bundle, Manifest, seal
from browsing.engine import EngineError
from browsing.logistic import Feature
from browsing.returns import ReturnModel, Visit, feature_names
from tests.service.building import SESSIONS, running, same

AS_OF = "2026-11-05T10:00:00Z"
WEIGHTS = {"days_since_last": -0.3, "log_visits": 0.8, "log_pages_of_last": 0.5, "cart_in_last": 1.5}


def model() -> ReturnModel:
    outcomes = ("cart", "purchase")
    return ReturnModel(
        lookback_days=30.0,
        as_of="2026-10-01T00:00:00+00:00",
        outcomes=outcomes,
        features=tuple(
            Feature(name=name, low=-10.0, high=30.0, mean=0.0, scale=1.0, weight=WEIGHTS.get(name, 0.0))
            for name in feature_names(outcomes)
        ),
        intercept=-0.5,
        users=1000,
        returned=500,
    )


@pytest.fixture(scope="module")
def returning(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with a model of returning."""
    root = Path(shutil.copytree(bundle.root, tmp_path_factory.mktemp("returning") / "b"))
    model().save(root / "returns.json")
    seal(root, Manifest.model_validate_json((root / "manifest.json").read_text()))
    return Bundle.load(root)


def ask(bundle: Bundle, body: dict[str, Any]) -> dict[str, Any]:
    async def scenario() -> dict[str, Any]:
        async with running(bundle) as made:
            return await made.answer(body)

    return asyncio.run(scenario())


def body(**options: Any) -> dict[str, Any]:
    return {"sessions": SESSIONS, "options": {"as_of": AS_OF, "seed": 7, **options}}


def test_the_probability_is_the_models_and_outcomes_are_times_it(returning: Bundle) -> None:
    answer = ask(returning, body())
    visits = [Visit(datetime(2026, 11, day, hour, tzinfo=UTC), n) for day, hour, n in ((1, 10, 2), (2, 9, 3))]
    expected = model().probability(visits, datetime.fromisoformat(AS_OF))
    assert expected is not None
    assert 0.1 < expected < 0.9
    assert answer["return_within_7_days"] == pytest.approx(expected)
    for outcome in answer["outcomes"].values():
        assert outcome["within_7_days"] == pytest.approx(expected * outcome["probability"])
    assert answer["condition"] == "next_session"


def test_nothing_else_depends_on_the_time_that_is_asked_about(returning: Bundle, bundle: Bundle) -> None:
    soon, late = ask(returning, body()), ask(returning, body(as_of="2026-11-15T00:00:00+02:00"))
    without = ask(bundle, body())
    assert soon["return_within_7_days"] > late["return_within_7_days"]
    for answer in (soon, late, without):
        answer.update(return_within_7_days=None, bundle_version="")
        for outcome in answer["outcomes"].values():
            outcome["within_7_days"] = None
    assert same(soon) == same(late) == same(without)


def test_what_happened_is_seen_as_in_training(returning: Bundle) -> None:
    """Outcomes by the page rules, and events as the sessions that the rules make of them."""
    at = "2026-11-02T09:0{}:00Z"
    pages = ["/", "/bags", "/cart"]
    with_cart = [*SESSIONS[:1], {"started_at": at.format(0), "pages": pages}]
    events: list[dict[str, Any]] = [
        {"time": SESSIONS[0]["started_at"], "url": "/"},
        {"time": SESSIONS[0]["started_at"], "url": "/bags"},
        {"time": at.format(0), "url": "https://shop.example/"},
        {"time": at.format(1), "url": "/bags/?utm_source=x"},
        {"time": at.format(2), "event": "product_added_to_cart"},
    ]
    by_pages = ask(returning, {**body(), "sessions": with_cart})
    by_events = ask(returning, {"events": events, "options": body()["options"]})
    assert by_pages["return_within_7_days"] > ask(returning, body())["return_within_7_days"] + 0.1
    assert by_events["return_within_7_days"] == pytest.approx(by_pages["return_within_7_days"])


def test_the_servers_clock_is_the_default(returning: Bundle) -> None:
    now = datetime.now(UTC)
    sessions = [{"started_at": (now - timedelta(days=3)).isoformat(), "pages": ["/", "/bags"]}]
    asked = ask(returning, {"sessions": sessions, "options": {"as_of": now.isoformat()}})
    clock = ask(returning, {"sessions": sessions})
    assert clock["return_within_7_days"] == pytest.approx(asked["return_within_7_days"], abs=1e-3)
    future = [{"started_at": (now + timedelta(days=3)).isoformat(), "pages": ["/", "/bags"]}]
    assert ask(returning, {"sessions": future})["return_within_7_days"] is None


def test_a_visitor_long_away_is_like_the_longest_away_in_training(returning: Bundle) -> None:
    years, month = (ask(returning, body(as_of=t)) for t in ("2029-11-02T09:00:00Z", "2026-12-02T09:00:00Z"))
    assert years["return_within_7_days"] < 0.01
    assert years["return_within_7_days"] == pytest.approx(month["return_within_7_days"], rel=0.5)


@pytest.mark.parametrize(
    "document",
    [
        body(as_of="2026-11-01T12:00:00Z"),
        {"events": [{"time": AS_OF, "url": "/"}], "options": {"as_of": "2026-11-05T09:59:59Z"}},
        body(as_of="2026-11-05T10:00:00"),
        body(as_of=1_700_000_000),
    ],
    ids=["before the newest session", "before the newest event", "naive", "a number"],
)
def test_a_wrong_time_is_named(returning: Bundle, document: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with running(returning) as made:
            response = await made.predict(document)
            assert response.status_code == 422
            assert [error["pointer"] for error in response.json()["errors"]] == ["/options/as_of"]

    asyncio.run(scenario())


def test_without_a_model_or_a_history_there_is_no_such_probability(returning: Bundle, bundle: Bundle) -> None:
    for served, asked in ((bundle, body()), (returning, {"sessions": [], "options": {"as_of": AS_OF}})):
        answer = ask(served, asked)
        assert answer["return_within_7_days"] is None
        assert {outcome["within_7_days"] for outcome in answer["outcomes"].values()} == {None}
        assert answer["outcomes"]


def test_it_does_not_need_the_engine(returning: Bundle) -> None:
    async def scenario() -> None:
        async with running(returning) as made:
            usual = await made.answer(body())
            made.engine.failures = [EngineError("gone")]
            answer = await made.answer(body())
            assert answer["fallback"] == "engine_down"
            assert answer["return_within_7_days"] == usual["return_within_7_days"]
            for outcome in answer["outcomes"].values():
                assert outcome["within_7_days"] == pytest.approx(answer["return_within_7_days"] * outcome["raw"])

    asyncio.run(scenario())


def test_every_item_of_a_batch_has_its_own(returning: Bundle) -> None:
    async def scenario() -> None:
        async with running(returning) as made:
            items = [body(), body(as_of="2026-11-15T00:00:00Z"), {"sessions": []}]
            response = await made.client.post("/predict/batch", json={"items": items})
            first, second, third = (item["return_within_7_days"] for item in response.json()["items"])
            assert first > second
            assert third is None

    asyncio.run(scenario())


def test_the_document_says_what_the_probabilities_are_conditional_on(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            document = (await made.client.get("/openapi.json")).json()
        schemas = document["components"]["schemas"]
        given = "given that the visitor returns"
        assert given in document["info"]["description"].replace("\n", " ").lower()
        assert given in schemas["PredictResponse"]["description"].lower()
        for owner, name in (("PageOut", "probability"), ("OutcomeOut", "probability")):
            assert given in schemas[owner]["properties"][name]["description"]
        assert "null" in schemas["PredictResponse"]["properties"]["return_within_7_days"]["description"]
        assert "null" in json.dumps(schemas["OutcomeOut"]["properties"]["within_7_days"])
        assert "clock" in schemas["PredictOptions"]["properties"]["as_of"]["description"]

    asyncio.run(scenario())
