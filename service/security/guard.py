"""Lets a request in, or refuses it before anything of its body is read."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Literal

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from service.problems import ProblemError
from service.security.access import Need
from service.security.keys import LOCAL, Caller, Expired
from service.security.live_keys import KeysUnusable, LiveKeys
from service.security.rates import Rates, retry_after

Refusal = Literal["no_key", "wrong_key", "expired_key", "scope", "rate", "host", "keys_unusable"]

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="hetlm"', "Connection": "close"}
"""A stranger's body is not worth reading: the connection ends with the answer."""


KEYS_RETRY_AFTER = "30"
"""Seconds: a file that cannot be read waits for somebody's hand."""


class Guard:
    """Every request that gets past it has a caller in its state (`request.state.caller`: the key's name).

    Without keys the caller is "local": the service then listens on loopback alone, and what reaches it under a public
    host name comes from a web page that had its name point here (DNS rebinding), or from a proxy that lets strangers
    in. It is refused, and so is what a web page of another origin sends.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: LiveKeys | None,
        rates: Rates,
        need: Callable[[str], Need],
        count: Callable[[Refusal], None],
        log: FilteringBoundLogger,
    ) -> None:
        self.app = app
        self._keys = keys
        self._rates = rates
        self._need = need
        self._count = count
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} is served here")
        else:
            state = scope.setdefault("state", {})
            try:
                self._enter(scope, state)
            except ProblemError as problem:
                await problem.response(state.get("request_id"))(scope, receive, send)
            else:
                await self.app(scope, receive, send)

    def _enter(self, scope: Scope, state: dict[str, object]) -> None:
        """Raises `ProblemError` (401, 403, 421, 429, 503)."""
        need = self._need(scope["path"])
        if need == "nothing":
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if self._keys is None:
            self._only_local(headers)
            state["caller"] = LOCAL
            return
        caller = self._known(self._keys, headers)
        state["caller"] = caller.name
        if need != "any key" and need not in caller.scopes:
            self._count("scope")
            raise ProblemError("forbidden", f"This needs a key with the scope {need}: {_NEW_KEY}.")
        wait = self._rates.enter(caller.name, caller.rate)
        if wait:
            self._count("rate")
            raise ProblemError(
                "too-many-requests",
                "The key's rate is used up: ask more slowly, or have its rate raised.",
                headers={"Retry-After": retry_after(wait)},
            )
        state["pay"] = lambda tokens: self._rates.pay(caller.name, tokens)

    def _known(self, keys: LiveKeys, headers: list[tuple[bytes, bytes]]) -> Caller:
        secret = presented(headers)
        if secret is None:
            self._count("no_key")
            raise ProblemError("unauthorized", "Send one API key, as Authorization: Bearer KEY.", headers=CHALLENGE)
        try:
            found = keys.ring().find(secret)
        except KeysUnusable:
            self._count("keys_unusable")
            raise ProblemError(
                "not-ready",
                "The service has not been able to read its API keys for a while, and lets nobody in until it can: tell "
                "whoever runs it.",
                headers={"Retry-After": KEYS_RETRY_AFTER, "Connection": "close"},
            ) from None
        if isinstance(found, Caller):
            return found
        if isinstance(found, Expired):
            self._count("expired_key")
            self._log.warning("expired_key", caller=found.name)
        else:
            self._count("wrong_key")
        raise ProblemError("unauthorized", f"The API key is not valid here: {_NEW_KEY}.", headers=CHALLENGE)

    def _only_local(self, headers: list[tuple[bytes, bytes]]) -> None:
        for name, value in headers:
            host = value if name == b"host" else value.partition(b"://")[2] or b"." if name == b"origin" else b""
            if not _local_host(host):
                self._count("host")
                raise ProblemError(
                    "misdirected",
                    "Without API keys only this machine is answered, under a local name: configure "
                    "HETLM_API_KEYS_FILE.",
                    headers={"Connection": "close"},
                )


def pay(request: Request, tokens: int) -> None:
    """What a request costs its caller beyond the first token: `/predict/batch` costs one per item."""
    take = getattr(request.state, "pay", None)
    if callable(take):
        take(tokens)


_NEW_KEY = "whoever runs the service makes one with hetlm keys new"


def presented(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """The secret that a request presents, in `Authorization: Bearer` or `X-API-Key`; None for none, or for two."""
    found = set()
    for name, value in headers:
        if name == b"authorization":
            scheme, _, rest = value.strip().partition(b" ")
            if scheme.lower() != b"bearer":
                return None
            found.add(rest.strip())
        elif name == b"x-api-key":
            found.add(value.strip())
    return found.pop() or None if len(found) == 1 else None


def _local_host(value: bytes) -> bool:
    """Whether a Host header names this machine: a loopback address, localhost, or a single label, which no public name
    is."""
    host = value.decode("latin-1").strip().lower()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return "." not in host.removesuffix(".localhost")
