"""A second version answers a share of the users: always the same ones, with all that is its own."""

from __future__ import annotations

import asyncio
import math
import shutil
from pathlib import Path
from typing import Any

from browsing.engine import EngineDown
from service.versions.split import chosen
from tests.service.building import same
from tests.service.versions.building import (
    BODIES,
    Factory,
    Known,
    Moving,
    moving,
    settled,
    threads_left,
    version_of,
)

JSON = {"content-type": "application/json"}
USERS = [f"user-{i}" for i in range(20_000)]


def by(user: str | None, place: int = 0) -> dict[str, Any]:
    return {**BODIES[place], "user_id": user}


async def versions(made: Moving, users: list[str]) -> dict[str, str]:
    return {user: (await made.predict(by(user)))["bundle_version"] for user in users}


def test_a_share_of_the_users_and_always_the_same(folder: Path) -> None:
    async def scenario() -> None:
        first, second = version_of(folder, "v1"), version_of(folder, "v2")
        async with moving(folder) as made:
            done = await made.canary("v2", 0.1)
            assert (done["changed"], done["serving"], done["canary"], done["share"]) == (True, "v1", "v2", 0.1)
            assert [s["step"] for s in done["steps"]] == ["find", "load", "fit", "start", "warm", "remember"]
            assert await made.states() == {"v1": "serving", "v2": "canary", "v3": "idle"}
            router = made.service.router
            many = [user for user in USERS if router.of(user) is router.canary]
            assert abs(len(many) - 2_000) < 4 * math.sqrt(20_000 * 0.1 * 0.9)
            assert many == [user for user in USERS if chosen(user, second, 0.1)]
            users = [*many[:10], *USERS[:40]]
            answered = await versions(made, users)
            assert answered == {user: second if user in many else first for user in users}
            assert await versions(made, users) == answered
            items = [by(user) for user in users]
            batch = (await made.client.post("/predict/batch", json={"items": items})).json()["items"]
            assert [answer["bundle_version"] for answer in batch] == [answered[user] for user in users]
            assert (await made.predict(by(None)))["bundle_version"] == first
            assert (await made.predict(BODIES[0]))["bundle_version"] == first

    asyncio.run(scenario())


def test_each_answers_as_if_it_were_alone(folder: Path, known: Known) -> None:
    async def scenario() -> None:
        names = {version_of(folder, name): name for name in known}
        async with moving(folder) as made:
            await made.canary("v2", 0.5)
            seen = set()
            for number, user in enumerate(USERS[:60]):
                place = number % len(BODIES)
                answer = await made.predict(by(user, place))
                name = names[answer["bundle_version"]]
                seen.add(name)
                assert {**same(answer), "user_id": None} == known[name][place]
            assert seen == {"v1", "v2"}

    asyncio.run(scenario())


def test_the_share_changes_at_once_and_zero_ends_it(folder: Path) -> None:
    async def scenario() -> None:
        async with moving(folder) as made:
            tasks = await settled()
            await made.canary("v2", 0.1)
            few = {user for user in USERS if made.service.router.of(user).name == "v2"}
            done = await made.canary("v2", 0.4)
            assert [step["step"] for step in done["steps"]] == ["find", "remember"]
            more = {user for user in USERS if made.service.router.of(user).name == "v2"}
            assert few < more
            assert not (await made.canary("v2", 0.4))["changed"]
            metrics = await made.metrics()
            assert metrics["hetlm_bundle_share", version_of(folder, "v1")] == 0.6
            assert metrics["hetlm_bundle_share", version_of(folder, "v2")] == 0.4
            assert await made.bundles_measured() == {"v1", "v2"}
            ended = await made.canary("v2", 0)
            assert (ended["changed"], ended["canary"], ended["share"]) == (True, None, 0)
            assert [step["step"] for step in ended["steps"]] == ["remember", "drain", "stop"]
            assert made.factory.running == ["v1"]
            assert await made.states() == {"v1": "serving", "v2": "idle", "v3": "idle"}
            assert await made.bundles_measured() == {"v1"}
            assert (await made.metrics())["hetlm_bundle_share", version_of(folder, "v1")] == 1
            assert not (await made.canary("v2", 0))["changed"], "there is none any more"
            assert await settled() == tasks

    asyncio.run(scenario())
    assert threads_left() == []


