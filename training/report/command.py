"""`hetlm report`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from browsing.console import STDERR, emit, fail
from browsing.whole import write_whole


def report(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The directory that `hetlm train --out` wrote.")],
    out: Annotated[Path, typer.Option(metavar="HTML", help="Where the page goes.")],
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN.json]...",
            help="What `hetlm evaluate --out` wrote of this bundle and of the controls, each with its .users.parquet "
            "beside it, and what `hetlm timing --out` wrote.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="DIRECTORY",
            help="Take the training's log from this run's directory, with the times, which are not in the bundle. By "
            "default the times come from the run that made it, where that is still among $HETLM_HOME/runs.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="End with one line of JSON on stdout, and nothing else there.")
    ] = False,
) -> None:
    """Write one HTML page about a bundle: what it predicts and how well, its kinds of visitors, how it was trained.

    The page needs no network and can be mailed. From the bundle alone it tells of the training; with results of
    `hetlm evaluate` it says how well test users are predicted, in words first, and against every control given.

    Examples:

      hetlm report bundle --out report.html

      hetlm report bundle own.json single.json repeat.json markov.json times.json --out report.html
    """
    if not out.parent.is_dir():
        raise fail(f"--out {out}: the directory {out.parent} does not exist")
    if out.is_dir():
        raise fail(f"--out {out} is a directory: name a file")
    if run is not None and not (run / "log.jsonl").is_file():
        raise fail(f"--run {run}: it has no log.jsonl; `hetlm train` prints a run's directory when it starts")
    from browsing.bundle import verify
    from training.report.render import page, sections
    from training.report.story import Story, read_results
    from training.run import default_runs
    from training.training_log import RUN_LOG, TrainingLog, read_log

    try:
        manifest = verify(bundle)
        story = Story.of(bundle, manifest)
        measured, timings = read_results(results or [], manifest)
        story = replace(story, measured=measured, timings=timings)
        log = TrainingLog.load(bundle)
        if run is not None:
            story = replace(story, records=read_log(run / RUN_LOG))
        elif log is not None:
            story = replace(story, records=log.timed(default_runs()))
    except ValueError as error:
        raise fail(str(error)) from error
    parts = sections(story)
    text = page(manifest, parts)
    write_whole(out, text)
    STDERR.print(f"{out}, {len(text) / 1024:,.0f} KiB")
    document = {
        "report": str(out),
        "version": manifest.version,
        "bytes": len(text.encode()),
        "results": len(measured),
        "timings": len(timings),
        "sections": [section.key for section in parts],
    }
    emit(document, as_json)
