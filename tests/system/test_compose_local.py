"""`python -m deploy.local`: the topology of the Compose files on this machine, from a prediction to a clean end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.deploying import compose
from service.deploying.engines import plan
from service.deploying.installation import install
from tests import tiny
from tests.service.building import SESSIONS

ROOT = Path(__file__).parents[2]
PATIENCE = 1500.0
"""Seconds until everything is up: three real processes, or five, on a machine that may have other work."""

pytestmark = pytest.mark.timeout(3000)


@dataclass(frozen=True, slots=True)
class Up:
    """`addresses`: of every service that runs. `key`: the first API key."""

    addresses: dict[str, str]
    key: str
    state: Path

    def url(self, service: str, port: int) -> str:
        return f"http://{self.addresses[service]}:{port}"

    def predict(self, **headers: str) -> httpx.Response:
        document: dict[str, Any] = {"sessions": SESSIONS, "options": {"deadline_ms": 60_000, "seed": 7}}
        return httpx.post(self.url("service", 8080) + "/predict", json=document, headers=headers, timeout=120)

    def answer(self) -> dict[str, Any]:
        response = self.predict(Authorization=f"Bearer {self.key}")
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document


@contextmanager
def up(compose_file: Path, folder: Path, bundle: Path) -> Iterator[Up]:
    """The topology, ready. Afterwards it was asked to end, and did."""
    key = install(folder / "secrets", "redis:6379", "first").key
    assert key is not None
    network = f"127.{20 + os.getpid() % 200}.{os.getpid() // 200 % 250}.0"
    state = folder / "state"
    command = [sys.executable, "-m", "deploy.local", "--file", compose_file, "--state", state, "--network", network]
    environment = {
        **os.environ,
        "HETLM_BUNDLE_DIR": str(bundle),
        "HETLM_SECRETS_DIR": str(folder / "secrets"),
        "HETLM_LOG_LEVEL": "info",
    }
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(
            [*map(str, command), "--json"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "stderr").read_text()
        running = Up(json.loads(line)["addresses"], key, state)
        _until_ready(running, process)
        yield running
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, (folder / "stderr").read_text()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
        if process.stdout is not None:
            process.stdout.close()
    for service, port in (("service", 8080), ("service", 9464), ("redis", 6379)):
        with socket.socket() as probe:
            assert probe.connect_ex((running.addresses[service], port)) != 0, f"{service} still listens"
    told = (folder / "stderr").read_text()
    assert told.rstrip().endswith("stopped")
    assert told.index("service      stopping") < told.index("redis        stopping")


def _until_ready(running: Up, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while httpx.get(running.url("service", 8080) + "/readyz", timeout=60).status_code != 200:
        assert process.poll() is None
        assert time.monotonic() < end, (running.state / "logs" / "service.log").read_text()
        time.sleep(0.5)


def test_the_default_topology_serves_on_the_embedded_engine(tmp_path: Path) -> None:
    tiny.bundle(tmp_path / "bundle", 2, encoder="predictor")
    with up(ROOT / "docker" / "docker-compose.yml", tmp_path, tmp_path / "bundle") as running:
        assert {"service", "redis"} <= set(running.addresses)
        assert running.predict().status_code == 401
        first, second = running.answer(), running.answer()
        assert first["fallback"] is None
        assert first["next_session"] == second["next_session"]
        assert (first["embedding"]["cached"], second["embedding"]["cached"]) == (0, 2), "Redis remembers"
        metrics = httpx.get(running.url("service", 9464) + "/metrics", timeout=60).text
        assert 'hetlm_cache_sessions_total{result="hit"} 2.0' in metrics
        assert (
            "hetlm_cache_errors_total{" not in metrics or "} 0.0" in metrics.partition("hetlm_cache_errors_total{")[2]
        )
        listing = httpx.get(
            running.url("service", 8080) + "/batches/none", headers={"X-API-Key": running.key}, timeout=60
        )
        assert listing.status_code == 404, "batches are configured, and there is none of that name"
    assert (tmp_path / "state" / "volumes" / "batches").is_dir()
    assert running.key not in "".join(path.read_text() for path in (tmp_path / "state" / "logs").iterdir())


def test_engines_start_one_after_another_behind_the_service(tmp_path: Path) -> None:
    bundle, project = tmp_path / "bundle", tmp_path / "project"
    tiny.bundle(bundle, 2, encoder="predictor")
    for name in ("docker", "deploy"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("secrets", "__pycache__"))
    for path, text in compose.files(project / "docker", plan(bundle, gpus=0, threads=1, paths=32)).items():
        path.write_text(text)
    with up(project / "docker" / "docker-compose.yml", tmp_path, bundle) as running:
        assert {"engine-0", "engine-1"} <= set(running.addresses)
        answer = running.answer()
        assert answer["fallback"] is None
        for k in range(2):
            url = running.url(f"engine-{k}", 8000)
            assert httpx.get(url + "/v1/models", timeout=60).status_code == 401, "engines have a key"
            metrics = httpx.get(url + "/metrics", timeout=60).text
            assert f'model_name="cluster-{k}"' in metrics
            assert "vllm:generation_tokens_total" in metrics
    told = (tmp_path / "stderr").read_text()
    assert told.index("engine-0     healthy") < told.index("engine-1     started")
    assert told.index("engine-1     healthy") < told.index("service      started")
    assert (
        told.index("service      stopping") < told.index("engine-1     stopping") < told.index("engine-0     stopping")
    )
