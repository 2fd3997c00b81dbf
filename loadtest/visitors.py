"""Visitors to ask about: users of a dataset's test split, or random walks over a bundle's pages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from browsing.newest import newest
from browsing.vocabulary import Vocabulary

_START = datetime(2026, 1, 1, tzinfo=UTC)
_ATTEMPTS = 200

Pages = tuple[str, ...]


class VisitorError(ValueError):
    """No visitors can be had; the message names the file or the lack, and the remedy."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """`sessions`: pages, oldest session first; `started_at`: when each began."""

    sessions: tuple[Pages, ...]
    started_at: tuple[datetime, ...]


@dataclass(frozen=True, slots=True)
class Served:
    """What a bundle's directory tells: its version, and the pages that it knows."""

    version: str
    pages: Pages


@dataclass(frozen=True, slots=True)
class TestSplit:
    """A dataset's test split on disk. `came`: when each of its visitors really came again, in the file's order."""

    path: Path
    came: tuple[datetime, ...]

    def __len__(self) -> int:
        return len(self.came)

    def visitors(self, rows: Sequence[int]) -> tuple[Visitor, ...]:
        """The visitors in these rows, which are all different. Raises `VisitorError`."""
        try:
            frame = pl.read_parquet(self.path, columns=["history", "history_started_at"], glob=False)[list(rows)]
            columns = (frame["history"].to_list(), frame["history_started_at"].to_list())
            return tuple(_newest(history, started) for history, started in zip(*columns, strict=True))
        except (OSError, pl.exceptions.PolarsError, TypeError, ValueError) as error:
            raise _no_split(self.path, error) from error


class _Manifest(BaseModel):
    """The one member that is needed here; the service checks a bundle as a whole."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str


def read_bundle(root: Path) -> Served:
    """Raises `VisitorError`."""
    try:
        manifest = _Manifest.model_validate_json((root / "manifest.json").read_bytes())
        pages = Vocabulary.load(root / "predictors" / "cluster-0" / "tokenizer.json").pages
    except OSError as error:
        raise VisitorError(f"{error.filename}: {error.strerror}; {root} is no bundle of `hetlm train`") from error
    except (ValidationError, ValueError) as error:
        raise VisitorError(f"{root}: its manifest or vocabulary cannot be read ({type(error).__name__})") from error
    return Served(manifest.version, pages)


def read_dataset(root: Path) -> TestSplit:
    """Raises `VisitorError`."""
    path = root / "test.parquet"
    try:
        column = pl.read_parquet(path, columns=["next_started_at"], glob=False)["next_started_at"].to_list()
        came = tuple(_utc(time) for time in column)
    except (OSError, pl.exceptions.PolarsError, AttributeError) as error:
        raise _no_split(path, error) from error
    if not came:
        raise VisitorError(f"{path} has no visitor: ingest a larger log")
    return TestSplit(path, came)


def _no_split(path: Path, error: Exception) -> VisitorError:
    return VisitorError(f"{path} is no test split of `hetlm ingest` ({type(error).__name__})")


def _newest(history: Sequence[Sequence[str]], started: Sequence[datetime]) -> Visitor:
    """As much of the newest side as one request may hold. Raises `TypeError` for a session that is null."""
    kept = newest(started, history)
    return Visitor(tuple(tuple(pages) for _, pages in kept), tuple(_utc(at) for at, _ in kept))


def _utc(time: datetime) -> datetime:
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def walks(pages: Sequence[str], count: int, generator: np.random.Generator) -> tuple[Visitor, ...]:
    """`count` visitors with one to six sessions each, of four to eleven pages. Every visitor walks the pages with a
    stride of their own and now and then jumps anywhere, so that kinds of visitors differ. No session comes twice.

    Raises `VisitorError` where the vocabulary is too small for so many different sessions.
    """
    seen: set[Pages] = set()
    return tuple(_walk(pages, generator, seen) for _ in range(count))


def _walk(pages: Sequence[str], generator: np.random.Generator, seen: set[Pages]) -> Visitor:
    stride = int(generator.integers(1, max(2, len(pages))))
    sessions: list[Pages] = []
    for _ in range(int(generator.integers(1, 7))):
        session = _session(pages, stride, generator, seen)
        seen.add(session)
        sessions.append(session)
    days = np.cumsum(generator.integers(1, 4, len(sessions))).tolist()
    return Visitor(tuple(sessions), tuple(_START + timedelta(days=day) for day in days))


def _session(pages: Sequence[str], stride: int, generator: np.random.Generator, seen: set[Pages]) -> Pages:
    for _ in range(_ATTEMPTS):
        length = int(generator.integers(4, 12))
        jumps = generator.integers(0, len(pages), length)
        steps = np.where(generator.random(length) < 0.3, jumps, stride)
        places = (int(generator.integers(len(pages))) + np.cumsum(steps)) % len(pages)
        session = tuple(pages[place] for place in places)
        if session not in seen:
            return session
    raise VisitorError(
        f"{len(pages)} pages are too few for {len(seen) + 1} different sessions: lower --rate, --seconds or --visitors"
    )


def body(visitor: Visitor, user_id: str, options: dict[str, object]) -> bytes:
    """The body of `POST /predict`. `user_id`: a made-up one; the log's own never leaves it."""
    sessions = [
        {"started_at": at.isoformat().replace("+00:00", "Z"), "pages": pages}
        for at, pages in zip(visitor.started_at, visitor.sessions, strict=True)
    ]
    document = {"user_id": user_id, "sessions": sessions, "options": options}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
