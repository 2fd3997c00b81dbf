"""Batches over the whole service, with real keys: whose they are, and what their ids tell."""

from __future__ import annotations

import asyncio
import base64
import secrets
from pathlib import Path

import pytest

from browsing.bundle import Bundle
from service.settings import Settings
from tests.service.building import SESSIONS, Made, running
from tests.service.jobs.building import lines
from tests.service.security.keyed import bearer, keys

FILE = lines([{"user_id": "zq-user", "sessions": SESSIONS}])


async def submit(made: Made, secret: str, **headers: str) -> str:
    """The address of a new batch."""
    response = await made.client.post(
        "/batches", content=FILE, headers={**bearer(secret), "Content-Type": "application/gzip", **headers}
    )
    assert response.status_code == 202, response.text
    return response.headers["location"]


def test_a_batch_is_its_key_names_alone(bundle: Bundle, tmp_path: Path) -> None:
    """Not even the administrator's; and an id that is somebody else's looks like one that nobody has."""
    path = tmp_path / "keys.json"
    owner, other, admin, reader = keys(
        path, ("owner", ("batch",)), ("other", ("batch",)), ("boss", ("admin",)), ("reader", ("predict",))
    )
    settings = Settings(batch_dir=tmp_path / "jobs", api_keys_file=path)

    async def scenario() -> None:
        async with running(bundle, settings=settings) as made:
            address = await submit(made, owner, **{"Idempotency-Key": "same"})
            nobodys = (await made.client.get("/batches/" + "A" * 22, headers=bearer(other))).json()
            for method, place in (("GET", address), ("GET", f"{address}/results"), ("DELETE", address)):
                response = await made.client.request(method, place, headers=bearer(other))
                assert response.status_code == 404
                assert response.json()["detail"] == nobodys["detail"]
                for unfit in (admin, reader):
                    assert (await made.client.request(method, place, headers=bearer(unfit))).status_code == 403
            assert (await made.client.get("/batches", headers=bearer(other))).json() == {"batches": [], "next": None}
            theirs = await submit(made, other, **{"Idempotency-Key": "same"})
            assert theirs != address, "an idempotency key is its caller's own, too"
            assert (await made.client.get(address, headers=bearer(owner))).status_code == 200
            assert (await made.client.delete(address, headers=bearer(owner))).status_code == 200
            assert (await made.client.get(address, headers=bearer(owner))).status_code == 404

    asyncio.run(scenario())


def test_an_id_is_128_random_bits(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the system's source of secrets: no id says anything about its file, its caller or another id."""
    path = tmp_path / "keys.json"
    [secret] = keys(path, ("owner", ("batch",)))
    drawn: list[str] = []
    really = secrets.token_urlsafe

    def draw(count: int | None = None) -> str:
        drawn.append(really(count))
        return drawn[-1]

    monkeypatch.setattr(secrets, "token_urlsafe", draw)

    async def scenario() -> None:
        async with running(bundle, settings=Settings(batch_dir=tmp_path / "jobs", api_keys_file=path)) as made:
            ids = [(await submit(made, secret)).rpartition("/")[2] for _ in range(5)]
            assert len(set(ids)) == 5, "the same file from the same caller"
            assert set(ids) <= set(drawn)
            assert {len(base64.urlsafe_b64decode(one + "==")) for one in ids} == {16}

    asyncio.run(scenario())
