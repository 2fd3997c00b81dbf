"""Small models and bundles for tests: random weights, real files, the same on every run."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from browsing.bundle import (
    FALLBACK,
    SHARED,
    ClusterInfo,
    EncoderInfo,
    Limits,
    Manifest,
    Prior,
    PriorPage,
    Reference,
    TrainingInfo,
    predictor_directory,
    seal,
)
from browsing.calibration import Calibration
from browsing.encoder import DECAY, Encoder, EncoderKind, Vectors
from browsing.encoders.joined import JoinedEncoder
from browsing.encoders.markov import MarkovEncoder
from browsing.encoders.predictor import PredictorEncoder
from browsing.markov import MarkovMixture
from browsing.pages import PageRules
from browsing.selector import Selector
from browsing.vocabulary import Vocabulary
from training.calibrating import fit_calibration

SIX_PAGES = ("/cart", "/purchase", "/", "/bags", "/bags/tote", "/shoes")
"""A vocabulary on which every session can be enumerated; both outcomes are in it."""


Family = Literal["llama", "qwen2", "opt"]
FAMILIES: tuple[Family, ...] = get_args(Family)


class TinyEncoder:
    """Stands in for SBERT where its 91 MB would be in the way: a session's vector is a hash of its pages."""

    kind: EncoderKind = "sbert"
    name = "tiny"
    dimension = 8
    max_tokens = 128
    weights_sha256 = hashlib.sha256(b"tiny weights").hexdigest()
    tokenizer_sha256 = hashlib.sha256(b"tiny tokenizer").hexdigest()

    def encode(self, sessions: Sequence[Sequence[str]]) -> Vectors:
        vectors = np.zeros((len(sessions), self.dimension), np.float32)
        for row, pages in enumerate(sessions):
            for page in pages:
                digest = hashlib.sha256(page.encode()).digest()[: self.dimension]
                vectors[row] += np.frombuffer(digest, np.uint8).astype(np.float32) / 255 - 0.5
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Vectors = vectors / np.maximum(norms, 1e-6)
        return unit


def vocabulary(pages: Sequence[str] = SIX_PAGES) -> Vocabulary:
    return Vocabulary(pages)


def predictor(
    directory: Path,
    vocabulary: Vocabulary,
    *,
    seed: int = 0,
    positions: int = 64,
    hidden: int = 64,
    layers: int = 2,
    family: Family = "llama",
) -> Path:
    """A random model, a Llama by default, as a plain Hugging Face directory, heads 32 wide (vLLM's least). Its
    distributions are far from uniform and depend on the whole prefix."""
    sizes: dict[str, object] = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 32,
        "tie_word_embeddings": False,
    }
    if family == "opt":
        sizes |= {"ffn_dim": 2 * hidden, "word_embed_proj_dim": hidden, "init_std": 0.15}
    else:
        kv_heads = 1 if family == "qwen2" else hidden // 32  # fewer than heads, as Qwen's and SmolLM's are
        sizes |= {"intermediate_size": 2 * hidden, "num_key_value_heads": kv_heads, "initializer_range": 0.15}
    config = AutoConfig.for_model(
        family,
        vocab_size=len(vocabulary),
        max_position_embeddings=positions,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **sizes,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):  # ones and zeros as they come: nobody would see them left out
                parameter.data += 0.1 * torch.randn_like(parameter)
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory, safe_serialization=True)
    vocabulary.save(directory)
    return directory


def predictors(
    directory: Path,
    vocabulary: Vocabulary,
    clusters: int = 2,
    *,
    seed: int = 0,
    positions: int = 64,
    family: Family = "llama",
) -> list[Path]:
    """One distinct predictor per cluster, under `directory/cluster-<k>`."""
    return [
        predictor(directory / f"cluster-{k}", vocabulary, seed=seed + k, positions=positions, family=family)
        for k in range(clusters)
    ]


def toy_users(pages: Sequence[str], users: int = 60, kinds: int = 2, seed: int = 0) -> list[list[list[str]]]:
    """Sessions of pages: kind 0 walks forward through `pages`, kind 1 backward (and so on, by ever larger steps)."""
    generator = np.random.default_rng(seed)
    steps = [step for size in range(1, kinds + 1) for step in (size, -size)]
    people = []
    for user in range(users):
        step = steps[user % kinds]
        sessions = []
        for _ in range(int(generator.integers(2, 5))):
            start, length = int(generator.integers(len(pages))), int(generator.integers(1, 6))
            sessions.append([pages[(start + step * i) % len(pages)] for i in range(length)])
        people.append(sessions)
    return people


