"""SBERT in 8-bit integers against SBERT on torch in float32: how much faster, and how many visitors it routes alike.

Both encode the same new sessions in turns, in an order that is reversed from round to round. Routing is looked at on a
dataset's selection users with a bundle's own selector: a visitor counts as equal where both lead to the same cluster.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from browsing.console import STDERR, emit, fail, progress

if TYPE_CHECKING:
    from browsing.bundle import Bundle
    from browsing.encoder import Encoder, Vectors

History = Sequence[Sequence[str]]

BATCHES = (1, 16, 64)
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
class Routing:
    """`cosine`, `least_cosine`: between the two vectors of a session, the mean and the least over distinct sessions.
    `moved`: the largest change of a cluster's probability."""

    users: int
    equal: int
    sessions: int
    cosine: float
    least_cosine: float
    moved: float

    def document(self) -> dict[str, object]:
        from browsing.calibration import wilson

        share = self.equal / self.users
        return {
            "users": self.users,
            "equal": self.equal,
            "share": share,
            "interval": wilson(share, self.users),
            "sessions": self.sessions,
            "cosine": self.cosine,
            "least_cosine": self.least_cosine,
            "largest_change_of_a_probability": self.moved,
        }


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
) -> list[dict[str, object]]:
    """One entry per batch size: `ours` over `peer`."""
    from loadtest.bench.spread import Spread

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
    return [
        {
            "batch": batch,
            "throughput_ratio": Spread.of_ratios([b.seconds / a.seconds for a, b in pairs]).model_dump(),
            "cpu_ratio": Spread.of_ratios([b.cpu / a.cpu for a, b in pairs]).model_dump(),
            "int8_per_second": PER_TURN / float(np.median([a.seconds for a, _ in pairs])),
            "torch_per_second": PER_TURN / float(np.median([b.seconds for _, b in pairs])),
        }
        for batch, pairs in found.items()
    ]


def routing(
    bundle: Bundle, histories: Sequence[History], ours: Encoder, peer: Encoder, advance: Callable[[float], None]
) -> Routing:
    """Both encoders in front of the bundle's selector. `histories`: not empty, and none of them is."""
    import torch

    from browsing.encoder import pool, rounded

    distinct = list({tuple(pages): None for history in histories for pages in history})
    place = {pages: number for number, pages in enumerate(distinct)}
    vectors = [_encoded(encoder, distinct, advance) for encoder in (ours, peer)]
    probabilities = []
    for own in vectors:
        kept = rounded(own)
        pooled = [
            pool(kept[[place[tuple(pages)] for pages in history]], bundle.manifest.encoder.decay)
            for history in histories
        ]
        probabilities.append(np.asarray(bundle.selector.probabilities(torch.from_numpy(np.stack(pooled)))))
    norms = np.linalg.norm(vectors[0], axis=1) * np.linalg.norm(vectors[1], axis=1)
    cosines = (vectors[0] * vectors[1]).sum(1) / norms
    first, second = probabilities
    return Routing(
        users=len(histories),
        equal=int((first.argmax(1) == second.argmax(1)).sum()),
        sessions=len(distinct),
        cosine=float(cosines.mean()),
        least_cosine=float(cosines.min()),
        moved=float(np.abs(first - second).max()),
    )


def _encoded(encoder: Encoder, asked: Sequence[Sequence[str]], advance: Callable[[float], None]) -> Vectors:
    def parts() -> Iterator[Vectors]:
        for first in range(0, len(asked), PER_TURN):
            part = asked[first : first + PER_TURN]
            yield encoder.encode(part)
            advance(len(part))

    return np.concatenate(list(parts()))


def histories_of(dataset: Path) -> list[History]:
    """Of the selection users; who has none is left out. Raises `OSError` and polars' errors."""
    import polars as pl

    table = pl.read_parquet(dataset / "select.parquet", columns=["history"])
    return [history for history in table["history"].to_list() if history]


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
    as_json: Annotated[bool, typer.Option("--json", help="nothing on stdout but the line of JSON")] = False,
) -> None:
    """SBERT in int8 against torch in float32: sessions per second in batches of 1, 16 and 64, and equal routing.

    A ratio above 1 means that int8 is faster. With --bundle and --dataset it also counts the selection users whom both
    send to the same cluster, which is what HETLM_ENCODER=int8 changes for a bundle.

    Example: python -m loadtest.bench encoder --bundle bundle --dataset shop
    """
    if (bundle is None) != (dataset is None):
        raise fail("--bundle and --dataset go together: the bundle's selector routes the dataset's users")
    import polars as pl
    import torch

    from browsing.bundle import Bundle, BundleError
    from browsing.encoders.of_bundle import encoder_of, sbert_of

    if threads is not None:
        torch.set_num_threads(threads)
    document: dict[str, object] = {"bench": "encoder", "pages": pages, "threads": torch.get_num_threads()}
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
        document["routing"] = alike.document()
        STDERR.print(
            f"{alike.equal} of {alike.users} selection users are routed alike ({alike.equal / alike.users:.2%}); mean "
            f"cosine of a session's two vectors {alike.cosine:.5f}, least {alike.least_cosine:.4f}"
        )
    with progress("timing", rounds * len(BATCHES), "turns") as advance:
        batches = speed(ours, peer, pages=pages, rounds=rounds, seed=seed, advance=advance)
    document["batches"] = batches
    for batch in batches:
        STDERR.print(
            f"batches of {batch['batch']}: {batch['int8_per_second']:.0f} sessions/s, torch "
            f"{batch['torch_per_second']:.0f}/s"
        )
    emit(document, as_json)
