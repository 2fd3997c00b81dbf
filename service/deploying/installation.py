"""The secrets of one installation, each in a file of its own, as Compose mounts them."""

from __future__ import annotations

import hashlib
import secrets
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from service.security.key_file import write
from service.security.keys import KeyFile

REDIS_RIGHTS = "resetkeys ~hetlm:session:* resetchannels -@all +mget +set"
"""What the embedding cache needs (docs/security.md)."""
KEYS = Path("keys") / "keys.json"
"""In a folder of its own, which is mounted: `hetlm keys` replaces the file."""


class OpenFolderError(ValueError):
    """A folder for secrets that others can open; the message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Installed:
    """`made`: the files that were missing. `key`: the first API key, where it was made just now."""

    made: tuple[Path, ...]
    key: str | None


def install(folder: Path, redis: str, caller: str) -> Installed:
    """Make what is missing in `folder`. The files in it are readable, as containers read them as other users, so that
    the folder must be closed to others. One that is made here is; the rights of what was there before stay as they are.
    `redis`: its host and port, as the service sees it. `caller`: whose the first API key is.

    Raises `OSError`, `OpenFolderError`, and `ValueError` for a caller's name that no key can have.
    """
    _closed(folder)
    texts = {
        folder / "cache_secret": secrets.token_hex(32),
        folder / "engine_api_key": secrets.token_urlsafe(32),
        folder / "grafana_password": secrets.token_urlsafe(24),
    }
    made = {path: text for path, text in texts.items() if not path.exists()}
    cache = (folder / "redis_acl", folder / "redis_url")
    if not all(path.exists() for path in cache):  # they go together
        password = secrets.token_urlsafe(32)
        made |= dict(zip(cache, (_acl(password), f"redis://hetlm:{password}@{redis}"), strict=True))
    for path, text in made.items():
        is_new = not path.exists()
        path.write_text(f"{text}\n")
        if is_new:
            path.chmod(0o644)
    keys, key = folder / KEYS, None
    if not keys.exists():
        if not keys.parent.is_dir():
            keys.parent.mkdir()
            keys.parent.chmod(0o755)
        file, _, key = KeyFile().with_key(caller, ("predict", "batch"), None, None, datetime.now(UTC))
        write(keys, file)
        keys.chmod(0o644)
    return Installed((*made, *((keys,) if key is not None else ())), key)


def _closed(folder: Path) -> None:
    """Make the folder, or see that only its owner can open it. Raises `OpenFolderError`, `OSError`."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
        rights = stat.S_IMODE(folder.stat().st_mode)
        if rights & 0o077:
            raise OpenFolderError(
                f"{folder}: others can open it (its mode is {rights:04o}), and the files in it must be readable: "
                f"chmod go= {folder}, or name another folder"
            ) from None


def _acl(password: str) -> str:
    """Redis keeps the hash. `health` may ask whether Redis lives; whoever gives no name may do nothing."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    return "\n".join(
        (
            "user default off",
            f"user hetlm on #{digest} {REDIS_RIGHTS}",
            "user health on nopass resetkeys resetchannels -@all +ping",
        )
    )
