"""Every layout: rows times the weight matrix, plus the bias, is what the operator gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxmi.graph.linear import feature_rows, find_linears, output_rows, row_count, weight_array, weight_matrix
from onnxmi.runtime.session import open_session
from tests.support.build import Build
from tests.support.oracle import Case


def conv(op: str, dims: tuple[int, ...], shape: tuple[int, ...], **attrs: Any) -> Build:
    b = Build(seed=2)
    first = b.op("Conv", b.input("N", 3, *dims), b.weight(12, 3, *[1] * len(dims)))
    made = b.op(op, first, b.weight(*shape), **attrs)
    b.made = made  # type: ignore[attr-defined]
    return b


SPATIAL: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ("Conv", (7, 11), (5, 12, 3, 3), {}),
    "strided, dilated, padded": (
        "Conv",
        (11, 13),
        (5, 12, 3, 2),
        {"strides": [2, 3], "dilations": [2, 1], "pads": [1, 0, 2, 1]},
    ),
    "grouped": ("Conv", (5, 7), (9, 4, 3, 3), {"group": 3, "pads": [1, 1, 1, 1]}),
    "one-dimensional": ("Conv", (17,), (5, 12, 5), {"pads": [2, 2]}),
    "three-dimensional": ("Conv", (5, 3, 7), (5, 12, 3, 3, 1), {"pads": [1, 1, 0, 1, 1, 0]}),
    "same upper": ("Conv", (7, 11), (5, 12, 2, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 1]}),
    "same lower": ("Conv", (7, 11), (5, 12, 2, 4), {"auto_pad": "SAME_LOWER"}),
    "transposed": ("ConvTranspose", (5, 7), (12, 5, 3, 2), {"strides": [2, 3], "pads": [1, 0, 0, 1]}),
    "transposed, same upper": (
        "ConvTranspose",
        (5, 7),
        (12, 5, 4, 2),
        {"strides": [3, 2], "auto_pad": "SAME_UPPER"},
    ),
    "transposed, same lower": (
        "ConvTranspose",
        (5, 7),
        (12, 5, 4, 4),
        {"strides": [3, 3], "auto_pad": "SAME_LOWER"},
    ),
    "transposed, shorter than a stride": (
        "ConvTranspose",
        (5, 7),
        (12, 5, 2, 1),
        {"strides": [3, 2], "auto_pad": "SAME_UPPER"},
    ),
    "transposed, valid": ("ConvTranspose", (5, 7), (12, 5, 3, 2), {"strides": [2, 3], "auto_pad": "VALID"}),
    "transposed, stated": ("ConvTranspose", (5, 7), (12, 5, 3, 4), {"strides": [2, 3], "output_shape": [10, 21]}),
    "transposed, grouped, dilated": (
        "ConvTranspose",
        (5, 7),
        (12, 3, 3, 3),
        {"group": 2, "strides": [2, 1], "dilations": [1, 2], "output_padding": [1, 0]},
    ),
}


@pytest.mark.parametrize("name", SPATIAL)
def test_a_convolution_is_its_patches_times_its_weights(name: str) -> None:
    op, dims, shape, attrs = SPATIAL[name]
    b = conv(op, dims, shape, **attrs)
    check(b, b.made)  # type: ignore[attr-defined]


@pytest.mark.parametrize("turned", [0, 1])
def test_a_scaled_gemm(turned: int) -> None:
    b = Build(seed=3)
    x = b.gemm(b.input("N", 7), 7, 11)
    check(b, b.op("Gemm", x, b.weight(*((5, 11) if turned else (11, 5))), transB=turned, alpha=0.5))


def test_a_matmul_on_tokens() -> None:
    b = Build(seed=4)
    x = b.dense(b.input("N", 5, 7), 7, 11)
    check(b, b.op("MatMul", x, b.weight(11, 3)))


@pytest.mark.parametrize("turned", [0, 1])
def test_a_gemm_of_a_turned_activation(turned: int) -> None:
    b = Build(seed=3)
    x = b.op("Transpose", b.gemm(b.input("N", 7), 7, 11), perm=[1, 0])
    weight = b.weight(*((5, 11) if turned else (11, 5)))
    check(b, b.op("Gemm", x, weight, b.vector(5), transA=1, transB=turned, alpha=0.5, beta=0.0))


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_a_weight_on_the_left(rank: int) -> None:
    b = Build(seed=4)
    x = b.dense(b.input("N", *(5, 3)[: rank - 2], 7), 7, 11)
    columns = b.op("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2])
    check(b, b.op("MatMul", b.weight(13, 11), columns))


def test_a_weight_for_each_head() -> None:
    b = Build(seed=4)
    heads = b.reshape(b.dense(b.input("N", 5, 7), 7, 3 * 11), 0, 0, 3, 11)
    check(b, b.op("MatMul", b.op("Transpose", heads, perm=[0, 2, 1, 3]), b.weight(3, 11, 13, fan_in=11)))


def check(b: Build, made: str) -> None:
    case = Case.of(b.proto(b.op("Identity", made)))
    graph = case.model.graph
    linear = find_linears(graph, case.graph)[-1]
    assert linear.nodes[0].outputs[0] == made
    values = open_session(case.model.proto, taps=[*linear.taps, made], optimise=False).run(case.feeds())
    activation, result = values[linear.taps[0]], values[made]
    row_indices = np.random.default_rng(0).permutation(row_count(linear, activation))[:29]
    stored = graph.constant(linear.weight_name)
    matrix = weight_matrix(linear, stored)
    got = np.matmul(feature_rows(linear, activation, row_indices).astype(np.float64), matrix)
    np.testing.assert_allclose(got, output_rows(linear, result, row_indices, linear.groups), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(weight_array(linear, matrix, stored.shape), stored, rtol=1e-6)
    assert row_count(linear, activation) == result.size // linear.outputs.size
