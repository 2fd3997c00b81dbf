"""A fake OpenAI-compatible endpoint for httpx: it answers as a list of moves tells it to."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx

URL = "http://127.0.0.1:9/v1"


def completion(text: str | None, *, finish: str = "stop", usage: bool = True) -> httpx.Response:
    document: dict[str, object] = {
        "id": "x",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
    }
    if usage:
        document["usage"] = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    return httpx.Response(200, json=document)


def error(status: int, message: str = "", headers: dict[str, str] | None = None, **named: object) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, **named}}, headers=headers)


class Fake:
    """Plays `moves` in order, then answers every prompt with `text`. A move is a response, or an exception to raise."""

    def __init__(
        self, *moves: httpx.Response | Exception, text: str | Callable[[str], str] = "[BOS] /bags [EOS]"
    ) -> None:
        self.moves = list(moves)
        self.text = text
        self.requests: list[httpx.Request] = []

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    @property
    def prompts(self) -> list[str]:
        return [json.loads(request.content)["messages"][0]["content"] for request in self.requests]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.moves:
            move = self.moves.pop(0)
            if isinstance(move, Exception):
                raise move
            return move
        return completion(self.text if isinstance(self.text, str) else self.text(self.prompts[-1]))


class Clock:
    """Time that only passes by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
