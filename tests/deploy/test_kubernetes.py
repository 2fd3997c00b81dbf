"""The Kubernetes manifests, without a cluster: valid, and in step with each other and the code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.local.dockerfile import image
from service.deploying.engines import PORT, plan
from service.deploying.installation import install
from service.deploying.kubernetes import NAMESPACE, PROBE, SECRETS, Overlay
from service.engines.machine import Tuning, arguments
from service.security.access import main_port
from service.settings import Settings, variable
from tests import tiny

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.31", "1.34", "1.37")
Document = dict[str, Any]


def documents(*paths: Path) -> list[Document]:
    return [document for path in paths for document in yaml.safe_load_all(path.read_text())]


def resources(kustomization: Path) -> list[Document]:
    """What a kustomization lists in its own folder."""
    (listed,) = documents(kustomization)
    return documents(*(kustomization.parent / name for name in listed["resources"] if name.endswith(".yaml")))


def settings_file(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


BASE = resources(KUBERNETES / "base" / "kustomization.yaml")
MONITORS = resources(KUBERNETES / "monitoring" / "kustomization.yaml")


def of(kind: str, among: list[Document] = BASE) -> Document:
    (found,) = (document for document in among if document["kind"] == kind)
    return found


@pytest.fixture(scope="module", params=[(1, 0), (3, 0), (6, 1)], ids=lambda p: f"{p[0]} clusters, {p[1]} GPUs")
def overlay(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Overlay, Path]:
    clusters, gpus = request.param
    root = tmp_path_factory.mktemp("overlay")
    tiny.bundle(root / "bundle", clusters, encoder="predictor")
    made = Overlay(
        plan(root / "bundle", gpus=gpus, threads=2, paths=64), "shop", None, None, "../../deploy/kubernetes", True
    )
    for path, text in made.files(root / "out").items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return made, root / "out"


def validated(document: Document) -> None:
    for version in VERSIONS:
        kubernetes_validate.validate(document, version, strict=True)


def selected(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    return selector.items() <= labels.items()


@pytest.mark.parametrize("document", BASE, ids=lambda document: f"{document['kind']}")
def test_the_base_is_valid(document: Document) -> None:
    validated(document)


def test_every_manifest_is_listed() -> None:
    for folder in ("base", "monitoring"):
        (listed,) = documents(KUBERNETES / folder / "kustomization.yaml")
        there = {path.name for path in (KUBERNETES / folder).glob("*.yaml")} - {"kustomization.yaml"}
        assert set(listed["resources"]) == there


def test_monitors_are_what_the_operator_reads() -> None:
    """Their kind is defined by the operator, whose schema is not among Kubernetes' own: these are its fields."""
    assert {document["metadata"]["name"] for document in MONITORS} == {"hetlm-gateway", "hetlm-engine"}
    for document in MONITORS:
        assert (document["apiVersion"], document["kind"]) == ("monitoring.coreos.com/v1", "ServiceMonitor")
        assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
        assert set(document["spec"]) <= {"selector", "endpoints", "targetLabels"}
        assert document["metadata"]["namespace"] == NAMESPACE
        (endpoint,) = document["spec"]["endpoints"]
        assert set(endpoint) == {"port", "interval"}
        assert endpoint["interval"] == "15s"


