"""The addresses that settings may name: where the service listens, and whom it sends histories to."""

from __future__ import annotations

import ipaddress
from urllib.parse import parse_qs, urlsplit

_WEAKER_TLS = frozenset(("ssl_cert_reqs", "ssl_check_hostname"))


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches what listens on `host`. A name other than localhost may mean anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def engine_address(url: str) -> str:
    """`url`, if an engine can be there. Raises `ValueError`, which does not quote it: it may hold a password."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("an engine's address begins with http:// or https://")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise ValueError("an engine's address is http://HOST:PORT, with a port of at most 65535")
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "an engine's address stands in error messages and holds no password: HETLM_ENGINE_API_KEY is for the key"
        )
    if parts.query or parts.fragment:
        raise ValueError("an engine's address ends with its path: leave out what follows ? or #")
    return url


def redis_address(url: str) -> str:
    """`url`, if Redis can be there. Raises `ValueError`, which does not quote it: it may hold a password."""
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("the address of Redis begins with redis://, rediss:// or unix://")
    if not _WEAKER_TLS.isdisjoint(parse_qs(url.partition("?")[2], keep_blank_values=True)):
        raise ValueError(
            "Redis's certificate and host name are always checked: for a certificate of your own name its issuer in "
            "HETLM_REDIS_CA_FILE"
        )
    return url
