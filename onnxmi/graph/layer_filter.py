"""Which layers may be cut: by kind, and by patterns on their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from onnxmi.errors import UsageError
from onnxmi.graph.channel_graph import KINDS, ChannelGraph, Layer
from onnxmi.model import Model

DEFAULT_KINDS = ("channels", "embedding", "ffn", "heads", "hidden")
"""Kinds that are cut unless others are asked for.

Dimensions inside heads (`qk`, `value`) are not: with their heads they would be cut twice. Nor is `width`, nor any other
layer that a normalization runs over: cutting it changes every kept channel, so that happens on request only. Of the
`embedding` kind there are the tables that the model itself multiplies with weights; asking for it splits others, too.
"""


@dataclass(frozen=True)
class Filter:
    """What the user allows to be cut.

    Attributes
    ----------
    kinds : tuple of str
        Of `onnxmi.graph.channel_graph.KINDS`; empty for the default ones.
    skip, only : tuple of str
        Shell patterns on the names that `inspect` prints and on those of the layers' nodes.
    """

    kinds: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    only: tuple[str, ...] = ()


def chosen_layers(model: Model, graph: ChannelGraph, wanted: Filter) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """Divide the layers into those to cut and those that are left out.

    Raises
    ------
    UsageError
        If a kind does not exist, or a pattern matches no layer.
    """
    unknown = [kind for kind in wanted.kinds if kind not in KINDS]
    if unknown:
        raise UsageError(f"no kind of layer {unknown[0]!r}; there are: {', '.join(KINDS)}")
    names = {layer.id: _names(model, layer) for layer in graph.layers}
    for pattern in (*wanted.skip, *wanted.only):
        if not any(_matches(names[layer.id], (pattern,)) for layer in graph.layers):
            raise UsageError(f"no layer matches {pattern!r}; `onnxmi inspect` prints the names")
    chosen = tuple(
        layer
        for layer in graph.layers
        if _wanted(layer, wanted.kinds)
        and not _matches(names[layer.id], wanted.skip)
        and (not wanted.only or _matches(names[layer.id], wanted.only))
    )
    return chosen, tuple(layer for layer in graph.layers if layer not in chosen)


def _wanted(layer: Layer, kinds: tuple[str, ...]) -> bool:
    return layer.kind in kinds if kinds else layer.kind in DEFAULT_KINDS and layer.grade == "exact"


def _names(model: Model, layer: Layer) -> tuple[str, ...]:
    return (layer.name, *(model.graph.nodes[node].label for node in layer.makers))


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
