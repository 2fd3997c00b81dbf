"""Goes through a document as its reader would: types every command, keeps services running, compares what it says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import httpx
import promql_parser

from tests.docs import rules
from tests.docs.blocks import ROOT, Block, Command, commands
from tests.docs.shape import misshapen
from tests.docs.world import PATIENCE, World
from tests.processes import free_port, listens, until
from tests.service.redis_server import RedisServer

HISTORY = [{"started_at": "2026-11-01T10:00:00Z", "pages": ["/", "/bags", "/bags/tote-mini"]}]
WORDS_MODEL = "docs/text-llm.md"
"""Where port 8000 is that of a model of words."""
METRICS = re.compile(r"hetlm_\w+?(?=(?:_bucket|_sum|_count)?\b)")


@dataclass
class Reader:
    """`values`: variables of later commands. `services`: running, by the port that the document has for them."""

    world: World
    document: str
    folder: Path
    values: dict[str, str] = field(default_factory=dict)
    services: dict[int, subprocess.Popen[str]] = field(default_factory=dict)
    ports: dict[int, int] = field(default_factory=dict)
    came: str = ""

    def __post_init__(self) -> None:
        self.ports = {port: free_port() for port in rules.PORTS}
        if self.document == WORDS_MODEL:
            self.ports |= {8000: self.world.chat, 8191: self.world.chat}
        if self.document in rules.SERVICE_FIRST:
            self.serve(Command(self.document, 0, rules.SERVICE_FIRST[self.document]))

    def close(self) -> None:
        for port in list(self.services):
            self.stop(port)

    def read(self, block: Block) -> None:
        """Whatever is to be done with a block of this language. Raises `AssertionError` where it does not hold."""
        how: Mapping[str, Callable[[Block], None]] = {
            "console": self.shell,
            "sh": self.shell,
            "json": self.answer,
            "sql": self.query,
            "promql": self.expressions,
            "redis": self.redis,
            "text": self.drawing,
        }
        assert block.language in how, f"{block.place}: nothing here reads {block.language or 'a block of no language'}"
        how[block.language](block)

    def shell(self, block: Block) -> None:
        self.came = ""
        for command in commands(block):
            self.command(command)

    def command(self, command: Command) -> None:
        apart = rules.of(rules.APART, command)
        if apart is None and re.match(r"(\w+=\S+ )*hetlm serve\b", command.text):
            self.serve(command)
            return
        until = rules.of(rules.UNTIL, command)
        end = time.monotonic() + PATIENCE
        while True:
            code, said = self.bash(command, apart.how if apart else "run")
            if until is None or (code == 0 and until.holds in said) or time.monotonic() > end:
                break
            time.sleep(0.2)
        assert code == 0, f"{command.place}: {command.text}\nended with {code}:\n{said[-4000:]}"
        assert until is None or until.holds in said, f"{command.place}: {until.holds} does not come: {said}"
        if apart is None and command.output:
            assert self.came.split() == command.output.split(), f"{command.place}: {self.came}"
        copied = rules.of(rules.COPIED, command)
        if copied is not None:
            found = re.search(copied.pattern, said)
            assert found, f"{command.place}: no {copied.variable} in what it says: {said}"
            self.values[copied.variable] = found[1]
        then = rules.of(rules.THEN, command)
        if then is not None:
            self.serve(Command(command.document, command.line, then.serve))

    def bash(self, command: Command, how: str) -> tuple[int, str]:
        """Its exit code and everything that it says; what came on its standard output alone stays in `came`."""
        options = "-neuc" if how == "read" else "-euc"
        done = subprocess.run(
            ["bash", "-o", "pipefail", options, self.here(command.text)],
            cwd=self.folder,
            env=self.environment() | {"DOCS_HOW": how},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.came = done.stdout
        return done.returncode, f"{done.stdout}\n{done.stderr}"

    def environment(self) -> dict[str, str]:
        return self.world.environment() | {"HETLM_PORT": str(self.ports[8080]), "HETLM_METRICS_PORT": "0"} | self.values

    def here(self, text: str) -> str:
        """The command with this machine's ports."""
        return re.sub(r"\b\d{4}\b", lambda found: str(self.ports.get(int(found[0]), found[0])), text)

    def serve(self, command: Command) -> None:
        """Start a service, as in a terminal of its own; one on the same port is stopped first."""
        named = re.search(r"--port (\d+)", command.text)
        port = int(named[1]) if named else 8080
        self.stop(port)
        log = self.folder / f"service-{port}.log"
        with log.open("w") as said:
            self.services[port] = subprocess.Popen(
                ["bash", "-euc", self.here(command.text)],
                cwd=self.folder,
                env=self.environment() | {"DOCS_HOW": "run"},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                text=True,
                start_new_session=True,
            )
        end = time.monotonic() + PATIENCE
        while not _ready(self.ports[port]):
            ended = self.services[port].poll() is not None or time.monotonic() > end
            assert not ended, f"{command.place}: {command.text}\ndoes not serve:\n{log.read_text()[-4000:]}"
            time.sleep(0.1)

    def stop(self, port: int) -> None:
        running = self.services.pop(port, None)
        if running is not None:
            os.killpg(running.pid, signal.SIGTERM)
            running.wait(PATIENCE)
            until(lambda: not listens(self.ports[port]), PATIENCE)

    def answer(self, block: Block) -> None:
        """An answer has the form of the one that came back above it, or else of one to a visitor like any other."""
        shown = json.loads(block.text)
        wrong = misshapen(shown, json.loads(self.came) if self.came.startswith("{") else self.any_answer())
        assert not wrong, f"{block.place}: not as the service answers: {wrong}"

    def any_answer(self) -> Any:
        return (
            httpx.post(f"{self.url()}/predict", json={"sessions": HISTORY}, timeout=PATIENCE).raise_for_status().json()
        )

    def url(self) -> str:
        """Of the service on port 8080; started if the document has not done so."""
        if 8080 not in self.services:
            self.serve(Command(self.document, 0, "hetlm serve bundle"))
        return f"http://127.0.0.1:{self.ports[8080]}"

    def query(self, block: Block) -> None:
        """On the files that the commands above have left."""
        with duckdb.connect() as connection:
            connection.execute(f"SET file_search_path = '{self.folder}'")
            connection.sql(block.text).fetchall()

    def expressions(self, block: Block) -> None:
        """Each can be parsed as Prometheus does, and asks for metrics that docs/monitoring.md has."""
        known = set(METRICS.findall((ROOT / "docs" / "monitoring.md").read_text()))
        for expression in re.split(r"\n(?=[^\s)])", block.text.strip()):
            promql_parser.parse(expression)
            unknown = set(METRICS.findall(expression)) - known
            assert not unknown, f"{block.place}: no such metrics: {unknown}"

    def redis(self, block: Block) -> None:
        """A real Redis takes every line."""
        server = RedisServer(self.folder)
        server.start()
        try:
            with server.client() as client:
                for line in block.text.splitlines():
                    client.execute_command(*line.split())
        finally:
            server.remove()

    def drawing(self, block: Block) -> None:
        known = any(block.document == document and block.text.startswith(begins) for document, begins in rules.DRAWINGS)
        assert known, f"{block.place}: a block that nothing runs; if it is a drawing, list it in rules.DRAWINGS"


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5.0).status_code == 200
    except httpx.HTTPError:
        return False
