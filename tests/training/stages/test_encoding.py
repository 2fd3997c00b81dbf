"""Which encoder the users are embedded with, and what is said of names that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from browsing.encoder import DECAY, EncoderKind
from tests.tiny import TinyEncoder
from tests.training import datasets
from tests.training.datasets import write
from training.data import Data, Embedded
from training.hardware import Hardware
from training.run import Run
from training.settings import Method, Settings, settings_of
from training.stages import encoding
from training.stages.encoding import embedded_users
from training.stages.everybody import markov_mixture, new_predictor, pretrained_predictor


class Blind(TinyEncoder):
    """Finds all sessions alike."""

    kind: EncoderKind = "predictor"
    weights_sha256 = "0" * 64

    def encode(self, sessions: object) -> np.ndarray:
        return np.zeros((len(sessions), self.dimension), np.float32)  # type: ignore[arg-type]


def embedded(folder: Path, settings: Settings) -> tuple[Embedded, Run]:
    dataset = write(folder / "shop")
    data = Data.read(dataset, settings)
    run = Run.open(folder / "runs", settings, {})
    mixture = markov_mixture(data, run, settings)
    return embedded_users(data, {"predictor": Blind(), "sbert": TinyEncoder()}, mixture, None, run), run


@pytest.mark.parametrize("method", ["hetlm", "kmeans", "token"])
def test_auto_takes_what_tells_the_markov_mixtures_clusters_apart(tmp_path: Path, method: Method) -> None:
    found, run = embedded(tmp_path, settings_of("demo", method=method, clusters=2, encoder="auto", start="markov"))
    assert found.encoder.kind == "sbert"
    [record] = run.records("encoder")
    assert set(record["losses"]) == {f"{kind} {decay}" for kind in ("predictor", "sbert") for decay in ("1", "0.8")}
    assert record["losses"][f"{record['kind']} {record['decay']:g}"] == min(record["losses"].values())


def test_a_given_decay_is_kept(tmp_path: Path) -> None:
    found, run = embedded(tmp_path, settings_of("demo", method="hetlm", clusters=2, encoder="auto", decay=0.5))
    assert found.decay == 0.5
    assert set(run.records("encoder")[0]["losses"]) == {"predictor 0.5", "sbert 0.5"}


def test_the_papers_method_has_the_papers_encoder() -> None:
    methods: tuple[Method, ...] = ("hetlm", "kmeans")
    for method in methods:
        settings = settings_of("demo", method=method)
        assert (settings.encoder, settings.decay) == ("sbert", DECAY)
    assert settings_of("demo", method="mixture").encoder is None
    assert settings_of("demo", method="mixture", encoder="auto") == settings_of("demo", method="mixture")
    assert settings_of("demo", method="single", encoder="auto") == settings_of("demo", method="single")


@pytest.mark.parametrize(("encoder", "opaque", "warned"), [(None, 1, True), (None, 0, False), ("predictor", 1, False)])
def test_sbert_alone_on_opaque_ids_warns(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    encoder: EncoderKind | None,
    opaque: bool,
    warned: bool,
) -> None:
    """As `--method hetlm` does by default: its encoder is the paper's, whatever the pages are called."""
    if opaque:
        monkeypatch.setattr(datasets, "PAGES", (*datasets.PAGES[:2], *(f"/item/{4711 + i}" for i in range(6))))
    embedded(tmp_path, settings_of("demo", method="hetlm", clusters=2, encoder=encoder))
    text = " ".join(capsys.readouterr().err.split())
    assert ("75% of the pages have names made of numbers or hashes" in text) == warned
    assert ("use --encoder predictor or markov" in text) == warned


def test_encoders_are_those_of_the_earlier_stages(tmp_path: Path) -> None:
    settings = settings_of(
        "demo", method="mixture", clusters=2, context=64, max_steps=8, epochs=1, warm_start="none", limit_batches=1
    )
    data = Data.read(write(tmp_path / "shop", train=8, held=2), settings)
    run = Run.open(tmp_path / "runs", settings, {})
    markov_mixture(data, run, settings)
    device = torch.device("cpu")
    model = new_predictor(data, settings, device)
    pretrained_predictor(model, data, run, lambda stage, epoch: None, Hardware(device))
    encoders = encoding.encoders_of(data, run, TinyEncoder(), device)
    assert set(encoders) == {"sbert", "predictor", "both", "markov"}
    assert all(encoder.kind == kind for kind, encoder in encoders.items())
    assert encoders["both"].dimension == encoders["sbert"].dimension + encoders["predictor"].dimension
