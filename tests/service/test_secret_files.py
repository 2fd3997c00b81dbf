"""Secrets in files: every secret setting can be in one, and no mistake shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from service.configuration import table
from service.secret_files import from_files
from service.settings import Settings, secrets, variable

SECRET = "zq-secret-zq-secret"


def test_every_secret_of_the_service_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {name: f"redis://:{SECRET}@a:1" if name == "redis_url" else f"{SECRET}-{name}" for name in secrets()}
    assert set(values) >= {"redis_url", "cache_secret", "engine_api_key"}
    for name, value in values.items():
        (tmp_path / name).write_text(f"{value}\n")
        monkeypatch.setenv(f"{variable(name)}_FILE", str(tmp_path / name))
        assert f"`{variable(name)}_FILE`" in table()
    read = Settings()
    for name, value in values.items():
        secret = getattr(read, name)
        assert isinstance(secret, SecretStr)
        assert secret.get_secret_value() == value


def test_a_flag_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text(SECRET)
    monkeypatch.setenv("HETLM_CACHE_SECRET_FILE", str(tmp_path / "secret"))
    flag = Settings.model_validate({"cache_secret": "another-secret-of-the-flag"})
    assert flag.cache_secret == SecretStr("another-secret-of-the-flag")


def test_a_variable_and_a_file_are_one_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HETLM_CACHE_SECRET", SECRET)
    monkeypatch.setenv("HETLM_CACHE_SECRET_FILE", str(tmp_path / "secret"))
    with pytest.raises(ValidationError, match="HETLM_CACHE_SECRET and HETLM_CACHE_SECRET_FILE are both set") as caught:
        Settings()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file or directory"),
        (b" \n", "is empty"),
        (b"zq\xff", "is no UTF-8 text"),
        (b"z" * 70_000, "more than 65536 bytes"),
    ],
)
def test_a_file_that_holds_no_secret_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        from_files(["HETLM_CACHE_SECRET"], {"HETLM_CACHE_SECRET_FILE": str(path)})
    assert str(caught.value).startswith(f"HETLM_CACHE_SECRET_FILE: {path} ")
    assert "z" * 10 not in str(caught.value)


def test_an_empty_variable_is_none() -> None:
    assert from_files(["A"], {"A_FILE": ""}) == {}
