"""Files of keys for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from service.security.key_file import write
from service.security.keys import KeyFile, RateEntry, Scope
from service.settings import Settings
from tests.service.building import Made

START = datetime(2026, 1, 1, tzinfo=UTC)


def keys(
    path: Path,
    *callers: tuple[str, tuple[Scope, ...]],
    expires_in: timedelta | None = None,
    rate: RateEntry | None = None,
    now: datetime | None = None,
) -> list[str]:
    """Write a file with one key per caller; their secrets, in order."""
    file = KeyFile()
    secrets = []
    for name, scopes in callers:
        file, _, secret = file.with_key(name, scopes, rate, expires_in, now or datetime.now(UTC))
        secrets.append(secret)
    write(path, file)
    return secrets


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def with_keys(path: Path) -> Settings:
    return Settings(api_keys_file=path)


async def refusals(made: Made) -> dict[str, float]:
    return {
        sample.labels["reason"]: sample.value
        for family in text_string_to_metric_families(await made.metrics())
        for sample in family.samples
        if sample.name == "hetlm_refusals_total" and sample.value
    }
