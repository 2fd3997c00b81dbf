"""What is to be served, in the router and in the file beside the versions: both change, or neither."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from service.versions.deployment import Deployment
from service.versions.memory import Memory, Remembered, RememberedCanary
from service.versions.steps import Steps

T = TypeVar("T")


class Deciding:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def decide(
        self, serving: Deployment, canary: Deployment | None, share: float, steps: Steps, change: Callable[[], T]
    ) -> T:
        """Remember this, and then `change` the router: what cannot be remembered would be undone by the next restart.

        Called off while it is being written, it changes the router all the same, if it was written. Raises
        `StepFailed`.
        """
        with steps.step("remember"):
            writing = asyncio.create_task(self.remember(serving, canary, share))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await asyncio.wait((writing,))  # a thread that writes cannot be called back
                if writing.exception() is None:
                    change()
                raise
        return change()

    async def remember(self, serving: Deployment, canary: Deployment | None, share: float) -> None:
        """Raises `OSError`."""
        beside = RememberedCanary(name=canary.name, version=canary.version, share=share) if canary is not None else None
        await asyncio.to_thread(self._memory.write, Remembered(name=serving.name, version=serving.version), beside)

    async def undecided(self) -> bool:
        """Whether nothing was remembered yet. Raises `StartError`."""
        return await asyncio.to_thread(self._memory.read) is None
