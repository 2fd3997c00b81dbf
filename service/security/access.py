"""What an address asks of its caller. One that is not named here needs a key, of whatever scope."""

from __future__ import annotations

from typing import Literal

from service.security.keys import Scope

Need = Scope | Literal["nothing", "any key"]

_EXACT: dict[str, Need] = {"/livez": "nothing", "/readyz": "nothing", "/": "nothing"}
"""The console's own files (`/`, `/console/...`) hold nothing of anybody: what they show they ask for, with a key."""
_BELOW: dict[str, Need] = {
    "/predict": "predict",
    "/pages": "predict",
    "/bundle": "predict",
    "/report": "predict",
    "/batches": "batch",
    "/console": "nothing",
}
"""The address itself and everything below it."""


def main_port(path: str) -> Need:
    """The need of an address of the main port, whether it exists or not: a stranger does not learn which do."""
    if path in _EXACT:
        return _EXACT[path]
    first = "/" + path[1:].partition("/")[0] if path.startswith("/") else path
    return _BELOW.get(first, "any key")


def admin_port(_: str) -> Need:
    """Everything there is administration."""
    return "admin"
