"""The bundle's own encoder: which it is, and that no other is taken for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from browsing.bundle import Bundle, BundleError, EncoderInfo, seal, verify
from browsing.encoder import EncoderKind, source_sha256
from browsing.encoders import of_bundle
from browsing.encoders.int8 import Int8SbertEncoder, exact_products
from browsing.encoders.joined import JoinedEncoder
from browsing.encoders.markov import HABITS, MarkovEncoder
from browsing.encoders.of_bundle import check_encoder, encoder_of, sbert_of
from browsing.encoders.predictor import PredictorEncoder
from browsing.encoders.sbert import SbertEncoder
from service.cache.record import Keys
from tests import tiny
from tests.tiny import TinyEncoder

SESSIONS = [["/", "/bags"], ["/cart"]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Its encoder is its shared predictor."""
    root = tmp_path_factory.mktemp("bundle") / "b"
    tiny.bundle(root, encoder="predictor")
    return Bundle.load(root)


def test_a_bundle_written_before_there_were_kinds_is_sberts() -> None:
    info = EncoderInfo(name="e", weights_sha256="0", tokenizer_sha256="0", dimension=8, decay=0.8)
    assert info.kind == "sbert"


def test_the_shared_predictor(bundle: Bundle) -> None:
    encoder = encoder_of(bundle)
    assert isinstance(encoder, PredictorEncoder)
    assert encoder.dimension == bundle.selector.dimension == 64
    np.testing.assert_array_equal(encoder.encode(SESSIONS), PredictorEncoder(bundle.root / "shared").encode(SESSIONS))


def test_the_markov_mixture(tmp_path: Path) -> None:
    tiny.bundle(tmp_path, encoder="markov")
    bundle = Bundle.load(tmp_path)
    encoder = encoder_of(bundle)
    assert isinstance(encoder, MarkovEncoder)
    assert encoder.dimension == bundle.fallback.components + HABITS == bundle.selector.dimension


def test_both(tmp_path: Path) -> None:
    """The bundle is made twice: its shared predictor must be there before the encoder that is made of it."""
    tiny.bundle(tmp_path / "first")
    parts = SbertEncoder(), PredictorEncoder(tmp_path / "first" / "shared")
    tiny.bundle(tmp_path / "b", encoder=JoinedEncoder(*parts))
    encoder = encoder_of(Bundle.load(tmp_path / "b"))
    assert isinstance(encoder, JoinedEncoder)
    np.testing.assert_array_equal(
        encoder.encode(SESSIONS), np.concatenate([part.encode(SESSIONS) for part in parts], axis=1)
    )


@pytest.mark.skipif(not exact_products(), reason="this CPU rounds products of 8-bit integers")
def test_sbert_in_integers_is_taken_for_the_sbert_that_it_was_made_of(tmp_path: Path) -> None:
    torch = SbertEncoder()
    tiny.bundle(tmp_path / "sbert", encoder=torch)
    bundle = Bundle.load(tmp_path / "sbert")
    assert isinstance(encoder_of(bundle), SbertEncoder)
    encoder = encoder_of(bundle, "int8")
    assert isinstance(encoder, Int8SbertEncoder)
    keys = [Keys(b"a secret of a deployment", own, "r1").key(("/",)) for own in (encoder, torch)]
    assert keys[0] != keys[1], "vectors of both must not mix"

    predictor = PredictorEncoder(tmp_path / "sbert" / "shared")
    tiny.bundle(tmp_path / "both", encoder=JoinedEncoder(torch, predictor))
    both = encoder_of(Bundle.load(tmp_path / "both"), "int8")
    assert isinstance(both, JoinedEncoder)
    assert isinstance(both.parts[0], Int8SbertEncoder)
    joined = JoinedEncoder(torch, predictor)
    assert source_sha256(both) == source_sha256(joined) == joined.weights_sha256 != both.weights_sha256


def test_a_bundle_that_does_not_read_names_has_one_encoder(bundle: Bundle) -> None:
    assert isinstance(encoder_of(bundle, "int8"), PredictorEncoder)


@pytest.mark.skipif(not exact_products(), reason="this CPU rounds products of 8-bit integers")
@pytest.mark.parametrize(("fast", "exact"), [(True, True), (True, False), (False, True)])
def test_auto_takes_integers_where_they_are_fast_and_exact(
    fast: bool, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_bundle, "fast_products", lambda: fast)
    monkeypatch.setattr(of_bundle, "exact_products", lambda: exact)
    assert isinstance(sbert_of("auto"), Int8SbertEncoder if fast and exact else SbertEncoder)


def test_another_sbert_is_refused_with_the_remedy(tmp_path: Path) -> None:
    tiny.bundle(tmp_path / "sbert")  # made for an encoder that is not installed
    tiny.bundle(tmp_path / "both", encoder="both")
    check_encoder(Bundle.load(tmp_path / "sbert"), TinyEncoder())
    for name in ("sbert", "both"):
        with pytest.raises(BundleError, match=r"not the one installed.*train again, or install"):
            encoder_of(Bundle.load(tmp_path / name))


def test_a_kind_is_not_taken_for_another(bundle: Bundle) -> None:
    encoder = PredictorEncoder(bundle.root / "shared")
    check_encoder(bundle, encoder)
    encoder.kind = "both"
    with pytest.raises(BundleError, match="not the one installed"):
        check_encoder(bundle, encoder)


def test_an_encoder_that_cannot_be_loaded_is_an_error_of_the_bundle(bundle: Bundle, tmp_path: Path) -> None:
    root = Path(shutil.copytree(bundle.root, tmp_path / "b"))
    copy = Bundle.load(root)
    (root / "shared/config.json").unlink()
    with pytest.raises(BundleError, match=r"its encoder \(predictor\) cannot be loaded"):
        encoder_of(copy)


def other_predictor(root: Path) -> None:
    tiny.predictor(root / "shared", tiny.vocabulary(), seed=99)


def other_mixture(root: Path) -> None:
    tiny.bundle(root.parent / "other", seed=99)
    shutil.copytree(root.parent / "other" / "fallback", root / "fallback", dirs_exist_ok=True)


@pytest.mark.parametrize(
    ("kind", "replace", "file"),
    [("predictor", other_predictor, "shared/model"), ("markov", other_mixture, "fallback/markov")],
)
def test_verification_needs_the_encoder_that_the_manifest_names(
    tmp_path: Path, kind: EncoderKind, replace: Callable[[Path], None], file: str
) -> None:
    manifest = tiny.bundle(tmp_path / "b", encoder=kind)
    assert verify(tmp_path / "b") == manifest
    encoder = manifest.encoder.model_copy(update={"tokenizer_sha256": "0" * 64})
    foreign = manifest.model_copy(update={"encoder": encoder})
    with pytest.raises(BundleError, match=f"its encoder .{kind}. is not one of the bundle's vocabulary"):
        seal(tmp_path / "b", foreign)
    replace(tmp_path / "b")
    with pytest.raises(BundleError, match=f"its encoder .{kind}. is not the one in {file}"):
        seal(tmp_path / "b", manifest)
