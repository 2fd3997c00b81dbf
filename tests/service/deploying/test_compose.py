"""`hetlm deploy compose`: the engines of a bundle behind the service."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.local.model import Model, load
from service.deploying import compose
from service.deploying.engines import plan
from service.settings import Settings, variable
from tests.service.deploying.conftest import Bundles

ROOT = Path(__file__).parents[3]
COPIED = ("docker-compose.yml", "compose.service.yml")


def written(tmp_path: Path, bundle: Path, gpus: int = 0) -> Path:
    """The Compose files, set to the engines of a bundle."""
    folder = tmp_path / "docker"
    folder.mkdir()
    for name in COPIED:
        (folder / name).write_text((ROOT / "docker" / name).read_text())
    for path, text in compose.files(folder, plan(bundle, gpus=gpus, threads=2, paths=256)).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def model(folder: Path) -> Model:
    return load(folder / compose.MAIN, {"HOME": "/home/somebody"})


@pytest.mark.parametrize("clusters", [1, 3, 6])
def test_one_engine_per_cluster_one_after_another(bundles: Bundles, tmp_path: Path, clusters: int) -> None:
    made = model(written(tmp_path, bundles(clusters)))
    engines = [name for name in made.services if name.startswith("engine-")]
    assert engines == [f"engine-{k}" for k in range(clusters)]
    before: str | None = None
    for k, name in enumerate(engines):
        engine = made.services[name]
        assert {other: needed.condition for other, needed in engine.depends_on.items()} == (
            {before: "service_healthy"} if before else {}
        )
        assert engine.command is not None
        assert f"/bundle/predictors/cluster-{k}" in engine.command
        (mount,) = engine.volumes
        assert (mount.source, mount.target, mount.read_only) == (str(bundles(clusters)), "/bundle", True)
        assert engine.networks == ("engines",)
        assert not engine.ports
        before = name
    assert made.networks["engines"].internal
    service = made.services["service"]
    assert service.depends_on[engines[-1]].condition == "service_healthy"
    assert "redis" in service.depends_on
    assert made.order().index("service") > made.order().index(engines[-1])


@pytest.mark.parametrize("clusters", [1, 3, 6])
def test_the_service_asks_the_engines_of_this_bundle_alone(
    bundles: Bundles, tmp_path: Path, clusters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = model(written(tmp_path, bundles(clusters))).services["service"]
    (tmp_path / "secret").write_text("a-secret-of-16-characters")
    (tmp_path / "redis_url").write_text("redis://hetlm:x@redis:6379")
    known = {variable(name) for name in Settings.model_fields}
    for name, value in service.environment.items():
        if name.endswith("_FILE"):
            value = str(tmp_path / ("redis_url" if "REDIS" in name else "secret"))
        assert name in known or name.removesuffix("_FILE") in known
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.engine == "vllm-server"
    assert settings.engine_urls == tuple(f"http://engine-{k}:8000" for k in range(clusters))
    manifest = yaml.safe_load((bundles(clusters) / "manifest.json").read_text())
    assert settings.bundle_version == manifest["version"]
    assert [mount.source for mount in service.volumes if mount.target == "/bundle"] == [str(bundles(clusters))]
    assert "engine_api_key" in service.secrets


@pytest.mark.parametrize("gpus", [0, 2])
def test_the_same_bundle_gives_the_same_valid_files(bundles: Bundles, tmp_path: Path, gpus: int) -> None:
    folder = written(tmp_path, bundles(3), gpus)
    again = compose.files(folder, plan(bundles(3), gpus=gpus, threads=2, paths=256))
    assert {path: path.read_text() for path in again} == again
    checker = Path(sys.executable).with_name("check-jsonschema")
    subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", folder / compose.ENGINES], check=True, capture_output=True
    )


def test_engines_on_gpus_get_one_each_in_turn(bundles: Bundles, tmp_path: Path) -> None:
    services = model(written(tmp_path, bundles(3), gpus=2)).services
    devices = [services[f"engine-{k}"].deploy["resources"]["reservations"]["devices"] for k in range(3)]
    assert [own[0]["device_ids"] for own in devices] == [["0"], ["1"], ["0"]]
    assert {services[f"engine-{k}"].image for k in range(3)} == {"hetlm-engine:gpu"}
    build = services["engine-0"].build
    assert build is not None
    assert build.args["DEVICE"] == "gpu"


def test_prometheus_learns_where_the_engines_are(bundles: Bundles, tmp_path: Path) -> None:
    folder = written(tmp_path, bundles(3))
    targets = yaml.safe_load((folder / compose.TARGETS).read_text())
    assert targets == [{"targets": [f"engine-{k}:8000"], "labels": {"cluster": str(k)}} for k in range(3)]


def test_a_path_with_a_dollar_is_no_variable(bundles: Bundles, tmp_path: Path) -> None:
    odd = tmp_path / "bundle $HOME"
    shutil.copytree(bundles(1), odd)
    services = model(written(tmp_path, odd)).services
    assert services["engine-0"].volumes[0].source == str(odd)
