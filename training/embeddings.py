"""The embedding z of every user, with each distinct session encoded once and kept on disk for every run on the data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from browsing.console import progress
from browsing.encoder import DECAY, Encoder, Vectors, pool, rounded
from browsing.encoders.joined import JoinedEncoder
from browsing.encoders.names import read
from training.dataset import Sample

PART = 256
"""Sessions per file: what an interruption costs at most."""

Session = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """The vectors [n, d] of all distinct sessions, as float16 holds them, and each session's row."""

    rows: Mapping[Session, int]
    vectors: Vectors

    def pooled(self, samples: Sequence[Sample], decay: float) -> Vectors:
        """z of every sample's history, float32 [len(samples), d]. Raises `KeyError` for a session that is not here."""
        if not samples:
            return np.zeros((0, self.vectors.shape[1]), np.float32)
        return np.stack([pool(self.vectors[[self.rows[s] for s in sample.history]], decay) for sample in samples])


def embed(
    groups: Sequence[Sequence[Sample]], encoder: Encoder, folder: Path | None, decay: float = DECAY
) -> list[Vectors]:
    """z of every sample's history, float32 [n, d] per group of samples."""
    encoded = encode(groups, encoder, folder)
    return [encoded.pooled(samples, decay) for samples in groups]


def encode(groups: Sequence[Sequence[Sample]], encoder: Encoder, folder: Path | None) -> Encoded:
    """Every session of the samples' histories. Finished parts are kept under `folder`, the dataset's own, and read
    back; encoders share it, each has its own directory there. None: nothing is kept."""
    distinct = {session for samples in groups for sample in samples for session in sample.history}
    # Sessions of equal length together: an encoder pads a batch to its longest.
    ordered = sorted(distinct, key=lambda session: (len(read(session)), session))
    return Encoded({session: row for row, session in enumerate(ordered)}, encode_sessions(ordered, encoder, folder))


def encode_sessions(sessions: Sequence[Session], encoder: Encoder, folder: Path | None) -> Vectors:
    """One vector per session, float32 [n, d], as float16 holds them; kept under `folder` as by `encode`."""
    if isinstance(encoder, JoinedEncoder):  # what one part's vectors cost is paid once, whoever asks for them
        return np.concatenate([encode_sessions(sessions, part, folder) for part in encoder.parts], axis=1)
    own = folder / directory_of(encoder) if folder is not None else None
    if own is not None:
        own.mkdir(parents=True, exist_ok=True)
    vectors = np.zeros((len(sessions), encoder.dimension), np.float32)
    with progress(f"encoding sessions ({encoder.kind})", len(sessions), "sessions") as advance:
        for start in range(0, len(sessions), PART):
            part = sessions[start : start + PART]
            path = own / f"part-{start // PART:05d}" if own is not None else None
            vectors[start : start + len(part)] = _part(part, encoder, path)
            advance(len(part))
    return vectors


def directory_of(encoder: Encoder) -> str:
    """A directory's name for one encoder's vectors: its kind, and a hash of all that they depend on."""
    identity = "\0".join((encoder.weights_sha256, encoder.tokenizer_sha256, str(encoder.max_tokens)))
    return f"{encoder.kind}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _part(sessions: Sequence[Session], encoder: Encoder, path: Path | None) -> Vectors:
    if path is None:
        return rounded(encoder.encode(sessions))
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
