"""Ask a running service about a few visitors of a dataset, and show its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import polars as pl
import typer
from pydantic import ValidationError
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from browsing.console import emit, fail
from browsing.newest import newest

if TYPE_CHECKING:  # the schemas bring torch, which every command would wait for
    from service.schemas import OutcomeOut, PredictResponse

WIDTH = 100
BAR = 24
ASKED_PER_SHOWN = 4
"""Several visitors are asked about for each that is shown, so that different kinds of them can be."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A user of the test split: what the service is told, and what then happened."""

    user_id: str
    history: tuple[tuple[str, ...], ...]
    started_at: tuple[datetime, ...]
    came: tuple[str, ...]

    def request(self, top_pages: int) -> dict[str, object]:
        """The body of `POST /predict`: the newest sessions that one request may hold."""
        kept = newest(self.started_at, self.history)
        sessions = [{"started_at": _utc(at).isoformat(), "pages": pages} for at, pages in kept]
        return {"user_id": self.user_id, "sessions": sessions, "options": {"top_pages": top_pages}}


def visit(
    url: Annotated[str, typer.Argument(help="address of a running service, such as http://127.0.0.1:8080")],
    dataset: Annotated[Path, typer.Option(help="a dataset that `hetlm ingest` wrote")],
    visitors: Annotated[int, typer.Option(min=1, max=50, help="how many to show")] = 3,
    top_pages: Annotated[int, typer.Option(min=1, max=100, help="likeliest pages shown of each")] = 6,
    api_key: Annotated[
        str | None, typer.Option(envvar="HETLM_API_KEY", help="where the service asks for one; safest in the variable")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="end with one line of JSON")] = False,
) -> None:
    """Show what a running service predicts for a few visitors of the test split, and what they then did."""
    try:
        candidates = read(dataset / "test.parquet", visitors * ASKED_PER_SHOWN)
    except (OSError, pl.exceptions.PolarsError, TypeError) as error:  # the last for a session that is null
        raise fail(f"{dataset}: no test.parquet of a dataset can be read there ({type(error).__name__})") from None
    if not candidates:
        raise fail(f"{dataset}/test.parquet has no visitor: ingest a larger log")
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    with httpx.Client(base_url=url, timeout=60.0, headers=headers) as client:
        answers = [ask(client, visitor, top_pages) for visitor in candidates]
    chosen = varied(answers, visitors)
    if not as_json:
        console = Console(width=min(Console().width, WIDTH) if Console().is_terminal else WIDTH, highlight=False)
        for place, index in enumerate(chosen):
            title = f"visitor {place + 1} of {len(chosen)}"
            console.print(panel(title, candidates[index], answers[index]))
    emit({"visitors": [answers[i].model_dump(mode="json") for i in chosen]}, as_json)


