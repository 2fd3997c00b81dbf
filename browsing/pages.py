"""Page rules: how one event of a log becomes one page of the language.

The rules are a file (`pages.json`) that travels with the dataset and the bundle, so that the service turns a raw
event into the same page, with this same code, as ingest did.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SPECIAL_TOKENS = ("[PAD]", "[BOS]", "[EOS]", "[UNK]")
"""Reserved names: no page may be called one of these."""

MAX_PAGE_LENGTH = 200
"""Longest page name, in characters; longer ones are cut, on both sides alike."""


def clean_name(name: str) -> str:
    """A page's name holds no white space (the tokenizer splits there) and nothing unprintable, and is not endless."""
    if name.isprintable() and " " not in name:  # nearly always; the loop below is slow
        return name[:MAX_PAGE_LENGTH]
    return "".join(c if c.isprintable() and not c.isspace() else "_" for c in name)[:MAX_PAGE_LENGTH]


class PageError(ValueError):
    """An event that cannot become a page. `reason` is from a closed set, so that rows can be counted by it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Fold(BaseModel):
    """A path segment that matches `pattern` as a whole becomes `placeholder`: ids and hashes are no pages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str = Field(description="regular expression over one whole path segment")
    placeholder: str = Field(description="what stands in its place", min_length=1)

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern


DEFAULT_FOLDS = (
    Fold(pattern=r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}", placeholder=":uuid"),
    Fold(pattern=r"(?=[0-9a-fA-F]*[0-9])[0-9a-fA-F]{12,}", placeholder=":hash"),
    Fold(pattern=r"[0-9]{5,}", placeholder=":id"),
)


