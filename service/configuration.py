"""The page of all settings, `docs/configuration.md`."""

from __future__ import annotations

import json
from typing import Any

from service.secret_files import SUFFIX
from service.settings import Settings, secrets, variable


def table() -> str:
    """Every variable, as a Markdown page (`docs/configuration.md`)."""
    rows = ["| variable | values | default | meaning |", "|---|---|---|---|"]
    properties: dict[str, dict[str, Any]] = Settings.model_json_schema()["properties"]
    for name in Settings.model_fields:
        schema = properties[name]
        default = schema.get("default")
        shown = "" if default in (None, []) else f"`{default if isinstance(default, str) else json.dumps(default)}`"
        meaning = str(schema["description"]).replace("|", "\\|")
        rows.append(f"| `{variable(name)}` | {_values(schema)} | {shown} | {meaning} |")
    return "\n".join(
        [
            "# Configuration",
            "",
            "The service reads these environment variables; a flag of `hetlm serve` comes before its variable.",
            "",
            *rows,
            "",
            f"A secret may be in a file instead, which a variable with `{SUFFIX}` at its end names: "
            + ", ".join(f"`{variable(name)}{SUFFIX}`" for name in secrets())
            + ".",
            "",
            "This page is the output of `python -m service.settings`.",
            "",
        ]
    )


def _values(schema: dict[str, Any]) -> str:
    options = [s for s in schema.get("anyOf", [schema]) if s.get("type") != "null"]
    schema = options[0]
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    named = {"path": "directory", "file-path": "file", "password": "secret"}
    if schema.get("format") in named:
        return named[schema["format"]]
    kind = {"integer": "whole number", "number": "number", "array": "list"}.get(schema["type"], "text")
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum")
    if low is not None and high is not None:
        above = "above " if "exclusiveMinimum" in schema else ""
        return f"{kind}, {above}{low} to {high}"
    return f"{kind}, at least {low}" if low is not None else kind
