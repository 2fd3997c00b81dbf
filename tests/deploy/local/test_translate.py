"""From containers to processes: programs, paths and addresses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deploy.local.model import ComposeError, Model, load
from deploy.local.programs import MissingProgramError, installed
from deploy.local.translate import Place, Process, addresses, process
from service.deploying.installation import install
from tests import tiny

ROOT = Path(__file__).parents[3]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    install(tmp_path / "secrets", "redis:6379", "first")
    tiny.bundle(tmp_path / "bundle", 1)
    variables = {"HETLM_BUNDLE_DIR": str(tmp_path / "bundle"), "HETLM_SECRETS_DIR": str(tmp_path / "secrets")}
    return load(ROOT / "docker" / "docker-compose.yml", variables)


def made(model: Model, name: str, state: Path) -> Process:
    one = process(model, name, addresses(model, "127.5.0.0"), state, state / "scratch")
    assert one is not None
    return one


def test_every_service_has_an_address_of_its_own(model: Model) -> None:
    known = addresses(model, "127.5.0.0")
    assert len(set(known.values())) == len(model.services)
    assert all(address.startswith("127.5.0.1") for address in known.values())
    for wrong in ("10.0.0.0", "localhost"):
        with pytest.raises(ComposeError, match=wrong):
            addresses(model, wrong)


def test_a_project_below_a_folder_that_containers_have_too(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's container has a /tmp of its own; a checkout may lie below this machine's."""
    programs = tmp_path / "checkout" / "bin"
    programs.mkdir(parents=True)
    (programs / "hetlm").touch()
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    service = model.services["service"]
    own = service.model_copy(update={"tmpfs": (*service.tmpfs, str(tmp_path / "checkout"))})
    shadowed = model.model_copy(update={"services": {**model.services, "service": own}})
    made_service = made(shadowed, "service", tmp_path / "state")
    assert made_service.command == (str(programs / "hetlm"), "serve")
    assert made_service.health is not None
    assert made_service.health.test[0] == str(programs / "python")


def test_the_service_is_this_project(model: Model, tmp_path: Path) -> None:
    state = tmp_path / "state"
    service = made(model, "service", state)
    assert service.command == (str(Path(sys.executable).with_name("hetlm")), "serve")
    environment = service.environment
    assert environment["HETLM_HOST"] == environment["HETLM_METRICS_HOST"] == service.address
    assert environment["HETLM_PORT"] == "8080"
    assert environment["HETLM_BUNDLE"] == str(tmp_path / "bundle")
    assert environment["HETLM_API_KEYS_FILE"] == str(tmp_path / "secrets" / "keys" / "keys.json")
    assert Path(environment["HETLM_BATCH_DIR"]) == state / "volumes" / "batches"
    assert Path(environment["HOME"]) == state / "scratch" / "service" / "tmp"
    assert Path(environment["HOME"]).is_dir()
    redis = addresses(model, "127.5.0.0")["redis"]
    url = Path(environment["HETLM_REDIS_URL_FILE"])
    assert url.read_text().strip().endswith(f"@{redis}:6379")
    assert url.stat().st_mode & 0o077 == 0
    assert service.health is not None
    assert f"http://{service.address}:8080/livez" in service.health.test[-1]
    assert service.grace == 45.0


def test_nothing_of_this_environment_leaks_in(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HETLM_ENGINE", "vllm")
    monkeypatch.setenv("SECRET_OF_MINE", "x")
    service = made(model, "service", tmp_path / "state")
    assert service.environment["HETLM_ENGINE"] == "local"
    assert "SECRET_OF_MINE" not in service.environment


def test_redis_is_the_one_that_is_there(model: Model, tmp_path: Path) -> None:
    redis = made(model, "redis", tmp_path / "state")
    assert Path(redis.command[0]).name == "redis-server"
    assert redis.command[redis.command.index("--bind") + 1] == redis.address
    acl = Path(redis.command[redis.command.index("--aclfile") + 1])
    assert acl.read_text() == (tmp_path / "secrets" / "redis_acl").read_text()
    assert redis.health is not None
    assert Path(redis.health.test[0]).name == "redis-cli"
    assert redis.address in redis.health.test


def test_prometheus_asks_where_the_services_are(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(command: tuple[str, ...]) -> list[str]:
        return [f"/usr/bin/{command[0]}", *command[1:]]

    monkeypatch.setattr("deploy.local.translate.installed", found)
    prometheus = made(model, "prometheus", tmp_path / "state")
    assert prometheus.command[0] == "/usr/bin/prometheus"
    assert f"--web.listen-address={prometheus.address}:9090" in prometheus.command
    config = Path(next(w for w in prometheus.command if w.startswith("--config.file=")).partition("=")[2])
    service = addresses(model, "127.5.0.0")["service"]
    assert f'["{service}:9464"]' in config.read_text()
    assert f'["{prometheus.address}:9090"]' in config.read_text()
    assert (config.parent / "targets" / "engines.yml").is_file()
    assert '"service:9464"' in (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(), "a copy was changed"


def test_only_what_watches_may_be_missing(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(command: tuple[str, ...]) -> list[str]:
        raise MissingProgramError(f"{command[0]} is not installed")

    monkeypatch.setattr("deploy.local.translate.installed", missing)
    known = addresses(model, "127.5.0.0")
    assert process(model, "prometheus", known, tmp_path, tmp_path) is None
    assert process(model, "grafana", known, tmp_path, tmp_path) is None
    with pytest.raises(ComposeError, match="redis: redis-server is not installed"):
        process(model, "redis", known, tmp_path, tmp_path)


def test_a_secret_or_a_bundle_that_is_not_there_is_named(model: Model, tmp_path: Path) -> None:
    (tmp_path / "secrets" / "redis_url").unlink()
    known = addresses(model, "127.5.0.0")
    with pytest.raises(ComposeError, match="hetlm deploy secrets"):
        process(model, "service", known, tmp_path / "state", tmp_path / "s")
    (tmp_path / "bundle").rename(tmp_path / "moved")
    with pytest.raises(ComposeError, match="would be mounted at /bundle"):
        process(model, "service", known, tmp_path / "state", tmp_path / "s")


def test_programs() -> None:
    assert installed(["python", "x"]) == [sys.executable, "x"]
    assert installed(["wget", "--spider", "http://a"])[0] == sys.executable
    assert Path(installed(["redis-cli"])[0]).is_file()
    with pytest.raises(MissingProgramError, match="no-such-program is not installed"):
        installed(["no-such-program"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("/tmp/x", "/tmp/state/scratch/x"),  # and not once more
        ("--model=/bundle", "--model=/tmp/state/b"),
        ("/bundles", "/bundles"),
        ("x/bundle", "x/bundle"),
        ("http://redis:6379,http://redis-2:1", "http://127.5.0.11:6379,http://redis-2:1"),
        ("redis://hetlm:x@redis:6379", "redis://hetlm:x@127.5.0.11:6379"),
        ("0.0.0.0:9090", "127.5.0.10:9090"),
        ("10.0.0.0", "10.0.0.0"),
    ],
)
def test_words(text: str, value: str) -> None:
    paths = {"/tmp": Path("/tmp/state/scratch"), "/bundle": Path("/tmp/state/b")}
    assert Place("127.5.0.10", {"redis": "127.5.0.11"}, paths).text(text) == value
