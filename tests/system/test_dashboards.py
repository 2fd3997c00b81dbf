"""A real Prometheus over the topology of the Compose files, under load: every panel and every rule has data.

Prometheus reads the rules and targets of `deploy/prometheus`, and asks every second instead of every fifteen. The load
generator asks the service; beside it come all the requests that are not as they should be; at the end Redis and the
vLLM engine are killed. Then every expression is evaluated over the whole time, as Grafana evaluates a panel's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import shutil
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest

from browsing.bundle import Bundle, seal
from browsing.traffic import CONFIDENCE_EDGES, Routing, VisitPages
from loadtest.planning import Asked
from loadtest.run import run
from loadtest.scenarios import STEADY
from loadtest.workload import Options
from service.deploying import compose
from service.deploying.engines import plan
from service.monitoring.observer import LEAST
from tests import tiny
from tests.deploy.promql import judged
from tests.deploy.provisioned import asked, rules
from tests.service.building import SESSIONS
from tests.system.test_compose_local import PATIENCE, ROOT, Up, up

pytestmark = [pytest.mark.system, pytest.mark.timeout(3000)]

RATE = 8.0
"""Requests per second."""
DEADLINE_MS, SAMPLES = 20_000, 4
OPTIONS: dict[str, object] = {"deadline_ms": DEADLINE_MS, "samples": SAMPLES}
EMBEDDED = "Engines / Queue of the embedded engine, p95 / A"
"""The one panel that is silent where vLLM is the engine."""


def bundle_with_a_past(root: Path) -> Path:
    """One cluster, so that one engine is enough, and a reference that tells of visits and routing."""
    tiny.bundle(root, 1, encoder="predictor")
    held = Bundle.load(root)
    confidence = tuple(float(edge == 1.0) for edge in CONFIDENCE_EDGES)
    shares = dict.fromkeys(tiny.SIX_PAGES, 0.98 / len(tiny.SIX_PAGES))
    reference = held.reference.model_copy(
        update={
            "visits": VisitPages(users=5_000, pages=shares, unknown=0.02, unknown_views=0.02),
            "routing": Routing(users=5_000, clusters=(1.0,), confidence=confidence, mean_confidence=1.0),
        }
    )
    (root / "reference.json").write_text(reference.model_dump_json())
    seal(root, held.manifest)
    return root


def project_with_an_engine(root: Path, bundle: Path) -> Path:
    """A copy of the project's files for this bundle; Prometheus asks every second. Returns the Compose file."""
    for name in ("docker", "deploy"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("secrets", "__pycache__"))
    for path, text in compose.files(root / "docker", plan(bundle, gpus=0, threads=1, paths=32)).items():
        path.write_text(text)
    configuration = root / "deploy" / "prometheus" / "prometheus.yml"
    often = re.sub(r"(scrape|evaluation)_interval: 15s", r"\1_interval: 1s", configuration.read_text())
    assert often.count(": 1s") == 2
    configuration.write_text(often)
    return root / "docker" / "docker-compose.yml"


class Prometheus:
    """Its HTTP API."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url
        self.began = time.time()

    async def get(self, path: str, **parameters: str) -> Any:
        response = await self._client.get(f"{self._url}/api/v1/{path}", params=parameters, timeout=60)
        assert response.status_code == 200, f"{parameters}: {response.text}"
        return response.json()["data"]

    async def value(self, expression: str) -> float:
        """The largest just now; -inf where there is none."""
        found = (await self.get("query", query=expression))["result"]
        return max((float(one["value"][1]) for one in found), default=-math.inf)

    async def has_data(self, expression: str) -> bool:
        """Whether there was a number at any second since the beginning."""
        answer = await self.get("query_range", query=expression, start=str(self.began), end=str(time.time()), step="1")
        values: Iterable[str] = (value for one in answer["result"] for _, value in one["values"])
        return any(math.isfinite(float(value)) for value in values)

    async def until(self, expression: str, least: float) -> None:
        while True:
            if await self.value(expression) >= least:
                return
            await asyncio.sleep(0.5)


class Visitors:
    """Who asks: many as they should, and some of every other kind."""

    def __init__(self, running: Up, bundle: Path, client: httpx.AsyncClient) -> None:
        self._running = running
        self._bundle = bundle
        self._client = client
        self._url = running.url("service", 8080)
        self._key = {"Authorization": f"Bearer {running.key}"}

    async def come(self, seconds: float, seed: int) -> None:
        """The open-loop generator's."""
        wanted = Options(samples=SAMPLES, deadline_ms=DEADLINE_MS)
        await run(
            STEADY,
            Asked(
                self._url,
                bundle=self._bundle,
                rate=RATE,
                seconds=seconds,
                seed=seed,
                visitors=40,
                options=wanted,
                api_key=self._running.key,
            ),
        )

    async def post(
        self, path: str, body: bytes, *, kind: str = "application/json", key: bool = True, timeout: float = 120
    ) -> int:
        """The status; 0 for a caller who left."""
        headers = {"content-type": kind, **(self._key if key else {})}
        try:
            response = await self._client.post(self._url + path, content=body, headers=headers, timeout=timeout)
        except httpx.TimeoutException:
            return 0
        return response.status_code

    async def predict(self, sessions: object = SESSIONS, timeout: float = 120, **options: object) -> int:
        body = json.dumps({"sessions": sessions, "options": {**OPTIONS, **options}}).encode()
        return await self.post("/predict", body, timeout=timeout)

    async def batches(self) -> None:
        """Many in one request, and a file with one row that is wrong."""
        rows: list[dict[str, object]] = [
            {"sessions": SESSIONS, "options": {**OPTIONS, "seed": seed}} for seed in range(150)
        ]
        items = json.dumps({"items": rows[:20]}).encode()
        assert await self.post("/predict/batch", items) == 200
        lines = b"\n".join(json.dumps(row).encode() for row in (*rows, {"sessions": "none"}))
        assert await self.post("/batches", lines, kind="application/x-ndjson") == 202

    async def every_other_kind(self) -> None:
        assert await self.predict([]) == 200, "a visitor without history"
        unknown = [{"started_at": "2026-11-01T10:00:00Z", "pages": ["/", "/never/seen", "/bags"]}]
        assert await self.predict(unknown) == 200
        assert await self.predict(strict=True) == 200
        assert await self.predict("nonsense") == 422
        assert await self.predict(seed=77, timeout=0.01) == 0, "left before the answer"
        assert await self.post("/predict", b"{}", key=False) == 401
        assert await self.post("/nowhere", b"{}") == 404
        for path in ("/", "/bundle", "/readyz"):
            assert (await self._client.get(self._url + path, headers=self._key)).status_code == 200


