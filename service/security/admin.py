"""The admin port's application: for whoever runs the service, apart from those who use it.

What else is administered here is included by the composition root (`build`), under `/admin`, and needs no checks of its
own: nothing on this port is reached without the scope `admin`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, ConfigDict, Field

from service import problems
from service.security.key_file import usable
from service.security.keys import KeyFile, Keyring, Scope
from service.security.live_keys import LiveKeys
from service.settings import Settings

PORT = 9465
"""Where a key has the scope `admin` and no port is named."""


class KeyOut(BaseModel):
    """One key, without its secret, which nobody has but the caller."""

    model_config = ConfigDict(frozen=True)

    id: str
    created: datetime
    expires: datetime | None
    live: bool = Field(description="false once it has expired")


class CallerOut(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    scopes: list[Scope]
    keys: list[KeyOut]


class KeysResponse(BaseModel):
    """The keys that the running service goes by: a rotation that worked shows here."""

    model_config = ConfigDict(frozen=True)

    required: bool = Field(description="false where no keys are configured: the service is then on loopback alone")
    callers: list[CallerOut]


def port(settings: Settings) -> int | None:
    """The admin port that `settings` ask for; None for none. Raises `KeyFileError`."""
    needed = settings.api_keys_file is not None and Keyring(usable(settings.api_keys_file)).opens("admin")
    return settings.admin_port if settings.admin_port is not None or not needed else PORT


def application(keys: LiveKeys | None, routers: Sequence[APIRouter] = ()) -> FastAPI:
    """`routers`: what else is administered."""
    app = FastAPI(title="hetlm admin", docs_url=None, redoc_url=None, redirect_slashes=False)
    problems.install(app)

    @app.get("/admin/keys", response_model=KeysResponse)
    async def keys_now() -> KeysResponse:
        file = keys.file() if keys is not None else KeyFile()
        return KeysResponse(required=keys is not None, callers=_callers(file, datetime.now(UTC)))

    for router in routers:
        app.include_router(router)
    return app


def _callers(file: KeyFile, now: datetime) -> list[CallerOut]:
    return [
        CallerOut(
            name=name,
            scopes=list(caller.scopes),
            keys=[KeyOut(id=k.id, created=k.created, expires=k.expires, live=k.live(now)) for k in caller.keys],
        )
        for name, caller in sorted(file.callers.items())
    ]