def own_encoder(directory: Path, words: Vocabulary, kind: EncoderKind) -> Encoder:
    """An encoder made of a bundle's parts, with `TinyEncoder` in SBERT's place."""
    if kind == "sbert":
        return TinyEncoder()
    if kind == "markov":
        return MarkovEncoder(directory / FALLBACK, words)
    shared = PredictorEncoder(directory / SHARED)
    return shared if kind == "predictor" else JoinedEncoder(TinyEncoder(), shared)


def bundle(
    directory: Path,
    clusters: int = 2,
    *,
    pages: Sequence[str] = SIX_PAGES,
    rules: PageRules | None = None,
    context: int = 64,
    max_steps: int = 8,
    encoder: Encoder | EncoderKind | None = None,
    seed: int = 0,
) -> Manifest:
    """Write and seal a complete bundle: random selector and predictors, the rest fitted on `toy_users`.

    `encoder` (by default `TinyEncoder`) only lends its dimension and hashes to the manifest. "predictor", "both" and
    "markov" are made of the bundle's own parts, beside `TinyEncoder`.
    """
    rules = rules or PageRules()
    words = vocabulary(pages)
    users = toy_users(pages, seed=seed)
    directory.mkdir(parents=True, exist_ok=True)
    for k in range(clusters):
        predictor(predictor_directory(directory, k), words, seed=seed + k, positions=context)
    predictor(directory / SHARED, words, seed=seed + clusters, positions=context)
    ids = [[words.session(session) for session in sessions] for sessions in users]
    MarkovMixture.fit(ids, len(words), 2, seed=seed).save(directory / FALLBACK)
    if encoder is None or isinstance(encoder, str):
        encoder = own_encoder(directory, words, encoder or "sbert")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        Selector(encoder.dimension, clusters, hidden=8).save(directory / "selector.safetensors")
    rules.save(directory / "pages.json")
    outcomes = {
        name: tuple(p for p in own if p in words)
        for name, own in rules.outcome_pages().items()
        if any(p in words for p in own)
    }
    firsts = [sessions[0] for sessions in users]
    targets = [set(sessions[-1]) for sessions in users]
    shares = {page: float(np.mean([page in session for session in firsts])) for page in pages}
    rates = {name: float(np.mean([bool(target & set(own)) for target in targets])) for name, own in outcomes.items()}
    prior = Prior(
        next_session=Counter(map(tuple, firsts)).most_common(1)[0][0],
        pages=tuple(PriorPage(page=p, probability=q) for p, q in sorted(shares.items(), key=lambda x: -x[1]) if q > 0),
        outcomes={name: float(np.mean([bool(set(s) & set(own)) for s in firsts])) for name, own in outcomes.items()},
        sessions=len(firsts),
    )
    (directory / "prior.json").write_text(prior.model_dump_json(indent=2))
    views = sum(len(session) for sessions in users for session in sessions)
    counts = {page: sum(s.count(page) for sessions in users for s in sessions) / views for page in pages}
    reference = Reference(
        cluster_shares=(1 / clusters,) * clusters,
        pages=tuple(dict(counts) for _ in range(clusters)),
        outcome_rates=rates,
    )
    (directory / "reference.json").write_text(reference.model_dump_json(indent=2))
    generator = np.random.default_rng(seed)
    raw = generator.random(400)
    calibration = Calibration(
        outcomes={name: fit_calibration(raw, generator.random(400) < raw**2) for name in outcomes}
    )
    calibration.save(directory / "calibration.json")
    (directory / "MODEL_CARD.md").write_text("# A tiny bundle for tests\n")
    (directory / "report.html").write_text("<!doctype html><title>A tiny bundle for tests</title>\n")
    return seal(
        directory,
        Manifest(
            clusters=tuple(
                ClusterInfo(id=k, name=f"kind {k}", share=1 / clusters, typical_pages=tuple(pages[:3]))
                for k in range(clusters)
            ),
            encoder=EncoderInfo.of(encoder, DECAY),
            rule_version=rules.version,
            vocabulary_sha256=words.sha256,
            vocabulary_size=len(words),
            outcomes=outcomes,
            limits=Limits(context=context, max_steps=max_steps),
            training=TrainingInfo(
                method="hetlm",
                seed=seed,
                users=len(users),
                samples=len(users),
                window_start="2026-01-01T00:00:00+00:00",
                window_end="2026-02-01T00:00:00+00:00",
                settings={},
            ),
            metrics={},
        ),
    )
