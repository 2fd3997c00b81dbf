"""`hetlm score --ray` on a real Ray: whatever becomes of its workers, the result is that of the command without it."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from browsing.bundle import Bundle
from browsing.hashing import file_sha256
from tests import tiny
from tests.processes import alive, descendants, free_port, listens, until
from tests.service.scoring.building import BAD, dataset, documents, ndjson
from tests.service.scoring.test_score_command import ROOT

ROWS, CHUNK = 300, 20
SECRET = "zanzibar"
FLAGS = f"--chunk-rows {CHUNK} --concurrency 1 --threads 1 --seed 7 --samples 8 --as-of 2026-12-01T00:00:00Z".split()
ALONE = {"HETLM_PROBE_SECONDS": "300", "COLUMNS": "300"}
"""With nothing beside a row in the engine's batches, results are equal to the last bit."""
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
PATIENCE = 300.0


@dataclass(frozen=True, slots=True)
class Shop:
    """`plain`: the result of `histories` without Ray."""

    bundle: Path
    histories: Path
    plain: Path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Visitors whose names and pages must not get into any log; one of them is refused."""
    root = tmp_path_factory.mktemp("shop")
    tiny.bundle(root / "bundle", encoder="markov")
    rows = documents(ROWS - 1, seed=4)
    for number, row in enumerate(rows):
        row["user_id"] = f"{SECRET}-{number}"
        for session in row["sessions"]:
            session["pages"].append(f"/account/{SECRET}")
    rows.insert(33, BAD | {"user_id": f"{SECRET}-bad"})
    histories = dataset(root / "in.parquet", rows, row_group=100)
    command(root / "bundle", histories, root / "plain.parquet").communicate(timeout=PATIENCE)
    return Shop(root / "bundle", histories, root / "plain.parquet")


@pytest.fixture(scope="module")
def head() -> Iterator[tuple[str, Path]]:
    """A Ray of this test alone with room for two workers: its address, and its folder with the logs."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:  # short: it has sockets in it
        port = free_port()
        words = ["start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2"]
        words += [f"--temp-dir={folder}", "--include-dashboard=false", "--object-store-memory=200000000"]
        process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *words],
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", **TOKEN},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with ended(process, 1):
            raylet = Path(folder) / "session_latest" / "logs" / "raylet.out"
            until(lambda: listens(port) and raylet.exists(), PATIENCE)
            yield f"127.0.0.1:{port}", Path(folder)


