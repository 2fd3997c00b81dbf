"""The engine image's scripts: the entry point and the health check."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from deploy.engine import probe, serve

KEY = "the-key-of-the-engines"


class FakeEngine(BaseHTTPRequestHandler):
    """vLLM's two addresses; `tokens`: how many it says that it made."""

    tokens = 1
    asked: list[dict[str, Any]] = []  # noqa: RUF012  each test has a class of its own

    def do_GET(self) -> None:
        self._answer({"data": [{"id": "cluster-3"}]})

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.asked.append(json.loads(self.rfile.read(length)))
        self._answer({"usage": {"completion_tokens": self.tokens}} if self.tokens >= 0 else {})

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, document: dict[str, Any]) -> None:
        right = self.headers["Authorization"] == f"Bearer {KEY}"
        content = json.dumps(document).encode()
        self.send_response(200 if right else 401)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def engine() -> Iterator[tuple[type[FakeEngine], str]]:
    handler = type("Handler", (FakeEngine,), {"asked": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    monkeypatch.setenv("VLLM_API_KEY_FILE", str(path))
    return path


@pytest.mark.usefixtures("key_file")
def test_one_token_is_health(engine: tuple[type[FakeEngine], str]) -> None:
    handler, url = engine
    assert probe.main(url + "/") == 0
    (asked,) = handler.asked
    assert asked["model"] == "cluster-3"
    assert (asked["prompt"], asked["max_tokens"]) == ([probe.BOS], 1)


@pytest.mark.usefixtures("key_file")
@pytest.mark.parametrize(("tokens", "words"), [(0, "0 tokens instead of one"), (-1, "without what was asked for")])
def test_an_answer_without_a_token_is_none(
    engine: tuple[type[FakeEngine], str], tokens: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    handler, url = engine
    handler.tokens = tokens
    assert probe.main(url) == 1
    assert words in capsys.readouterr().err


def test_the_wrong_key_and_a_closed_port_are_no_health(
    engine: tuple[type[FakeEngine], str], key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file.write_text("another")
    assert probe.main(engine[1]) == 1
    assert probe.main("http://127.0.0.1:9") == 1
    assert KEY not in capsys.readouterr().err


def test_the_script_ends_with_the_code(engine: tuple[type[FakeEngine], str], key_file: Path) -> None:
    command = [sys.executable, "-I", probe.__file__, engine[1]]
    environment = {"VLLM_API_KEY_FILE": str(key_file)}
    assert subprocess.run(command, env=environment).returncode == 0
    key_file.unlink()
    gone = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (gone.returncode, "No such file" in gone.stderr) == (1, True)


def test_the_key_reaches_vllm_in_its_environment(key_file: Path) -> None:
    given = {"VLLM_API_KEY_FILE": str(key_file), "OMP_NUM_THREADS": "2"}
    assert serve.environment(given) == {"VLLM_API_KEY": KEY, "OMP_NUM_THREADS": "2"}
    assert serve.environment({"A": "1"}) == {"A": "1"}


def test_an_engine_without_its_key_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(" ")
    for path, words in ((tmp_path / "key", "is empty"), (tmp_path / "none", "No such file")):
        with pytest.raises(SystemExit, match=words):
            serve.environment({"VLLM_API_KEY_FILE": str(path)})


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        (["--host", "0.0.0.0", "--port", "8000"], "http://127.0.0.1:8000"),
        (["--port", "9", "--host", "127.5.0.14"], "http://127.5.0.14:9"),
        ([], "http://127.0.0.1:8000"),
    ],
)
def test_the_server_is_asked_where_it_listens(arguments: list[str], url: str) -> None:
    assert serve.address(arguments) == url


Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def started() -> Iterator[Start]:
    """Starts Python scripts; none outlives its test."""
    children: list[subprocess.Popen[bytes]] = []

    def start(script: str) -> subprocess.Popen[bytes]:
        children.append(subprocess.Popen([sys.executable, "-I", "-S", "-c", script], stdin=subprocess.DEVNULL))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.wait()


def test_the_end_of_vllm_is_the_end(started: Start) -> None:
    assert serve.watch(started("raise SystemExit(3)"), lambda: True, pause=60.0) == 3
    assert serve.watch(started("pass"), lambda: True, pause=60.0) == 0


def test_one_that_answered_and_does_not_any_more_is_ended(started: Start) -> None:
    news = iter([False, False, True, False, True, *[False] * serve.PATIENCE])
    child = started("import time; time.sleep(600)")
    assert serve.watch(child, lambda: next(news), pause=0.01) != 0
    assert child.poll() is not None
    assert next(news, None) is None, "asked as often as patience says"


def test_one_that_never_answered_is_still_starting(started: Start) -> None:
    asked = []

    def never() -> bool:
        asked.append(1)
        if len(asked) == 3 * serve.PATIENCE:
            child.kill()
            child.wait()
        return False

    child = started("import time; time.sleep(600)")
    assert serve.watch(child, never, pause=0.01) == -9
    assert len(asked) == 3 * serve.PATIENCE


@pytest.mark.usefixtures("key_file")
def test_it_asks_as_the_health_check_does(engine: tuple[type[FakeEngine], str]) -> None:
    assert serve.answers(engine[1])
    engine[0].tokens = 0
    assert not serve.answers(engine[1])


def test_the_script_passes_signals_on_and_the_code_back(tmp_path: Path, key_file: Path) -> None:
    """With a module of vLLM's name that tells what it was given."""
    folder = tmp_path.joinpath(*serve.MODULE.split(".")[:-1])
    folder.mkdir(parents=True)
    for package in (folder, *folder.relative_to(tmp_path).parents):
        (tmp_path / package / "__init__.py").touch()
    (folder / "api_server.py").write_text(
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print(sys.argv[1:], os.environ['VLLM_API_KEY'], 'VLLM_API_KEY_FILE' in os.environ, flush=True)\n"
        "time.sleep(600)\n"
    )
    environment = {"PYTHONPATH": str(tmp_path), "VLLM_API_KEY_FILE": str(key_file)}
    with subprocess.Popen(
        [sys.executable, serve.__file__, "--port", "9"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"['--port', '9'] {KEY} False\n"
        process.terminate()
        assert process.wait(60) == 7
