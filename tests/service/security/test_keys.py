from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.logs import logger
from service.security.key_file import KeyFileError, LiveKeys, read, write
from service.security.keys import Caller, Expired, KeyFile, Keyring, RateEntry
from service.security.rates import Rate
from tests.service.security.keyed import START, keys


def test_a_secret_is_256_random_bits_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    one, two = keys(path, ("shop", ("predict",)), ("report", ("batch",)))
    assert one != two
    for secret in (one, two):
        assert secret.startswith("hetlm_")
        assert len(secret) == len("hetlm_") + 43, "32 bytes in base64"
        assert secret not in path.read_text()
        assert hashlib.sha256(secret.encode()).hexdigest() in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_whose_key_it_is(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    shop, admin = keys(path, ("shop", ("predict", "batch")), ("boss", ("admin",)))
    ring = Keyring(read(path))
    assert len(ring) == 2
    assert ring.find(shop.encode()) == Caller("shop", frozenset(("predict", "batch")), None)
    assert ring.find(admin.encode()) == Caller("boss", frozenset(("admin",)), None)
    for wrong in (b"", b"hetlm_", shop[:-1].encode(), (shop + "x").encode(), b"\xff" * 43, b"x" * 100_000):
        assert ring.find(wrong) is None
    assert ring.opens("admin")
    assert not Keyring(KeyFile()).opens("admin")


def test_every_key_is_compared_in_constant_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    secrets = keys(path, *((f"c{i}", ("predict",)) for i in range(5)))
    compared: list[int] = []
    really = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(len(one))
        assert len(one) == len(other) == 32
        return really(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    ring = Keyring(read(path))
    for presented in (secrets[0], secrets[-1], "nobody's"):
        compared.clear()
        ring.find(presented.encode())
        assert len(compared) == 5


def test_a_key_ends(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    [secret] = keys(path, ("shop", ("predict",)), expires_in=timedelta(days=2), now=START)
    ring = Keyring(read(path))
    assert isinstance(ring.find(secret.encode(), START + timedelta(days=2, seconds=-1)), Caller)
    assert ring.find(secret.encode(), START + timedelta(days=2)) == Expired("shop")


def test_two_keys_of_one_name_while_one_replaces_the_other(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    [old] = keys(path, ("shop", ("predict",)), rate=RateEntry(per_second=5, burst=10))
    file, key, new = read(path).with_key("shop", (), None, timedelta(days=9), START)
    ring = Keyring(file)
    expected = Caller("shop", frozenset(("predict",)), Rate(5, 10))
    assert ring.find(old.encode()) == ring.find(new.encode(), START) == expected
    old_id = next(stored.id for _, stored in file.every() if stored.id != key.id)
    left, owner = file.without(old_id)
    assert owner == "shop"
    assert Keyring(left).find(old.encode()) is None
    assert Keyring(left).find(new.encode(), START) == expected
    assert left.without(key.id)[0].callers == {}
    with pytest.raises(KeyError):
        left.without(old_id)


@pytest.mark.parametrize(
    ("name", "scopes", "words"),
    [
        ("shop", ("admin",), "has the scopes predict"),
        ("new", (), "--scope"),
        ("local", ("predict",), "without a key"),
        ("Two Words", ("predict",), "pattern"),
    ],
)
def test_a_key_that_cannot_be(tmp_path: Path, name: str, scopes: Any, words: str) -> None:
    path = tmp_path / "keys.json"
    keys(path, ("shop", ("predict",)))
    with pytest.raises(ValueError, match=words):
        read(path).with_key(name, scopes, None, None, START)


GOOD: dict[str, Any] = {
    "callers": {"shop": {"scopes": ["predict"], "keys": [{"sha256": "0" * 64, "created": "2026-01-01T00:00:00Z"}]}}
}


def changed(**changes: Any) -> str:
    document = json.loads(json.dumps(GOOD))
    shop = document["callers"]["shop"]
    for name, value in changes.items():
        (shop["keys"][0] if name in ("sha256", "created", "expires", "secret") else shop)[name] = value
    return json.dumps(document)


BROKEN = {
    "empty": "",
    "half": json.dumps(GOOD)[:60],
    "another version": '{"version": 2}',
    "a plain secret": changed(sha256="zq-secret"),
    "a stray field": changed(secret="zq-secret"),
    "an unknown scope": changed(scopes=["root"]),
    "no scope": changed(scopes=[]),
    "no keys": changed(keys=[]),
    "a naive time": changed(expires="2026-01-01T00:00:00"),
    "no rate": changed(rate={"per_second": 0, "burst": 1}),
    "the reserved name": json.dumps(GOOD).replace("shop", "local"),
    "two keys of one id": changed(keys=GOOD["callers"]["shop"]["keys"] * 2),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_and_not_quoted(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(KeyFileError) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "zq-secret" not in str(caught.value)


def test_files_that_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(KeyFileError, match="hetlm keys new"):
        read(path)
    keys(path, ("shop", ("predict",)))
    path.chmod(0o602)
    with pytest.raises(KeyFileError, match="chmod o-w"):
        read(path)
    path.chmod(0o600)
    path.write_bytes(b" " * 1_048_577)
    with pytest.raises(KeyFileError, match="larger than"):
        read(path)


def test_writing_keeps_the_mode_and_the_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "keys.json"
    keys(real, ("shop", ("predict",)))
    real.chmod(0o640)
    link.symlink_to(real)
    write(link, KeyFile())
    assert link.is_symlink()
    assert read(real) == KeyFile()
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(file.name for file in tmp_path.iterdir()) == ["keys.json", "real.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    [secret] = keys(path, ("shop", ("predict",)))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(path, KeyFile())
    assert Keyring(read(path)).find(secret.encode()) is not None
    assert [file.name for file in tmp_path.iterdir()] == ["keys.json"]


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
        assert said.getvalue().count("api_keys_unusable") == 1, "and it is said once"
        assert "zq-name" not in said.getvalue()
    write(path, KeyFile())
    assert live.ring().find(new.encode()) is None, "an empty file is a whole file: all keys are revoked"


def test_a_service_does_not_start_with_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write(path, KeyFile())
    with pytest.raises(KeyFileError, match="holds no key"):
        LiveKeys(path, logger("info", io.StringIO()))


def test_the_pattern_of_names_is_the_whole_name() -> None:
    for name in ("shop\n", "", "a" * 64, "-a", "ä"):
        with pytest.raises(ValidationError):
            KeyFile.model_validate({"callers": {name: GOOD["callers"]["shop"]}})
