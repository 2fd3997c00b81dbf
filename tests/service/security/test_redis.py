"""The embedding cache under the least rights, and over TLS. The redis-server is real; the packaged one is built without
TLS, so that an endpoint in front of it speaks it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from browsing.bundle import Bundle
from service.app import choose_store
from service.cache.redis import PREFIX, RedisStore
from service.cache.store import StoreError
from service.settings import Settings
from tests.service.building import SESSIONS, running, same
from tests.service.redis_server import RedisServer
from tests.service.security.certificates import issue, tls_in_front_of

PAGE = Path(__file__).parents[3] / "docs" / "security.md"
PASSWORD = "zq-password"


def command(client: Redis, *words: str | int) -> object:
    answer: object = client.execute_command(*words)  # type: ignore[no-untyped-call]
    return answer


def documented() -> list[str]:
    """The words of the ACL line that docs/security.md tells operators to use."""
    [line] = re.findall(r"^ACL SETUSER .*$", PAGE.read_text(), re.MULTILINE)
    return [word.replace("PASSWORD", PASSWORD) for word in line.split()]


@pytest.fixture
def limited(redis_server: RedisServer) -> RedisServer:
    with redis_server.client() as client:
        command(client, *documented())
        client.config_set("requirepass", "another")
    return redis_server


def settings(url: str, **changes: object) -> Settings:
    return Settings.model_validate(
        {
            "redis_url": url,
            "cache_secret": "a secret of a deployment",
            "redis_timeout_ms": 5_000,
            "redis_back_off_seconds": 0,
            **changes,
        }
    )


def as_user(server: RedisServer, user: str = "hetlm", password: str = PASSWORD) -> str:
    return f"unix://{user}:{password}@{server.socket}"


def test_the_service_works_under_exactly_the_documented_rights(bundle: Bundle, limited: RedisServer) -> None:
    own = settings(as_user(limited))

    async def scenario() -> None:
        async with running(bundle, store=choose_store(own), settings=own) as made:
            first = await made.answer({"sessions": SESSIONS})
            await asyncio.sleep(0.2)
            second = await made.answer({"sessions": SESSIONS})
            assert same(first) == same(second)
            assert (first["embedding"]["cached"], second["embedding"]["cached"]) == (0, 2)
            assert "hetlm_cache_errors_total{" not in await made.metrics()

    asyncio.run(scenario())
    with Redis(unix_socket_path=str(limited.socket), password="another") as boss:
        names = boss.keys("*")
        assert isinstance(names, list)
        assert len(names) == 2
        assert all(name.startswith(PREFIX) for name in names)
        assert command(boss, "ACL", "LOG") == [], "nothing that was refused was even tried"


FORBIDDEN: dict[str, Callable[[Redis], object]] = {
    "another's key": lambda client: client.mget([b"other:session:1"]),
    "another's key beside an own one": lambda client: client.mget([PREFIX + b"a", b"other"]),
    "another's key written": lambda client: client.set("other", "x"),
    "a key that only begins alike": lambda client: client.set("hetlm:sessions", "x"),
    "a list of keys": lambda client: client.keys("*"),
    "a scan": lambda client: client.scan(),
    "a deletion": lambda client: client.delete(PREFIX + b"a"),
    "all deleted": lambda client: client.flushall(),
    "a script": lambda client: client.eval("return 1", 0),
    "the configuration": lambda client: client.config_get("*"),
    "others' connections": lambda client: client.client_list(),
    "everything that is said": lambda client: command(client, "MONITOR"),
    "more rights": lambda client: command(client, "ACL", "SETUSER", "hetlm", "+@all", "~*"),
    "a channel": lambda client: client.publish("channel", "x"),
    "another database": lambda client: command(client, "SELECT", 1),
}


@pytest.mark.parametrize("what", FORBIDDEN.values(), ids=FORBIDDEN)
def test_everything_else_is_refused(limited: RedisServer, what: Callable[[Redis], object]) -> None:
    with Redis(unix_socket_path=str(limited.socket), username="hetlm", password=PASSWORD, driver_info=None) as client:
        client.set(PREFIX + b"a", b"1", ex=60)
        assert client.mget([PREFIX + b"a"]) == [b"1"]
        with pytest.raises(NoPermissionError):
            what(client)


def test_a_wrong_password_costs_the_cache_and_no_answer(bundle: Bundle, limited: RedisServer) -> None:
    own = settings(as_user(limited, password="wrong"))

    async def scenario() -> None:
        async with running(bundle, store=choose_store(own), settings=own) as made:
            for _ in range(2):
                assert (await made.answer({"sessions": SESSIONS}))["embedding"]["cached"] == 0
            assert 'hetlm_cache_errors_total{operation="get",reason="down"}' in await made.metrics()
            assert "wrong" not in made.log.getvalue()

    asyncio.run(scenario())
    with pytest.raises(AuthenticationError), Redis(unix_socket_path=str(limited.socket), password="wrong") as client:
        client.ping()


def test_over_tls_with_a_certificate_of_ones_own(bundle: Bundle, limited: RedisServer, tmp_path: Path) -> None:
    issuer, certificate = issue(tmp_path / "right", "127.0.0.1")

    async def scenario() -> None:
        async with tls_in_front_of(limited.socket, certificate) as port:
            own = settings(f"rediss://hetlm:{PASSWORD}@127.0.0.1:{port}", redis_ca_file=issuer)
            async with running(bundle, store=choose_store(own), settings=own) as made:
                await made.answer({"sessions": SESSIONS})
                await asyncio.sleep(0.3)
                assert (await made.answer({"sessions": SESSIONS}))["embedding"]["cached"] == 2

    asyncio.run(scenario())


def test_over_tls_nobody_else_is_believed(limited: RedisServer, tmp_path: Path) -> None:
    issuer, certificate = issue(tmp_path / "right", "127.0.0.1")
    stranger, _ = issue(tmp_path / "stranger", "127.0.0.1")
    named_issuer, named = issue(tmp_path / "named", "redis.example")

    async def ask(port: int, ca: Path | None) -> None:
        store = RedisStore(f"rediss://hetlm:{PASSWORD}@127.0.0.1:{port}", ca_file=ca, timeout=5.0, back_off=0.0)
        try:
            await store.get_many([b"a"])
        finally:
            await store.close()

    async def scenario() -> None:
        async with tls_in_front_of(limited.socket, certificate) as port:
            await ask(port, issuer)
            for ca in (stranger, None):  # another issuer; the system's, none of which signed this
                with pytest.raises(StoreError, match="down"):
                    await ask(port, ca)
        async with tls_in_front_of(limited.socket, named) as port:  # signed, but for another host
            with pytest.raises(StoreError, match="down"):
                await ask(port, named_issuer)

    asyncio.run(scenario())


def test_a_plain_connection_to_a_tls_port_is_no_connection(limited: RedisServer, tmp_path: Path) -> None:
    _, certificate = issue(tmp_path, "127.0.0.1")

    async def scenario() -> None:
        async with tls_in_front_of(limited.socket, certificate) as port:
            store = RedisStore(f"redis://hetlm:{PASSWORD}@127.0.0.1:{port}", timeout=5.0, back_off=0.0)
            with pytest.raises(StoreError, match=r"down|timeout"):
                await store.get_many([b"a"])
            await store.close()

    asyncio.run(scenario())
