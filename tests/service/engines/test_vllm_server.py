"""Servers that misbehave: whatever they do is an `EngineError` that names the URL, and is over by the deadline."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from browsing.engine import EngineError, EngineTimeout, GenerateRequest, Path
from browsing.vocabulary import BOS, EOS
from service.engines import server as one_server
from service.engines.vllm_server import VllmServerEngine

VOCABULARY = 10
REQUEST = GenerateRequest(0, (BOS, 4, EOS, BOS), 3, 4, watched=(EOS, 4), seed=1, deadline=5.0)

Reply = Callable[[dict[str, Any]], Awaitable[bytes]]


def _http(status: int, document: object, headers: str = "") -> bytes:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n{headers}\r\n".encode() + content


async def _good(question: dict[str, Any]) -> bytes:
    """What vLLM answers for a model that is uniform over its vocabulary; every path is `[UNK]` to the end."""
    ids = question.get("logprob_token_ids", [])
    if max([*ids, *question["prompt"]]) >= VOCABULARY:
        return _http(400, {"error": {"message": "out-of-vocab token ids"}})
    step = {f"token_id:{token}": -np.log(VOCABULARY) for token in ids}
    steps = question["max_tokens"]
    choice = {"token_ids": [3] * steps, "finish_reason": "length", "logprobs": {"top_logprobs": [step] * steps}}
    return _http(200, {"choices": [{**choice, "index": index} for index in range(question["n"])]})


@dataclass
class Fake:
    """An HTTP server on loopback that answers as `reply` says; `models` is the body of `/v1/models`."""

    reply: Reply = _good
    models: bytes = field(
        default_factory=lambda: _http(200, {"data": [{"id": "cluster-0", "max_model_len": 64, "object": "model"}]})
    )
    questions: list[dict[str, Any]] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    handlers: set[asyncio.Task[None] | None] = field(default_factory=set)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.handlers.add(asyncio.current_task())
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.headers.append(head.lower())
                length = int(head.lower().partition("content-length: ")[2].split("\r\n")[0] or 0)
                content = await reader.readexactly(length)
                if head.startswith("GET /v1/models "):
                    answer = self.models
                else:
                    self.questions.append(json.loads(content))
                    answering = asyncio.ensure_future(self.reply(self.questions[-1]))
                    left = asyncio.ensure_future(reader.read(1))
                    await asyncio.wait([answering, left], return_when=asyncio.FIRST_COMPLETED)
                    if not answering.done():
                        answering.cancel()
                        self.hung_up.set()
                        return
                    left.cancel()
                    await asyncio.wait([left])
                    answer = answering.result()
                writer.write(answer)
                await writer.drain()
                if b"Connection: close" in answer or not answer:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def serving(fake: Fake) -> AsyncIterator[Fake]:
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield fake
    finally:
        server.close()
        await server.wait_closed()
        async with asyncio.timeout(5):  # none is left open by the engine
            await asyncio.gather(*(handler for handler in fake.handlers if handler is not None))


async def _ask(fake: Fake, reply: Reply | None = None, request: GenerateRequest = REQUEST) -> list[Path]:
    """Start an engine over a good server, then ask it while it answers with `reply`."""
    async with serving(fake):
        engine = VllmServerEngine([fake.url], VOCABULARY, models=["cluster-0"], start_timeout=2.0)
        await engine.start()
        try:
            fake.reply = reply or fake.reply
            return await engine.generate(request)
        finally:
            await engine.stop()


def test_a_good_server() -> None:
    fake = Fake()
    paths = asyncio.run(_ask(fake))
    assert [path.tokens for path in paths] == [(3, 3, 3, 3)] * 3
    np.testing.assert_allclose(paths[0].watched, np.full((4, 2), 1 / 8), atol=1e-12)
    assert fake.questions[-1]["model"] == "cluster-0"


def _always(answer: bytes) -> Reply:
    async def reply(question: dict[str, Any]) -> bytes:
        return answer

    return reply


def _edited(old: str, new: str) -> Reply:
    async def reply(question: dict[str, Any]) -> bytes:
        content = (await _good(question)).partition(b"\r\n\r\n")[2].decode()
        assert old in content
        return _http(200, content.replace(old, new).encode())

    return reply


MISBEHAVIOUR = {
    "400": (_always(_http(400, {"error": {"message": "history"}})), "status 400"),
    "404, another model": (_always(_http(404, {})), "status 404"),
    "500": (_always(_http(500, b"")), "status 500"),
    "503": (_always(_http(503, b"")), "status 503"),
    "a redirect": (_always(_http(307, b"", "Location: http://127.0.0.1:1/\r\n")), "status 307"),
    "garbage": (_always(_http(200, b"garbage")), "not a completion"),
    "empty": (_always(_http(200, b"")), "not a completion"),
    "not HTTP": (_always(b"SMTP ready\r\n\r\n"), "broken answer"),
    "hangs up": (_always(b""), "broken answer"),
    "truncated": (_always(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\nConnection: close\r\n\r\n{"), "broken answer"),
    "an id out of range": (_edited("[3, 3, 3, 3]", "[3, 3, 3, 10]"), "outside the vocabulary"),
    "a choice too few": (_edited('"index": 2', '"index": 1'), "3 were asked for"),
    "NaN": (_edited("-2.30", "NaN, -2.30"), "not a completion"),
    "another token's probability": (_edited("token_id:4", "token_id:5"), "watched ids"),
}


@pytest.mark.parametrize(("reply", "message"), MISBEHAVIOUR.values(), ids=MISBEHAVIOUR)
def test_misbehaviour_is_an_engine_error(reply: Reply, message: str) -> None:
    fake = Fake()
    with pytest.raises(EngineError, match=message) as caught:
        asyncio.run(_ask(fake, reply))
    assert not isinstance(caught.value, EngineTimeout)
    assert fake.url in str(caught.value)
    assert "history" not in str(caught.value)


def test_a_flood_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_server, "MAX_ANSWER", 10_000)
    with pytest.raises(EngineError, match="more than 10000 bytes"):
        asyncio.run(_ask(Fake(), _always(_http(200, b" " * 1_000_000))))


async def _hang(question: dict[str, Any]) -> bytes:
    await asyncio.sleep(60)
    return b""


def test_a_hanging_server_is_left_at_the_deadline() -> None:
    """And the connection is closed, so that it can stop computing."""
    fake = Fake()
    started = time.monotonic()
    with pytest.raises(EngineTimeout, match=r"within 0\.2 seconds"):
        asyncio.run(_ask(fake, _hang, replace(REQUEST, deadline=0.2)))
    assert time.monotonic() - started < 5
    assert fake.hung_up.is_set()


def test_a_cancelled_request_hangs_up() -> None:
    async def run() -> None:
        asked = asyncio.Event()

        async def hang(question: dict[str, Any]) -> bytes:
            asked.set()
            return await _hang(question)

        async with serving(Fake()) as fake:
            engine = VllmServerEngine([fake.url], VOCABULARY)
            await engine.start()
            fake.reply = hang
            task = asyncio.create_task(engine.generate(REQUEST))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await fake.hung_up.wait()
            await engine.stop()

    asyncio.run(run())


def test_a_server_that_goes_and_comes_back() -> None:
    """Connection refused is an error at once; the next request after its return is answered."""

    async def run() -> None:
        fake = Fake()
        server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        engine = VllmServerEngine([f"http://127.0.0.1:{port}/"], VOCABULARY)
        await engine.start()
        assert await engine.healthy() == {0: True}
        fake.reply = _always(_http(500, b"", "Connection: close\r\n"))
        assert await engine.healthy() == {0: False}
        server.close()
        await server.wait_closed()
        fake.reply = _good
        started = time.monotonic()
        with pytest.raises(EngineError, match="no connection"):
            await engine.generate(REQUEST)
        assert await engine.healthy() == {0: False}
        assert time.monotonic() - started < 2
        async with await asyncio.start_server(fake.serve, "127.0.0.1", port):
            assert len(await engine.generate(REQUEST)) == 3
            assert await engine.healthy() == {0: True}
            await engine.stop()

    asyncio.run(run())


async def _start(fakes: list[Fake], **settings: Any) -> None:
    async with serving(fakes[0]), serving(fakes[-1]):
        engine = VllmServerEngine([fake.url for fake in fakes], VOCABULARY, **{"start_timeout": 1.0, **settings})
        try:
            await engine.start()
        finally:
            await engine.stop()


def _models(*names: str, context: int = 64) -> bytes:
    return _http(200, {"data": [{"id": name, "max_model_len": context} for name in names]})


async def _processed(question: dict[str, Any]) -> bytes:
    """A server that applies the bias to the log-probabilities, too."""
    document = json.loads((await _good(question)).partition(b"\r\n\r\n")[2])
    for choice in document["choices"]:
        for step in choice["logprobs"]["top_logprobs"]:
            for token in {f"token_id:{token}" for token in question["logit_bias"]} & set(step):
                step[token] -= 100
    return _http(200, document)


WRONG = {
    "no vLLM": (Fake(models=_http(404, b"")), {}, "is it a vLLM server"),
    "no list": (Fake(models=_http(200, b"[1]")), {}, "not vLLM's list"),
    "no model": (Fake(models=_models()), {}, "serves no model, not any"),
    "another model": (Fake(models=_models("a", "b")), {"models": ["c"]}, "serves a, b, not c"),
    "too short": (Fake(models=_models("a", context=32)), {"context": 64}, "context of 32 tokens where 64 are needed"),
    "a smaller vocabulary": (Fake(reply=_always(_http(400, {"error": {"message": "why"}}))), {}, "status 400: why"),
    "a refusal without reason": (Fake(reply=_always(_http(401, b"no"))), {}, r"status 401\)"),
    "no real token": (Fake(reply=_always(_http(200, {"choices": []}))), {}, "0 choices"),
    "processed probabilities": (Fake(reply=_processed), {}, "raw_logprobs"),
    "not yet up": (Fake(models=_http(503, b"")), {}, "status 503"),
    "not yet awake": (Fake(reply=_always(_http(503, b""))), {}, "status 503"),
}


@pytest.mark.parametrize(("fake", "settings", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_server_is_found_at_the_start(fake: Fake, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        asyncio.run(_start([fake], **settings))
    assert fake.url in str(caught.value)


def test_a_larger_vocabulary_is_found_at_the_start() -> None:
    async def knows_more(question: dict[str, Any]) -> bytes:
        return await _good({**question, "logprob_token_ids": [i for i in question["logprob_token_ids"] if i < 10]})

    with pytest.raises(EngineError, match="knows id 10"):
        asyncio.run(_start([Fake(reply=knows_more)]))


def test_one_wrong_server_among_good_ones_is_named() -> None:
    good, bad = Fake(), Fake(models=_http(404, b""))
    with pytest.raises(EngineError) as caught:
        asyncio.run(_start([good, bad]))
    assert bad.url in str(caught.value)
    assert good.url not in str(caught.value)


def test_start_waits_for_a_server_that_is_still_starting() -> None:
    async def run() -> float:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        fake = Fake()
        engine = VllmServerEngine([f"http://127.0.0.1:{port}"], VOCABULARY, start_timeout=20.0)
        starting = asyncio.create_task(engine.start())
        await asyncio.sleep(0.3)
        assert not starting.done()
        with pytest.raises(EngineError, match="not running"):
            await engine.generate(REQUEST)
        async with await asyncio.start_server(fake.serve, "127.0.0.1", port):
            await starting
            await engine.start()  # already running: nothing happens
            answer = await engine.generate(REQUEST)
            await engine.stop()
        return len(answer)

    assert asyncio.run(run()) == 3


def test_nobody_there() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        engine = VllmServerEngine([f"http://127.0.0.1:{sock.getsockname()[1]}"], VOCABULARY, start_timeout=0.2)
        with pytest.raises(EngineError, match="no connection"):
            asyncio.run(engine.start())


def test_the_key_is_sent() -> None:
    fake = Fake()
    asyncio.run(_start([fake], api_key="a-key"))
    assert all("authorization: bearer a-key" in head for head in fake.headers)


@pytest.mark.parametrize("urls", [[], ["http://a", "http://b"]])
def test_models_must_go_with_urls(urls: list[str]) -> None:
    with pytest.raises(ValueError, match="URL"):
        VllmServerEngine(urls, VOCABULARY, models=["a"])
