"""What the service says of itself at `/metrics`."""

from __future__ import annotations

from collections.abc import Sequence

import httpx


async def samples(url: str) -> dict[str, float]:
    """Each sample's value by its name with its labels, as they stand there."""
    async with httpx.AsyncClient(trust_env=False, timeout=30.0) as client:
        text = (await client.get(url, headers={"Accept": "text/plain"})).text
    return parse(text)


def parse(text: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def risen(before: dict[str, float], after: dict[str, float], beginnings: Sequence[str]) -> float:
    """By how much the samples whose names begin so rose together."""
    return sum(value - before.get(name, 0.0) for name, value in after.items() if name.startswith(tuple(beginnings)))
