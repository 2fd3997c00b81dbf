"""Tables about time: who comes back within the days, and with which outcome."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from tests.training.evaluation.documents import about_time, evaluation, row
from training.evaluation.result import Evaluation
from training.evaluation.tables import latex, markdown
from training.evaluation.tables.grid import Cell, Grid
from training.evaluation.tables.returning import bins
from training.evaluation.tables.returning import tables as return_tables
from training.evaluation.tables.runs import Log, Run, blocks, logs
from training.evaluation.tables.screen import show

BOTH = {"purchase": 0.8, "cart": 0.6}


def log(*evaluations: Evaluation) -> Log:
    runs = [Run(Path(f"{i}.json"), own) for i, own in enumerate(evaluations)]
    (one,) = logs(runs)
    return one


def cells(grid: Grid, line: int = 0) -> dict[str, Cell]:
    own = grid.sections[line].lines[0].cells
    return dict(zip((column.replace("\n", " ") for column in grid.columns), own, strict=True))


def test_a_table_per_question_with_the_users_it_is_about() -> None:
    ours = evaluation("mixture", returns=about_time(0.7, BOTH), clusters=(row(cluster=0), row(cluster=1, name="b")))
    other, without = evaluation("hetlm", returns=about_time(0.75)), evaluation("repeat")
    made = list(return_tables(blocks(log(ours, other, without), None, clusters=True), "About.", "shop. "))
    assert [grid.title for grid in made] == [
        "shop. Returning within 7 days: quality of the probability",
        "shop. Cart within 7 days: quality of the probability",
        "shop. Purchase within 7 days: quality of the probability",
    ]
    back, cart, _ = made
    assert [section.lines[0].label for section in back.sections] == ["mixture", "hetlm"], "who says nothing has no line"
    first = cells(back)
    assert first["Users"].text == "900"
    assert (first["Rate"].text, first["Log loss of the rate"].text, first["Brier of the rate"].text) == (
        "0.300",
        "0.611",
        "0.210",
    )
    assert (first["AUC"].text, first["AUC"].note, first["AUC"].best) == ("0.700", "[0.650, 0.750]", False)
    assert cells(back, 1)["AUC"].best
    assert "Any session" not in first
    assert [section.lines[0].label for section in cart.sections] == ["mixture"]
    assert (cells(cart)["Users"].text, cells(cart)["Any session"].text) == ("400", "0.450")
    for text in (markdown.render(made), latex.render(made)):
        assert "Cart within 7 days" in text
        assert "0.600" in text


def test_seeds_are_averaged_and_their_bins_left_out() -> None:
    both = log(*(evaluation(seed=seed, returns=about_time(0.6 + seed / 10, {"cart": 0.6})) for seed in (0, 1)))
    own = blocks(both, None, clusters=False)
    back, _ = return_tables(own)
    assert (cells(back)["AUC"].text, cells(back)["AUC"].note) == ("0.650", "± 0.071")
    assert list(bins(own)) == []
    assert list(return_tables(blocks(log(evaluation()), None, clusters=False))) == []


def test_bins_are_those_of_the_document() -> None:
    own = blocks(log(evaluation(returns=about_time(0.7, {"cart": 0.6}))), None, clusters=False)
    made = list(bins(own))
    assert [(grid.title, len(grid.sections[0].lines)) for grid in made] == [
        ("Returning within 7 days: users by decile of propensity, the likeliest first", 1),
        ("Returning within 7 days: reliability of the probability", 2),
        ("Cart within 7 days: users by decile of propensity, the likeliest first", 1),
        ("Cart within 7 days: reliability of the probability", 2),
    ]
    assert [cell.text for cell in made[0].sections[0].lines[0].cells] == [
        "900",
        "0.100",
        "0.400",
        "0.250",
        "0.300",
        "[0.200, 0.400]",
        "270",
    ]


def test_one_evaluation_shows_them_on_screen() -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=300, force_terminal=True, color_system=None, highlight=False)
    show(evaluation(returns=about_time(0.7, {"cart": 0.6})), console)
    text = screen.getvalue()
    assert "Returning within 7 days: quality of the probability" in text
    assert "Cart within 7 days: users by decile of propensity" in text
    screen.truncate(0)
    show(evaluation(), console)
    assert "within 7 days" not in screen.getvalue()
