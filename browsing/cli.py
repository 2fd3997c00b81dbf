"""The command line. It mounts the commands of training and service, which it finds through entry points."""

from __future__ import annotations

import os
from importlib.metadata import entry_points

import typer


def build() -> typer.Typer:
    """The whole `hetlm` command."""
    app = typer.Typer(
        name="hetlm",
        help="Predict a visitor's next session: from a page-view log to POST /predict.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for entry in sorted(entry_points(group="hetlm.commands"), key=lambda e: e.name, reverse=True):
        entry.load()(app)
    return app


def main() -> None:
    # Arrow chooses its allocator when it is loaded, which the commands' modules do. Its own keeps what was freed, for
    # every thread that ever wrote a file, so that a service would grow; the C library's is given back.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    build()()
