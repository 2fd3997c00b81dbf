"""Who in the service computes with how many cores."""

from __future__ import annotations

from pathlib import Path

import torch

from service.cores import divided, encoder_threads, engine_threads
from service.settings import Settings
from tests.browsing.test_threads import elsewhere


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
