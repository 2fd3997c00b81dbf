"""`hetlm compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from browsing.console import emit, fail
from browsing.whole import write_whole
from training.evaluation.tables.terminal import WIDTH

if TYPE_CHECKING:
    from training.evaluation.compare.comparison import Compared, Comparison

GROUPS = {
    "pages": "Pages",
    "equal_mean": "Equal mean length",
    "equal_each": "Equal length for each",
    "variance": "Variance over users",
    "text": "As text",
    "ranking": "Ranking",
    "loss": "Test loss",
    "worst_decile": "Worst 10 % of users",
}
OUTCOMES = {"outcomes": "page in the session", "decisions": "at the threshold"}
"""The two ways of predicting an outcome; figures of its probability stand under its name alone."""
NAMES = {
    "hr": "HR",
    "ioa": "IoA",
    "iop": "IoP",
    "iou": "IoU",
    "iog": "IoG",
    "new_p": "New-P",
    "val_p": "Val-P",
    "f1": "F1",
    "bleu": "BLEU (0 to 100)",
    "bert_precision": "BERTScore precision",
    "bert_recall": "BERTScore recall",
    "bert_f1": "BERTScore F1",
    "generated": "distinct pages generated",
    "recall_10": "Recall@10",
    "ndcg_10": "NDCG@10",
    "mrr": "MRR",
    "nats_per_page": "nats per page",
    "user_mean": "nats per page, mean of users",
    "log_loss": "log loss",
    "brier": "Brier",
    "auc": "AUC",
    "average_precision": "average precision",
}


def compare(
    results: Annotated[
        list[Path], typer.Argument(help="RUN.json files of `hetlm evaluate --out`; the first is the reference")
    ],
    decode: Annotated[
        Literal["consensus", "greedy", "default"],
        typer.Option(help="which decode's pages; default: the one each result was evaluated with"),
    ] = "default",
    equal_length: Annotated[
        bool,
        typer.Option(
            "--equal-length",
            help="also set the others' likeliest pages against the reference's sessions: as many on average, and as "
            "many for every user, so that no method gains by predicting more",
        ),
    ] = False,
    folds_of: Annotated[
        str | None,
        typer.Option(
            "--folds-of",
            metavar="NAME",
            help="the datasets are folds of one log of this name: take their users together, one result per method "
            "and fold; the first one's method is the reference",
        ),
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="resamples of the users")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="of the resamples")] = 0,
    out: Annotated[Path | None, typer.Option(help="also write the comparison here, as JSON")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one line of JSON on stdout instead of tables")] = False,
) -> None:
    """Compare evaluations of the same users: paired differences to the first, with standard errors and 95 % intervals.

    Every file needs its RUN.users.parquet beside it. An interval without 0 is a difference that other users of the same
    kind would very likely show too; it says nothing about other seeds of the training.
    """
    if len(results) < 2:
        raise fail("nothing to compare: name the reference and at least one more result")
    if out is not None and not out.parent.is_dir():
        raise fail(f"--out {out}: the directory {out.parent} does not exist")
    if out is not None and out.is_dir():
        raise fail(f"--out {out} is a directory: name a file")
    from training.evaluation.compare.folds import pooled
    from training.evaluation.compare.paired import ComparisonError, Result, longer_than_ranked
    from training.evaluation.compare.paired import compare as compare_results

    try:
        chosen = None if decode == "default" else decode
        read = [Result.read(path) for path in results]
        first, *others = read if folds_of is None else pooled(read, folds_of, chosen)
        if not others:
            raise fail(f"nothing to compare: all results are of the method {first.document.method}")
        comparison = compare_results(
            first, others, resamples=resamples, seed=seed, decode=chosen, equal_length=equal_length
        )
        for other in others if equal_length else ():
            if why := longer_than_ranked(first, other, chosen):
                raise fail(f"--equal-length: {why}")
    except ComparisonError as error:
        raise fail(str(error)) from error
    if out is not None:
        write_whole(out, comparison.model_dump_json(indent=2) + "\n")
    if not as_json:
        show(comparison, Console(highlight=False))
    emit(comparison.model_dump(mode="json"), as_json)


def show(comparison: Comparison, console: Console) -> None:
    """Print a table per compared result."""
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    reference = comparison.reference
    console.print(
        Text(
            f"{comparison.users:,} users ({comparison.n:,} next sessions) of the {comparison.split} split of "
            f"{comparison.dataset or 'the dataset'}; reference: {reference.name} ({reference.method}, seed "
            f"{reference.seed}, {reference.decode}); {comparison.resamples:,} resamples"
        ),
        soft_wrap=True,
    )
    for compared in comparison.others:
        console.print(_table(compared, reference.name))


def _table(compared: Compared, reference: str) -> Table:
    side = compared.side
    title = Text(f"{side.name} ({side.method}, seed {side.seed}, {side.decode}) against {reference}")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("Figure", no_wrap=True)
    for column in ("Reference", "This", "Difference", "Std. error", "95 % interval"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("This is", no_wrap=True)
    last = ""
    for name, own in compared.differences.items():
        group, _, figure = name.rpartition(".")
        if group != last:
            table.add_section()
            last = group
        table.add_row(
            f"{_group(group)}: {NAMES.get(figure, figure)}",
            f"{own.reference:.4f}",
            f"{own.other:.4f}",
            f"{own.difference:+.4f}",
            f"{own.standard_error:.4f}",
            Text(f"[{own.interval[0]:+.4f}, {own.interval[1]:+.4f}]"),  # as text: it is no markup
            own.verdict or "",
        )
    return table


def _group(name: str) -> str:
    if name in GROUPS:
        return GROUPS[name]
    kind, _, outcome = name.partition(".")
    if kind in OUTCOMES:
        return f"{_outcome(outcome)}, {OUTCOMES[kind]}"
    return _outcome(kind) + (" uncalibrated" if outcome else "")


def _outcome(name: str) -> str:
    from training.evaluation.tables.layout import TITLES

    return TITLES.get(name, name.capitalize())
