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
from onnxmi.operators.layout import MatrixTerms, OperatorShape, QuantizedOperands
from onnxmi.operators.macs import MacContext, Work
from onnxmi.operators.matmul import MatrixRows
from onnxmi.operators.operator import MICROSOFT, STANDARD, Key, Operator
from onnxmi.operators.recurrent_gradient import LSTM_VJP, RECURRENT_VJP, recurrent_gradients
from onnxmi.operators.signature_rule import SignatureRule
from onnxmi.operators.vjp import Vjp, VjpContext
from onnxmi.typing import Array, Ints, Shape

# -- how axes are tied -------------------------------------------------------------------------------------------------

_FIXED = {"s": "steps along it", "d": "runs in directions", "q": "has gates", "r": "has gates", "p": "has gates"}
_RECURRENCE, _BIAS, _RECURRENCE_ZERO = 2, 3, 11  # operands


@dataclass(frozen=True)
class _RecurrentAxes:
    """A recurrent operator; `layout` 1 puts the batch first.

    Attributes
    ----------
    tail : str
        Patterns of the operands after the initial hidden state; @ is that of a state.
    turned : bool
        Whether the weights are stored with the gates last.
    zero : int or None
        The operand that zero points of an integer recurrence matrix are.
    """

    tail: str = ""
    turned: bool = False
    zero: int | None = None

    def __call__(self, ctx: RuleContext) -> None:
        """Run the signature, and declare the recurrence."""
        first, states = ("s b", "d b h") if not ctx.attribute("layout", 0) else ("b s", "b d h")
        states_of_all_steps = f"{first.replace('s', 's d') if first == 's b' else 'b s d'} h?"
        weights = "d i (q h), d h (q h)" if self.turned else "d (q h) i, d (q h) h"
        text = (
            f"{first} i, {weights}, d (r h)?, b?, {states}?{self.tail.replace('@', states)}"
            f" -> {states_of_all_steps}, {states}?, {states}?"
        )
        rule = SignatureRule(text, contracts=("i",), freezes=_FIXED, sizes={"h": "hidden_size"})
        rule(ctx)
        recurrence = ctx.operand(_RECURRENCE)
        if recurrence is not None:
            axis = 1 if self.turned else 2
            ctx.contract(_RECURRENCE, axis, recurrence[axis], self.zero)


_LSTM = ", @?, d (p h)?"


def _quantized_axes(ctx: RuleContext) -> None:
    """Scales and zero points are one number for each direction, or one for each gate of each unit."""
    parameters = (ctx.operand(place) for place in range(8, 12))
    patterns = ("d (q h)?" if terms is not None and len(terms) > 1 else "d?" for terms in parameters)
    tail, zero = ", ".join((_LSTM, *patterns)), ctx.value(_RECURRENCE_ZERO)
    if zero is None or (zero.any() and zero.size > 1):
        ctx.freeze_all("has zero points that are not known, or several")
        return
    _RecurrentAxes(tail, turned=True, zero=_RECURRENCE_ZERO if zero.any() else None)(ctx)


# -- matrix layouts ----------------------------------------------------------------------------------------------------


