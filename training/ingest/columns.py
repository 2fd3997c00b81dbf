"""Which column of a file means what: as told, or guessed from well-known names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from training.ingest.format import OPTIONAL, REQUIRED, Format
from training.ingest.readers import LogError

FLAGS = {"user": "--user", "time": "--time", "page": "--page", "session": "--session", "event": "--event-type"}
ABSENT = "none"
"""A column of this name is no column: `--session none`."""

# Compared without case, `_`, `-`, `.` and blanks; the earlier is the better guess. Device-level names come before
# account-level ones, which are empty for whoever is not logged in.
KNOWN = {
    "user": ("userpseudoid clientid visitorid fullvisitorid anonymousid cookieid deviceid userid customerid uid user "
             "visitor distinctid"),
    "time": "timestamp eventtimestamp eventtime time datetime ts createdat occurredat servertime date",
    "page": "pageurl pagelocation url documentlocation currenturl page pagepath location path uri requesturi",
    "session": "sessionid usersession gasessionid visitid session",
    "event": "eventname eventtype event type action behavior behaviour",
    "device": "device devicecategory devicetype devicegroup",
    "referrer": "referrer referer pagereferrer documentreferrer",
    "country": "country geocountry countrycode",
}  # fmt: skip


def resolve(path: Path, header: Sequence[str], form: Format) -> dict[str, tuple[str, ...]]:
    """The columns to read for each role: of several, the first that has a value counts. Raises `LogError`."""
    roles: dict[str, tuple[str, ...]] = {}
    for role in (*REQUIRED, *OPTIONAL):
        wanted = form.columns.get(role)
        if wanted == (ABSENT,):
            continue
        if wanted is not None:
            present = tuple(dict.fromkeys(name for name in wanted if name in header))
            if not present:
                raise LogError(_missing(path, header, role, wanted))
        else:
            present = _guess(header, role, taken=roles) if form.guess else ()
        if present:
            roles[role] = present
        elif role in REQUIRED:
            raise LogError(_missing(path, header, role, ()))
    for role, names in form.extra.items():
        present = tuple(name for name in names if name in header)
        if not present:
            raise LogError(_missing(path, header, role, names))
        roles[role] = present
    return roles


def guessed(roles: Mapping[str, tuple[str, ...]], form: Format) -> str:
    """The roles that nobody named, as one line for the user; empty if there are none."""
    return ", ".join(f"{role} = {' or '.join(names)}" for role, names in roles.items() if role not in form.columns)


def role_frame(batch: pl.DataFrame, roles: Mapping[str, tuple[str, ...]], path: Path) -> pl.DataFrame:
    """One column per role, strings without surrounding blanks (null if empty) but for the time as the file has it."""
    columns: list[pl.Expr] = []
    for role, names in roles.items():
        for name in names:
            if batch[name].dtype.is_nested():
                raise LogError(f"{path}: column {name!r} holds {batch[name].dtype}, not one value per row")
        if role == "time" and len(names) == 1 and batch[names[0]].dtype != pl.String:
            columns.append(pl.col(names[0]).alias(role))
            continue
        if len(names) == 1 and batch[names[0]].dtype == pl.String and _bare(batch[names[0]]):
            columns.append(pl.col(names[0]).alias(role))
            continue
        text = [pl.col(name).cast(pl.String).str.strip_chars() for name in names]
        columns.append(pl.coalesce(pl.when(t.str.len_bytes() > 0).then(t) for t in text).alias(role))
    return batch.select(columns)


def _bare(texts: pl.Series) -> bool:
    """Whether none is empty or has blanks around it; seeing that is quicker than building what stripping returns."""
    length = texts.str.len_bytes()
    return bool(((texts.str.strip_chars().str.len_bytes() == length) & (length > 0)).all())


def _guess(header: Sequence[str], role: str, taken: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    used = {name for names in taken.values() for name in names}
    for known in KNOWN[role].split():
        # Several spellings of one name are one column: `client_id` and `clientId` of a log whose header changed.
        names = tuple(name for name in header if name not in used and re.sub(r"[_\-. ]", "", name).lower() == known)
        if names:
            return names
    return ()


def _missing(path: Path, header: Sequence[str], role: str, wanted: Sequence[str]) -> str:
    looked = f"no column {' or '.join(repr(w) for w in wanted)}" if wanted else "no column of a well-known name"
    told = f"{path}: {looked} for the {role}"
    flag = f"; name it with {FLAGS[role]}" if role in FLAGS else f"; name it in [columns] of --config, {role} = ..."
    # A file without a header shows its first visitor here: names look like names, or stay unseen.
    if all(re.fullmatch(r"[^\W\d][\w .:\-]{0,60}", name) for name in header):
        return f"{told}; the file has {', '.join(header)}{flag}"
    return f"{told}; the file's first row does not look like a header{flag}"
