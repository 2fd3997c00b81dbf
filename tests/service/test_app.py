"""The composition root: what is chosen for which settings, and the real parts together."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from browsing.bundle import Bundle, BundleError
from browsing.encoder import EncoderKind, pool, rounded, source_sha256
from browsing.encoders.int8 import Int8SbertEncoder, exact_products
from browsing.encoders.of_bundle import encoder_of
from browsing.encoders.sbert import SbertEncoder
from service.app import ConfigurationError, build, choose_encoder, choose_engine, choose_store, load
from service.cache.memory import MemoryStore
from service.cache.redis import RedisStore
from service.engines.stacked.engine import StackedVllmEngine
from service.engines.supervised import SupervisedEngine
from service.engines.vllm_server import VllmServerEngine
from service.settings import Settings
from tests import tiny
from tests.service.building import SESSIONS, CountingEncoder, running, same
from tests.service.redis_server import RedisServer

SECRET = "a secret of a deployment"


def chances(answer: dict[str, Any]) -> dict[str, float]:
    pages = {page["page"]: page["probability"] for page in answer["pages"]}
    return pages | {name: outcome["probability"] for name, outcome in answer["outcomes"].items()}


def with_redis(server: RedisServer, secret: str = SECRET) -> Settings:
    return Settings.model_validate(
        {"redis_url": server.url, "cache_secret": secret, "redis_timeout_ms": 2_000, "redis_back_off_seconds": 0}
    )


def test_a_bundle_must_be_named_and_be_the_one_expected(bundle: Bundle) -> None:
    with pytest.raises(ConfigurationError, match="HETLM_BUNDLE"):
        load(Settings())
    with pytest.raises(BundleError, match="where 123 is expected"):
        load(Settings(bundle=bundle.root, bundle_version="123"))
    loaded = load(Settings(bundle=bundle.root, bundle_version=bundle.manifest.version))
    assert loaded.manifest == bundle.manifest


def test_engines(bundle: Bundle) -> None:
    async def scenario() -> None:
        for settings, kind in (
            (Settings(), SupervisedEngine),
            (Settings(engine="vllm-server", engine_urls=("http://a:1", "http://b:1")), VllmServerEngine),
        ):
            engine = choose_engine(settings, bundle)
            assert isinstance(engine, kind)
            await engine.stop()

    asyncio.run(scenario())
    with pytest.raises(ConfigurationError, match="1 addresses for 2 clusters"):
        choose_engine(Settings(engine="vllm-server", engine_urls=("http://a:1",)), bundle)


def test_predictors_that_cannot_be_stacked_are_named(tmp_path: Path) -> None:
    tiny.bundle(tmp_path)
    bundle = Bundle.load(tmp_path)
    assert isinstance(choose_engine(Settings(engine="vllm-stacked"), bundle), StackedVllmEngine)
    path = bundle.predictor(1) / "config.json"
    path.write_text(path.read_text().replace("LlamaForCausalLM", "OPTForCausalLM"))
    with pytest.raises(ConfigurationError, match=r"cluster-1.*OPTForCausalLM.*choose the engine vllm"):
        choose_engine(Settings(engine="vllm-stacked"), bundle)


def test_stores(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        for settings, kind in ((Settings(), MemoryStore), (with_redis(redis_server), RedisStore)):
            store = choose_store(settings)
            assert isinstance(store, kind)
            await store.close()

    asyncio.run(scenario())


def test_a_malformed_redis_address_is_named_and_not_shown() -> None:
    settings = Settings.model_validate({"redis_url": "redis://:zq-secret@host:port", "cache_secret": SECRET})
    with pytest.raises(ConfigurationError, match="HETLM_REDIS_URL") as caught:
        choose_store(settings)
    assert "zq-secret" not in str(caught.value)


def test_the_real_encoder_and_the_embedded_engine(tmp_path: Path) -> None:
    tiny.bundle(tmp_path, encoder=SbertEncoder())
    bundle = Bundle.load(tmp_path)

    async def scenario() -> None:
        engine = choose_engine(Settings(), bundle)
        service = build(Settings(), bundle, engine, encoder_of(bundle), choose_store(Settings()))
        async with service.app.router.lifespan_context(service.app):
            await service.health.started()
            transport = httpx.ASGITransport(service.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                assert (await client.get("/readyz")).status_code == 200
                body = {"sessions": SESSIONS, "options": {"seed": 5}}
                answers = [(await client.post("/predict", json=body)).json() for _ in range(2)]
                many = await asyncio.gather(*(client.post("/predict", json=body) for _ in range(8)))
            metrics = httpx.ASGITransport(service.metrics_app)
            async with httpx.AsyncClient(transport=metrics, base_url="http://service") as client:
                told = (await client.get("/metrics")).text
        counts = [float(found) for found in re.findall(r"hetlm_engine_queue_seconds_count\{.*?\} ([\d.]+)", told)]
        assert len(counts) == bundle.clusters, "from zero on, for each"
        assert sum(counts) >= 2
        assert same(answers[0]) == same(answers[1])
        assert [answer["embedding"]["cached"] for answer in answers] == [0, 2]
        assert answers[0]["fallback"] is None
        for response in many:  # company changes an answer by rounding alone
            answer = response.json()
            assert answer["next_session"] == answers[0]["next_session"]
            assert chances(answer) == pytest.approx(chances(answers[0]), abs=1e-5)

    asyncio.run(scenario())


def test_replicas_share_what_they_know(bundle: Bundle, redis_server: RedisServer) -> None:
    async def ask(encoder: CountingEncoder, secret: str = SECRET) -> int:
        settings = with_redis(redis_server, secret)
        async with running(bundle, encoder=encoder, store=choose_store(settings), settings=settings) as made:
            answer = await made.answer({"sessions": SESSIONS})
            await asyncio.sleep(0.1)
            cached: int = answer["embedding"]["cached"]
            return cached

    first, second, third = CountingEncoder(), CountingEncoder(), CountingEncoder()
    assert asyncio.run(ask(first)) == 0
    assert asyncio.run(ask(second)) == 2
    assert second.encoded == []
    assert asyncio.run(ask(third, "a secret of another deployment")) == 0
    with redis_server.client() as client:
        stored = b"".join(client.mget(client.keys("*")) + client.keys("*"))
        assert all(client.ttl(key) > 0 for key in client.keys("*"))
    assert b"bags" not in stored


def test_redis_may_go_and_come_back_while_answers_go_on(bundle: Bundle, redis_server: RedisServer) -> None:
    async def scenario() -> None:
        settings = with_redis(redis_server)
        async with running(bundle, store=choose_store(settings), settings=settings) as made:
            first = await made.answer({"sessions": SESSIONS})
            await asyncio.sleep(0.1)
            assert (await made.answer({"sessions": SESSIONS}))["embedding"]["cached"] == 2
            redis_server.kill()
            for _ in range(3):
                answer = await made.answer({"sessions": SESSIONS})
                assert same(answer) == same(first)
                assert answer["embedding"]["cached"] == 0
            await asyncio.to_thread(redis_server.start)
            await made.answer({"sessions": SESSIONS})
            await asyncio.sleep(0.1)
            again = await made.answer({"sessions": SESSIONS})
            assert (same(again), again["embedding"]["cached"]) == (same(first), 2)
            metrics = await made.metrics()
            assert 'hetlm_cache_errors_total{operation="get",reason="down"}' in metrics

    asyncio.run(scenario())


@pytest.mark.skipif(not exact_products(), reason="this CPU rounds products of 8-bit integers")
def test_sbert_in_integers_serves_and_shares_a_redis_with_sbert_but_no_vector(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """A rolling update from one setting to the other meets the other's vectors under keys that it never asks for."""
    torch_encoder = SbertEncoder()
    tiny.bundle(tmp_path, encoder=torch_encoder)
    bundle = Bundle.load(tmp_path)

    async def ask(choice: str) -> int:
        settings = with_redis(redis_server, "a secret for both encoders").model_copy(update={"encoder": choice})
        encoder = choose_encoder(settings, bundle)
        assert isinstance(encoder, Int8SbertEncoder if choice == "int8" else SbertEncoder)
        assert source_sha256(encoder) == torch_encoder.weights_sha256
        async with running(bundle, encoder=encoder, store=choose_store(settings), settings=settings) as made:
            answer = await made.answer({"sessions": SESSIONS})
            await asyncio.sleep(0.1)
            return int(answer["embedding"]["cached"])

    async def scenario() -> None:
        assert [await ask(choice) for choice in ("torch", "int8", "int8", "torch")] == [0, 0, 2, 2]

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["predictor", "markov"])
def test_bundles_whose_encoders_are_their_own_share_a_cache_and_nothing_in_it(
    tmp_path: Path, redis_server: RedisServer, kind: EncoderKind
) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        tiny.bundle(tmp_path / name, encoder=kind, seed=seed)

    async def ask(name: str) -> tuple[int, int]:
        """(sessions found in the cache, the cluster)"""
        bundle = Bundle.load(tmp_path / name)
        settings = with_redis(redis_server, f"another secret, for {kind}")
        store = choose_store(settings)
        async with running(bundle, encoder=encoder_of(bundle), store=store, settings=settings) as made:
            answer = await made.answer({"sessions": SESSIONS})
            await asyncio.sleep(0.1)
            return answer["embedding"]["cached"], answer["cluster"]["id"]

    def own(name: str) -> int:
        bundle = Bundle.load(tmp_path / name)
        vectors = rounded(encoder_of(bundle).encode([session["pages"] for session in SESSIONS]))
        z = pool(vectors, bundle.manifest.encoder.decay)
        return int(bundle.selector.probabilities(torch.from_numpy(z)).argmax())

    async def scenario() -> None:
        for name, cached in (("a", 0), ("b", 0), ("a", len(SESSIONS)), ("b", len(SESSIONS))):
            assert await ask(name) == (cached, own(name))

    asyncio.run(scenario())
