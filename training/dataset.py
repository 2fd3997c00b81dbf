"""The dataset: the directory that ingest writes and that training and evaluation read.

```
train|select|calibrate|test.parquet   one row per sample: a user's history and the next session
returns.parquet                       one row per user: visits before a reference time, and whether another followed
pages.parquet                         the vocabulary in its order: page, kind, views, users
pages.json                            the page rules
dataset.json                          where it came from, what was counted and left out, sha256 of every other file
```
The four sample files hold people's browsing and are as personal as the log. `returns.parquet`, which a short log has
not, holds when they came, without saying who, and what the test users saw. `pages.parquet` and `pages.json` travel on
into bundles, so they hold only what may leave: pages that enough distinct users have seen, and rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, get_args

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from browsing.hashing import file_sha256
from browsing.pages import PageRules
from browsing.vocabulary import Vocabulary

Split = Literal["train", "select", "calibrate", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
INFO = "dataset.json"
RETURNS = "returns.parquet"
HORIZON_DAYS = 7
"""A user has returned if any session of theirs starts within so many days after the reference time."""
CONTEXT = ("device", "referrer", "country")
"""Optional columns of the sample files: list<str>, one entry per session of the history."""

_TIME = pa.timestamp("us", tz="UTC")
Model = TypeVar("Model", bound=BaseModel)
_PAGES_SCHEMA = {"page": pl.String, "kind": pl.String, "views": pl.Int64, "users": pl.Int64}


class DatasetError(ValueError):
    """A directory that is no dataset, or a damaged one; the message names the file."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One user's sessions before, oldest first, and the session to predict. Times are in UTC."""

    user_id: str
    history: tuple[tuple[str, ...], ...]
    history_started_at: tuple[datetime, ...]
    next_session: tuple[str, ...]
    next_started_at: datetime


def users_of(samples: Iterable[Sample]) -> int:
    """How many users the samples are of; a user may have several."""
    return len({sample.user_id for sample in samples})


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceFile(_Document):
    name: str = Field(description="file name, without its folder")
    bytes: int = Field(ge=0)
    sha256: str


class Source(_Document):
    format: str
    files: tuple[SourceFile, ...]


class Counts(_Document):
    """What was read, what was left out, and what remained."""

    rows: int = Field(ge=0, description="rows of the log")
    bad_rows: dict[str, int] = Field(description="rows that could not be used, by reason")
    not_views: int = Field(ge=0, description="rows whose event type is no page view")
    events: int = Field(ge=0, description="page views")
    users: int = Field(ge=0, description="distinct users with a page view")
    sessions: int = Field(ge=0, description="sessions within the length limits")
    short_sessions: int = Field(ge=0, description="sessions dropped below min_session_pages")
    long_sessions: int = Field(ge=0, description="sessions dropped above max_session_pages")
    eligible_users: int = Field(ge=0, description="users with a history and a next session")
    sampled_users: int = Field(ge=0, description="of these, the ones taken (`--users`)")
    samples: dict[Split, int]
    pages: int = Field(ge=0, description="pages of the vocabulary, outcome pages included, specials not")
    pages_seen: int = Field(ge=0, description="distinct pages of the users that are not test users")
    unknown_share: float = Field(ge=0, le=1, description="share of those users' views that the vocabulary lacks")


class ReturnsInfo(_Document):
    """What `returns.parquet` holds."""

    horizon_days: Literal[7] = 7
    lookback_days: float = Field(gt=0, description="visits are kept so far back from the reference time")
    as_of: dict[Split, str] = Field(description="reference time of each split that has one, ISO 8601")
    users: int = Field(ge=0, description="users with a visit in the lookback, whether they came back or not")
    returned: int = Field(ge=0, description="those of them that came back within the horizon")


class DatasetInfo(_Document):
    """`dataset.json`."""

    schema_version: Literal[1] = 1
    source: Source
    settings: dict[str, JsonValue] = Field(description="columns and format options")
    filters: dict[str, JsonValue] = Field(description="limits, splits and sampling, as asked for")
    counts: Counts
    split: Literal["user", "time"]
    window_start: str = Field(description="first page view's time, ISO 8601")
    window_end: str = Field(description="last page view's time, ISO 8601")
    rule_version: str = Field(description="identity of pages.json")
    returns: ReturnsInfo | None = Field(default=None, description="none where the log is too short for it")
    hashes: dict[str, str] = Field(default={}, description="sha256 of every other file, by name")