class OutcomeRule(BaseModel):
    """What counts as an outcome. Every such event becomes the one page `page`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    page: str = Field(description="the name of the outcome's page", min_length=1)
    events: tuple[str, ...] = Field(default=(), description="event types that mean this outcome")
    pages: tuple[str, ...] = Field(default=(), description="regular expressions over whole page names that mean it")

    @field_validator("page")
    @classmethod
    def _is_a_name(cls, page: str) -> str:
        if page in SPECIAL_TOKENS or clean_name(page) != page:
            raise ValueError(f"{page!r} cannot be a page: it has white space, or is one of {SPECIAL_TOKENS}")
        return page

    @field_validator("pages")
    @classmethod
    def _compile(cls, pages: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in pages:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return pages


DEFAULT_OUTCOMES = {
    "cart": OutcomeRule(
        page="/cart",
        events=("cart", "add_to_cart", "addtocart", "product_added_to_cart"),
        pages=(r"/cart", r"/basket"),
    ),
    "purchase": OutcomeRule(
        page="/purchase",
        events=("buy", "purchase", "transaction", "checkout_completed", "order_completed"),
        pages=(r"/purchase", r"/checkout/(?:complete|confirmation|thank[-_]you)", r"/thank[-_]you"),
    ),
}


class PageRules(BaseModel):
    """From an event to a page, and from pages to sessions. Frozen; equal rules have equal `version`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    source: Literal["auto", "url", "name"] = Field(
        default="auto",
        description="'url': reduce to a path; 'name': keep as it is; 'auto': a URL if it has '://' or begins with '/'",
    )
    keep_host: bool = Field(default=False, description="keep the host in front of the path (logs of several sites)")
    keep_query: tuple[str, ...] = Field(default=(), description="query parameters that are part of the page")
    lowercase: bool = Field(default=False, description="fold upper and lower case")
    fold: tuple[Fold, ...] = Field(default=DEFAULT_FOLDS, description="path segments replaced by a placeholder")
    max_depth: int | None = Field(default=None, ge=1, description="path segments kept; deeper ones are cut")
    outcomes: dict[str, OutcomeRule] = Field(
        default=DEFAULT_OUTCOMES, description="what counts as 'cart' and as 'purchase'; may be empty"
    )
    view_events: tuple[str, ...] | None = Field(
        default=None, description="event types that are page views; by default all that are not an outcome's"
    )
    ignore_events: tuple[str, ...] = Field(default=(), description="event types that are no page view")
    collapse_repeats: bool = Field(default=True, description="the same page twice in a row is one view")
    session_gap_minutes: float = Field(default=30.0, gt=0, description="a longer pause ends a session")
    min_session_pages: int = Field(default=1, ge=1, description="shorter sessions are dropped")
    max_session_pages: int | None = Field(default=None, ge=1, description="longer sessions are dropped (robots)")

    @field_validator("outcomes")
    @classmethod
    def _known_outcomes(cls, outcomes: dict[str, OutcomeRule]) -> dict[str, OutcomeRule]:
        for name in outcomes:
            if name not in ("cart", "purchase"):
                raise ValueError(f"unknown outcome {name!r}: it is 'cart' or 'purchase'")
        return outcomes

    @model_validator(mode="after")
    def _no_contradiction(self) -> PageRules:
        if self.max_session_pages is not None and self.max_session_pages < self.min_session_pages:
            raise ValueError("max_session_pages is below min_session_pages: every session would be dropped")
        claimed: dict[str, str] = {}
        for name, rule in self.outcomes.items():
            for event in rule.events:
                if claimed.setdefault(event, name) != name:
                    raise ValueError(f"event type {event!r} means both {claimed[event]!r} and {name!r}")
        return self

    @cached_property
    def version(self) -> str:
        """sha256 over the rules' canonical JSON."""
        document = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(document.encode()).hexdigest()

    @cached_property
    def _folds(self) -> tuple[tuple[re.Pattern[str], str], ...]:
        return tuple((re.compile(fold.pattern), fold.placeholder) for fold in self.fold)

    @cached_property
    def _outcome_events(self) -> dict[str, str]:
        return {event: rule.page for rule in self.outcomes.values() for event in rule.events}

    @cached_property
    def _outcome_pages(self) -> tuple[tuple[re.Pattern[str], str], ...]:
        return tuple((re.compile(p), rule.page) for rule in self.outcomes.values() for p in rule.pages)

    def outcome_pages(self) -> dict[str, tuple[str, ...]]:
        """The pages of every outcome, for example `{"cart": ("/cart",), "purchase": ("/purchase",)}`."""
        return {name: (rule.page,) for name, rule in self.outcomes.items()}

    def page(self, url: str | None, event_type: str | None = None) -> str | None:
        """The page of one event, or None for an event that is no page view.

        Raises `PageError` where the event should be a page but names none.
        """
        if event_type:
            outcome = self._outcome_events.get(event_type)
            if outcome is not None:
                return outcome
            if event_type in self.ignore_events:
                return None
            if self.view_events is not None and event_type not in self.view_events:
                return None
        if url is None or not url.strip():
            raise PageError("no page")
        name = self._name(url.strip())
        for pattern, page in self._outcome_pages:
            if pattern.fullmatch(name):
                return page
        return name

    def _name(self, url: str) -> str:
        if self.source == "name" or (self.source == "auto" and "://" not in url and not url.startswith("/")):
            name = clean_name(url.lower() if self.lowercase else url)
            if name in SPECIAL_TOKENS:
                raise PageError("reserved page name")
            return name
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise PageError("malformed URL") from error
        segments = [self._segment(unquote(s)) for s in parts.path.split("/") if s]
        if self.max_depth is not None:
            segments = segments[: self.max_depth]
        path = "/" + "/".join(segments)
        if self.keep_host and parts.hostname:
            path = parts.hostname + path
        if self.keep_query:
            kept = [(k, v) for k, v in parse_qsl(parts.query) if k in self.keep_query]
            if kept:
                path += "?" + "&".join(f"{k}={v}" for k, v in sorted(kept))
        return clean_name(path.lower() if self.lowercase else path)

    def _segment(self, segment: str) -> str:
        for pattern, placeholder in self._folds:
            if pattern.fullmatch(segment):
                return placeholder
        return segment

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: Path) -> PageRules:
        """Read `pages.json`. Raises `pydantic.ValidationError` naming the field, or `OSError`."""
        return cls.model_validate_json(path.read_text())
