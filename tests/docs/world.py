"""The small world that blocks are run in: a simulated shop's log, what hetlm makes of it, and the project's own files.

It is made by the documents' own commands, on less (`rules.QUICK`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from browsing.bundle import Bundle, seal
from tests.docs.blocks import ROOT
from tests.docs.programs import NAMES
from tests.docs.warm import warm
from tests.training.lora.building import base

PROJECT = ("Makefile", "constraints.txt", "deploy", "docker", "loadtest", "pyproject.toml")
"""What a block finds of the project in its folder."""
VERSIONS = ("2026-10", "2026-11")
MADE: Mapping[str, tuple[str, ...]] = {
    "README.md": ("shop", "bundle"),
    "docs/your-log.md": ("shop", "bundle"),
}
"""What a document's own blocks make: it is not there when they begin."""
MAKE_A_BUNDLE = """
hetlm simulate --out log --preset tastes
hetlm ingest log/events.csv --format events --out shop
hetlm train shop --out bundle
"""
PATIENCE = 300.0


@dataclass(frozen=True, slots=True)
class World:
    """`root`: with `base`, which every document gets a copy of. `chat`: a port with a model of words behind it."""

    root: Path
    chat: int

    def environment(self) -> dict[str, str]:
        """Of every command: nothing of the tester's own settings, the stand-ins in front of the PATH, and a curl that
        ends with an error where the answer is one."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("HETLM_", "MAKE", "MFLAGS"))}
        path = own.get("PATH", os.defpath)
        return own | {
            "PATH": f"{self.root / 'bin'}:{path}",
            "DOCS_PATH": path,
            "DOCS_WARM": str(self.root / "warm"),
            "CURL_HOME": str(self.root),
            "HETLM_HOME": str(self.root / "home"),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "NO_COLOR": "1",
        }

    def folder(self, document: str) -> Path:
        """A fresh one for the document's blocks."""
        folder = self.root / "read" / document.replace("/", "-")
        shutil.copytree(self.root / "base", folder)
        for name in MADE.get(document, ()):
            shutil.rmtree(folder / name)
        for name in PROJECT:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "secrets"))
            else:
                shutil.copy(ROOT / name, folder / name)
        venv.create(folder / ".venv", symlinks=True)
        return folder


@contextmanager
def made(root: Path) -> Iterator[World]:
    """The world below `root`, for as long as this lasts."""
    (root / "bin").mkdir()
    (root / ".curlrc").write_text("fail-with-body\n")
    for name in NAMES:
        script = root / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{ROOT / "tests/docs/ask.py"}" {name} "$@"\n')
        script.chmod(0o755)
    with warm(root / "warm"), _chat() as port:
        world = World(root, port)
        _fill(world, root / "base")
        yield world


def _fill(world: World, folder: Path) -> None:
    folder.mkdir()
    command = ["bash", "-euc", MAKE_A_BUNDLE]
    done = subprocess.run(
        command, cwd=folder, env=world.environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    (folder / "export").mkdir()
    shutil.copy(folder / "log" / "events.csv", folder / "export" / "events.csv")
    shutil.rmtree(folder / "log")
    shutil.copy(folder / "shop" / "test.parquet", folder / "histories.parquet")
    shutil.copytree(folder / "bundle", folder / "demo")
    for version in VERSIONS:
        _version(folder / "bundle", folder / "bundles" / version)
    base(folder / "models" / "small")


def _version(bundle: Path, copy: Path) -> None:
    """The same bundle under another version: its first cluster has another name."""
    shutil.copytree(bundle, copy)
    manifest = Bundle.load(copy).manifest
    first, *rest = manifest.clusters
    seal(copy, manifest.model_copy(update={"clusters": (first.model_copy(update={"name": copy.name}), *rest)}))


class _Chat(BaseHTTPRequestHandler):
    """An OpenAI-compatible endpoint that always predicts the same session."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "[BOS] / /bags /bags/tote-mini [EOS]"}
        body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not onto the tests' output."""


@contextmanager
def _chat() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Chat) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
