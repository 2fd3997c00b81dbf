"""How every command ends: a document, a drawing, the table, and one line of JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from browsing.console import STDERR, emit, fail
from loadtest.bench.document import Figure, Report, Setting, Study
from loadtest.bench.machine import Watch, command, flags, processor, versions
from loadtest.bench.show import draw, table

OUT = Path("bench")

OutOption = Annotated[Path, typer.Option("--out", help="folder of the document and its drawing")]
JsonOption = Annotated[bool, typer.Option("--json", help="nothing on stdout but the line of JSON")]


def folder(out: Path) -> Path:
    """`out`, made before an hour is spent on what could not be written. Raises what `fail` returns."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise fail(f"--out {out}: no folder can be made there ({error.strerror})") from None
    return out


def study(
    name: Literal["paths", "encoder", "stacked", "ingest"],
    watch: Watch,
    figures: Sequence[Figure],
    *,
    conditions: Mapping[str, Setting | tuple[Setting, ...]],
    settings: Mapping[str, Setting],
    details: Mapping[str, Any],
    packages: tuple[str, ...],
) -> Study:
    """The document of the command `name`. `packages`: whose versions the figures depend on."""
    machine = watch.machine()
    return Study.model_validate(
        {
            "kind": f"bench-{name}",
            "command": command(),
            "machine": machine,
            "processor": processor(),
            "versions": versions(packages),
            "figures": tuple(figures),
            "flags": tuple(flags(machine)),
            "seconds": watch.seconds(),
            "conditions": conditions,
            "settings": settings,
            "details": details,
        }
    )


def end(measured: Report | Study, out: Path, name: str, as_json: bool, above: str = "") -> None:
    """Writes `name`.json and `name`.svg into `out`. `above`: what stands over the table on the screen."""
    document = out / f"{name}.json"
    measured.write(document)
    draw(measured, out / f"{name}.svg")
    if not as_json:
        typer.echo("\n\n".join(filter(None, (above, table(measured.figures)))) + "\n")
    for flag in measured.flags:
        STDERR.print(flag, style="yellow", markup=False, soft_wrap=True)
    held = {figure.key: figure.held for figure in measured.figures}
    medians = {figure.key: figure.value.median for figure in measured.figures if figure.value is not None}
    emit({"report": str(document), "held": held, "measured": medians, "flags": measured.flags}, True)
