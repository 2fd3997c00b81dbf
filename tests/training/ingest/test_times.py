"""Every form a time may have, as the same instant."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.ingest.times import TimeUnit, microseconds

MOMENT = datetime(2017, 10, 1, 12, 30, 15, tzinfo=UTC)
SECONDS = int(MOMENT.timestamp())


@pytest.mark.parametrize(
    "text",
    [
        "2017-10-01T12:30:15Z",
        "2017-10-01T12:30:15",
        "2017-10-01 12:30:15",
        "2017-10-01 12:30:15 UTC",
        "2017-10-01T14:30:15+02:00",
        "2017-10-01T14:30:15+0200",
        "2017-10-01 14:30:15+02",
        "2017-10-01T08:00:15-04:30",
        "2017-10-01T12:30:15.000000Z",
        " 2017-10-01t12:30:15.0z ",
        str(SECONDS),
        f"{SECONDS}.0",
        f"{SECONDS}000",
        f"{SECONDS}000000",
        f"{SECONDS}000000000",
    ],
)
def test_strings(text: str) -> None:
    assert microseconds(pl.Series([text])).to_list() == [SECONDS * 10**6]
    # In company of other forms, which take another way through the code.
    mixed = microseconds(pl.Series(["2000-01-01", text, "never", "12.5", None])).to_list()
    assert mixed == [946684800 * 10**6, SECONDS * 10**6, None, 12_500_000, None]


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2017-13-01", "2017-10-32T00:00:00Z", "2017-10-01T25:00:00", "1e999", "inf", "nan", "-"]
)
def test_what_is_no_time(text: str) -> None:
    assert microseconds(pl.Series([text, None])).to_list() == [None, None]


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        ([SECONDS], "auto", SECONDS * 10**6),
        ([SECONDS * 1000 + 7], "auto", SECONDS * 10**6 + 7000),
        ([SECONDS * 10**6 + 7], "auto", SECONDS * 10**6 + 7),
        ([SECONDS * 10**9 + 7001], "auto", SECONDS * 10**6 + 7),
        ([5000], "ms", 5_000_000),
        ([5000], "s", 5_000_000_000),
        ([5000], "us", 5000),
        ([5000], "ns", 5),
        ([2**62], "s", None),
        ([SECONDS + 0.25], "s", SECONDS * 10**6 + 250_000),
        ([float("nan")], "auto", None),
        ([float("inf")], "ms", None),
    ],
)
def test_numbers(values: list[float], unit: TimeUnit, expected: int | None) -> None:
    assert microseconds(pl.Series(values), unit).to_list() == [expected]


def test_timestamps_and_dates() -> None:
    naive = pl.Series([MOMENT.replace(tzinfo=None)])
    assert microseconds(naive).to_list() == [SECONDS * 10**6]
    for unit in ("ms", "us", "ns"):
        assert microseconds(naive.cast(pl.Datetime(unit))).to_list() == [SECONDS * 10**6]
    berlin = naive.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin")
    assert microseconds(berlin).to_list() == [SECONDS * 10**6]
    assert microseconds(pl.Series([date(1970, 1, 2)])).to_list() == [86400 * 10**6]
    assert microseconds(pl.Series([True])).to_list() == [None]


@given(
    st.datetimes(datetime(1950, 1, 1), datetime(2200, 1, 1)),
    st.one_of(st.none(), st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))),
    st.sampled_from(["T", " "]),
)
def test_iso_is_read_as_python_reads_it(moment: datetime, zone: timezone | None, between: str) -> None:
    text = moment.replace(tzinfo=zone).isoformat(between)
    expected = datetime.fromisoformat(text).replace(tzinfo=zone or UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    assert microseconds(pl.Series([text])).to_list() == [expected // timedelta(microseconds=1)]


digits = st.text("0123456789", min_size=2, max_size=2)


@given(
    st.sampled_from(["2017", "0000", "0001", "9999", "1969", "20x7"]),
    *[digits] * 5,
    st.sampled_from(["", ".", ".0", ".5", ".000007", ".1234567", ",5", "Z"]),
    st.sampled_from(["T", " ", "t", "-"]),
    st.sampled_from([":", ""]),
)
def test_the_commonest_form_is_read_no_differently(
    year: str, month: str, day: str, hour: str, minute: str, second: str, rest: str, between: str, colon: str
) -> None:
    text = f"{year}-{month}-{day}{between}{hour}{colon}{minute}{colon}{second}{rest}Z"
    alone = microseconds(pl.Series([text, None])).to_list()
    # In company of another form, which Arrow is not asked to read.
    assert alone == microseconds(pl.Series([text, None, "2000-01-01"])).to_list()[:2]
