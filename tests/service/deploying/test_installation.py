"""The secrets of an installation: made once, closed to others, and the ones that Redis and the service understand."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import ValidationError
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from service.deploying.installation import KEYS, REDIS_RIGHTS, OpenFolderError, install
from service.security.key_file import read
from service.security.keys import Caller, Keyring
from service.settings import Settings
from tests.service.redis_server import RedisServer

ROOT = Path(__file__).parents[3]


class Guarded(RedisServer):
    """Answers to its health check alone."""

    def client(self) -> Redis:
        return Redis(unix_socket_path=str(self.socket), username="health", password="none")


def test_what_is_missing_is_made_and_what_is_there_stays(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    first = install(folder, "redis:6379", "newsletter")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o644 for path in first.made)
    before = {path: path.read_text() for path in first.made}
    assert install(folder, "redis:6379", "newsletter").made == ()
    (folder / "cache_secret").unlink()
    again = install(folder, "redis:6379", "newsletter")
    assert (again.made, again.key) == ((folder / "cache_secret",), None)
    assert {path for path, text in before.items() if path.read_text() != text} == {folder / "cache_secret"}


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mode", [0o755, 0o701, 0o740])
def test_a_folder_that_others_can_open_is_refused_and_left_as_it_is(tmp_path: Path, mode: int) -> None:
    """It may be somebody's home, and the files would be readable."""
    folder = tmp_path / "there"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(OpenFolderError, match=rf"its mode is {mode:04o}.*chmod go= "):
        install(folder, "redis:6379", "first")
    assert rights(folder) == mode
    assert list(folder.iterdir()) == []


def test_the_rights_of_what_was_there_stay(tmp_path: Path) -> None:
    folder = tmp_path / "there"
    (folder / "keys").mkdir(parents=True)
    (folder / "redis_url").write_text("without its other half")
    for path, mode in ((folder, 0o700), (folder / "keys", 0o750), (folder / "redis_url", 0o640)):
        path.chmod(mode)
    install(folder, "redis:6379", "first")
    assert [rights(path) for path in (folder, folder / "keys", folder / "redis_url")] == [0o700, 0o750, 0o640]
    assert rights(folder / "redis_acl") == 0o644, "made here"


def test_a_password_is_made_for_both_sides(tmp_path: Path) -> None:
    install(tmp_path, "redis:6379", "first")
    (tmp_path / "redis_url").unlink()
    assert {path.name for path in install(tmp_path, "redis:6379", "first").made} == {"redis_acl", "redis_url"}


def test_the_first_key_opens_predictions_and_batches(tmp_path: Path) -> None:
    made = install(tmp_path, "redis:6379", "newsletter")
    assert made.key is not None
    found = Keyring(read(tmp_path / KEYS)).find(made.key.encode())
    assert isinstance(found, Caller)
    assert (found.name, sorted(found.scopes)) == ("newsletter", ["batch", "predict"])


def test_a_name_that_no_key_can_have(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        install(tmp_path, "redis:6379", "News Letter")


def test_the_settings_are_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "redis:6379", "first")
    for variable in ("REDIS_URL", "CACHE_SECRET", "ENGINE_API_KEY"):
        monkeypatch.setenv(f"HETLM_{variable}_FILE", str(tmp_path / variable.lower()))
    monkeypatch.setenv("HETLM_API_KEYS_FILE", str(tmp_path / KEYS))
    monkeypatch.setenv("HETLM_HOST", "0.0.0.0")
    settings = Settings()
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value().endswith("@redis:6379")


def test_redis_gives_the_service_its_rights_and_others_none(tmp_path: Path) -> None:
    install(tmp_path, "redis:6379", "first")
    password = (tmp_path / "redis_url").read_text().removeprefix("redis://hetlm:").partition("@")[0]
    assert password not in (tmp_path / "redis_acl").read_text(), "Redis has the hash"
    server = Guarded(tmp_path, "--aclfile", str(tmp_path / "redis_acl"))
    try:
        server.start()
        with Redis(unix_socket_path=str(server.socket), username="hetlm", password=password) as client:
            client.set("hetlm:session:a", b"x")
            assert client.mget(["hetlm:session:a"]) == [b"x"]
            with pytest.raises(NoPermissionError):
                client.set("other", b"x")
            with pytest.raises(NoPermissionError):
                client.flushall()
        with server.client() as client, pytest.raises(NoPermissionError):
            client.get("hetlm:session:a")
        with Redis(unix_socket_path=str(server.socket)) as client, pytest.raises(AuthenticationError):
            client.ping()
    finally:
        server.remove()


def test_the_rights_are_the_documented_ones() -> None:
    assert f"ACL SETUSER hetlm on >PASSWORD {REDIS_RIGHTS}" in (ROOT / "docs" / "security.md").read_text()
