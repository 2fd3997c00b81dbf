"""The command line: one command per scenario, and `compare`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from browsing.console import emit, fail
from browsing.whole import write_whole
from loadtest.arrivals import Kind
from loadtest.scenarios import SCENARIOS, Scenario

if TYPE_CHECKING:
    from loadtest.planning import Asked

app = typer.Typer(
    help="Put load on a running hetlm service and check every answer. Arrivals are fixed before the run, and latency "
    "counts from the moment at which a request was meant to start, so that a server that stalls cannot hide it. Ends "
    "with code 1 where the service did not hold what the scenario promises.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


def _command(scenario: Scenario) -> Callable[..., None]:
    def command(
        url: Annotated[str, typer.Option(help="address of the service, such as http://127.0.0.1:8080")],
        bundle: Annotated[
            Path | None, typer.Option(help="the bundle that is served: visitors walk over its pages at random")
        ] = None,
        dataset: Annotated[
            Path | None, typer.Option(help="a dataset of `hetlm ingest`: its test visitors' histories are sent instead")
        ] = None,
        rate: Annotated[
            float | None, typer.Option(min=0.01, help="requests per second; by default the scenario's")
        ] = None,
        seconds: Annotated[
            float | None, typer.Option(min=0.1, help="length of a run; by default the scenario's")
        ] = None,
        seed: Annotated[int, typer.Option(min=0, help="of arrivals, visitors and their order")] = 0,
        arrivals: Annotated[Kind, typer.Option(help="fixed, poisson, or replay of a dataset's own times")] = "poisson",
        visitors: Annotated[int, typer.Option(min=1, help="different visitors who come again and again")] = 1_000,
        zipf: Annotated[float, typer.Option(min=0.0, help="how unequally often they come; 0: equally often")] = 1.0,
        samples: Annotated[int | None, typer.Option(min=1, max=256, help="options.samples of every request")] = None,
        top_pages: Annotated[int | None, typer.Option(min=1, max=100, help="options.top_pages")] = None,
        deadline_ms: Annotated[int | None, typer.Option(min=1, max=60_000, help="options.deadline_ms")] = None,
        strict: Annotated[bool, typer.Option("--strict", help="options.strict: refuse instead of a fallback")] = False,
        timeout: Annotated[float, typer.Option(min=0.1, help="seconds after which a request counts as lost")] = 30.0,
        bound: Annotated[
            int, typer.Option(min=1, help="most requests outstanding; an arrival on top counts as a failure")
        ] = 1_000,
        cluster: Annotated[
            int | None, typer.Option(min=0, help="of hot-cluster and mixed: which; by default the commonest")
        ] = None,
        pairs: Annotated[int, typer.Option(min=1, help="of batch-beside: how many pairs of runs")] = 5,
        utilisation: Annotated[
            float, typer.Option(min=0.01, max=1.0, help="of batch-beside without --rate: share of the capacity")
        ] = 0.3,
        kill_pid: Annotated[int | None, typer.Option(help="at half time this process gets SIGKILL")] = None,
        kill_command: Annotated[
            str | None, typer.Option(help="at half time this command is run, without a shell")
        ] = None,
        restore_command: Annotated[
            str | None, typer.Option(help="at three quarters of the time this one undoes it")
        ] = None,
        pid: Annotated[
            int | None,
            typer.Option(help="the service's process: memory, descriptors, threads, connections are watched"),
        ] = None,
        version: Annotated[
            list[str] | None, typer.Option(help="of a further bundle that may answer; may be given several times")
        ] = None,
        api_key: Annotated[
            str | None, typer.Option(envvar="HETLM_API_KEY", help="where one is needed; safest in the variable")
        ] = None,
        out: Annotated[Path | None, typer.Option(help="also write the result here, as JSON, for `compare`")] = None,
        as_json: Annotated[bool, typer.Option("--json", help="one line of JSON on stdout instead of tables")] = False,
    ) -> None:
        from loadtest.faults import Hook
        from loadtest.planning import Asked
        from loadtest.workload import Options

        _check_url(url)
        _check_out(out)
        asked = Asked(
            url=url,
            bundle=bundle,
            dataset=dataset,
            rate=rate,
            seconds=seconds,
            seed=seed,
            arrivals=arrivals,
            visitors=visitors,
            zipf=zipf,
            options=Options(samples, top_pages, deadline_ms, strict),
            timeout=timeout,
            bound=bound,
            api_key=api_key,
            pid=pid,
            hook=Hook(kill_pid, kill_command, restore_command),
            cluster=cluster,
            pairs=pairs,
            utilisation=utilisation,
            versions=tuple(version or ()),
        )
        _run(scenario, asked, out, as_json)

    return command


def _help(scenario: Scenario) -> str:
    rate = "a share of the capacity" if scenario.batch == "paired" else f"{scenario.rate:g} requests per second"
    return f"{scenario.help} By default {rate}, {scenario.seconds:g} seconds."


def _run(scenario: Scenario, asked: Asked, out: Path | None, as_json: bool) -> None:
    from loadtest import show
    from loadtest.arrivals import ArrivalError
    from loadtest.client import ServiceError
    from loadtest.faults import FaultError
    from loadtest.judge import promise
    from loadtest.pairs import PairError
    from loadtest.process import ProcessError
    from loadtest.run import run
    from loadtest.visitors import VisitorError

    try:
        found = asyncio.run(run(scenario, asked))
    except (ArrivalError, FaultError, PairError, ProcessError, ServiceError, VisitorError) as error:
        raise fail(str(error)) from None
    if out is not None:
        write_whole(out, found.model_dump_json(indent=2) + "\n")
    if not as_json:
        show.result(found, show.console())
    emit({**found.model_dump(mode="json"), "promise": promise(found), "passed": found.passed}, as_json)
    if not found.passed:
        raise typer.Exit(1)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise fail(f"--url {url}: an address such as http://127.0.0.1:8080")
    if parts.username or parts.password:
        raise fail("--url: leave user and password out; a key goes into HETLM_API_KEY")


def _check_out(out: Path | None) -> None:
    if out is not None and not out.parent.is_dir():
        raise fail(f"--out {out}: the directory {out.parent} does not exist")
    if out is not None and out.is_dir():
        raise fail(f"--out {out} is a directory: name a file")


for _scenario in SCENARIOS:
    app.command(_scenario.name, help=_help(_scenario), short_help=_scenario.short)(_command(_scenario))


@app.command(short_help="One run over another, as ratios")
def compare(
    first: Annotated[Path, typer.Argument(metavar="A.json", help="a result of `--out`", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B.json", help="another of the same scenario", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="one line of JSON on stdout instead of the table")] = False,
) -> None:
    """Set the second run over the first: ratios of latencies and rates.

    Where both ran the same plan (scenario, visitors, seed, rate, seconds, options), the tenths of the runs hold the
    same arrivals; their ratios are paired, with the spread over the tenths.
    """
    from loadtest import show
    from loadtest.comparison import ComparisonError, read
    from loadtest.comparison import compare as compare_results

    try:
        found = compare_results(read(first), read(second))
    except ComparisonError as error:
        raise fail(str(error)) from None
    if not as_json:
        show.comparison(found, show.console())
    emit(found.model_dump(mode="json"), as_json)
