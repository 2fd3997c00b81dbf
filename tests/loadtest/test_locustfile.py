"""The locustfile with Locust itself where it is installed, and with the little of it that the file uses."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import pytest

from service.schemas import PredictRequest
from tests.loadtest import sources
from tests.loadtest.fake import Document, Fake


@dataclass
class Answered:
    """What `catch_response=True` gives."""

    status_code: int
    headers: dict[str, str]
    content: bytes
    request_meta: dict[str, Any]
    failures: list[str] = field(default_factory=list)
    successes: int = 0
    error: Exception | None = None

    def success(self) -> None:
        self.successes += 1

    def failure(self, why: str) -> None:
        self.failures.append(why)


@dataclass
class Client:
    """As Locust's: blocking."""

    fake: Fake
    headers: dict[str, str] = field(default_factory=dict)
    answered: list[Answered] = field(default_factory=list)
    gone: bool = False

    def get(self, path: str) -> httpx.Response:
        return self._ask("GET", path)

    @contextmanager
    def post(self, path: str, *, data: bytes, headers: dict[str, str], catch_response: bool) -> Iterator[Answered]:
        assert catch_response
        if self.gone:
            own = Answered(0, {}, b"", {}, error=ConnectionRefusedError())
        else:
            got = self._ask("POST", path, content=data, headers=headers)
            named = {name.title(): value for name, value in got.headers.items()}
            own = Answered(got.status_code, named, got.content, {"name": path})
        self.answered.append(own)
        yield own

    def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=self.fake.transport, base_url="http://service") as client:
                return await client.request(method, path, **request)

        return asyncio.run(ask())


class HttpUser:
    environment: SimpleNamespace
    client: Client


def standing_in() -> ModuleType:
    """Locust, as far as the file uses it."""
    listeners: list[Callable[[argparse.ArgumentParser], None]] = []
    module = ModuleType("locust")
    parsers = SimpleNamespace(add_listener=listeners.append)
    vars(module).update(
        HttpUser=HttpUser,
        task=lambda function: function,
        constant_throughput=lambda rate: rate,
        events=SimpleNamespace(init_command_line_parser=parsers),
        listeners=listeners,
    )
    return module


@pytest.fixture
def locust(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = standing_in()
    monkeypatch.setitem(sys.modules, "locust", module)
    monkeypatch.delitem(sys.modules, "loadtest.locustfile", raising=False)
    return module


@pytest.fixture
def user(locust: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("HETLM_API_KEY", "a-key")
    locustfile = importlib.import_module("loadtest.locustfile")
    parser = argparse.ArgumentParser()
    locust.listeners[0](parser)
    bundle = sources.bundle(tmp_path / "bundle")
    made = locustfile.Visitors()
    made.environment = SimpleNamespace(parsed_options=parser.parse_args(["--bundle", str(bundle), "--visitors", "9"]))
    made.client = Client(Fake())
    made.on_start()
    yield made
    monkeypatch.delitem(sys.modules, "loadtest.locustfile")


def test_the_file_compiles() -> None:
    path = Path(__file__).parents[2] / "loadtest" / "locustfile.py"
    compile(path.read_text(), str(path), "exec")


def test_its_task_sends_requests_that_the_service_takes(user: Any) -> None:
    for _ in range(5):
        user.predict()
    bodies = [json.dumps(document).encode() for document in user.client.fake.asked]
    assert len([PredictRequest.model_validate_json(body) for body in bodies]) == 5
    assert [(own.successes, own.failures) for own in user.client.answered] == [(1, [])] * 5
    assert {own.request_meta["name"] for own in user.client.answered} == {"/predict"}
    assert user.client.headers == {"Authorization": "Bearer a-key"}


def test_its_task_checks_the_answers(user: Any) -> None:
    def mixed_up(document: Document, _: int) -> Document:
        return {**document, "user_id": "visitor-99"}

    user.client.fake = Fake(change=mixed_up)
    user.predict()
    user.client.fake = Fake(refuse=lambda _: True)
    user.predict()
    user.client.gone = True
    user.predict()
    wrong, refused, gone = user.client.answered
    assert wrong.failures == ["another visitor's user_id"]
    assert (refused.successes, refused.request_meta["name"]) == (1, "/predict overloaded")
    assert gone.failures == ["no answer (ConnectionRefusedError)"]
