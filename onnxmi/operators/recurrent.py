"""Recurrent layers: a hidden unit is all its gates; it is consumed by the recurrence matrix and by what follows.

Masking the columns of the recurrence matrix is the same as masking the state where it re-enters, so the contraction is
declared on that (stored) operand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onnxmi.axes.terms import Axes, Product
from onnxmi.model import Node
from onnxmi.operators.context import AxisRule, RuleContext
from onnxmi.operators.layout import MatrixTerms, OperatorShape
from onnxmi.operators.macs import MacContext, Work
from onnxmi.operators.matmul import MatrixRows
from onnxmi.operators.operator import MICROSOFT, STANDARD, Key, Operator
from onnxmi.operators.signature_rule import SignatureRule
from onnxmi.typing import Array, Ints, Shape

# -- how axes are tied -------------------------------------------------------------------------------------------------

_FIXED = {"s": "steps along it", "d": "runs in directions", "q": "has gates", "r": "has gates", "p": "has gates"}
_RECURRENCE = 2  # operand


@dataclass(frozen=True)
class _RecurrentAxes:
    """A recurrent operator with so many gates; `layout` 1 puts the batch first."""

    gates: int
    tail: str = ""

    def __call__(self, ctx: RuleContext) -> None:
        """Run the signature, and declare the recurrence."""
        first, states = ("s b", "d b h") if not ctx.attribute("layout", 0) else ("b s", "b d h")
        states_of_all_steps = f"{first.replace('s', 's d') if first == 's b' else 'b s d'} h?"
        text = (
            f"{first} i, d (q h) i, d (q h) h, d (r h)?, b?, {states}?{self.tail.replace('@', states)}"
            f" -> {states_of_all_steps}, {states}?, {states}?"
        )
        rule = SignatureRule(text, contracts=("i",), freezes=_FIXED, sizes={"h": "hidden_size"})
        rule(ctx)
        recurrence = ctx.operand(_RECURRENCE)
        if recurrence is not None:
            ctx.contract(_RECURRENCE, 2, recurrence[2])


# -- matrix layouts ----------------------------------------------------------------------------------------------------


class RecurrentInputRows(MatrixRows):
    """What a recurrent layer reads at each step; weights (directions, gates * hidden, K)."""

    attributes: ClassVar[Mapping[str, Any]] = dict.fromkeys(("direction", "layout"))
    weight_rank = 3
    has_bias_after = False
    result_is_product = False

    def why_no_bias(self, node: Node) -> str | None:
        """See `MatrixLayout.why_no_bias`: results lie inside the operator."""
        return "its gates are scored, not refitted"

    def terms(self, node: Node, weight: Axes, activation: Axes, result: Axes) -> MatrixTerms:
        """See `MatrixLayout.terms`."""
        directions, gates, inputs = weight
        return MatrixTerms(1, inputs, Product((directions, gates)))

    def to_matrix(self, shape: OperatorShape, weights: Array) -> Array:
        """See `MatrixLayout.to_matrix`: all directions read the same."""
        return weights.reshape(-1, weights.shape[-1]).T[None]

    def to_weights(self, shape: OperatorShape, matrix: Array, weight_shape: Shape) -> Array:
        """See `MatrixLayout.to_weights`."""
        return np.reshape(matrix[0].T, weight_shape)


class RecurrentHiddenRows(RecurrentInputRows):
    """The state that is fed back, which is what the operator gives; weights (directions, gates * hidden, hidden)."""

    name = "recurrence"

    @property
    def consumed(self) -> int:
        """See `MatrixLayout.consumed`: the recurrence is declared on its matrix."""
        return self.weight

    def tap(self, node: Node) -> str:
        """See `MatrixLayout.tap`."""
        return next(name for name in node.outputs if name)

    def terms(self, node: Node, weight: Axes, activation: Axes, result: Axes) -> MatrixTerms:
        """See `MatrixLayout.terms`."""
        directions, gates, inputs = weight
        return MatrixTerms(directions.size, Product((directions, inputs)), Product((directions, gates)))

    def count(self, shape: OperatorShape, activation: Array) -> int:
        """See `MatrixLayout.count`."""
        return int(activation.size // activation.shape[-1] // shape.groups)

    def feature_rows(self, shape: OperatorShape, activation: Array, places: Ints) -> Array:
        """Y (steps, directions, batch, hidden), or the last state alone; with layout 1 the directions come later."""
        axis = activation.ndim - 2 if shape.node.attributes.get("layout", 0) else activation.ndim - 3
        rows = np.moveaxis(activation, axis, 0).reshape(shape.groups, -1, activation.shape[-1])
        chosen: Array = rows[:, places]
        return chosen

    def to_matrix(self, shape: OperatorShape, weights: Array) -> Array:
        """See `MatrixLayout.to_matrix`."""
        return weights.swapaxes(1, 2)

    def to_weights(self, shape: OperatorShape, matrix: Array, weight_shape: Shape) -> Array:
        """See `MatrixLayout.to_weights`."""
        return matrix.swapaxes(1, 2).reshape(weight_shape)


# -- multiply-accumulates ----------------------------------------------------------------------------------------------


def _recurrent_macs(ctx: MacContext) -> Iterator[Work]:
    """Each step of each sample meets the weights of its input, then those of the state; padding counts as steps."""
    for weights in (1, 2):
        yield ctx.work((*ctx.axes(0)[:2], *ctx.axes(weights)))


# -- records -----------------------------------------------------------------------------------------------------------


def _recurrent(axes: AxisRule) -> Operator:
    layouts = (
        RecurrentInputRows(bias=None, has_epilogue=True),
        RecurrentHiddenRows(weight=2, bias=None, has_epilogue=True),
    )
    return Operator(axes=axes, layouts=layouts, macs=_recurrent_macs)


OPERATORS: Mapping[Key, Operator] = {
    (STANDARD, "RNN"): _recurrent(_RecurrentAxes(1)),
    (STANDARD, "GRU"): _recurrent(_RecurrentAxes(3)),
    (STANDARD, "LSTM"): _recurrent(_RecurrentAxes(4, ", @?, d (p h)?")),
    (MICROSOFT, "DynamicQuantizeLSTM"): Operator(macs=_recurrent_macs),
}
