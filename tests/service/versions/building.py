"""A service over a folder of tiny bundles, whose engines are tables: every answer of every version is known."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp

from browsing.bundle import MANIFEST, Bundle, Manifest, TrainingInfo, seal
from browsing.encoder import Encoder
from browsing.engine import Engine, GenerateRequest
from browsing.engine import Path as Sampled
from browsing.engines.table import TableEngine
from service.app import Service, build, load
from service.cache.memory import MemoryStore
from service.settings import Settings
from service.versions.deployer import Makers
from tests import tiny
from tests.service.building import running as serving_alone
from tests.service.building import same, tables
from tests.tiny import TinyEncoder

Known = dict[str, list[dict[str, Any]]]
"""What each version answers to each of `BODIES`, by its name."""
ENDS = {"v1": "2026-02-01", "v2": "2026-03-01", "v3": "2026-04-01"}
"""When the versions' training logs end."""
CLUSTERS = {"v1": 2, "v2": 3, "v3": 2}
PAGES = ("/", "/bags", "/bags/tote", "/shoes", "/cart")
BODIES: list[dict[str, Any]] = [
    {
        "sessions": [
            {"started_at": "2026-11-01T10:00:00Z", "pages": [PAGES[i % 5], PAGES[(i + 1) % 5]]},
            {"started_at": "2026-11-02T10:00:00Z", "pages": [PAGES[(2 * i) % 5]]},
        ],
        "options": {"seed": i, "samples": 4, "as_of": "2026-11-05T00:00:00Z"},
    }
    for i in range(8)
]


def three(folder: Path) -> Path:
    """`v1`, `v2` and `v3`, each later than the one before."""
    for seed, name in enumerate(ENDS):
        manifest = tiny.bundle(folder / name, CLUSTERS[name], seed=seed)
        training = manifest.training.model_copy(update={"window_end": f"{ENDS[name]}T00:00:00+00:00"})
        resealed(folder / name, training)
    return folder


def resealed(root: Path, training: TrainingInfo) -> Manifest:
    """Another version, told apart by its training alone."""
    manifest = Manifest.model_validate_json((root / MANIFEST).read_text())
    return seal(root, manifest.model_copy(update={"training": training}))


class Fake(TableEngine):
    """Of one version. `hold`: what the step of this name waits for; `errors`: what it raises."""

    def __init__(self, bundle: Bundle) -> None:
        seed = int(hashlib.sha256(bundle.manifest.version.encode()).hexdigest()[:8], 16)
        super().__init__(tables(len(bundle.vocabulary), bundle.clusters, seed))
        self.version = bundle.manifest.version
        self.name = bundle.root.name
        self.hold: dict[str, asyncio.Event] = {}
        self.errors: dict[str, Exception] = {}
        self.silent: set[int] = set()
        self.seconds = 0.0
        self.stops = 0

    async def _at(self, step: str) -> None:
        if step in self.hold:
            await self.hold[step].wait()
        if step in self.errors:
            raise self.errors[step]

    async def start(self) -> None:
        self.started = True
        await self._at("start")

    async def generate(self, request: GenerateRequest) -> list[Sampled]:
        await self._at("generate")
        assert self.started, "asked after its end"
        await asyncio.sleep(self.seconds)
        return await super().generate(request)

    async def healthy(self) -> dict[int, bool]:
        return {k: up and k not in self.silent for k, up in (await super().healthy()).items()}

    async def stop(self) -> None:
        self.stops += 1
        self.started = False
        await self._at("stop")


@dataclass
class Factory:
    """Makes the versions' engines and encoders, and remembers them. `prepare` changes an engine before it is used."""

    prepare: Callable[[Fake], None] = lambda _: None
    encoder: Callable[[Bundle], Encoder] = lambda _: TinyEncoder()
    engine: Callable[[Bundle], Engine] | None = None
    made: list[Fake] = field(default_factory=list)

    def make(self, bundle: Bundle) -> Engine:
        if self.engine is not None:
            return self.engine(bundle)
        engine = Fake(bundle)
        self.prepare(engine)
        self.made.append(engine)
        return engine

    def of(self, name: str) -> Fake:
        """The last one made."""
        return next(engine for engine in reversed(self.made) if engine.name == name)

    @property
    def running(self) -> list[str]:
        return sorted(engine.name for engine in self.made if engine.started)


