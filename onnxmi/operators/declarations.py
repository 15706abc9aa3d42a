"""What operators' rules declare: where channels are consumed, and where sizes are stated.

While the rules run, terms are identified by number (`Contraction[TermId]`); once they are solved, they are terms
(`Contraction[Term]`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from onnxmi.axes.unify import TermId

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class Contraction(Generic[T]):
    """A node sums over `term`, which is (a factor of) an axis of its input `operand`: channels are consumed here.

    `zero` is the operand that says which value counts as zero there (a quantized operator's zero point).
    """

    node: int
    operand: int
    axis: int
    term: T
    zero: int | None = None

    def resolved(self, resolve: Callable[[T], S]) -> Contraction[S]:
        """Return the same declaration of a solved term."""
        return Contraction(self.node, self.operand, self.axis, resolve(self.term), self.zero)


@dataclass(frozen=True)
class SizeOperand(Generic[T]):
    """The integer input `operand` of a node lists the sizes of `terms`.

    `value` is what it was when the model was probed (-1 and 0 have the operator's own meaning); `literal` says that it
    depends on stored tensors alone, so that it is the same on every input. `dtype` is that of its entries.
    """

    node: int
    operand: int
    terms: tuple[T, ...]
    value: tuple[int, ...]
    literal: bool
    dtype: str = "int64"

    def resolved(self, resolve: Callable[[T], S]) -> SizeOperand[S]:
        """Return the same declaration of solved terms."""
        terms = tuple(map(resolve, self.terms))
        return SizeOperand(self.node, self.operand, terms, self.value, self.literal, self.dtype)


@dataclass(frozen=True)
class SizeAttribute(Generic[T]):
    """An attribute (or one entry of a list attribute) of a node is the size of `term`."""

    node: int
    attribute: str
    entry: int | None
    term: T

    def resolved(self, resolve: Callable[[T], S]) -> SizeAttribute[S]:
        """Return the same declaration of a solved term."""
        return SizeAttribute(self.node, self.attribute, self.entry, resolve(self.term))


@dataclass(frozen=True)
class PinnedAttribute(Generic[T]):
    """An attribute whose default depends on the size of `term`: it has to be spelled out where the term is cut."""

    node: int
    attribute: str
    value: float
    term: T

    def resolved(self, resolve: Callable[[T], S]) -> PinnedAttribute[S]:
        """Return the same declaration of a solved term."""
        return PinnedAttribute(self.node, self.attribute, self.value, resolve(self.term))


@dataclass(frozen=True)
class Normalization(Generic[T]):
    """A node that normalizes over `axes` of its first input, whose terms they are."""

    node: int
    axes: tuple[int, ...]
    terms: tuple[T, ...]

    def resolved(self, resolve: Callable[[T], S]) -> Normalization[S]:
        """Return the same declaration of solved terms."""
        return Normalization(self.node, self.axes, tuple(map(resolve, self.terms)))


@dataclass
class Declarations:
    """What the rules of one graph declared, with unresolved terms.

    Attributes
    ----------
    shape_readers : list of int
        Nodes whose output states the shape of their input.
    """

    contractions: list[Contraction[TermId]] = field(default_factory=list)
    size_operands: list[SizeOperand[TermId]] = field(default_factory=list)
    size_attributes: list[SizeAttribute[TermId]] = field(default_factory=list)
    pinned: list[PinnedAttribute[TermId]] = field(default_factory=list)
    normalizations: list[Normalization[TermId]] = field(default_factory=list)
    shape_readers: list[int] = field(default_factory=list)
