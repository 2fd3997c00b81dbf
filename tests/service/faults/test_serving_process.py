"""`hetlm serve` as a process of its own: SIGTERM under load, a full disk behind its log."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from browsing.bundle import Bundle
from tests import tiny
from tests.service.faults.traffic import Account

ROOT = Path(__file__).parents[3]
BODY = {"sessions": [{"started_at": "2026-11-01T10:00:00Z", "pages": ["/", "/bags"]}]}


@dataclass
class Process:
    popen: subprocess.Popen[bytes]
    url: str
    stderr: Path

    def signal(self) -> None:
        self.popen.send_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def own_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With an encoder of its own: nothing large is loaded."""
    root = tmp_path_factory.mktemp("served") / "bundle"
    tiny.bundle(root, encoder="predictor")
    return Bundle.load(root)


def _limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000))


@contextmanager
def process(bundle: Bundle, directory: Path, *, full_disk: bool = False, **settings: str) -> Iterator[Process]:
    code = "import typer; from service.cli import register; app = typer.Typer(); register(app); app()"
    variables = {name: value for name, value in os.environ.items() if not name.startswith("HETLM_")}
    variables |= {f"HETLM_{name.upper()}": value for name, value in settings.items()} | {"PYTHONPATH": str(ROOT)}
    stderr = directory / "stderr"
    with stderr.open("w") as file:
        popen = subprocess.Popen(
            [sys.executable, "-c", code, "serve", str(bundle.root), "--port", "0", "--metrics-port", "0"],
            stderr=file,
            stdout=subprocess.DEVNULL,
            env=variables,
            preexec_fn=_limit_files if full_disk else None,
        )
    try:
        yield Process(popen, _announced(stderr, popen), stderr)
    finally:
        popen.kill()
        popen.wait()


def _announced(stderr: Path, popen: subprocess.Popen[bytes]) -> str:
    for _ in range(1_200):
        for line in stderr.read_text().splitlines():
            if line.strip().startswith("predictions"):
                return line.split()[-1].removesuffix("/predict")
        assert popen.poll() is None, stderr.read_text()
        time.sleep(0.1)
    raise AssertionError(f"not ready: {stderr.read_text()}")


async def load(url: str, account: Account, stop: asyncio.Event) -> None:
    """As from behind a load balancer: one connection that is kept open, until the service says that it is not ready."""
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        seed = 0
        while not stop.is_set():
            seed += 1
            account.asked += 1
            response = await client.post("/predict", json={**BODY, "options": {"seed": seed}})
            assert response.status_code == 200, response.text
            assert response.json()["fallback"] is None
            account.enter(response.json()["cluster"]["id"], "model")


async def balance(url: str, stop: asyncio.Event) -> str:
    """Asks `/readyz` again and again; what it said when it first said no."""
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        while True:
            response = await client.get("/readyz")
            if response.status_code != 200:
                stop.set()
                return response.text
            await asyncio.sleep(0.05)


def test_sigterm_under_load_loses_nothing(own_bundle: Bundle, tmp_path: Path) -> None:
    async def scenario(own: Process) -> None:
        account, stop = Account(), asyncio.Event()
        workers = [asyncio.create_task(load(own.url, account, stop)) for _ in range(6)]
        balancer = asyncio.create_task(balance(own.url, stop))
        await asyncio.sleep(1.0)
        assert not stop.is_set()
        before = account.asked
        own.signal()
        signalled = time.monotonic()
        assert "about to stop" in await balancer
        assert time.monotonic() - signalled < 3
        async with httpx.AsyncClient(trust_env=False, timeout=60) as late:
            response = await late.post(own.url + "/predict", json=BODY)
            assert response.status_code == 200, "new requests are still taken"
            assert response.headers["connection"] == "close"
        await asyncio.gather(*workers)
        assert sum(account.kinds.values()) == account.asked >= before > 0
        await asyncio.to_thread(own.popen.wait, 30)

    with process(own_bundle, tmp_path, lame_duck_seconds="4", drain_seconds="20") as own:
        asyncio.run(scenario(own))
        assert own.popen.returncode == 0
        assert own.stderr.read_text().rstrip().endswith("stopped")


def test_a_full_disk_behind_the_log_of_a_process(own_bundle: Bundle, tmp_path: Path) -> None:
    """No file may grow beyond 6,000 bytes: the log is full after some twenty requests."""
    with process(own_bundle, tmp_path, full_disk=True, lame_duck_seconds="0") as own:
        with httpx.Client(base_url=own.url, trust_env=False, timeout=60) as client:
            for seed in range(60):
                response = client.post("/predict", json={**BODY, "options": {"seed": seed}})
                assert (response.status_code, response.json()["fallback"]) == (200, None)
            assert client.post("/predict", json={}).status_code == 422
            assert client.get("/readyz").status_code == 200
        assert own.stderr.stat().st_size <= 6_000
        own.signal()
        own.popen.wait(30)
