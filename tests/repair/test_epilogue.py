"""What becomes of a linear operator's result."""

from __future__ import annotations

import numpy as np

from onnxmi.graph.linear import find_linears
from onnxmi.repair.epilogue import Epilogue, find_epilogue
from tests.support.build import Build
from tests.support.oracle import Case


def epilogue(build: Build, output: str, number: int = 0) -> tuple[Case, Epilogue]:
    case = Case.of(build.proto(output))
    linears = find_linears(case.model.graph, case.graph)
    return case, find_epilogue(case.model, case.graph, linears[number])


def test_a_bias_and_a_relu() -> None:
    b = Build()
    hidden = b.op("Relu", b.dense(b.input("N", 7), 7, 11))
    case, found = epilogue(b, b.dense(hidden, 11, 3))
    assert found.activation is not None
    assert found.stream is None
    np.testing.assert_array_equal(found.scale, np.ones(11))
    np.testing.assert_allclose(found.offset, b.initializers[case.model.graph.nodes[1].inputs[1]])


def test_a_batch_norm_scales_and_shifts() -> None:
    b = Build()
    x = b.conv(b.input("N", 3, 5, 7), 3, 11)
    x = b.op("Relu", b.batch_norm(x, 11))
    case, found = epilogue(b, b.conv(x, 11, 5))
    conv, norm = case.model.graph.nodes[:2]
    bias = b.initializers[conv.inputs[2]]
    gamma, beta, mean, variance = (b.initializers[name].astype(np.float64) for name in norm.inputs[1:])
    scale = gamma / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(found.scale, scale, rtol=1e-6)
    np.testing.assert_allclose(found.offset, (bias - mean) * scale + beta, rtol=1e-5)
    assert found.activation is not None


def test_a_residual_stream() -> None:
    b = Build()
    stream = b.conv(b.input("N", 3, 5, 7), 3, 11)
    inner = b.conv(b.op("Relu", b.conv(stream, 11, 13)), 13, 11)
    _, found = epilogue(b, b.conv(b.op("Relu", b.op("Add", inner, stream)), 11, 5), number=2)
    assert found.stream == stream
    assert found.activation is not None


def test_a_result_with_two_readers_is_followed_no_further() -> None:
    b = Build()
    made = b.conv(b.input("N", 3, 5, 7), 3, 11)
    both = b.op("Add", b.op("Relu", made), b.op("MaxPool", made, kernel_shape=[1, 1]))
    _, found = epilogue(b, b.conv(both, 11, 5))
    assert found.activation is None
    assert found.stream is None


def test_a_constant_is_no_stream() -> None:
    b = Build()
    made = b.op("Add", b.conv(b.input("N", 3, 5, 7), 3, 11), b.const(np.ones((11, 1, 1))))
    _, found = epilogue(b, b.conv(made, 11, 5))
    assert found.stream is None


def test_a_stream_that_broadcasts_to_the_result() -> None:
    b = Build()
    x = b.input("N", "S", 7)
    common = b.op("ReduceMean", b.dense(x, 7, 11), axes=[1], keepdims=1)
    made = b.op("Relu", b.op("Add", common, b.dense(x, 7, 11)))
    _, found = epilogue(b, b.dense(made, 11, 3), number=1)
    assert found.stream == common
    assert found.broadcasts
    assert found.activation is not None


def test_it_ends_where_the_result_is_broadcast() -> None:
    b = Build()
    x = b.input("N", 7)
    made = b.op("Relu", b.op("Add", b.gemm(x, 7, 1), x))
    _, found = epilogue(b, b.gemm(made, 7, 3))
    assert found.stream is None
    assert found.activation is None


def test_it_ends_at_a_norm_of_another_axis() -> None:
    b = Build()
    made = b.batch_norm(b.dense(b.input("N", 11, 7), 7, 11), 11)
    _, found = epilogue(b, b.dense(b.op("Relu", made), 11, 3))
    np.testing.assert_array_equal(found.scale, np.ones(11))
    assert found.activation is None


def test_a_bias_is_none_of_a_result_that_is_an_output_itself() -> None:
    b = Build()
    made = b.op("MatMul", b.input("N", 7), b.weight(7, 11))
    case = Case.of(b.proto(made, b.op("Add", made, b.vector(11))))
    (linear,) = find_linears(case.model.graph, case.graph)
    assert linear.biases == (None,)
    assert not find_epilogue(case.model, case.graph, linear).offset.any()
