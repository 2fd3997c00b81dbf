"""Chunks of a file, spread over the workers of a Ray cluster by Ray Data.

Only the numbers of chunks go to the workers, and finished chunks come back. A worker that dies is started again, with
the chunk that it was at; should a chunk come twice, its contents are the same. What goes wrong in a worker comes back
as words of our own: whatever is raised there, Ray writes into its logs, message and all.
"""

from __future__ import annotations

import importlib
import logging
import os
import platform
import secrets
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory

import pyarrow as pa

from service.logs import described
from service.problems import ProblemError
from service.scoring.parts import Part
from service.scoring.results import Tally

LOCAL = "local"
AUTO = "auto"
REACH_SECONDS = 10.0
LOOK_SECONDS = 5.0
"""Between two looks at whether the cluster's head is still there."""
END_SECONDS = 60.0
"""That Ray Data's threads have before Ray itself ends."""
STUCK_SECONDS = 1_800.0
"""Without any finished chunk. Workers are started again as often as they die: this alone ends what cannot go on."""
_QUIETLY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
_BLOCK_BYTES = 2**24
"""What Ray Data sets aside for a chunk until it has seen some: not the 128 MiB of its default."""
_COLUMNS = pa.schema(
    [
        ("chunk", pa.int64()),
        ("contents", pa.large_binary()),
        ("done", pa.int64()),
        ("failed", pa.int64()),
        ("fallbacks", pa.int64()),
        ("refusal", pa.string()),
    ]
)


class RayError(RuntimeError):
    """Ray, or a worker on it, does not do its work; the message says why and quotes nothing of a file."""


class Refused(RuntimeError):
    """A worker cannot work; the message says why and quotes nothing of a file."""


Score = Callable[[int], Part]
"""Scores the chunk of this number. Raises `Refused`."""


class Worker:
    """What each of Ray Data's actors holds. `make` is called once per actor; it raises `Refused`."""

    def __init__(self, make: Callable[[], Score]) -> None:
        self._score: Score | None = None
        self._refusal: str | None = None
        try:
            self._score = make()
        except Exception as error:
            self._refusal = _words(error)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One chunk's number -> the chunk, or why there is none."""
        (chunk,) = batch.column("chunk").to_pylist()
        if self._score is None:
            return _row({"chunk": chunk, "refusal": self._refusal})
        try:
            part = self._score(chunk)
        except Exception as error:
            return _row({"chunk": chunk, "refusal": _words(error)})
        tally = part.tally
        counts = {"done": tally.done, "failed": tally.failed, "fallbacks": tally.fallbacks}
        return _row({"chunk": part.chunk, "contents": part.contents, **counts})


def finished(table: pa.Table) -> Iterator[Part]:
    """What `Worker` gave. Raises `RayError` with its refusal."""
    for row in table.to_pylist():
        if row["refusal"] is not None:
            raise RayError(row["refusal"])
        yield Part(row["chunk"], row["contents"], Tally(row["done"], row["failed"], row["fallbacks"]))


@contextmanager
def connected(address: str, say: Callable[[str], None]) -> Iterator[None]:
    """A Ray cluster to work on, until the end of the block: of this machine alone (`local`), the one that runs here
    (`auto`), or the one whose head is at `address` (host:port). `say` is told when its head is gone: Ray ends the
    process a minute later, without a word. Raises `RayError`."""
    if address not in (LOCAL, AUTO):
        _reach(address, *_place(address))
    for name, value in _QUIETLY.items():  # Ray reads them when it is imported, and hands them on to its processes
        os.environ.setdefault(name, value)
    if address == LOCAL:  # without a token others could join, and one that Ray makes would stay in the user's home
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.data")
    except ImportError as error:
        raise RayError(f"Ray is not installed ({error}): pip install 'hetlm[ray]'") from None
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        options: dict[str, object] = {"address": address}
        if address == LOCAL:
            # Nothing is left of logs and chunks.
            folder = stack.enter_context(TemporaryDirectory(prefix="hetlm-ray-", ignore_cleanup_errors=True))
            options |= {"_temp_dir": folder, "_node_ip_address": "127.0.0.1", "include_dashboard": False}
        stack.callback(ray.shutdown)
        stack.callback(let_end, END_SECONDS)
        try:
            with _silent():
                ray.init(**options, logging_level=logging.CRITICAL, log_to_driver=False)
        except Exception as error:
            what, remedy = "no Ray starts here", ""
            if address != LOCAL:
                what = f"{address}: no Ray cluster that can be used"
                remedy = "; one that asks for a token needs RAY_AUTH_MODE=token, and the token in RAY_AUTH_TOKEN"
            raise RayError(f"{what} ({type(error).__name__}: {_first_line(error)}){remedy}") from None
        if address != LOCAL:
            stack.enter_context(watched(ray.get_runtime_context().gcs_address, say))
        yield


