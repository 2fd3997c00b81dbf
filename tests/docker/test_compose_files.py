"""The Compose files, without a container engine: valid, hardened, and in step with the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.dockerfile import image
from deploy.local.model import Model, load
from service.deploying.engines import BUNDLE
from service.deploying.installation import install
from service.security.keys import KeyFile
from service.settings import Settings, variable

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
FILES = sorted(DOCKER.glob("*compose*.yml"))
PULLED = re.compile(r"[a-z/]+:v?\d+\.\d+\.\d+(-[a-z]+)?")


@pytest.fixture
def model() -> Model:
    return load(DOCKER / "docker-compose.yml", {"HOME": "/home/somebody"})


def test_all_files_are_found() -> None:
    assert [path.name for path in FILES] == ["compose.engines.yml", "compose.service.yml", "docker-compose.yml"]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_each_is_valid_compose(file: Path) -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run([checker, "--builtin-schema", "vendor.compose-spec", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_service_redis_prometheus_and_grafana(model: Model) -> None:
    assert sorted(model.services) == ["grafana", "prometheus", "redis", "service"]


def test_everything_is_held_tight(model: Model) -> None:
    for name, service in model.services.items():
        assert service.restart == "always", name
        assert service.read_only, name
        assert service.cap_drop == ("ALL",), name
        assert service.security_opt == ("no-new-privileges:true",), name
        assert service.mem_limit, name
        assert service.pids_limit, name
        assert service.tmpfs, name
        assert service.logging["options"]["max-size"], name


def test_only_the_service_and_grafana_are_published_and_only_here(model: Model) -> None:
    published = {name: service.ports for name, service in model.services.items() if service.ports}
    assert published == {"service": ("127.0.0.1:8080:8080",), "grafana": ("127.0.0.1:3000:3000",)}
    outside = [name for name, network in model.networks.items() if not network.internal]
    assert outside == ["outside"]
    for name, service in model.services.items():
        assert ("outside" in service.networks) == (name in published)


def test_images_are_built_here_or_of_one_exact_version(model: Model) -> None:
    for service in model.services.values():
        if service.build is None:
            assert PULLED.fullmatch(service.image)
        else:
            context = DOCKER / service.build.context
            assert context.resolve() == ROOT
            text = (context / service.build.dockerfile).read_text()
            assert all(re.search(rf"^ARG {name}\b", text, re.M) for name in service.build.args)


def test_the_services_variables_are_settings(model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    service = model.services["service"]
    install(tmp_path, "redis:6379", "first")
    built = image(DOCKER / "Dockerfile.service")
    for name, value in {**built.environment, **service.environment}.items():
        if not name.startswith("HETLM_"):
            continue
        assert name in map(variable, Settings.model_fields) or name.endswith("_FILE")
        place = value.replace("/run/secrets/", f"{tmp_path}/").replace("/run/keys/", f"{tmp_path}/keys/")
        monkeypatch.setenv(name, place)
    settings = Settings()
    assert settings.engine == "local"
    assert settings.redis_url is not None
    assert "@redis:6379" in settings.redis_url.get_secret_value()
    assert service.stop_grace_period >= settings.lame_duck_seconds + settings.drain_seconds + 10
    targets = {mount.target: mount for mount in service.volumes}
    assert targets[BUNDLE].read_only
    assert str(settings.bundle) == BUNDLE
    assert settings.batch_dir is not None
    assert targets[str(settings.batch_dir)].source == "batches"
    assert targets["/run/keys"].read_only
    prepared = [one for one in (DOCKER / "Dockerfile.service").read_text().splitlines() if "install --directory" in one]
    assert str(settings.batch_dir) in prepared[0], "a new volume belongs to whom its folder in the image belongs"
    assert service.ports[0].endswith(f":{settings.port}")


def test_without_settings_the_demos_bundle_is_served() -> None:
    """The same default as in the Makefile and the demo."""

    def source(**variables: str) -> str:
        service = load(DOCKER / "docker-compose.yml", {"HOME": "/home/somebody", **variables}).services["service"]
        return next(mount.source for mount in service.volumes if mount.target == BUNDLE)

    assert source() == "/home/somebody/.cache/hetlm/demo/bundle"
    assert source(XDG_CACHE_HOME="/c") == "/c/hetlm/demo/bundle"
    assert source(HETLM_HOME="/h") == "/h/demo/bundle"
    assert source(HETLM_BUNDLE_DIR="/b") == "/b"
    assert "work=$HETLM_HOME/demo" in (ROOT / "deploy" / "demo.sh").read_text()
    assert '--out "$work/bundle"' in (ROOT / "deploy" / "demo.sh").read_text()


def test_every_secret_is_a_file_that_the_command_makes(model: Model, tmp_path: Path) -> None:
    made = {str(path.relative_to(tmp_path)) for path in install(tmp_path, "redis:6379", "first").made}
    sources = {str(secret.file) for secret in model.secrets.values()}
    assert {f"secrets/{name}" for name in made if "/" not in name} == sources
    assert all(name == Path(secret.file).name for name, secret in model.secrets.items())
    used = {secret for service in model.services.values() for secret in service.secrets}
    assert used | {"engine_api_key"} == set(model.secrets)
    assert KeyFile.model_validate_json((tmp_path / "keys" / "keys.json").read_text()).callers


def test_what_is_mounted_from_the_project_is_there(model: Model) -> None:
    for name, service in model.services.items():
        for mount in service.volumes:
            if mount.type == "bind" and mount.source.startswith(".."):
                assert (DOCKER / mount.source).is_dir()
                assert mount.read_only, name
                assert not mount.bind.create_host_path, name


def test_redis_is_a_bounded_cache(model: Model) -> None:
    command = model.services["redis"].command
    assert command is not None
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--maxmemory"] == "512mb"
    assert model.services["redis"].mem_limit == "768m"
    assert options["--maxmemory-policy"] == "allkeys-lru"
    assert options["--aclfile"] == "/run/secrets/redis_acl"
    assert (options["--save"], options["--appendonly"]) == ("", "no")


def scraped() -> dict[str, Any]:
    document = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    return {job["job_name"]: job for job in document["scrape_configs"]}


def test_prometheus_asks_the_services_metrics_port(model: Model) -> None:
    (target,) = scraped()["hetlm"]["static_configs"][0]["targets"]
    name, port = target.split(":")
    assert int(port) in image(DOCKER / "Dockerfile.service").ports
    assert set(model.services[name].networks) & set(model.services["prometheus"].networks)
    (files,) = scraped()["engines"]["file_sd_configs"][0]["files"]
    assert (ROOT / "deploy" / "prometheus" / files).is_file()


def test_grafana_asks_prometheus(model: Model) -> None:
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    command = model.services["prometheus"].command
    assert command is not None
    assert "--web.listen-address=0.0.0.0:9090" in command
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "hetlm.yml").read_text())["providers"]
    targets = [mount.target for mount in model.services["grafana"].volumes]
    assert provider["options"]["path"] in targets
    assert "/etc/grafana/provisioning" in targets
    assert set(model.services["grafana"].networks) & set(model.services["prometheus"].networks)


def test_every_health_check_asks_its_own_container(model: Model) -> None:
    for name, service in model.services.items():
        health = service.healthcheck or image(DOCKER / "Dockerfile.service").health
        assert health is not None, name
        assert any("127.0.0.1" in word for word in health.test), name
