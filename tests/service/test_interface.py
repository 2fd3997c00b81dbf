"""What the OpenAPI documents promise beyond the happy path: found by fuzzing, kept by these."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter, ValidationError

from browsing.bundle import Bundle
from service.schemas import PredictRequest, Time
from service.settings import Settings
from tests.service.building import SESSIONS, running
from tests.service.test_openapi import references


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/batches", "GET, POST"), ("/batches/abcdefgh", "DELETE, GET"), ("/predict", "POST"), ("/livez", "GET")],
)
def test_allow_names_every_method_of_an_address(bundle: Bundle, tmp_path: Path, path: str, methods: str) -> None:
    async def scenario() -> None:
        async with running(bundle, settings=Settings(batch_dir=tmp_path)) as made:
            response = await made.client.request("PATCH", path)
            assert (response.status_code, response.headers["allow"]) == (405, methods)

    asyncio.run(scenario())


def test_a_named_file_takes_the_options_of_the_query_unless_it_has_its_own(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "rows").write_text(json.dumps({"sessions": SESSIONS}) + "\n")

    async def scenario() -> None:
        settings = Settings(batch_dir=tmp_path / "jobs", batch_input_dir=folder)
        async with running(bundle, settings=settings) as made:

            async def options(path: str, **body: object) -> tuple[int, Any]:
                response = await made.client.post(path, json={"file": "rows", **body})
                return response.status_code, response.json().get("options", {}).get("samples")

            assert await options("/batches?samples=3") == (202, 3)
            assert await options("/batches?samples=3", options={"samples": 5}) == (202, 5)
            assert (await options("/batches?samples=0"))[0] == 422
            missing = await made.client.post("/batches", json={"file": "others"})
            assert (missing.status_code, missing.json()["type"]) == (404, "urn:hetlm:problem:no-such-file")

    asyncio.run(scenario())


def test_the_schema_of_a_time_says_what_is_read() -> None:
    pattern = PredictRequest.model_json_schema()["$defs"]["SessionIn"]["properties"]["started_at"]["pattern"]
    for time, right in {
        "2026-11-01T10:00:00Z": True,
        "1995-01-02T00:00:00.123456+02:00": True,
        "2199-12-30T23:59:59-23:59": True,
        "1994-12-31T23:59:59Z": False,
        "2201-01-01T00:00:00Z": False,
        "2026-13-01T10:00:00Z": False,
        "2026-11-01T10:00:00": False,
    }.items():
        assert bool(re.fullmatch(pattern, time)) is right
        try:
            TypeAdapter(Time).validate_json(json.dumps(time))
        except ValidationError:
            assert not right
        else:
            assert right


def test_the_admin_document_is_whole(bundle: Bundle) -> None:
    async def scenario() -> dict[str, Any]:
        async with running(bundle) as made:
            transport = httpx.ASGITransport(made.service.admin_app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                document: dict[str, Any] = (await client.get("/openapi.json")).json()
                return document

    document = asyncio.run(scenario())
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"], reference
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["security"] == [{"bearer": []}, {"header": []}]
            assert {"401", "403"} <= operation["responses"].keys()
