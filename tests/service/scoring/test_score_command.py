"""`hetlm score`: the server's answers without a server; interrupted, the same command goes on."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner, Result

from browsing.bundle import Bundle
from browsing.encoders.of_bundle import encoder_of
from browsing.engines.local import LocalEngine
from service.app import build
from service.cache.memory import MemoryStore
from service.cli import register
from service.scoring.resume import Unfinished
from service.settings import Settings
from tests.service.scoring.building import BAD, dataset, documents, ndjson
from tests.service.scoring.test_parts import largest_file

ROOT = Path(__file__).parents[3]
AS_OF = "2026-12-01T00:00:00Z"


def invoke(*words: str | Path) -> Result:
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, ["score", *map(str, words)], env={"COLUMNS": "300"})


def scored(*words: str | Path) -> dict[str, Any]:
    result = invoke(*words, "--json")
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def rounded(rows: list[dict[str, Any]]) -> Any:
    """Beside other rows the engine's float sums round in another way."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(member) for name, member in value.items()}
        if isinstance(value, list):
            return [plain(member) for member in value]
        return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value

    return plain(rows)


def test_the_rows_are_what_predict_answers(root: Path, tmp_path: Path) -> None:
    rows = documents(8, seed=2)
    rows.insert(5, BAD)
    flags = ["--seed", "7", "--samples", "32", "--tolerance", "0.3", "--top-pages", "3", "--decode", "greedy"]
    flags += ["--as-of", AS_OF]
    told = scored(root, ndjson(tmp_path / "in", rows), "--out", tmp_path / "out.parquet", *flags)
    assert (told["rows"], told["failed"], told["fallbacks"], told["resumed_rows"]) == (9, 1, 0, 0)
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    bundle = Bundle.load(root)
    options = {"seed": 7, "samples": 32, "tolerance": 0.3, "top_pages": 3, "decode": "greedy", "as_of": AS_OF}

    async def singles() -> list[dict[str, Any]]:
        engine = LocalEngine(bundle.predictors())
        service = build(Settings(), bundle, engine, encoder_of(bundle), MemoryStore(), stream=io.StringIO())
        async with service.app.router.lifespan_context(service.app):
            await service.health.started()
            transport = httpx.ASGITransport(service.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                answers = [await client.post("/predict", json={**row, "options": options}) for row in rows]
        return [answer.json() for answer in answers]

    for row, single in zip(found, asyncio.run(singles()), strict=True):
        if row["problem"] is not None:
            assert json.loads(row["problem"])["errors"] == single["errors"]
            continue
        assert (row["user_id"], row["next_session"], row["fallback"], row["bundle_version"]) == (
            single["user_id"], single["next_session"], single["fallback"], single["bundle_version"],
        )  # fmt: skip
        assert row["pages"] == rounded(
            [{n: p[n] for n in ("page", "probability", "seen_before")} for p in single["pages"]]
        )
        for name, outcome in single["outcomes"].items():
            low, high = outcome.pop("interval")
            assert row[f"outcome_{name}"] == rounded([{**outcome, "low": low, "high": high}])[0]
    assert sum(row["problem"] is None for row in found) == 8


def test_interrupted_the_same_command_goes_on_to_the_same_result(root: Path, tmp_path: Path) -> None:
    path = dataset(tmp_path / "in.parquet", documents(300, seed=4))
    flags = ("--chunk-rows", "20", "--as-of", AS_OF, "--concurrency", "2")
    scored(root, path, "--out", tmp_path / "whole.ndjson", *flags)
    out = tmp_path / "out.ndjson"
    code = "import typer; from service.cli import register; app = typer.Typer(); register(app); app()"
    words = [sys.executable, "-c", code, "score", str(root), str(path), "--out", str(out), *flags]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "300"})
    until = time.monotonic() + 300
    while not (tmp_path / "out.ndjson.work" / "parts" / "00000002.parquet").exists():
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "the same command goes on" in errors
    assert not out.exists()
    told = scored(root, path, "--out", out, *flags)
    assert told["rows"] == 300
    assert told["resumed_rows"] % 20 == 0
    assert 60 <= told["resumed_rows"] < 300
    whole, found = (
        [json.loads(line) for line in file.read_text().splitlines()] for file in (tmp_path / "whole.ndjson", out)
    )
    assert [row["row"] for row in found] == list(range(300))
    assert found == rounded(whole)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.parquet", "out.ndjson", "whole.ndjson"]


def test_a_full_disk_is_said_and_what_was_done_is_kept(root: Path, tmp_path: Path) -> None:
    path, out = ndjson(tmp_path / "in", documents(200)), tmp_path / "out.parquet"
    with largest_file(18_000):  # room for a chunk of twenty rows, none for the whole result
        result = invoke(root, path, "--out", out, "--chunk-rows", "20")
    assert result.exit_code == 2, result.output
    assert "the disk is full; make room, and the same command goes on" in result.output
    assert not out.exists()
    told = scored(root, path, "--out", out, "--chunk-rows", "20")
    assert (told["rows"], told["resumed_rows"]) == (200, 200)


@pytest.mark.parametrize("change", ["input", "options", "chunks", "nothing"])
def test_what_changed_begins_afresh_and_says_so(root: Path, tmp_path: Path, change: str) -> None:
    path, out = ndjson(tmp_path / "in", documents(200)), tmp_path / "out.parquet"
    with largest_file(18_000):
        assert invoke(root, path, "--out", out, "--chunk-rows", "20").exit_code == 2
    flags = ["--chunk-rows", "30" if change == "chunks" else "20"]
    if change == "input":
        ndjson(path, documents(200, seed=1))
    if change == "options":
        flags += ["--seed", "1"]
    result = invoke(root, path, "--out", out, *flags, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["resumed_rows"] == (200 if change == "nothing" else 0)
    assert ("starting afresh" in result.stderr) == (change != "nothing")
    assert pq.read_table(out).num_rows == 200


def test_one_process_at_a_time_writes_a_result(root: Path, tmp_path: Path) -> None:
    path, out = ndjson(tmp_path / "in", documents(2)), tmp_path / "out.parquet"
    with Unfinished.of(out).held():
        result = invoke(root, path, "--out", out)
    assert result.exit_code == 2
    assert "another process" in result.output
    assert scored(root, path, "--out", out)["rows"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "out.csv"], "--out out.csv: its name must end in .parquet"),
        (["--out", "out.parquet", "--as-of", "yesterday"], "--as-of:"),
        (["--out", "out.parquet", "--as-of", "2026-12-01T00:00:00"], "--as-of:"),
    ],
)
def test_a_mistake_is_named(root: Path, tmp_path: Path, words: list[str], message: str) -> None:
    result = invoke(root, ndjson(tmp_path / "in", documents(1)), *words)
    assert result.exit_code == 2
    assert message in result.output


def test_an_input_or_a_bundle_that_cannot_be_read_is_named(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = ndjson(tmp_path / "in", documents(5)), tmp_path / "out.parquet"
    assert "absent" in invoke(root, tmp_path / "absent", "--out", out).output
    assert "manifest.json" in invoke(tmp_path, path, "--out", out).output
    (tmp_path / "empty").touch()
    assert "no row" in invoke(root, tmp_path / "empty", "--out", out).output
    monkeypatch.setenv("HETLM_BATCH_MAX_ROWS", "4")
    monkeypatch.setenv("HETLM_HOST", "0.0.0.0")  # what only a server needs is none of its business
    result = invoke(root, path, "--out", out)
    assert result.exit_code == 2
    assert "more than 4 rows" in result.output
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["empty", "in"]
