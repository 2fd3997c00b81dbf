"""`python -m deploy.local`: the topology of the Compose files as plain processes of this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from browsing.console import STDERR, emit, fail
from deploy.local.model import ComposeError, Model, load
from deploy.local.run import StartError, running
from deploy.local.translate import Process, addresses, process


def main(
    file: Annotated[Path, typer.Option(help="the Compose file")] = Path("docker/docker-compose.yml"),
    state: Annotated[Path, typer.Option(help="where logs, volumes and temporary files go")] = Path("compose-local"),
    network: Annotated[
        str, typer.Option(help="services listen on this loopback address plus 10, 11, ...")
    ] = "127.77.0.0",
    as_json: Annotated[bool, typer.Option("--json", help="a line of JSON once everybody is healthy")] = False,
) -> None:
    """Run what `docker compose up` would run, without a container engine, until Ctrl-C.

    Images become this machine's programs, names of services loopback addresses with the same ports, volumes and tmpfs
    folders, secrets copies of their files. Dependencies, health checks, restarts and stop periods are honoured;
    isolation (networks, users, capabilities, limits) is what only containers have. Prometheus and Grafana are left out
    where they are not installed. Variables that the Compose files use come from the environment.
    """
    with tempfile.TemporaryDirectory(prefix="hetlm-", ignore_cleanup_errors=True) as scratch:
        try:
            model = load(file, os.environ)
            known = addresses(model, network)
            (state / "logs").mkdir(parents=True, exist_ok=True, mode=0o700)
            made = {name: process(model, name, known, state, Path(scratch)) for name in model.services}
        except ComposeError as error:
            raise fail(str(error)) from None
        except OSError as error:
            raise fail(f"{error.filename}: {error.strerror}") from None
        there = {name: one for name, one in made.items() if one is not None}
        try:
            asyncio.run(_run(model, there, state / "logs", as_json))
        except StartError as error:
            STDERR.print(str(error), markup=False, soft_wrap=True)
            raise typer.Exit(1) from None


async def _run(model: Model, processes: dict[str, Process], logs: Path, as_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(stop.wait())
    current = asyncio.current_task()
    assert current is not None

    def leave() -> None:
        if not stop.is_set():
            stop.set()
            if not up:
                current.cancel()

    up = False
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    try:
        async with running(model, processes, logs, _say) as services:
            up = True
            where = {name: one.process.address for name, one in services.items()}
            emit({"addresses": where}, as_json)
            await waiting
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    STDERR.print("stopped")


def _say(name: str, news: str) -> None:
    STDERR.print(f"{name:<12} {news}", markup=False)


if __name__ == "__main__":
    typer.run(main)
