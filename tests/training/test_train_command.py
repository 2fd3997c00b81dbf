"""`hetlm train` and `hetlm bundle`, on a small dataset with the real encoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import typer
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner, Result

from browsing.bundle import Bundle
from tests.training.datasets import PAGES, visitors, write
from training import train_command
from training.bundle_command import bundle as bundle_app
from training.run import Run

TRAIN = typer.Typer()
TRAIN.command()(train_command.train)

QUICK = ["--preset", "demo", "--context", "64", "--max-steps", "8", "--epochs", "2", "--tune-epochs", "1"]
QUICK += ["--warm-users", "40", "--warm-epochs", "1"]


def train(*arguments: str | Path) -> Result:
    return CliRunner().invoke(TRAIN, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the dataset `shop`, and the bundle `bundle` and runs `runs` that a first training left."""
    root = tmp_path_factory.mktemp("train")
    write(root / "shop", train=50, held=16, returns=visitors({"train": 300, "select": 60})[0])
    result = train(
        root / "shop", "--out", root / "bundle", "--runs", root / "runs", *QUICK, "--clusters", "2", "--json"
    )
    assert result.exit_code == 0, result.output
    (root / "result.json").write_text(result.stdout)
    return root


def test_it_ends_with_one_line_of_json(place: Path) -> None:
    lines = (place / "result.json").read_text().splitlines()
    assert len(lines) == 1
    document = json.loads(lines[0])
    assert document["bundle"] == str(place / "bundle")
    assert document["version"] == Bundle.load(place / "bundle").manifest.version
    stages = {"markov", "pretrain", "single", "embeddings", "mixture", "tune", "interpolate", "rules", "bundle"}
    assert set(document["seconds"]) == stages
    assert set(document["losses"]) == {"shared", "single", "kept", "markov"}
    assert document["losses"]["kept"] <= document["losses"]["shared"]


def test_the_bundle_is_complete_and_its_parts_agree(place: Path) -> None:
    loaded = Bundle.load(place / "bundle")
    manifest = loaded.manifest
    assert loaded.vocabulary.pages == PAGES
    assert manifest.outcomes == {"cart": ("/cart",), "purchase": ("/purchase",)}
    assert abs(sum(c.share for c in manifest.clusters) - 1) < 1e-9
    assert len({c.name for c in manifest.clusters}) == loaded.clusters
    assert manifest.training.users == 50
    assert manifest.metrics["validation_users"] == 16
    assert manifest.decode == max(("consensus", "greedy"), key=lambda d: manifest.metrics[f"validation_iou_{d}"])
    assert loaded.prior.sessions == 50
    assert loaded.prior.next_session
    assert set(loaded.calibration.outcomes) == {"cart", "purchase"}
    assert loaded.calibration.samples == 16
    assert loaded.returns is not None
    assert loaded.returns.users == 300
    assert manifest.metrics["return_users"] == 60
    assert len(loaded.reference.pages) == loaded.clusters
    assert all(0.99 < sum(pages.values()) <= 1.0001 for pages in loaded.reference.pages)
    visits, routing = loaded.reference.visits, loaded.reference.routing
    assert visits is not None
    assert routing is not None
    assert visits.users == routing.users == 50 + 16 + 16
    assert visits.unknown == 0
    assert sum(visits.pages.values()) == pytest.approx(1)
    assert sum(routing.clusters) == pytest.approx(1) == pytest.approx(sum(routing.confidence))
    assert len(routing.clusters) == loaded.clusters
    card = (place / "bundle" / "MODEL_CARD.md").read_text()
    assert "conditional on the visitor returning" in card
    report = (place / "bundle" / "report.html").read_text()
    assert "<svg" in report
    assert "http:" not in report + card
    assert loaded.profiles is not None
    assert all(page in PAGES for c in loaded.profiles.clusters for j in c.journeys for page in j.pages)
    assert "u0" not in card + report


def test_stock_transformers_loads_every_predictor(place: Path) -> None:
    loaded = Bundle.load(place / "bundle")
    for directory in (*loaded.predictors(), place / "bundle" / "shared"):
        model = AutoModelForCausalLM.from_pretrained(directory)
        tokenizer = AutoTokenizer.from_pretrained(directory)
        ids = tokenizer("[BOS] /bags /bags/tote [EOS] [BOS]", return_tensors="pt")["input_ids"]
        assert ids[0].tolist() == [1, *(loaded.vocabulary.id(p) for p in ("/bags", "/bags/tote")), 2, 1]
        assert model(input_ids=ids).logits.shape == (1, 5, len(loaded.vocabulary))
        assert model.generation_config.do_sample is False
        assert (model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id) == (0, 1, 2)
        assert all(p.dtype == torch.float32 for p in model.parameters())


