"""One bundle takes over from another: with requests under way, back again, and one rollout at a time."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from browsing.bundle import Bundle
from service.app import build, choose_engine
from service.cache.memory import MemoryStore
from service.settings import Settings
from tests.service.building import same
from tests.service.versions.building import (
    BODIES,
    Factory,
    Fake,
    Known,
    moving,
    settled,
    threads_left,
    version_of,
)
from tests.tiny import TinyEncoder


def test_another_version_takes_over_and_the_first_comes_back(folder: Path, known: Known) -> None:
    assert known["v1"] != known["v2"]

    async def scenario() -> None:
        async with moving(folder) as made:
            tasks = await settled()
            for before, name in (("v1", "v2"), ("v2", "v1"), ("v1", "v2")):
                done = await made.activate(name)
                assert (done["changed"], done["serving"], done["unfinished"]) == (True, name, 0)
                assert done["serving_version"] == version_of(folder, name)
                steps = [step["step"] for step in done["steps"]]
                assert steps == ["find", "load", "fit", "start", "warm", "remember", "drain", "stop"]
                assert sum(step["seconds"] for step in done["steps"]) <= done["seconds"] + 0.01
                assert [same(await made.predict(body)) for body in BODIES] == known[name]
                assert (await made.client.get("/readyz")).json()["bundle_version"] == version_of(folder, name)
                assert made.factory.running == [name]
                assert await made.states() == {"v1": "idle", "v2": "idle", "v3": "idle", name: "serving"}
                assert await made.bundles_measured() == {name}
                assert not made.factory.of(before).started
                assert await settled() == tasks
            assert [e["event"] for e in made.events()].count("rollout_done") == 3
            assert (await made.metrics())["hetlm_rollouts_total", "done"] == 3

    asyncio.run(scenario())
    assert threads_left() == []


def test_what_serves_already_stays_as_it_is(folder: Path) -> None:
    async def scenario() -> None:
        async with moving(folder) as made:
            for name in ("v1", version_of(folder, "v1"), version_of(folder, "v1")[:12]):
                done = await made.activate(name)
                assert not done["changed"]
                assert [step["step"] for step in done["steps"]] == ["find"]
            assert len(made.factory.made) == 1
            assert (await made.metrics())["hetlm_rollouts_total", "done"] == 0

    asyncio.run(scenario())


def test_under_load_every_answer_is_wholly_of_one_version(folder: Path, known: Known) -> None:
    """Eight callers never pause while the bundles change six times."""

    async def scenario() -> None:
        expected = {version_of(folder, name): answers for name, answers in known.items()}
        factory = Factory(prepare=lambda engine: setattr(engine, "seconds", 0.002))
        async with moving(folder, factory=factory) as made:
            over, answered = asyncio.Event(), dict.fromkeys(expected, 0)

            async def caller(first: int) -> None:
                for place in itertools.count(first):
                    if over.is_set():
                        return
                    answer = await made.predict(BODIES[place % len(BODIES)])
                    assert same(answer) == expected[answer["bundle_version"]][place % len(BODIES)]
                    answered[answer["bundle_version"]] += 1

            callers = [asyncio.create_task(caller(i)) for i in range(8)]
            for name in ("v2", "v3", "v1", "v3", "v2", "v1"):
                assert (await made.activate(name))["unfinished"] == 0
                new = (await made.predict(BODIES[0]))["bundle_version"]
                assert new == version_of(folder, name), "who asks after the call has ended is answered by the new one"
                before = dict(answered)
                await made.until(lambda new=new, before=before: answered[new] > before[new] + 8)  # type: ignore[misc]
            over.set()
            await asyncio.gather(*callers)
            assert min(answered.values()) > 20
            assert made.factory.running == ["v1"]

    asyncio.run(scenario())


def test_a_batch_across_a_rollout_says_who_answered_what(folder: Path, known: Known) -> None:
    async def scenario() -> None:
        expected = {version_of(folder, name): answers for name, answers in known.items()}
        factory = Factory(prepare=lambda engine: setattr(engine, "seconds", 0.005))
        async with moving(folder, factory=factory, batch_concurrency=2) as made:
            items = BODIES * 30
            calling = asyncio.create_task(made.client.post("/predict/batch", json={"items": items}))
            await made.until(lambda: len(factory.of("v1").requests) > 20)
            await made.activate("v2")
            answers = (await calling).json()["items"]
        versions = [answer["bundle_version"] for answer in answers]
        for place, answer in enumerate(answers):
            assert same(answer) == expected[answer["bundle_version"]][place % len(BODIES)]
        first, second = version_of(folder, "v1"), version_of(folder, "v2")
        assert set(versions) == {first, second}
        assert versions.index(second) > 0
        assert first not in versions[versions.index(second) + 2 :], "there is no way back"

    asyncio.run(scenario())


def test_what_is_under_way_is_answered_by_whom_it_was_given_to(folder: Path, known: Known) -> None:
    async def scenario() -> None:
        async with moving(folder) as made:
            gate = made.factory.of("v1").hold["generate"] = asyncio.Event()
            early = asyncio.create_task(made.predict(BODIES[0]))
            await made.until(lambda: made.service.router.serving.under_way == 1)
            rollout = asyncio.create_task(made.activate("v2"))
            await made.until(lambda: made.service.router.serving.name == "v2")
            late = await made.predict(BODIES[0])
            assert late["bundle_version"] == version_of(folder, "v2")
            listed = await made.listing()
            assert (listed["under_way"]["version"], listed["under_way"]["step"]) == ("v2", "drain")
            assert await made.states() == {"v1": "retiring", "v2": "serving", "v3": "idle"}
            assert not early.done()
            assert not rollout.done()
            gate.set()
            assert same(await early) == known["v1"][0]
            assert (await rollout)["unfinished"] == 0

    asyncio.run(scenario())


def test_draining_ends_and_the_unfinished_get_an_honest_answer(folder: Path) -> None:
    async def scenario() -> None:
        async with moving(folder, drain_seconds=0) as made:
            made.factory.of("v1").hold["generate"] = asyncio.Event()
            body = {**BODIES[0], "options": {"deadline_ms": 1_500}}
            early = asyncio.create_task(made.predict(body))
            await made.until(lambda: made.service.router.serving.under_way == 1)
            done = await made.activate("v2")
            assert done["unfinished"] == 1
            answer = await early
            assert answer["bundle_version"] == version_of(folder, "v1")
            assert answer["fallback"] == "engine_down"
            assert await made.bundles_measured() == {"v2"}, "what came late is counted for nobody"

    asyncio.run(scenario())


def test_one_rollout_at_a_time(folder: Path) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()
        factory = Factory(prepare=lambda engine: engine.hold.update({"start": gate} if engine.name == "v2" else {}))
        async with moving(folder, factory=factory) as made:
            first = asyncio.create_task(made.activate("v2"))
            await made.until(lambda: len(factory.made) == 2)
            for refused in (made.activate("v3", 409), made.activate("v2", 409), made.canary("v3", 0.5, 409)):
                problem = await refused
                assert problem["type"] == "urn:hetlm:problem:rollout-conflict"
                assert "under way" in problem["detail"]
            listed = await made.listing()
            assert (listed["under_way"]["version"], listed["under_way"]["step"]) == ("v2", "start")
            assert await made.states() == {"v1": "serving", "v2": "loading", "v3": "idle"}
            assert (await made.predict(BODIES[0]))["bundle_version"] == version_of(folder, "v1")
            gate.set()
            assert (await first)["changed"]
            assert (await made.activate("v3"))["changed"]

    asyncio.run(scenario())


def test_who_hangs_up_aborts_nothing(folder: Path) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()
        factory = Factory(prepare=lambda engine: engine.hold.update({"start": gate} if engine.name == "v2" else {}))
        async with moving(folder, factory=factory) as made:
            asking = asyncio.create_task(made.activate("v2"))
            await made.until(lambda: len(factory.made) == 2)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await made.activate("v3", 409)
            gate.set()
            await made.until(lambda: made.service.router.serving.name == "v2" and factory.running == ["v2"])
            await settled()
            assert not (await made.activate("v2"))["changed"]

    asyncio.run(scenario())


def test_the_service_ends_in_the_middle_of_a_rollout(folder: Path) -> None:
    async def scenario() -> None:
        def prepare(engine: Fake) -> None:
            if engine.name == "v2":
                engine.hold["start"] = asyncio.Event()

        factory, tasks = Factory(prepare=prepare), len(asyncio.all_tasks())
        async with AsyncExitStack() as ending:
            made = await ending.enter_async_context(moving(folder, factory=factory))
            transport = httpx.ASGITransport(made.service.admin_app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as operator:
                asking = asyncio.create_task(operator.post("/admin/bundles/v2/activate"))
                await made.until(lambda: len(factory.made) == 2)
                await ending.aclose()
                response = await asking
        assert response.status_code == 503
        assert "gave the rollout up: v1 is served" in response.json()["detail"]
        assert factory.running == []
        assert factory.of("v2").stops == 1
        assert made.service.router.serving.name == "v1"
        assert await settled() == tasks

    asyncio.run(scenario())
    assert threads_left() == []


def test_console_and_documents_follow(folder: Path) -> None:
    async def scenario() -> None:
        async with moving(folder) as made:
            for name, clusters in (("v1", 2), ("v2", 3)):
                await made.activate(name)
                shown = (await made.client.get("/bundle")).json()
                assert (shown["version"], len(shown["clusters"])) == (version_of(folder, name), clusters)
                assert (await made.client.get("/readyz")).json()["clusters"] == clusters
                document = (await made.client.get("/openapi.json")).json()
                bodies = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
                started = bodies["sessions"]["value"]["sessions"][0]["started_at"]
                assert started.startswith({"v1": "2026-01-29", "v2": "2026-02-26"}[name]), "after its training log"

    asyncio.run(scenario())


def test_names_that_lead_nowhere(folder: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        (folder / "zq-link").symlink_to(folder / "v2")
        async with moving(folder) as made:
            for name in ("v9", "zq-link", "..%2Fv2", ".hidden", "v2%00", "activated.json", "0" * 12, "x" * 200):
                response = await made.admin.post(f"/admin/bundles/{name}/activate")
                assert response.status_code == 404, name
                assert name not in response.json()["detail"]
            assert made.service.router.serving.name == "v1"
            assert (await made.states())["zq-link"] == "broken"

    asyncio.run(scenario())


def test_before_the_first_engines_have_started_nothing_moves(folder: Path) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()
        factory = Factory(prepare=lambda engine: engine.hold.update(start=gate))
        async with moving(folder, factory=factory, wait=False) as made:
            assert "still starting" in (await made.activate("v2", 409))["detail"]
            gate.set()
            await made.service.health.started()
            assert (await made.activate("v2"))["changed"]

    asyncio.run(scenario())


def test_remote_engines_hold_one_bundle(folder: Path) -> None:
    """Their servers would go on answering with the old weights."""

    async def scenario() -> None:
        async with moving(folder, engine="vllm-server", engine_urls="http://a:1,http://b:2") as made:
            for refused in (made.activate("v2", 409), made.canary("v2", 0.1, 409)):
                assert "HETLM_ENGINE_URLS" in (await refused)["detail"]
            assert len(made.factory.made) == 1

    asyncio.run(scenario())


def test_without_a_folder_there_is_nothing_to_administer(folder: Path) -> None:
    async def scenario() -> None:
        bundle = Bundle.load(folder / "v1")
        service = build(Settings(), bundle, Fake(bundle), TinyEncoder(), MemoryStore())
        async with service.app.router.lifespan_context(service.app):
            transport = httpx.ASGITransport(service.admin_app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as admin:
                assert (await admin.get("/admin/bundles")).status_code == 404

    asyncio.run(scenario())


def test_the_embedded_engines(folder: Path) -> None:
    """The real ones, in this process: exchanged under load, and nothing of the old one is left."""

    async def scenario() -> None:
        settings = Settings(threads=1)
        factory = Factory(engine=lambda bundle: choose_engine(settings, bundle))
        async with moving(folder, factory=factory) as made:
            versions: set[str] = set()
            over = asyncio.Event()

            async def caller(place: int) -> None:
                seen: dict[str, Any] = {}
                while not over.is_set():
                    answer = await made.predict({**BODIES[place], "options": {"seed": place, "samples": 2}})
                    assert answer["fallback"] is None
                    seen.setdefault(answer["bundle_version"], answer["next_session"])
                    assert answer["next_session"] == seen[answer["bundle_version"]]
                    versions.add(answer["bundle_version"])

            callers = [asyncio.create_task(caller(i)) for i in range(2)]
            await made.activate("v2")
            await asyncio.sleep(0.2)
            over.set()
            await asyncio.gather(*callers)
            assert version_of(folder, "v2") in versions
            both = ["encoder_0", "hetlm-local-engine"]
            assert threads_left(both) == both

    asyncio.run(scenario())
    assert threads_left() == []


@pytest.mark.parametrize("method", ["get", "put"])
def test_methods_that_there_are_not(folder: Path, method: str) -> None:
    async def scenario() -> None:
        async with moving(folder) as made:
            response = await made.admin.request(method, "/admin/bundles/v2/activate")
            assert response.status_code == 405
            assert response.headers["content-type"] == "application/problem+json"

    asyncio.run(scenario())
