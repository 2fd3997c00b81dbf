"""Enlarging a preset: one larger predictor, to be compared with K small ones at as many parameters."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from training.predictors import architecture, parameters
from training.presets import Preset

STEP = 8
"""The inner width grows in steps of this."""


def enlarged(preset: Preset, vocabulary_size: int, context: int, times: int) -> Preset:
    """The preset, widened until it has at least `times` times its parameters, and as few above that as its steps allow.

    The depth and the heads' width stay. The hidden width grows by whole heads, the inner width in proportion; of the
    last hidden width below the aim and the first above it the one is taken whose inner width has to give or take less
    to meet it. Parameters are counted with a vocabulary of `vocabulary_size` and with `context` positions.
    """
    if times == 1:
        return preset
    aim = times * _count(preset, vocabulary_size, context)
    units = 1
    while _count(_widened(preset, units), vocabulary_size, context) < aim:
        units += 1
    wides = [_widened(preset, units - 1), _widened(preset, units)]
    met = [_met(wide, aim, vocabulary_size, context) for wide in wides]
    changes = [abs(math.log(_number(m, _inner(m)) / _number(w, _inner(w)))) for m, w in zip(met, wides, strict=True)]
    return met[int(changes[1] < changes[0])]


def _met(wide: Preset, aim: int, vocabulary_size: int, context: int) -> Preset:
    """With the least inner width, a multiple of `STEP`, that has at least `aim` parameters."""
    inner = _number(wide, _inner(wide))
    have = _count(wide, vocabulary_size, context)
    step = _count(_with_inner(wide, inner + STEP), vocabulary_size, context) - have
    return _with_inner(wide, max(inner + STEP * -(-(aim - have) // step), STEP))


def _count(preset: Preset, vocabulary_size: int, context: int) -> int:
    """Parameters; every layer has as many as the second one."""
    depth = _number(preset, "num_hidden_layers")
    flat = [replace(preset, sizes={**preset.sizes, "num_hidden_layers": layers}) for layers in (1, 2)]
    with torch.device("meta"):  # no memory, and nothing drawn
        one, two = (parameters(architecture(p, vocabulary_size, context)) for p in flat)
    return one + (depth - 1) * (two - one)


def _widened(preset: Preset, units: int) -> Preset:
    """Wider by so many units. A unit is one head; where heads of queries share those of keys, what keeps all groups
    alike: one group more, or one head more in every group, whichever is less."""
    hidden, heads = _number(preset, "hidden_size"), _number(preset, "num_attention_heads")
    groups = int(str(preset.sizes.get("num_key_value_heads", heads)))
    unit = min(heads // groups, groups)
    wider = hidden + units * unit * (hidden // heads)
    sizes = {**preset.sizes, "hidden_size": wider, "num_attention_heads": heads + units * unit}
    for name in (_inner(preset), "word_embed_proj_dim"):
        if name in sizes:
            sizes[name] = round(_number(preset, name) * wider / hidden / STEP) * STEP
    if "num_key_value_heads" in sizes:
        sizes["num_key_value_heads"] = groups + (units if unit == heads // groups else 0)
    return replace(preset, sizes=sizes)


def _with_inner(preset: Preset, inner: int) -> Preset:
    return replace(preset, sizes={**preset.sizes, _inner(preset): inner})


def _inner(preset: Preset) -> str:
    return "ffn_dim" if preset.family == "opt" else "intermediate_size"


def _number(preset: Preset, name: str) -> int:
    return int(str(preset.sizes[name]))
