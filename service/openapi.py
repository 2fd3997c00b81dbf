"""`/openapi.json`: the bodies' schemas, with examples that run against the bundle that is loaded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from browsing.bundle import Bundle
from browsing.pages import PageError
from service.jobs.documents import BatchFile
from service.problems import MEDIA_TYPE, Problem
from service.schemas import EARLIEST, BatchRequest, PredictRequest
from service.security.access import Need, admin_port, main_port

DESCRIPTION = """What a visitor's next session will look like: which pages, in which order, and how likely a cart and a
purchase are. Every probability of a page or an outcome is GIVEN THAT the visitor returns: it says what a next session
looks like, not whether there will be one. How likely one is within 7 days is `return_within_7_days`; an outcome's
`within_7_days` is both together. Both are null where the training log was too short to learn it. Errors are RFC 9457
problem documents."""
_SCHEMAS = "#/components/schemas/{model}"
_REFUSALS = {
    "401": "no API key, or none that is valid here",
    "403": "the API key lacks the scope",
    "421": "without API keys: under a host name that is not this machine's",
    "429": "the API key's rate is used up; `Retry-After` says for how long",
}


def examples(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Bodies of `POST /predict` made of pages that this bundle knows: sessions, raw events, and no history."""
    pages = _known_pages(bundle)
    now = _after_training(bundle)

    def at(hours: float) -> str:
        return (now + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")

    sessions = [
        {"started_at": at(-50), "pages": pages[:3]},
        {"started_at": at(-26), "pages": [*pages[1:2], *pages[3:5]] or pages[:1]},
    ]
    found: dict[str, dict[str, Any]] = {
        "sessions": {"user_id": "u-17", "sessions": sessions, "options": {"samples": 16, "top_pages": 5, "seed": 7}},
        "new_visitor": {"sessions": []},
    }
    urls = [page for page in pages if _stays(bundle, page)][:3]
    events = [{"time": at(-3 + i / 60), "url": url} for i, url in enumerate(urls)]
    carts = [e for rule in bundle.rules.outcomes.values() for e in rule.events if rule.page in bundle.vocabulary]
    if carts:
        events.append({"time": at(-2.9), "event": carts[0]})
    if events:
        found["events"] = {"events": events, "options": {"decode": "greedy"}}
    return found


def _known_pages(bundle: Bundle) -> list[str]:
    """The likeliest pages of the largest cluster, then the vocabulary's: at most six, all known, no outcome."""
    outcomes = {page for own in bundle.manifest.outcomes.values() for page in own}
    largest = max(bundle.manifest.clusters, key=lambda cluster: cluster.share).id
    likely = bundle.reference.pages[largest]
    ranked = [*sorted(likely, key=lambda page: -likely[page]), *bundle.vocabulary.pages]
    known = dict.fromkeys(page for page in ranked if page in bundle.vocabulary)
    return ([page for page in known if page not in outcomes] or list(known))[:6]


def _stays(bundle: Bundle, page: str) -> bool:
    """Whether the page rules leave the page's name as it is, so that it can stand for a URL."""
    try:
        return bundle.rules.page(page) == page
    except PageError:
        return False


def _after_training(bundle: Bundle) -> datetime:
    """When the log ended; where the manifest tells no such time, any other."""
    try:
        end = datetime.fromisoformat(bundle.manifest.training.window_end)
    except ValueError:
        end = datetime(2026, 11, 1, 10)
    end = (end if end.tzinfo else end.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)
    return max(end, EARLIEST + timedelta(days=7))


def document(app: FastAPI, current: Callable[[], Bundle]) -> Callable[[], dict[str, Any]]:
    """What `app.openapi` is to be: made once per bundle, then kept. `current`: the bundle that is served now."""
    made: tuple[Bundle, dict[str, Any]] | None = None

    def openapi() -> dict[str, Any]:
        nonlocal made
        bundle = current()
        if made is None or made[0] is not bundle:
            made = bundle, _document(app, bundle)
        return made[1]

    return openapi


def _document(app: FastAPI, bundle: Bundle) -> dict[str, Any]:
    schema = get_openapi(title="hetlm", version=app.version, description=DESCRIPTION, routes=app.routes)
    _, requests = models_json_schema(
        [
            (PredictRequest, "validation"),
            (BatchRequest, "validation"),
            (BatchFile, "validation"),
            (Problem, "serialization"),
        ],
        ref_template=_SCHEMAS,
    )
    schema.setdefault("components", {}).setdefault("schemas", {}).update(requests["$defs"])
    _say_what_keys_open(schema, main_port)
    one = examples(bundle)
    batch = {"two_visitors": {"items": [one["sessions"], one["new_visitor"]]}}
    for path, model, bodies in (("/predict", "PredictRequest", one), ("/predict/batch", "BatchRequest", batch)):
        schema["paths"][path]["post"]["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": _SCHEMAS.format(model=model)},
                    "examples": {name: {"value": value} for name, value in bodies.items()},
                }
            },
        }
    return schema


def admin_document(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What the admin application's `openapi` is to be."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _, problems = models_json_schema([(Problem, "serialization")], ref_template=_SCHEMAS)
            schema.setdefault("components", {}).setdefault("schemas", {}).update(problems["$defs"])
            _say_what_keys_open(schema, admin_port)
            made.update(schema)
        return made

    return openapi


def _say_what_keys_open(schema: dict[str, Any], need_of: Callable[[str], Need]) -> None:
    """Every address but the open ones takes an API key, in one of two headers, and may refuse it."""
    schema["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "an API key that `hetlm keys new` made"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same, for tools"},
    }
    problem = {"$ref": _SCHEMAS.format(model="Problem")}
    for path, methods in schema["paths"].items():
        need = need_of(path)
        for operation in methods.values() if need != "nothing" else ():
            operation["security"] = [{"bearer": []}, {"header": []}]
            for status, words in _REFUSALS.items():
                known = operation["responses"].setdefault(
                    status, {"description": words, "content": {MEDIA_TYPE: {"schema": problem}}}
                )
                if words not in known["description"]:
                    known["description"] += f"; {words}"
