"""Kubernetes: a Kustomize overlay of deploy/kubernetes with one vLLM Deployment and Service per cluster of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.deploying.dashboards import config_maps
from service.deploying.engines import BUNDLE, PORT, EngineServer, Plan
from service.deploying.rules import prometheus_rule
from service.deploying.written import document, headed

NAMESPACE = "hetlm"
SECRETS = "/run/secrets/hetlm"
BUNDLES = "/bundles"
"""Where the gateway has the volume of bundles."""
PROBE = ["python", "/opt/engine/probe.py", f"http://127.0.0.1:{PORT}"]
"""A real token; see deploy/engine/probe.py."""

_USER = 10001
_PART = {"app.kubernetes.io/name": "hetlm-engine"}


@dataclass(frozen=True, slots=True)
class Overlay:
    """`folder`: the bundle's, on the volume of bundles. Images are None for those that this project builds. `base`: the
    way from the overlay to deploy/kubernetes. `monitoring`: with what the Prometheus operator reads. `rules` and
    `dashboards`: the groups of deploy/prometheus/rules and the files of deploy/grafana/dashboards that go with it, and
    that Kustomize itself cannot reach from deploy/kubernetes."""

    plan: Plan
    folder: str
    engine_image: str | None
    service_image: str | None
    base: str
    monitoring: bool
    rules: tuple[dict[str, Any], ...] = ()
    dashboards: Mapping[str, str] = field(default_factory=dict)

    def files(self, out: Path) -> dict[Path, str]:
        engines = [part for engine in self.plan.engines for part in (self._deployment(engine), self._service(engine))]
        settings = "".join(f"{name}={value}\n" for name, value in self._settings().items())
        return {
            out / "kustomization.yaml": document("kubernetes", self._kustomization()),
            out / "engines.yaml": document("kubernetes", *engines, self._policy()),
            out / "engines.env": headed("kubernetes", settings),
            **{out / name: document("kubernetes", *parts) for name, parts in self._watched().items()},
        }

    def _watched(self) -> dict[str, list[dict[str, Any]]]:
        """What Prometheus and Grafana are given, by file."""
        rules = {"rules.yaml": [prometheus_rule(NAMESPACE, self.rules)]} if self.rules else {}
        drawn = {"dashboards.yaml": config_maps(NAMESPACE, self.dashboards)} if self.dashboards else {}
        return {**rules, **drawn}

    @property
    def _bundle(self) -> str:
        """Engines of two bundles may run beside each other: the gateway goes from one to the other without a gap."""
        return self.plan.version[:8]

    def name(self, engine: EngineServer) -> str:
        return f"hetlm-engine-{self._bundle}-{engine.cluster}"

    def _settings(self) -> dict[str, str]:
        return {
            "HETLM_BUNDLE": f"{BUNDLES}/{self.folder}",
            "HETLM_BUNDLE_VERSION": self.plan.version,
            "HETLM_ENGINE": "vllm-server",
            "HETLM_ENGINE_URLS": ",".join(f"http://{self.name(engine)}:{PORT}" for engine in self.plan.engines),
            "HETLM_ENGINE_API_KEY_FILE": f"{SECRETS}/engine_api_key",
        }

    def _kustomization(self) -> dict[str, Any]:
        return {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": NAMESPACE,
            "resources": [f"{self.base}/base", "engines.yaml", *self._watched()],
            **({"components": [f"{self.base}/monitoring"]} if self.monitoring else {}),
            "configMapGenerator": [{"name": "hetlm-settings", "behavior": "merge", "envs": ["engines.env"]}],
            **({"images": [_replaced("hetlm-service", self.service_image)]} if self.service_image else {}),
        }

    def _labels(self, engine: EngineServer) -> dict[str, str]:
        return {**_PART, "hetlm/bundle": self._bundle, "hetlm/cluster": str(engine.cluster)}

    def _deployment(self, engine: EngineServer) -> dict[str, Any]:
        gpu = self.plan.gpu
        # An engine that takes another's place needs a GPU of its own: there may be none.
        rolling = {"maxUnavailable": 1, "maxSurge": 0} if gpu else {"maxUnavailable": 0, "maxSurge": 1}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name(engine), "labels": self._labels(engine)},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": self._labels(engine)},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
                "template": {"metadata": {"labels": self._labels(engine)}, "spec": self._pod(engine)},
            },
        }

    def _pod(self, engine: EngineServer) -> dict[str, Any]:
        secret = {"secretName": NAMESPACE, "items": [{"key": "engine_api_key", "path": "engine_api_key"}]}
        return {
            "automountServiceAccountToken": False,
            # Service addresses as variables (VLLM_PORT for a service named vllm) are settings that nobody meant.
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 30,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "runAsGroup": _USER,
                "fsGroup": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [self._container(engine)],
            "volumes": [
                {"name": "bundles", "persistentVolumeClaim": {"claimName": "hetlm-bundles", "readOnly": True}},
                {"name": "secrets", "secret": {**secret, "defaultMode": 0o440}},
                {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}},
            ],
        }

    def _container(self, engine: EngineServer) -> dict[str, Any]:
        environment = {"VLLM_API_KEY_FILE": f"{SECRETS}/engine_api_key", **engine.environment}
        memory = f"{engine.memory // 2**20}Mi"
        gpu = {"nvidia.com/gpu": "1"} if self.plan.gpu else {}
        probe = {"exec": {"command": PROBE}, "timeoutSeconds": 10}
        return {
            "name": "engine",
            "image": self.engine_image or f"hetlm-engine:{'gpu' if self.plan.gpu else 'cpu'}",
            "args": engine.arguments,
            "env": [{"name": name, "value": value} for name, value in environment.items()],
            "ports": [{"name": "api", "containerPort": PORT}],
            "startupProbe": {**probe, "periodSeconds": 10, "failureThreshold": 60},
            "readinessProbe": {**probe, "periodSeconds": 15, "failureThreshold": 2},
            # A dead engine may go on listening: only a token says that it lives.
            "livenessProbe": {**probe, "periodSeconds": 30, "failureThreshold": 4},
            "resources": {
                "requests": {"cpu": str(engine.threads), "memory": memory},
                "limits": {"memory": memory, **gpu},
            },
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": "bundles", "mountPath": BUNDLE, "subPath": self.folder, "readOnly": True},
                {"name": "secrets", "mountPath": SECRETS, "readOnly": True},
                {"name": "tmp", "mountPath": "/tmp"},
                {"name": "shm", "mountPath": "/dev/shm"},
            ],
        }

    def _service(self, engine: EngineServer) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name(engine), "labels": self._labels(engine)},
            "spec": {
                "selector": self._labels(engine),
                "ports": [{"name": "api", "port": PORT, "targetPort": "api"}],
            },
        }

    def _policy(self) -> dict[str, Any]:
        """Histories go to the engines and nowhere from there."""
        gateway = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "hetlm-gateway"}}}
        monitoring = {"namespaceSelector": {"matchLabels": {"hetlm/monitoring": "true"}}}
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "hetlm-engine"},
            "spec": {
                "podSelector": {"matchLabels": _PART},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [gateway, monitoring], "ports": [{"port": "api"}]}],
            },
        }


def _replaced(name: str, image: str) -> dict[str, str]:
    """An entry of Kustomize's `images`."""
    if "@" in image:
        new, _, digest = image.partition("@")
        return {"name": name, "newName": new, "digest": digest}
    new, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:  # a registry's port, no tag
        return {"name": name, "newName": image}
    return {"name": name, "newName": new, "newTag": tag}
