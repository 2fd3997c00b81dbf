"""Callers who hang up at random points, over real connections, beside others who wait: nobody gets another's answer."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from tests.service.faults.traffic import Visitor, kind_of

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Tally:
    """`unsent`: hung up before the question was complete; `unanswered`: while it was worked on; `cut`: in the middle of
    the answer. `answers`: to visitors, each compared with the right one."""

    unsent: int = 0
    unanswered: int = 0
    cut: int = 0
    answers: int = 0

    @property
    def cancelled(self) -> int:
        return self.unsent + self.unanswered + self.cut


async def cancel_at_random(
    address: tuple[str, int], people: Sequence[Visitor], count: int, *, seed: int, width: int = 40, longest: float = 0.2
) -> Tally:
    """Until `count` questions were cancelled, `width` callers ask: alone or in batches of up to six, often the same as
    somebody else at that moment, and about one visitor after another over the same connection. Most hang up within
    `longest` seconds. Raises `AssertionError` for an answer that is not its visitor's."""
    tally = Tally()

    async def caller(number: int) -> None:
        draw = random.Random(f"{seed} {number}")
        connection: Connection | None = None
        asked = 0
        while tally.cancelled < count:
            asked += 1
            visitors = draw.choices(people, k=draw.randint(2, 6) if draw.random() < 0.3 else 1)
            users = [f"user-{number}-{asked}-{place}" for place in range(len(visitors))]
            patience = draw.random() * longest if draw.random() < 0.7 else None
            whole = patience is None or draw.random() < 0.85
            reader, writer = connection or await asyncio.open_connection(*address)
            question = _question(visitors, users)
            writer.write(question if whole else question[: draw.randrange(1, len(question))])
            body = await _answer(reader, patience, tally, whole=whole)
            if body is None:
                writer.transport.abort()
                connection = None
                continue
            connection = reader, writer
            _check(body, visitors, users)
            tally.answers += len(visitors)
        if connection is not None:
            connection[1].close()

    await asyncio.gather(*(caller(number) for number in range(width)))
    return tally


def _question(visitors: Sequence[Visitor], users: Sequence[str]) -> bytes:
    items = [{**visitor.body(), "user_id": user} for visitor, user in zip(visitors, users, strict=True)]
    path, document = ("/predict", items[0]) if len(items) == 1 else ("/predict/batch", {"items": items})
    content = json.dumps(document).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    )
    return f"{head}\r\n\r\n".encode() + content


async def _answer(
    reader: asyncio.StreamReader, patience: float | None, tally: Tally, *, whole: bool
) -> dict[str, Any] | None:
    """None where the caller's patience (seconds) was over first, which is entered in `tally`."""
    begun = False
    try:
        async with asyncio.timeout(patience):
            head = await reader.readuntil(b"\r\n\r\n")
            begun = True
            assert head.startswith(b"HTTP/1.1 200 "), head
            [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            content = await reader.readexactly(int(length.partition(b":")[2]))
    except TimeoutError:
        tally.unsent += not whole
        tally.cut += whole and begun
        tally.unanswered += whole and not begun
        return None
    document: dict[str, Any] = json.loads(content)
    return document


def _check(body: dict[str, Any], visitors: Sequence[Visitor], users: Sequence[str]) -> None:
    answers = [body] if len(visitors) == 1 else body["items"]
    assert [answer["user_id"] for answer in answers] == list(users), "another caller's answer"
    for visitor, answer in zip(visitors, answers, strict=True):
        content = json.dumps({**answer, "user_id": visitor.user})
        assert kind_of(visitor, httpx.Response(200, content=content)) == "model"
