"""Matrix layouts of products of a turned activation, of a weight on the left, and of a weight for each head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from onnxmi.axes.terms import Axes
from onnxmi.model import Node
from onnxmi.operators.einsum import EinsumRows, Letters
from onnxmi.operators.layout import OperatorShape
from onnxmi.typing import Array, Ints

_LEADING = "abcdefgh"


class TurnedGemmRows(EinsumRows):
    """Gemm with transA: features on the first axis of the activation."""

    attributes: ClassVar[Mapping[str, Any]] = {"transA": 0, "transB": 0, "alpha": 1.0}

    def _letters(self, node: Node) -> Letters:
        weight = "jk" if node.attributes.get("transB", 0) else "kj"
        return Letters("ki", weight, "ij", groups="", summed="k", rows="i", outputs="j")

    def accepts(self, node: Node, rank: int) -> bool:
        """See `MatrixLayout.accepts`."""
        return rank == 2 and bool(node.attributes.get("transA", 0))


class _BatchedRows(EinsumRows):
    """A product whose activation has any number of leading axes; they are rows."""

    attributes: ClassVar[Mapping[str, Any]] = {"alpha": 1.0}
    has_bias_after = False
    rank: ClassVar[int]
    """Number of the weight's axes."""

    def accepts(self, node: Node, rank: int) -> bool:
        """See `MatrixLayout.accepts`: a fused product may turn its operands."""
        turned = any(node.attributes.get(name, 0) for name in ("transA", "transB", "transBatchA", "transBatchB"))
        return rank == self.rank and not turned

    def _batched(self, rank: int) -> Letters:
        """The letters for an activation of a rank."""
        raise NotImplementedError

    def count(self, shape: OperatorShape, activation: Array) -> int:
        """See `MatrixLayout.count`."""
        return self._batched(activation.ndim).count(activation)

    def feature_rows(self, shape: OperatorShape, activation: Array, places: Ints) -> Array:
        """See `MatrixLayout.feature_rows`."""
        return self._batched(activation.ndim).feature_rows(activation, places)

    def result_rows(self, shape: OperatorShape, result: Array, places: Ints, groups: int) -> Array:
        """See `MatrixLayout.result_rows`."""
        return self._batched(result.ndim).result_rows(result, places)


class LeftWeightRows(_BatchedRows):
    """MatMul of a weight (M, K) with an activation (..., K, columns)."""

    channel_axis = -2
    rank = 2

    def _letters(self, node: Node) -> Letters:
        return self._batched(2)

    def _batched(self, rank: int) -> Letters:
        lead = _LEADING[: rank - 2]
        return Letters(f"{lead}kj", "ik", f"{lead}ij", groups="", summed="k", rows=f"{lead}j", outputs="i")

    def fits(self, weight: Axes, activation: Axes) -> bool:
        """See `MatrixLayout.fits`."""
        return 2 <= len(activation) <= 2 + len(_LEADING)

    def feature_axes(self, node: Node) -> tuple[int, ...]:
        """See `MatrixLayout.feature_axes`."""
        return (-2,)

    def feature_order(self, node: Node) -> str:
        """See `MatrixLayout.feature_order`."""
        return "columns"

    def holds_bias(self, node: Node) -> bool:
        """See `MatrixLayout.holds_bias`."""
        return True

    def with_bias_vector(self, node: Node, stored: Array | None, vector: Array) -> Array:
        """See `MatrixLayout.with_bias_vector`: one number a row of the result."""
        return np.asarray(vector[:, None])


class HeadRows(_BatchedRows):
    """MatMul of an activation (..., heads, rows, K) with weights (heads, K, M)."""

    rank = 3

    def _letters(self, node: Node) -> Letters:
        return self._batched(3)

    def _batched(self, rank: int) -> Letters:
        lead = _LEADING[: rank - 3]
        return Letters(f"{lead}zik", "zkj", f"{lead}zij", groups="z", summed="k", rows=f"{lead}i", outputs="j")

    def fits(self, weight: Axes, activation: Axes) -> bool:
        """See `MatrixLayout.fits`: an activation that all heads share has no axis of theirs."""
        return 3 <= len(activation) <= 3 + len(_LEADING) and activation[-3].size == weight[0].size

    def feature_axes(self, node: Node) -> tuple[int, ...]:
        """See `MatrixLayout.feature_axes`."""
        return (-3, -1)

    def feature_order(self, node: Node) -> str:
        """See `MatrixLayout.feature_order`."""
        return "heads"

    def holds_bias(self, node: Node) -> bool:
        """See `MatrixLayout.holds_bias`: it would be one for each head."""
        return False
