"""Training's commands, mounted by `browsing.cli` through an entry point."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add training's commands to the command line."""
    from training.baselines.text.command import prompt
    from training.bundle_command import bundle
    from training.evaluation.command import evaluate
    from training.evaluation.compare.command import compare
    from training.evaluation.tables.command import tables
    from training.evaluation.timing.command import timing
    from training.evaluation.truth.command import truth
    from training.ingest.command import ingest
    from training.lora.command import lora
    from training.report.command import report
    from training.simulate.command import simulate
    from training.train_command import train

    app.command()(simulate)
    app.command()(ingest)
    app.command()(train)
    app.command()(evaluate)
    app.command()(compare)
    app.command()(tables)
    app.command()(timing)
    app.command()(truth)
    app.command()(prompt)
    app.command()(lora)
    app.command()(report)
    app.add_typer(bundle, name="bundle")
