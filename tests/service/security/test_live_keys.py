"""The keys of a running service: what becomes of a change, and of a file that cannot be read."""

from __future__ import annotations

import asyncio
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from browsing.bundle import Bundle
from service.logs import logger
from service.security import live_keys
from service.security.key_file import KeyFileError, write
from service.security.keys import KeyFile
from service.security.live_keys import COMPLAINT_SECONDS, GRACE_SECONDS, KeysUnusable, LiveKeys
from service.settings import Settings
from tests.service.building import SESSIONS, running
from tests.service.security.keyed import bearer, keys, refusals, with_keys


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_running_service_follows_the_file(tmp_path: Path) -> None:
    path, said = tmp_path / "keys.json", io.StringIO()
    [old] = keys(path, ("shop", ("predict",)))
    live = LiveKeys(path, logger("debug", said))
    ring = live.ring()
    assert ring.find(old.encode()) is not None
    assert live.ring() is ring, "an unchanged file is not read again"
    [new] = keys(path, ("shop", ("predict",)))
    assert live.ring().find(old.encode()) is None
    assert live.ring().find(new.encode()) is not None
    assert "shop" in live.file().callers

    for break_it in (lambda: path.write_text('{"callers": {"zq-name'), path.unlink):
        said.truncate(0)
        break_it()
        for _ in range(3):
            assert live.ring().find(new.encode()) is not None, "the old keys stay"
        assert said.getvalue().count("api_keys_unusable") == 1, "and it is said once a minute"
        assert "zq-name" not in said.getvalue()
    write(path, KeyFile())
    assert live.ring().find(new.encode()) is None, "an empty file is a whole file: all keys are revoked"


def test_a_service_does_not_start_with_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write(path, KeyFile())
    with pytest.raises(KeyFileError, match="holds no key"):
        LiveKeys(path, logger("info", io.StringIO()))


def complaints(said: io.StringIO) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    return [line for line in lines if line["event"] == "api_keys_unusable"]


def test_a_file_that_stays_unreadable_lets_nobody_in(tmp_path: Path) -> None:
    """A key that was meant to be revoked must not stay valid because the new file cannot be read."""
    path, said, clock = tmp_path / "keys.json", io.StringIO(), Clock()
    [secret] = keys(path, ("shop", ("predict",)))
    live = LiveKeys(path, logger("info", said), clock=clock)
    assert live.unusable_seconds() == 0.0
    path.write_text("{")
    assert live.unusable_seconds() == 0.0, "seen now"
    assert [line["level"] for line in complaints(said)] == ["error"]
    clock.now += GRACE_SECONDS - 0.1
    assert live.ring().find(secret.encode()) is not None
    assert live.unusable_seconds() == pytest.approx(GRACE_SECONDS - 0.1)
    clock.now += 1.0
    with pytest.raises(KeysUnusable):
        live.ring()
    assert [line["old_keys_valid_for_seconds"] for line in complaints(said)] == [300, 1, 0]
    keys(path, ("shop", ("predict",)))
    assert len(live.ring()) == 1, "a file that can be read again is enough"
    assert live.unusable_seconds() == 0.0
    path.unlink()
    live.ring()
    clock.now += GRACE_SECONDS - 1
    live.ring()  # the time counts anew


def test_it_is_complained_about_again_and_again(tmp_path: Path) -> None:
    path, said, clock = tmp_path / "keys.json", io.StringIO(), Clock()
    keys(path, ("shop", ("predict",)))
    live = LiveKeys(path, logger("info", said), clock=clock)
    path.write_text("{")
    for _ in range(40):
        live.ring()
        clock.now += 0.1 * COMPLAINT_SECONDS
    assert len(complaints(said)) == 4
    assert complaints(said)[0]["why"] == "it is no valid file of keys"
    assert [line["old_keys_valid_for_seconds"] for line in complaints(said)] == [300, 240, 180, 120]
    path.write_text("[")
    live.ring()
    assert len(complaints(said)) == 5, "at once where somebody tried to mend it"


def test_a_file_whose_mode_was_mended_is_read_though_nothing_in_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, said, clock = tmp_path / "keys.json", io.StringIO(), Clock()
    [old] = keys(path, ("shop", ("predict",)))
    live = LiveKeys(path, logger("info", said), clock=clock)
    [new] = keys(path, ("shop", ("predict",)))
    really = Path.open

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert live.ring().find(old.encode()) is not None
    assert complaints(said)[0]["why"] == "Permission denied"
    monkeypatch.setattr(Path, "open", really)  # as after a chmod of the folder: the file itself is as it was
    clock.now += 1.0
    assert live.ring().find(old.encode()) is None
    assert live.ring().find(new.encode()) is not None


def test_keys_that_cannot_be_read_are_a_503_in_the_end(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a 401: whether the key is right, nobody knows."""
    path = tmp_path / "keys.json"
    [secret] = keys(path, ("shop", ("predict",)))

    body = {"sessions": SESSIONS}

    async def scenario() -> None:
        async with running(bundle, settings=Settings(api_keys_file=path)) as made:
            path.write_text("{")
            assert (await made.client.post("/predict", json=body, headers=bearer(secret))).status_code == 200
            assert "hetlm_api_keys_unusable_seconds 0.0\n" not in await made.metrics()
            monkeypatch.setattr(live_keys, "GRACE_SECONDS", 0.0)
            refused = await made.client.post("/predict", json=body, headers=bearer(secret))
            assert (refused.status_code, refused.json()["type"]) == (503, "urn:hetlm:problem:not-ready")
            assert int(refused.headers["retry-after"]) > 0
            assert 'hetlm_refusals_total{reason="keys_unusable"} 1.0' in await made.metrics()
            assert (await made.client.get("/livez")).status_code == 200
            [new] = keys(path, ("shop", ("predict",)))
            assert (await made.client.post("/predict", json=body, headers=bearer(secret))).status_code == 401
            assert (await made.client.post("/predict", json=body, headers=bearer(new))).status_code == 200
            assert "hetlm_api_keys_unusable_seconds 0.0\n" in await made.metrics()

    asyncio.run(scenario())


def test_keys_are_rotated_without_a_restart(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    [old] = keys(path, ("shop", ("predict",)))

    async def scenario() -> None:
        async with running(bundle, settings=with_keys(path)) as made:

            async def status(secret: str) -> int:
                return (await made.predict({"sessions": SESSIONS}, **bearer(secret))).status_code

            assert await status(old) == 200
            [new] = keys(path, ("shop", ("predict",)))
            assert [await status(old), await status(new)] == [401, 200]
            path.write_text("{")
            assert [await status(old), await status(new)] == [401, 200]
            assert [line["event"] for line in made.lines() if line["level"] == "error"] == ["api_keys_unusable"]

    asyncio.run(scenario())


def test_an_expired_key_opens_nothing_and_its_owner_stands_in_the_log(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    long_ago = datetime.now(UTC) - timedelta(days=10)
    [secret] = keys(path, ("shop", ("predict",)), expires_in=timedelta(days=9), now=long_ago)

    async def scenario() -> None:
        async with running(bundle, settings=with_keys(path)) as made:
            expired = await made.predict({"sessions": SESSIONS}, **bearer(secret))
            unknown = await made.predict({"sessions": SESSIONS}, **bearer("hetlm_x"))
            assert expired.status_code == unknown.status_code == 401
            assert expired.json()["detail"] == unknown.json()["detail"]
            assert [line["caller"] for line in made.lines() if line["event"] == "expired_key"] == ["shop"]
            assert await refusals(made) == {"expired_key": 1, "wrong_key": 1}

    asyncio.run(scenario())
