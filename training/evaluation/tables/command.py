"""`hetlm tables`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from browsing.console import STDERR, emit, fail

if TYPE_CHECKING:
    from training.evaluation.result import Decode
    from training.evaluation.tables.grid import Grid
    from training.evaluation.tables.runs import Log


def tables(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN.json|BUNDLE...",
            help="results of `hetlm evaluate --out` and `hetlm timing --out`; a bundle adds its validation loss by "
            "rule of assignment (random, K-means, Markov mixture, its selector, oracle)",
        ),
    ],
    format_: Annotated[
        Literal["screen", "markdown", "latex"],
        typer.Option("--format", help="markdown for a document, latex (booktabs) for a paper"),
    ] = "screen",
    decode: Annotated[
        Literal["consensus", "greedy", "own"],
        typer.Option(help="whose sessions the page metrics are of; own: the decode each was evaluated with"),
    ] = "own",
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="the single model of the composites, as its line is called; default: single, or else shared",
            show_default=False,
        ),
    ] = None,
    clusters: Annotated[bool, typer.Option(help="a line per cluster too, where a method has one seed")] = True,
    bins: Annotated[bool, typer.Option("--bins", help="propensity deciles and reliability of every method")] = False,
    folds_of: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="the datasets are folds of one log of this name: average over them"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="write the tables here instead of on stdout")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one line of JSON on stdout; needs --out")] = False,
) -> None:
    """Put results side by side in the paper's tables, and ours: a line per method, several seeds as mean and spread.

    Results on one dataset make one set of tables. Methods trained with different settings stay apart, and are called
    by what differs. Bundles among the arguments make a table of what clustering bought, a line for each.

    Examples:

      hetlm tables single.json hetlm.json mixture.json --format markdown

      hetlm tables bundles/hetlm bundles/mixture
    """
    if as_json and out is None:
        raise fail("--json leaves stdout to one line of JSON: name a file for the tables with --out")
    if out is not None and not out.parent.is_dir():
        raise fail(f"--out {out}: the directory {out.parent} does not exist")
    if out is not None and out.is_dir():
        raise fail(f"--out {out} is a directory: name a file")
    from rich.console import Console

    from training.evaluation.tables import latex, markdown, rules, terminal
    from training.evaluation.tables.runs import Run, logs, read
    from training.evaluation.timing import table
    from training.evaluation.timing.result import Timing

    try:
        bundles = [rules.Rules.read(path) for path in runs if path.is_dir()]
        documents = [(path, read(path)) for path in runs if not path.is_dir()]
        timings = [document for _, document in documents if isinstance(document, Timing)]
        evaluated = [Run(path, document) for path, document in documents if not isinstance(document, Timing)]
        found = logs(evaluated, folds_of)
    except ValueError as error:
        raise fail(str(error)) from error
    several = len({log.name for log in found} | {timing.dataset for timing in timings}) > 1
    grids = [
        grid
        for log in found
        for grid in _grids(log, None if decode == "own" else decode, reference, clusters, bins, several)
    ]
    grids += rules.grids(bundles)
    grids += [table.grid(timing, f"{timing.dataset}. " if several else "") for timing in timings]
    if format_ == "screen":
        if out is None:
            terminal.show(grids, Console(highlight=False))
        else:
            with out.open("w") as file:
                terminal.show(grids, Console(file=file, highlight=False))
    else:
        text = (markdown if format_ == "markdown" else latex).render(grids)
        if out is None:
            typer.echo(text, nl=False)
        else:
            out.write_text(text)
    document = {
        "tables": [grid.title for grid in grids],
        "logs": {log.name: [group.label for group in log.groups] for log in found},
        "out": None if out is None else str(out),
    }
    emit(document, as_json)


def _grids(
    log: Log, decode: Decode | None, wanted: str | None, clusters: bool, bins: bool, several: bool
) -> list[Grid]:
    from training.evaluation.tables import layout, returning
    from training.evaluation.tables.runs import blocks, source

    single = log.reference(wanted)
    if single is None:
        if wanted is not None:
            raise fail(
                f"--reference {wanted}: {log.name} has no such method; it has "
                f"{', '.join(group.label for group in log.groups)}"
            )
        STDERR.print(
            f"{log.name}: no composites, for there is no single model to compare with: add its result, or name one "
            "with --reference",
            soft_wrap=True,
            markup=False,
        )
    prefix = f"{log.name}. " if several else ""
    own = blocks(log, decode, clusters)
    reference = None if single is None else source(single, decode)
    note = _note(log, decode)
    made = [*layout.tables(own, note, prefix, reference), *returning.tables(own, note, prefix)]
    return [*made, *layout.bins(own, prefix), *returning.bins(own, prefix)] if bins else made


def _note(log: Log, decode: Decode | None) -> str:
    """What the figures are, in words."""
    runs = [run.evaluation for group in log.groups for run in group.runs]
    parts = []
    if any(len(group.runs) == 1 and group.runs[0].evaluation.settings.resamples for group in log.groups):
        parts.append("In brackets: 95 % intervals, by resampling users.")
    seeds = {len(group.runs) for group in log.groups} - {1}
    if seeds:
        parts.append(f"±: standard deviation over {' or '.join(map(str, sorted(seeds)))} runs (seeds or folds).")
    users = sorted({run.settings.users for run in runs})
    counts = f"{users[0]:,}" if len(users) == 1 else f"{users[0]:,} to {users[-1]:,}"
    parts.append(f"{counts} next sessions of {log.name} ({runs[0].settings.split}).")
    by_decode = log.decodes()
    if decode is None:
        sides = [f"{name} ({', '.join(labels)})" for name, labels in by_decode.items()]
        parts.append(f"Decode: {'; '.join(sides) if len(sides) > 1 else next(iter(by_decode))}.")
    else:
        own = by_decode.get("own")
        parts.append(f"Decode: {decode}" + (f"; own ({', '.join(own)})." if own else "."))
    return " ".join(parts)
