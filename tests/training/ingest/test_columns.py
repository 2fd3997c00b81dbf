"""Which column means what."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from browsing.pages import PageRules
from training.ingest.columns import guessed, resolve, role_frame
from training.ingest.events import EVENTS
from training.ingest.format import Format
from training.ingest.readers import LogError
from training.ingest.rees46 import REES46

PATH = Path("log.csv")


@pytest.mark.parametrize(
    ("header", "roles"),
    [
        (
            "client_id,page_url,referrer,timestamp,event_name,event_data",
            {
                "user": ("client_id",),
                "time": ("timestamp",),
                "page": ("page_url",),
                "event": ("event_name",),
                "referrer": ("referrer",),
            },
        ),
        (
            "event_timestamp,event_name,user_id,user_pseudo_id,page_location,device.category,ga_session_id,geo.country",
            {
                "user": ("user_pseudo_id",),  # `user_id` is empty for whoever is not logged in
                "time": ("event_timestamp",),
                "page": ("page_location",),
                "event": ("event_name",),
                "session": ("ga_session_id",),
                "device": ("device.category",),
                "country": ("geo.country",),
            },
        ),
        (
            "clientId,client_id,ts,url,type,session",
            {
                "user": ("clientId", "client_id"),
                "time": ("ts",),
                "page": ("url",),
                "event": ("type",),
                "session": ("session",),
            },
        ),
    ],
)
def test_well_known_names_are_guessed(header: str, roles: dict[str, tuple[str, ...]]) -> None:
    found = resolve(PATH, header.split(","), EVENTS)
    assert found == roles
    assert guessed(found, EVENTS).count("=") == len(roles)


def test_what_is_told_is_not_guessed() -> None:
    form = Format(
        name="events",
        rules=PageRules(),
        guess=True,
        columns={"user": ("who", "visitor"), "session": ("none",), "event": ("what",)},
    )
    found = resolve(PATH, ["time", "url", "visitor", "session_id", "event", "what"], form)
    assert found == {"user": ("visitor",), "time": ("time",), "page": ("url",), "event": ("what",)}
    assert guessed(found, form) == "time = time, page = url"
    with pytest.raises(LogError, match=r"log\.csv: no column 'what' for the event; .* --event-type"):
        resolve(PATH, ["time", "url", "who"], form)


def test_a_format_of_its_own_is_not_guessed() -> None:
    with pytest.raises(LogError, match="no column 'user_session' for the session"):
        resolve(PATH, ["user_id", "event_time", "category_code", "category_id", "event_type", "session"], REES46)
    with pytest.raises(LogError, match="no column 'category_id' for the category"):
        resolve(PATH, ["user_id", "event_time", "category_code", "event_type", "user_session"], REES46)


def test_the_first_alternative_that_has_a_value_counts() -> None:
    batch = pl.DataFrame(
        {"client_id": [" a ", "", None, " "], "clientId": [None, "b", "c", ""], "t": [1, 2, 3, 4], "n": [5, 6, 7, 8]}
    )
    roles = {"user": ("client_id", "clientId"), "time": ("t",), "page": ("n",)}
    frame = role_frame(batch, roles, PATH)
    assert frame.to_dict(as_series=False) == {
        "user": ["a", "b", "c", None],
        "time": [1, 2, 3, 4],
        "page": ["5", "6", "7", "8"],
    }


def test_nested_columns_are_refused() -> None:
    batch = pl.DataFrame({"user": [["a"]], "time": [1], "page": ["/"]})
    with pytest.raises(LogError, match=r"log\.csv: column 'user' holds List"):
        role_frame(batch, {"user": ("user",), "time": ("time",), "page": ("page",)}, PATH)