def test_a_canary_that_takes_over(folder: Path, known: Known) -> None:
    """It runs already: nothing is loaded twice."""

    async def scenario() -> None:
        async with moving(folder) as made:
            await made.canary("v2", 0.2)
            done = await made.activate("v2")
            assert [step["step"] for step in done["steps"]] == ["find", "warm", "remember", "drain", "stop"]
            assert (done["serving"], done["canary"], done["share"]) == ("v2", None, 0)
            assert len(made.factory.made) == 2
            assert made.factory.running == ["v2"]
            assert [same(await made.predict(body)) for body in BODIES] == known["v2"]
            assert (await made.metrics())["hetlm_bundle_share", version_of(folder, "v2")] == 1

    asyncio.run(scenario())


def test_a_canary_that_fails_cannot_take_over(folder: Path, known: Known) -> None:
    async def scenario() -> None:
        async with moving(folder) as made:
            await made.canary("v2", 0.2)
            made.factory.of("v2").errors["generate"] = EngineDown("gone")
            assert "the step warm failed" in (await made.activate("v2", 500))["detail"]
            assert [same(await made.predict(body)) for body in BODIES] == known["v1"]
            assert await made.states() == {"v1": "serving", "v2": "canary", "v3": "idle"}

    asyncio.run(scenario())


def test_another_version_is_activated_beside_a_canary(folder: Path) -> None:
    """The canary and its users stay as they are."""

    async def scenario() -> None:
        async with moving(folder) as made:
            await made.canary("v2", 0.3)
            its = [user for user in USERS[:200] if made.service.router.of(user).name == "v2"]
            done = await made.activate("v3")
            assert (done["serving"], done["canary"], done["share"]) == ("v3", "v2", 0.3)
            assert [user for user in USERS[:200] if made.service.router.of(user).name == "v2"] == its
            assert made.factory.running == ["v2", "v3"]
            metrics = await made.metrics()
            assert metrics["hetlm_bundle_share", version_of(folder, "v3")] == 0.7
            assert metrics["hetlm_bundle_share", version_of(folder, "v2")] == 0.3

    asyncio.run(scenario())


def test_canaries_that_there_cannot_be(folder: Path) -> None:
    async def scenario() -> None:
        async with moving(folder) as made:
            assert "its own canary" in (await made.canary("v1", 0.5, 409))["detail"]
            await made.canary("v2", 0.5)
            problem = await made.canary("v3", 0.5, 409)
            assert "v2, with the share 0" in problem["detail"]
            assert not (await made.activate("v1"))["changed"]
            assert await made.states() == {"v1": "serving", "v2": "canary", "v3": "idle"}
            assert (await made.canary("v9", 0.5, 404))["type"] == "urn:hetlm:problem:no-such-bundle"
            for wrong in (
                "{}",
                '{"share": 1.5}',
                '{"share": -1}',
                '{"share": "0.5"}',
                '{"share": 0.5, "more": 1}',
                "[]",
            ):
                response = await made.admin.post("/admin/bundles/v2/canary", content=wrong, headers=JSON)
                assert response.status_code == 422, wrong
            assert (await made.admin.post("/admin/bundles/v2/canary", content=b"{}")).status_code == 415
            assert made.service.router.share == 0.5

    asyncio.run(scenario())


