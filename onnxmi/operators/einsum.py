"""Einsum: its equation says how axes are tied, what is summed, and what its gradient is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any, ClassVar

import numpy as np

from onnxmi.axes.terms import Axes, Product
from onnxmi.model import Node
from onnxmi.operators.context import RuleContext
from onnxmi.operators.layout import MatrixLayout, MatrixTerms, OperatorShape
from onnxmi.operators.macs import RESULT, Axis, MacContext, UnknownShapeError, Work
from onnxmi.operators.operator import STANDARD, Key, Operator
from onnxmi.operators.signature_rule import SignatureRule
from onnxmi.operators.vjp import ALL_OPERANDS, Gradients, Vjp, VjpContext
from onnxmi.typing import Array, Ints, Shape

# -- the equation ------------------------------------------------------------------------------------------------------

_SUBSCRIPT = re.compile(r"\.\.\.|[A-Za-z]")
ELLIPSIS = "..."


@dataclass(frozen=True)
class Equation:
    """An equation taken apart.

    Attributes
    ----------
    operands : tuple of tuple of str
        The letters (or ellipsis) of each operand.
    result : tuple of str
        Those of the result; where none is stated, all that stand once, in alphabetic order after the ellipsis.
    explicit : bool
        Whether the result is stated.
    """

    operands: tuple[tuple[str, ...], ...]
    result: tuple[str, ...]
    explicit: bool

    @property
    def has_diagonal(self) -> bool:
        """Whether a letter stands twice in one operand."""
        return any(len(set(letters)) < len(letters) for letters in self.operands)

    @property
    def has_ellipsis(self) -> bool:
        """Whether an operand has axes without letters."""
        return any(ELLIPSIS in letters for letters in self.operands)


@cache
def parse_equation(text: str) -> Equation:
    """Take an equation apart."""
    left, arrow, right = text.replace(" ", "").partition("->")
    operands = tuple(tuple(_SUBSCRIPT.findall(operand)) for operand in left.split(","))
    if arrow:
        return Equation(operands, tuple(_SUBSCRIPT.findall(right)), explicit=True)
    letters = [letter for operand in operands for letter in operand]
    single = {letter for letter in letters if letters.count(letter) == 1} | ({ELLIPSIS} & set(letters))
    return Equation(operands, tuple(sorted(single)), explicit=False)


def equation_of(node: Node) -> Equation:
    """Return a node's equation."""
    return parse_equation(str(node.attributes.get("equation", "")))


# -- how axes are tied -------------------------------------------------------------------------------------------------


@cache
def signature(equation: Equation) -> SignatureRule | None:
    """Spell an equation as a signature; None where it takes a diagonal."""
    if equation.has_diagonal:
        return None
    letters = {letter for operand in equation.operands for letter in operand}
    summed = tuple(sorted(letters - {*equation.result, ELLIPSIS}))
    operands = ", ".join(" ".join(operand) for operand in equation.operands)
    return SignatureRule(f"{operands} -> {' '.join(equation.result)}", contracts=summed)


def _einsum_axes(ctx: RuleContext) -> None:
    """The equation is the signature."""
    rule = signature(equation_of(ctx.node))
    if rule is None:
        ctx.freeze_all("takes a diagonal")
    else:
        rule(ctx)


