"""Sources: what linear operators read, each once, however many of them read it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxmi.graph.linear import Linear
from onnxmi.graph.padding_mask import Mask
from onnxmi.model import Graph

_WINDOW = ("strides", "dilations", "pads", "auto_pad", "output_padding", "output_shape", "group")


@dataclass(frozen=True)
class LinearInput:
    """An activation seen through a window: the rows of input features of one or several linear operators.

    Attributes
    ----------
    key : str
        The tensor's name, with the window where there is one.
    linears : tuple of Linear
        Its readers; they differ in their weights alone.
    mask : Mask or None
        The padding of its positions.
    """

    key: str
    linears: tuple[Linear, ...]
    mask: Mask | None

    @property
    def linear(self) -> Linear:
        """Any of the readers."""
        return self.linears[0]

    @property
    def taps(self) -> tuple[str, ...]:
        """The activations: several where operators share a weight."""
        return self.linear.taps


def find_linear_inputs(linears: Sequence[Linear], masks: Mapping[str, Mask]) -> tuple[LinearInput, ...]:
    """Group linear operators by what they read, in their order: the query, key and value of attention read the same."""
    readers: dict[str, list[Linear]] = defaultdict(list)
    for linear in linears:
        readers[input_key(linear)].append(linear)
    return tuple(LinearInput(key, tuple(sharing), masks.get(sharing[0].key)) for key, sharing in readers.items())


def input_key(linear: Linear) -> str:
    """Name what an operator reads: the tensor, and through which window or in which order of its axes."""
    # The same tensor seen through two windows has different features, so the window is part of the key.
    taps = " & ".join((*linear.taps, *filter(None, [linear.layout.name])))
    if not linear.kernel:
        order = linear.layout.feature_order(linear.nodes[0])
        return f"{taps} by {order}" if order else taps
    node = linear.nodes[0]
    attributes = node.attributes
    window = ", ".join(f"{name} {attributes[name]}" for name in _WINDOW if name in attributes)
    return f"{taps} through {node.op} {'x'.join(map(str, linear.kernel))} ({window})"


def inputs_below_outputs(graph: Graph, sources: Sequence[LinearInput]) -> frozenset[str]:
    """Keys of the sources whose readers lead to the graph's outputs through no other linear operator."""
    reading = {node.index: source.key for source in sources for linear in source.linears for node in linear.nodes}
    below: set[str] = set()
    for source in sources:
        own = {node.index for linear in source.linears for node in linear.nodes}
        waiting = [name for linear in source.linears for node in linear.nodes for name in node.outputs]
        visited: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in visited:
                continue
            visited.add(name)
            for node, _ in graph.consumers.get(name, ()):
                if node.index in reading and node.index not in own:
                    below.add(source.key)
                    # Another linear operator lies between this one and the outputs: no need to look further.
                    waiting.clear()
                    break
                waiting.extend(node.outputs)
    return frozenset(source.key for source in sources) - below
