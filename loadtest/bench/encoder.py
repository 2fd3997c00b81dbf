"""SBERT in 8-bit integers against SBERT on torch in float32: how much faster, and how many visitors it routes alike.

Both encode the same new sessions in turns, in an order that is reversed from round to round.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from browsing.console import STDERR, fail, progress
from loadtest.bench.alike import histories_of, routing
from loadtest.bench.document import Figure
from loadtest.bench.ending import OUT, JsonOption, OutOption, end, folder, study
from loadtest.bench.machine import Watch
from loadtest.bench.spread import Spread

if TYPE_CHECKING:
    from browsing.encoder import Encoder

BATCHES = (1, 16, 64)
ASKED = 2.0
"""Times the throughput of float32."""
PER_TURN = 64
"""Sessions of one turn: 64 batches of one, or one of 64."""
WORDS = (
    "bags tote mini clutch leather pouch black satchel canvas duffel suede shoes boots running trail men women kids "
    "sale new summer winter jacket coat wool scarf hat gloves silver gold ring watch strap blue red green"
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One encoder's: wall time and CPU time over all threads, in seconds."""

    seconds: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Sessions encoded `size` at a time. `throughput`, `cpu`: of int8 over float32, by the wall clock and by CPU time;
    `ours`, `peer`: sessions per second."""

    size: int
    throughput: Spread
    cpu: Spread
    ours: float
    peer: float

    @classmethod
    def of(cls, size: int, pairs: Sequence[tuple[Turn, Turn]]) -> Batch:
        """`pairs`: int8's turn and float32's, round by round."""
        return cls(
            size=size,
            throughput=Spread.of_ratios([b.seconds / a.seconds for a, b in pairs]),
            cpu=Spread.of_ratios([b.cpu / a.cpu for a, b in pairs]),
            ours=PER_TURN / float(np.median([a.seconds for a, _ in pairs])),
            peer=PER_TURN / float(np.median([b.seconds for _, b in pairs])),
        )

    def document(self) -> dict[str, object]:
        return {
            "batch": self.size,
            "throughput_ratio": self.throughput.model_dump(),
            "cpu_ratio": self.cpu.model_dump(),
            "int8_per_second": self.ours,
            "torch_per_second": self.peer,
        }


def figures(batches: Sequence[Batch]) -> list[Figure]:
    """What is asked for is throughput; CPU time, which other work on the machine disturbs less, stands beside it."""
    kinds: tuple[tuple[str, str, float | None, Callable[[Batch], Spread]], ...] = (
        ("throughput", "sessions per second, int8 over float32", ASKED, lambda batch: batch.throughput),
        ("cpu", "CPU time, float32 over int8", None, lambda batch: batch.cpu),
    )
    return [
        Figure(
            key=f"{kind}/{batch.size}",
            figure=f"{words}, batches of {batch.size}",
            unit="ratio",
            better="higher",
            value=value(batch),
            limit=limit,
        )
        for kind, words, limit, value in kinds
        for batch in batches
    ]


def sessions(count: int, pages: int, draw: random.Random) -> list[list[str]]:
    """So many sessions of `pages` pages with names of three words."""
    words = WORDS.split()
    return [["/" + "/".join(draw.choices(words, k=3)) for _ in range(pages)] for _ in range(count)]


def turn(encoder: Encoder, asked: Sequence[Sequence[str]], batch: int) -> Turn:
    """Encode all of `asked`, `batch` at a time."""
    cpu, began = time.process_time(), time.perf_counter()
    for first in range(0, len(asked), batch):
        encoder.encode(asked[first : first + batch])
    return Turn(time.perf_counter() - began, time.process_time() - cpu)


def speed(
    ours: Encoder, peer: Encoder, *, pages: int, rounds: int, seed: int, advance: Callable[[float], None]
) -> list[Batch]:
    """One entry per batch size: `ours` over `peer`."""
    draw = random.Random(seed)
    found: dict[int, list[tuple[Turn, Turn]]] = {batch: [] for batch in BATCHES}
    for encoder in (ours, peer):
        turn(encoder, sessions(16, pages, draw), 16)  # the first pass through a model is slower than all others
    for number in range(rounds):
        for batch in BATCHES:
            asked = sessions(PER_TURN, pages, draw)
            pair = (ours, peer) if number % 2 == 0 else (peer, ours)
            turns = [turn(encoder, asked, batch) for encoder in pair]
            found[batch].append((turns[0], turns[1]) if number % 2 == 0 else (turns[1], turns[0]))
            advance(1)
    return [Batch.of(size, pairs) for size, pairs in found.items()]


def encoder(
    bundle: Annotated[
        Path | None, typer.Option(help="whose selector routes; trained with the encoder sbert or both")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="of `hetlm ingest`, whose selection users are routed; goes with --bundle")
    ] = None,
    pages: Annotated[int, typer.Option(min=1, help="of a session whose encoding is timed")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="of timing, in alternation")] = 7,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default one per core")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the timed sessions")] = 0,
    out: OutOption = OUT,
    as_json: JsonOption = False,
) -> None:
    """SBERT in int8 against torch in float32: sessions per second in batches of 1, 16 and 64, and equal routing.

    A ratio above 1 means that int8 is faster. With --bundle and --dataset it also counts the selection users whom both
    send to the same cluster, which is what HETLM_ENCODER=int8 changes for a bundle.

    Example: python -m loadtest.bench encoder --threads 1 --bundle bundle --dataset shop
    """
    if (bundle is None) != (dataset is None):
        raise fail("--bundle and --dataset go together: the bundle's selector routes the dataset's users")
    import polars as pl
    import torch

    from browsing.bundle import Bundle, BundleError
    from browsing.encoders.of_bundle import encoder_of, sbert_of

    folder(out)
    if threads is not None:
        torch.set_num_threads(threads)
    if threads == 1:  # the tokenizer has threads of its own, one per core, unless it is told that it has not
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
    watch, version = Watch.start(), None
    details: dict[str, object] = {}
    found: list[Figure] = []
    try:
        ours, peer = sbert_of("int8"), sbert_of("torch")
    except ValueError as error:
        raise fail(str(error)) from None
    if bundle is not None and dataset is not None:
        try:
            loaded = Bundle.load(bundle)
            histories = histories_of(dataset)
            if loaded.manifest.encoder.kind not in ("sbert", "both"):
                raise fail(f"{bundle}: its encoder ({loaded.manifest.encoder.kind}) does not read names with SBERT")
            routed = encoder_of(loaded, "int8"), encoder_of(loaded, "torch")
        except (BundleError, OSError, pl.exceptions.PolarsError) as error:
            raise fail(str(error)) from None
        if not histories:
            raise fail(f"{dataset / 'select.parquet'}: nobody with a history; ingest with more selection users")
        distinct = {tuple(visit) for history in histories for visit in history}
        with progress("routing", 2 * len(distinct), "sessions") as advance:
            alike = routing(loaded, histories, *routed, advance)
        version, details["routing"] = loaded.manifest.version, alike.document()
        found.append(alike.figure())
        STDERR.print(
            f"{alike.equal} of {alike.users} selection users are routed alike ({alike.equal / alike.users:.2%}); mean "
            f"cosine of a session's two vectors {alike.cosine:.5f}, least {alike.least_cosine:.4f}"
        )
    with progress("timing", rounds * len(BATCHES), "turns") as advance:
        batches = speed(ours, peer, pages=pages, rounds=rounds, seed=seed, advance=advance)
    details["batches"] = [batch.document() for batch in batches]
    for batch in batches:
        STDERR.print(
            f"batches of {batch.size}: {batch.ours:.0f} sessions/s, torch {batch.peer:.0f}/s: {batch.throughput} times "
            f"the throughput, {batch.cpu} by CPU time"
        )
    measured = study(
        "encoder",
        watch,
        figures(batches) + found,
        conditions={"pages": pages, "threads": torch.get_num_threads()},
        settings={"rounds": rounds, "seed": seed, "bundle": version},
        details=details,
        packages=("torch", "sentence-transformers", "transformers", "tokenizers"),
    )
    end(measured, out, "encoder", as_json)
