"""`hetlm tables`: from files to tables, and mistakes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.training.evaluation.documents import evaluation, generation, row
from training.evaluation.result import Evaluation, Machine
from training.evaluation.tables.command import tables
from training.evaluation.timing.result import Timed, Timing


def run(*arguments: str | Path) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(tables)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write(folder: Path, documents: Mapping[str, Evaluation | Timing]) -> list[Path]:
    for name, document in documents.items():
        (folder / name).write_text(document.model_dump_json())
    return [folder / name for name in documents]


def timing(dataset: str = "shop") -> Timing:
    one = Timed(
        name="single",
        kind="single",
        bundle_version="b",
        method="single",
        models=1,
        parameters=1000,
        total_parameters=1000,
        seconds=(2.0, 4.0),
        ratios=(1.0, 1.0),
        extrapolated_seconds=60.0,
        tokens=500,
        route_seconds=None,
    )
    return Timing(
        dataset=dataset,
        dataset_sha256="0" * 64,
        split="test",
        users=500,
        rounds=2,
        samples=16,
        sets=3,
        seed=0,
        max_steps=8,
        concurrency=64,
        machine=Machine(cpu="A CPU", cores=2, memory_gib=8, python="3.11", torch="2", threads=1),
        configurations=(one,),
    )


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    both = row(generation({"iou": 0.4}), others={"greedy": generation({"iou": 0.222})})
    return write(
        tmp_path,
        {
            "single.json": evaluation("single"),
            "hetlm.json": evaluation("hetlm", both),
            "popularity.json": evaluation("popularity", row(generation({"iou": 0.1}), nats=None), decode="own"),
            "timing.json": timing(),
        },
    )


def test_markdown_with_every_kind_of_table(files: list[Path]) -> None:
    result = run(*files, "--format", "markdown")
    assert result.exit_code == 0, result.stderr
    assert "| hetlm | 1,200 | 0.800 | 0.400 | 0.500 | **0.400** | 0.200 | 1.000 |" in result.stdout
    assert "*Compared with single*" in result.stdout
    assert "| hetlm | – | 0.167 to 1.000 1 of 6, 5 tied |" in result.stdout
    assert "**Inference time**" in result.stdout
    assert "Decode: consensus (single, hetlm); own (popularity)." in result.stdout
    assert "1,200 next sessions of shop (test)" in result.stdout
    assert result.stderr == ""


def test_another_decode(files: list[Path]) -> None:
    result = run(*files, "--format", "markdown", "--decode", "greedy")
    assert "0.222" in result.stdout
    assert "Decode: greedy; own (popularity)." in result.stdout


def test_the_screen_and_latex_show_the_same_figures(files: list[Path], tmp_path: Path) -> None:
    screen, latex = run(*files), run(*files, "--format", "latex")
    assert screen.exit_code == latex.exit_code == 0
    for text in (screen.stdout, latex.stdout):
        assert "Page generation, mean over users" in text
        assert "3.00" in text  # the mean of the seconds
    assert "\\textbf{0.400}" in latex.stdout
    out = tmp_path / "tables.txt"
    assert run(*files, "--out", out).stdout == ""
    assert out.read_text() == screen.stdout


def test_several_logs_are_told_apart(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        {
            "a.json": evaluation("single"),
            "b.json": evaluation("single", dataset="news"),
            "t.json": timing("news"),
        },
    )
    titles = [line for line in run(*files, "--format", "markdown").stdout.splitlines() if line.startswith("**")]
    assert len([title for title in titles if title.startswith("**shop. ")]) == 4
    assert len([title for title in titles if title.startswith("**news. ")]) == 5


def test_seeds_and_folds(tmp_path: Path) -> None:
    rows = [row(generation({"iou": iou})) for iou in (0.2, 0.3)]
    seeds = {f"{seed}.json": evaluation(combined=own, seed=seed) for seed, own in enumerate(rows)}
    result = run(*write(tmp_path, seeds), "--format", "markdown")
    assert "0.250 ± 0.071" in result.stdout
    assert "standard deviation over 2 runs" in result.stdout
    folds = {f"fold{k}.json": evaluation(dataset=f"fold{k}", users=100 + k) for k in range(3)}
    result = run(*write(tmp_path, folds), "--format", "markdown", "--folds-of", "Taobao")
    assert "100 to 102 next sessions of Taobao (test)" in result.stdout
    assert "0.300 ± 0.000" in result.stdout


def test_the_reference_can_be_named_and_is_missed_aloud(files: list[Path]) -> None:
    named = run(*files, "--format", "markdown", "--reference", "popularity")
    assert "*Compared with popularity*" in named.stdout
    missing = run(files[1], "--format", "markdown")
    assert missing.exit_code == 0
    assert "Composites" not in missing.stdout
    assert "no composites" in missing.stderr
    wrong = run(*files, "--reference", "kmeans")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "it has single, hetlm, popularity" in wrong.stderr


def test_clusters_can_be_left_out(tmp_path: Path) -> None:
    clusters = tuple(row(cluster=k, name=f"kind {k}") for k in range(2))
    files = write(tmp_path, {"a.json": evaluation(clusters=clusters)})
    assert "1 kind 1" in run(*files, "--format", "markdown").stdout
    assert "1 kind 1" not in run(*files, "--format", "markdown", "--no-clusters").stdout


def test_json_is_one_line_and_the_tables_go_to_a_file(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "tables.md"
    result = run(*files, "--format", "markdown", "--out", out, "--json")
    assert result.stdout.count("\n") == 1
    document = json.loads(result.stdout)
    assert document["logs"] == {"shop": ["single", "hetlm", "popularity"]}
    assert document["tables"][-1] == "Inference time"
    assert all(f"**{title}**" in out.read_text() for title in document["tables"])
    alone = run(*files, "--json")
    assert (alone.exit_code, alone.stdout) == (2, "")
    assert "--out" in alone.stderr


def test_mistakes(files: list[Path], tmp_path: Path) -> None:
    assert run().exit_code == 2
    assert run(*files, "--format", "html").exit_code == 2
    missing = run(tmp_path / "missing.json")
    assert missing.exit_code == 2
    assert "missing.json" in missing.stderr
    twice = run(files[0], files[0])
    assert twice.exit_code == 2
    assert "name one of them" in twice.stderr.replace("\n", " ")
    assert "does not exist" in run(*files, "--out", tmp_path / "no" / "where").stderr
    assert "is a directory" in run(*files, "--out", tmp_path).stderr