def let_end(seconds: float) -> None:
    """Wait, at most so long, for Ray Data's threads, which it gives two seconds itself: one that asks for something
    when Ray is gone ends this whole process, without a word."""
    end = time.monotonic() + seconds
    for thread in threading.enumerate():
        if thread.name.startswith("StreamingExecutor"):
            thread.join(max(0.0, end - time.monotonic()))


@contextmanager
def watched(address: str, say: Callable[[str], None]) -> Iterator[None]:
    """Tells `say`, from a thread of its own, that nobody listens at `address` (host:port) now: once per absence."""
    over = threading.Event()

    def look() -> None:
        there = True
        while not over.wait(LOOK_SECONDS):
            try:
                _reach(address, *_place(address))
            except RayError:
                if there and not over.is_set():
                    say(f"{address}: the head of the Ray cluster is gone. Ray ends this command if it stays away")
                there = False
            else:
                there = True

    threading.Thread(target=look, name="hetlm-ray-head", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def scored(make: Callable[[], Score], chunks: Sequence[int], threads: int) -> Generator[Part]:
    """Every one of `chunks`, in whatever order they are finished, by as many workers of `threads` CPUs as the cluster
    has room for. Only while `connected`; close it before that ends. Raises `RayError`; whoever asks for what is missing
    then goes on."""
    import ray
    import ray.data
    from ray.data.exceptions import ExecutionTimeoutError

    room = sum(int(node["Resources"].get("CPU", 0) // threads) for node in ray.nodes() if node["Alive"])
    if not room:
        raise RayError(f"no machine of the Ray cluster has {threads} CPUs for a worker: ask for fewer --threads")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = _BLOCK_BYTES
    context.execution_no_progress_timeout_s = STUCK_SECONDS
    # One chunk per block and per call, one call per actor at a time: nobody waits behind a slow one.
    numbers = ray.data.from_items([{"chunk": chunk} for chunk in chunks], override_num_blocks=len(chunks))
    pool = ray.data.ActorPoolStrategy(size=min(room, len(chunks)), max_tasks_in_flight_per_actor=1)
    dataset = numbers.map_batches(
        Worker,
        fn_constructor_args=(make,),
        batch_size=1,
        batch_format="pyarrow",
        compute=pool,
        num_cpus=threads,
    )
    try:
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from finished(table)
    except ExecutionTimeoutError:
        raise RayError(
            f"no chunk was finished for {STUCK_SECONDS / 60:.0f} minutes. Workers that die again and again mostly want "
            "memory: each holds the whole bundle, and with more --threads there are fewer on a machine. Slow ones want "
            "smaller chunks: --chunk-rows"
        ) from None
    except ray.exceptions.RayError as error:
        if "ModuleNotFoundError" in str(error):
            remedy = "install the same version of hetlm on every machine of the cluster"
        else:
            remedy = "its logs tell more"
        raise RayError(f"Ray gave up ({type(error).__name__}): {remedy}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing on stderr: Ray's core says there that it will say less, and every second that it has not connected yet.
    What matters of it is raised, too."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _words(error: Exception) -> str:
    """What may be said of an error: messages of others may quote what they were working on."""
    where = f"a worker on {platform.node()}"
    if isinstance(error, Refused):
        return f"{where}: {error}"
    if isinstance(error, ProblemError):
        return f"{where}: {error.detail}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{where}: {error.filename}: {error.strerror}"
    told = described(error)
    return f"{where} failed: {told['error']} at {told['where']}"


def _row(values: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist([values], schema=_COLUMNS)


def _place(address: str) -> tuple[str, int]:
    """Raises `RayError`."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdecimal() or "/" in host:
        raise RayError(
            f"{address}: not an address: local, auto, or host:port of the cluster's head (port 6379, usually); for a "
            "cluster elsewhere run the command there, with ray job submit"
        )
    return host.strip("[]"), int(port)


def _reach(address: str, host: str, port: int) -> None:
    """Ray itself would try for a minute, and say little. Raises `RayError`."""
    try:
        socket.create_connection((host, port), timeout=REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise RayError(f"{address}: no Ray cluster answers ({error}): ray start --head starts one") from None
