from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.security import admin
from service.security.addresses import engine_address, is_loopback, redis_address
from service.settings import Settings
from tests.service.security.keyed import keys

SECRET = "a secret of a deployment"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    assert Settings(host=host, admin_host=host).host == host


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example.org", "localhost.example.org", "*"]
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)
    for field in ("host", "admin_host"):
        with pytest.raises(ValidationError, match=rf"HETLM_{field.upper()}.*hetlm keys new"):
            Settings.model_validate({field: host})


def test_with_keys_any_address_will_do(tmp_path: Path) -> None:
    keys(tmp_path / "keys.json", ("shop", ("predict",)))
    settings = Settings(api_keys_file=tmp_path / "keys.json", host="0.0.0.0", admin_host="::")
    assert settings.host == "0.0.0.0"


def test_the_admin_port_is_there_if_asked_for_or_needed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    assert admin.port(Settings()) is None
    assert admin.port(Settings(admin_port=0)) == 0
    keys(path, ("shop", ("predict",)))
    assert admin.port(Settings(api_keys_file=path)) is None
    assert admin.port(Settings(api_keys_file=path, admin_port=7)) == 7
    keys(path, ("shop", ("predict",)), ("boss", ("admin",)))
    assert admin.port(Settings(api_keys_file=path)) == admin.PORT


@pytest.mark.parametrize("url", ["http://a:1", "https://a.example", "http://[::1]:8000/", "http://127.0.0.1:80/v"])
def test_engines(url: str) -> None:
    assert engine_address(url) == url


@pytest.mark.parametrize(
    "url",
    ["a:1", "file:///etc/passwd", "http://", "http:///x", "http://a:99999", "http://a:x", "http://zq:zq-secret@a",
     "http://zq-secret@a", "http://a?zq-secret", "http://a#zq-secret", "http://[zq-secret", "gopher://a", "HTTP//a"],
)  # fmt: skip
def test_addresses_that_no_engine_has(url: str) -> None:
    with pytest.raises(ValueError, match="address") as caught:
        engine_address(url)
    assert "zq-secret" not in str(caught.value)
    with pytest.raises(ValidationError) as refused:
        Settings(engine="vllm-server", engine_urls=(url,))
    assert "zq-secret" not in str(refused.value)


def test_redis() -> None:
    for url in ("redis://:p@a:1/2", "rediss://u:p@a", "unix:///run/redis.sock?db=1"):
        assert redis_address(url) == url
    for weak in ("ssl_cert_reqs=none", "db=1&ssl_check_hostname=false", "ssl_cert_reqs="):
        with pytest.raises(ValueError, match="HETLM_REDIS_CA_FILE") as caught:
            redis_address(f"rediss://:zq-secret@a?{weak}")
        assert "zq-secret" not in str(caught.value)


def test_a_certificate_is_for_tls(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("")
    both = {"redis_ca_file": ca, "cache_secret": SECRET}
    assert Settings.model_validate({"redis_url": "rediss://a", **both}).redis_ca_file == ca
    for wrong in ({"redis_url": "redis://a", **both}, both):
        with pytest.raises(ValidationError, match="rediss://"):
            Settings.model_validate(wrong)
