"""Who gets in: over the whole application, with real files of keys."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request

from browsing.bundle import Bundle
from service.security.access import admin_port, main_port
from service.security.guard import presented
from service.security.keys import RateEntry
from service.settings import Settings
from tests.service.building import SESSIONS, Made, running
from tests.service.security.keyed import bearer, keys, refusals, with_keys

BODY = {"sessions": SESSIONS}
MARK = "zq-secret-zq"


def test_without_a_key_nothing_is_answered_but_the_probes(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys(path, ("shop", ("predict",)))

    async def scenario() -> None:
        async with running(bundle, settings=with_keys(path)) as made:
            asked = len(made.engine.requests)
            paths = [
                "/predict",
                "/predict/batch",
                "/openapi.json",
                "/batches",
                "/batches/x",
                "/pages",
                "/bundle",
                "/report",
                f"/{MARK}",
                "/metrics",
            ]
            for address in paths:
                for method in ("GET", "POST", "DELETE", "OPTIONS"):
                    response = await made.client.request(method, address, content=json.dumps({"user_id": MARK}))
                    assert response.status_code == 401, (method, address)
                    assert response.headers["www-authenticate"].startswith("Bearer")
                    assert response.headers["content-type"] == "application/problem+json"
                    assert response.headers["connection"] == "close"
                    problem = response.json()
                    assert problem["type"] == "urn:hetlm:problem:unauthorized"
                    assert problem["request_id"] == response.headers["x-request-id"]
                    assert MARK not in response.text
            assert len(made.engine.requests) == asked
            live = await made.client.get("/livez")
            assert (live.status_code, live.content) == (200, b"")
            assert (await made.client.get("/readyz")).status_code == 200
            assert await refusals(made) == {"no_key": len(paths) * 4}

    asyncio.run(scenario())


def test_what_readyz_tells_anybody(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys(path, ("shop", ("predict",)))

    async def scenario() -> None:
        async with running(bundle, settings=with_keys(path)) as made:
            said = (await made.client.get("/readyz")).json()
            clusters = len(bundle.manifest.clusters)
            expected = {"bundle_version": bundle.manifest.version, "clusters": clusters, "clusters_down": []}
            assert said == {"status": "ready", **expected}

    asyncio.run(scenario())


def test_a_wrong_key_is_as_good_as_none_and_comes_back_nowhere(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    [right] = keys(path, ("shop", ("predict",)))

    async def scenario() -> None:
        async with running(bundle, settings=with_keys(path)) as made:
            wrong: list[list[tuple[str, str]]] = [
                [("Authorization", f"Bearer {MARK}")],
                [("Authorization", f"Bearer {right}{MARK}")],
                [("Authorization", f"Basic {right}")],
                [("Authorization", right)],
                [("Authorization", "Bearer")],
                [("Authorization", f"Bearer {right}"), ("X-API-Key", MARK)],
                [("Authorization", f"Bearer {right}"), ("Authorization", f"Bearer {MARK}")],
                [("X-API-Key", "")],
                [("X-API-Key", MARK * 2_000)],
                [("Cookie", f"key={right}")],
            ]
            for headers in wrong:
                response = await made.client.post("/predict", json=BODY, headers=headers)
                assert response.status_code == 401, headers
                assert MARK not in response.text + str(response.headers)
            assert (await made.client.post(f"/predict?api_key={right}", json=BODY)).status_code == 401
            assert MARK not in made.log.getvalue()
            assert right not in made.log.getvalue()
            right_ways: list[list[tuple[str, str]]] = [
                [("Authorization", f"Bearer {right}")],
                [("authorization", f"bearer   {right} ")],
                [("X-API-Key", right)],
                [("X-API-Key", right), ("Authorization", f"Bearer {right}")],
            ]
            for headers in right_ways:
                assert (await made.client.post("/predict", json=BODY, headers=headers)).status_code == 200
            assert right not in made.log.getvalue()

    asyncio.run(scenario())


def test_a_scope_opens_its_addresses_and_no_others(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    predict, batch, admin = keys(path, ("shop", ("predict",)), ("night", ("batch",)), ("boss", ("admin",)))

    async def scenario() -> None:
        async with running(bundle, settings=with_keys(path)) as made:

            async def status(secret: str, method: str, address: str) -> int:
                response = await made.client.request(method, address, headers=bearer(secret), json={"sessions": []})
                if response.status_code == 403:
                    assert response.json()["type"] == "urn:hetlm:problem:forbidden"
                return response.status_code

            assert await status(predict, "POST", "/predict") == 200
            assert await status(batch, "POST", "/predict") == 403
            assert await status(admin, "POST", "/predict") == 403
            assert await status(admin, "POST", "/predict/batch") == 403
            assert await status(predict, "GET", "/batches") == 403
            assert await status(admin, "GET", "/batches/x/results") == 403
            assert await status(batch, "GET", "/batches/x") != 403
            for secret in (predict, batch, admin):
                assert await status(secret, "GET", "/openapi.json") == 200
                assert await status(secret, "GET", "/nowhere") == 404
            assert (await refusals(made)) == {"scope": 5}

    asyncio.run(scenario())


def test_every_address_of_the_main_port_has_its_need() -> None:
    for path in ("/livez", "/readyz", "/", "/console", "/console/console.js"):
        assert main_port(path) == "nothing"
    for path in ("/predict", "/predict/batch", "/predict/", "/predict/x/y", "/pages", "/bundle", "/report"):
        assert main_port(path) == "predict"
    for path in ("/batches", "/batches/1", "/batches/1/results"):
        assert main_port(path) == "batch"
    for path in ("", "predict", "//predict", "/Predict", "/predictx", "/livez/", "/livez/x", "/x/livez", "*"):
        assert main_port(path) == "any key"
    assert admin_port("/livez") == admin_port("/admin/keys") == "admin"


def test_whoever_is_let_in_is_known_by_name(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    [secret] = keys(path, ("shop", ("predict", "batch")))

    async def asked_as(made: Made, headers: dict[str, str]) -> str:
        @made.service.app.get("/batches/whoami")
        async def whoami(request: Request) -> str:
            return str(request.state.caller)

        routes = made.service.app.router.routes
        routes.insert(0, routes.pop())
        response = await made.client.get("/batches/whoami", headers=headers)
        name: str = response.json()
        return name

    async def scenario() -> None:
        async with running(bundle, settings=with_keys(path)) as made:
            assert await asked_as(made, bearer(secret)) == "shop"
            assert [line["caller"] for line in made.lines() if line["event"] == "request"] == ["shop"]
        async with running(bundle) as made:
            assert await asked_as(made, {}) == "local"

    asyncio.run(scenario())


def test_a_rate_per_key(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    slow, other = keys(path, ("shop", ("predict",)), ("else", ("predict",)), rate=RateEntry(per_second=0.01, burst=2))

    async def scenario() -> None:
        async with running(bundle, settings=with_keys(path)) as made:
            answers = [await made.predict(BODY, **bearer(slow)) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [200, 200, 429]
            assert answers[-1].json()["type"] == "urn:hetlm:problem:too-many-requests"
            assert 95 <= int(answers[-1].headers["retry-after"]) <= 100
            assert (await made.predict(BODY, **bearer(other))).status_code == 200
            assert (await made.client.get("/livez")).status_code == 200
            assert await refusals(made) == {"rate": 1}
            assert 'hetlm_requests_total{route="/predict",status="429"} 1.0' in await made.metrics()

    asyncio.run(scenario())


def test_a_batch_costs_its_items(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    [secret] = keys(path, ("shop", ("predict",)))
    settings = Settings(api_keys_file=path, rate_per_second=0.01, rate_burst=10)

    async def scenario() -> None:
        async with running(bundle, settings=settings) as made:
            for items, status in ((8, 200), (5, 200), (1, 429)):
                response = await made.client.post(
                    "/predict/batch", json={"items": [{"sessions": []}] * items}, headers=bearer(secret)
                )
                assert response.status_code == status
            assert int(response.headers["retry-after"]) > 350, "4 tokens in debt, 100 seconds each"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("headers", "fine"),
    [
        ({"Host": "127.0.0.1:8080"}, True),
        ({"Host": "127.9.9.9"}, True),
        ({"Host": "[::1]:8080"}, True),
        ({"Host": "localhost:8080"}, True),
        ({"Host": "api.localhost"}, True),
        ({"Host": "hetlm"}, True),
        ({"Host": "localhost", "Origin": "http://localhost:8080"}, True),
        ({"Host": "shop.example:8080"}, False),
        ({"Host": "localhost.shop.example"}, False),
        ({"Host": "192.168.1.5:8080"}, False),
        ({"Host": "[2001:db8::1]"}, False),
        ({"Host": "localhost", "Origin": "https://shop.example"}, False),
        ({"Host": "localhost", "Origin": "null"}, False),
    ],
)
def test_without_keys_only_local_names_are_answered(bundle: Bundle, headers: dict[str, str], fine: bool) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            response = await made.predict(BODY, **headers)
            assert response.status_code == (200 if fine else 421)
            assert (await made.client.get("/livez", headers=headers)).status_code == 200
            if not fine:
                assert "HETLM_API_KEYS_FILE" in response.json()["detail"]
                assert await refusals(made) == {"host": 1}

    asyncio.run(scenario())


def test_with_keys_any_name_is_answered(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    [secret] = keys(path, ("shop", ("predict",)))

    async def scenario() -> None:
        async with running(bundle, settings=with_keys(path)) as made:
            headers = {"Host": "shop.example", "Origin": "https://shop.example", **bearer(secret)}
            assert (await made.predict(BODY, **headers)).status_code == 200

    asyncio.run(scenario())


def test_what_is_presented() -> None:
    assert presented([]) is None
    assert presented([(b"authorization", b"Bearer a b")]) == b"a b"
    assert presented([(b"authorization", b"bearer a"), (b"x-api-key", b"a")]) == b"a"
    assert presented([(b"x-api-key", b"a"), (b"x-api-key", b"b")]) is None
    assert presented([(b"authorization", b"Digest a")]) is None


def test_the_document_says_what_keys_open(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            document = (await made.client.get("/openapi.json")).json()
        assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
        for path, methods in document["paths"].items():
            for operation in methods.values():
                is_open = path in ("/livez", "/readyz")
                assert ("security" in operation) is not is_open, path
                for status in ("401", "403", "421", "429"):
                    assert (status in operation["responses"]) is not is_open, path

    asyncio.run(scenario())


def test_no_other_protocol_gets_past(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:

            async def receive() -> dict[str, str]:
                return {"type": "websocket.connect"}

            async def send(message: object) -> None:
                raise AssertionError(message)

            scope = {"type": "websocket", "path": "/predict", "headers": [], "subprotocols": []}
            with pytest.raises(RuntimeError, match="websocket"):
                await made.service.app(scope, receive, send)

    asyncio.run(scenario())


def test_the_admin_port_needs_its_scope(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    predict, admin = keys(path, ("shop", ("predict", "batch")), ("boss", ("admin",)))

    async def ask(made: Made, address: str, **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(made.service.admin_app)
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            return await client.get(address, headers=headers)

    async def scenario() -> None:
        async with running(bundle, settings=with_keys(path)) as made:
            for address in ("/admin/keys", "/admin", "/livez", "/nowhere"):
                assert (await ask(made, address)).status_code == 401
                assert (await ask(made, address, **bearer(predict))).status_code == 403
            assert (await ask(made, "/nowhere", **bearer(admin))).status_code == 404
            answer = await ask(made, "/admin/keys", **bearer(admin))
            assert answer.status_code == 200
            assert answer.headers["x-content-type-options"] == "nosniff"
            document = answer.json()
            assert document["required"]
            assert [caller["name"] for caller in document["callers"]] == ["boss", "shop"]
            assert document["callers"][1]["scopes"] == ["predict", "batch"]
            assert document["callers"][1]["keys"][0]["live"]
            assert predict not in answer.text
            assert admin not in answer.text
            assert (await made.client.get("/admin/keys", headers=bearer(admin))).status_code == 404
        async with running(bundle) as made:
            assert (await ask(made, "/admin/keys")).json() == {"required": False, "callers": []}
            assert (await ask(made, "/admin/keys", Host="shop.example")).status_code == 421

    asyncio.run(scenario())


def test_the_headers_of_every_answer(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            for method, address, body in (
                ("POST", "/predict", BODY),
                ("POST", "/predict", {"sessions": 1}),
                ("POST", "/predict/batch", {"items": [BODY]}),
                ("GET", "/livez", None),
                ("GET", "/readyz", None),
                ("GET", "/openapi.json", None),
                ("GET", "/nowhere", None),
            ):
                response = await made.client.request(method, address, json=body)
                assert response.headers.get_list("x-content-type-options") == ["nosniff"]
                assert response.headers.get_list("cache-control") == ["no-store"], address
            transport = httpx.ASGITransport(made.service.metrics_app)
            async with httpx.AsyncClient(transport=transport, base_url="http://metrics") as client:
                assert (await client.get("/metrics")).headers["x-content-type-options"] == "nosniff"

    asyncio.run(scenario())
