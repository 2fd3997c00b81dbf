"""Who in this process computes with how many of the machine's cores."""

from __future__ import annotations

import torch

from browsing.threads import keep_to
from service.settings import Settings


def divided(settings: Settings) -> Settings:
    """The settings with their number of threads said. Called once, and before anything computes: beside an embedded
    engine the calling thread, which is the event loop's or starts it, computes alone."""
    threads = settings.threads or torch.get_num_threads()
    keep_to(1 if settings.engine == "local" else threads)
    return settings.model_copy(update={"threads": threads})


def engine_threads(settings: Settings) -> int | None:
    """Of the embedded engine, all its workers together; None for torch's default."""
    return None if settings.threads is None else shares(settings.threads)[0]


def encoder_threads(settings: Settings) -> int | None:
    """Of an encoder; None for torch's default."""
    if settings.threads is None or settings.engine != "local":
        return settings.threads
    return shares(settings.threads)[1]


def shares(threads: int) -> tuple[int, int]:
    """Of the embedded engine and of an encoder beside it: half of them each. Of one or two the engine has all, and the
    encoder computes alone beside it."""
    encoder = max(1, threads // 2)
    return (threads if threads <= 2 else threads - encoder), encoder
