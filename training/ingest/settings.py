"""What the user asks of an ingest: flags over a TOML file over the format's own defaults."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from browsing.pages import PageRules
from training.ingest.format import Format
from training.ingest.readers import LogError
from training.ingest.times import TimeUnit


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Names = Annotated[tuple[str, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v), Field(min_length=1)]


class ColumnNames(_Section):
    """`[columns]`: a name, or a list of alternatives of which the first that has a value counts."""

    user: Names | None = None
    time: Names | None = None
    page: Names | None = None
    session: Names | None = None
    event_type: Names | None = None
    device: Names | None = None
    referrer: Names | None = None
    country: Names | None = None
    time_unit: TimeUnit | None = None

    def roles(self) -> dict[str, tuple[str, ...]]:
        named = self.model_dump(exclude={"time_unit"}, exclude_none=True)
        return {"event" if key == "event_type" else key: tuple(names) for key, names in named.items()}


class Filters(_Section):
    """`[filters]`: which samples, users and pages stay (section 3 of the paper), and how users are split."""

    min_users: int = Field(default=5, ge=1, description="distinct users that a page of the vocabulary needs")
    min_views: int = Field(default=1, ge=1, description="views that a page of the vocabulary needs")
    max_pages: int | None = Field(default=None, ge=1, description="pages of the vocabulary, the most viewed ones")
    page_half_life: float | None = Field(
        default=None,
        gt=0,
        description="days, back from where training ends, in which a view's weight in that halves",
    )
    max_session_percentile: float | None = Field(
        default=None, gt=0, le=100, description="sessions longer than this percentile of the lengths are dropped"
    )
    max_history_tokens: int = Field(default=2048, ge=4, description="a history is cut to this many, oldest side first")
    samples_per_user: int = Field(default=1, ge=1, description="the newest sessions that each become a target")
    users: int | None = Field(default=None, ge=1, description="a seeded sample of this many eligible users")
    split: Literal["user", "time"] = "user"
    test_share: float = Field(default=0.1, gt=0, lt=1, description="share of the users that test")
    test_fold: int = Field(default=0, ge=0, description="which share of the users tests: 0 to 1 / test_share - 1")
    select_share: float = Field(default=0.1, ge=0, lt=1, description="share of the other users that select")
    calibrate_share: float = Field(default=0.05, ge=0, lt=1, description="share of the other users that calibrate")
    split_at: datetime | None = Field(default=None, description="time split: test targets begin here or later")
    select_at: datetime | None = Field(
        default=None,
        description="time split: targets of users that select and calibrate begin here or later, training ones before, "
        "so that what is chosen on them is chosen for a later time than was learnt from",
    )
    seed: int = Field(default=0, description="of the split and of the sample of users")
    max_bad_rows: float = Field(default=0.01, ge=0, le=1, description="share of rows that may be unusable")

    @field_validator("split_at", "select_at")
    @classmethod
    def _in_utc(cls, at: datetime | None) -> datetime | None:
        return None if at is None else at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)

    @model_validator(mode="after")
    def _whole(self) -> Filters:
        if (self.split == "time") != (self.split_at is not None):
            raise ValueError("a split by time needs both: split = time and split_at = a date")
        if self.select_at is not None and (self.split_at is None or self.select_at >= self.split_at):
            raise ValueError("select_at belongs to a split by time, and lies before split_at")
        if (self.test_fold + 1) * self.test_share > 1 + 1e-9:
            raise ValueError(
                f"fold {self.test_fold} lies outside: with test_share {self.test_share} the last one is "
                f"{int(1 / self.test_share + 1e-9) - 1}"
            )
        if self.page_half_life is not None and self.max_pages is None:
            raise ValueError("page_half_life says which pages max_pages keeps: give both, or neither")
        if self.select_share + self.calibrate_share >= 1:
            raise ValueError("select_share and calibrate_share leave nobody to train on")
        return self


class Config(_Section):
    """The file of `--config`."""

    columns: ColumnNames = ColumnNames()
    pages: dict[str, Any] = Field(default={}, description="fields of the page rules")
    filters: dict[str, Any] = Field(default={}, description="fields of `Filters`")


@dataclass(frozen=True, slots=True)
class Settings:
    form: Format
    filters: Filters


def load_config(path: Path) -> Config:
    """Read a TOML file. Raises `LogError` naming the file and the key."""
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise LogError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LogError(f"{path}: not TOML: {error}") from error
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        raise LogError(f"{path}: {_problem(error)}") from error
    for name, section, model in (("pages", config.pages, PageRules), ("filters", config.filters, Filters)):
        for key in section:
            if key not in model.model_fields:
                known = ", ".join(model.model_fields)
                raise LogError(f"{path}: [{name}] has no key {key!r}; it has {known}")
    return config


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line says; only what was given. `folds` come before the others, or alone with `no_fold`."""

    columns: Mapping[str, Any]
    pages: Mapping[str, Any]
    outcomes: Mapping[str, Mapping[str, list[str]]]
    filters: Mapping[str, Any]
    folds: Sequence[Mapping[str, str]] = ()
    no_fold: bool = False


def combine(form: Format, path: Path | None, flags: Flags) -> Settings:
    """The format with everything that was asked for: flags win over the file at `path`, and that over the format.

    A list that is given replaces the one it wins over. Raises `LogError` naming the field and where it stands.
    """
    config = load_config(path) if path else Config()
    base = form.rules.model_dump(mode="json")
    pages = {**base, **config.pages, **flags.pages}
    pages["outcomes"] = _outcomes(base["outcomes"], config.pages.get("outcomes", {}), flags.outcomes)
    if flags.folds or flags.no_fold:
        pages["fold"] = [*flags.folds, *([] if flags.no_fold else pages["fold"])]
    given = {*flags.columns, *flags.pages, *flags.filters}
    given |= ({"outcomes"} if flags.outcomes else set()) | ({"fold"} if flags.folds else set())
    try:
        told = ColumnNames.model_validate({**config.columns.model_dump(exclude_none=True), **flags.columns})
        rules = PageRules.model_validate(pages)
        filters = Filters.model_validate({**config.filters, **flags.filters})
    except ValidationError as error:
        location = error.errors()[0]["loc"]
        in_file = path is not None and (not location or location[0] not in given)
        raise LogError(f"{path if in_file else 'the flags'}: {_problem(error)}") from error
    changed = replace(
        form, rules=rules, columns={**form.columns, **told.roles()}, time_unit=told.time_unit or form.time_unit
    )
    return Settings(changed, filters)


def _outcomes(base: dict[str, Any], *changes: Any) -> Any:
    merged: dict[str, Any] = {name: dict(rule) for name, rule in base.items()}
    for change in changes:
        if not isinstance(change, Mapping):
            return change  # for PageRules to refuse by name
        for name, rule in change.items():
            if not isinstance(rule, Mapping):
                return change
            merged[name] = {**merged.get(name, {"page": f"/{name}"}), **rule}
    return merged


def _problem(error: ValidationError) -> str:
    detail: Any = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"unknown key {where!r}"
    return f"{where}: {detail['msg']}" if where else str(detail["msg"])
