"""Lenses: how one operator's arrays look as rows of input features and as a weight matrix.

A table of operators: where the activation, the weights and the bias are, and how to go from their layouts to
``Y[g] = X[g] @ W[g] + b[g]`` and back; see `onnxmi.graph.linear`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from onnxmi.model import Node
from onnxmi.operators.einsum import Letters, letters_of
from onnxmi.operators.patches import Window, count, gather, window
from onnxmi.typing import Array, Ints

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class View:
    """What the functions of a lens know of the operator.

    Attributes
    ----------
    node : Node
        The operator.
    groups : int
        Groups of a convolution, else 1.
    kernel : tuple of int
        Spatial shape of a convolution's kernel, else empty.
    weight : int
        Operand position of the weights.
    """

    node: Node
    groups: int
    kernel: tuple[int, ...]
    weight: int


@dataclass(frozen=True)
class Quantised:
    """Operand positions of what integers stand for.

    Attributes
    ----------
    scale : int or None
        The weights' scale; None where a later operator multiplies by it, as of an activation quantised as it comes.
    zero : int
        The weights' zero point.
    read : pair of int or None
        Scale and zero point of an activation that is quantised with stored ones.
    packed : bool
        Two weights to a byte, (outputs, blocks, bytes), and a scale for each block.
    """

    scale: int | None
    zero: int
    read: tuple[int, int] | None = None
    packed: bool = False


@dataclass(frozen=True)
class Lens:
    """How one operator's arrays look as rows and matrices.

    Attributes
    ----------
    count, rows, results : functions
        Number of rows of an activation; its features, and a result's entries, at some of them.
    matrix, array : functions
        The stored weights as (groups, K, M), and back.
    activation, weight : int
        Operand positions.
    bias : int or None
        That of the bias; None where only an operator after it can add one.
    spatial : bool
        Channels on the second axis, a window on the others; else channels on the last.
    pure : bool
        The result is the product and the bias, and nothing else is done to it.
    stream : int or None
        Position of an operand that is added to the product, too.
    quantised : Quantised or None
        For operators on integers.
    gates : bool
        Weights are (directions, gates * hidden, K), and results inside the operator.
    einsum : bool
        Its letters say what it does; see `onnxmi.operators.einsum`.
    state : str
        What a second lens on the same operator is called; its activation is what the operator gives, fed back.
    """

    count: Callable[[View, Array], int]
    rows: Callable[[View, Array, Ints], Array]
    results: Callable[[View, Array, Ints, int], Array]
    matrix: Callable[[View, Array], Array]
    array: Callable[[View, Array, tuple[int, ...]], Array]
    activation: int = 0
    weight: int = 1
    bias: int | None = 2
    spatial: bool = False
    pure: bool = True
    stream: int | None = None
    quantised: Quantised | None = None
    gates: bool = False
    einsum: bool = False
    state: str = ""

    @property
    def rank(self) -> int | None:
        """Number of the weights' axes; None for any."""
        if self.spatial or self.einsum:
            return None
        return 3 if self.gates or (self.quantised is not None and self.quantised.packed) else 2

    @property
    def consumed(self) -> int:
        """The operand that the channels are declared to be consumed at."""
        return self.weight if self.state else self.activation


# -- Gemm and MatMul --------------------------------------------------------------------------------------------------


