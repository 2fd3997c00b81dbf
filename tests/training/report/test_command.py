"""`hetlm report`, and the documents it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from browsing.bundle import verify
from tests import tiny
from tests.training.report.conftest import Place
from tests.training.report.stories import RECORDS, RUN
from training.report.command import report

APP = typer.Typer()
APP.command()(report)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(APP, [str(a) for a in arguments])


def test_it_writes_one_page_and_one_line(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    result = run(place.bundle, place.own, place.shared, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    [line] = result.stdout.splitlines()
    document = json.loads(line)
    assert document["results"] == 2
    assert document["bytes"] == out.stat().st_size
    assert document["version"] == verify(place.bundle).version
    assert "absent" not in document["sections"]
    assert list(tmp_path.iterdir()) == [out]


def test_the_bundle_alone_is_enough(place: Place, tmp_path: Path) -> None:
    result = run(place.bundle, "--out", tmp_path / "r.html", "--json")
    assert result.exit_code == 0, result.output
    assert "absent" in json.loads(result.stdout)["sections"]


def test_a_runs_log_replaces_the_bundles(place: Place, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    changed = [{**r, "rules": {"selector": 9.125}} if r["stage"] == "rules" else r for r in RECORDS]
    log.write_text("".join(json.dumps(record) + "\n" for record in changed))
    assert run(place.bundle, "--run", tmp_path, "--out", tmp_path / "r.html").exit_code == 0
    assert "9.125" in (tmp_path / "r.html").read_text()
    log.write_text('{"epoch": 1}\n')
    broken = run(place.bundle, "--run", tmp_path, "--out", tmp_path / "r.html")
    assert broken.exit_code == 2
    assert "has no stage" in broken.stderr.replace("\n", " ")


def test_times_come_from_the_run_that_made_the_bundle(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HETLM_HOME", str(tmp_path))
    assert run(place.bundle, "--out", tmp_path / "r.html").exit_code == 0
    assert "How long it took is not in the bundle" in (tmp_path / "r.html").read_text()
    (tmp_path / "runs" / RUN).mkdir(parents=True)
    log = tmp_path / "runs" / RUN / "log.jsonl"
    # Whatever else that run may have become since: its times alone are taken.
    log.write_text("".join(json.dumps({**record, "rules": {"selector": 9.125}}) + "\n" for record in RECORDS))
    assert run(place.bundle, "--out", tmp_path / "r.html").exit_code == 0
    page = (tmp_path / "r.html").read_text()
    assert "Cost: 12 s for 1 epoch; pretraining on the log took 12 s." in page
    assert "9.125" not in page


def test_results_of_another_bundle_are_refused(place: Place, tmp_path: Path) -> None:
    tiny.bundle(tmp_path / "other", seed=3)
    result = run(tmp_path / "other", place.own, "--out", tmp_path / "r.html")
    assert result.exit_code == 2
    assert "none of the results measures this bundle" in result.stderr.replace("\n", " ")
    assert not (tmp_path / "r.html").exists()


def test_results_about_other_users_are_refused(place: Place, tmp_path: Path) -> None:
    document = json.loads(place.shared.read_text())
    document["dataset_sha256"] = "f" * 64
    (tmp_path / "foreign.json").write_text(json.dumps(document))
    result = run(place.bundle, place.own, tmp_path / "foreign.json", "--out", tmp_path / "r.html")
    assert result.exit_code == 2
    assert "different users" in result.stderr.replace("\n", " ")


def test_values_of_another_result_are_refused(place: Place, tmp_path: Path) -> None:
    shutil.copy(place.own, tmp_path / "own.json")
    shutil.copy(place.root / "shared.users.parquet", tmp_path / "own.users.parquet")
    result = run(place.bundle, tmp_path / "own.json", "--out", tmp_path / "r.html")
    assert result.exit_code == 2
    assert "own.users.parquet" in result.stderr.replace("\n", "")


def test_a_result_without_values_per_user_is_told_of_without_differences(place: Place, tmp_path: Path) -> None:
    shutil.copy(place.shared, tmp_path / "lonely.json")
    result = run(place.bundle, place.own, tmp_path / "lonely.json", "--out", tmp_path / "r.html")
    assert result.exit_code == 0, result.output
    assert "cannot be compared user by user" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [("[1]", "neither a result of"), ("{", "no JSON document"), ('{"a": 1}', "is no result of")],
)
def test_a_document_of_another_kind_is_named(place: Place, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.json").write_text(content)
    result = run(place.bundle, tmp_path / "x.json", "--out", tmp_path / "r.html")
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")


def test_places_that_cannot_be(place: Place, tmp_path: Path) -> None:
    for arguments, message in (
        ((place.bundle, "--out", tmp_path), "is a directory"),
        ((place.bundle, "--out", tmp_path / "no" / "r.html"), "does not exist"),
        ((tmp_path, "--out", tmp_path / "r.html"), "is not a bundle"),
        ((place.bundle, "--run", tmp_path, "--out", tmp_path / "r.html"), "no log.jsonl"),
        ((place.bundle, tmp_path / "none.json", "--out", tmp_path / "r.html"), "No such file"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert message in result.stderr.replace("\n", " ")
