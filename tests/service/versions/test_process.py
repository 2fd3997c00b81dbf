"""`hetlm serve --bundles` as a process of its own, with real engines: activated, killed, started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner

from service.cli import register
from tests import tiny
from tests.service.versions.building import ENDS, resealed, version_of

ROOT = Path(__file__).parents[3]
SERVE = "import typer; from service.cli import register; app = typer.Typer(); register(app); app()"
BODY = {"sessions": [{"started_at": "2026-11-01T10:00:00Z", "pages": ["/", "/bags"]}], "options": {"seed": 1}}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions that bring their own encoders."""
    folder = tmp_path_factory.mktemp("shelf")
    for seed, name in enumerate(("v1", "v2")):
        manifest = tiny.bundle(folder / name, encoder="markov", seed=seed)
        resealed(folder / name, manifest.training.model_copy(update={"window_end": ENDS[name]}))
    return folder


class Serving:
    """A running process and its addresses."""

    def __init__(self, process: subprocess.Popen[bytes], stderr: Path) -> None:
        self.process = process
        self.stderr = stderr
        self.api = self._announced("predictions").removesuffix("/predict")
        self.bundles = self._announced("bundles")

    def _announced(self, what: str) -> str:
        for _ in range(1_800):
            for line in self.stderr.read_text().splitlines():
                if line.strip().startswith(what):
                    return line.split()[-1]
            assert self.process.poll() is None, self.stderr.read_text()
            time.sleep(0.1)
        raise AssertionError(f"not ready: {self.stderr.read_text()}")

    def answer(self) -> dict[str, Any]:
        response = httpx.post(f"{self.api}/predict", json=BODY, timeout=60)
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        assert document["fallback"] is None
        return document

    def post(self, path: str, body: object = None) -> httpx.Response:
        return httpx.post(f"{self.bundles}/{path}", json=body, timeout=120)


@contextmanager
def serving(folder: Path, log: Path, *words: str) -> Iterator[Serving]:
    free = ("--port", "0", "--metrics-port", "0", "--admin-port", "0", "--threads", "1")
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, "serve", "--bundles", str(folder), *free, *words],
            stderr=stderr,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HETLM_LAME_DUCK_SECONDS": "0"},
        )
        try:
            yield Serving(process, log)
        finally:
            process.kill()
            process.wait()


def test_a_killed_service_comes_back_with_what_was_activated(shelf: Path, tmp_path: Path) -> None:
    first, second = version_of(shelf, "v1"), version_of(shelf, "v2")
    with serving(shelf, tmp_path / "first") as served:
        assert served.answer()["bundle_version"] == second, "the newer one"
        rolled_back = served.post("v1/activate")
        assert rolled_back.status_code == 200, rolled_back.text
        assert (rolled_back.json()["serving_version"], rolled_back.json()["changed"]) == (first, True)
        assert served.answer()["bundle_version"] == first
        served.process.kill()
    with serving(shelf, tmp_path / "second") as served:
        assert served.answer()["bundle_version"] == first
        assert served.post("v2/canary", {"share": 0.5}).status_code == 200
        states = {bundle["name"]: bundle["state"] for bundle in httpx.get(served.bundles).json()["bundles"]}
        assert states == {"v1": "serving", "v2": "canary"}
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(60) == 0
        assert (tmp_path / "second").read_text().rstrip().endswith("stopped")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--bundles", "nowhere"), "HETLM_BUNDLES (--bundles): nowhere: No such file"),
        (("--bundles", "shelf", "--bundle-version", "v9"), "HETLM_BUNDLE_VERSION (--bundle-version): there is no such"),
        (("--bundles", "shelf", "--canary", "v2"), "HETLM_CANARY (--canary): needs a version and a share"),
        (("--bundles", "shelf", "--bundle-version", "v1", "--canary", "v9=0.1"), "HETLM_CANARY (--canary): there is"),
        (("shelf/v1", "--canary", "v2=0.1"), "needs a folder with both bundles"),
        (("shelf/v1", "--bundles", "shelf"), "are both named"),
    ],
)
def test_mistakes_end_with_one_message_and_code_2(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: Sequence[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shelf").symlink_to(shelf)
    app = typer.Typer()
    register(app)
    free = {"HETLM_METRICS_PORT": "0", "HETLM_PORT": "0"}
    ended = CliRunner().invoke(app, ["serve", *words], env=free)
    assert ended.exit_code == 2, ended.stderr
    assert message in " ".join(ended.stderr.split())
