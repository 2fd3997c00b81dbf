"""The file of keys: what is refused, and that a change loses neither another's change nor the file's owner."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from service.security import key_file
from service.security.key_file import KeyFileError, locked, read, write
from service.security.keys import KeyFile, Keyring
from tests.service.security.keyed import START, keys

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


@pytest.fixture
def theirs(tmp_path: Path) -> tuple[Path, int, int]:
    """A file of keys that belongs to somebody else, as far as whoever runs the tests can make one: its path, owner and
    group. (Only root gives files away; others can choose among their groups.)"""
    path = tmp_path / "keys.json"
    keys(path, ("shop", ("predict",)))
    user, group = (12_345, 54_321) if os.geteuid() == 0 else (os.geteuid(), (*os.getgroups(), os.getegid())[0])
    os.chown(path, user, group)
    path.chmod(0o640)
    return path, user, group


def test_a_change_keeps_owner_group_and_mode(theirs: tuple[Path, int, int]) -> None:
    """Otherwise the service could not read what root has changed, and a revoked key would stay valid."""
    path, user, group = theirs
    with locked(path):
        write(path, KeyFile())
    for file in (path, path.with_name(".keys.json.lock")):
        status = file.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (user, group, 0o640), file


def test_an_owner_who_cannot_be_kept_is_no_change(
    theirs: tuple[Path, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, *_ = theirs
    before = path.read_bytes()
    really = os.fstat

    def another(descriptor: int) -> os.stat_result:
        """Who writes is not who owns the file."""
        status = really(descriptor)
        return os.stat_result((*status[:4], 77, 77, *status[6:]))

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fstat", another)
    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(KeyFileError, match="belongs to another user: run this as root or as that user"):
        write(path, KeyFile())
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["keys.json"]


def test_changes_at_the_same_time_lose_none(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys(path, ("shop", ("predict",)))
    together = threading.Barrier(8)

    def add(number: int) -> None:
        together.wait()
        for i in range(5):
            with locked(path):
                write(path, read(path).with_key(f"c-{number}-{i}", ("predict",), None, None, START)[0])

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read(path).callers) == 1 + 8 * 5


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Somebody else's command is in the middle of its change."""
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def test_a_lock_that_nobody_gives_back_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_file, "LOCK_SECONDS", 0.0)
    path = tmp_path / "keys.json"
    with held(path), pytest.raises(KeyFileError, match=r"\.keys\.json\.lock: another command"), locked(path):
        raise AssertionError("two at once")
    with locked(path):
        pass


def test_a_lock_is_no_way_to_another_file(tmp_path: Path) -> None:
    """Whoever may write to the folder must not have root change another file's owner."""
    path, other = tmp_path / "keys.json", tmp_path / "other"
    keys(path, ("shop", ("predict",)))
    path.chmod(0o640)
    other.write_text("precious")
    other.chmod(0o600)
    lock = path.with_name(".keys.json.lock")
    lock.symlink_to(other)
    with pytest.raises(OSError, match="symbolic"), locked(path):
        pass
    lock.unlink()
    os.link(other, lock)
    with locked(path):
        pass
    assert other.stat().st_mode & 0o777 == 0o600
