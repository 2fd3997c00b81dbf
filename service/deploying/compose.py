"""Compose: the engines of a bundle behind the service, and what Prometheus asks of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from service.deploying.engines import BUNDLE, PORT, EngineServer, Plan
from service.deploying.written import document

MAIN = "docker-compose.yml"
ENGINES = "compose.engines.yml"
TARGETS = Path("..") / "deploy" / "prometheus" / "targets" / "engines.yml"
"""Beside the Compose files."""


def files(folder: Path, plan: Plan | None) -> dict[Path, str]:
    """What is to be written, `folder` being that of the Compose files. Without a plan the embedded engine serves."""
    serving = with_engines(plan) if plan is not None else {"services": {"service": _setting(HETLM_ENGINE="local")}}
    targets = [_target(engine) for engine in plan.engines] if plan is not None else []
    return {
        folder / ENGINES: document("compose", serving),
        Path(os.path.normpath(folder / TARGETS)): document("compose", targets),
    }


def with_engines(plan: Plan) -> dict[str, Any]:
    """The service of docker-compose.yml set to the engines, and the engines, which start one after another."""
    service = _setting(
        HETLM_ENGINE="vllm-server",
        HETLM_ENGINE_URLS=",".join(f"http://{name(engine)}:{PORT}" for engine in plan.engines),
        HETLM_ENGINE_API_KEY_FILE="/run/secrets/engine_api_key",
        HETLM_BUNDLE_VERSION=plan.version,
    ) | {
        "secrets": ["engine_api_key"],
        "volumes": [_bundle(plan)],
        "depends_on": {name(plan.engines[-1]): {"condition": "service_healthy"}},
    }
    engines = {}
    before = None
    for engine in plan.engines:
        engines[name(engine)] = _engine(plan, engine, before)
        before = name(engine)
    return {"services": {"service": service, **engines}}


def name(engine: EngineServer) -> str:
    return f"engine-{engine.cluster}"


def _setting(**environment: str) -> dict[str, Any]:
    return {"environment": {variable: _escaped(value) for variable, value in environment.items()}}


def _engine(plan: Plan, engine: EngineServer, before: str | None) -> dict[str, Any]:
    device = "gpu" if plan.gpu else "cpu"
    chained = {"depends_on": {before: {"condition": "service_healthy"}}} if before is not None else {}
    gpu = {"devices": [{"driver": "nvidia", "device_ids": [str(engine.gpu)], "capabilities": ["gpu"]}]}
    return {
        "image": f"hetlm-engine:{device}",
        "build": {
            "context": "..",
            "dockerfile": "docker/Dockerfile.engine",
            "args": {"DEVICE": device, "TORCH_INDEX": "${TORCH_INDEX:-}"},
        },
        "command": engine.arguments,
        "environment": {"VLLM_API_KEY_FILE": "/run/secrets/engine_api_key", **engine.environment},
        "secrets": ["engine_api_key"],
        "volumes": [_bundle(plan)],
        # vLLM compiles into it what it then loads.
        "tmpfs": ["/tmp:mode=1777,size=1g,exec"],
        "shm_size": "256m",
        "networks": ["engines"],
        **chained,
        "init": True,
        "restart": "always",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": 1024,
        "mem_limit": f"{engine.memory // 2**20}m",
        **({"deploy": {"resources": {"reservations": gpu}}} if plan.gpu else {}),
        "stop_grace_period": "30s",
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}},
    }


def _bundle(plan: Plan) -> dict[str, Any]:
    return {
        "type": "bind",
        "source": _escaped(str(plan.bundle)),
        "target": BUNDLE,
        "read_only": True,
        "bind": {"create_host_path": False},
    }


def _target(engine: EngineServer) -> dict[str, Any]:
    return {"targets": [f"{name(engine)}:{PORT}"], "labels": {"cluster": str(engine.cluster)}}


def _escaped(text: str) -> str:
    """Compose replaces $NAME by a variable's value."""
    return text.replace("$", "$$")
