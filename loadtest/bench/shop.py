"""The dataset that is asked about where none is named: a simulated shop's."""

from __future__ import annotations

from pathlib import Path

from browsing.console import progress
from loadtest.bench.errors import BenchError
from loadtest.soak.shop import ShopError, hetlm


def dataset(folder: Path, *, users: int, pages: int) -> Path:
    """Simulated and ingested below `folder`, once; there from then on. Raises `BenchError`."""
    made = folder / f"dataset-{users}-{pages}"
    if (made / "dataset.json").is_file():
        return made
    shop = folder / f"shop-{users}-{pages}"
    steps = (
        ("simulate", "--out", str(shop), "--users", str(users), "--pages", str(pages), "--no-truth", "--overwrite"),
        ("ingest", str(shop / "events.csv"), "--out", str(made), "--overwrite"),
    )
    folder.mkdir(parents=True, exist_ok=True)
    with progress("Simulating a shop", len(steps), "steps") as advance:
        for step in steps:
            try:
                hetlm(*step)
            except ShopError as error:
                raise BenchError(str(error)) from None
            advance(1)
    return made