class RecurrentInputRows(MatrixRows):
    """What a recurrent layer reads at each step; weights (directions, gates * hidden, K)."""

    attributes: ClassVar[Mapping[str, Any]] = dict.fromkeys(("direction", "layout"))
    weight_rank = 3
    has_bias_after = False
    result_is_product = False
    shares_bias = True
    half: ClassVar[int] = 0
    """Which half of the stored bias (directions, 2 * gates * hidden) is added to the product."""

    def bias_shape(self, node: Node, outputs: int) -> Shape:
        """See `MatrixLayout.bias_shape`."""
        directions = 2 if node.attributes.get("direction") == "bidirectional" else 1
        return (directions, 2 * outputs // directions)

    def bias_vector(self, stored: Array) -> Array:
        """See `MatrixLayout.bias_vector`."""
        return stored.reshape(stored.shape[0], 2, -1)[:, self.half].reshape(-1)

    def with_bias_vector(self, node: Node, stored: Array | None, vector: Array) -> Array:
        """See `MatrixLayout.with_bias_vector`."""
        shape = self.bias_shape(node, vector.size)
        both = np.zeros(shape, vector.dtype) if stored is None else stored.astype(vector.dtype)
        halves = both.reshape(shape[0], 2, -1)
        halves[:, self.half] = vector.reshape(shape[0], -1)
        return halves.reshape(shape)

    def product_gradients(self, ctx: VjpContext) -> Array:
        """See `MatrixLayout.product_gradients`."""
        gates = recurrent_gradients(ctx).gates
        rows: Array = np.moveaxis(gates, 0, 2).reshape(1, gates.shape[1] * gates.shape[2], -1)
        return rows

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
    reads_own_result = True
    half = 1

    def why_not_refitted(self, node: Node) -> str | None:
        """See `MatrixLayout.why_not_refitted`: what is multiplied is not the state alone."""
        resets_state = node.op == "GRU" and not node.attributes.get("linear_before_reset", 0)
        return "its reset gate scales the state before the product" if resets_state else None

    def product_gradients(self, ctx: VjpContext) -> Array:
        """See `MatrixLayout.product_gradients`."""
        recurrent = recurrent_gradients(ctx).recurrent
        return recurrent.reshape(recurrent.shape[0], -1, recurrent.shape[-1])

    @property
    def consumed(self) -> int:
        """See `MatrixLayout.consumed`: the recurrence is declared on its matrix."""
        return self.weight

    def tap(self, node: Node) -> str:
        """See `MatrixLayout.tap`."""
        return node.result

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


class QuantizedInputRows(RecurrentInputRows):
    """The same with integers (directions, K, gates * hidden)."""

    def output_axis(self, node: Node) -> int:
        """See `MatrixLayout.output_axis`."""
        return 0

    def terms(self, node: Node, weight: Axes, activation: Axes, result: Axes) -> MatrixTerms:
        """See `MatrixLayout.terms`."""
        directions, inputs, gates = weight
        return MatrixTerms(1, inputs, Product((directions, gates)))

    def to_matrix(self, shape: OperatorShape, weights: Array) -> Array:
        """See `MatrixLayout.to_matrix`."""
        return super().to_matrix(shape, weights.swapaxes(1, 2))

    def to_weights(self, shape: OperatorShape, matrix: Array, weight_shape: Shape) -> Array:
        """See `MatrixLayout.to_weights`."""
        directions, inputs, gates = weight_shape
        return super().to_weights(shape, matrix, (directions, gates, inputs)).swapaxes(1, 2)


class QuantizedHiddenRows(RecurrentHiddenRows):
    """The same with integers (directions, hidden, gates * hidden)."""

    def output_axis(self, node: Node) -> int:
        """See `MatrixLayout.output_axis`."""
        return 0

    def terms(self, node: Node, weight: Axes, activation: Axes, result: Axes) -> MatrixTerms:
        """See `MatrixLayout.terms`."""
        directions, inputs, gates = weight
        return MatrixTerms(directions.size, Product((directions, inputs)), Product((directions, gates)))

    def to_matrix(self, shape: OperatorShape, weights: Array) -> Array:
        """See `MatrixLayout.to_matrix`."""
        return weights

    def to_weights(self, shape: OperatorShape, matrix: Array, weight_shape: Shape) -> Array:
        """See `MatrixLayout.to_weights`."""
        return np.reshape(matrix, weight_shape)


def _recurrent_macs(ctx: MacContext) -> Iterator[Work]:
    """Each step of each sample meets the weights of its input, then those of the state; padding counts as steps."""
    for weights in (1, 2):
        yield ctx.work((*ctx.axes(0)[:2], *ctx.axes(weights)))


# -- records -----------------------------------------------------------------------------------------------------------


def _recurrent(axes: AxisRule, vjp: Vjp = RECURRENT_VJP) -> Operator:
    layouts = (
        RecurrentInputRows(bias=_BIAS, has_epilogue=True),
        RecurrentHiddenRows(weight=_RECURRENCE, bias=_BIAS, has_epilogue=True),
    )
    return Operator(axes=axes, layouts=layouts, vjp=vjp, macs=_recurrent_macs)


OPERATORS: Mapping[Key, Operator] = {
    (STANDARD, "RNN"): _recurrent(_RecurrentAxes()),
    (STANDARD, "GRU"): _recurrent(_RecurrentAxes()),
    (STANDARD, "LSTM"): _recurrent(_RecurrentAxes(_LSTM), LSTM_VJP),
    (MICROSOFT, "DynamicQuantizeLSTM"): Operator(
        axes=_quantized_axes,
        layouts=(
            QuantizedInputRows(bias=_BIAS, has_epilogue=True, quantized=QuantizedOperands(scale=8, zero=9)),
            QuantizedHiddenRows(
                weight=_RECURRENCE, bias=_BIAS, has_epilogue=True, quantized=QuantizedOperands(scale=10, zero=11)
            ),
        ),
        macs=_recurrent_macs,
    ),
}
