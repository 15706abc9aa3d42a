"""From a graph output back to what is compared: through a last Sigmoid or Softmax, a last Concat, and decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from onnxmi.graph.dataflow import Flow
from onnxmi.model import Graph, Node
from onnxmi.outputs.link_functions import find_link_function, named_axes
from onnxmi.outputs.view import Link
from onnxmi.runtime.probe import Probe

Axes = tuple[int, ...]

MOST_PARTS = 24  # beyond so many operands a Concat is compared whole
# Operators that take some entries of what they are given: of probabilities, all are compared.
_SUBSETS = frozenset({"Gather", "Slice", "Split"})
# Operators that pick or order what they are given, by other values.
_PICKS = frozenset({"Gather", "GatherElements", "GatherND"})


@dataclass(frozen=True)
class Leaf:
    """A tensor that was found to stand for (part of) an output.

    Attributes
    ----------
    tensor : str
        Its name.
    link : str
        What is applied to it.
    axes : tuple of int or None
        The axes of its columns where the graph's structure says them.
    share : float
        Of the output's weight.
    role : str
        "classes" where an ArgMax, TopK or ZipMap reads it; "boxes" or "scores" of a NonMaxSuppression or of a Concat
        of both; else empty.
    maker : str
        The operator that makes it, behind operators that only change shapes.
    why : str
        How it was found.
    """

    tensor: str
    link: Link = "identity"
    axes: Axes | None = None
    share: float = 1.0
    role: str = ""
    maker: str = ""
    why: str = ""


Leaves = tuple[Leaf, ...]


@dataclass(frozen=True, eq=False)
class Tracer:
    """Walks back from outputs.

    Attributes
    ----------
    graph : Graph
        The model's.
    probe : Probe
        Types and shapes.
    flow : Flow
        What depends on weights, and whose size does.
    columns : callable
        Tensor name -> the axes that hold channels of weights.
    known : dict
        What was found for each tensor so far.
    """

    graph: Graph
    probe: Probe
    flow: Flow
    columns: Callable[[str], Axes]
    known: dict[str, Leaves] = field(default_factory=dict)

    def is_float(self, name: str) -> bool:
        """Whether a tensor is a plain array of floats."""
        dtype = self.probe.dtypes.get(name)
        return name in self.probe.shapes and dtype is not None and dtype.kind in "fV"

    def leaves(self, name: str) -> tuple[Leaf, ...]:
        """Return what stands for a graph output, in order."""
        return self._back(name)

    def root(self, name: str) -> str:
        """The tensor that another one is in a different shape."""
        return self._behind(name, None)[0]

    def is_comparable(self, name: str) -> bool:
        """Whether two models' tensors of this name can be compared element by element."""
        return name in self.flow.learned and self.is_float(name) and name not in self.flow.varying

    # -- what cannot be compared itself ---------------------------------------------------------------------------

    def _back(self, name: str) -> Leaves:
        """Walk back to the nearest floats of a size that does not depend on values."""
        if name not in self.known:
            self.known[name] = ()
            self.known[name] = _once(self._found(name))
        return self.known[name]

    def _found(self, name: str) -> Leaves:
        if name not in self.flow.learned:
            return ()
        if self.is_comparable(name):
            return self._answer(name, None)
        leaves = self._read_by(self.graph.producers[name], name)
        if not self.is_float(name):
            return leaves
        return tuple(replace(leaf, why=_both(leaf.why, "its size depends on values")) for leaf in leaves)

    def _read_by(self, node: Node, name: str = "") -> Leaves:
        """What stands for the operands of a node."""
        special = _SPECIAL.get(node.op)
        if special is not None:
            why = f"read by {node.op}"
            return tuple(replace(leaf, why=_both(leaf.why, why)) for leaf in special(self, node))
        if node.domain == "ai.onnx.ml" and node.op.endswith("Classifier") and node.outputs[1:] != (name,):
            return self._back(node.outputs[1])
        return tuple(leaf for read in (*node.inputs, *node.captures) for leaf in self._back(read))

    def _operand(self, name: str, axis: int | None) -> Leaves:
        """What stands for an operand whose columns are known to lie along an axis."""
        return self._answer(name, axis) if self.is_comparable(name) else self._back(name)

    def of_argmax(self, node: Node) -> Leaves:
        """What an ArgMax decides on are logits of classes along its axis."""
        read = node.operand(0)
        axis = int(node.attributes.get("axis", -1 if node.op == "Hardmax" else 0))
        leaves = self._operand(read, axis % self.rank(read) if read in self.probe.shapes else None)
        return tuple(_decided(leaf) for leaf in leaves) if len(leaves) == 1 else leaves

    def of_topk(self, node: Node) -> Leaves:
        """A TopK decides, too, but often over all positions together."""
        read = node.operand(0)
        axis = int(node.attributes.get("axis", -1))
        return self._operand(read, axis % self.rank(read) if read in self.probe.shapes else None)

    def of_zipmap(self, node: Node) -> Leaves:
        """A ZipMap names the columns of its argument."""
        return tuple(replace(leaf, role="classes") for leaf in self._back(node.operand(0)))

    def of_suppression(self, node: Node) -> Leaves:
        """A NonMaxSuppression reads boxes (N, boxes, 4) and scores (N, classes, boxes)."""
        operands = (node.operand(0), 2, "boxes"), (node.operand(1), 1, "scores")
        return tuple(replace(leaf, role=role) for read, axis, role in operands for leaf in self._operand(read, axis))

    # -- numbers ----------------------------------------------------------------------------------------------------

    def _answer(self, name: str, axis: int | None) -> Leaves:
        """What stands for a float tensor; `axis` is that of its columns, where it is known."""
        inner, inner_axis = self._behind(name, axis)
        node = self.graph.producers.get(inner)
        if node is None:
            return (Leaf(name, axes=_one(axis)),)
        linked = find_link_function(self.graph, self.probe, node)
        if linked is not None and linked.argument in self.flow.learned:
            argument, axes = self._of_fixed_rank(linked.argument, linked.axes or _one(inner_axis))
            return (Leaf(argument, linked.link, axes, maker=linked.name, why=f"before the {linked.name}"),)
        leaves: Leaves = ()
        if node.op == "Concat":
            leaves = self._parts(node)
        elif self._decides(node):
            leaves = self._read_by(node)
        elif node.op in _SUBSETS:
            whole = self._answer(node.operand(0), None)
            leaves = whole if all(leaf.link != "identity" for leaf in whole) else ()
        if leaves:
            return leaves
        tensor, axes = self._of_fixed_rank(name, _one(axis))
        return (Leaf(tensor, axes=axes, maker=node.op),)

    def _decides(self, node: Node) -> bool:
        """Whether a node makes floats of choices: it picks by values, or casts what is no float."""
        if node.op == "Cast":
            return node.operand(0) in self.flow.learned and not self.is_float(node.operand(0))
        return node.op == "TopK" or (node.op in _PICKS and node.operand(1) in self.flow.learned)

    def _parts(self, node: Node) -> Leaves:
        """Operands of a Concat, each as an answer of its own, if they differ in nature; else nothing."""
        axis = int(node.attributes["axis"]) % self.rank(node.outputs[0])
        along = self.columns(node.outputs[0])
        columns = axis if not along or axis in along else None
        parts = [self._answer(name, columns) for name in node.inputs if self.is_comparable(name)]
        links = {tuple(leaf.link for leaf in part) for part in parts}
        natures = {tuple((leaf.link, leaf.maker) for leaf in part) for part in parts}
        divided = any(len(part) > 1 for part in parts)
        differ = len(links) > 1 or (len(natures) > 1 and columns is not None)
        if not (differ or divided) or sum(map(len, parts)) > MOST_PARTS:
            return ()
        why = f"operand of the last Concat (axis {axis})"
        return tuple(
            replace(leaf, share=leaf.share / len(parts), why=_both(why, leaf.why)) for part in parts for leaf in part
        )

    def _of_fixed_rank(self, name: str, axes: Axes | None) -> tuple[str, Axes | None]:
        """Walk back to before a Squeeze that names no axes: of one sample, it drops the samples' axis, too."""
        whole = name, axes
        for node, before, seen in self._reshaped(name, axes):
            if node.op == "Squeeze" and named_axes(self.graph, self.probe, node, self.rank(before)) is None:
                whole = before, seen
        return whole

    def _behind(self, name: str, axis: int | None) -> tuple[str, int | None]:
        """Walk back through all operators that only change shapes."""
        steps = list(self._reshaped(name, _one(axis)))
        if not steps:
            return name, axis
        _, place, axes = steps[-1]
        return place, None if axes is None else axes[0]

    def _reshaped(self, name: str, axes: Axes | None) -> Iterator[tuple[Node, str, Axes | None]]:
        """Yield the operators before a tensor that only change its shape, the nearest first, with what each reads.

        `axes` go along as far as all of them can be followed.
        """
        node = self.graph.producers.get(name)
        while node is not None and self._keeps_values(node):
            axes, name = self._axes_before(node, axes), node.operand(0)
            yield node, name, axes
            node = self.graph.producers.get(name)

    def _keeps_values(self, node: Node) -> bool:
        read = node.operand(0)
        if node.op not in _BEFORE or read not in self.flow.learned:
            return False
        if node.op == "DequantizeLinear":
            return self.graph.producers[read].op == "QuantizeLinear"
        coded = node.op == "QuantizeLinear"
        return self.is_float(read) and (coded or self.is_float(node.outputs[0]))

    def _axes_before(self, node: Node, axes: Axes | None) -> Axes | None:
        before = [] if axes is None else [_BEFORE[node.op](self, node, axis) for axis in axes]
        followed = tuple(axis for axis in before if axis is not None)
        return None if axes is None or len(followed) < len(axes) else followed

    def rank(self, name: str) -> int:
        """Number of axes of a tensor."""
        return len(self.probe.shapes[name])


