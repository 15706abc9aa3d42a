"""The record of one operator: everything that onnxmi knows of it, in one place.

Every field is optional. What is absent is unknown, and each consumer then does what is safe: it freezes the axes that
the operator touches, ends the backward pass there, counts no work, leaves a Gather where it is. A family of operators
has one file (or folder) with a table `OPERATORS`; `onnxmi.operators.registry` puts the tables together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from onnxmi.axes.terms import Axes
from onnxmi.model import Node
from onnxmi.operators.context import AxisRule
from onnxmi.operators.layout import MatrixLayout
from onnxmi.operators.macs import MacCount
from onnxmi.operators.positionwise import PositionRule
from onnxmi.operators.vjp import Vjp

Key = tuple[str, str]
"""(domain, operator); the standard domain is ""."""

MICROSOFT = "com.microsoft"
STANDARD = ""

CostClass = Literal["convolution", "slow", "plain"]


def always(node: Node) -> bool:
    """Whatever the settings are."""
    return True


def never(node: Node) -> bool:
    """Whatever the settings are, not."""
    return False


def no_output(node: Node, output: int) -> bool:
    """No output changes in steps: gradients flow through all."""
    return False


def every_output(node: Node, output: int) -> bool:
    """Every output changes in steps: it is a shape, a position, a comparison or a rounded number."""
    return True


def later_outputs(node: Node, output: int) -> bool:
    """Outputs after the first say where something was found."""
    return output > 0


@dataclass(frozen=True)
class NormParameters:
    """Operand positions of a normalization's scale and shift; `shift` is None where there is none."""

    scale: int
    shift: int | None


@dataclass(frozen=True)
class ResultSize:
    """What the size of an operator's results depends on besides the sizes of its operands.

    Attributes
    ----------
    stated : tuple of int
        Operands whose values state sizes.
    counted : bool
        Results have as many entries as the values of the operands say.
    by_first : bool
        Results have the size of the first operand, whatever the others are.
    """

    stated: tuple[int, ...] = ()
    counted: bool = False
    by_first: bool = False


@dataclass(frozen=True)
class QueryKeyAxes:
    """How the queries and keys of a product come.

    Attributes
    ----------
    queries, keys : Axes
        Terms of the queries (..., i, d) and the keys (..., d, j).
    packed : int
        Heads in the last axis of both operands, (batch, positions, heads * d); 0 where they have an axis of their own.
    turned : bool
        Whether the operand of the keys is (..., j, d).
    attends : bool
        Whether the operator itself applies the softmax.
    bias : int or None
        The operand of a vector that the operator adds to queries, keys and values: it has the entries of all three.
    """

    queries: Axes
    keys: Axes
    packed: int = 0
    turned: bool = False
    attends: bool = False
    bias: int | None = None


@dataclass(frozen=True)
class Operator:
    """What is known of an operator.

    Attributes
    ----------
    axes : AxisRule or None
        How its axes are tied. Absent: all of them are frozen.
    layouts : tuple of MatrixLayout
        Its arrays as rows and a weight matrix; several where either operand may be the weight, or where it has two.
        Absent: it is neither scored nor repaired.
    vjp : Vjp or None
        Its gradient. Absent: the backward pass ends here.
    piecewise_constant : function of (node, output)
        Whether an output changes in steps, so that nothing flows back through it.
    macs : MacCount or None
        The multiply-accumulates. Absent: it counts none.
    positionwise : PositionRule or None
        How a Gather of one position moves up through it. Absent: the Gather stays below.
    broadcasts_constants : function of (node)
        Whether a constant of size one on some axes may take the place of an operand, and gives one of such a size.
        Absent: a branch that ends here cannot be emptied.
    norm_parameters : NormParameters or None
        Where a normalization's scale and shift are. Absent: they are not refitted.
    added_vector : int or None
        The operand of a vector that it adds to its first one before anything else: a bias of what comes before.
    adds_operands : bool
        It adds its first two operands before anything else: a residual stream joins.
    query_keys : function of (node, axes of the first two operands) or None
        How the queries and keys come that it multiplies. Absent: query-key dimensions are not scored here.
    cost_class : str
        What the time of an element depends on: "convolution" (channels come in blocks), "slow" or "plain".
    convolves : bool
        It slides a kernel over positions: people call its outputs channels.
    per_position : bool
        It multiplies the features of each position with a matrix: people call them a width.
    copies : bool
        It returns its operand's values, perhaps in another type.
    dequantizes : bool
        It turns the integers of its first operand into real numbers, by a scale and a zero point.
    fills : bool
        It makes a tensor of which all entries are alike.
    gathers : bool
        It picks entries of its first operand by the indices in its second one, along the attribute `axis`.
    result_size : ResultSize
        What its results' size depends on. Absent: on the sizes of its operands alone.
    reads_shape : bool
        Its results depend on the shape of its operand, and not on the values.
    has_body : bool
        It runs a graph of its own, which may hold weights.
    """

    axes: AxisRule | None = None
    layouts: tuple[MatrixLayout, ...] = ()
    vjp: Vjp | None = None
    piecewise_constant: Callable[[Node, int], bool] = no_output
    macs: MacCount | None = None
    positionwise: PositionRule | None = None
    broadcasts_constants: Callable[[Node], bool] = never
    norm_parameters: NormParameters | None = None
    added_vector: int | None = None
    adds_operands: bool = False
    query_keys: Callable[[Node, Axes, Axes], QueryKeyAxes | None] | None = None
    cost_class: CostClass = "plain"
    convolves: bool = False
    per_position: bool = False
    copies: bool = False
    dequantizes: bool = False
    fills: bool = False
    gathers: bool = False
    result_size: ResultSize = ResultSize()
    reads_shape: bool = False
    has_body: bool = False

    @property
    def multiplies(self) -> bool:
        """Whether its results are sums of products: those of a linear layer, or of an attention."""
        return self.macs is not None
