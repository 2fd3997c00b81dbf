from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import typer
from typer.testing import CliRunner

from service.schemas import (
    ClusterOut,
    EmbeddingOut,
    OutcomeOut,
    PredictRequest,
    PredictResponse,
    TookOut,
    TruncatedOut,
)
from service.visit import BAR, Visitor, bar, percent, read, varied, visit

START = datetime(2026, 1, 1, tzinfo=UTC)


def answer(cluster: int) -> PredictResponse:
    return PredictResponse(
        request_id="r",
        bundle_version="v",
        user_id=None,
        cluster=ClusterOut(id=cluster, name="kind", probability=1.0),
        next_session=[],
        pages=[],
        outcomes={"cart": OutcomeOut(probability=0.5, raw=0.5, calibrated=False, interval=(0.4, 0.6))},
        unknown_pages=[],
        truncated=TruncatedOut(sessions_dropped=0),
        unfinished_paths=0.0,
        fallback=None,
        embedding=EmbeddingOut(sessions=1, cached=0),
        took_ms=TookOut(total=1, embed=0, select=0, generate=1, estimate=0),
    )


def write(path: Path, sessions: list[int]) -> Path:
    pl.DataFrame(
        {
            "user_id": [f"u{i}" for i in range(len(sessions))],
            "history": [[["/"]] * n for n in sessions],
            "history_started_at": [[START] * n for n in sessions],
            "next_session": [["/bags"]] * len(sessions),
        }
    ).write_parquet(path)
    return path


def test_visitors_are_spread_over_the_file_and_have_several_sessions(tmp_path: Path) -> None:
    path = write(tmp_path / "test.parquet", [1, 2, 3] * 10)
    found = read(path, 4)
    assert [visitor.user_id for visitor in found] == ["u1", "u8", "u16", "u23"]
    assert found[1] == Visitor("u8", (("/",),) * 3, (START,) * 3, ("/bags",))
    assert len(read(path, 1000)) == 20


def test_where_nobody_has_several_sessions_one_will_do(tmp_path: Path) -> None:
    assert [v.user_id for v in read(write(tmp_path / "test.parquet", [1, 1]), 4)] == ["u0", "u1"]


def test_different_kinds_are_shown_first() -> None:
    answers = [answer(cluster) for cluster in (0, 0, 0, 2, 1, 2)]
    assert varied(answers, 3) == [0, 3, 4]
    assert varied(answers, 4) == [0, 1, 3, 4]
    assert varied(answers, 9) == [0, 1, 2, 3, 4, 5]


def test_a_very_long_history_is_cut_to_what_may_be_asked() -> None:
    history = tuple(tuple(f"/{i}" for _ in range(30)) for i in range(300))
    times = tuple((START + timedelta(days=i)).replace(tzinfo=None) for i in range(300))
    body = Visitor("u", (*history, ("/a",) * 700), (*times, START + timedelta(days=300)), ()).request(3)
    import json

    request = PredictRequest.model_validate_json(json.dumps(body))
    assert request.sessions is not None
    assert [len(session.pages) for session in request.sessions][-2:] == [30, 500]
    assert 4_970 < sum(len(session.pages) for session in request.sessions) <= 5_000


def test_bars_and_percents() -> None:
    assert bar(0.5, "cyan").plain == "█" * (BAR // 2) + "·" * (BAR - BAR // 2)
    assert bar(0.0, "cyan").plain == "·" * BAR
    assert bar(1.0, "cyan").plain == "█" * BAR
    assert all(len(bar(p / 1000, "cyan").plain) == BAR for p in range(1001))
    assert [percent(p) for p in (0.0, 0.04, 0.0994, 0.0996, 0.5, 1.0)] == ["0.0%", "4.0%", "9.9%", "10%", "50%", "100%"]


def test_a_dataset_with_a_session_that_is_null_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "test.parquet", [2])
    frame = pl.read_parquet(tmp_path / "test.parquet").with_columns(
        history=pl.Series([[["/"], None]], dtype=pl.List(pl.List(pl.String)))
    )
    frame.write_parquet(tmp_path / "test.parquet")
    app = typer.Typer()
    app.command()(visit)
    result = CliRunner().invoke(app, ["http://127.0.0.1:9", "--dataset", str(tmp_path)], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "no test.parquet of a dataset" in result.output
