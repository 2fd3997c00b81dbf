"""Training's commands, mounted by `browsing.cli` through an entry point."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add `simulate`, `ingest`, `train`, `evaluate` and `bundle` to the command line."""
    from training.bundle_command import bundle
    from training.evaluation.command import evaluate
    from training.ingest.command import ingest
    from training.simulate.command import simulate
    from training.train_command import train

    app.command()(simulate)
    app.command()(ingest)
    app.command()(train)
    app.command()(evaluate)
    app.add_typer(bundle, name="bundle")
