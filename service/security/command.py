"""`hetlm keys`: make, list and revoke API keys. A running service notices by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from browsing.console import STDERR, emit, fail
from service.security.key_file import KeyFileError, locked, read, write
from service.security.keys import KeyEntry, KeyFile, RateEntry, Scope

commands = typer.Typer(
    name="keys",
    help="Make, list and revoke API keys. A running service reads the file again whenever it changes.",
    no_args_is_help=True,
)

FileOption = Annotated[
    Path,
    typer.Option("--file", envvar="HETLM_API_KEYS_FILE", help="the file of keys; HETLM_API_KEYS_FILE names it too"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="end with one line of JSON")]


@commands.command()
def new(
    name: Annotated[str, typer.Argument(help="who or what asks, such as newsletter; jobs belong to this name")],
    file: FileOption,
    scope: Annotated[
        list[str] | None, typer.Option(help="what it opens: predict, batch or admin; may be given several times")
    ] = None,
    expires_days: Annotated[int | None, typer.Option(min=1, max=3_650, help="by default it never expires")] = None,
    rate: Annotated[
        float | None, typer.Option(help="predictions per second, instead of the service's HETLM_RATE_PER_SECOND")
    ] = None,
    burst: Annotated[
        int | None, typer.Option(help="with --rate: predictions at once; by default twice the rate")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add a key and show its secret, this once; the file keeps only a hash of it.

    To rotate: add a second key under the same name (without --scope), hand it out, then revoke the first.
    """
    for given in scope or ():
        if given not in get_args(Scope):
            raise fail(f"--scope {given}: choose from {', '.join(get_args(Scope))}")
    if burst is not None and rate is None:
        raise fail("--burst goes with --rate")
    with _change(file):
        known = read(file) if file.exists() else KeyFile()
        try:
            own = RateEntry(per_second=rate, burst=burst or max(1, round(2 * rate))) if rate is not None else None
            changed, key, secret = known.with_key(
                name,
                tuple(cast("Scope", given) for given in scope or ()),
                own,
                timedelta(days=expires_days) if expires_days else None,
                datetime.now(UTC),
            )
        except ValidationError as error:
            raise fail(_mistake(error)) from None
        except ValueError as error:
            raise fail(str(error)) from None
        write(file, changed)
    scopes = changed.callers[name].scopes
    if as_json:
        emit({"name": name, "id": key.id, "scopes": scopes, "expires": _day(key), "secret": secret}, as_json)
        return
    until = f" until {_day(key)}" if key.expires else ""
    STDERR.print(f"{file}: key {key.id} of {name} opens {', '.join(scopes)}{until}. Its secret, shown this once:")
    typer.echo(secret)


@commands.command("list")
def list_keys(file: FileOption, as_json: JsonOption = False) -> None:
    """Show whose keys there are, what they open and until when."""
    known = _read(file)
    now = datetime.now(UTC)
    rows = [
        {
            "name": name,
            "id": key.id,
            "scopes": list(known.callers[name].scopes),
            "created": key.created.date().isoformat(),
            "expires": _day(key),
            "live": key.live(now),
        }
        for name, key in known.every()
    ]
    if not as_json:
        table = Table("name", "id", "scopes", "created", "expires", box=None)
        for row, (name, key) in zip(rows, known.every(), strict=True):
            expires = _day(key) or "never"
            scopes = ", ".join(known.callers[name].scopes)
            table.add_row(name, key.id, scopes, str(row["created"]), expires if row["live"] else f"[red]{expires}[/]")
        Console(highlight=False).print(table)
    emit({"keys": rows}, as_json)


@commands.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="the key's id, from `hetlm keys list`")],
    file: FileOption,
    as_json: JsonOption = False,
) -> None:
    """Take a key out of the file. It opens nothing from the next request on."""
    _read(file)  # no lock is left beside a file that is not there
    with _change(file):
        known = read(file)
        try:
            changed, owner = known.without(key_id)
        except KeyError:
            ids = ", ".join(f"{key.id} ({name})" for name, key in known.every()) or "none"
            raise fail(f"{file} has no key {key_id}; it has {ids}") from None
        write(file, changed)
    left = sum(name == owner for name, _ in changed.every())
    STDERR.print(f"{file}: key {key_id} of {owner} is revoked; {left} of {owner} left")
    if not changed.callers:
        STDERR.print("no key is left: a running service refuses everybody, and none starts with this file")
    emit({"revoked": key_id, "name": owner, "left": left}, as_json)


def _day(key: KeyEntry) -> str | None:
    return key.expires.date().isoformat() if key.expires else None


def _read(file: Path) -> KeyFile:
    try:
        return read(file)
    except KeyFileError as error:
        raise fail(str(error)) from None


@contextmanager
def _change(file: Path) -> Iterator[None]:
    """Around reading and writing it: nobody else changes it meanwhile, and what fails is one message."""
    try:
        with locked(file):
            yield
    except KeyFileError as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(
            f"{error.filename or file}: {os.strerror(error.errno or 0)}; run this as the owner of {file}, and choose a "
            "folder that you may write to"
        ) from None


def _mistake(error: ValidationError) -> str:
    """The option or argument that was wrong, and how it must be."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = {"per_second": "--rate", "burst": "--burst"}.get(str(first["loc"][-1]) if first["loc"] else "", "NAME")
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"