def _same(_tracer: Tracer, _node: Node, axis: int) -> int | None:
    return axis


def _lost(_tracer: Tracer, _node: Node, _axis: int) -> int | None:
    return None


def _before_transpose(tracer: Tracer, node: Node, axis: int) -> int | None:
    rank = tracer.rank(node.operand(0))
    return int(node.attributes.get("perm", tuple(reversed(range(rank))))[axis])


def _before_unsqueeze(tracer: Tracer, node: Node, axis: int) -> int | None:
    added = named_axes(tracer.graph, tracer.probe, node, tracer.rank(node.outputs[0]))
    if added is None or axis in added:
        return None
    return axis - sum(one < axis for one in added)


def _before_squeeze(tracer: Tracer, node: Node, axis: int) -> int | None:
    rank = tracer.rank(node.operand(0))
    shape = tracer.probe.shapes[node.operand(0)]
    removed = named_axes(tracer.graph, tracer.probe, node, rank) or tuple(
        place for place, size in enumerate(shape) if size == 1
    )
    return [place for place in range(rank) if place not in removed][axis]


# Operators that change shapes alone -> the axis of their input that an axis of the result was.
_BEFORE: Mapping[str, Callable[[Tracer, Node, int], int | None]] = {
    "Identity": _same,
    "Dropout": _same,
    "Cast": _same,
    "QuantizeLinear": _same,
    "DequantizeLinear": _same,
    "Reshape": _lost,
    "Flatten": _lost,
    "Transpose": _before_transpose,
    "Squeeze": _before_squeeze,
    "Unsqueeze": _before_unsqueeze,
}

_SPECIAL: Mapping[str, Callable[[Tracer, Node], Leaves]] = {
    "ArgMax": Tracer.of_argmax,
    "Hardmax": Tracer.of_argmax,
    "TopK": Tracer.of_topk,
    "ZipMap": Tracer.of_zipmap,
    "NonMaxSuppression": Tracer.of_suppression,
}


def _one(axis: int | None) -> Axes | None:
    return None if axis is None else (axis,)


def _both(first: str, second: str) -> str:
    return ", ".join(dict.fromkeys(filter(None, (*first.split(", "), second))))


def _once(leaves: Leaves) -> Leaves:
    """Keep the first leaf of each tensor."""
    return tuple({leaf.tensor: leaf for leaf in reversed(leaves)}.values())[::-1]


def _decided(leaf: Leaf) -> Leaf:
    """What an ArgMax reads is a choice of one class: where no function is applied, what it reads are logits."""
    if leaf.axes is None:
        return leaf
    return replace(leaf, role="classes", link="softmax" if leaf.link == "identity" else leaf.link)
