"""The command line: `peers`, `guard`, and what else is measured against something."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from browsing.console import STDERR, emit, fail
from loadtest.bench.ending import OUT, JsonOption, end
from loadtest.bench.lists import chosen, counts

if TYPE_CHECKING:
    from loadtest.bench.document import Report
    from loadtest.bench.plan import Asked

MARGIN = 0.05

app = typer.Typer(
    help="Measure the service against peers that do the same, on this machine: in alternation, round by round, so that "
    "every figure is a ratio of neighbours. `peers` runs the comparisons; `guard` tells whether a ratio has fallen "
    "between two runs of any command. The last line on stdout is one of JSON.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.command()
def peers(
    out: Annotated[
        Path, typer.Option(help="folder of bench.json and bench.svg; bundles and logs lie there, too")
    ] = OUT,
    dataset: Annotated[
        Path | None, typer.Option(help="of `hetlm ingest`, whose test visitors are asked about; else a simulated shop")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="to serve; by default bundles of random weights over the dataset's pages. Several numbers of "
            "clusters are compared on random weights of its predictors' size"
        ),
    ] = None,
    size: Annotated[str, typer.Option(help="of the random predictors: demo or small, like the presets")] = "demo",
    clusters: Annotated[str, typer.Option(help="numbers of clusters to compare")] = "1,3,6",
    peer: Annotated[
        str,
        typer.Option(
            "--peers",
            help="transformers (FastAPI around generate, with dynamic batching), vllm (direct calls "
            "to vLLM servers: 2 GB and a minute more), vllm-documented (the same, tuned as vLLM's documentation says, "
            "and no more), or none",
        ),
    ] = "transformers,vllm",
    parts: Annotated[
        str,
        typer.Option(
            help="engine (the service around its engine, and the engine beside a large matrix product), "
            "clusters (K against K), larger (K against one predictor of K times the parameters), curve (1 to 256 under "
            "way), or none"
        ),
    ] = "engine,clusters,larger,curve",
    threads: Annotated[int | None, typer.Option(min=1, help="of every program; by default one per core")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="of each comparison; by default 7")] = None,
    concurrency: Annotated[int | None, typer.Option(min=2, help="where many are under way; by default 64")] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="a bounded sample: a tiny shop, K = 1 and 2, no vLLM. It shows no speed"),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Our service against its peers, its own engine, one larger predictor, and itself with other numbers of clusters.

    Everybody is asked the same questions: 16 samples, both outcomes, 20 pages, the same longest session, histories
    whose embeddings are cached. Every answer is checked. Latencies are of so many callers who wait for their answers;
    CPU is counted per process, the load generator's own apart. With 64 under way K = 3 stands for our service; vLLM is
    compared with K = 1, where its one server has all cores.

    Ends with 0 where everything was measured, with 2 where it could not be; the same command then goes on with what
    is missing. Give it a quiet machine.
    """
    from loadtest.bench.plan import PARTS, PEERS, QUICK, Asked, Scale
    from loadtest.bench.predictors import SIZES
    from loadtest.bench.running import JOURNAL
    from loadtest.bench.show import sides

    if size not in SIZES:
        raise fail(f"--size {size}: choose from {', '.join(SIZES)}")
    scale = QUICK if quick else Scale()
    scale = replace(scale, rounds=rounds or scale.rounds, crowd=concurrency or scale.crowd)
    cores = tuple(sorted(os.sched_getaffinity(0)))
    asked = Asked(
        out=out,
        dataset=dataset,
        bundle=bundle,
        size=size,
        clusters=(1, 2) if quick else counts("--clusters", clusters, "1,3,6"),
        peers=chosen("--peers", "transformers" if quick and peer == "transformers,vllm" else peer, PEERS),
        parts=chosen("--parts", parts, PARTS),
        threads=threads or len(cores),
        cores=cores[: threads or len(cores)],
        scale=scale,
    )
    if not asked.peers and not asked.parts:
        raise fail("--peers none --parts none: nothing is left to measure")
    report = _run(asked)
    end(report, out, "bench", as_json, above=sides(report))
    (out / JOURNAL).unlink(missing_ok=True)  # the report holds it all


@app.command()
def guard(
    old: Annotated[Path, typer.Argument(help="bench.json of an earlier run, or another command's document")],
    new: Annotated[Path, typer.Argument(help="that of a later run of the same command, under the same conditions")],
    margin: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="how far a ratio may fall beyond its spread, as a share of it")
    ] = MARGIN,
    as_json: JsonOption = False,
) -> None:
    """Whether a ratio has become worse from one run to another: 1 if so, else 0.

    Worse is a ratio whose 95 % interval lies, by more than the margin, on the wrong side of the earlier one's. Seconds
    are not compared: they are the machine's. Runs of different commands, other workloads, numbers of threads or sizes
    are refused. What was measured once has no interval: there the margin is all that a ratio may lose.
    """
    from loadtest.bench.document import read
    from loadtest.bench.errors import BenchError
    from loadtest.bench.guard import compare, table

    try:
        changes = compare(read(old), read(new), margin)
    except BenchError as error:
        raise fail(str(error)) from None
    if not as_json:
        typer.echo(table(changes))
    worse = [change for change in changes if change.kind == "worse"]
    for change in changes:
        if change.kind == "missing":
            STDERR.print(f"not measured any more: {change.figure}", style="yellow", markup=False, soft_wrap=True)
    emit({"ratios": {change.old.key: change.kind for change in changes}, "worse": len(worse)}, True)
    if worse:
        raise typer.Exit(1)


def _run(asked: Asked) -> Report:
    from browsing.bundle import BundleError
    from loadtest.bench.errors import BenchError
    from loadtest.bench.machine import command
    from loadtest.bench.plan import plan
    from loadtest.bench.running import run
    from loadtest.visitors import VisitorError

    try:
        return asyncio.run(run(plan(asked), command()))
    except (BenchError, BundleError, VisitorError) as error:
        raise fail(str(error)) from None


def _mount() -> None:
    from loadtest.bench.encoder import encoder
    from loadtest.bench.ingest import ingest
    from loadtest.bench.paths import paths
    from loadtest.bench.stacked import stacked

    for command in (ingest, encoder, paths, stacked):
        app.command()(command)


_mount()
