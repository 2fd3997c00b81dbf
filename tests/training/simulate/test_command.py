import hashlib
import json
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from browsing.pages import PageRules
from browsing.sessions import Event, sessions_of
from training.simulate.command import simulate

app = typer.Typer()
app.command()(simulate)
SIZE = ["--users", "60", "--pages", "30", "--kinds", "3"]


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else " ".join(result.output.split())


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulate") / "log"
    run("--out", str(out), "--preset", "habits", "--seed", "4", *SIZE)
    return out


def events(path: Path) -> dict[str, list[Event]]:
    users: dict[str, list[Event]] = {}
    for user, time, url, event_type in pl.read_csv(path).iter_rows():
        users.setdefault(user, []).append(Event(datetime.fromisoformat(time), url, event_type))
    return users


def test_page_rules_recover_every_session(out: Path) -> None:
    truth = pl.read_parquet(out / "truth.parquet")
    counts = json.loads((out / "simulate.json").read_text())["counts"]
    pages = {*json.loads((out / "simulate.json").read_text())["world"]["pages"], "/cart", "/purchase"}
    users = events(out / "events.csv")
    sessions = {user: sessions_of(rows, PageRules()) for user, rows in users.items()}
    assert len(users) == len(truth) == counts["users"] == 60
    assert sum(map(len, sessions.values())) == counts["sessions"]
    assert sum(len(s.pages) for own in sessions.values() for s in own) == counts["events"]
    assert sum("/cart" in s.pages for own in sessions.values() for s in own) == counts["carts"]
    assert sum("/purchase" in s.pages for own in sessions.values() for s in own) == counts["purchases"]
    assert {p for own in sessions.values() for s in own for p in s.pages} <= pages
    for row in truth.iter_rows(named=True):
        own = sessions[row["user_id"]]
        assert 3 <= len(own) <= 8
        assert len(own[-1].pages) + 1 == row["next_pages"]


def test_urls_need_page_rules(out: Path) -> None:
    urls = pl.read_csv(out / "events.csv")["page_url"]
    assert urls.str.starts_with("https://shop.example/").all()
    assert urls.str.contains("gclid=[0-9]{10}$").any()
    assert urls.n_unique() > 30


def test_rows_are_in_order_of_time(out: Path) -> None:
    assert pl.read_csv(out / "events.csv")["timestamp"].is_sorted()


def test_the_truth_is_plausible(out: Path) -> None:
    truth = pl.read_parquet(out / "truth.parquet")
    assert truth.columns[:6] == ["user_id", "kind", "kind_name", "bayes_nll", "next_pages", "posterior"]
    assert (truth["purchase_probability"] < truth["cart_probability"]).all()
    assert truth["cart_probability"].is_between(0.05, 0.6).all()
    assert (truth["bayes_nll"] > 0).all()
    assert set(truth["kind"].to_list()) == {0, 1, 2}


def test_equal_seeds_write_equal_files_and_other_seeds_do_not(out: Path, tmp_path: Path) -> None:
    for name, seed in (("same", "4"), ("other", "5")):
        run("--out", str(tmp_path / name), "--preset", "habits", "--seed", seed, *SIZE)
    for file in ("events.csv", "truth.parquet", "simulate.json"):
        digests = [
            hashlib.sha256((d / file).read_bytes()).digest() for d in (out, tmp_path / "same", tmp_path / "other")
        ]
        assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("log_format", ["parquet", "jsonl"])
def test_other_formats_hold_the_same_rows(out: Path, tmp_path: Path, log_format: str) -> None:
    there = tmp_path / "log"
    run("--out", str(there), "--preset", "habits", "--seed", "4", "--log-format", log_format, "--no-truth", *SIZE)
    read = pl.read_parquet if log_format == "parquet" else pl.read_ndjson
    assert read(there / f"events.{log_format}").equals(pl.read_csv(out / "events.csv"))
    truth = pl.read_parquet(there / "truth.parquet")
    assert "cart_probability" not in truth.columns
    assert truth["bayes_nll"].equals(pl.read_parquet(out / "truth.parquet")["bayes_nll"])


def test_blocks_follow_one_another(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import training.simulate.run as module

    monkeypatch.setattr(module, "BLOCK", 25)
    run("--out", str(tmp_path / "log"), "--preset", "habits", "--seed", "4", "--no-truth", *SIZE)
    truth = pl.read_parquet(tmp_path / "log" / "truth.parquet")
    assert truth["user_id"].to_list() == pl.read_parquet(out / "truth.parquet")["user_id"].to_list()
    assert set(events(tmp_path / "log" / "events.csv")) == set(truth["user_id"])


def test_json_is_one_line_on_stdout(tmp_path: Path) -> None:
    answer = json.loads(run("--out", str(tmp_path / "log"), "--no-truth", "--json", *SIZE))
    assert answer["users"] == 60
    assert Path(answer["log"]).is_file()
    assert answer["bayes_nats_per_page"] > 0


def test_an_existing_directory_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    out = tmp_path / "log"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    assert "exists" in run("--out", str(out), *SIZE, code=2)
    assert "remove it" in run("--out", str(out), "--overwrite", *SIZE, code=2)
    assert (out / "mine.txt").read_text() == "keep"
    run("--out", str(tmp_path / "two"), "--no-truth", *SIZE)
    run("--out", str(tmp_path / "two"), "--no-truth", "--overwrite", "--users", "30", "--pages", "30")
    assert len(pl.read_parquet(tmp_path / "two" / "truth.parquet")) == 30


def test_mistakes_are_named_and_leave_nothing(tmp_path: Path) -> None:
    assert "16 to 400 pages, not 5" in run("--out", str(tmp_path / "a"), "--pages", "5", code=2)
    assert "1 to 12 kinds, not 99" in run("--out", str(tmp_path / "a"), "--kinds", "99", code=2)
    (tmp_path / "file").write_text("")
    assert "cannot be written" in run("--out", str(tmp_path / "file" / "a"), *SIZE, code=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import training.simulate.run as module

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "_truth", full)
    assert "no space left" in run("--out", str(tmp_path / "log"), "--no-truth", *SIZE, code=2)
    assert list(tmp_path.iterdir()) == []
