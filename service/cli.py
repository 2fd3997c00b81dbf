"""The service's commands, mounted by `browsing.cli` through an entry point."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape

from browsing.console import STDERR, fail, progress
from service.reclaim import few_arenas

if TYPE_CHECKING:
    from browsing.bundle import Bundle
    from service.serve import Sockets
    from service.settings import Settings


def register(app: typer.Typer) -> None:
    """Add `serve`, `visit`, `score`, `keys` and `deploy` to the command line."""
    from service.deploying.command import commands as deploy
    from service.score_command import score
    from service.security.command import commands as keys
    from service.visit import visit

    app.command()(serve)
    app.command()(visit)
    app.command()(score)
    app.add_typer(keys)
    app.add_typer(deploy)


def serve(
    bundle: Annotated[Path | None, typer.Argument(help="the bundle's directory; by default HETLM_BUNDLE")] = None,
    bundles: Annotated[
        Path | None,
        typer.Option(
            help="instead of one bundle, a folder of them: on the admin port one takes over from another without a "
            "restart (docs/bundles.md)"
        ),
    ] = None,
    bundle_version: Annotated[
        str | None,
        typer.Option(
            help="refuse any other version of the bundle. With --bundles: the one to start with, by its folder's name "
            "or its version; by default the one that was activated last, else the one whose training log ends last"
        ),
    ] = None,
    canary: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION=SHARE",
            help="with --bundles: a second bundle answers this share of the users, always the same ones; by default "
            "the one that did so last",
        ),
    ] = None,
    engine: Annotated[str | None, typer.Option(help="local, vllm, vllm-stacked or vllm-server")] = None,
    engine_url: Annotated[
        list[str] | None, typer.Option(help="for vllm-server: one address per cluster, in their order")
    ] = None,
    host: Annotated[str | None, typer.Option(help="address of the API")] = None,
    port: Annotated[int | None, typer.Option(help="port of the API; 0 takes a free one")] = None,
    metrics_host: Annotated[str | None, typer.Option(help="address of /metrics")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="port of /metrics; 0 takes a free one")] = None,
    admin_host: Annotated[str | None, typer.Option(help="address of /admin")] = None,
    admin_port: Annotated[
        int | None, typer.Option(help="port of /admin; by default 9465 where a key has the scope admin, else none")
    ] = None,
    api_keys_file: Annotated[
        Path | None, typer.Option(help="keys that `hetlm keys` made; needed unless the API is on loopback")
    ] = None,
    batch_dir: Annotated[Path | None, typer.Option(help="where /batches keeps its jobs; else there are none")] = None,
    redis_url: Annotated[str | None, typer.Option(help="embedding cache of several replicas")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of the encoder and the local engine")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error")] = None,
) -> None:
    """Serve a bundle: POST /predict, until Ctrl-C. Every flag has a variable (HETLM_PORT) that it comes before."""
    flags = {
        "bundle": bundle,
        "bundles": bundles,
        "bundle_version": bundle_version,
        "canary": canary,
        "engine": engine,
        "engine_urls": tuple(engine_url) if engine_url else None,
        "host": host,
        "port": port,
        "metrics_host": metrics_host,
        "metrics_port": metrics_port,
        "admin_host": admin_host,
        "admin_port": admin_port,
        "api_keys_file": api_keys_file,
        "batch_dir": batch_dir,
        "redis_url": redis_url,
        "threads": threads,
        "log_level": log_level,
    }
    given: dict[str, object] = {name: value for name, value in flags.items() if value is not None}
    if bundle is None and bundles is not None:
        given["bundle"] = None  # whatever HETLM_BUNDLE says: flags come before variables
    if bundle is not None and bundles is None:
        given["bundles"] = None
    _run(given)


def _run(flags: dict[str, object]) -> None:
    settings = _settings(flags)  # before the slow imports: a mistake is known at once
    few_arenas()

    import transformers

    from browsing.bundle import BundleError
    from browsing.engine import EngineError
    from service.app import ConfigurationError, build, choose_encoder, choose_engine, choose_store, load
    from service.cores import divided
    from service.security.key_file import KeyFileError
    from service.serve import bind, forward_logging
    from service.serve import serve as run

    settings = divided(settings)
    transformers.utils.logging.disable_progress_bar()  # the bars here are our own
    try:
        sockets = bind(settings)
    except OSError as error:
        raise fail(f"{error.filename}: {error.strerror}; choose another port") from None
    except KeyFileError as error:
        raise fail(f"HETLM_API_KEYS_FILE (--api-keys-file): {error}") from None
    try:
        with progress("Loading the bundle", 2, "parts") as advance:
            bundle = load(settings)
            advance(1)
            encoder = choose_encoder(settings, bundle)
            advance(1)
        service = build(settings, bundle, choose_engine(settings, bundle), encoder, choose_store(settings))
        forward_logging(service)
        ready = partial(_announce, sockets, bundle, settings.bundles)
        asyncio.run(run(service, settings, sockets, ready))
    except (BundleError, ConfigurationError) as error:
        raise fail(str(error)) from None
    except EngineError as error:
        STDERR.print(f"[bold red]error:[/] an engine did not start: {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None
    finally:
        sockets.close()
    STDERR.print("stopped")


def _settings(flags: dict[str, object]) -> Settings:
    from service.settings import Settings, variable

    try:
        return Settings.model_validate(flags)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        message = escape(first["msg"].removeprefix("Value error, "))
        raise fail(f"{variable(field)} (--{field.replace('_', '-')}): {message}" if field else message) from None


def _announce(sockets: Sockets, bundle: Bundle, folder: Path | None) -> None:
    name = f"{escape(bundle.root.name)}, " if folder is not None else ""
    STDERR.print(f"[bold green]ready[/]  bundle {name}{bundle.manifest.version[:12]}")
    STDERR.print(f"  predictions  POST {sockets.api_url}/predict")
    STDERR.print(f"  console           {sockets.api_url}/")
    STDERR.print(f"  interface         {sockets.api_url}/openapi.json")
    STDERR.print(f"  readiness         {sockets.api_url}/readyz")
    STDERR.print(f"  metrics           {sockets.metrics_url}")
    if sockets.admin_url is not None:
        STDERR.print(f"  administration    {sockets.admin_url}/keys")
    if folder is not None and sockets.admin_url is not None:
        STDERR.print(f"  bundles           {sockets.admin_url}/bundles")
    elif folder is not None:
        STDERR.print("  bundles           none can be activated without an admin port (--admin-port)")
