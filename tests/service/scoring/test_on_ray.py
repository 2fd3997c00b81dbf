"""What the workers of a Ray cluster do, and what is said where they cannot; without Ray."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from browsing.bundle import Bundle
from browsing.hashing import file_sha256
from service.problems import ProblemError
from service.schemas import PredictOptions
from service.score_worker import ChunkScorer, Order
from service.scoring import on_ray
from service.scoring.on_ray import RayError, Refused, Score, Worker, connected, finished, let_end
from service.scoring.parts import Part, Parts
from service.scoring.results import Tally, schema
from service.scoring.rows import defaults_of
from service.settings import Settings
from tests.processes import until
from tests.service.scoring.building import BAD, dataset, documents, ndjson
from tests.service.scoring.test_score_command import AS_OF, ROOT, invoke, rounded, scored


@pytest.fixture
def order(root: Path, tmp_path: Path) -> Order:
    path = ndjson(tmp_path / "in", [*documents(24, seed=3), BAD])
    options = defaults_of(PredictOptions(seed=7, samples=8), datetime.fromisoformat(AS_OF))
    version = Bundle.load(root).manifest.version
    return Order(root, version, path, file_sha256(path), 10, options, Settings(log_level="warning"))


@pytest.fixture
def scorer(order: Order) -> Iterator[ChunkScorer]:
    made = ChunkScorer(order)
    yield made
    made.close()


def columns(order: Order) -> pa.Schema:
    return schema(tuple(Bundle.load(order.bundle).outcome_ids()))


def asked(chunk: int) -> pa.Table:
    return pa.table({"chunk": [chunk]})


def test_chunks_in_any_order_make_what_the_command_makes(order: Order, scorer: ChunkScorer, tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts", columns(order), 10, 25, order.version)
    assert parts.finished() == {}
    worker = Worker(lambda: scorer)
    for chunk in (2, 0, 1, 0):  # one of them twice, as after a worker's death
        for part in finished(worker(asked(chunk))):
            parts.keep(part)
    assert parts.finished() == {0: Tally(10), 1: Tally(10), 2: Tally(5, 1)}
    parts.assemble(tmp_path / "out.parquet", "parquet")
    flags = ("--seed", "7", "--samples", "8", "--as-of", AS_OF, "--chunk-rows", "10")
    scored(order.bundle, order.histories, "--out", tmp_path / "plain.parquet", *flags)
    found, plain = (pq.read_table(tmp_path / name) for name in ("out.parquet", "plain.parquet"))
    assert found.schema == plain.schema
    assert found.to_pylist() == rounded(plain.to_pylist())
    assert found.column("row").to_pylist() == list(range(25))


def test_chunks_with_a_gap_between_them_count(order: Order, scorer: ChunkScorer, tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts", columns(order), 10, 25, order.version)
    parts.finished()
    for chunk in (0, 2):
        parts.keep(scorer(chunk))
    (tmp_path / "parts" / "00000001.parquet").write_bytes(b"half")
    (tmp_path / "parts" / "other").touch()
    assert parts.finished() == {0: Tally(10), 2: Tally(5, 1)}
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["00000000.parquet", "00000002.parquet"]
    assert parts.resume() == Tally(10)


@pytest.mark.parametrize("what", ["bundle", "histories"])
def test_a_worker_that_finds_nothing_under_the_path_says_so(order: Order, tmp_path: Path, what: str) -> None:
    absent = tmp_path / "absent"
    mistaken = replace(order, bundle=absent) if what == "bundle" else replace(order, histories=absent)
    with pytest.raises(Refused) as caught:
        ChunkScorer(mistaken)
    assert str(caught.value).startswith(f"{absent}: is not there; every worker must find it under this path")


def test_a_worker_that_finds_something_else_says_so(order: Order) -> None:
    with pytest.raises(Refused, match="is another file than where the command was given"):
        ChunkScorer(replace(order, sha256="0" * 64))
    with pytest.raises(Refused, match="bundle"):
        ChunkScorer(replace(order, version="0" * 64))


def test_a_worker_that_cannot_begin_refuses_every_chunk_in_its_own_words() -> None:
    def make() -> Score:
        raise Refused("/bundle: is not there")

    worker = Worker(make)
    for chunk in (0, 1):
        with pytest.raises(RayError, match=r"a worker on .*: /bundle: is not there"):
            list(finished(worker(asked(chunk))))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ProblemError("broken-file", "The file ends after 7 rows."), "The file ends after 7 rows."),
        (PermissionError(13, "Permission denied", "/in"), "/in: Permission denied"),
        (ValueError("the page /zanzibar"), "failed: ValueError at "),
    ],
)
def test_an_error_comes_back_without_what_it_was_about(error: Exception, words: str) -> None:
    def score(chunk: int) -> Part:
        raise error

    def make() -> Score:
        raise error

    for worker in (Worker(lambda: score), Worker(make)):  # at a chunk, and at the start
        with pytest.raises(RayError) as caught:
            list(finished(worker(asked(0))))
        assert words in str(caught.value)
        assert "zanzibar" not in str(caught.value)


@pytest.mark.parametrize("address", ["ray://10.0.0.7:10001", "somewhere", ":6379", "10.0.0.7:ray", ""])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(RayError, match="not an address: local, auto, or host:port"), connected(address, print):
        pass


def test_a_cluster_that_is_not_there_is_missed(root: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        path = dataset(tmp_path / "in.parquet", documents(3))
        result = invoke(root, path, "--out", tmp_path / "out.parquet", "--ray", address)
    assert result.exit_code == 2
    assert f"error: --ray: {address}: no Ray cluster answers" in result.output
    assert "ray start --head" in result.output


def test_a_head_that_goes_is_missed_once_and_one_that_is_there_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "LOOK_SECONDS", 0.02)
    told: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        with on_ray.watched(address, told.append):
            for _ in range(3):
                head.accept()[0].close()
            assert told == []
            head.close()
            until(lambda: told, 60)
            time.sleep(0.2)
    assert told == [f"{address}: the head of the Ray cluster is gone. Ray ends this command if it stays away"]


def test_where_ray_is_not_installed_the_remedy_is_named(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(on_ray, "_QUIETLY", {})
    path = dataset(tmp_path / "in.parquet", documents(3))
    result = invoke(root, path, "--out", tmp_path / "out.parquet", "--ray", "auto")
    assert result.exit_code == 2
    assert "pip install 'hetlm[ray]'" in result.output


def test_without_the_flag_ray_is_not_imported(root: Path, tmp_path: Path) -> None:
    path = dataset(tmp_path / "in.parquet", documents(3))
    code = (
        "import sys, typer; from service.cli import register; app = typer.Typer(); register(app)\n"
        "app(standalone_mode=False); print('ray' in sys.modules)"
    )
    words = [sys.executable, "-c", code, "score", str(root), str(path), "--out", str(tmp_path / "out.parquet")]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "False\n"


def test_ray_ends_after_those_that_would_ask_it() -> None:
    gate, forever = threading.Event(), threading.Event()
    slow = threading.Thread(target=gate.wait, args=(60,), name="StreamingExecutor-dataset_1", daemon=True)
    other = threading.Thread(target=forever.wait, args=(60,), name="somebody", daemon=True)
    slow.start()
    other.start()
    let_end(0.0)
    assert slow.is_alive(), "nobody waits for longer than he was told to"
    threading.Timer(0.2, gate.set).start()
    let_end(60.0)
    assert not slow.is_alive()
    assert other.is_alive()
    forever.set()