def _matrix_count(view: View, activation: Array) -> int:
    return int(activation.size // activation.shape[-1])


def _matrix_rows(view: View, activation: Array, places: Ints) -> Array:
    return activation.reshape(-1, activation.shape[-1])[places][None]


def _matrix_results(view: View, result: Array, places: Ints, groups: int) -> Array:
    return result.reshape(-1, result.shape[-1])[places][None]


def _gemm_matrix(view: View, array: Array) -> Array:
    return (array.T if view.node.attributes.get("transB", 0) else array)[None]


def _gemm_array(view: View, matrix: Array, shape: tuple[int, ...]) -> Array:
    return np.reshape(matrix[0].T if view.node.attributes.get("transB", 0) else matrix[0], shape)


def _turned_matrix(view: View, array: Array) -> Array:
    return array.T[None]


def _turned_array(view: View, matrix: Array, shape: tuple[int, ...]) -> Array:
    """Whatever the shape in which it is packed."""
    return np.asarray(matrix[0].T)


# -- convolutions -----------------------------------------------------------------------------------------------------


def _window(view: View, activation: Array) -> Window:
    transposed = view.node.op == "ConvTranspose"
    return window(view.node.attributes, view.kernel, activation.shape[2:], transposed=transposed)


def _patch_count(view: View, activation: Array) -> int:
    return count(activation, _window(view, activation))


def _patch_rows(view: View, activation: Array, places: Ints) -> Array:
    patches = gather(activation, _window(view, activation), places)
    rows: Array = patches.reshape(len(places), view.groups, prod(patches.shape[1:]) // view.groups)
    return rows.transpose(1, 0, 2)


def _patch_results(view: View, result: Array, places: Ints, groups: int) -> Array:
    samples, *where = np.unravel_index(places, (result.shape[0], *result.shape[2:]))
    index: tuple[Any, ...] = (samples, slice(None), *where)
    rows: Array = result[index].reshape(len(places), groups, result.shape[1] // groups)
    return rows.transpose(1, 0, 2)


def _conv_matrix(view: View, array: Array) -> Array:
    return array.reshape(view.groups, array.shape[0] // view.groups, -1).transpose(0, 2, 1)


def _conv_array(view: View, matrix: Array, shape: tuple[int, ...]) -> Array:
    return matrix.transpose(0, 2, 1).reshape(shape)


def _transposed_matrix(view: View, array: Array) -> Array:
    """(channels, outputs of a group, *kernel) as (groups, channels * kernel, outputs)."""
    grouped = array.reshape(view.groups, -1, array.shape[1], prod(view.kernel))
    return grouped.swapaxes(2, 3).reshape(view.groups, -1, array.shape[1])


def _transposed_array(view: View, matrix: Array, shape: tuple[int, ...]) -> Array:
    grouped = matrix.reshape(matrix.shape[0], -1, prod(view.kernel), matrix.shape[-1])
    return grouped.swapaxes(2, 3).reshape(shape)


# -- recurrent layers -------------------------------------------------------------------------------------------------


def _gates_matrix(view: View, array: Array) -> Array:
    """All directions read the same."""
    return array.reshape(-1, array.shape[-1]).T[None]


def _gates_array(view: View, matrix: Array, shape: tuple[int, ...]) -> Array:
    return np.reshape(matrix[0].T, shape)


def _state_count(view: View, activation: Array) -> int:
    return int(activation.size // activation.shape[-1] // view.groups)


def _state_rows(view: View, activation: Array, places: Ints) -> Array:
    """Y (steps, directions, batch, hidden), or the last state alone; with layout 1 the directions come later."""
    axis = activation.ndim - 2 if view.node.attributes.get("layout", 0) else activation.ndim - 3
    rows = np.moveaxis(activation, axis, 0).reshape(view.groups, -1, activation.shape[-1])
    chosen: Array = rows[:, places]
    return chosen


def _state_matrix(view: View, array: Array) -> Array:
    return array.swapaxes(1, 2)


def _state_array(view: View, matrix: Array, shape: tuple[int, ...]) -> Array:
    return matrix.swapaxes(1, 2).reshape(shape)


# -- Einsum -----------------------------------------------------------------------------------------------------------


def _letters(view: View) -> Letters:
    letters = letters_of(view.node, view.weight)
    assert letters is not None  # find_linears has looked
    return letters


def _einsum_count(view: View, activation: Array) -> int:
    return _letters(view).count(activation)


def _einsum_rows(view: View, activation: Array, places: Ints) -> Array:
    return _letters(view).feature_rows(activation, places)


def _einsum_results(view: View, result: Array, places: Ints, groups: int) -> Array:
    return _letters(view).result_rows(result, places)


def _einsum_matrix(view: View, array: Array) -> Array:
    return _letters(view).matrix(array)


def _einsum_array(view: View, matrix: Array, shape: tuple[int, ...]) -> Array:
    return _letters(view).array(matrix, shape)


_MATRICES = (_matrix_count, _matrix_rows, _matrix_results, _gemm_matrix, _gemm_array)
_PACKED = (*_MATRICES[:3], _turned_matrix, _turned_array)
_PATCHES = (_patch_count, _patch_rows, _patch_results)
_CONV = (*_PATCHES, _conv_matrix, _conv_array)
_GATES = Lens(*_MATRICES[:3], _gates_matrix, _gates_array, pure=False, gates=True)
_STATE = Lens(
    *(_state_count, _state_rows, _matrix_results, _state_matrix, _state_array),
    weight=2,
    pure=False,
    gates=True,
    state="recurrence",
)

LENSES: Mapping[tuple[str, str], Lens] = {
    ("", "Gemm"): Lens(*_MATRICES),
    ("", "MatMul"): Lens(*_MATRICES, bias=None),
    ("", "Conv"): Lens(*_CONV, spatial=True),
    ("", "ConvTranspose"): Lens(*_PATCHES, _transposed_matrix, _transposed_array, spatial=True),
    (MICROSOFT, "FusedGemm"): Lens(*_MATRICES, pure=False),
    (MICROSOFT, "FusedMatMul"): Lens(*_MATRICES, bias=None),
    (MICROSOFT, "TransposeMatMul"): Lens(*_MATRICES, bias=None),
    (MICROSOFT, "FusedConv"): Lens(*_CONV, spatial=True, pure=False, stream=3),
    (MICROSOFT, "Attention"): Lens(*_MATRICES, pure=False),
    ("", "MatMulInteger"): Lens(*_MATRICES, bias=None, quantised=Quantised(None, 3)),
    ("", "ConvInteger"): Lens(*_CONV, bias=None, spatial=True, pure=False, quantised=Quantised(None, 3)),
    (MICROSOFT, "MatMulIntegerToFloat"): Lens(*_MATRICES, bias=6, quantised=Quantised(3, 5)),
    (MICROSOFT, "DynamicQuantizeMatMul"): Lens(*_MATRICES, bias=4, quantised=Quantised(2, 3)),
    (MICROSOFT, "MatMulNBits"): Lens(*_PACKED, bias=5, quantised=Quantised(2, 3, packed=True)),
    ("", "QLinearMatMul"): Lens(*_MATRICES, weight=3, bias=None, pure=False, quantised=Quantised(4, 5, (1, 2))),
    **dict.fromkeys(
        (("", "QLinearConv"), (MICROSOFT, "QLinearConv")),
        Lens(*_CONV, weight=3, bias=8, spatial=True, pure=False, quantised=Quantised(4, 5, (1, 2))),
    ),
}
"""(domain, operator) -> its lens."""

_EINSUM = Lens(
    *(_einsum_count, _einsum_rows, _einsum_results, _einsum_matrix, _einsum_array),
    bias=None,
    pure=False,
    einsum=True,
)
_SEVERAL: Mapping[tuple[str, str], tuple[Lens, ...]] = {
    **dict.fromkeys((("", "RNN"), ("", "GRU"), ("", "LSTM")), (_GATES, _STATE)),
    ("", "Einsum"): (_EINSUM, replace(_EINSUM, activation=1, weight=0)),
}


def lenses_of(node: Node) -> tuple[Lens, ...]:
    """Return the ways to look at an operator: on its input and on its state, or at either operand as the weight."""
    lens = LENSES.get((node.domain, node.op))
    return _SEVERAL.get((node.domain, node.op), ()) if lens is None else (lens,)


CONVOLUTIONS = frozenset(op for (_, op), lens in LENSES.items() if lens.spatial and not lens.quantised)

# Operators that add a stored vector to what they read, besides Add: (domain, operator) -> the vector's operand.
ADDERS: Mapping[tuple[str, str], int] = {
    (MICROSOFT, "BiasGelu"): 1,
    (MICROSOFT, "FastGelu"): 1,
    (MICROSOFT, "SkipLayerNormalization"): 4,
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): 3,
}
