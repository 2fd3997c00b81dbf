"""`hetlm deploy`, as it is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from service.cli import register
from service.deploying import compose
from service.security.key_file import read
from tests.service.deploying.conftest import Bundles

ROOT = Path(__file__).parents[3]


def hetlm(*words: object) -> Result:
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, ["deploy", *map(str, words)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "docker"
    made.mkdir()
    (made / compose.MAIN).write_text("services: {}\n")
    return made


def test_the_repository_has_what_the_command_writes_without_engines() -> None:
    for path, text in compose.files(ROOT / "docker", None).items():
        assert path.read_text() == text, "hetlm deploy compose --embedded"


def test_engines_are_written_and_taken_back(folder: Path, bundles: Bundles) -> None:
    done = hetlm("compose", bundles(3), "--folder", folder, "--json")
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["engines"], len(answer["kv_cache_bytes"])) == (3, 3)
    assert "docker compose --file" in done.stderr
    assert "engine-2" in (folder / compose.ENGINES).read_text()
    done = hetlm("compose", "--embedded", "--folder", folder)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "engine-2" not in (folder / compose.ENGINES).read_text()


def test_a_file_of_somebody_elses_stays(folder: Path, bundles: Bundles) -> None:
    (folder / compose.ENGINES).write_text("services: {}\n")
    done = hetlm("compose", bundles(1), "--folder", folder)
    assert done.exit_code == 2
    assert "was not written by" in done.stderr
    assert (folder / compose.ENGINES).read_text() == "services: {}\n"


def test_mistakes_are_named(folder: Path, bundles: Bundles, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    opened.mkdir()
    opened.chmod(0o755)
    overlay = ("kubernetes", bundles(1), "--out", tmp_path / "out", "--base", ROOT / "deploy" / "kubernetes")
    for words, message in (
        (("compose", "--folder", folder), "name a bundle, or --embedded"),
        (("compose", bundles(1), "--embedded", "--folder", folder), "name a bundle, or --embedded"),
        (("compose", bundles(1), "--folder", tmp_path), "run this in the project's folder"),
        (("compose", tmp_path, "--folder", folder), "is not a bundle"),
        (("kubernetes", bundles(1), "--out", tmp_path / "out", "--base", tmp_path), "no Kustomize base"),
        ((*overlay, "--folder", "../x"), "--folder ../x: a folder on"),
        ((*overlay, "--folder", "a b"), "--folder a b: a folder on"),
        (("secrets", "--folder", tmp_path / "s", "--redis", "redis://cache:6379"), "is no HOST:PORT, such as"),
        (("secrets", "--folder", tmp_path / "s", "--redis", "cache"), "--redis cache: is no HOST:PORT"),
        (("secrets", "--folder", tmp_path / "s", "--caller", "A B"), "--caller A B"),
        (("secrets", "--folder", folder / compose.MAIN), "docker-compose.yml: File exists"),
        (("secrets", "--folder", opened), "others can open it (its mode is 0755)"),
    ):
        done = hetlm(*words)
        assert done.exit_code == 2
        assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


def test_secrets_are_made_and_the_key_is_shown_once(tmp_path: Path) -> None:
    first = hetlm("secrets", "--folder", tmp_path / "secrets", "--caller", "newsletter")
    assert first.exit_code == 0, first.stderr
    assert first.stdout.startswith("hetlm_")
    assert set(read(tmp_path / "secrets" / "keys" / "keys.json").callers) == {"newsletter"}
    again = hetlm("secrets", "--folder", tmp_path / "secrets", "--json")
    assert json.loads(again.stdout) == {"folder": str(tmp_path / "secrets"), "key": None, "made": []}
    assert "nothing is missing" in " ".join(again.stderr.split())
