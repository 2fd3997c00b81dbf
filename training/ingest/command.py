"""`hetlm ingest`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from browsing.console import STDERR, emit, fail, progress
from training.dataset import Dataset, DatasetInfo
from training.ingest.build import build
from training.ingest.events import EVENTS
from training.ingest.format import Format, FormatName
from training.ingest.globo import GLOBO
from training.ingest.readers import LogError, find
from training.ingest.rees46 import REES46
from training.ingest.retailrocket import RETAILROCKET
from training.ingest.settings import Flags, combine
from training.ingest.taobao import TAOBAO
from training.ingest.times import TimeUnit
from training.ingest.wikispeedia import WIKISPEEDIA, WIKISPEEDIA_ENDINGS

FORMATS: dict[FormatName, Format] = {f.name: f for f in (EVENTS, GLOBO, WIKISPEEDIA, TAOBAO, REES46, RETAILROCKET)}

_COLUMNS, _PAGES, _FILTERS = "Columns", "Page rules", "Filters and split"


def _option(text: str, *names: str, panel: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False, **more)


def ingest(
    logs: Annotated[list[str], typer.Argument(metavar="LOG...", help="log files, directories or globs")],
    form: Annotated[FormatName, typer.Option("--format", help="what kind of log it is")] = "events",
    out: Annotated[Path, typer.Option(help="the dataset's directory")] = Path("dataset"),
    config: Annotated[Path | None, typer.Option(help="TOML file with columns, pages and filters; flags win")] = None,
    user: Annotated[str | None, _option("column of the user, or a,b of which one exists", panel=_COLUMNS)] = None,
    time: Annotated[str | None, _option("column of the time: ISO 8601 or a number", panel=_COLUMNS)] = None,
    page: Annotated[str | None, _option("column of the URL or page name", panel=_COLUMNS)] = None,
    session: Annotated[str | None, _option("column of the session id; 'none': use pauses", panel=_COLUMNS)] = None,
    event_type: Annotated[str | None, _option("column of the event type, or 'none'", panel=_COLUMNS)] = None,
    time_unit: Annotated[
        TimeUnit | None, _option("unit of numeric times; 'auto' goes by magnitude", panel=_COLUMNS)
    ] = None,
    keep_query: Annotated[
        list[str] | None, _option("query parameter that is part of the page; may be repeated", panel=_PAGES)
    ] = None,
    keep_host: Annotated[bool | None, _option("keep the host in front of the path", panel=_PAGES)] = None,
    lowercase: Annotated[bool | None, _option("fold upper and lower case", panel=_PAGES)] = None,
    max_depth: Annotated[int | None, _option("path segments kept", min=1, panel=_PAGES)] = None,
    no_fold: Annotated[bool, _option("keep ids and hashes in paths", "--no-fold", panel=_PAGES)] = False,
    fold: Annotated[
        list[str] | None, _option("PATTERN=PLACEHOLDER for whole path segments, before the others", panel=_PAGES)
    ] = None,
    cart_event: Annotated[list[str] | None, _option("event type that means a cart", panel=_PAGES)] = None,
    purchase_event: Annotated[list[str] | None, _option("event type that means a purchase", panel=_PAGES)] = None,
    cart_page: Annotated[list[str] | None, _option("regex of pages that mean a cart", panel=_PAGES)] = None,
    purchase_page: Annotated[list[str] | None, _option("regex of pages that mean a purchase", panel=_PAGES)] = None,
    view_event: Annotated[
        list[str] | None, _option("event type that is a page view; default: all", panel=_PAGES)
    ] = None,
    ignore_event: Annotated[list[str] | None, _option("event type that is no page view", panel=_PAGES)] = None,
    keep_repeats: Annotated[
        bool, _option("count a page twice if it comes twice in a row", "--keep-repeats", panel=_PAGES)
    ] = False,
    session_gap: Annotated[float | None, _option("minutes of pause that end a session (30)", panel=_PAGES)] = None,
    min_session_pages: Annotated[int | None, _option("drop shorter sessions (1)", min=1, panel=_PAGES)] = None,
    max_session_pages: Annotated[int | None, _option("drop longer sessions", min=1, panel=_PAGES)] = None,
    endings: Annotated[
        bool, _option("wikispeedia: restart and timeout stand in for cart and purchase", "--endings", panel=_PAGES)
    ] = False,
    max_session_percentile: Annotated[
        float | None, _option("drop sessions longer than this percentile of the lengths, as 99.5", panel=_FILTERS)
    ] = None,
    min_users: Annotated[int | None, _option("distinct users a page needs to be a token (5)", panel=_FILTERS)] = None,
    min_views: Annotated[int | None, _option("views a page needs to be a token (1)", panel=_FILTERS)] = None,
    max_pages: Annotated[int | None, _option("keep the most viewed pages only", panel=_FILTERS)] = None,
    page_half_life: Annotated[
        float | None, _option("days in which a view's weight for --max-pages halves: for news", panel=_FILTERS)
    ] = None,
    max_history_tokens: Annotated[int | None, _option("cut histories to this many (2048)", panel=_FILTERS)] = None,
    samples_per_user: Annotated[int | None, _option("newest sessions taken as targets (1)", panel=_FILTERS)] = None,
    users: Annotated[int | None, _option("take a seeded sample of so many users", panel=_FILTERS)] = None,
    split: Annotated[Literal["user", "time"] | None, _option("how test users differ (user)", panel=_FILTERS)] = None,
    test_share: Annotated[float | None, _option("share of the users that test (0.1)", panel=_FILTERS)] = None,
    test_fold: Annotated[
        int | None, _option("which share of the users tests, from 0: five runs at 0.2 test everybody", panel=_FILTERS)
    ] = None,
    select_share: Annotated[float | None, _option("share of the others that select (0.1)", panel=_FILTERS)] = None,
    calibrate_share: Annotated[float | None, _option("share that calibrates (0.05)", panel=_FILTERS)] = None,
    split_at: Annotated[str | None, _option("test targets begin here: an ISO 8601 date", panel=_FILTERS)] = None,
    select_at: Annotated[
        str | None,
        _option(
            "training targets end here, those of users that select and calibrate begin: for logs that drift, such as "
            "news",
            panel=_FILTERS,
        ),
    ] = None,
    seed: Annotated[int | None, _option("of the split and the sample of users (0)", panel=_FILTERS)] = None,
    max_bad_rows: Annotated[float | None, _option("share of rows that may be unusable (0.01)", panel=_FILTERS)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace another dataset at --out")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="end with one line of JSON on stdout")] = False,
) -> None:
    """Turn page-view logs into a dataset that `hetlm train` reads.

    A log has one row per event: who, when, which page. CSV, TSV, JSON Lines (each also .gz) and Parquet are read, in
    one file or many. With --format events the columns are named by flags or a TOML file, or guessed:

      hetlm ingest export.csv --out shop

      hetlm ingest 'logs/2026-*.csv.gz' --out shop --user client_id,clientId --page page_url --time timestamp
      --event-type event_name --cart-event product_added_to_cart --purchase-event checkout_completed

      hetlm ingest logs/ --config rules.toml --out shop --samples-per-user 5

      hetlm ingest clicks.parquet --format globo --out globo --users 20000

    The rules by which a URL becomes a page (query and host dropped, long numbers and hashes folded) are stored with
    the dataset and applied again, by the same code, to what the service is asked. A page becomes a token only if
    --min-users distinct users saw it. A rules.toml says the same as the flags, and more:

      columns.user = ["client_id", "clientId"]

      pages.max_depth = 3

      pages.outcomes.cart.events = ["product_added_to_cart"]

      filters.min_users = 10

    The last session of a user is the one to predict, the ones before are the history; 10 % of the users test.
    """
    chosen = WIKISPEEDIA_ENDINGS if endings and form == "wikispeedia" else FORMATS[form]
    columns = {
        "user": _names(user),
        "time": _names(time),
        "page": _names(page),
        "session": _names(session),
        "event_type": _names(event_type),
        "time_unit": time_unit,
    }
    pages: dict[str, Any] = {
        "keep_query": keep_query,
        "keep_host": keep_host,
        "lowercase": lowercase,
        "max_depth": max_depth,
        "view_events": view_event,
        "ignore_events": ignore_event,
        "collapse_repeats": False if keep_repeats else None,
        "session_gap_minutes": session_gap,
        "min_session_pages": min_session_pages,
        "max_session_pages": max_session_pages,
    }
    outcomes = {
        "cart": _given({"events": cart_event, "pages": cart_page}),
        "purchase": _given({"events": purchase_event, "pages": purchase_page}),
    }
    filters = {
        "min_users": min_users,
        "min_views": min_views,
        "max_pages": max_pages,
        "page_half_life": page_half_life,
        "max_session_percentile": max_session_percentile,
        "max_history_tokens": max_history_tokens,
        "samples_per_user": samples_per_user,
        "users": users,
        "split": split,
        "split_at": split_at,
        "select_at": select_at,
        "test_share": test_share,
        "test_fold": test_fold,
        "select_share": select_share,
        "calibrate_share": calibrate_share,
        "seed": seed,
        "max_bad_rows": max_bad_rows,
    }
    try:
        if endings and form != "wikispeedia":
            raise LogError("--endings is for --format wikispeedia")
        flags = Flags(
            columns=_given(columns),
            pages=_given(pages),
            outcomes={name: rule for name, rule in outcomes.items() if rule},
            filters=_given(filters),
            folds=_folds(fold or []),
            no_fold=no_fold,
        )
        asked = combine(chosen, config, flags)
        info, reused = build(find(logs, chosen.header), asked, out, overwrite, progress, _say)
    except LogError as error:
        raise fail(str(error)) from error
    if reused:
        _say(f"{out}: already there, from the same files with the same settings; nothing to do")
    _summarise(out, info)
    emit({"out": str(out), "counts": info.counts.model_dump(), "reused": reused}, as_json)


def _say(message: str) -> None:
    STDERR.print(message, markup=False, soft_wrap=True)


def _names(value: str | None) -> list[str] | None:
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _folds(given: list[str]) -> list[dict[str, str]]:
    folds = []
    for fold in given:
        pattern, sign, placeholder = fold.rpartition("=")
        if not (pattern and sign and placeholder):
            raise LogError(f"--fold {fold}: it reads PATTERN=PLACEHOLDER, as '[a-z]+-[0-9]+=:product'")
        folds.append({"pattern": pattern, "placeholder": placeholder})
    return folds


def _summarise(out: Path, info: DatasetInfo) -> None:
    counts = info.counts
    bad = sum(counts.bad_rows.values())
    rows = [
        ("rows read", f"{counts.rows:,}"),
        ("rows that could not be used", f"{bad:,}"),
        *((f"  {reason}", f"{n:,}") for reason, n in counts.bad_rows.items()),
        ("rows that are no page view", f"{counts.not_views:,}"),
        ("page views", f"{counts.events:,}"),
        ("users", f"{counts.users:,}"),
        ("sessions", f"{counts.sessions:,}"),
        ("sessions too short, too long", f"{counts.short_sessions:,}, {counts.long_sessions:,}"),
        ("users with a next session", f"{counts.eligible_users:,}"),
        ("  of these taken", f"{counts.sampled_users:,}"),
        *((f"samples to {split}", f"{n:,}") for split, n in counts.samples.items()),
        ("pages in the vocabulary", f"{counts.pages:,} of {counts.pages_seen:,}"),
        ("views of other pages", f"{counts.unknown_share:.1%}"),
    ]
    STDERR.print(f"{escape(str(out))}: {info.window_start[:10]} to {info.window_end[:10]}", soft_wrap=True)
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for name, value in rows:
        table.add_row(escape(name), value)
    STDERR.print(table)
    top = Dataset.load(out).pages.sort("views", descending=True).head(8)
    STDERR.print(
        "most viewed: " + ", ".join(f"{p} {v:,}" for p, v in top.select("page", "views").iter_rows()), markup=False
    )
    empty = [split for split, n in counts.samples.items() if not n]
    if empty:
        _say(f"note: no sample falls into {', '.join(empty)}; training needs users in every split")
