"""Parameters of operators: stored tensors, or what a file computes from stored tensors alone.

A weight may lie behind a Cast, a Transpose or a DequantizeLinear, or be standardized where the model runs. Its values
are found by running just that part. A new one is stored as the old one was (cast, quantized with the same scales), or
in place of what was computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np

from onnxmi.graph.quantization import AffineQuantization, KeptAlongAxis, QuantizationScheme, keep_all
from onnxmi.model import Graph, Model, Node
from onnxmi.model.subgraph import PartialModel
from onnxmi.operators.registry import operator_of
from onnxmi.runtime.session import open_session
from onnxmi.typing import Array

Use = tuple[int, int]


@dataclass(frozen=True)
class Parameter:
    """A weight or a bias.

    Attributes
    ----------
    name : str
        The tensor that is stored, or the last one that is computed from stored ones.
    use : (int, int)
        The node and operand that read it: the operator's own, or those of a Cast or DequantizeLinear before it.
    stored : bool
        Whether it is stored.
    scheme : QuantizationScheme or None
        How it is quantized.
    """

    name: str
    use: Use
    stored: bool = True
    scheme: QuantizationScheme | None = None

    def value(self, model: Model) -> Array:
        """Return the values that the operator sees."""
        return self.decoded(model, known_value(model, self.name), keep_all)

    def dtype(self, model: Model) -> np.dtype[Any]:
        """Type of what is stored, or computed."""
        return model.graph.constant_dtype(self.name) if self.stored else known_value(model, self.name).dtype

    def encoded(self, model: Model, value: Array, kept_along: KeptAlongAxis) -> Array:
        """Return new values as they are stored; quantized ones are rounded.

        Parameters
        ----------
        value : array
            What the operator is to see.
        kept_along : function
            What stays along each axis of what is stored.
        """
        if self.scheme is None:
            return np.asarray(value, dtype=self.dtype(model))
        return self.scheme.encode(value, known_value(model, self.name), partial(known_value, model), kept_along)

    def decoded(self, model: Model, stored: Array, kept_along: KeptAlongAxis) -> Array:
        """Return what the operator sees of values as `encoded` returns them."""
        return stored if self.scheme is None else self.scheme.decode(stored, partial(known_value, model), kept_along)


@dataclass(frozen=True)
class Bias:
    """A linear operator's bias: an operand of the node itself, or of one that follows and adds it.

    Attributes
    ----------
    node, operand : int
        Where it is added.
    stored : Parameter or None
        What it is stored as; None where it is computed.
    """

    node: int
    operand: int
    stored: Parameter | None


def find_parameter(graph: Graph, node: Node, operand: int) -> Parameter | None:
    """Return what an operand of a node is stored as; None where it depends on what the model is fed."""
    name = node.inputs[operand]
    if name not in graph.folded or name in graph.overridable:
        return None
    scheme: QuantizationScheme | None = None
    while (maker := graph.producers.get(name)) is not None and not graph.is_constant(name):
        quantized = operator_of(maker).dequantizes and scheme is None
        if quantized:
            scheme = _scheme(graph, maker)
            if scheme is None:  # blocks
                break
        elif not operator_of(maker).copies:
            break
        node, operand, name = maker, 0, maker.inputs[0]
    return Parameter(name, (node.index, operand), graph.is_constant(name), scheme)


def _scheme(graph: Graph, node: Node) -> AffineQuantization | None:
    zero = node.operand(2)
    known = all(graph.is_constant(name) for name in (node.inputs[1], zero) if name)
    plain = known and len(graph.constant_shape(node.inputs[1])) < 2
    return AffineQuantization((node.inputs[1],), zero, int(node.attributes.get("axis", 1))) if plain else None


def readers(graph: Graph, name: str) -> Iterator[Use]:
    """Yield what reads a tensor, also through a Cast, an Identity or a DequantizeLinear."""
    for node, operand in graph.consumers.get(name, ()):
        operator = operator_of(node)
        if operator.copies or (operator.dequantizes and operand == 0):
            yield from readers(graph, node.outputs[0])
        else:
            yield node.index, operand


def computing(graph: Graph, name: str) -> set[int]:
    """Return the nodes that a tensor is computed by."""
    found: set[int] = set()
    waiting = [name]
    while waiting:
        maker = graph.producers.get(waiting.pop())
        if maker is not None and maker.index not in found:
            found.add(maker.index)
            waiting.extend(filter(None, maker.inputs))
    return found


def is_shared(graph: Graph, name: str) -> bool:
    """Whether a matrix that a tensor is computed from is also read for something else."""
    chain = computing(graph, name)
    inside = {name for index in chain for name in graph.nodes[index].outputs} - {name}
    matrices = {n for n in _stored_for(graph, chain) if _is_matrix(graph, n)}
    read = {n for n in inside | matrices for node, _ in graph.consumers.get(n, ()) if node.index not in chain}
    return bool(read or (inside | matrices) & graph.exposed)


def is_computed_from_scalars(graph: Graph, name: str) -> bool:
    """Whether a tensor is computed from vectors and numbers alone: to store it would make the file larger."""
    return not any(_is_matrix(graph, n) for n in _stored_for(graph, computing(graph, name)))


def is_dequantized(graph: Graph, name: str) -> bool:
    """Whether a tensor is computed from integers: to store it as it is would make the file larger."""
    made = (graph.nodes[index] for index in computing(graph, name))
    return any(operator_of(node).dequantizes for node in made)


def _stored_for(graph: Graph, nodes: set[int]) -> set[str]:
    return {n for index in nodes for n in graph.nodes[index].inputs if n and graph.is_constant(n)}


def _is_matrix(graph: Graph, name: str) -> bool:
    shape = graph.constant_shape(name)
    return prod(shape) > max((*shape, 1))


def known_value(model: Model, name: str) -> Array:
    """Return a tensor that depends on stored tensors alone (do not write into it)."""
    if model.graph.is_constant(name):
        return model.graph.constant(name)
    pieces = PartialModel(model.proto)
    piece = pieces.model(pieces.nodes_to_run([name]), {}, {name})
    return open_session(piece, threads=1, optimise=False).run({})[name]
