"""What an operator's axis rule works on: one node's operands as terms, and what a rule can say of them.

A rule unifies terms, freezes them, or declares where a cut will have to be carried out: a contraction over an
axis (the place where channels are consumed), an operand or attribute that states a size. Discovery and rewriting both
read these declarations, so they cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from onnxmi.axes.unify import Solver, TermId
from onnxmi.model import Graph, Node
from onnxmi.operators.declarations import (
    Contraction,
    Declarations,
    Normalization,
    PinnedAttribute,
    SizeAttribute,
    SizeOperand,
)
from onnxmi.runtime.probe import Probe
from onnxmi.typing import Array

Terms = tuple[TermId, ...]
AxisRule = Callable[["RuleContext"], None]


@dataclass
class RuleContext:
    """One node while its rule runs.

    Attributes
    ----------
    node : Node
        The operator.
    ins, outs : list of terms or None
        One term an axis for each operand; None where it is absent or its shape is unknown.
    tensor : function of (name)
        The terms of any tensor, for what a body reads and gives.
    """

    node: Node
    graph: Graph
    probe: Probe
    solver: Solver
    declarations: Declarations
    ins: list[Terms | None]
    outs: list[Terms | None]
    tensor: Callable[[str], Terms | None] = lambda name: None

    # -- reading --------------------------------------------------------------------------------------------------

    def attribute(self, name: str, default: Any = None) -> Any:
        """Value of an attribute, or the default."""
        return self.node.attributes.get(name, default)

    def operand(self, position: int) -> Terms | None:
        """Terms of an input, None where it is absent or unknown."""
        return self.ins[position] if position < len(self.ins) else None

    def value(self, position: int) -> Array | None:
        """Concrete value of a small integer input, stored or seen in the probe."""
        if position >= len(self.node.inputs) or not self.node.inputs[position]:
            return None
        name = self.node.inputs[position]
        return self.graph.constant(name) if self.graph.is_constant(name) else self.probe.values.get(name)

    def axes(self, position: int, attribute: str = "axes") -> tuple[int, ...] | None:
        """Axes from an operand (newer opsets) or an attribute (older ones); None where neither is given."""
        value = self.value(position)
        if value is not None:
            return tuple(int(axis) for axis in value.reshape(-1))
        stated = self.attribute(attribute)
        return None if stated is None else tuple(stated)

    def size(self, term: TermId) -> int:
        """Concrete size of a term."""
        return self.solver.size(term)

    def is_constant(self, position: int) -> bool:
        """Whether an input's value depends on stored tensors alone."""
        return self.node.inputs[position] in self.graph.folded

    def is_sized(self, position: int) -> bool:
        """Whether an input is absent, or its value depends on stored tensors and shapes alone."""
        name = self.node.inputs[position] if position < len(self.node.inputs) else ""
        return not name or name in self.graph.sized

    # -- declaring ------------------------------------------------------------------------------------------------

    def unify(self, a: TermId, b: TermId) -> None:
        """Tie two terms."""
        self.solver.unify(a, b, f"{self.node.op} {self.node.label} cannot align its shapes")

    def unify_axes(self, a: Terms | None, b: Terms | None) -> None:
        """Tie two operands axis by axis where their shapes agree, else freeze both."""
        if a is None or b is None:
            return
        if [self.size(t) for t in a] != [self.size(t) for t in b]:
            self.freeze([*a, *b], "changes the shape in a way that is not understood")
            return
        for x, y in zip(a, b, strict=True):
            self.unify(x, y)

    def freeze(self, terms: Sequence[TermId], what: str) -> None:
        """Freeze terms; `what` completes the sentence "<operator> <node> ..."."""
        for term in terms:
            self.solver.freeze(term, f"{self.node.op} {self.node.label} {what}")

    def freeze_all(self, what: str) -> None:
        """Freeze every axis that the node touches."""
        for operand in [*self.ins, *self.outs]:
            self.freeze(operand or (), what)

    def normalize_over(self, axes: Sequence[int], terms: Sequence[TermId] | None = None) -> None:
        """Declare that a normalization runs over axes of the first input, or over just these terms on them."""
        operand = self.ins[0]
        assert operand is not None
        axes = tuple(axis % len(operand) for axis in axes)
        terms = [operand[axis] for axis in axes] if terms is None else terms
        for term in terms:
            self.solver.mark(term, "renormalising", f"{self.node.op} {self.node.label} normalises over it")
        self.declarations.normalizations.append(Normalization(self.node.index, axes, tuple(terms)))

    def contract(self, operand: int, axis: int, term: TermId | None = None, zero: int | None = None) -> None:
        """Declare that the node sums over (a factor of) an axis of an input: its channels are consumed here."""
        terms = self.ins[operand]
        assert terms is not None
        axis %= len(terms)
        consumed = terms[axis] if term is None else term
        self.declarations.contractions.append(Contraction(self.node.index, operand, axis, consumed, zero))

    def declare_sizes(self, operand: int, terms: Sequence[TermId]) -> None:
        """Declare that an integer input lists the sizes of these terms."""
        value = self.value(operand)
        if value is None or value.size != len(terms):
            self.freeze(terms, "is given sizes that are not known")
            return
        stated = tuple(int(size) for size in value.reshape(-1))
        literal = self.is_constant(operand)
        self.declarations.size_operands.append(
            SizeOperand(self.node.index, operand, tuple(terms), stated, literal, str(value.dtype))
        )

    def declare_size(self, attribute: str, term: TermId, entry: int | None = None) -> None:
        """Declare that an attribute (or one entry of it) is the size of a term."""
        self.declarations.size_attributes.append(SizeAttribute(self.node.index, attribute, entry, term))

    def set_kind(self, term: TermId, kind: str) -> None:
        """Say what users call the channels of a term."""
        self.solver.mark(term, "kind", kind)

    def pin_attribute(self, attribute: str, value: float, term: TermId) -> None:
        """Declare that an attribute's default depends on the size of a term."""
        if self.attribute(attribute) is None:
            self.declarations.pinned.append(PinnedAttribute(self.node.index, attribute, value, term))

    def declare_shape_reader(self) -> None:
        """Declare that the output is the shape of the input."""
        self.declarations.shape_readers.append(self.node.index)
