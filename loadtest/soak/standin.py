"""A small vLLM: a real HTTP server with the part of its protocol that is spoken here, a first-order model behind it,
and faults on demand."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from browsing.engine import GenerateRequest, Path
from browsing.engines.sampling import walk
from browsing.vocabulary import EOS, NEVER

Fault = Literal["hang", "slow", "500", "garbage", "ids", "dies", "other_name", "other_model", "redirect"]


def table(size: int, seed: int) -> NDArray[np.float64]:
    """Rows are distributions over all ids but `[PAD]` and `[BOS]`; a session ends after three pages or so."""
    made = np.random.default_rng(seed).random((size, size)) ** 3
    made[:, list(NEVER)] = 0.0
    made[:, EOS] = 0.3 * made.sum(1)
    own: NDArray[np.float64] = made / made.sum(1, keepdims=True)
    return own


def sample(request: GenerateRequest, own: NDArray[np.float64]) -> list[Path]:
    return walk(request, lambda prefix: own[prefix[-1]])


class FakeVllm:
    """`context`: tokens that it says it takes. `fault`: what is wrong with it, if anything. `asked`: how many
    completions it was asked for."""

    def __init__(self, size: int, seed: int, *, name: str = "model", slow: float = 0.1, context: int = 64) -> None:
        self.size = size
        self.context = context
        self.seed = seed
        self.name = name
        self.slow = slow
        self.fault: Fault | None = None
        self.asked = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """On the port that it had before, if any."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """As a process that ends: connections break, new ones are refused."""
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().partition("content-length: ")[2].split("\r\n")[0] or 0)
                body = await reader.readexactly(length)
                answering = asyncio.ensure_future(self._answer(head, json.loads(body) if body else None))
                leaving = asyncio.ensure_future(reader.read(1))
                await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
                if not answering.done():
                    answering.cancel()
                    return
                leaving.cancel()
                await asyncio.wait((leaving,))
                answer = answering.result()
                cut = self.fault == "dies"
                writer.write(answer[: len(answer) * 2 // 3] if cut else answer)
                await writer.drain()
                if cut:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer(self, head: str, question: dict[str, Any] | None) -> bytes:
        name = "somebody-else" if self.fault == "other_name" else self.name
        if self.fault == "hang":
            await asyncio.sleep(3600)
        if self.fault == "slow":
            await asyncio.sleep(self.slow)
        if question is None:
            wanted = "/v1/models" in head
            return _http(200 if wanted else 404, {"data": [{"id": name, "max_model_len": self.context}]})
        self.asked += 1
        if question["model"] != name:
            return _http(404, {"error": {"message": "no such model"}})
        match self.fault:
            case "500":
                return _http(500, b"Internal Server Error")
            case "garbage":
                return _http(200, bytes(range(256)))
            case "redirect":
                return _http(307, b"", "Location: http://127.0.0.1:1/\r\n")
        return self._complete(question)

    def _complete(self, question: dict[str, Any]) -> bytes:
        ids = question.get("logprob_token_ids", [])
        if max([*ids, *question["prompt"]]) >= self.size:
            return _http(400, {"error": {"message": "out-of-vocab token ids"}})
        request = GenerateRequest(
            cluster=0,
            prompt=tuple(question["prompt"]),
            samples=question["n"],
            max_steps=question["max_tokens"],
            watched=tuple(i for i in ids if i not in NEVER),
            forbidden=tuple(int(i) for i in question["logit_bias"] if int(i) not in NEVER),
            greedy=question["temperature"] == 0.0,
            seed=question["seed"],
        )
        paths = sample(request, table(self.size, self.seed + (100 if self.fault == "other_model" else 0)))
        if self.fault == "ids":
            paths = [replace(path, tokens=(self.size + 7, *path.tokens[1:])) for path in paths]
        return _http(200, {"choices": [self._choice(i, path, request) for i, path in enumerate(paths)]})

    def _choice(self, index: int, path: Path, request: GenerateRequest) -> dict[str, Any]:
        steps = [
            {
                **{f"token_id:{token}": -69.0 for token in NEVER},
                **{f"token_id:{t}": float(np.log(max(p, 1e-29))) for t, p in zip(request.watched, row, strict=True)},
            }
            for row in path.watched
        ]
        return {
            "index": index,
            "token_ids": list(path.tokens),
            "finish_reason": "stop" if path.finished else "length",
            "logprobs": {"top_logprobs": steps},
        }


def _http(status: int, document: object, headers: str = "") -> bytes:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n{headers}\r\n".encode() + content


async def main(port: str, name: str, size: str, seed: str) -> None:
    server = FakeVllm(int(size), int(seed), name=name)
    server.port = int(port)
    await server.start()
    await asyncio.Event().wait()
