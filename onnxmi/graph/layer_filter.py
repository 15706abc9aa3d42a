"""Which layers may be cut: by kind, and by patterns on their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from onnxmi.errors import UsageError
from onnxmi.graph.channel_graph import KINDS, ChannelGraph, Layer, LayerId
from onnxmi.graph.layer_names import LayerNames
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
        Shell patterns on the names that `inspect` prints and on those of the layers' nodes; or its numbers of layers.
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
    called = _called(model, graph)
    for pattern in (*wanted.skip, *wanted.only):
        if not any(_matches(called[layer.id], (pattern,)) for layer in graph.layers):
            raise UsageError(f"no layer matches {pattern!r}; `onnxmi inspect` prints the names and numbers")
    chosen = tuple(
        layer
        for layer in graph.layers
        if _wanted(layer, wanted.kinds)
        and not _matches(called[layer.id], wanted.skip)
        and (not wanted.only or _matches(called[layer.id], wanted.only))
    )
    return chosen, tuple(layer for layer in graph.layers if layer not in chosen)


def cut_by_default(layer: Layer) -> bool:
    """Whether a layer is cut where no kinds are asked for."""
    return layer.kind in DEFAULT_KINDS and layer.grade == "exact"


def _wanted(layer: Layer, kinds: tuple[str, ...]) -> bool:
    return layer.kind in kinds if kinds else cut_by_default(layer)


def layer_numbers(wanted: Filter) -> tuple[str, ...]:
    """Return the patterns that may be numbers of layers."""
    return tuple(pattern for pattern in (*wanted.skip, *wanted.only) if pattern.isdecimal())


@dataclass(frozen=True)
class _Called:
    """What a layer is called: its name, whole and as shown, those of its nodes; and its number, if no name is that."""

    names: tuple[str, ...]
    number: str


def _called(model: Model, graph: ChannelGraph) -> dict[LayerId, _Called]:
    shown = LayerNames.of(graph)
    names = {
        layer.id: (layer.name, shown[layer.name], *(model.graph.nodes[node].label for node in layer.makers))
        for layer in graph.layers
    }
    taken = {name for own in names.values() for name in own}
    numbers = {layer: str(number) for layer, number in shown.numbers.items()}
    return {layer: _Called(own, "" if numbers[layer] in taken else numbers[layer]) for layer, own in names.items()}


def _matches(called: _Called, patterns: Sequence[str]) -> bool:
    return any(pattern == called.number or any(fnmatchcase(n, pattern) for n in called.names) for pattern in patterns)