@dataclass(frozen=True)
class Dataset:
    """A dataset directory, checked. The samples stay on disk until asked for."""

    root: Path
    rules: PageRules
    info: DatasetInfo

    @classmethod
    def load(cls, root: Path) -> Dataset:
        """Check the small files of `root` and read them. Raises `DatasetError` naming the file."""
        if not root.is_dir():
            raise DatasetError(f"{root}: no such directory; `hetlm ingest LOG --out {root}` writes one")
        info = _parse(root / INFO, DatasetInfo)
        for name in (*(f"{split}.parquet" for split in SPLITS), "pages.parquet", "pages.json"):
            if not (root / name).is_file():
                raise DatasetError(f"{root / name}: missing; the dataset is not complete")
        if RETURNS in info.hashes and not (root / RETURNS).is_file():
            raise DatasetError(f"{root / RETURNS}: missing; the dataset is not complete")
        for name in ("pages.json", "pages.parquet"):
            _check(root / name, info.hashes.get(name))
        rules = _parse(root / "pages.json", PageRules)
        return cls(root, rules, info)

    @cached_property
    def pages(self) -> pl.DataFrame:
        """page, kind (`cart`, `purchase` or `page`), views, users; outcome pages first, then by views."""
        frame = pl.read_parquet(self.root / "pages.parquet", glob=False)
        if frame.schema != pl.Schema(_PAGES_SCHEMA):
            raise DatasetError(f"{self.root / 'pages.parquet'}: its columns are not {', '.join(_PAGES_SCHEMA)}")
        return frame

    def vocabulary(self) -> Vocabulary:
        """The pages as tokens, in the order of `pages.parquet`."""
        try:
            return Vocabulary(self.pages["page"].to_list())
        except ValueError as error:
            raise DatasetError(f"{self.root / 'pages.parquet'}: {error}") from error

    def outcomes(self) -> dict[str, tuple[str, ...]]:
        """The pages of each outcome that the vocabulary holds; an outcome that nobody reached is left out."""
        known = set(self.pages["page"].to_list())
        outcomes = {name: tuple(p for p in pages if p in known) for name, pages in self.rules.outcome_pages().items()}
        return {name: pages for name, pages in outcomes.items() if pages}

    def samples(self, split: Split) -> list[Sample]:
        """Every sample of a split, in the file's order. Raises `DatasetError` for a damaged file."""
        if split not in SPLITS:
            raise DatasetError(f"no split {split!r}; there are {', '.join(SPLITS)}")
        path = self.root / f"{split}.parquet"
        _check(path, self.info.hashes.get(path.name))
        columns = pl.read_parquet(path, columns=list(sample_schema().names), glob=False).to_dict(as_series=True)
        return [
            Sample(user, tuple(map(tuple, history)), tuple(started), tuple(following), at)
            for user, history, started, following, at in zip(
                columns["user_id"].to_list(),
                columns["history"].to_list(),
                columns["history_started_at"].to_list(),
                columns["next_session"].to_list(),
                columns["next_started_at"].to_list(),
                strict=True,
            )
        ]

    def returns(self, splits: Sequence[Split]) -> pl.DataFrame | None:
        """The rows of `returns.parquet` of some splits, in `VISITS_COLUMNS`; None where there is no such file. Raises
        `DatasetError` for a damaged one."""
        if RETURNS not in self.info.hashes:
            return None
        path = self.root / RETURNS
        _check(path, self.info.hashes[RETURNS])
        return (
            pl.scan_parquet(path, glob=False)
            .select(VISITS_COLUMNS)
            .filter(pl.col("split").is_in(list(splits)))
            .collect()
        )

    def followed(self) -> pl.DataFrame | None:
        """The test users of `returns.parquet` with what they saw and what they then did, all columns of
        `RETURNS_SCHEMA`; None where nobody is there: no such file, no reference time for test users, or a dataset that
        was written before it held this. Raises `DatasetError` for a damaged file."""
        if RETURNS not in self.info.hashes:
            return None
        path = self.root / RETURNS
        _check(path, self.info.hashes[RETURNS])
        if "sessions" not in pl.read_parquet_schema(path):
            return None
        rows = pl.scan_parquet(path, glob=False).select(RETURNS_SCHEMA.names)
        test = rows.filter(pl.col("split") == "test", pl.col("sessions").is_not_null()).collect()
        return test if test.height else None


