"""The two ports of one process: signals, the command line, and `hetlm visit` against it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import polars as pl
import pytest
import typer
from typer.testing import CliRunner, Result

from browsing.bundle import Bundle
from browsing.encoders.sbert import SbertEncoder
from browsing.engine import EngineError
from service.app import build
from service.cache.memory import MemoryStore
from service.cli import register
from service.serve import Sockets, bind, serve
from service.settings import Settings
from tests import tiny
from tests.service.building import SESSIONS, SlowEngine, tables
from tests.tiny import TinyEncoder

ROOT = Path(__file__).parents[2]
FREE = Settings(port=0, metrics_port=0, drain_seconds=10, lame_duck_seconds=0)


def command(*words: str) -> list[str]:
    """The service's commands alone: what `hetlm` mounts."""
    code = "import typer; from service.cli import register; app = typer.Typer(); register(app); app()"
    return [sys.executable, "-c", code, *words]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_is_under_way_finish(bundle: Bundle, number: signal.Signals) -> None:
    engine = SlowEngine(tables(len(bundle.vocabulary)), 0.0)
    service = build(FREE, bundle, engine, TinyEncoder(), MemoryStore(), stream=io.StringIO())
    sockets = bind(FREE)
    url = sockets.api_url

    async def scenario() -> None:
        up = asyncio.Event()
        server = asyncio.create_task(serve(service, FREE, sockets, up.set))
        await up.wait()
        engine.seconds = 0.6
        async with httpx.AsyncClient() as client:
            assert (await client.get(sockets.metrics_url)).text.startswith("# HELP hetlm_")
            assert (await client.get(url + "/metrics")).status_code == 404
            call = asyncio.create_task(client.post(url + "/predict", json={"sessions": SESSIONS}))
            await asyncio.sleep(0.2)
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.2)
            with pytest.raises(httpx.ConnectError):
                async with httpx.AsyncClient() as late:
                    await late.get(url + "/livez")
            response = await call
            assert (response.status_code, response.json()["fallback"]) == (200, None)
        await asyncio.wait_for(server, 10)
        assert not engine.started

    asyncio.run(scenario())
    sockets.close()


def test_a_streamed_batch_comes_line_by_line(bundle: Bundle) -> None:
    engine = SlowEngine(tables(len(bundle.vocabulary)), 0.0)
    settings = FREE.model_copy(update={"batch_concurrency": 1})
    service = build(settings, bundle, engine, TinyEncoder(), MemoryStore(), stream=io.StringIO())
    sockets = bind(settings)

    async def scenario() -> None:
        up = asyncio.Event()
        server = asyncio.create_task(serve(service, settings, sockets, up.set))
        await up.wait()
        engine.seconds = 0.15
        arrived: list[float] = []
        async with httpx.AsyncClient() as client:
            body = {"items": [{"sessions": SESSIONS}] * 4}
            async with client.stream(
                "POST", sockets.api_url + "/predict/batch", json=body, headers={"Accept": "application/x-ndjson"}
            ) as response:
                async for line in response.aiter_lines():
                    assert json.loads(line)["fallback"] is None
                    arrived.append(time.monotonic())
            assert len(arrived) == 4
            assert arrived[-1] - arrived[0] > 0.3, "the first did not wait for the last"
            async with client.stream(
                "POST", sockets.api_url + "/predict/batch", json=body, headers={"Accept": "application/x-ndjson"}
            ) as response:
                await anext(response.aiter_lines())
        await asyncio.sleep(0.1)
        asked = len(engine.requests)
        await asyncio.sleep(0.4)
        assert len(engine.requests) == asked, "who leaves is not worked for"
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(server, 10)

    asyncio.run(scenario())
    sockets.close()


def test_an_engine_that_does_not_start_ends_the_service(bundle: Bundle) -> None:
    class Broken(SlowEngine):
        async def start(self) -> None:
            raise EngineError("no such model")

    engine = Broken(tables(len(bundle.vocabulary)), 0.0)
    service = build(FREE, bundle, engine, TinyEncoder(), MemoryStore(), stream=io.StringIO())
    sockets = bind(FREE)
    with pytest.raises(EngineError, match="no such model"):
        asyncio.run(asyncio.wait_for(serve(service, FREE, sockets, lambda: None), 20))
    sockets.close()


def test_a_signal_while_the_engines_start(bundle: Bundle) -> None:
    class Slow(SlowEngine):
        async def start(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)

    engine = Slow(tables(len(bundle.vocabulary)), 0.0)
    service = build(FREE, bundle, engine, TinyEncoder(), MemoryStore(), stream=io.StringIO())
    sockets = bind(FREE)
    ready: list[None] = []
    asyncio.run(asyncio.wait_for(serve(service, FREE, sockets, lambda: ready.append(None)), 20))
    assert not ready
    sockets.close()


