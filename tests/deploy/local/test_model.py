"""Reading Compose files: variables, includes, overrides, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local.interpolation import VariableError, interpolated
from deploy.local.model import ComposeError, load, merged, seconds

SET = {"A": "a", "EMPTY": "", "HOME": "/home"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x$A-${A}", "xa-a"),
        ("$$A $${A}", "$A ${A}"),
        ("${NONE:-d}${NONE-d}${EMPTY:-d}${EMPTY-d}", "ddd"),
        ("${NONE:-${ALSO:-${HOME}/x}/y}/z", "/home/x/y/z"),
        ("${NONE}", ""),
        ("${A:?never}", "a"),
    ],
)
def test_variables_are_replaced(text: str, value: str) -> None:
    assert interpolated({"k": [text, 1]}, SET) == {"k": [value, 1]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${NONE:?say where}", "NONE: say where"),
        ("${EMPTY:?}", "EMPTY: must be set"),
        ("${A", "not closed"),
        ("${-x}", "no name"),
        ("${NONE:+x}", "known are"),
        ("5 $ 6", r"written \$\$"),
    ],
)
def test_a_wrong_expression_is_named(text: str, words: str) -> None:
    with pytest.raises(VariableError, match=words):
        interpolated(text, SET)


@pytest.mark.parametrize(("text", "value"), [("45s", 45.0), ("1m30s", 90.0), ("2h", 7200.0), ("250ms", 0.25)])
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "5", "5 s", "fast"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        seconds(text)


def test_one_file_laid_over_another() -> None:
    under = {
        "command": ["a", "b"],
        "environment": {"A": "1", "B": "2"},
        "secrets": ["s", "t"],
        "volumes": [{"source": "x", "target": "/x"}, {"source": "y", "target": "/y"}],
        "image": "i",
    }
    over = {
        "command": ["c"],
        "environment": {"B": "3"},
        "secrets": ["t", "u"],
        "volumes": [{"source": "z", "target": "/y"}],
    }
    assert merged(under, over) == {
        "command": ["c"],
        "environment": {"A": "1", "B": "3"},
        "secrets": ["s", "t", "u"],
        "volumes": [{"source": "x", "target": "/x"}, {"source": "z", "target": "/y"}],
        "image": "i",
    }


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yml").write_text(text)
    return folder / "main.yml"


def test_what_is_included_is_merged_first(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        main="name: n\ninclude:\n  - path: [one.yml, two.yml]\nservices:\n  a: {image: i, depends_on: [b]}\n",
        one="services:\n  b: {image: j, environment: {E: '1'}}\n",
        two="services:\n  b: {environment: {E: '2'}, depends_on: {c: {condition: service_healthy}}}\n  c: {image: k}\n",
    )
    model = load(file, {})
    assert model.order() == ["c", "b", "a"]
    assert model.services["b"].environment == {"E": "2"}
    assert model.services["a"].depends_on["b"].condition == "service_started"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: n\nservices: {a: {image: i, networks: [x]}}", "names the network x"),
        ("name: n\nservices: {a: {image: i, secrets: [x]}}", "names the secret x"),
        ("name: n\nservices: {a: {image: i, depends_on: [x]}}", "names the service x"),
        (
            "name: n\nservices: {a: {image: i, volumes: [{type: volume, source: x, target: /x}]}}",
            "names the volume x",
        ),
        ("name: n\nservices: {a: {image: i, privileged: true}}", "services.a.privileged: Extra inputs"),
        ("name: n\nservices: {a: {image: i, restart: never}}", "services.a.restart"),
        ("[1]", "no Compose file"),
        ("a: [", "main.yml"),
        ("name: ${X:?say}", "X: say"),
        ("name: n\ninclude: [gone.yml]", "gone.yml: No such file"),
        ("name: n\ninclude: [one.yml]\nservices: {a: {image: i}}", "services a is there already"),
    ],
)
def test_what_cannot_be_run_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = write(tmp_path, main=text, one="services: {a: {image: i}}")
    with pytest.raises(ComposeError, match=words):
        load(file, {})


def test_a_circle_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, main="name: n\nservices: {a: {image: i, depends_on: [b]}, b: {image: i, depends_on: [a]}}")
    with pytest.raises(ComposeError, match="a, b: depend on each other"):
        load(file, {}).order()
