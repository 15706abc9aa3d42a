"""Branches that a cut takes away whole: which operators then give a constant, and which nodes nobody needs any more.

Where nothing of a layer is kept, a linear operator that contracts over it sees no input: all it gives is its bias. That
constant takes the place of its result, of size one on every axis but the channels', so that it broadcasts to where it
is added; what was only there to compute the result goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxmi.axes.keeping import Keeping
from onnxmi.axes.terms import AtomId, Axes
from onnxmi.errors import PlanError
from onnxmi.graph.channel_graph import ChannelGraph
from onnxmi.graph.linear import Linear, seen_dtype
from onnxmi.graph.parameters import Bias, Parameter
from onnxmi.model import Model, Node
from onnxmi.model.bodies import bodies_of
from onnxmi.operators.registry import operator_of
from onnxmi.transforms.analysis import Analysis
from onnxmi.typing import Array


@dataclass(frozen=True)
class Constant:
    """One operator that lost all its inputs.

    Attributes
    ----------
    linear : Linear
        The operator.
    result : str
        The tensor that becomes constant: its result, with the bias added.
    bias : Parameter or None
        The stored bias.
    factor : float
        What the bias is multiplied by.
    """

    linear: Linear
    result: str
    bias: Parameter | None
    factor: float


@dataclass(frozen=True)
class Branches:
    """What a cut takes away whole.

    Attributes
    ----------
    constants : tuple of Constant
        Results that become constant and that something still reads.
    removed : frozenset of int
        Nodes that nothing needs any more.
    absent : frozenset of str
        Tensors that the cut model does not have, or has with size one on some axes.
    """

    constants: tuple[Constant, ...] = ()
    removed: frozenset[int] = frozenset()
    absent: frozenset[str] = frozenset()

    def remain(self, linear: Linear) -> bool:
        """Whether all nodes of an operator stay."""
        return not any(node.index in self.removed for node in linear.nodes)

    def constant(self, linear: Linear) -> bool:
        """Whether an operator's result becomes a constant."""
        return any(found.linear.key == linear.key for found in self.constants)

    def without(self, graph: ChannelGraph) -> ChannelGraph:
        """Return the channel graph with what is said of the nodes that stay."""
        gone = self.removed
        return replace(
            graph,
            uses={use: axes for use, axes in graph.uses.items() if use[0] not in gone},
            size_operands=tuple(stated for stated in graph.size_operands if stated.node not in gone),
            size_attributes=tuple(stated for stated in graph.size_attributes if stated.node not in gone),
            pinned=tuple(stated for stated in graph.pinned if stated.node not in gone),
            shape_readers=tuple(node for node in graph.shape_readers if node not in gone),
        )


def find_branches(analysis: Analysis, keeping: Keeping) -> Branches:
    """Work out what goes with the layers of which nothing is kept.

    Raises
    ------
    PlanError
        If an operator stays that cannot do without what is gone, or whose input would have to be of full size.
    """
    if not keeping.emptied:
        return Branches()
    named = " and ".join(repr(_name(analysis.graph, atom)) for atom in keeping.emptied)
    return _Finder(analysis.model, analysis.graph, analysis.linears, keeping, named).find()


def constant_value(model: Model, graph: ChannelGraph, keeping: Keeping, found: Constant, shift: Array | None) -> Array:
    """Return what to store in place of a result, for the outputs that stay; `shift` (M,) is what repair adds to it."""
    linear = found.linear
    outputs = np.flatnonzero(linear.kept_outputs(keeping).reshape(-1))
    value = np.zeros(linear.outputs.size)
    if found.bias is not None:
        value = value + found.bias.value(model).astype(np.float64).reshape(-1) * found.factor
    value = value[outputs] + (0.0 if shift is None else shift)
    shape = [1] * len(graph.axes[found.result])
    shape[linear.layout.channel_axis] = -1
    return np.asarray(value.reshape(shape).astype(seen_dtype(model, linear)))


def _name(graph: ChannelGraph, atom: AtomId) -> str:
    layer = graph.layer(atom)
    return str(atom) if layer is None else layer.name


