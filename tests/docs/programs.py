"""What runs when a document's block calls a program: hetlm itself, on less, or what stands in for the program."""

from __future__ import annotations

import importlib
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import traceback
from argparse import REMAINDER, ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.docs.blocks import ROOT
from tests.docs.rules import QUICK


class Mistake(Exception):
    """Of the document: what it says cannot work."""


def run(words: Sequence[str]) -> int:
    """The program's exit code."""
    program, *rest = words
    try:
        NAMES[program](rest)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Mistake as mistake:
        print(f"{program}: {mistake}", file=sys.stderr)
        return 2
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def hetlm(words: list[str]) -> None:
    from browsing.cli import build

    if os.environ.get("DOCS_HOW") == "parsed":
        _parse(build(), words)
        return
    sys.argv = ["hetlm", *_quick("hetlm", words)]
    build()()


def python(words: list[str]) -> None:
    match words:
        case ["-c", code]:
            exec(compile(code, "<document>", "exec"), {"__name__": "__main__"})
        case ["-m", module, *rest] if os.environ.get("DOCS_HOW") == "parsed":
            _parse_module(module, rest)
        case ["-m", module, *_]:
            sys.argv = ["python", *_quick("python", words)][2:]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case _:
            raise Mistake("only `python -m MODULE` and `python -c CODE` are known here")


def _parse_module(module: str, words: list[str]) -> None:
    if module == "pytest":
        for word in words:
            if "/" in word:
                _there(str(ROOT / word))
        return
    commands = importlib.import_module("loadtest.commands" if module == "loadtest" else f"{module}.commands")
    _parse(commands.app, words)


def _quick(program: str, words: list[str]) -> list[str]:
    line = " ".join([program, *words, ""])
    found = [more for begin, more in QUICK.items() if line.startswith(f"{begin} ")]
    return words + [word for more in found for word in more.split()]


def _parse(app: object, words: list[str]) -> None:
    """Every argument is read by the command's own options, and the command is not called."""
    import typer

    assert isinstance(app, typer.Typer)
    command, rest, name = typer.main.get_command(app), list(words), ""
    while isinstance(command, typer.core.TyperGroup):
        name = rest.pop(0)
        if name not in command.commands:
            raise Mistake(f"there is no command {name}; there are {', '.join(sorted(command.commands))}")
        command = command.commands[name]
    command.make_context(name, rest)


def _there(name: str) -> Path:
    path = Path(name)
    if not path.exists():
        raise ArgumentTypeError(f"{name} is not there")
    return path


def _kustomized(name: str) -> Path:
    return _there(f"{name}/kustomization.yaml")


def _from_file(given: str) -> Path:
    return _there(given.partition("=")[2] or given)


def make(words: list[str]) -> None:
    """Its targets are known, and its variables are read by the Makefile or by the Compose files."""
    readers = [Path("Makefile"), *Path("docker").glob("*.yml")]
    known = set(re.findall(r"\w+", " ".join(path.read_text() for path in readers)))
    for name in (word.partition("=")[0] for word in words if "=" in word):
        if name not in known:
            raise Mistake(f"nothing reads the variable {name}")
    real = shutil.which("make", path=os.environ["DOCS_PATH"])
    if real is None:
        raise Mistake("is not installed")
    sys.exit(subprocess.run([real, "--dry-run", *words], stdout=subprocess.DEVNULL, check=False).returncode)


def docker(words: list[str]) -> None:
    parser = ArgumentParser("docker", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build")
    build.add_argument("--file", type=_there, required=True)
    build.add_argument("--tag")
    build.add_argument("--build-arg", action="append")
    build.add_argument("context", type=_there)
    started = commands.add_parser("run")
    started.add_argument("--rm", action="store_true")
    for option in ("--gpus", "--user", "--volume"):
        started.add_argument(option)
    started.add_argument("image")
    started.add_argument("words", nargs=REMAINDER)
    compose = commands.add_parser("compose")
    compose.add_argument("--file", type=_there, required=True)
    actions = compose.add_subparsers(dest="action", required=True)
    up = actions.add_parser("up")
    up.add_argument("--build", action="store_true")
    up.add_argument("--detach", action="store_true")
    found = parser.parse_args(words)
    if found.command == "run":
        from browsing.cli import build as command_line

        _parse(command_line(), found.words)


def kubectl(words: list[str]) -> None:
    parser = ArgumentParser("kubectl", allow_abbrev=False)
    parser.add_argument("--namespace")
    commands = parser.add_subparsers(required=True)
    commands.add_parser("apply").add_argument("--kustomize", type=_kustomized, required=True)
    commands.add_parser("kustomize").add_argument("folder", type=_kustomized)
    create = commands.add_parser("create")
    create.add_argument("kind", choices=["secret"])
    create.add_argument("type", choices=["generic"])
    create.add_argument("name")
    create.add_argument("--from-file", type=_from_file, action="append", required=True)
    label = commands.add_parser("label")
    label.add_argument("kind", choices=["namespace"])
    label.add_argument("name")
    label.add_argument("labels", nargs="+")
    parser.parse_args(words)


def pip(words: list[str]) -> None:
    parser = ArgumentParser("pip", allow_abbrev=False)
    install = parser.add_subparsers(required=True).add_parser("install")
    install.add_argument("-e", dest="editable", action="append", default=[])
    install.add_argument("packages", nargs="*")
    found = parser.parse_args(words)
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    for package in [*found.editable, *found.packages]:
        name, _, extras = package.rstrip("]").partition("[")
        unknown = set(filter(None, extras.split(","))) - project["optional-dependencies"].keys()
        if name in (".", project["name"]) and unknown:
            raise Mistake(f"{project['name']} has no extra {', '.join(sorted(unknown))}")


def locust(words: list[str]) -> None:
    parser = ArgumentParser("locust", allow_abbrev=False)
    parser.add_argument("-f", dest="file", type=_there, required=True)
    parser.add_argument("--host")
    parser.add_argument("--users", type=int)
    found, own = parser.parse_known_args(words)
    options = re.findall(r'"(--[a-z-]+)"', Path(found.file).read_text())
    for word in own:
        if word.startswith("--") and word not in options:
            raise Mistake(f"neither Locust nor {found.file} has the option {word}")


NAMES: Mapping[str, Callable[[list[str]], None]] = {
    "hetlm": hetlm,
    "python": python,
    "python3": python,
    "make": make,
    "docker": docker,
    "kubectl": kubectl,
    "pip": pip,
    "locust": locust,
}
"""By the name on the PATH."""
