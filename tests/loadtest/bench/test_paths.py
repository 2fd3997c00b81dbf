"""Paths for the same standard error: the exact answer, and that counting needs many times more of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from browsing.vocabulary import BOS
from loadtest.bench.document import Study
from loadtest.bench.known import CART, PURCHASE, Shop, reached, shop
from loadtest.bench.paths import paths


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.2])
def test_a_shop_has_its_base_rate(rate: float) -> None:
    table = shop(3, rate)
    np.testing.assert_allclose(table.sum(axis=1), 1)
    assert (table >= 0).all()
    assert reached(table, (PURCHASE,), 20) == pytest.approx(rate, abs=1e-6)
    assert reached(table, (PURCHASE,), 1) == pytest.approx(table[BOS, PURCHASE])
    assert reached(table, (CART,), 20) > reached(table, (CART,), 2) > table[BOS, CART]


def test_what_is_asked_approaches_the_exact_answer() -> None:
    own = Shop(0, 0.05)
    assert own.truth == pytest.approx(0.05, abs=1e-6)
    assert own.served(256, 1)[0] == pytest.approx(own.truth, abs=0.01)
    assert own.served(16, 1) == own.served(16, 1) != own.served(16, 2)
    for stratified in (True, False):
        probability, (low, high) = own.forbidden(1_000, 1, stratified=stratified)
        assert probability == pytest.approx(own.truth, abs=0.03)
        assert low <= probability <= high
    (probability, _), drawn = own.until(0.03, 1)
    assert probability == pytest.approx(own.truth, abs=0.03)
    assert 8 <= drawn <= 128


def test_the_command_ends_with_one_line_of_json(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(paths)
    shown = CliRunner().invoke(app, ["--shops", "2", "--repeats", "40", "--json", "--out", str(tmp_path)])
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.count("\n") == 1
    measured = Study.read(tmp_path / "paths.json")
    assert (measured.kind, measured.settings) == ("bench-paths", {"repeats": 40})
    figures = {figure.key: figure for figure in measured.figures}
    told = json.loads(shown.stdout)
    assert set(told["measured"]) == set(figures)
    assert told["held"]["served"] is True
    assert told["held"]["stratified"] is None
    assert {key for key in figures if key.startswith("served/shop")} == {"served/shop-1", "served/shop-2"}
    spreads = {key: figure.value for key, figure in figures.items() if figure.value is not None}
    assert all(own.low < own.median < own.high for key, own in spreads.items() if "covered" not in key)
    by_shop = [spreads[f"served/shop-{n}"].median for n in (1, 2)]
    assert 2 / sum(1 / own for own in by_shop) == pytest.approx(spreads["served"].median)
    assert "served/shop-2" in (tmp_path / "paths.svg").read_text()
    document = measured.details
    assert document["base_rate"] == pytest.approx(0.05, abs=1e-6)
    ways = document["ways"]
    assert document["paths_counting_over_served"] == ways["served"]["ratio"]
    assert document["paths_counting_over_served_with_free_paths"] > 4
    assert ways["served"]["ratio"] > ways["stratified"]["ratio"] > 1
    assert all(abs(way["bias"]) < 0.02 for way in ways.values())
    taken = [row["paths"] for row in document["tolerances"]]
    assert [row["tolerance"] for row in document["tolerances"]] == [0.1, 0.05, 0.02]
    assert taken == sorted(taken)
    assert all(row["within"] >= 0.9 for row in document["tolerances"])
    assert "times fewer paths than counting" in shown.stderr