def test_a_canary_whose_engine_is_down_falls_back_to_its_own_model(folder: Path) -> None:
    """Its users are no reason to say that the service is not ready, and the others notice nothing."""

    async def scenario() -> None:
        async with moving(folder) as made:
            await made.canary("v2", 0.5)
            made.factory.of("v2").errors["generate"] = EngineDown("gone")
            made.factory.of("v2").silent.update(range(3))
            for user in USERS[:30]:
                answer = await made.predict(by(user))
                its = chosen(user, version_of(folder, "v2"), 0.5)
                assert answer["bundle_version"] == version_of(folder, "v2" if its else "v1")
                assert answer["fallback"] == ("engine_down" if its else None)
            canary = made.service.router.canary
            assert canary is not None
            await made.until(lambda: canary.health.down == [0, 1, 2])
            assert (await made.client.get("/readyz")).status_code == 200
            metrics = await made.metrics()
            assert metrics["hetlm_ready",] == 1
            assert metrics["hetlm_engine_up", version_of(folder, "v2"), "0"] == 0
            assert metrics["hetlm_engine_up", version_of(folder, "v1"), "0"] == 1
            assert metrics["hetlm_fallbacks_total", version_of(folder, "v2"), "engine_down"] > 5
            assert metrics["hetlm_fallbacks_total", version_of(folder, "v1"), "engine_down"] == 0
            assert "does not answer" in await made.reason("v2")
            assert (await made.canary("v2", 0))["changed"], "it can be ended all the same"

    asyncio.run(scenario())


def test_what_is_counted_is_counted_for_its_bundle(folder: Path) -> None:
    async def scenario() -> None:
        first, second = version_of(folder, "v1"), version_of(folder, "v2")
        async with moving(folder) as made:
            await made.canary("v2", 0.5)
            its = [user for user in USERS[:40] if chosen(user, second, 0.5)]
            await versions(made, USERS[:40])
            refused = {**by(its[0]), "options": {"strict": True}, "sessions": []}
            assert (await made.client.post("/predict", json=refused)).status_code == 422
            assert (await made.client.post("/predict", json={"zq": 1})).status_code == 422
            metrics = await made.metrics()
            for version, count in ((first, 40 - len(its)), (second, len(its))):
                assert metrics["hetlm_predictions_total", version, "ok"] == count
                assert metrics["hetlm_stage_seconds_count", version, "generate"] == count
                assert metrics["hetlm_outcome_probability_count", version, "cart"] == count
            assert sum(metrics["hetlm_clusters_total", second, str(k)] for k in range(3)) == len(its)
            assert ("hetlm_clusters_total", first, "2") not in metrics, "v1 has two clusters"
            refusals = {v: metrics.get(("hetlm_predictions_total", v, "refused")) for v in (first, second, "none")}
            assert refusals == {first: 0, second: 1, "none": 1}
            assert metrics["hetlm_bundle_info", first, "hetlm", "v1"] == 1
            assert metrics["hetlm_bundle_info", second, "hetlm", "v2"] == 1

    asyncio.run(scenario())


def test_versions_share_the_cache_where_they_embed_alike(folder: Path) -> None:
    """With the same encoder and page rules a session is encoded once for both."""

    async def scenario() -> None:
        async with moving(folder, factory=Factory()) as made:
            await made.canary("v2", 0.5)
            its = next(user for user in USERS if chosen(user, version_of(folder, "v2"), 0.5))
            other = next(user for user in USERS if not chosen(user, version_of(folder, "v2"), 0.5))
            await made.predict(by(other))
            await settled()
            answer = await made.predict(by(its))
            assert answer["bundle_version"] == version_of(folder, "v2")
            assert answer["embedding"] == {"sessions": 2, "cached": 2}
            assert threads_left(["encoder_0"]) == ["encoder_0"]

    asyncio.run(scenario())


def test_a_canary_whose_folder_is_gone_can_be_ended(folder: Path) -> None:
    async def scenario() -> None:
        async with moving(folder) as made:
            await made.canary("v2", 0.5)
            shutil.rmtree(folder / "v2")
            assert (await made.canary("v2", 0))["changed"]
            assert await made.states() == {"v1": "serving", "v3": "idle"}

    asyncio.run(scenario())
