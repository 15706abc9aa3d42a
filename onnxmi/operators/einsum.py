"""Einsum as a linear operator: which letters are rows, which are summed over, and which are groups of their own."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from onnxmi.axes.terms import Product, Term
from onnxmi.model import Node
from onnxmi.typing import Array, Ints


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
    made : str
        In the weight and the result.
    """

    activation: str
    weight: str
    result: str
    groups: str
    summed: str
    rows: str
    made: str

    def count(self, activation: Array) -> int:
        """Number of rows."""
        return prod(activation.shape[self.activation.index(letter)] for letter in self.rows)

    def feature_rows(self, activation: Array, places: Ints) -> Array:
        """(groups, rows, K)."""
        ordered = self._ordered(activation, self.activation, (self.groups, self.rows, self.summed))
        chosen: Array = ordered[:, places]
        return chosen

    def result_rows(self, result: Array, places: Ints) -> Array:
        """(groups, rows, M)."""
        ordered = self._ordered(result, self.result, (self.groups, self.rows, self.made))
        chosen: Array = ordered[:, places]
        return chosen

    def matrix(self, weight: Array) -> Array:
        """(groups, K, M)."""
        return self._ordered(weight, self.weight, (self.groups, self.summed, self.made))

    def array(self, matrix: Array, shape: tuple[int, ...]) -> Array:
        """Turn (groups, K, M) into a weight of a shape."""
        order = self.groups + self.summed + self.made
        sizes = [shape[self.weight.index(letter)] for letter in order]
        return np.transpose(matrix.reshape(sizes), [order.index(letter) for letter in self.weight])

    def terms(self, weight: tuple[Term, ...]) -> tuple[int, Term, Term]:
        """Number of groups, and the terms of inputs and outputs, by those of the weight."""
        groups, summed, made = (
            tuple(weight[self.weight.index(letter)] for letter in letters)
            for letters in (self.groups, self.summed, self.made)
        )
        return prod(term.size for term in groups), Product((*groups, *summed)), Product((*groups, *made))

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
        return not self.groups and self.result[-1:] == self.made

    @staticmethod
    def _ordered(array: Array, letters: str, parts: tuple[str, ...]) -> Array:
        order = [letters.index(letter) for letter in "".join(parts)]
        sizes = [prod(array.shape[letters.index(letter)] for letter in part) for part in parts]
        return np.transpose(array, order).reshape(sizes)


def letters_of(node: Node, weight: int) -> Letters | None:
    """Read an equation of two operands; None where it takes a diagonal, has an ellipsis or sums an operand alone."""
    left, arrow, result = str(node.attributes.get("equation", "")).replace(" ", "").partition("->")
    operands = left.split(",")
    if not arrow or len(operands) != 2 or "." in left:
        return None
    stored, moving = operands[weight], operands[1 - weight]
    if any(len(set(letters)) < len(letters) for letters in (stored, moving, result)):
        return None
    both = [letter for letter in stored if letter in moving]
    groups = "".join(letter for letter in both if letter in result)
    summed = "".join(letter for letter in both if letter not in result)
    rows = "".join(letter for letter in moving if letter not in stored)
    made = "".join(letter for letter in stored if letter not in moving)
    alone = any(letter not in result for letter in rows + made)
    return None if alone or not summed else Letters(moving, stored, result, groups, summed, rows, made)
