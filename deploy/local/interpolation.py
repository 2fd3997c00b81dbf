"""Variables in Compose files: `$NAME`, `${NAME:-default}`, `${NAME:?message}`, `$$`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Value = TypeVar("Value")


class VariableError(ValueError):
    """A variable that must be set and is not, or an expression that is none."""


def interpolated(value: Value, variables: Mapping[str, str]) -> Value:
    """A document with every variable in its texts replaced; keys stay as they are. Raises `VariableError`."""
    if isinstance(value, str):
        return _replace(value, variables)  # type: ignore[return-value]
    if isinstance(value, dict):
        return {key: interpolated(inner, variables) for key, inner in value.items()}  # type: ignore[return-value]
    if isinstance(value, list):
        return [interpolated(inner, variables) for inner in value]  # type: ignore[return-value]
    return value


def _replace(text: str, variables: Mapping[str, str]) -> str:
    out, place = [], 0
    while (dollar := text.find("$", place)) >= 0:
        out.append(text[place:dollar])
        rest = text[dollar + 1 :]
        if rest.startswith("$"):
            out.append("$")
            place = dollar + 2
        elif rest.startswith("{"):
            end = _closing(text, dollar + 1)
            out.append(_value(text[dollar + 2 : end], variables))
            place = end + 1
        elif name := _NAME.match(rest):
            out.append(variables.get(name[0], ""))
            place = dollar + 1 + name.end()
        else:
            raise VariableError(f"{text}: a $ that begins no variable is written $$")
    return "".join(out) + text[place:]


def _closing(text: str, opening: int) -> int:
    """Where the brace at `opening` closes; expressions may stand in each other."""
    depth = 0
    for place in range(opening, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place
    raise VariableError(f"{text}: a brace that is not closed")


def _value(expression: str, variables: Mapping[str, str]) -> str:
    name = _NAME.match(expression)
    if name is None:
        raise VariableError(f"${{{expression}}}: no name of a variable")
    operator = expression[name.end() :]
    value = variables.get(name[0])
    if operator.startswith(":"):  # an empty value is none
        value, operator = value or None, operator[1:]
    if value is not None or not operator:
        return value or ""
    kind, rest = operator[0], _replace(operator[1:], variables)
    if kind == "?":
        raise VariableError(f"{name[0]}: {rest or 'must be set'}")
    if kind != "-":
        raise VariableError(f"${{{expression}}}: known are :- - :? ?")
    return rest