def test_the_same_command_again_gives_the_same_bundle(place: Path) -> None:
    version = Bundle.load(place / "bundle").manifest.version
    result = train(place / "shop", "--out", place / "again", "--runs", place / "runs", *QUICK, "--clusters", "2")
    assert result.exit_code == 0, result.output
    assert Bundle.load(place / "again", version).manifest.version == version
    assert not list(place.glob(".*"))


def test_equal_trainings_make_equal_bundles(place: Path, tmp_path: Path) -> None:
    """Byte for byte, though each took its own time: nothing is shared but the dataset and the seed."""
    settings = [*QUICK, "--method", "mixture", "--clusters", "2", "--tune-epochs", "1"]
    for name in ("one", "other"):
        result = train(place / "shop", "--out", tmp_path / name, "--runs", tmp_path / f"{name}-runs", *settings)
        assert result.exit_code == 0, result.output
    one, other = (Bundle.load(tmp_path / name).manifest for name in ("one", "other"))
    assert one.files == other.files
    assert one.version == other.version
    log = json.loads((tmp_path / "one" / "training-log.json").read_text())
    assert {"warm", "warm choice", "pretrain", "single", "mixture"} <= {record["stage"] for record in log["records"]}
    assert not [record for record in log["records"] if any("seconds" in name for name in record)]
    assert (tmp_path / "one-runs" / log["run"] / "log.jsonl").read_text().count("seconds") > 4


def test_single_has_one_cluster(place: Path, tmp_path: Path) -> None:
    result = train(place / "shop", "--out", tmp_path / "one", "--runs", tmp_path, *QUICK, "--method", "single")
    assert result.exit_code == 0, result.output
    manifest = Bundle.load(tmp_path / "one").manifest
    assert [c.name for c in manifest.clusters] == ["all visitors"]
    assert manifest.clusters[0].share == 1


def test_an_interruption_says_how_to_go_on(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Run.save

    def stop(self: Run, stage: str, *rest: object) -> None:
        save(self, stage, *rest)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save", stop)
    result = train(place / "shop", "--out", tmp_path / "b", "--runs", tmp_path / "runs", *QUICK, "--clusters", "2")
    assert result.exit_code == 130
    assert "goes on from the last finished epoch" in result.stderr
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "huge"], "unknown preset 'huge'"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--device", "cpu", "--precision", "fp16"], "--precision fp16 needs a GPU"),
        (["--times", "2", "--checkpoint", "some/place"], "a checkpoint has its own size"),
        (["--context", "16", "--max-steps", "15"], "leaves no room"),
        (["--learning-rate", "0"], "learning_rate"),
        (["--checkpoint", "no/such/place", *QUICK], "no usable checkpoint"),
        (["--warm-start", "checkpoint"], "the preset small has no public checkpoint"),
        (["--clusters", "51", "--method", "kmeans", *QUICK], "cannot fall into 51 clusters"),
    ],
)
def test_a_mistake_is_named(place: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    result = train(place / "shop", "--out", tmp_path / "bundle", "--runs", tmp_path / "runs", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")
    assert not (tmp_path / "bundle").exists()


def test_a_place_with_something_else_is_left_alone(place: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.md").write_text("years of work")
    result = train(place / "shop", "--out", tmp_path)
    assert result.exit_code == 2
    assert "neither empty nor a bundle" in result.stderr
    assert (tmp_path / "thesis.md").exists()


def test_a_missing_dataset_is_named(tmp_path: Path) -> None:
    result = train(tmp_path / "nothing", "--out", tmp_path / "bundle")
    assert result.exit_code == 2
    assert "no such directory" in result.stderr


def test_bundle_verify_and_show(place: Path, tmp_path: Path) -> None:
    version = Bundle.load(place / "bundle").manifest.version
    good = CliRunner().invoke(bundle_app, ["verify", str(place / "bundle"), "--expect", version, "--json"])
    assert good.exit_code == 0
    assert json.loads(good.stdout)["version"] == version
    other = CliRunner().invoke(bundle_app, ["verify", str(place / "bundle"), "--expect", "0" * 64])
    assert other.exit_code == 2
    assert version in other.stderr
    shown = CliRunner().invoke(bundle_app, ["show", str(place / "bundle")])
    assert shown.exit_code == 0
    assert version in shown.stdout
    assert "clusters" in shown.stdout

    shutil.copytree(place / "bundle", tmp_path / "bad")
    (tmp_path / "bad" / "prior.json").write_text("{}")
    bad = CliRunner().invoke(bundle_app, ["verify", str(tmp_path / "bad")])
    assert bad.exit_code == 2
    assert "prior.json" in bad.stderr
