"""API keys: what a file of them says, and how one is recognised."""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.security.key_file import read
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


def test_the_pattern_of_names_is_the_whole_name() -> None:
    caller = {"scopes": ["predict"], "keys": [{"sha256": "0" * 64, "created": START}]}
    assert KeyFile.model_validate({"callers": {"shop": caller}}).callers.keys() == {"shop"}
    for name in ("shop\n", "", "a" * 64, "-a", "ä"):
        with pytest.raises(ValidationError):
            KeyFile.model_validate({"callers": {name: caller}})
