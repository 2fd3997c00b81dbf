"""The encoders' comparison: what counts as equal, who takes turns, and what the command refuses."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import typer
from typer.testing import CliRunner

from browsing.bundle import Bundle
from browsing.encoder import Vectors
from browsing.encoders.sbert import SbertEncoder
from loadtest.bench import alike
from loadtest.bench import encoder as bench
from loadtest.bench.document import Study
from loadtest.bench.encoder import Batch, Turn
from tests import tiny
from tests.tiny import TinyEncoder

HISTORIES = [
    [["/"], ["/", "/bags"]],
    [["/bags", "/cart"]],
    [["/shoes"], ["/"], ["/shoes"]],
]


class Noting(TinyEncoder):
    def __init__(self, name: str, log: list[tuple[str, int]]) -> None:
        self.name = name
        self.log = log

    def encode(self, sessions: Sequence[Sequence[str]]) -> Vectors:
        self.log.append((self.name, len(sessions)))
        return super().encode(sessions)


def ignored(_: float) -> None:
    pass


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command()(bench.encoder)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_equal_encoders_route_everybody_alike(tmp_path: Path) -> None:
    tiny.bundle(tmp_path)
    found = alike.routing(Bundle.load(tmp_path), HISTORIES, TinyEncoder(), TinyEncoder(), ignored)
    assert (found.users, found.equal, found.sessions) == (3, 3, 4)
    assert found.moved == 0
    assert found.least_cosine == pytest.approx(1)
    assert found.document()["share"] == 1
    assert found.figure().held is True


def test_both_encode_the_same_in_turns_that_are_reversed() -> None:
    log: list[tuple[str, int]] = []
    found = bench.speed(Noting("ours", log), Noting("peer", log), pages=2, rounds=2, seed=1, advance=ignored)
    assert [batch.size for batch in found] == list(bench.BATCHES)
    assert log[:2] == [("ours", 16), ("peer", 16)]
    expected = []
    for order in (("ours", "peer"), ("peer", "ours")):
        for batch in bench.BATCHES:
            for name in order:
                expected += [(name, batch)] * (bench.PER_TURN // batch)
    assert log[2:] == expected


def test_what_is_asked_for_is_throughput() -> None:
    """Twice as fast by the wall clock, and nothing saved by CPU time."""
    pairs = [(Turn(1.0, 2.0), Turn(2.0, 2.0)), (Turn(1.0, 2.0), Turn(2.2, 2.0))]
    throughput, cpu = bench.figures([Batch.of(16, pairs)])
    assert (throughput.key, throughput.limit, throughput.held) == ("throughput/16", 2.0, True)
    assert (cpu.key, cpu.limit, cpu.held) == ("cpu/16", None, None)
    assert throughput.value is not None
    assert throughput.value.median == pytest.approx(2.1)
    assert cpu.value is not None
    assert cpu.value.median == 1.0


def test_sessions_are_as_asked() -> None:
    made = bench.sessions(5, 8, random.Random(3))
    assert [len(pages) for pages in made] == [8] * 5
    assert all(page.count("/") == 3 for pages in made for page in pages)


def test_the_command_counts_a_dataset(tmp_path: Path) -> None:
    tiny.bundle(tmp_path / "bundle", encoder=SbertEncoder())
    (tmp_path / "data").mkdir()
    pl.DataFrame({"history": [*HISTORIES, []]}).write_parquet(tmp_path / "data/select.parquet")
    threads, files = torch.get_num_threads(), tmp_path / "out"
    words = ["--rounds", "1", "--pages", "1", "--threads", str(threads), "--json", "--out", str(files)]
    code, out, err = invoke("--bundle", tmp_path / "bundle", "--dataset", tmp_path / "data", *words)
    assert code == 0, err
    measured = Study.read(files / "encoder.json")
    assert measured.kind == "bench-encoder"
    assert measured.conditions == {"pages": 1, "threads": threads}
    expected = {f"{what}/{batch}" for what in ("throughput", "cpu") for batch in bench.BATCHES} | {"routing"}
    assert set(json.loads(out)["measured"]) == expected
    assert "throughput/64" in (files / "encoder.svg").read_text()
    document = measured.details
    assert document["routing"]["users"] == 3
    assert 0.9 < document["routing"]["least_cosine"] < 1
    assert [entry["batch"] for entry in document["batches"]] == [1, 16, 64]
    assert all(np.isfinite(entry["throughput_ratio"]["median"]) for entry in document["batches"])


def test_mistakes_are_named(tmp_path: Path) -> None:
    code, _, err = invoke("--bundle", tmp_path)
    assert code == 2
    assert "go together" in err
    tiny.bundle(tmp_path / "markov", encoder="markov")
    pl.DataFrame({"history": HISTORIES}).write_parquet(tmp_path / "select.parquet")
    code, _, err = invoke("--bundle", tmp_path / "markov", "--dataset", tmp_path)
    assert code == 2
    assert "does not read names" in err
    code, _, err = invoke("--bundle", tmp_path / "markov", "--dataset", tmp_path / "nowhere")
    assert code == 2
    assert "select.parquet" in err
