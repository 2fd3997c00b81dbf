"""Requests through the application, and what the monitoring then says of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from browsing.bundle import Bundle
from browsing.encoder import pool
from browsing.engine import EngineError
from service.settings import Settings
from tests.service.building import CountingEncoder, Made, SlowEngine, running, tables
from tests.service.monitoring.building import Values, trained, values
from tests.tiny import SIX_PAGES, TinyEncoder
from training.dataset import Sample
from training.traffic import routing_of, visit_pages

THEN = datetime(2026, 11, 1, 10, tzinfo=UTC)
USUAL = (0.04, 0.02, 0.4, 0.3, 0.14, 0.1)
OTHER = (0.02, 0.02, 0.1, 0.06, 0.1, 0.7)
History = tuple[tuple[str, ...], ...]


def people(count: int, shares: Sequence[float], seed: int) -> list[Sample]:
    """One to three visits of one to four pages each; one page in twenty is not in the vocabulary."""
    generator = np.random.default_rng(seed)
    names = (*SIX_PAGES, "/zq-unknown")
    chances = np.array([*(0.95 * share for share in shares), 0.05])
    found = []
    for user in range(count):
        lengths = generator.integers(1, 5, int(generator.integers(1, 4)))
        history = tuple(tuple(generator.choice(names, size, p=chances).tolist()) for size in lengths)
        found.append(Sample(f"u{user}", history, (THEN,) * len(history), ("/",), THEN))
    return found


def learnt(bundle: Bundle, samples: Sequence[Sample]) -> Bundle:
    """The bundle with what its training would say of these users."""
    encoder, decay = TinyEncoder(), bundle.manifest.encoder.decay
    z = np.stack([pool(encoder.encode(sample.history), decay) for sample in samples])
    routing = routing_of(samples, z.astype(np.float32), bundle.selector)
    visits = visit_pages(samples, bundle.vocabulary)
    return replace(bundle, reference=bundle.reference.model_copy(update={"visits": visits, "routing": routing}))


def body(history: History) -> dict[str, Any]:
    sessions = [{"started_at": THEN.isoformat(), "pages": list(pages)} for pages in history]
    return {"sessions": sessions, "options": {"samples": 1, "top_pages": 1}}


async def ask(made: Made, samples: Sequence[Sample]) -> None:
    for sample in samples:
        await made.answer(body(sample.history))


async def now(made: Made) -> Values:
    return values(await made.metrics())


def test_training_s_own_traffic_is_no_drift_and_another_is(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(learnt(bundle, people(1_500, USUAL, 0))) as made:
            await ask(made, people(250, USUAL, 1))
            usual = await now(made)
        async with running(learnt(bundle, people(1_500, USUAL, 0))) as made:
            await ask(made, people(250, OTHER, 2))
            other = await now(made)
        for distribution in ("pages", "clusters", "confidence"):
            key = ("online", distribution)
            assert usual["hetlm_drift_sample_size", *key] > 249
            assert usual["hetlm_drift_psi", *key] < 2.5 * usual["hetlm_drift_psi_noise", *key] + 0.01, distribution
            assert math.isnan(usual["hetlm_drift_psi", "batch", distribution])
        assert other["hetlm_drift_psi", "online", "pages"] > 0.25 + other["hetlm_drift_psi_noise", "online", "pages"]
        unknown = usual["hetlm_visit_pages_total", "online", "unknown"]
        views = unknown + usual["hetlm_visit_pages_total", "online", "known"]
        assert abs(unknown / views - usual["hetlm_reference_unknown_page_ratio",]) < 0.03
        assert usual["hetlm_selector_confidence_count", "online"] == 250
        mean = usual["hetlm_selector_confidence_sum", "online"] / 250
        assert abs(mean - usual["hetlm_reference_selector_confidence",]) < 0.02
        for outcome in ("cart", "purchase"):
            summed = usual["hetlm_outcome_probability_sum", outcome]
            assert abs(usual["hetlm_outcome_mean_probability", "online", outcome] - summed / 250) < 1e-3
            assert usual["hetlm_outcome_base_rate", outcome] == bundle.reference.outcome_rates[outcome]

    asyncio.run(scenario())


def test_only_the_newest_visit_counts(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(trained(bundle)) as made:
            await made.answer(body((("/zq-unknown", "/zq-unknown"), ("/", "/bags", "/zq-unknown"))))
            seen = await now(made)
            assert seen["hetlm_visit_pages_total", "online", "known"] == 2
            assert seen["hetlm_visit_pages_total", "online", "unknown"] == 1
            assert "zq-unknown" not in await made.metrics()

    asyncio.run(scenario())


def test_items_of_a_batch_are_another_source(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(trained(bundle)) as made:
            items = [body((("/",),)) for _ in range(120)]
            assert (await made.client.post("/predict/batch", json={"items": items})).status_code == 200
            seen = await now(made)
            assert seen["hetlm_drift_psi", "batch", "pages"] > 0.25
            assert seen["hetlm_drift_sample_size", "online", "pages"] == 0
            assert seen["hetlm_admission_wait_seconds_count", "batch"] == 120
            assert seen["hetlm_admission_wait_seconds_count", "online"] == 0

    asyncio.run(scenario())


def test_what_is_answered_around_says_only_what_it_knows(bundle: Bundle) -> None:
    async def scenario() -> None:
        encoder = CountingEncoder()
        async with running(trained(bundle), encoder=encoder) as made:
            for _ in range(110):
                await made.answer(body((("/",),)))
            before = await now(made)
            made.engine.failures = [EngineError("gone")]
            assert (await made.answer(body((("/bags",),))))["fallback"] == "engine_down"
            down = await now(made)
            mean = ("hetlm_outcome_mean_probability", "online", "cart")
            assert down[mean] == before[mean], "the fallback's probabilities are not the predictors'"
            assert down["hetlm_selector_confidence_count", "online"] == 111
            encoder.error = RuntimeError("no encoder")
            assert (await made.answer(body((("/bags/tote",),))))["fallback"] == "engine_down"
            blind = await now(made)
            assert blind["hetlm_selector_confidence_count", "online"] == 111
            assert blind["hetlm_visit_pages_total", "online", "known"] == 112
            assert (await made.answer({"sessions": []}))["fallback"] == "no_history"
            assert (await now(made))["hetlm_visit_pages_total", "online", "known"] == 112

    asyncio.run(scenario())


def test_who_waits_for_a_place_is_seen(bundle: Bundle) -> None:
    async def scenario() -> None:
        engine = SlowEngine(tables(len(bundle.vocabulary)), 0.0)
        async with running(trained(bundle), engine=engine, settings=Settings(batch_concurrency=1)) as made:
            engine.seconds = 0.1
            calls = [made.client.post("/predict/batch", json={"items": [body(((page,),))]}) for page in ("/", "/bags")]
            await asyncio.gather(*calls)
            seen = await now(made)
            assert seen["hetlm_admission_wait_seconds_count", "batch"] == 2
            assert seen["hetlm_admission_wait_seconds_sum", "batch"] > 0.05
            assert seen["hetlm_admission_wait_seconds_bucket", "batch", "0.05"] == 1

    asyncio.run(scenario())
