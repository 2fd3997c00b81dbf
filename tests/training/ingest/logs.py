"""Small logs for the tests, and the command run on them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import typer
from typer.testing import CliRunner, Result

from training.ingest.command import ingest

START = datetime(2026, 1, 1, tzinfo=UTC)

APP = typer.Typer()
APP.command()(ingest)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(APP, [str(a) for a in arguments], env={"COLUMNS": "200"})


def at(hours: float) -> str:
    return (START + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")


def csv_text(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    return text.getvalue()


PIXEL = ("client_id", "page_url", "referrer", "timestamp", "event_name", "event_data")


def pixel_rows(users: int = 40, sessions: int = 4) -> list[tuple[str, ...]]:
    """A web-pixel export of a shop: tracking parameters, carts in every second session, purchases in every fourth."""
    rows: list[tuple[str, ...]] = []
    for user in range(users):
        client = f"visitor-{user:03d}"
        for session in range(sessions):
            hour = 48.0 * session + user / 100
            url = f"https://shop.example/bags/tote-{(user + session) % 3}?utm_source=mail&gclid={user}x{session}"
            data = '{"note": "a, b", "quoted": "x"}'
            rows.append((client, "https://shop.example/?fbclid=1", "https://www.search.example/q?s=me", at(hour),
                         "page_viewed", data))  # fmt: skip
            rows.append((client, "https://shop.example/bags/", "", at(hour + 0.1), "page_viewed", ""))
            rows.append((client, url, "", at(hour + 0.2), "product_viewed", data))
            if (user + session) % 2:
                rows.append((client, url, "", at(hour + 0.3), "product_added_to_cart", data))
            if (user + session) % 4 == 3:
                rows.append((client, f"https://shop.example/checkouts/{10**7 + user}/done", "", at(hour + 0.4),
                             "checkout_completed", data))  # fmt: skip
    return sorted(rows, key=lambda row: row[3])


def pixel(path: Path, users: int = 40, sessions: int = 4, header: Sequence[str] = PIXEL) -> Path:
    path.write_text(csv_text(header, pixel_rows(users, sessions)))
    return path