def gateway_settings(given: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    install(tmp_path, "redis:6379", "first")
    built = image(ROOT / "docker" / "Dockerfile.service").environment
    for name, value in {**built, **given}.items():
        if name.startswith("HETLM_"):
            assert name.removesuffix("_FILE") in map(variable, Settings.model_fields) or name == "HETLM_API_KEYS_FILE"
            place = value.replace(f"{SECRETS}/keys.json", f"{tmp_path}/keys/keys.json")
            monkeypatch.setenv(name, place.replace(SECRETS, str(tmp_path)))
    return Settings()


def test_the_gateways_settings_and_ports_are_the_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = gateway_settings(settings_file(KUBERNETES / "base" / "settings.env"), tmp_path, monkeypatch)
    pod = of("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"api": settings.port, "metrics": settings.metrics_port}
    assert settings.threads == int(container["resources"]["requests"]["cpu"])
    (generated,) = documents(KUBERNETES / "base" / "kustomization.yaml")[0]["configMapGenerator"]
    assert container["envFrom"] == [{"configMapRef": {"name": generated["name"]}}]
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert str(settings.bundle).startswith("/bundles/")
    assert mounts["/bundles"]["readOnly"]
    assert mounts[SECRETS]["readOnly"]
    assert settings.batch_dir is None, "a folder of batches is for one service alone"


def test_a_gateway_that_goes_loses_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = gateway_settings(settings_file(KUBERNETES / "base" / "settings.env"), tmp_path, monkeypatch)
    spec = of("Deployment")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    readiness = container["readinessProbe"]
    assert pause >= readiness["periodSeconds"] * readiness["failureThreshold"]
    end = pause + settings.lame_duck_seconds + settings.drain_seconds
    assert pod["terminationGracePeriodSeconds"] >= end + 10


def test_probes_ask_what_needs_no_key() -> None:
    (container,) = of("Deployment")["spec"]["template"]["spec"]["containers"]
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {name: get["path"] for name, get in asked.items()} == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    for get in asked.values():
        assert get["port"] == "api"
        assert main_port(get["path"]) == "nothing"


def pods(among: list[Document]) -> list[Document]:
    return [document["spec"]["template"] for document in among if document["kind"] == "Deployment"]


def test_selectors_find_the_gateway() -> None:
    labels = of("Deployment")["spec"]["template"]["metadata"]["labels"]
    for selector in (
        of("Deployment")["spec"]["selector"]["matchLabels"],
        of("Service")["spec"]["selector"],
        of("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selected(labels, selector)
    target = of("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": of("Deployment")["metadata"]["name"]}
    assert "replicas" not in of("Deployment")["spec"], "the autoscaler says how many"
    monitor = next(one for one in MONITORS if one["metadata"]["name"] == "hetlm-gateway")
    assert selected(of("Service")["metadata"]["labels"], monitor["spec"]["selector"]["matchLabels"])
    ports = {port["name"]: port["targetPort"] for port in of("Service")["spec"]["ports"]}
    assert monitor["spec"]["endpoints"][0]["port"] in ports
    assert ports == {"api": "api", "metrics": "metrics"}


def hardened(template: Document) -> None:
    pod = template["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 10001
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    volumes = {volume["name"] for volume in pod["volumes"]}
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    own = container["securityContext"]
    assert own["readOnlyRootFilesystem"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["requests"]["cpu"]
    assert container["resources"]["limits"]["memory"]


def test_the_gateway_is_held_tight() -> None:
    (template,) = pods(BASE)
    hardened(template)
    own = template["spec"]["securityContext"]
    assert image(ROOT / "docker" / "Dockerfile.service").user == f"{own['runAsUser']}:{own['runAsGroup']}"
    assert of("Namespace")["metadata"]["name"] == NAMESPACE


def test_the_gateway_may_ask_redis_and_the_engines_alone() -> None:
    names, redis, engines = of("NetworkPolicy")["spec"]["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert {port["port"] for port in redis["ports"]} == {6379, 6380}
    assert engines["ports"] == [{"port": PORT}]


def test_the_overlays_manifests_are_valid(overlay: tuple[Overlay, Path]) -> None:
    _, out = overlay
    engines = documents(out / "engines.yaml")
    for document in engines:
        validated(document)
    for template in pods(engines):
        hardened(template)


def test_a_deployment_and_a_service_per_cluster(overlay: tuple[Overlay, Path]) -> None:
    made, out = overlay
    engines = documents(out / "engines.yaml")
    deployments = [document for document in engines if document["kind"] == "Deployment"]
    services = [document for document in engines if document["kind"] == "Service"]
    assert len(deployments) == len(services) == len(made.plan.engines)
    names = [document["metadata"]["name"] for document in engines if document["kind"] != "NetworkPolicy"]
    assert len(set(names)) == len(deployments)
    for engine, deployment, service in zip(made.plan.engines, deployments, services, strict=True):
        assert len(service["metadata"]["name"]) <= 63
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels
        others = [other["spec"]["template"]["metadata"]["labels"] for other in deployments if other is not deployment]
        assert not any(selected(other, service["spec"]["selector"]) for other in others)
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["args"] == engine.arguments
        assert (container["ports"], service["spec"]["ports"][0]["port"]) == (
            [{"name": "api", "containerPort": PORT}],
            PORT,
        )
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert (mounts["/bundle"]["subPath"], mounts["/bundle"]["readOnly"]) == ("shop", True)
        assert container["resources"]["limits"]["memory"] == f"{engine.memory // 2**20}Mi"
        assert container["resources"]["limits"].get("nvidia.com/gpu") == ("1" if made.plan.gpu else None)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["exec"]["command"] == PROBE
    health = image(ROOT / "docker" / "Dockerfile.engine").health
    assert health is not None
    assert list(health.test[1:]) == PROBE
    assert image(ROOT / "docker" / "Dockerfile.engine").ports == (PORT,)


def test_the_gateway_is_wired_to_the_engines(
    overlay: tuple[Overlay, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, out = overlay
    (kustomization,) = documents(out / "kustomization.yaml")
    (generator,) = kustomization["configMapGenerator"]
    (under,) = documents(KUBERNETES / "base" / "kustomization.yaml")
    assert generator == {"name": under["configMapGenerator"][0]["name"], "behavior": "merge", "envs": ["engines.env"]}
    assert kustomization["resources"] == ["../../deploy/kubernetes/base", "engines.yaml"]
    assert kustomization["components"] == ["../../deploy/kubernetes/monitoring"]
    over = settings_file(out / "engines.env")
    settings = gateway_settings({**settings_file(KUBERNETES / "base" / "settings.env"), **over}, tmp_path, monkeypatch)
    services = [one["metadata"]["name"] for one in documents(out / "engines.yaml") if one["kind"] == "Service"]
    assert settings.engine_urls == tuple(f"http://{name}:{PORT}" for name in services)
    assert settings.bundle_version == made.plan.version
    assert str(settings.bundle) == "/bundles/shop"


def test_engines_answer_the_gateway_and_prometheus_and_ask_nobody(overlay: tuple[Overlay, Path]) -> None:
    _, out = overlay
    policy = of("NetworkPolicy", documents(out / "engines.yaml"))["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy
    (rule,) = policy["ingress"]
    gateway = of("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert selected(gateway, rule["from"][0]["podSelector"]["matchLabels"])
    for template in pods(documents(out / "engines.yaml")):
        assert selected(template["metadata"]["labels"], policy["podSelector"]["matchLabels"])
        egress = of("NetworkPolicy")["spec"]["egress"][2]["to"][0]["podSelector"]["matchLabels"]
        assert selected(template["metadata"]["labels"], egress)


def test_the_same_bundle_gives_the_same_files(overlay: tuple[Overlay, Path]) -> None:
    made, out = overlay
    again = made.files(out)
    assert {path: path.read_text() for path in again} == again


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("shop.example:5000/hetlm", {"newName": "shop.example:5000/hetlm"}),
        ("shop.example:5000/hetlm:2", {"newName": "shop.example:5000/hetlm", "newTag": "2"}),
        ("hetlm@sha256:ab", {"newName": "hetlm", "digest": "sha256:ab"}),
    ],
)
def test_images_of_your_own(overlay: tuple[Overlay, Path], name: str, entry: dict[str, str]) -> None:
    made, out = overlay
    own = Overlay(made.plan, "shop", "engines:1", name, made.base, False)
    files = own.files(out)
    kustomization = yaml.safe_load(files[out / "kustomization.yaml"])
    assert kustomization["images"] == [{"name": "hetlm-service", **entry}]
    assert "components" not in kustomization
    engines = [one for one in yaml.safe_load_all(files[out / "engines.yaml"]) if one["kind"] == "Deployment"]
    assert {one["spec"]["template"]["spec"]["containers"][0]["image"] for one in engines} == {"engines:1"}
    assert of("Deployment")["spec"]["template"]["spec"]["containers"][0]["image"] == "hetlm-service"


def test_engines_are_started_as_the_service_starts_its_own() -> None:
    """One list of flags, wherever vLLM runs."""
    tuning = Tuning(gpu=False, dtype="float32", eager=True)
    assert "raw_logprobs" in arguments("/p", "m", "0.0.0.0", PORT, tuning)