@pytest.mark.parametrize("flag", ["port", "metrics_port"])
def test_a_port_that_is_taken_is_known_at_once(flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = FREE.model_copy(update={flag: taken.getsockname()[1]})
        with pytest.raises(OSError, match="in use") as caught:
            bind(settings)
    assert str(caught.value.filename).startswith("--" + flag.replace("_", "-"))


def test_addresses() -> None:
    sockets = bind(FREE.model_copy(update={"host": "0.0.0.0", "metrics_host": "::1"}))
    assert isinstance(sockets, Sockets)
    assert sockets.api_url == f"http://127.0.0.1:{sockets.api.getsockname()[1]}"
    assert sockets.metrics_url == f"http://[::1]:{sockets.metrics.getsockname()[1]}/metrics"
    sockets.close()


@pytest.mark.parametrize(
    ("words", "variables", "message"),
    [
        ((), {}, "no bundle: name its directory"),
        (("nowhere",), {}, "nowhere is not a bundle"),
        (("nowhere", "--port", "70000"), {}, "HETLM_PORT (--port): Input should be less than"),
        (("nowhere", "--engine", "onnx"), {}, "HETLM_ENGINE (--engine): "),
        (("nowhere", "--redis-url", "redis://zq-secret@a"), {}, "HETLM_CACHE_SECRET"),
        (("nowhere",), {"HETLM_ENGINE": "vllm-server"}, "HETLM_ENGINE_URLS"),
    ],
)
def test_mistakes_end_with_one_message_and_code_2(
    tmp_path: Path, words: tuple[str, ...], variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    free = {"HETLM_METRICS_PORT": "0", "HETLM_PORT": "0"}
    ended = CliRunner().invoke(commands(), ["serve", *words], env={**free, **variables})
    assert ended.exit_code == 2, ended.stderr
    assert message in ended.stderr
    assert "zq-secret" not in ended.stderr
    assert ended.stdout == ""


def commands() -> typer.Typer:
    app = typer.Typer()
    register(app)
    return app


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the real encoder, and a dataset's test split, in one directory."""
    root = tmp_path_factory.mktemp("shop")
    tiny.bundle(root / "bundle", encoder=SbertEncoder())
    users = tiny.toy_users(tiny.SIX_PAGES, users=20)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    pl.DataFrame(
        {
            "user_id": [f"u{i}" for i in range(len(users))],
            "history": [sessions[:-1] for sessions in users],
            "history_started_at": [[start + timedelta(days=i) for i in range(len(s) - 1)] for s in users],
            "next_session": [sessions[-1] for sessions in users],
            "next_started_at": [start + timedelta(days=9)] * len(users),
        }
    ).write_parquet(root / "test.parquet")
    return root


@pytest.fixture(scope="module")
def address(shop: Path) -> Iterator[str]:
    """`hetlm serve` as a process of its own, with SBERT and the embedded engine; ends well on SIGTERM."""
    with (shop / "stderr").open("w+") as stderr:
        process = subprocess.Popen(
            command("serve", str(shop / "bundle"), "--port", "0", "--metrics-port", "0", "--threads", "1"),
            stderr=stderr,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            url = _announced(shop / "stderr", process)
            yield url
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
    said = (shop / "stderr").read_text()
    assert "Loading the bundle" in said
    assert said.rstrip().endswith("stopped")
    assert '"user_id"' not in said
    assert "/bags" not in said


def _announced(stderr: Path, process: subprocess.Popen[bytes]) -> str:
    for _ in range(1_200):
        for line in stderr.read_text().splitlines():
            if line.strip().startswith("predictions"):
                return line.split()[-1].removesuffix("/predict")
        assert process.poll() is None, stderr.read_text()
        time.sleep(0.1)
    raise AssertionError(f"not ready: {stderr.read_text()}")


def visit(address: str, dataset: Path, *words: str) -> Result:
    return CliRunner().invoke(commands(), ["visit", address, "--dataset", str(dataset), *words])


def test_visitors_are_shown(address: str, shop: Path) -> None:
    shown = visit(address, shop, "--visitors", "3")
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.count("╭─ visitor ") == 3
    for words in ("→", "predicted", "really came", "a cart", "a purchase", "cluster", "calibrated", "█", " ms: embed"):
        assert words in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 100


def test_visitors_as_json(address: str, shop: Path) -> None:
    shown = visit(address, shop, "--visitors", "2", "--json")
    assert shown.exit_code == 0, shown.stderr
    [line] = shown.stdout.splitlines()
    answers = json.loads(line)["visitors"]
    assert len(answers) == 2
    assert all(answer["fallback"] is None and answer["condition"] == "next_session" for answer in answers)


def test_visit_says_what_is_wrong(address: str, shop: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"
    for where, dataset, message in (
        (nobody, shop, "is `hetlm serve` running there?"),
        (address, tmp_path, "no test.parquet"),
        (address + "/elsewhere", shop, "answered 404"),
    ):
        ended = visit(where, dataset)
        assert ended.exit_code == 2
        assert message in " ".join(ended.stderr.split())


def test_no_answer_waits_for_an_acknowledgement() -> None:
    """Nagle's algorithm keeps the second piece of an answer back until the client has acknowledged the first."""
    sockets = bind(FREE)

    async def scenario() -> None:
        met: asyncio.Queue[int] = asyncio.Queue()

        async def meet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            own = writer.get_extra_info("socket")
            met.put_nowait(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        for own in (sockets.api, sockets.metrics):
            async with await asyncio.start_server(meet, sock=own):
                _, writer = await asyncio.open_connection(*own.getsockname())
                assert await met.get()
                writer.close()

    asyncio.run(scenario())