def read(path: Path, count: int) -> list[Visitor]:
    """At most `count` visitors, evenly spread over the file, those with at least two earlier sessions first."""
    columns = ["user_id", "history", "history_started_at", "next_session"]
    frame = pl.scan_parquet(path).select(columns).with_row_index()
    sessions = frame.select("index", several=pl.col("history").list.len() >= 2).collect()
    rows = sessions.filter("several")["index"].to_list() or sessions["index"].to_list()
    picked = [rows[i * len(rows) // min(count, len(rows))] for i in range(min(count, len(rows)))]
    found = frame.filter(pl.col("index").is_in(picked)).drop("index").collect()
    return [
        Visitor(str(user), tuple(map(tuple, history)), tuple(started), tuple(came))
        for user, history, started, came in found.iter_rows()
    ]


def ask(client: httpx.Client, visitor: Visitor, top_pages: int) -> PredictResponse:
    """One `POST /predict`. Exits with the service's own words where it refuses."""
    from service.schemas import PredictResponse

    try:
        response = client.post("/predict", json=visitor.request(top_pages))
    except httpx.HTTPError as error:
        raise fail(f"{client.base_url}: no answer ({type(error).__name__}); is `hetlm serve` running there?") from None
    if response.status_code != 200:
        raise fail(f"{client.base_url}predict answered {response.status_code}: {_refusal(response)}")
    try:
        return PredictResponse.model_validate_json(response.content)
    except ValidationError:
        raise fail(f"{client.base_url}predict does not answer as a hetlm service does") from None


def _refusal(response: httpx.Response) -> str:
    try:
        document: Any = response.json()
        return str(document["detail"])
    except (ValueError, KeyError, TypeError):
        return "no problem document"


def varied(answers: Sequence[PredictResponse], count: int) -> list[int]:
    """Places of at most `count` answers, in order: first one of every cluster, then as they come."""
    first: dict[int, int] = {}
    for i, answer in enumerate(answers):
        first.setdefault(answer.cluster.id, i)
    ranked = [*first.values(), *(i for i in range(len(answers)) if i not in first.values())]
    return sorted(ranked[:count])


def panel(title: str, visitor: Visitor, answer: PredictResponse) -> Panel:
    """All that is known about one visitor, at most `WIDTH` columns wide."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True, min_width=12)
    facts.add_column(overflow="fold")
    kind = Text(answer.cluster.name, "bold magenta").append(
        f"  cluster {answer.cluster.id}, {answer.cluster.probability:.0%}", "default"
    )
    facts.add_row("kind", kind)
    facts.add_row("before", journey(visitor.history[-1], f"{len(visitor.history)} sessions, the last: "))
    facts.add_row("predicted", journey(answer.next_session, style="bold cyan"))
    facts.add_row("really came", journey(visitor.came, hits=frozenset(answer.next_session)))
    parts: list[RenderableType] = [facts, Text(""), chances(answer), Text("")]
    if answer.fallback:
        parts.append(Text(f"answered by the fallback: {answer.fallback}", "bold yellow"))
    took = answer.took_ms
    parts.append(
        Text(
            f"{took.total:.0f} ms: embed {took.embed:.1f} ({answer.embedding.cached} of {answer.embedding.sessions} "
            f"sessions cached), select {took.select:.1f}, generate {took.generate:.1f}, estimate {took.estimate:.1f}",
            "dim",
        )
    )
    return Panel(Group(*parts), title=f"[bold]{title}[/]", title_align="left", border_style="blue", padding=(1, 2))


def journey(
    pages: Sequence[str], lead: str = "", *, style: str = "default", hits: frozenset[str] = frozenset()
) -> Text:
    """Pages joined by arrows; those among `hits` are green."""
    text = Text(lead, "dim")
    for i, page in enumerate(pages):
        if i:
            text.append(" → ", "dim")
        text.append(page, "bold green" if page in hits else style)
    return text if pages else text.append("nothing", "dim")


def chances(answer: PredictResponse) -> Table:
    """The likeliest pages and the outcomes, each with a bar."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=True, header_style="dim", expand=False)
    table.add_column("if they come back", max_width=40, no_wrap=True, overflow="ellipsis")
    table.add_column("", width=BAR, no_wrap=True)
    table.add_column("chance", justify="right", no_wrap=True)
    table.add_column("", style="dim", no_wrap=True)
    for page in answer.pages:
        table.add_row(
            Text(page.page), bar(page.probability, "cyan"), percent(page.probability), "seen before" * page.seen_before
        )
    table.add_row()
    for name, outcome in answer.outcomes.items():
        table.add_row(
            Text(f"a {name}", "bold"),
            bar(outcome.probability, "green"),
            Text(percent(outcome.probability), "bold"),
            _interval(outcome),
        )
    return table


def _interval(outcome: OutcomeOut) -> str:
    low, high = outcome.interval
    return f"{percent(low)} to {percent(high)}, {'' if outcome.calibrated else 'not '}calibrated"


def bar(probability: float, colour: str) -> Text:
    """`BAR` columns, in eighths."""
    eighths = round(probability * BAR * 8)
    full, rest = divmod(eighths, 8)
    drawn = "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
    return Text(drawn, colour).append("·" * (BAR - len(drawn)), "dim")


def percent(probability: float) -> str:
    """Whole percents; below ten, one decimal."""
    return f"{probability:.1%}" if probability < 0.0995 else f"{probability:.0%}"


def _utc(time: datetime) -> datetime:
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
