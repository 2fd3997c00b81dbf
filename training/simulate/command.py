"""`hetlm simulate`: a shop's log whose every probability is known."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from browsing.console import STDERR, emit, fail, progress
from training.simulate.log import COLUMNS, LogFormat
from training.simulate.run import Counts, Settings, run
from training.simulate.shops import Preset, build
from training.simulate.world import World


def simulate(
    out: Annotated[Path, typer.Option(help="directory to write; it must not exist yet")],
    preset: Annotated[
        Preset, typer.Option(help="kinds of visitors differ in what they look at, or only in order and memory")
    ] = "tastes",
    users: Annotated[int, typer.Option(min=1, help="how many visitors")] = 3000,
    seed: Annotated[int, typer.Option(min=0, help="equal seeds and settings write equal logs")] = 0,
    kinds: Annotated[int, typer.Option(help="how many kinds of visitors")] = 4,
    pages: Annotated[int, typer.Option(help="pages of the shop; outcome probabilities cost their square")] = 60,
    log_format: Annotated[LogFormat, typer.Option(help="how the log is written")] = "csv",
    truth: Annotated[bool, typer.Option(help="compute the exact outcome probabilities, which takes longest")] = True,
    overwrite: Annotated[bool, typer.Option(help="replace the directory if a simulation is in it")] = False,
    json_: Annotated[bool, typer.Option("--json", help="end with one line of JSON on stdout")] = False,
) -> None:
    """Write a simulated shop log, and what is true of it.

    OUT/events.csv is the log; OUT/truth.parquet has, per visitor, the kind, the negative log-likelihood of the last
    session under the best possible prediction from the ones before, and the probabilities of a cart and a purchase in
    it; OUT/simulate.json has the settings and the parameters.
    """
    settings = Settings(preset=preset, users=users, seed=seed, kinds=kinds, pages=pages, outcomes=truth)
    if out.exists() and not (overwrite and (out / "simulate.json").is_file()):
        remedy = "choose another one, or remove it" if overwrite else "choose another one, or pass --overwrite"
        raise fail(f"--out {out} exists: {remedy}")
    try:
        world = build(preset, kinds, pages, seed)
    except ValueError as error:
        raise fail(str(error)) from error
    unfinished = out.parent / f".{out.name}.{os.getpid()}"
    try:
        unfinished.mkdir(parents=True)
        with progress("simulating", users, "users") as advance:
            counts = run(settings, world, unfinished, log_format, advance)
        document = describe(settings, world, counts, log_format)
        (unfinished / "simulate.json").write_text(json.dumps(document, indent=2) + "\n")
        if out.exists():
            shutil.rmtree(out)
        unfinished.rename(out)
    except OSError as error:
        raise fail(f"--out {out} cannot be written: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _show(out, document)
    emit({"out": str(out), "log": str(out / f"events.{log_format}"), **document["counts"]}, json_)


def describe(settings: Settings, world: World, counts: Counts, log_format: LogFormat) -> dict[str, Any]:
    """`simulate.json`: the settings, the counts, how to read the log, and the parameters of every kind."""
    nats = counts.bayes_nll / counts.target_pages
    kinds = [
        {
            "name": name,
            "share": float(world.shares[k]),
            "back": float(world.back[k]),
            "last": float(world.last[k]),
            "cart": float(world.cart[k]),
            "growth": float(world.growth[k]),
            "purchase": float(world.purchase[k]),
            "leave_after_purchase": float(world.leave[k]),
            "end": {page: float(world.end[k, i]) for i, page in enumerate(world.pages)},
            "start": {page: float(world.start[k, i]) for i, page in enumerate(world.pages)},
        }
        for k, name in enumerate(world.kinds)
    ]
    return {
        "schema_version": 1,
        "settings": dataclasses.asdict(settings),
        "log": {"file": f"events.{log_format}", "columns": COLUMNS},
        "counts": {
            **{k: v for k, v in dataclasses.asdict(counts).items() if k != "bayes_nll"},
            "cart_rate": counts.carts / counts.sessions,
            "purchase_rate": counts.purchases / counts.sessions,
            "bayes_nats_per_page": nats,
        },
        "world": {
            "pages": list(world.pages),
            "min_views": world.min_views,
            "max_views": world.max_views,
            "revisits": world.revisits,
            "kinds": kinds,
        },
    }


def _show(out: Path, document: dict[str, Any]) -> None:
    counts = document["counts"]
    STDERR.print(
        f"{out}: {counts['users']:,} visitors, {counts['sessions']:,} sessions, {counts['events']:,} events; a cart in "
        f"{counts['cart_rate']:.1%} of the sessions, a purchase in {counts['purchase_rate']:.1%}; the best possible "
        f"prediction costs {counts['bayes_nats_per_page']:.3f} nats per page",
        soft_wrap=True,
    )
