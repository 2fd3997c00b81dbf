"""`hetlm keys`, and what `hetlm serve` says about keys."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import threading
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from browsing.bundle import Bundle
from service.cli import register
from service.security import key_file
from service.security.key_file import read
from service.security.key_file import write as write_keys
from service.security.keys import Caller, Keyring
from service.security.rates import Rate
from tests.service.security.keyed import START, keys
from tests.service.security.serving import served
from tests.service.test_visit import write


def hetlm(*words: str) -> Result:
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, list(words))


def said(result: Result) -> str:
    return " ".join(result.stderr.split())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_is_made_shown_once_and_works(path: Path) -> None:
    made = hetlm("keys", "new", "shop", "--scope", "predict", "--scope", "batch", "--file", str(path))
    assert made.exit_code == 0, made.stderr
    [secret] = made.stdout.splitlines()
    assert "opens predict, batch" in said(made)
    assert secret not in made.stderr
    assert Keyring(read(path)).find(secret.encode()) == Caller("shop", frozenset(("predict", "batch")), None)
    shown = hetlm("keys", "list", "--file", str(path))
    assert "shop" in shown.stdout
    assert "never" in shown.stdout
    assert secret not in shown.stdout


def test_rotation(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HETLM_API_KEYS_FILE", str(path))
    old = json.loads(hetlm("keys", "new", "shop", "--scope", "predict", "--rate", "5", "--json").stdout)
    new = json.loads(hetlm("keys", "new", "shop", "--expires-days", "30", "--json").stdout)
    assert (old["name"], old["scopes"], old["expires"]) == ("shop", ["predict"], None)
    assert new["scopes"] == ["predict"]
    listed = json.loads(hetlm("keys", "list", "--json").stdout)["keys"]
    assert [(key["id"], key["live"], key["expires"]) for key in listed] == [
        (old["id"], True, None),
        (new["id"], True, new["expires"]),
    ]
    gone = hetlm("keys", "revoke", old["id"], "--json")
    assert json.loads(gone.stdout) == {"revoked": old["id"], "name": "shop", "left": 1}
    ring = Keyring(read(path))
    assert ring.find(old["secret"].encode()) is None
    assert ring.find(new["secret"].encode()) == Caller("shop", frozenset(("predict",)), Rate(5.0, 10))
    last = hetlm("keys", "revoke", new["id"])
    assert "no key is left" in said(last)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("new", "shop", "--scope", "root"), "--scope root: choose from predict, batch, admin"),
        (("new", "shop"), "there is no shop yet"),
        (("new", "old", "--scope", "admin"), "old has the scopes predict"),
        (("new", "A B", "--scope", "predict"), "NAME: "),
        (("new", "local", "--scope", "predict"), "choose another"),
        (("new", "shop", "--scope", "predict", "--rate", "-1"), "--rate: "),
        (("new", "shop", "--scope", "predict", "--burst", "5"), "--burst goes with --rate"),
        (("revoke", "12345678"), "has no key 12345678; it has"),
    ],
)
def test_mistakes_are_named_and_change_nothing(path: Path, words: tuple[str, ...], message: str) -> None:
    hetlm("keys", "new", "old", "--scope", "predict", "--file", str(path))
    before = path.read_bytes()
    result = hetlm("keys", *words, "--file", str(path))
    assert result.exit_code == 2
    assert message in said(result)
    assert path.read_bytes() == before


def test_a_broken_or_missing_file_is_named(path: Path) -> None:
    for missing in (("list",), ("revoke", "x")):
        assert "hetlm keys new" in said(hetlm("keys", *missing, "--file", str(path)))
    path.write_text("{")
    every: list[tuple[str, ...]] = [("list",), ("revoke", "x"), ("new", "shop", "--scope", "predict")]
    for words in every:
        result = hetlm("keys", *words, "--file", str(path))
        assert result.exit_code == 2
        assert str(path) in result.stderr.replace("\n", "")
    assert path.read_text() == "{", "a broken file is not overwritten"
    nowhere = hetlm("keys", "new", "shop", "--scope", "predict", "--file", str(path.parent / "no" / "keys.json"))
    assert (nowhere.exit_code, "choose a folder" in said(nowhere)) == (2, True)


@pytest.mark.parametrize("command", ["new", "revoke"])
def test_a_command_waits_for_another_and_keeps_its_change(
    path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """One command is in the middle of its change; a second one begins; then the first one writes."""
    keys(path, ("shop", ("predict",)), ("old", ("predict",)))
    [(_, old)] = [(name, key) for name, key in read(path).every() if name == "old"]
    waiting, results = threading.Event(), list[Result]()
    really = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        try:
            really(descriptor, operation)
        except BlockingIOError:
            waiting.set()
            raise

    monkeypatch.setattr(fcntl, "flock", flock)
    words = {"new": ("new", "third", "--scope", "predict"), "revoke": ("revoke", old.id)}[command]
    second = threading.Thread(target=lambda: results.append(hetlm("keys", *words, "--file", str(path))))
    with key_file.locked(path):
        second.start()
        assert waiting.wait(60)
        write_keys(path, read(path).with_key("first", ("admin",), None, None, START)[0])
    second.join()
    assert results[0].exit_code == 0, results[0].stderr
    left = {"new": {"shop", "old", "first", "third"}, "revoke": {"shop", "first"}}[command]
    assert read(path).callers.keys() == left


def test_a_lock_that_nobody_gives_back_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_file, "LOCK_SECONDS", 0.0)
    keys(path, ("shop", ("predict",)))
    with key_file.locked(path):
        result = hetlm("keys", "new", "other", "--scope", "predict", "--file", str(path))
    assert (result.exit_code, "another command" in said(result)) == (2, True)
    assert read(path).callers.keys() == {"shop"}


def test_what_the_service_reads_stays_the_services_own(path: Path) -> None:
    """Run as root, as operators do. (Only root gives files away; for others the group is what can be kept.)"""
    keys(path, ("shop", ("predict",)), ("old", ("predict",)))
    user, group = (12_345, 54_321) if os.geteuid() == 0 else (os.geteuid(), (*os.getgroups(), os.getegid())[0])
    os.chown(path, user, group)
    [id_] = [key.id for name, key in read(path).every() if name == "old"]
    for words in (("revoke", id_), ("new", "another", "--scope", "predict")):
        assert hetlm("keys", *words, "--file", str(path)).exit_code == 0
        assert (path.stat().st_uid, path.stat().st_gid) == (user, group)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "shop.example", ""])
def test_others_are_not_served_without_keys(bundle: Bundle, host: str) -> None:
    result = hetlm("serve", str(bundle.root), "--host", host, "--port", "0", "--metrics-port", "0")
    assert result.exit_code == 2
    for words in ("HETLM_HOST (--host)", "hetlm keys new NAME --scope predict", "HETLM_API_KEYS_FILE", "127.0.0.1"):
        assert words in said(result)


def test_a_service_that_cannot_read_its_keys_does_not_start(bundle: Bundle, path: Path) -> None:
    ports = ("--port", "0", "--metrics-port", "0")
    missing = hetlm("serve", str(bundle.root), *ports, "--api-keys-file", str(path))
    assert (missing.exit_code, "HETLM_API_KEYS_FILE" in said(missing)) == (2, True)
    path.write_text('{"callers": {}}')
    empty = hetlm("serve", str(bundle.root), *ports, "--api-keys-file", str(path))
    assert (empty.exit_code, "holds no key" in said(empty)) == (2, True)
    path.write_text("{")
    broken = hetlm("serve", str(bundle.root), *ports, "--api-keys-file", str(path))
    assert (broken.exit_code, str(path) in broken.stderr.replace("\n", "")) == (2, True)


def test_visit_brings_its_key(bundle: Bundle, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [secret] = keys(path, ("shop", ("predict",)))
    write(path.parent / "test.parquet", [2, 2, 2])

    async def scenario() -> None:
        async with served(bundle, api_keys_file=path) as sockets:

            async def visit() -> Result:
                words = ("visit", sockets.api_url, "--dataset", str(path.parent), "--visitors", "1", "--json")
                return await asyncio.to_thread(hetlm, *words)

            without = await visit()
            assert (without.exit_code, "answered 401" in said(without)) == (2, True)
            monkeypatch.setenv("HETLM_API_KEY", secret)
            with_key = await visit()
            assert with_key.exit_code == 0, with_key.stderr
            assert len(json.loads(with_key.stdout)["visitors"]) == 1
            assert secret not in with_key.stdout + with_key.stderr

    asyncio.run(scenario())
