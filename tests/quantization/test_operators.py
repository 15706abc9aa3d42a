"""Which operators can be 8-bit, which go with them, and how they are grouped."""

from __future__ import annotations

import numpy as np

from onnxmi.model import Graph
from onnxmi.quantization.operators import Quantizable, glue_between, in_groups, quantizable
from tests.support.build import Build


def graph_of(b: Build, output: str) -> Graph:
    proto = b.proto(output)
    for number, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}{number}"
    return Graph(proto)


def test_products_with_stored_float_weights_and_tables_can_be_8_bit() -> None:
    b = Build(seed=1)
    rows = b.op("Gather", b.weight(17, 11), b.input("N", 5, dtype=np.int64))
    plain = b.op("MatMul", rows, b.weight(11, 13))
    scores = b.op("MatMul", plain, b.op("Transpose", plain, perm=[0, 2, 1]))
    graph = graph_of(b, b.op("MatMul", scores, b.weight(5, 3)))
    assert [(one.op, one.elements) for one in quantizable(graph, "dynamic")] == [
        ("Gather", 187),
        ("MatMul", 143),
        ("MatMul", 15),
    ]


def test_a_scaled_gemm_is_left_float_if_dynamic() -> None:
    b = Build(seed=1)
    graph = graph_of(b, b.gemm(b.gemm(b.input("N", 7), 7, 11), 11, 3, alpha=0.5))
    assert len(quantizable(graph, "dynamic")) == 1
    assert len(quantizable(graph, "static")) == 2


def test_what_lies_between_8_bit_operators_goes_with_them_until_a_float_operand_comes_in() -> None:
    b = Build(seed=2)
    x = b.input("N", 3, 7, 7)
    first = b.op("Relu", b.conv(x, 3, 5))
    second = b.conv(first, 5, 5)
    joined = b.op("Add", second, first)
    scaled = b.op("Mul", joined, b.const(np.float32(0.5)))
    graph = graph_of(b, b.op("Relu", b.op("Add", scaled, b.op("Sin", joined))))
    int8 = [node.name for node in graph.nodes if node.op == "Conv"]
    glue = list(glue_between(graph, int8))
    assert [name.rstrip("0123456789") for name in glue] == ["Relu", "Add"]
    assert not list(glue_between(graph, int8[1:2]))[1:]  # what the float convolution makes is float


def test_groups_are_few_cover_everything_and_leave_the_first_and_the_last_alone() -> None:
    products = [Quantizable(f"p{number}", "MatMul", 10) for number in range(23)]
    tables = [Quantizable(f"t{number}", "Gather", 10) for number in range(3)]
    groups = in_groups([*tables, *products], 8)
    assert len(groups) == 8
    assert groups[0] == ("t0", "t1", "t2")
    assert (groups[1], groups[-1]) == (("p0",), ("p22",))
    assert sorted(name for group in groups for name in group) == sorted(one.name for one in (*tables, *products))
    assert in_groups(products[:2], 8) == (("p0",), ("p1",))
    assert in_groups([], 8) == ()