@dataclass
class Moving:
    """A service whose bundles can be exchanged, and clients of its ports."""

    service: Service
    folder: Path
    client: httpx.AsyncClient
    admin: httpx.AsyncClient
    factory: Factory
    log: io.StringIO

    async def predict(self, body: Mapping[str, Any]) -> dict[str, Any]:
        response = await self.client.post("/predict", json=body)
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    async def activate(self, name: str, status: int = 200) -> dict[str, Any]:
        response = await self.admin.post(f"/admin/bundles/{name}/activate")
        assert response.status_code == status, response.text
        document: dict[str, Any] = response.json()
        return document

    async def canary(self, name: str, share: float, status: int = 200) -> dict[str, Any]:
        response = await self.admin.post(f"/admin/bundles/{name}/canary", json={"share": share})
        assert response.status_code == status, response.text
        document: dict[str, Any] = response.json()
        return document

    async def listing(self) -> dict[str, Any]:
        response = await self.admin.get("/admin/bundles")
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    async def states(self) -> dict[str, str]:
        return {bundle["name"]: bundle["state"] for bundle in (await self.listing())["bundles"]}

    async def reason(self, name: str) -> str:
        return str(next(bundle["reason"] for bundle in (await self.listing())["bundles"] if bundle["name"] == name))

    async def metrics(self) -> dict[tuple[str, ...], float]:
        """`(name, label values...)` -> value; labels in the order of their names."""
        transport = httpx.ASGITransport(self.service.metrics_app)
        async with httpx.AsyncClient(transport=transport, base_url="http://metrics") as client:
            text = (await client.get("/metrics")).text
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def bundles_measured(self) -> set[str]:
        """The versions that any metric speaks of."""
        versions = {version_of(self.folder, name): name for name in ENDS if (self.folder / name / MANIFEST).is_file()}
        return {versions[value] for labels in await self.metrics() for value in labels[1:] if value in versions}

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    async def until(self, holds: Callable[[], bool]) -> None:
        for _ in range(3_000):
            if holds():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it never came")


def version_of(folder: Path, name: str) -> str:
    return Manifest.model_validate_json((folder / name / MANIFEST).read_text()).version


@asynccontextmanager
async def moving(
    folder: Path, *, factory: Factory | None = None, wait: bool = True, leave: bool = False, **settings: object
) -> AsyncIterator[Moving]:
    """`wait`: until the engines have started. `leave`: it is told to end before it begins."""
    factory, log = factory or Factory(), io.StringIO()
    own = Settings.model_validate({"bundles": folder, "probe_seconds": 0.05, "drain_seconds": 20, **settings})
    bundle = load(own)
    makers = Makers(factory.make, lambda bundle: factory.encoder(bundle))  # whichever it is then
    store = MemoryStore()
    service = build(own, bundle, factory.make(bundle), factory.encoder(bundle), store, stream=log, makers=makers)
    if leave:
        service.leave()
    async with service.app.router.lifespan_context(service.app):
        if wait:
            await service.health.started()
        async with _client(service.app) as client, _client(service.admin_app) as admin:
            yield Moving(service, folder, client, admin, factory, log)


def _client(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1", timeout=60)


def copied(template: Path, to: Path, names: Sequence[str] = tuple(ENDS)) -> Path:
    """A folder of one's own with these versions, the first of them activated."""
    for name in names:
        shutil.copytree(template / name, to / name)
    chosen = {"name": names[0], "version": version_of(to, names[0])}
    (to / "activated.json").write_text(json.dumps({"serving": chosen, "since": "2026-11-01T00:00:00Z"}))
    return to


async def alone(folder: Path, name: str) -> list[dict[str, Any]]:
    """What this version, served by itself, answers to each of `BODIES`."""
    bundle = Bundle.load(folder / name)
    async with serving_alone(bundle, engine=Fake(bundle)) as made:
        return [same(await made.answer(body)) for body in BODIES]


def threads() -> list[str]:
    """Of encoders and engines."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith(("encoder", "hetlm")))


def threads_left(wanted: Sequence[str] = (), patience: float = 10.0) -> list[str]:
    """As `threads`, once only the wanted ones are there: one that was told to end needs a moment for it, a leaked one
    does not end at all."""
    until = time.monotonic() + patience
    while (found := threads()) != list(wanted) and time.monotonic() < until:
        time.sleep(0.01)
    return found


async def settled() -> int:
    """The number of tasks, once those that are ending have ended."""
    for _ in range(10):
        await asyncio.sleep(0.01)
    return len(asyncio.all_tasks())


def foreign(root: Path) -> Manifest:
    """Another version, trained with an encoder of other weights."""
    manifest = Manifest.model_validate_json((root / MANIFEST).read_text())
    encoder = manifest.encoder.model_copy(update={"weights_sha256": "0" * 64})
    return seal(root, manifest.model_copy(update={"encoder": encoder}))
