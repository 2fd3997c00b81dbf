"""A damaged bundle is refused by `hetlm serve` with one message, before anything is served; the mended one is taken."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from browsing.bundle import Bundle
from loadtest.soak.damage import flipped, foreign, halved, missing
from service.app import load
from service.cli import register
from service.settings import Settings


def no_manifest(root: Path) -> None:
    (root / "manifest.json").unlink()


def unlisted(root: Path) -> None:
    (root / "extra.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (missing, "cluster-1/model.safetensors"),
        (flipped, "cluster-1/model.safetensors"),
        (halved, "cluster-1/model.safetensors"),
        (foreign, "vocabulary"),
        (no_manifest, "manifest.json"),
        (unlisted, "extra.json"),
    ],
)
def test_a_damaged_bundle(bundle: Bundle, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    root = Path(shutil.copytree(bundle.root, tmp_path / "bundle"))
    damage(root)
    app = typer.Typer()
    register(app)
    ended = CliRunner().invoke(app, ["serve", str(root), "--port", "0", "--metrics-port", "0"])
    assert ended.exit_code == 2, ended.stderr
    said = "".join(ended.stderr.split())
    assert message.replace(" ", "") in said
    assert "Traceback" not in said
    shutil.rmtree(root)
    shutil.copytree(bundle.root, root)
    assert load(Settings(bundle=root)).manifest == bundle.manifest
