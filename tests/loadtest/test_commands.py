"""The command line; and every command of the README is one."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from loadtest import client, commands
from loadtest.bench import commands as bench
from loadtest.scenarios import SCENARIOS
from loadtest.soak import commands as soak
from tests.loadtest import sources
from tests.loadtest.fake import Fake

README = Path(commands.__file__).parent / "README.md"
MODULE = "python -m loadtest"


def readme_commands() -> list[str]:
    """Lines of its console blocks, without the prompt and the comment."""
    blocks = re.findall(r"```console\n(.*?)```", README.read_text().replace("\\\n", " "), re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [line.partition("  #")[0].strip() for line in lines]


@pytest.mark.parametrize("line", [line for line in readme_commands() if line.startswith(MODULE)])
def test_every_command_of_the_readme_can_be_parsed(line: str, tmp_path: Path) -> None:
    module, name, *rest = shlex.split(re.sub(r"\$\(.*?\)", "7", line))[2:]
    app, needed = {
        "loadtest": (commands.app, "url"),
        "loadtest.soak": (soak.app, "out"),
        "loadtest.bench": (bench.app, "out"),
    }[module]
    command = typer.main.get_group(app).commands[name]
    context = command.make_context(name, list(rest))
    assert context.params[{"compare": "first", "guard": "old"}.get(name, needed)] is not None


def test_the_readme_shows_every_scenario_and_nothing_unknown() -> None:
    lines = readme_commands()
    shown = {line.split()[3] for line in lines if line.startswith(f"{MODULE} ")}
    assert shown == {scenario.name for scenario in SCENARIOS} | {"compare"}
    assert {line.split()[0] for line in lines} <= {"python", "hetlm", "locust", "pip", "py-spy"}


@pytest.mark.parametrize("name", [scenario.name for scenario in SCENARIOS] + ["compare"])
def test_every_command_has_help(name: str) -> None:
    found = CliRunner().invoke(commands.app, [name, "--help"])
    assert found.exit_code == 0
    assert "--json" in found.stdout


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Instead of a network there is the small service."""
    fake = Fake()
    connect = client.connect
    monkeypatch.setenv("HETLM_QUIET", "1")
    monkeypatch.setattr("loadtest.run.connect", lambda url, key, _: connect(url, key, fake.transport))
    return fake


def invoke(*words: str) -> Any:
    return CliRunner().invoke(commands.app, list(words))


def test_a_run_in_real_time(service: Fake, tmp_path: Path) -> None:
    bundle = str(sources.bundle(tmp_path / "bundle"))
    results = [str(tmp_path / name) for name in ("a.json", "b.json")]
    base = ["steady", "--url", "http://127.0.0.1:1", "--bundle", bundle, "--rate", "20", "--seconds", "1"]
    first = invoke(*base, "--out", results[0], "--json")
    assert first.exit_code == 0, first.output
    document = json.loads(first.stdout)
    assert document["passed"]
    assert document["answers"]["correct"] == document["answers"]["accepted"] == len(service.asked)
    assert document["promise"].startswith("accepted requests answered correctly or refused honestly: ")
    second = invoke(*base, "--out", results[1])
    assert second.exit_code == 0
    assert document["promise"] in second.stdout
    compared = invoke("compare", *results, "--json")
    assert compared.exit_code == 0
    assert json.loads(compared.stdout)["same_plan"]
    assert "paired by tenths" in invoke("compare", *results).stdout


def test_a_service_that_does_not_hold_its_promise_ends_with_one(service: Fake, tmp_path: Path) -> None:
    service.change = lambda document, _: {**document, "pages": []} | {"user_id": "visitor-99"}
    bundle = str(sources.bundle(tmp_path / "bundle"))
    found = invoke("steady", "--url", "http://127.0.0.1:1", "--bundle", bundle, "--rate", "20", "--seconds", "0.5")
    assert found.exit_code == 1
    assert "FAILED" in found.stdout
    assert "another visitor's user_id" in found.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["steady", "--url", "127.0.0.1:8080"], "an address such as"),
        (["steady", "--url", "http://me:word@127.0.0.1"], "leave user and password out"),
        (["steady", "--url", "http://127.0.0.1:1", "--out", "/nowhere/a.json"], "/nowhere does not exist"),
        (["steady", "--url", "http://127.0.0.1:1", "--out", "/"], "is a directory"),
        (["steady", "--url", "http://127.0.0.1:1"], "no visitors: name a dataset"),
        (["engine-killed", "--url", "http://127.0.0.1:1"], "needs --kill-pid or --kill-command"),
        (["compare", "/nowhere/a.json", "/nowhere/b.json"], "/nowhere/a.json: No such file"),
    ],
)
def test_a_mistake_is_named(words: list[str], message: str) -> None:
    found = invoke(*words)
    assert found.exit_code == 2
    assert message in " ".join(found.stderr.split())
    assert "word" not in found.stderr.replace("password", "")


def test_nobody_there_is_told(tmp_path: Path) -> None:
    bundle = str(sources.bundle(tmp_path / "bundle"))
    found = invoke("steady", "--url", "http://127.0.0.1:1", "--bundle", bundle)
    assert found.exit_code == 2
    assert "is `hetlm serve` running there?" in " ".join(found.stderr.split())