@dataclass(frozen=True)
class _Finder:
    """The search for what goes; `layers` names for people what the plan keeps nothing of."""

    model: Model
    graph: ChannelGraph
    linears: tuple[Linear, ...]
    keeping: Keeping
    layers: str

    def find(self) -> Branches:
        constants = {found.result: found for found in self._constants()}
        needed, live = self._needed(constants)
        self._require_nothing_empty(live)
        small = self._small([name for name in constants if name in needed], live)
        nodes = self.model.graph.nodes
        removed = frozenset(node.index for node in nodes if node.index not in live)
        made = {name for index in removed for name in nodes[index].outputs}
        kept = tuple(found for name, found in constants.items() if name in needed)
        return Branches(kept, removed, frozenset(made | small))

    def _refusal(self, node: Node, why: str) -> PlanError:
        return PlanError(f"the plan keeps nothing of layer {self.layers}: {node.label} ({node.op}) {why}")

    def _is_empty(self, name: str) -> bool:
        return self._has_empty(self.graph.axes.get(name, ()))

    def _has_empty(self, axes: Axes) -> bool:
        return self.keeping.empties_any(axes)

    def _constants(self) -> Iterator[Constant]:
        for linear in self.linears:
            if linear.layout.has_epilogue or linear.kept_features(self.keeping).any():
                continue
            for node, bias in zip(linear.ends, linear.biases, strict=True):
                if not self._is_empty(node.outputs[0]):
                    yield self._constant(linear, node, bias)

    def _constant(self, linear: Linear, node: Node, bias: Bias | None) -> Constant:
        """The product becomes constant, together with the bias where that is all that is done to it."""
        adder = node if bias is None else self.model.graph.nodes[bias.node]
        if bias is None or (adder is not node and adder.op != "Add"):
            return Constant(linear, node.outputs[0], None, 1.0)
        stored = bias.stored
        if stored is None or stored.value(self.model).size not in (1, linear.outputs.size):
            raise self._refusal(node, "adds a bias that is not a stored vector")
        return Constant(linear, adder.outputs[0], stored, linear.beta if adder is node else 1.0)

    def _needed(self, constants: Mapping[str, Constant]) -> tuple[set[str], set[int]]:
        """Tensors and nodes that the outputs (and subgraphs, which are left alone) depend on."""
        graph = self.model.graph
        needed, live = {info.name for info in graph.outputs}, set[int]()
        for node in reversed(graph.nodes):
            wanted = any(name in needed and name not in constants for name in node.outputs)
            if wanted or node.depth or self._has_body(node):
                live.add(node.index)
                needed.update(node.reads)
        return needed, live

    def _has_body(self, node: Node) -> bool:
        return any(bodies_of(self.model.graph.node_protos[node.index]))

    def _require_nothing_empty(self, live: set[int]) -> None:
        """Refuse where what stays still makes or reads an empty tensor; name what reads it and goes on without."""
        stays = [node for node in self.model.graph.nodes if node.index in live]
        empty = [node for node in stays if self._reads_empty(node) or any(map(self._is_empty, node.outputs))]
        if empty:
            ends = [node for node in empty if not any(map(self._is_empty, node.outputs))]
            raise self._refusal((ends or empty)[0], "cannot do without it")

    def _reads_empty(self, node: Node) -> bool:
        apart = [self.graph.uses.get((node.index, operand), ()) for operand in range(len(node.inputs))]
        return any(map(self._is_empty, node.reads)) or any(map(self._has_empty, apart))

    def _small(self, results: Sequence[str], live: set[int]) -> set[str]:
        """Tensors that have size one on some axes now, up to where they meet one of full size."""
        small = set(results)
        for node in self.model.graph.nodes:
            if node.index not in live or not small.intersection(node.reads):
                continue
            if not self._broadcasts(node):
                raise self._refusal(node, "needs all of what the branch gave, not a constant")
            if not any(self._is_full(name, node) for name in node.inputs if name not in small):
                if any(name and name not in small and name not in self.model.graph.folded for name in node.inputs):
                    raise self._refusal(node, "needs all of what the branch gave, not a constant")
                small.update(node.outputs)
        given = small & {info.name for info in self.model.graph.outputs}
        if given:
            raise PlanError(f"the plan keeps nothing of layer {self.layers}: output {min(given)} would be a constant")
        return small

    def _broadcasts(self, node: Node) -> bool:
        return len(node.outputs) == 1 and not self._has_body(node) and operator_of(node).broadcasts_constants(node)

    def _is_full(self, name: str, node: Node) -> bool:
        """Whether an input has by itself the shape of the node's result."""
        axes = self.graph.axes.get(name)
        return axes is not None and name not in self.model.graph.folded and axes == self.graph.axes.get(node.outputs[0])
