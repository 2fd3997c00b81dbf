"""The embedding z of every user, with each distinct session encoded once and kept on disk for every run on the data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from browsing.console import progress
from browsing.encoder import Encoder, Vectors, pool, read, rounded
from training.dataset import Sample

PART = 256
"""Sessions per file: what an interruption costs at most."""

Session = tuple[str, ...]


def encode_sessions(sessions: Sequence[Session], encoder: Encoder, folder: Path) -> Vectors:
    """One vector per session, float32 [n, d]; finished parts are read back from `folder`.

    The folder belongs to one dataset and encoder; what each part was made of is checked all the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vectors = np.zeros((len(sessions), encoder.dimension), np.float32)
    with progress("encoding sessions", len(sessions), "sessions") as advance:
        for start in range(0, len(sessions), PART):
            part = sessions[start : start + PART]
            vectors[start : start + len(part)] = _part(part, encoder, folder / f"part-{start // PART:05d}")
            advance(len(part))
    return vectors


def _part(sessions: Sequence[Session], encoder: Encoder, path: Path) -> Vectors:
    tensors, note = path.with_suffix(".safetensors"), path.with_suffix(".json")
    digest = hashlib.sha256(json.dumps(sessions, ensure_ascii=False).encode()).hexdigest()
    known = {
        "weights": encoder.weights_sha256,
        "tokenizer": encoder.tokenizer_sha256,
        "sessions": digest,
        "held": "float16",
    }
    if note.exists() and json.loads(note.read_text()) == known:
        stored: Vectors = load_file(tensors)["vectors"]
        return stored
    vectors = rounded(encoder.encode(sessions))
    save_file({"vectors": vectors}, tensors)
    note.write_text(json.dumps(known))  # written last: it vouches for the vectors
    return vectors


def embed(groups: Sequence[Sequence[Sample]], encoder: Encoder, folder: Path) -> list[Vectors]:
    """z of every sample's history, float32 [n, d] per group of samples."""
    distinct = {session for samples in groups for sample in samples for session in sample.history}
    # Sessions of equal length together: an encoder pads a batch to its longest.
    ordered = sorted(distinct, key=lambda session: (len(read(session)), session))
    places = {session: place for place, session in enumerate(ordered)}
    vectors = encode_sessions(ordered, encoder, folder)
    return [
        np.stack([pool(vectors[[places[s] for s in sample.history]]) for sample in samples])
        if samples
        else np.zeros((0, encoder.dimension), np.float32)
        for samples in groups
    ]