def command(bundle: Path, histories: Path, out: Path, *flags: str, **env: str) -> subprocess.Popen[str]:
    code = (
        "import signal, typer; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from service.cli import register; app = typer.Typer(); register(app); app()"
    )
    words = [sys.executable, "-c", code, "score", str(bundle), str(histories), "--out", str(out), *FLAGS, *flags]
    return subprocess.Popen(
        words,
        cwd=ROOT,
        env={**os.environ, **ALONE, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def ended(process: subprocess.Popen[str] | subprocess.Popen[bytes], seconds: float = 60) -> Iterator[None]:
    """At the end of the block nothing of it is left, whatever happens in between. `seconds`: that it has for its end; a
    Ray head would wait for half a minute."""
    try:
        yield
    finally:
        children = descendants(process.pid)
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with suppress(TimeoutError):
            until(lambda: not alive(children), 1)
        for pid in alive(children):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def workers(processes: Iterable[int]) -> dict[int, bool]:
    """Those that hold a bundle each, and whether they are at a chunk just now: Ray says so in their names."""
    found = {}
    for pid in processes:
        with suppress(OSError):
            name = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"MapWorker" in name:
                found[pid] = b".submit" in name
    return found


def chunks(out: Path) -> int:
    """That are finished."""
    return len(list((out.parent / f"{out.name}.work" / "parts").glob("*.parquet")))


def test_a_worker_is_killed_and_the_result_is_the_same(shop: Shop, head: tuple[str, Path], tmp_path: Path) -> None:
    (address, folder), out = head, tmp_path / "out.parquet"
    raylet = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal() and is_raylet(path, folder)]
    assert len(raylet) == 1
    process = command(shop.bundle, shop.histories, out, "--ray", address, "--json", **TOKEN)
    with ended(process):
        until(
            lambda: process.poll() is not None or (chunks(out) >= 1 and any(workers(descendants(raylet[0])).values())),
            PATIENCE,
        )
        assert process.poll() is None, process.communicate()
        before = workers(descendants(raylet[0]))
        assert len(before) == 2
        os.kill(next(pid for pid, busy in before.items() if busy), signal.SIGKILL)
        assert chunks(out) < ROWS // CHUNK - 2, "it was nearly over already"
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert pq.read_table(out).equals(pq.read_table(shop.plain))
    found = pq.read_table(out)
    assert found.column("row").to_pylist() == list(range(ROWS))
    assert [row for row, problem in enumerate(found.column("problem").to_pylist()) if problem] == [33]
    assert not any(word in errors.lower() for word in ("ray-project", "worker died", "warning")), errors
    logs = [path for path in (folder / "session_latest" / "logs").rglob("*") if path.is_file()]
    assert any(b"MapWorker" in path.read_bytes() for path in logs)
    assert [path.name for path in logs if SECRET.encode() in path.read_bytes()] == []


def is_raylet(process: Path, folder: Path) -> bool:
    with suppress(OSError):
        words = (process / "cmdline").read_bytes()
        return words.split(b"\0")[0].endswith(b"/raylet") and str(folder).encode() in words
    return False


def test_what_a_worker_cannot_read_is_said(shop: Shop, head: tuple[str, Path], tmp_path: Path) -> None:
    """On one machine the command and its workers see the same files: here the order itself names another folder."""
    version, digest = Bundle.load(shop.bundle).manifest.version, file_sha256(shop.histories)
    code = f"""if True:
        import functools, pathlib
        from service.schemas import PredictOptions
        from service.score_worker import ChunkScorer, Order
        from service.scoring.on_ray import RayError, connected, scored
        from service.settings import Settings
        bundle, histories = pathlib.Path("{tmp_path}/absent"), pathlib.Path("{shop.histories}")
        order = Order(bundle, "{version}", histories, "{digest}", 20, PredictOptions(), Settings())
        with connected("auto", print):
            try:
                list(scored(functools.partial(ChunkScorer, order), range(9), 1))
            except RayError as error:
                print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **TOKEN, "RAY_ADDRESS": head[0]},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert f"{tmp_path}/absent: is not there; every worker must find it under this path" in done.stdout


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_however_it_ends_the_same_command_goes_on(shop: Shop, tmp_path: Path, how: signal.Signals) -> None:
    """Interrupted, it leaves nothing else; killed, it leaves Ray's folder, with its logs, and no worker."""
    out = tmp_path / "out.parquet"
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as folder:
        process = command(shop.bundle, shop.histories, out, "--ray", "local", TMPDIR=folder)
        with ended(process):
            until(lambda: chunks(out) >= 1 or process.poll() is not None, PATIENCE)
            children = descendants(process.pid)
            assert workers(children)
            process.send_signal(how)
            _, errors = process.communicate(timeout=PATIENCE)
            if how == signal.SIGINT:
                assert process.returncode == 130, errors
                assert "the same command goes on" in errors
                until(lambda: not alive(children), 60)
                assert list(Path(folder).iterdir()) == []
            else:
                assert process.returncode == -signal.SIGKILL
                until(lambda: not workers(alive(children)), 60)
                left = [path for path in Path(folder).rglob("*") if path.is_file()]
                assert [path.name for path in left if SECRET.encode() in path.read_bytes()] == []
                for pid in alive(children):  # Ray's agents, which take a minute to notice
                    os.kill(pid, signal.SIGKILL)
    assert not out.exists()
    kept = chunks(out)
    assert 1 <= kept < ROWS // CHUNK
    process = command(shop.bundle, shop.histories, out)  # without Ray: it goes on from the chunks without a gap
    with ended(process):
        _, errors = process.communicate(timeout=PATIENCE)
    assert "rows were scored before" in errors
    assert pq.read_table(out).equals(pq.read_table(shop.plain))


def test_a_cluster_without_room_for_a_worker_is_no_use(shop: Shop, head: tuple[str, Path], tmp_path: Path) -> None:
    path = ndjson(tmp_path / "in", documents(3))
    process = command(shop.bundle, path, tmp_path / "out.parquet", "--ray", head[0], "--threads", "3", **TOKEN)
    with ended(process):
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert "no machine of the Ray cluster has 3 CPUs for a worker" in errors
