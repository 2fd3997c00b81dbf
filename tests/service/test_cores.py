"""Who in the service computes with how many cores."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from browsing.encoder import Vectors
from service.cache.embedder import Embedder
from service.cache.memory import MemoryStore
from service.cores import divided, encoder_threads, engine_threads, shares
from service.settings import Settings
from tests.browsing.test_threads import elsewhere
from tests.service.building import CountingEncoder
from tests.service.cache.test_embedder import KEYS, A, Meter


def settings(**values: object) -> Settings:
    return Settings.model_validate({"bundle": Path("bundle"), **values})


def test_beside_an_embedded_engine_the_event_loop_computes_alone() -> None:
    def go() -> tuple[int, Settings]:
        found = divided(settings(threads=4))
        return torch.get_num_threads(), found

    threads, found = elsewhere(go)
    assert threads == 1
    assert (engine_threads(found), encoder_threads(found)) == (2, 2)


def test_by_default_there_are_as_many_as_torch_has() -> None:
    before = torch.get_num_threads()
    assert elsewhere(lambda: divided(settings())).threads == before
    assert (engine_threads(settings()), encoder_threads(settings())) == (None, None)


def test_beside_engines_elsewhere_the_encoder_has_them_all() -> None:
    def go() -> tuple[int, Settings]:
        found = divided(settings(threads=4, engine="vllm"))
        return torch.get_num_threads(), found

    threads, found = elsewhere(go)
    assert threads == 4
    assert encoder_threads(found) == 4


def test_an_encoders_thread_computes_with_as_many_as_it_is_given() -> None:
    class Asking(CountingEncoder):
        threads = 0

        def encode(self, sessions: Sequence[Sequence[str]]) -> Vectors:
            self.threads = torch.get_num_threads()
            return super().encode(sessions)

    async def scenario(threads: int) -> int:
        encoder = Asking()
        embedder = Embedder(encoder, MemoryStore(), KEYS, Meter(), threads)
        await embedder.embed([A])
        await embedder.close()
        return encoder.threads

    before = torch.get_num_threads()
    try:
        assert asyncio.run(scenario(before + 2)) == before + 2
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("threads", "engine", "encoder"), [(1, 1, 1), (2, 2, 1), (3, 2, 1), (4, 2, 2), (16, 8, 8)])
def test_engine_and_encoder_share_what_there_is(threads: int, engine: int, encoder: int) -> None:
    assert shares(threads) == (engine, encoder)
