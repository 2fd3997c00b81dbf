"""The command line: one command per trial, and `all`."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from browsing.console import STDERR, emit, fail

if TYPE_CHECKING:
    from loadtest.soak.recovery import Engine
    from loadtest.soak.report import Section

OUT = Path("soak")
Trial = Callable[[Path, Path], Coroutine[None, None, "Section"]]
"""Given the bundle and an empty folder of its own."""

app = typer.Typer(
    help="Try a service of one's own: `hetlm serve` is started on free ports, loaded, broken and restarted, and every "
    "answer is checked. Each trial writes OUT/<trial>.json; at the end comes a table. Ends with code 1 where a figure "
    "does not hold. Without --bundle a small one is trained first (a minute or two) and kept in OUT.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

OutOption = Annotated[Path, typer.Option(help="folder of the results; logs and the trial's own bundle lie there too")]
BundleOption = Annotated[Path | None, typer.Option(help="the bundle to serve, with at least two clusters")]
JsonOption = Annotated[bool, typer.Option("--json", help="one line of JSON on stdout instead of the table")]


@app.command(name="all")
def everything(
    out: OutOption = OUT,
    bundle: BundleOption = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="of mixed load")] = 30.0,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="a sample of each trial: some minutes, no vLLM, too short to judge slopes or a ratio"
        ),
    ] = False,
    vllm: Annotated[bool, typer.Option(help="whether recovery is tried with vLLM too: 2 GB per cluster")] = True,
    as_json: JsonOption = False,
) -> None:
    """All of them, one after another."""
    from loadtest.soak import cancellations, faults, interface, kills, mixed, paired, recovery

    engines: tuple[Engine, ...] = ("embedded", "vllm") if vllm and not quick else ("embedded",)
    small = 0.05 if quick else 1.0
    trials: dict[str, Trial] = {
        "faults": lambda b, f: faults.run(b, f, hold=2.0 if quick else 6.0),
        "recovery": lambda b, f: recovery.run(b, f, engines=engines, deaths=1 if quick else 5),
        "kills": lambda b, f: kills.run(b, f, kills=round(50 * small)),
        "interface": lambda b, f: interface.run(b, f, cases=round(10_000 * small)),
        "mixed": lambda b, f: mixed.run(b, f, minutes=min(minutes, 1.0) if quick else minutes),
        "cancellations": lambda b, f: cancellations.run(b, f, cancellations=round(1_000 * small)),
        "paired": lambda b, f: paired.run(b, f, seconds=10.0 if quick else 60.0, pairs=1 if quick else 5),
    }
    _run(trials, out, bundle, as_json)


@app.command(name="faults")
def faults_command(
    out: OutOption = OUT,
    bundle: BundleOption = None,
    rate: Annotated[float, typer.Option(min=1.0, help="requests per second")] = 15.0,
    hold: Annotated[float, typer.Option(min=1.0, help="seconds that each fault lasts")] = 6.0,
    as_json: JsonOption = False,
) -> None:
    """Every fault under load: engines, Redis, clock, disk, clients, damaged bundles, SIGTERM."""
    from loadtest.soak import faults

    _run({"faults": lambda b, f: faults.run(b, f, rate=rate, hold=hold)}, out, bundle, as_json)


@app.command(name="recovery")
def recovery_command(
    out: OutOption = OUT,
    bundle: BundleOption = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="embedded or vllm; may be given twice; by default both")
    ] = None,
    deaths: Annotated[int, typer.Option(min=1, help="of the embedded engine")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Seconds from an engine's death to the model's answers: the embedded one, and vLLM under SIGKILL."""
    from loadtest.soak import recovery

    known: dict[str, Engine] = {"embedded": "embedded", "vllm": "vllm"}
    if unknown := set(engine or ()) - known.keys():
        raise fail(f"--engine {unknown.pop()}: choose from {', '.join(known)}")
    engines = [known[name] for name in engine or known]
    _run({"recovery": lambda b, f: recovery.run(b, f, engines=engines, deaths=deaths)}, out, bundle, as_json)