# -- matrix layout -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Letters:
    """The letters of an equation of an activation and a weight.

    Attributes
    ----------
    activation, weight, result : str
        Those of each operand.
    groups : str
        In all three: each has weights of its own, as an expert has.
    summed : str
        In both operands and not in the result.
    rows : str
        In the activation and the result.
    outputs : str
        In the weight and the result.
    """

    activation: str
    weight: str
    result: str
    groups: str
    summed: str
    rows: str
    outputs: str

    def count(self, activation: Array) -> int:
        """Number of rows."""
        return prod(activation.shape[self.activation.index(letter)] for letter in self.rows)

    def feature_rows(self, activation: Array, places: Ints) -> Array:
        """(groups, rows, K)."""
        ordered = _grouped_axes(activation, self.activation, (self.groups, self.rows, self.summed))
        chosen: Array = ordered[:, places]
        return chosen

    def result_rows(self, result: Array, places: Ints) -> Array:
        """(groups, rows, M)."""
        ordered = _grouped_axes(result, self.result, (self.groups, self.rows, self.outputs))
        chosen: Array = ordered[:, places]
        return chosen

    def matrix(self, weight: Array) -> Array:
        """(groups, K, M)."""
        return _grouped_axes(weight, self.weight, (self.groups, self.summed, self.outputs))

    def array(self, matrix: Array, shape: Shape) -> Array:
        """Turn (groups, K, M) into a weight of a shape."""
        order = self.groups + self.summed + self.outputs
        sizes = [shape[self.weight.index(letter)] for letter in order]
        return np.transpose(matrix.reshape(sizes), [order.index(letter) for letter in self.weight])

    def terms(self, weight: Axes) -> MatrixTerms:
        """Number of groups, and the terms of inputs and outputs, by those of the weight."""
        groups, summed, outputs = (
            tuple(weight[self.weight.index(letter)] for letter in letters)
            for letters in (self.groups, self.summed, self.outputs)
        )
        return MatrixTerms(
            prod(term.size for term in groups), Product((*groups, *summed)), Product((*groups, *outputs))
        )

    @property
    def order(self) -> str:
        """Axes of the activation that are groups, rows and features; empty where features alone are the last axis."""
        if not self.groups and self.summed == self.activation[-1:]:
            return ""
        parts = (self.groups, self.rows, self.summed)
        return "|".join(" ".join(str(self.activation.index(letter)) for letter in part) for part in parts)

    @property
    def vector(self) -> bool:
        """Whether a bias would be a vector along the last axis of the result."""
        return not self.groups and self.result[-1:] == self.outputs


def _grouped_axes(array: Array, letters: str, parts: tuple[str, ...]) -> Array:
    """Move an array's axes to the order of the parts, each flattened to one axis."""
    order = [letters.index(letter) for letter in "".join(parts)]
    sizes = [prod(array.shape[letters.index(letter)] for letter in part) for part in parts]
    return np.transpose(array, order).reshape(sizes)


def letters_of(node: Node, weight: int) -> Letters | None:
    """Sort the letters of two operands; None with a diagonal or an ellipsis, or where an operand is summed alone."""
    equation = equation_of(node)
    if not equation.explicit or len(equation.operands) != 2 or equation.has_ellipsis or equation.has_diagonal:
        return None
    if len(set(equation.result)) < len(equation.result):
        return None
    stored, moving, result = (
        "".join(part) for part in (equation.operands[weight], equation.operands[1 - weight], equation.result)
    )
    both = [letter for letter in stored if letter in moving]
    groups = "".join(letter for letter in both if letter in result)
    summed = "".join(letter for letter in both if letter not in result)
    rows = "".join(letter for letter in moving if letter not in stored)
    outputs = "".join(letter for letter in stored if letter not in moving)
    alone = any(letter not in result for letter in rows + outputs)
    return None if alone or not summed else Letters(moving, stored, result, groups, summed, rows, outputs)


class EinsumRows(MatrixLayout):
    """Rows and matrices as the letters say."""

    attributes: ClassVar[Mapping[str, Any]] = {"equation": None}
    weight_rank = None

    def _letters(self, node: Node) -> Letters:
        letters = letters_of(node, self.weight)
        assert letters is not None  # whoever asks has asked `accepts` before
        return letters

    def accepts(self, node: Node, rank: int) -> bool:
        """See `MatrixLayout.accepts`."""
        return letters_of(node, self.weight) is not None

    def feature_axes(self, node: Node) -> tuple[int, ...]:
        """See `MatrixLayout.feature_axes`."""
        letters = self._letters(node)
        return tuple(letters.activation.index(letter) for letter in letters.groups + letters.summed)

    def feature_order(self, node: Node) -> str:
        """See `MatrixLayout.feature_order`."""
        return self._letters(node).order

    def holds_bias(self, node: Node) -> bool:
        """See `MatrixLayout.holds_bias`: not where it would have several axes."""
        return self._letters(node).vector

    def terms(self, node: Node, weight: Axes, activation: Axes, result: Axes) -> MatrixTerms:
        """See `MatrixLayout.terms`."""
        return self._letters(node).terms(weight)

    def count(self, shape: OperatorShape, activation: Array) -> int:
        """See `MatrixLayout.count`."""
        return self._letters(shape.node).count(activation)

    def feature_rows(self, shape: OperatorShape, activation: Array, places: Ints) -> Array:
        """See `MatrixLayout.feature_rows`."""
        return self._letters(shape.node).feature_rows(activation, places)

    def result_rows(self, shape: OperatorShape, result: Array, places: Ints, groups: int) -> Array:
        """See `MatrixLayout.result_rows`."""
        return self._letters(shape.node).result_rows(result, places)

    def to_matrix(self, shape: OperatorShape, weights: Array) -> Array:
        """See `MatrixLayout.to_matrix`."""
        return self._letters(shape.node).matrix(weights)

    def to_weights(self, shape: OperatorShape, matrix: Array, weight_shape: Shape) -> Array:
        """See `MatrixLayout.to_weights`."""
        return self._letters(shape.node).array(matrix, weight_shape)


