"""The console's addresses: what they say, to whom, and under which headers."""

from __future__ import annotations

import asyncio
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from browsing.bundle import Bundle, Manifest, seal
from service.console.files import CONSOLE_HEADERS, REPORT_HEADERS, load
from service.console.showcase import Showcases, examples
from service.settings import Settings
from tests import tiny
from tests.service.building import running
from tests.service.console.shops import REPORT, SCRIPT, hostile
from tests.service.security.keyed import bearer, keys

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MARK = "zq-secret-zq"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return hostile(tmp_path_factory.mktemp("shop") / "b")


def get(bundle: Bundle, *paths: str) -> list[httpx.Response]:
    async def scenario() -> list[httpx.Response]:
        async with running(bundle) as made:
            return [await made.client.get(path) for path in paths]

    return asyncio.run(scenario())


def test_every_file_of_the_console_is_served_under_the_strict_policy(bundle: Bundle) -> None:
    names = load()
    assert {"index.html", "console.css", "console.js"} <= set(names)
    index, *files = get(bundle, "/", *(f"/console/{name}" for name in names))
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    assert index.content == names["index.html"][0]
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
    for name, response in zip(names, files, strict=True):
        assert response.status_code == 200
        assert response.content == names[name][0]
        assert response.headers["content-type"] == f"{kinds[name.rpartition('.')[2]]}; charset=utf-8"
    for response in (index, *files):
        assert response.headers["content-security-policy"] == POLICY
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"


def test_what_the_files_name_is_there_and_nothing_else_is_loaded() -> None:
    texts = {name: content.decode() for name, (content, _) in load().items()}
    named = set(re.findall(r'(?:href|src)="console/([^"]+)"', texts["index.html"]))
    for name, text in texts.items():
        named |= set(re.findall(r'from "\./([^"]+)"', text)) if name.endswith(".js") else set()
    assert named == set(texts) - {"index.html"}
    for name, text in texts.items():
        hosts = set(re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z0-9.-]+", text))
        assert hosts <= {"http://www.w3.org"}, f"{name} names another host"  # the namespace of SVG, loaded by nobody


@pytest.mark.parametrize(
    "word", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "setHTML"]
)
def test_no_file_parses_text_as_markup_or_code(word: str) -> None:
    assert not [name for name, (content, _) in load().items() if word in content.decode()]


def test_no_other_file_can_be_asked_for(bundle: Bundle) -> None:
    for path in ("/console/routes.py", "/console/..%2Froutes.py", "/console/", "/console/%00", "/index.html"):
        [response] = get(bundle, path)
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"


def test_pages_are_completed(bundle: Bundle) -> None:
    every, bags, tote, two, none = get(
        bundle, "/pages", "/pages?prefix=/bags", "/pages?prefix=TOTE", "/pages?limit=2", "/pages?prefix=zz"
    )
    assert every.json() == {"pages": list(tiny.SIX_PAGES)}
    assert bags.json() == {"pages": ["/bags", "/bags/tote"]}
    assert tote.json() == {"pages": ["/bags/tote"]}
    assert two.json() == {"pages": ["/cart", "/purchase"]}
    assert none.json() == {"pages": []}


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=51", "limit"),
        (f"limit={MARK}", "limit"),
        (f"prefix={MARK * 60}", "prefix"),
        (f"{MARK}=1", MARK),
    ],
)
def test_a_wrong_query_is_named_and_not_repeated(bundle: Bundle, query: str, parameter: str) -> None:
    [response] = get(bundle, f"/pages?{query}")
    assert response.status_code == 422
    problem = response.json()
    assert problem["type"] == "urn:hetlm:problem:invalid-request"
    assert problem["detail"].startswith(f"{parameter} in the query ")
    assert [error["detail"] for error in problem["errors"]] == [problem["detail"]]
    assert response.text.count(MARK) == (2 if parameter == MARK else 0), "only the names of parameters are repeated"