@app.command(name="kills")
def kills_command(
    out: OutOption = OUT,
    bundle: BundleOption = None,
    kills: Annotated[int, typer.Option(min=1, help="SIGKILLs, each in a life of its own")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="of the moments")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Rows of a batch lost or doubled over random kills of the service."""
    from loadtest.soak import kills as trial

    _run({"kills": lambda b, f: trial.run(b, f, kills=kills, seed=seed)}, out, bundle, as_json)


@app.command(name="interface")
def interface_command(
    out: OutOption = OUT,
    bundle: BundleOption = None,
    cases: Annotated[int, typer.Option(min=1, help="at least so many over both ports' documents")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="of the first round")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Schemathesis over the live OpenAPI documents, all checks."""
    from loadtest.soak import interface

    _run({"interface": lambda b, f: interface.run(b, f, cases=cases, seed=seed)}, out, bundle, as_json)


@app.command(name="mixed")
def mixed_command(
    out: OutOption = OUT,
    bundle: BundleOption = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="of load")] = 30.0,
    rate: Annotated[float, typer.Option(min=0.1, help="requests per second, outside spikes")] = 4.0,
    as_json: JsonOption = False,
) -> None:
    """Everything at once, and whether memory, descriptors, threads, connections and tasks stay as they are."""
    from loadtest.soak import mixed

    _run({"mixed": lambda b, f: mixed.run(b, f, minutes=minutes, rate=rate)}, out, bundle, as_json)


@app.command(name="cancellations")
def cancellations_command(
    out: OutOption = OUT,
    bundle: BundleOption = None,
    cancellations: Annotated[int, typer.Option(min=1, help="callers who leave")] = 1_000,
    as_json: JsonOption = False,
) -> None:
    """Callers who hang up at random moments; whether anybody gets another's answer."""
    from loadtest.soak import cancellations as trial

    _run({"cancellations": lambda b, f: trial.run(b, f, cancellations=cancellations)}, out, bundle, as_json)


@app.command(name="paired")
def paired_command(
    out: OutOption = OUT,
    bundle: BundleOption = None,
    seconds: Annotated[float, typer.Option(min=5.0, help="length of each run, two to a pair")] = 60.0,
    pairs: Annotated[int, typer.Option(min=1, help="pairs of runs, without and with a batch, in alternation")] = 5,
    utilisation: Annotated[float, typer.Option(min=0.01, max=1.0, help="share of the measured capacity")] = 0.3,
    as_json: JsonOption = False,
) -> None:
    """p95 of POST /predict with a batch beside it over p95 without."""
    from loadtest.soak import paired

    trial: Trial = lambda b, f: paired.run(b, f, seconds=seconds, pairs=pairs, utilisation=utilisation)  # noqa: E731
    _run({"paired": trial}, out, bundle, as_json)


def _run(trials: dict[str, Trial], out: Path, bundle: Path | None, as_json: bool) -> None:
    from loadtest.soak import report, shop

    if bundle is not None and not (bundle / "manifest.json").is_file():
        raise fail(f"--bundle {bundle}: there is no manifest.json; name a bundle of `hetlm train`")
    out.mkdir(parents=True, exist_ok=True)
    try:
        served = (bundle or shop.bundle(out / "shop")).absolute()
    except shop.ShopError as error:
        raise fail(str(error)) from None
    done: list[Section] = []
    for name, trial in trials.items():
        folder = (out / name).absolute()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            done.append(asyncio.run(trial(served, folder)))
        except (RuntimeError, ValueError, OSError) as error:  # the others are tried all the same
            STDERR.print(f"{name}: not measured: {error}", style="bold red", markup=False, soft_wrap=True)
        else:
            report.write(done[-1], out)
    if not as_json:
        typer.echo(report.table(done))
    for section in done:
        for complaint in section.complaints:
            STDERR.print(f"{section.section}: {complaint}", style="red", markup=False, soft_wrap=True)
    emit({"sections": [section.model_dump(mode="json") for section in done]}, as_json)
    if len(done) < len(trials) or not all(section.passed for section in done):
        raise typer.Exit(1)
