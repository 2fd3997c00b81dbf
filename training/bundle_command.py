"""`hetlm bundle`: check a bundle, look into it, or have its clusters named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from browsing.console import STDERR, emit, fail

if TYPE_CHECKING:  # torch takes seconds to import, and `hetlm --help` needs none of it
    from browsing.bundle import Manifest

KEY = "HETLM_PROMPT_KEY"

bundle = typer.Typer(no_args_is_help=True, help="Check a bundle, look into it, or have its clusters named.")

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


@bundle.command()
def name(
    directory: Place,
    url: Annotated[
        str | None,
        typer.Option(help="The endpoint, up to before /chat/completions: http://localhost:8000/v1, for example."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model's name there.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Give the built names back; asks nobody.")] = False,
    key_variable: Annotated[
        str, typer.Option("--key-env", help="The environment variable that holds the endpoint's key, if it needs one.")
    ] = KEY,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that one try may take.")] = 60.0,
    attempts: Annotated[int, typer.Option(min=1, help="Tries per cluster, with growing pauses.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Have a language model name the clusters, through any OpenAI-compatible endpoint.

    It is sent aggregates alone: pages that enough users saw, their shares and lifts, session lengths, outcome rates; no
    user's sessions. A name is kept as plain text of at most 40 characters; a cluster for which there is none keeps its
    built name. Names are part of the bundle, which is sealed anew and so gets another version.

      hetlm bundle name bundles/shop --url http://localhost:8000/v1 --model smollm2
    """
    from training.baselines.text.endpoint import Endpoint
    from training.renaming import built_names, rename_clusters

    troubles: tuple[str, ...] = ()
    try:
        if reset:
            manifest = built_names(directory)
        elif url is None or model is None:
            raise fail("who is to name the clusters? Give --url and --model, or --reset for the built names")
        else:
            key = os.environ.get(key_variable) or None
            endpoint = Endpoint(url, model, key=key, max_tokens=32, timeout=timeout, attempts=attempts, concurrency=1)
            renamed = rename_clusters(directory, endpoint)
            manifest, troubles = renamed.manifest, renamed.troubles
    except ValueError as error:
        raise fail(str(error)) from error
    for trouble in troubles:
        STDERR.print(f"[bold yellow]note:[/] {escape(trouble)}", soft_wrap=True)
    for cluster in manifest.clusters:
        STDERR.print(f"cluster {cluster.id}: {escape(cluster.name)}")
    document = {
        "bundle": str(directory),
        "version": manifest.version,
        "names": [cluster.name for cluster in manifest.clusters],
        "troubles": list(troubles),
    }
    emit(document, as_json)


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
