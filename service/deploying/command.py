"""`hetlm deploy`: write what Compose and Kubernetes need to serve a bundle."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from browsing.console import STDERR, emit, fail

if TYPE_CHECKING:
    from service.deploying.engines import Plan

commands = typer.Typer(
    name="deploy",
    help="Write what Docker Compose and Kubernetes need to serve a bundle (docs/deploying.md).",
    no_args_is_help=True,
)

_FOLDER = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]*")
"""Below the volume of bundles, as Kubernetes takes it for a mount."""
_PLACE = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")

BundleArgument = Annotated[Path, typer.Argument(help="the bundle's directory")]
ThreadsOption = Annotated[int, typer.Option(min=1, max=256, help="CPU threads of one engine")]
PathsOption = Annotated[
    int, typer.Option(min=1, max=1024, help="paths that one engine computes at once; its cache holds as many")
]
JsonOption = Annotated[bool, typer.Option("--json", help="end with one line of JSON")]


@commands.command()
def compose(
    bundle: Annotated[Path | None, typer.Argument(help="the bundle's directory")] = None,
    embedded: Annotated[bool, typer.Option("--embedded", help="back to the engine inside the service")] = False,
    gpus: Annotated[int, typer.Option(min=0, max=64, help="how many GPUs the engines share, in turn; 0: CPUs")] = 0,
    threads: ThreadsOption = 2,
    paths: PathsOption = 256,
    folder: Annotated[Path, typer.Option(help="where docker-compose.yml is")] = Path("docker"),
    as_json: JsonOption = False,
) -> None:
    """Serve BUNDLE on one vLLM engine per cluster, started one after another, when Compose comes up next.

    Writes compose.engines.yml, which docker-compose.yml includes, and Prometheus' list of the engines. The service
    refuses any other bundle from then on. --embedded takes all of it back.
    """
    from service.deploying import compose as composing

    if (bundle is None) != embedded:
        raise fail("name a bundle, or --embedded to serve without vLLM engines")
    if not (folder / composing.MAIN).is_file():
        raise fail(f"{folder / composing.MAIN}: not there; run this in the project's folder, or name its --folder")
    plan = _plan(bundle, gpus, threads, paths) if bundle is not None else None
    _write(composing.files(folder, plan))
    if plan is not None:
        _tell(plan)
    STDERR.print(f"docker compose --file {folder / composing.MAIN} up --build --detach")
    emit({"folder": str(folder), **_summary(plan)}, as_json)


@commands.command()
def kubernetes(
    bundle: BundleArgument,
    out: Annotated[Path, typer.Option(help="the folder of the Kustomize overlay to write")],
    gpus: Annotated[int, typer.Option(min=0, max=1, help="1: every engine asks for a GPU; 0: CPUs")] = 0,
    threads: ThreadsOption = 2,
    paths: PathsOption = 256,
    folder: Annotated[
        str | None, typer.Option(help="the bundle's, on the volume hetlm-bundles; by default its version's beginning")
    ] = None,
    engine_image: Annotated[str | None, typer.Option(help="by default hetlm-engine:cpu, or :gpu")] = None,
    service_image: Annotated[str | None, typer.Option(help="by default hetlm-service")] = None,
    monitoring: Annotated[
        bool,
        typer.Option(
            "--monitoring",
            help="with ServiceMonitors and rules for the Prometheus operator, and dashboards for Grafana's sidecar",
        ),
    ] = False,
    base: Annotated[Path, typer.Option(help="the manifests that it builds on")] = Path("deploy/kubernetes"),
    as_json: JsonOption = False,
) -> None:
    """Write a Kustomize overlay: one vLLM Deployment and Service per cluster of BUNDLE, wired to the gateway.

    Look at it with `kubectl kustomize OUT`, install it with `kubectl apply --kustomize OUT`.
    """
    from service.deploying import kubernetes as manifests

    if not (base / "base" / "kustomization.yaml").is_file():
        raise fail(f"{base / 'base'}: no Kustomize base; run this in the project's folder, or name it with --base")
    if folder is not None and not _FOLDER.fullmatch(folder):
        raise fail(f"--folder {folder}: a folder on the volume has letters, digits, . _ - and /, and no ..")
    rules, dashboards = _watched(base) if monitoring else ((), {})
    plan = _plan(bundle, gpus, threads, paths)
    overlay = manifests.Overlay(
        plan,
        folder or plan.version[:12],
        engine_image,
        service_image,
        os.path.relpath(base, out),
        monitoring,
        rules,
        dashboards,
    )
    _write(overlay.files(out))
    _tell(plan)
    STDERR.print(f"the bundle is expected in the folder {overlay.folder} of the volume hetlm-bundles, and then:")
    STDERR.print(f"kubectl apply --kustomize {out}")
    emit({"out": str(out), "folder": overlay.folder, **_summary(plan)}, as_json)


@commands.command()
def secrets(
    folder: Annotated[Path, typer.Option(help="where to keep them; only you can open it")] = Path("docker/secrets"),
    redis: Annotated[str, typer.Option(help="host and port of Redis, as the service sees it")] = "redis:6379",
    caller: Annotated[str, typer.Option(help="whose the first API key is: a purpose, such as newsletter")] = "first",
    as_json: JsonOption = False,
) -> None:
    """Make the secrets of an installation that are missing, each in a file; shows the first API key, this once.

    What is there stays as it is, also the rights of a folder; one that others can open is refused. `hetlm keys ...
    --file docker/secrets/keys/keys.json` makes further keys.
    """
    from pydantic import ValidationError

    from service.deploying.installation import KEYS, OpenFolderError, install
    from service.security.key_file import KeyFileError

    if not _PLACE.fullmatch(redis):
        raise fail(f"--redis {redis}: is no HOST:PORT, such as redis:6379")
    try:
        made = install(folder, redis, caller)
    except OSError as error:
        raise fail(f"{error.filename or folder}: {os.strerror(error.errno or 0)}") from None
    except OpenFolderError as error:
        raise fail(f"--folder {error}") from None
    except ValidationError:
        raise fail(f"--caller {caller}: a name has lower-case letters, digits, - and _, and is not local") from None
    except KeyFileError as error:
        raise fail(str(error)) from None
    for path in made.made:
        STDERR.print(f"made {path}")
    if not made.made:
        STDERR.print(f"{folder}: nothing is missing")
    if as_json:
        emit({"folder": str(folder), "made": [str(p.relative_to(folder)) for p in made.made], "key": made.key}, as_json)
    elif made.key is not None:
        STDERR.print(f"the API key of {caller}, shown this once ({folder / KEYS} keeps its hash):")
        typer.echo(made.key)


def _plan(bundle: Path, gpus: int, threads: int, paths: int) -> Plan:
    from browsing.bundle import BundleError
    from service.deploying.engines import plan

    try:
        return plan(bundle, gpus=gpus, threads=threads, paths=paths)
    except BundleError as error:
        raise fail(str(error)) from None


def _watched(base: Path) -> tuple[tuple[dict[str, Any], ...], dict[str, str]]:
    """The rules and the dashboards beside the manifests."""
    from yaml import YAMLError

    from service.deploying.dashboards import DASHBOARDS, DashboardsError, dashboards
    from service.deploying.rules import RULES, RulesError, rule_groups

    folder = Path(os.path.normpath(base / RULES))
    try:
        return rule_groups(folder), dashboards(Path(os.path.normpath(base / DASHBOARDS)))
    except (RulesError, DashboardsError) as error:
        raise fail(str(error)) from None
    except YAMLError as error:
        raise fail(f"{folder}: {' '.join(str(error).split())}") from None


def _write(files: Mapping[Path, str]) -> None:
    from service.deploying.written import ForeignFileError, write

    try:
        write(files)
    except ForeignFileError as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"{error.filename}: {os.strerror(error.errno or 0)}") from None
    for path in files:
        STDERR.print(f"wrote {path}")


def _tell(plan: Plan) -> None:
    first = plan.engines[0]
    where = "GPU" if plan.gpu else f"{first.threads} CPU threads each"
    cache, memory = first.tuning.kv_cache_bytes // 2**20, first.memory // 2**20
    STDERR.print(
        f"{len(plan.engines)} vLLM engines ({where}, {first.tuning.dtype}), each with a cache of {cache} MiB and "
        f"at most {memory} MiB of the machine's memory"
    )


def _summary(plan: Plan | None) -> dict[str, object]:
    if plan is None:
        return {"engines": 0}
    return {
        "engines": len(plan.engines),
        "bundle_version": plan.version,
        "kv_cache_bytes": [engine.tuning.kv_cache_bytes for engine in plan.engines],
        "memory_bytes": [engine.memory for engine in plan.engines],
    }