# -- gradient ----------------------------------------------------------------------------------------------------------


def _every_letter_comes_back(node: Node) -> bool:
    """Whether each letter of an operand is one of the result or of another operand, once in each."""
    equation = equation_of(node)
    letters = equation.operands
    others = ({*equation.result}.union(*(letters[:place] + letters[place + 1 :])) for place in range(len(letters)))
    plain = equation.explicit and not equation.has_diagonal and not equation.has_ellipsis
    return plain and all(map(set.issubset, map(set, letters), others))


def _einsum_vjp(ctx: VjpContext) -> Gradients:
    """Exchange the result's gradient and the operand in the equation."""
    equation = equation_of(ctx.node)
    letters = ["".join(operand) for operand in equation.operands]
    gradients: list[Array | None] = [None] * len(letters)
    for position in ctx.requested:
        others = [place for place in range(len(letters)) if place != position]
        subscripts = ",".join(["".join(equation.result), *(letters[place] for place in others)])
        values = [ctx.values(ctx.node.inputs[place]) for place in others]
        gradients[position] = np.einsum(f"{subscripts}->{letters[position]}", ctx.g, *values, optimize=True)
    return gradients


# -- multiply-accumulates ----------------------------------------------------------------------------------------------


def _einsum_macs(ctx: MacContext) -> Iterator[Work]:
    """Operands are multiplied one after another from the left; what no later one or the result has is summed."""
    equation = equation_of(ctx.node)
    operands = [_labels(letters, len(ctx.shape(place))) for place, letters in enumerate(equation.operands)]
    axes = _longest_axes(ctx, operands)
    result = set(_labels(equation.result, len(ctx.shape(RESULT))))
    held = set(operands[0])
    for place, labels in enumerate(operands[1:], 1):
        met = held | set(labels)
        yield ctx.work([axes[label] for label in sorted(met)])
        held = met & result.union(*operands[place + 1 :])


def _labels(letters: Sequence[str], rank: int) -> list[str]:
    """Letters of one operand; the axes under an ellipsis are called `.0`, `.1`, ... from the last."""
    hidden = [f".{number}" for number in reversed(range(rank - len(letters) + 1))]
    return [label for letter in letters for label in (hidden if letter == ELLIPSIS else [letter])]


def _longest_axes(ctx: MacContext, operands: Sequence[Sequence[str]]) -> dict[str, Axis]:
    """Letter -> the longest axis that it stands for: others of size one are repeated along it."""
    axes: dict[str, Axis] = {}
    for place, labels in enumerate(operands):
        shape = ctx.shape(place)
        if len(labels) != len(shape):
            raise UnknownShapeError(place)
        for axis, label in enumerate(labels):
            before = axes.get(label)
            if before is None or ctx.shape(before.place)[before.axis] < shape[axis]:
                axes[label] = Axis(place, axis)
    return axes


# -- record ------------------------------------------------------------------------------------------------------------

EINSUM = Operator(
    axes=_einsum_axes,
    layouts=(  # either operand may be the weight
        EinsumRows(bias=None, has_epilogue=True),
        EinsumRows(activation=1, weight=0, bias=None, has_epilogue=True),
    ),
    vjp=Vjp(_einsum_vjp, ALL_OPERANDS, supports=_every_letter_comes_back),
    macs=_einsum_macs,
)

OPERATORS: Mapping[Key, Operator] = {(STANDARD, "Einsum"): EINSUM}
