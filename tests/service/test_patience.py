"""Rows of a batch and online requests meet at the encoder: who is in a hurry goes first."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from browsing.bundle import Bundle
from browsing.encoder import Vectors
from tests import tiny
from tests.service.building import CountingEncoder, running


class Gated(CountingEncoder):
    """Notes a batch when it comes, and waits in it for `gate`."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.came = threading.Event()

    def encode(self, sessions: Sequence[Sequence[str]]) -> Vectors:
        vectors = super().encode(sessions)
        self.came.set()
        assert self.gate.wait(30)
        return vectors


def asked(*pages: str) -> dict[str, Any]:
    return {
        "sessions": [{"started_at": "2026-11-01T10:00:00Z", "pages": list(pages)}],
        "options": {"samples": 2, "deadline_ms": 30_000},
    }


def test_a_batch_delays_an_online_request_by_no_more_than_is_under_way(tmp_path: Path) -> None:
    tiny.bundle(tmp_path)
    encoder = Gated()

    async def scenario() -> None:
        async with running(Bundle.load(tmp_path), encoder=encoder) as made:
            warm = len(encoder.batches)
            encoder.gate.clear()
            encoder.came.clear()
            first = asyncio.create_task(made.answer(asked("/")))
            await asyncio.to_thread(encoder.came.wait, 30)
            batch = {"items": [asked("/bags"), asked("/bags", "/cart")]}
            rows = asyncio.create_task(made.client.post("/predict/batch", json=batch))
            await asyncio.sleep(0.3)  # they wait for the encoder by now
            late = asyncio.create_task(made.answer(asked("/shoes")))
            await asyncio.sleep(0.3)
            encoder.gate.set()
            await asyncio.gather(first, late)
            assert (await rows).status_code == 200
            assert encoder.batches[warm:] == [[("/",)], [("/shoes",)], [("/bags",), ("/bags", "/cart")]]

    asyncio.run(scenario())
