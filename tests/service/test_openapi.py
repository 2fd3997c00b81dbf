from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from browsing.bundle import Bundle
from browsing.pages import PageRules
from service.openapi import examples
from service.schemas import PredictRequest
from tests import tiny
from tests.service.building import running


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


def test_every_example_runs_and_knows_the_bundles_pages(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            document = (await made.client.get("/openapi.json")).json()
            assert document["openapi"].startswith("3.1")
            bodies = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
            assert set(bodies) == {"sessions", "events", "new_visitor"}
            for name, example in bodies.items():
                answer = await made.answer(example["value"])
                assert answer["fallback"] == ("no_history" if name == "new_visitor" else None)
                assert answer["unknown_pages"] == []
            events = bodies["events"]["value"]["events"]
            assert any(event.get("event") for event in events), "an outcome is among them"
            batch = document["paths"]["/predict/batch"]["post"]["requestBody"]["content"]["application/json"][
                "examples"
            ]
            for example in batch.values():
                response = await made.client.post("/predict/batch", json=example["value"])
                assert all("problem" not in item for item in response.json()["items"])

    asyncio.run(scenario())


def test_the_document_is_whole(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            document = (await made.client.get("/openapi.json")).json()
        assert set(document["paths"]) == {
            *("/predict", "/predict/batch", "/pages", "/bundle", "/report", "/livez", "/readyz")
        }
        schemas = document["components"]["schemas"]
        for reference in references(document):
            assert reference.removeprefix("#/components/schemas/") in schemas, reference
        request = schemas["PredictRequest"]
        assert request["additionalProperties"] is False
        options = schemas["PredictOptions"]["properties"]
        assert (options["samples"]["minimum"], options["samples"]["maximum"]) == (1, 256)
        assert options["tolerance"]["examples"] == [0.02]
        (bounds,) = [kind for kind in options["tolerance"]["anyOf"] if kind["type"] == "number"]
        assert (bounds["minimum"], bounds["maximum"]) == (0.001, 0.5)
        predict = document["paths"]["/predict"]["post"]["responses"]
        assert "application/problem+json" in predict["422"]["content"]
        assert predict["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/PredictResponse")
        assert "HTTPValidationError" not in json.dumps(document)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("pages", "rules"),
    [
        (("one", "two"), PageRules(source="name", outcomes={})),
        (("/cart",), PageRules()),
        (tuple(f"/shop/{i}" for i in range(40)), PageRules(max_depth=1, outcomes={})),
    ],
    ids=["names", "an outcome alone", "pages that the rules would cut"],
)
def test_any_bundle_has_examples(tmp_path: Path, pages: tuple[str, ...], rules: PageRules) -> None:
    tiny.bundle(tmp_path, clusters=1, pages=pages, rules=rules)
    made = examples(Bundle.load(tmp_path))
    assert {"sessions", "new_visitor"} <= set(made)
    for body in made.values():
        PredictRequest.model_validate_json(json.dumps(body))
