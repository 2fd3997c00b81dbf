"""`hetlm truth`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from browsing.console import emit, fail


def truth(
    dataset: Annotated[Path, typer.Argument(help="the dataset of a simulated log", show_default=False)],
    simulated: Annotated[Path, typer.Argument(help="the truth.parquet of `hetlm simulate`", show_default=False)],
    results: Annotated[list[Path], typer.Argument(help="RUN.json files of `hetlm evaluate --out`", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="also write the comparison here, as JSON")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one line of JSON on stdout instead of a table")] = False,
) -> None:
    """Compare evaluations with a simulation's truth: clusters with the kinds, probabilities with the true ones.

    "best" is what the true model would answer, given the same histories: nobody can do better.
    """
    if out is not None and not out.parent.is_dir():
        raise fail(f"--out {out}: the directory {out.parent} does not exist")
    from training.dataset import Dataset, DatasetError
    from training.evaluation.compare.paired import ComparisonError, Result
    from training.evaluation.truth.against import against_truth

    try:
        data = Dataset.load(dataset)
        found = {path.stem: against_truth(Result.read(path), data, simulated) for path in results}
    except (ComparisonError, DatasetError) as error:
        raise fail(str(error)) from error
    except OSError as error:
        raise fail(f"{simulated}: {error.strerror or error}") from error
    document = {name: own.model_dump(mode="json") for name, own in found.items()}
    if out is not None:
        import json

        out.write_text(json.dumps(document, indent=2) + "\n")
    if not as_json:
        table = Table("Result", box=SIMPLE_HEAD)
        columns = ("Users", "Clusters", "ARI", "best", "Nats per page", "best", "Cart |p - true p|", "Purchase")
        for column in columns:
            table.add_column(column, justify="right")
        for name, own in found.items():
            errors = [own.outcomes[o].calibrated_error for o in ("cart", "purchase") if o in own.outcomes]
            numbers = [own.ari, own.best_ari, own.nats_per_page, own.best_nats_per_page, *errors]
            cells = ["–" if n is None else f"{n:.4f}" for n in numbers]
            table.add_row(name, f"{own.users:,}", f"{own.clusters} of {own.kinds}", *cells)
        Console(highlight=False).print(table)
    emit(document, as_json)
