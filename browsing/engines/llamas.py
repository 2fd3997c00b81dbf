"""K Llamas of one shape as one model: rows of all clusters share every operation but the products with weights.

Made for many short rows on a CPU: whatever can be folded into the weights is (norms' gains, the scale of the scores),
and large results go to buffers that are never reallocated.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from browsing.vocabulary import NEVER

BLOCK = 64
"""Distributions are this many ids wide, or a multiple of it, so that they can be summed by blocks."""

FIRST = max(NEVER) + 1
"""The first id that has a probability: `[PAD]` and `[BOS]`, in front of it, are not computed at all."""

Span = tuple[int, int, int]
"""(k, a, b): rows a to b - 1 are cluster k's."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What K predictors must have in common. `head`: its width. `theta`: of the rotary positions."""

    family: str
    vocabulary: int
    positions: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    inner: int
    eps: float
    theta: float

    @classmethod
    def of(cls, config: Any) -> Shape | None:
        """None for a model that is not computed here: another family than Llama and Qwen2, or one of their variants."""
        rope = getattr(config, "rope_parameters", None) or {}
        plain = (
            config.model_type in ("llama", "qwen2")
            and config.hidden_act == "silu"
            and not getattr(config, "mlp_bias", False)
            and not getattr(config, "attention_bias", False)
            and not getattr(config, "use_sliding_window", False)
            and rope.get("rope_type") == "default"
            and rope.get("partial_rotary_factor", 1.0) == 1.0
            and tuple(NEVER) == tuple(range(FIRST))
        )
        if not plain:
            return None
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            family=config.model_type,
            vocabulary=int(config.vocab_size),
            positions=int(config.max_position_embeddings),
            hidden=int(config.hidden_size),
            layers=int(config.num_hidden_layers),
            heads=int(config.num_attention_heads),
            kv_heads=int(config.num_key_value_heads),
            head=int(head),
            inner=int(config.intermediate_size),
            eps=float(config.rms_norm_eps),
            theta=float(rope["rope_theta"]),
        )

    @property
    def multiplications(self) -> int:
        """Of one row with weights."""
        d = self.heads * self.head
        return self.layers * (4 * self.hidden * d + 3 * self.hidden * self.inner) + self.hidden * self.vocabulary

    @property
    def width(self) -> int:
        """Of a distribution: the ids from `FIRST`, at least one that nobody has, filled up to whole blocks."""
        return -(-(self.vocabulary - FIRST + 1) // BLOCK) * BLOCK


@dataclass(frozen=True, slots=True)
class Layer:
    """One cluster's weights of one layer, input first, the norm before them folded in.

    `qkv` [hidden, 3 * heads * head]: keys and values repeated for every head, the pairs that a rotary position turns
    side by side, queries divided by the square root of a head's width. `bias`: its, or None. `out` [heads * head,
    hidden]. `up` [hidden, 2 * inner]: the gate, then what it lets through. `down` [inner, hidden].
    """

    qkv: Tensor
    bias: Tensor | None
    out: Tensor
    up: Tensor
    down: Tensor


class Attend(Protocol):
    def __call__(self, layer: int, q: Tensor, kv: Tensor) -> Tensor:
        """`q` [R, heads, head], `kv` [R, 2, heads, head], rotated. Returns what the rows attend to [R, heads * head].
        Keys come scaled: a score is the plain product."""


class Llamas:
    """The models' weights, arranged; the models themselves are not needed any more."""

    @staticmethod
    def take(models: Sequence[Any]) -> bool:
        """Whether these `transformers` models can be computed here: all of one `Shape`."""
        shapes = {Shape.of(model.config) for model in models}
        return len(shapes) == 1 and None not in shapes

    def __init__(self, models: Sequence[Any], rows: int, distributions: int) -> None:
        """`rows`: most rows of one `forward`. `distributions`: most of one `logits`.

        Raises `ValueError` for models that `take` refuses.
        """
        shape = Shape.of(models[0].config)
        if shape is None or not self.take(models):
            raise ValueError("the models are not all of one shape")
        self.shape = shape
        self.clusters = len(models)
        self.rows = rows
        with torch.inference_mode():
            self._layers = [[_layer(one, shape) for one in model.model.layers] for model in models]
            self._embeddings = torch.cat([model.get_input_embeddings().weight for model in models]).clone()
            self._unembeddings = [
                (model.get_output_embeddings().weight[FIRST:] * model.model.norm.weight).t().contiguous()
                for model in models
            ]
            angles = torch.outer(
                torch.arange(shape.positions).double(),
                1.0 / shape.theta ** (torch.arange(0, shape.head, 2).double() / shape.head),
            )
            self._turns = torch.polar(torch.ones_like(angles), angles).to(torch.complex64)[:, None, :]
            self._eps = torch.tensor(shape.eps)
        self._distributions = distributions
        self._make_room()

    def twin(self) -> Llamas:
        """The same weights for another thread: with buffers of its own."""
        other = copy(self)
        other._make_room()
        return other

    def _make_room(self) -> None:
        shape, rows = self.shape, self.rows
        with torch.inference_mode():
            self._normed = torch.empty(rows, shape.hidden)
            self._qkv = torch.empty(rows, 3 * shape.heads * shape.head)
            self._up = torch.empty(rows, 2 * shape.inner)
            self._gated = torch.empty(rows, shape.inner)
            self._logits = torch.full((self._distributions, shape.width), -torch.inf)

    def forward(self, ids: Tensor, spans: Sequence[Span], positions: Tensor, attend: Attend) -> Tensor:
        """The last hidden states [R, hidden] of R rows: int64 `ids` and `positions` [R], clusters by `spans`."""
        s, R = self.shape, len(ids)
        places = ids.clone()
        for k, a, b in spans:
            places[a:b] += k * s.vocabulary
        x = self._embeddings.index_select(0, places)
        turns = self._turns.index_select(0, positions)
        qkv, up, gated = self._qkv[:R], self._up[:R], self._gated[:R]
        thirds = qkv.view(R, 3, s.heads, s.head)
        turned = torch.view_as_complex(qkv.view(R, 3 * s.heads, s.head // 2, 2)[:, : 2 * s.heads])
        for number in range(s.layers):
            normed = self._norm(x)
            for k, a, b in spans:
                layer = self._layers[k][number]
                if layer.bias is None:
                    torch.mm(normed[a:b], layer.qkv, out=qkv[a:b])
                else:
                    torch.addmm(layer.bias, normed[a:b], layer.qkv, out=qkv[a:b])
            turned.mul_(turns)
            seen = attend(number, thirds[:, 0], thirds[:, 1:])
            for k, a, b in spans:
                x[a:b].addmm_(seen[a:b], self._layers[k][number].out)
            normed = self._norm(x)
            for k, a, b in spans:
                torch.mm(normed[a:b], self._layers[k][number].up, out=up[a:b])
            torch.mul(torch.nn.functional.silu(up[:, : s.inner]), up[:, s.inner :], out=gated)
            for k, a, b in spans:
                x[a:b].addmm_(gated[a:b], self._layers[k][number].down)
        return x

    def logits(self, hidden: Tensor, spans: Sequence[Span]) -> Tensor:
        """[R, shape.width] for the ids from `FIRST`, minus infinity where no id is; overwritten by the next call."""
        normed = self._norm(hidden)
        ids = self.shape.vocabulary - FIRST
        for k, a, b in spans:
            torch.mm(normed[a:b], self._unembeddings[k], out=self._logits[a:b, :ids])
        return self._logits[: len(hidden)]

    def _norm(self, x: Tensor) -> Tensor:
        """Root mean square 1, without the gains, which are in the weights."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = torch.addcmul(self._eps, length, length, value=1 / x.shape[1]).rsqrt_()
        return torch.mul(x, scale, out=self._normed[: len(x)])


def _layer(layer: Any, shape: Shape) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    before, within = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
    biased = attention.q_proj.bias is not None
    parts = [
        (attention.q_proj, shape.heads, True, shape.head**-0.5),
        (attention.k_proj, shape.kv_heads, True, 1.0),
        (attention.v_proj, shape.kv_heads, False, 1.0),
    ]
    weights = [_heads(part.weight * before, shape, n, paired) * scale for part, n, paired, scale in parts]
    biases = [_heads(part.bias, shape, n, paired) * scale for part, n, paired, scale in parts] if biased else []
    return Layer(
        qkv=torch.cat(weights).t().contiguous(),
        bias=torch.cat(biases) if biased else None,
        out=attention.o_proj.weight.t().contiguous(),
        up=(torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)) * within).t().contiguous(),
        down=mlp.down_proj.weight.t().contiguous(),
    )


def _heads(rows: Tensor, shape: Shape, heads: int, paired: bool) -> Tensor:
    """`rows` [heads * head, ...] for all of the model's heads; dimensions i and i + head / 2 side by side if `paired`
    (products of queries and keys do not mind an order)."""
    split = rows.view(heads, shape.head, -1)
    if paired:
        split = split.view(heads, 2, shape.head // 2, -1).transpose(1, 2).reshape(heads, shape.head, -1)
    all_heads = split.repeat_interleave(shape.heads // heads, dim=0)
    return all_heads.reshape(shape.heads * shape.head, *rows.shape[1:])
