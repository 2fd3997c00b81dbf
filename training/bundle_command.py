"""`hetlm bundle`: check a bundle, or look into it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from browsing.console import emit, fail

if TYPE_CHECKING:  # torch takes seconds to import, and `hetlm --help` needs none of it
    from browsing.bundle import Manifest

bundle = typer.Typer(no_args_is_help=True, help="Check a bundle, or look into it.")

Place = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The directory that `hetlm train --out` wrote.")]
AsJson = Annotated[bool, typer.Option("--json", help="End with one line of JSON on stdout, and nothing else there.")]


@bundle.command()
def verify(
    directory: Place,
    expect: Annotated[
        str | None, typer.Option(metavar="VERSION", help="The version that it must have, as `bundle show` prints it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every file's hash, the file list, shapes and sizes, and that nothing in the bundle can run.

    Ends with code 0 and the version, or with code 2 and the first thing that is wrong.
    """
    manifest = _read(directory, expect)
    if not as_json:
        typer.echo(f"{directory} is whole: version {manifest.version}")
    emit({"bundle": str(directory), "version": manifest.version, "files": len(manifest.files)}, as_json)


@bundle.command()
def show(directory: Place, as_json: AsJson = False) -> None:
    """Print a bundle's clusters, metrics and limits, after checking it."""
    manifest = _read(directory, None)
    if as_json:
        emit({"bundle": str(directory), **manifest.model_dump(mode="json", exclude={"files"})}, True)
        return
    console = Console(highlight=False)
    facts = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _facts(manifest):
        facts.add_row(name, escape(value))
    console.print(facts)
    clusters = Table("id", "name", "share", "typical pages", title="clusters", title_justify="left")
    for cluster in manifest.clusters:
        pages = escape(", ".join(cluster.typical_pages))
        clusters.add_row(str(cluster.id), escape(cluster.name), f"{cluster.share:.1%}", pages)
    console.print(clusters)
    metrics = Table("metric", "value", title="held-out users", title_justify="left")
    for name, number in sorted(manifest.metrics.items()):
        metrics.add_row(escape(name), f"{number:,.{0 if number.is_integer() else 4}f}")
    console.print(metrics)


def _read(directory: Path, expected: str | None) -> Manifest:
    from browsing.bundle import BundleError
    from browsing.bundle import verify as verify_bundle

    try:
        return verify_bundle(directory, expected)
    except BundleError as error:
        raise fail(str(error)) from error


def _facts(manifest: Manifest) -> list[tuple[str, str]]:
    training = manifest.training
    outcomes = "; ".join(f"{name}: {', '.join(pages)}" for name, pages in manifest.outcomes.items())
    return [
        ("version", manifest.version),
        ("method", f"{training.method}, seed {training.seed}"),
        ("training users", f"{training.users:,}"),
        ("window", f"{training.window_start} to {training.window_end}"),
        ("vocabulary", f"{manifest.vocabulary_size - 4:,} pages"),
        ("outcomes", outcomes or "none"),
        ("limits", f"{manifest.limits.context} tokens of context, next sessions of {manifest.limits.max_steps} pages"),
        ("decode", manifest.decode),
        ("encoder", f"{manifest.encoder.name}, {manifest.encoder.dimension} dimensions"),
    ]
