"""Names from an endpoint: what it is sent, what is kept of its answers, and what happens when it fails."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from browsing.bundle import Bundle, verify
from tests import tiny
from tests.training.baselines.text.fake import URL, Fake, completion, error
from tests.training.datasets import write
from tests.training.report.stories import complete, profiles
from training.baselines.text.endpoint import Endpoint
from training.bundle_command import bundle as bundle_app
from training.renaming import built_names, plain_name, question, rename_clusters

ENDPOINT = Endpoint(URL, "small-llm", attempts=1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    complete(tmp_path / "bundle", write(tmp_path / "shop", 10, 4))
    return tmp_path / "bundle"


def answers(*texts: str) -> httpx.MockTransport:
    return Fake(*map(completion, texts)).transport


def test_names_are_in_the_manifest_the_card_and_the_report(root: Path) -> None:
    before = verify(root)
    renamed = rename_clusters(root, ENDPOINT, answers("Bag browsers", "Shoe hunters\n"))
    loaded = Bundle.load(root)
    assert [c.name for c in loaded.manifest.clusters] == ["Bag browsers", "Shoe hunters"]
    assert renamed.manifest == loaded.manifest
    assert (renamed.named, renamed.troubles) == (2, ())
    assert loaded.manifest.version != before.version
    assert [c.share for c in loaded.manifest.clusters] == [c.share for c in before.clusters]
    assert loaded.profiles is not None
    assert loaded.profiles.named_by == "small-llm"
    assert "Shoe hunters" in (root / "MODEL_CARD.md").read_text()
    assert "Shoe hunters" in (root / "report.html").read_text()
    assert list(root.parent.glob(".*")) == [], "nothing is left beside it"


def test_only_aggregates_are_sent(root: Path) -> None:
    fake = Fake(text=lambda prompt: f"name {len(prompt)}")
    rename_clusters(root, ENDPOINT, fake.transport)
    assert len(fake.prompts) == 2
    for prompt, cluster in zip(fake.prompts, profiles().clusters, strict=True):
        assert prompt == question(profiles(), cluster)
        assert "in 50% of its sessions, 1.2 times everybody's" in prompt
        assert "→" not in prompt
        assert "u0" not in prompt


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Bag browsers", "Bag browsers"),
        ("\n  Name: **Bag browsers**.\nBecause they browse bags.", "Bag browsers"),
        ('"Bag\tbrowsers"', "Bag browsers"),
        ("<b>Bag</b> browsers", "b Bag /b browsers"),
        ("Bag\u202e\u0000\x1b browsers\u200b", "Bag browsers"),
        ("Visitors who look at a great many bags and never buy", "Visitors who look at a great many bags"),
        ("x" * 60, "x" * 40),
        ("see https://example.org/", ""),
        ("&lt;script&gt;", ""),
        ("12 345", ""),
        ("```", ""),
        ("", ""),
        ("\n \n", ""),
    ],
)
def test_an_answer_becomes_plain_text(text: str, name: str) -> None:
    assert plain_name(text) == name
    assert len(plain_name(text)) <= 40


def test_a_cluster_without_a_usable_name_keeps_its_built_one(root: Path) -> None:
    renamed = rename_clusters(root, ENDPOINT, answers("https://spam.example", "Shoe hunters"))
    assert [c.name for c in renamed.manifest.clusters] == ["bags: short visits", "Shoe hunters"]
    assert renamed.named == 1
    assert "no usable name" in renamed.troubles[0]


def test_two_clusters_never_share_a_name(root: Path) -> None:
    renamed = rename_clusters(root, ENDPOINT, answers("Shoppers", "shoppers"))
    assert [c.name for c in renamed.manifest.clusters] == ["Shoppers", "shoes"]
    assert "another cluster's name" in renamed.troubles[0]


@pytest.mark.parametrize(
    "move", [error(500), error(401), httpx.ConnectError("no"), httpx.Response(200, text="hello"), completion(None)]
)
def test_whatever_goes_wrong_the_built_names_stand(root: Path, move: httpx.Response | Exception) -> None:
    renamed = rename_clusters(root, ENDPOINT, Fake(move, move).transport)
    assert [c.name for c in renamed.manifest.clusters] == ["bags: short visits", "shoes"]
    assert len(renamed.troubles) == 2
    loaded = Bundle.load(root)
    assert loaded.profiles is not None
    assert loaded.profiles.named_by is None


def test_the_built_names_come_back(root: Path) -> None:
    rename_clusters(root, ENDPOINT, answers("One", "Two"))
    assert [c.name for c in built_names(root).clusters] == ["bags: short visits", "shoes"]
    assert [c.name for c in verify(root).clusters] == ["bags: short visits", "shoes"]


def test_an_older_bundle_is_named(tmp_path: Path) -> None:
    tiny.bundle(tmp_path / "old")
    with pytest.raises(ValueError, match=r"no profiles\.json"):
        rename_clusters(tmp_path / "old", ENDPOINT, answers())


class Handler(BaseHTTPRequestHandler):
    names = ("Bag browsers", "Shoe hunters")
    asked: list[dict[str, object]]

    def do_POST(self) -> None:
        asked = type(self).asked
        asked.append(
            {
                "path": self.path,
                "key": self.headers.get("authorization"),
                "body": json.loads(self.rfile.read(int(self.headers["content-length"]))),
            }
        )
        content = completion(self.names[len(asked) - 1]).content
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[tuple[str, type[Handler]]]:
    handler = type("Own", (Handler,), {"asked": []})
    with HTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/v1", handler
        httpd.shutdown()
        thread.join()


def test_the_command_names_over_http(
    root: Path, server: tuple[str, type[Handler]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = server
    monkeypatch.setitem(os.environ, "OUR_KEY", "secret")
    arguments = ["name", str(root), "--url", url, "--model", "small-llm", "--key-env", "OUR_KEY", "--json"]
    result = CliRunner().invoke(bundle_app, arguments)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["names"] == ["Bag browsers", "Shoe hunters"]
    assert document["version"] == verify(root).version
    assert [asked["path"] for asked in handler.asked] == ["/v1/chat/completions"] * 2
    assert {asked["key"] for asked in handler.asked} == {"Bearer secret"}
    assert "secret" not in result.output
    back = CliRunner().invoke(bundle_app, ["name", str(root), "--reset", "--json"])
    assert json.loads(back.stdout)["names"] == ["bags: short visits", "shoes"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "Give --url and --model"), (["--url", "nonsense", "--model", "m"], "is no URL")],
)
def test_a_mistake_is_named(root: Path, arguments: list[str], message: str) -> None:
    version = verify(root).version
    result = CliRunner().invoke(bundle_app, ["name", str(root), *arguments])
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")
    assert verify(root).version == version