def kill(*words: str) -> None:
    """SIGKILL to the process whose command line has all of these."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if all(word in line for word in words) and "guard.py" not in line:
                found.append(int(folder.name))
    assert len(found) == 1, (words, found)
    os.kill(found[0], signal.SIGKILL)


def break_things(running: Up) -> None:
    """Redis comes back and refuses to be read, the engine loads for a while."""
    rights = running.state / "redis" / "secrets" / "redis_acl"
    assert "+mget" in rights.read_text()
    rights.write_text(rights.read_text().replace("+mget", ""))
    kill("redis-server", f"{running.addresses['redis']}:6379")
    kill("vllm.entrypoints", running.addresses["engine-0"])


async def broken(running: Up, visitors: Visitors) -> int:
    """Breaks things among visitors who have begun to come: who comes later finds a service that is not ready. Returns
    the status of one who wants no fallback."""
    await asyncio.sleep(2)
    break_things(running)
    return await visitors.predict(strict=True, seed=78)


async def use(running: Up, bundle: Path) -> tuple[list[str], list[str]]:
    """What had no data, and which rules failed."""
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(PATIENCE):
        prometheus = Prometheus(client, running.url("prometheus", 9090))
        visitors = Visitors(running, bundle, client)
        await prometheus.until("min(up)", 1)
        await asyncio.gather(visitors.come(25, 0), visitors.every_other_kind(), visitors.batches())
        # On a busy machine it takes longer until enough is known to speak of drift.
        for seed in range(1, 20):
            if await prometheus.value('min(hetlm_drift_sample_size{source="online"})') > LEAST + 20:
                break
            await visitors.come(10, seed)
        _, status = await asyncio.gather(visitors.come(8, 99), broken(running, visitors))
        assert status == 503
        await prometheus.until('sum(hetlm_cache_errors_total{reason="refused"})', 1)
        await prometheus.until("sum(hetlm_circuit_openings_total)", 1)
        await asyncio.sleep(3)  # two more samples, for rates
        groups = (await prometheus.get("rules"))["groups"]
        failed = [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"]
        assert {rule["name"] for group in groups for rule in group["rules"]} == {rule.name for rule in rules()}
        assert not await prometheus.has_data("hetlm_nothing or hetlm_drift_psi > 100"), "nothing is told from something"
        silent = [one.where for one in asked() if not await prometheus.has_data(one.expression)]
        for rule in rules():
            for expression in judged(rule.expression) if rule.kind == "alert" else [rule.expression]:
                if not await prometheus.has_data(expression):
                    silent.append(f"{rule.name}: {expression}")
        return silent, failed


def test_every_panel_and_every_rule_has_data(tmp_path: Path) -> None:
    bundle = bundle_with_a_past(tmp_path / "bundle")
    with up(project_with_an_engine(tmp_path / "project", bundle), tmp_path, bundle) as running:
        assert {"service", "redis", "prometheus", "engine-0"} <= set(running.addresses), "apt-get install prometheus"
        silent, failed = asyncio.run(use(running, bundle))
    assert failed == []
    assert silent == [EMBEDDED], "its engine is vLLM"