VISITS_COLUMNS = ("split", "as_of", "started_at", "pages", "outcomes", "returned")
"""What the model of returning is fitted to and measured on: in every `returns.parquet`."""
RETURNS_SCHEMA = pa.schema(
    [
        ("split", pa.large_string()),
        ("as_of", _TIME),
        ("started_at", pa.large_list(_TIME)),
        ("pages", pa.large_list(pa.int32())),
        ("outcomes", pa.large_list(pa.large_list(pa.large_string()))),
        ("returned", pa.bool_()),
        ("sessions", pa.large_list(pa.large_list(pa.large_string()))),
        ("first_outcomes", pa.large_list(pa.large_string())),
        ("any_outcomes", pa.large_list(pa.large_string())),
    ]
)
"""Columns of `returns.parquet`: `started_at`, `pages` and `outcomes` have one entry per visit before `as_of`.

`sessions`: the pages of the newest of these visits, as many as a sample's history has room for; of test users, on whom
predictions are measured, and null for all others. `first_outcomes`, `any_outcomes`: the outcomes that the first session
after `as_of` held, and that any session within the horizon held; empty where none came.
"""


def sample_schema(context: Sequence[str] = ()) -> pa.Schema:
    """Columns of a sample file; `context` names the optional ones."""
    return pa.schema(
        [
            ("user_id", pa.large_string()),
            ("history", pa.large_list(pa.large_list(pa.large_string()))),
            ("history_started_at", pa.large_list(_TIME)),
            ("next_session", pa.large_list(pa.large_string())),
            ("next_started_at", _TIME),
            *((name, pa.large_list(pa.large_string())) for name in context),
        ]
    )


class DatasetWriter:
    """Writes a dataset's files into an existing empty directory, samples in as many pieces as come.

    Use as a context manager; nothing is a dataset before `finish` has written `dataset.json`, the last file. With
    `returns` there is a `returns.parquet`, which `add_returns` fills.
    """

    def __init__(self, root: Path, context: Sequence[str] = (), *, returns: bool = False) -> None:
        self._root = root
        self._schema = sample_schema(context)
        self._writers = {
            split: pq.ParquetWriter(root / f"{split}.parquet", self._schema, compression="zstd") for split in SPLITS
        }
        self.written: dict[Split, int] = dict.fromkeys(SPLITS, 0)
        self._returns = pq.ParquetWriter(root / RETURNS, RETURNS_SCHEMA, compression="zstd") if returns else None
        self.visitors = self.returned = 0

    def add(self, split: Split, samples: pl.DataFrame | Sequence[Sample]) -> None:
        """Append samples: a frame with the schema's columns (times as UTC timestamps), or `Sample`s."""
        if isinstance(samples, pl.DataFrame):
            if not samples.height:
                return
            table = samples.select(self._schema.names).to_arrow().cast(self._schema)
        else:
            columns = {name: [getattr(s, name) for s in samples] for name in sample_schema().names}
            table = pa.table(columns, schema=self._schema)
        self._writers[split].write_table(table)
        self.written[split] += table.num_rows

    def add_returns(self, users: pl.DataFrame) -> None:
        """Append rows in the columns of `RETURNS_SCHEMA`. Raises `ValueError` for a writer made without `returns`."""
        if self._returns is None:
            raise ValueError(f"this dataset has no {RETURNS}")
        if users.height:
            self._returns.write_table(users.select(RETURNS_SCHEMA.names).to_arrow().cast(RETURNS_SCHEMA))
            self.visitors += users.height
            self.returned += int(users["returned"].sum())

    def finish(self, pages: pl.DataFrame, rules: PageRules, info: DatasetInfo) -> DatasetInfo:
        """Write the other files and return `info` with every file's hash. `pages`: page, kind, views, users."""
        self.close()
        pages.select(pl.col(name).cast(dtype) for name, dtype in _PAGES_SCHEMA.items()).write_parquet(
            self._root / "pages.parquet"
        )
        rules.save(self._root / "pages.json")
        names = [*(f"{split}.parquet" for split in SPLITS), "pages.parquet", "pages.json"]
        names += [RETURNS] if self._returns is not None else []
        done = info.model_copy(update={"hashes": {name: file_sha256(self._root / name) for name in names}})
        (self._root / INFO).write_text(done.model_dump_json(indent=2) + "\n")
        return done

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        if self._returns is not None:
            self._returns.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check(path: Path, expected: str | None) -> None:
    if expected is None:
        raise DatasetError(f"{path}: dataset.json does not list it")
    if not path.is_file():
        raise DatasetError(f"{path}: missing; the dataset is not complete")
    if file_sha256(path) != expected:
        raise DatasetError(f"{path}: changed since it was written (its sha256 is not the one in dataset.json)")


def _parse(path: Path, model: type[Model]) -> Model:
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; the directory is no dataset of `hetlm ingest`") from error
    except ValidationError as error:
        raise DatasetError(f"{path}: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    detail: Any = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in detail["loc"])
    return f"{where}: {detail['msg']}" if where else str(detail["msg"])
