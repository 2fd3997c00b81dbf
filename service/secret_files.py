"""Secrets in files, as Compose and Kubernetes mount them: `HETLM_REDIS_URL_FILE=/run/secrets/redis_url`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

SUFFIX = "_FILE"
_LARGEST = 65_536


def from_files(variables: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The secrets that files hold, by variable: of each that has `<variable>_FILE` in `environment`, the file's text
    without white space around it.

    Raises `ValueError`, which quotes no secret: for a secret given twice, and a file that is unreadable, empty, no text
    or over 64 KiB.
    """
    found = {}
    for name in variables:
        path = environment.get(name + SUFFIX)
        if not path:
            continue
        if environment.get(name):
            raise ValueError(f"{name} and {name}{SUFFIX} are both set: leave one of them out")
        try:
            found[name] = _secret(Path(path))
        except ValueError as error:
            raise ValueError(f"{name}{SUFFIX}: {path} {error}") from None
    return found


def _secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {os.strerror(error.errno or 0)}") from None
    if len(content) > _LARGEST:
        raise ValueError(f"has more than {_LARGEST} bytes: that is no secret")
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        raise ValueError("is no UTF-8 text") from None
    if not text:
        raise ValueError("is empty")
    return text
