"""`hetlm prompt` against a real server on loopback, and what it refuses to send."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from browsing.hashing import file_sha256
from tests.training.datasets import write
from training.baselines.text.command import prompt
from training.evaluation.result import Evaluation
from training.evaluation.users import users_path

APP = typer.Typer(pretty_exceptions_enable=False)
APP.command()(prompt)


class Handler(BaseHTTPRequestHandler):
    """Repeats the user's last session; counts prompts and keys on the server."""

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = document["messages"][0]["content"].split("Learn from")[0]
        server = self.server
        assert isinstance(server, Server)
        server.prompts.append(text)
        server.keys.add(self.headers.get("authorization"))
        last = [line for line in text.splitlines() if line.startswith("[BOS] /")][-1]
        content = json.dumps({"choices": [{"message": {"content": last}, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests read stderr."""


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.prompts: list[str] = []
        self.keys: set[str | None] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("prompt") / "shop", train=30, held=12).root


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


def test_a_run_is_an_evaluation_like_any_other(server: Server, shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    common: tuple[str | Path, ...] = (shop, "--url", server.url, "--model", "echo", "--answers", tmp_path / "answers")
    common += ("--split", "select", "--resamples", "20")
    result = run(*common, "--users", "8", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    document = Evaluation.model_validate_json(out.read_text())
    assert json.loads(result.stdout)["combined"] == json.loads(out.read_text())["combined"]
    assert (document.method, document.combined.n, document.combined.loss) == ("text_zero_shot", 8, None)
    assert document.combined.pages.val_p == 1.0
    assert document.combined.pages.new_p == 0.0
    assert document.training["model"] == "echo"
    assert document.training["asked"] == 8
    assert document.users_sha256 == file_sha256(users_path(out))
    assert len(server.prompts) == 8
    assert server.keys == {None}

    again = run(*common, "--users", "12")
    assert again.exit_code == 0, again.output
    assert len(server.prompts) == 12
    assert "12 prompts: 4 asked now, 8 answered before" in again.stderr
    assert "Combined" in again.stdout


def test_a_key_comes_from_the_environment_alone(
    server: Server, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_KEY", "sk-secret")
    common = (shop, "--url", server.url, "--model", "echo", "--users", "2", "--resamples", "0")
    result = run(*common, "--key-env", "SHOP_KEY", "--answers", tmp_path)
    assert result.exit_code == 0, result.output
    assert server.keys == {"Bearer sk-secret"}
    assert "secret" not in result.output
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]


def test_no_history_leaves_the_machine_unasked(shop: Path, tmp_path: Path) -> None:
    result = run(shop, "--url", "https://llm.invalid/v1", "--model", "x", "--answers", tmp_path, "--shots", "3")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "llm.invalid" in result.stderr
    assert "--send-histories" in result.stderr
    assert "similar training users" in result.stderr
    assert not list(tmp_path.iterdir())


def test_it_is_said_when_they_do(shop: Path, tmp_path: Path) -> None:
    sent = ("--url", "http://llm.invalid/v1", "--model", "x", "--send-histories", "--attempts", "1", "--users", "1")
    result = run(shop, *sent, "--answers", tmp_path)
    assert result.exit_code == 2
    assert "leave this machine for llm.invalid, UNENCRYPTED" in result.stderr
    assert "ConnectError" in result.stderr


def test_mistakes_are_named(shop: Path, tmp_path: Path) -> None:
    endpoint = ("--url", "http://localhost:9/v1", "--model", "x")
    assert "no URL" in run(shop, "--url", "localhost", "--model", "x").stderr
    assert "no such directory" in run(tmp_path / "missing", *endpoint).stderr
    assert "a directory that exists" in run(shop, *endpoint, "--out", tmp_path / "no" / "run.json").stderr
    assert run(shop, *endpoint, "--users", "0").exit_code == 2
