"""A whole run, small: services with one cluster and with two, an engine alone, and the peer around
`transformers.generate`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest.bench.commands import app
from loadtest.bench.document import Report
from tests.loadtest.bench import making


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HETLM_QUIET", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_a_run(tmp_path: Path) -> None:
    data, out = making.dataset(tmp_path / "dataset"), tmp_path / "bench"
    words = ["peers", "--quick", "--dataset", str(data), "--out", str(out), "--peers", "transformers"]
    result = CliRunner().invoke(app, [*words, "--parts", "engine,clusters", "--threads", "1"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    report = Report.read(out / "bench.json")
    assert told["report"] == str(out / "bench.json")
    assert set(told["measured"]) == {figure.key for figure in report.figures}
    assert {"one/transformers", "crowd/transformers", "arithmetic", "clusters/2/throughput"} <= set(told["measured"])
    for figure in report.figures:
        assert figure.value is not None
        assert figure.value.median > 0 or figure.unit == "ms"
    assert [product.round for product in report.products] == [0, 1]
    played = {(side.comparison, side.subject, side.concurrency): side for side in report.sides}
    assert set(played) == {
        (comparison, subject, concurrency)
        for comparison, subjects in (("transformers", ("K=2", "transformers")), ("clusters", ("K=1", "K=2")))
        for subject in subjects
        for concurrency in (1, 4)
    } | {("engine", subject, 4) for subject in ("K=2", "engine", "engine and estimates")}
    assert all(side.cpu > 0 for side in report.sides if side.concurrency == 4)
    assert {name: shape.clusters for name, shape in report.conditions.subjects.items()} == {
        "K=1": 1,
        "K=2": 2,
        "transformers": 2,
        "engine": 2,
        "engine and estimates": 2,
    }
    assert report.conditions.subjects["K=1"].parameters == report.conditions.subjects["K=2"].parameters
    assert "secret" not in (out / "bench.json").read_text() + (out / "workload.json").read_text()
    assert "/page-1" not in (out / "bench.json").read_text()
    assert (out / "bench.svg").is_file()
    assert "| figure | measured | at least | held |" in result.stdout


def test_mistakes_are_named(tmp_path: Path) -> None:
    for words, message in (
        (["--size", "huge"], "--size huge: choose from demo, small"),
        (["--clusters", "0,1"], "--clusters 0,1: numbers from 1 on"),
        (["--peers", "somebody"], "--peers somebody: choose from transformers, vllm, vllm-documented, none"),
        (["--peers", "none", "--parts", "none"], "nothing is left to measure"),
        (["--dataset", str(tmp_path)], "is no test split"),
        (["--bundle", str(tmp_path)], "config.json"),
    ):
        result = CliRunner().invoke(app, ["peers", "--out", str(tmp_path / "out"), *words])
        assert result.exit_code == 2, words
        assert message in " ".join(result.stderr.split())