def test_what_was_typed_is_not_logged(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            await made.client.get(f"/pages?prefix={MARK}")
            assert [line["route"] for line in made.lines() if line["event"] == "request"] == ["/pages"]
            assert MARK not in made.log.getvalue()
            assert 'route="/pages",status="200"' in await made.metrics()

    asyncio.run(scenario())


def test_the_bundle_tells_what_it_is(shop: Bundle) -> None:
    [response] = get(shop, "/bundle")
    document = response.json()
    assert document["version"] == shop.manifest.version
    assert [c["name"] for c in document["clusters"]] == ["<b>bag</b> comparers", "kind 1"]
    assert [c["share"] for c in document["clusters"]] == [0.6, 0.4]
    assert document["clusters"][0]["behaviours"] == ["comes back to pages"]
    assert document["clusters"][0]["outcome_rates"] == {"cart": 0.3}
    assert document["clusters"][0]["median_pages"] == 3
    assert document["outcomes"]["cart"] == {"pages": ["/cart"], "calibrated": True}
    assert document["limits"]["max_steps"] == 8
    assert document["training"]["window_end"].startswith("2026-02-01")
    assert (document["calibrated"], document["returns"], document["report"]) == (True, True, True)
    assert document["vocabulary_pages"] == len(shop.vocabulary.pages)
    assert str(shop.root) not in response.text, "nothing of the machine is told"


def test_examples_are_the_profiles_generated_journeys(shop: Bundle) -> None:
    made = examples(shop)
    assert [example.cluster for example in made] == [0, 1], "the largest cluster first"
    assert made[0].sessions == [["/sale", "/shoes"], ["/", "/bags", "/bags/tote", "/cart"]]
    assert made[1].sessions == [["/shoes", SCRIPT]]


def test_without_profiles_examples_are_typical_pages(bundle: Bundle) -> None:
    assert [example.sessions for example in examples(bundle)] == [[["/cart", "/purchase", "/"]]] * 2
    [document] = [response.json() for response in get(bundle, "/bundle")]
    assert document["clusters"][0]["median_pages"] is None
    assert document["returns"] is False


def test_a_bundle_whose_typical_pages_are_unknown_has_no_examples(bundle: Bundle, tmp_path: Path) -> None:
    def without(manifest: Manifest, root: Path) -> Manifest:
        clusters = tuple(c.model_copy(update={"typical_pages": ("/gone",)}) for c in manifest.clusters)
        return manifest.model_copy(update={"clusters": clusters})

    assert examples(changed(bundle, tmp_path, without)) == []


def test_every_example_is_a_history_that_the_service_knows(shop: Bundle) -> None:
    async def scenario() -> None:
        async with running(shop) as made:
            document = (await made.client.get("/bundle")).json()
            assert document["examples"]
            start = datetime(2026, 3, 1, tzinfo=UTC)
            for example in document["examples"]:
                sessions = [
                    {"started_at": (start + timedelta(days=i)).isoformat(), "pages": pages}
                    for i, pages in enumerate(example["sessions"])
                ]
                answer = await made.answer({"sessions": sessions})
                assert answer["unknown_pages"] == []
                assert answer["fallback"] is None

    asyncio.run(scenario())


def test_the_report_is_served_as_it_is_and_cannot_run_anything(shop: Bundle) -> None:
    [response] = get(shop, "/report")
    assert response.text == REPORT
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert policy == REPORT_HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"


def changed(bundle: Bundle, tmp_path: Path, change: Any) -> Bundle:
    root = Path(shutil.copytree(bundle.root, tmp_path / "changed"))
    manifest = Manifest.model_validate_json((root / "manifest.json").read_text())
    seal(root, change(manifest, root))
    return Bundle.load(root)


def test_a_bundle_without_a_report(bundle: Bundle, tmp_path: Path) -> None:
    def remove(manifest: Manifest, root: Path) -> Manifest:
        (root / "report.html").unlink()
        return manifest

    report, described = get(changed(bundle, tmp_path, remove), "/report", "/bundle")
    assert report.status_code == 404
    assert report.json()["type"] == "urn:hetlm:problem:not-found"
    assert described.json()["report"] is False


def test_what_is_shown_follows_the_bundle_that_is_served(bundle: Bundle, shop: Bundle) -> None:
    served = [bundle]
    showcases = Showcases(lambda: served[-1])
    first = showcases.now()
    assert showcases.now() is first
    served.append(shop)
    assert showcases.now().document.version == shop.manifest.version
    assert showcases.now().completion.find("<scr", 3) == [SCRIPT]


def test_with_keys_the_console_loads_without_one_and_shows_nothing(shop: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    reader, batcher = keys(path, ("reader", ("predict",)), ("batcher", ("batch",)))

    async def scenario() -> None:
        async with running(shop, settings=Settings(api_keys_file=path)) as made:
            for address in ("/", "/console/console.js", "/console/console.css"):
                response = await made.client.get(address)
                assert response.status_code == 200
                assert response.headers["content-security-policy"] == CONSOLE_HEADERS["Content-Security-Policy"]
                for word in (SCRIPT, "comparers", shop.manifest.version):
                    assert word not in response.text
            for address in ("/pages", "/bundle", "/report"):
                assert (await made.client.get(address)).status_code == 401
                assert (await made.client.get(address, headers=bearer(batcher))).status_code == 403
                assert (await made.client.get(address, headers=bearer(reader))).status_code == 200

    asyncio.run(scenario())


def test_the_interface_document_has_the_addresses(bundle: Bundle) -> None:
    [response] = get(bundle, "/openapi.json")
    paths = response.json()["paths"]
    limit = next(p for p in paths["/pages"]["get"]["parameters"] if p["name"] == "limit")
    assert limit["in"] == "query"
    assert (limit["schema"]["minimum"], limit["schema"]["maximum"], limit["schema"]["default"]) == (1, 50, 10)
    assert paths["/bundle"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    for path in ("/pages", "/bundle", "/report"):
        assert paths[path]["get"]["security"] == [{"bearer": []}, {"header": []}]
        assert {"401", "403", "429"} <= set(paths[path]["get"]["responses"])
    assert not {"/", "/console/{name}"} & set(paths)
