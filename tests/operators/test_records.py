"""What holds for all operators' records: fields that belong together are there together, and what they say is so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from onnxmi.graph.macs import node_macs
from onnxmi.model import Graph, Model, Node
from onnxmi.operators import matmul
from onnxmi.operators.elementwise import elementwise_axes
from onnxmi.operators.layout import MatrixLayout
from onnxmi.operators.operator import Key, Operator, every_output, never
from onnxmi.operators.positionwise import PositionContext
from onnxmi.operators.reduction import softmax_axes
from onnxmi.operators.registry import FAMILIES, OPERATORS, UNKNOWN, merge, operator_of
from onnxmi.operators.vjp import ALL_OPERANDS
from onnxmi.runtime.probe import probe
from onnxmi.transforms.hoist_gather import find_unused_positions
from tests.support.build import Build

Array = NDArray[Any]
MS = "com.microsoft"
# Their operands do not broadcast both ways, so that a constant of size one cannot take the place of any.
ONE_WAY = {("", "PRelu"), (MS, "BiasAdd")}


def with_field(name: str) -> list[Key]:
    empty = getattr(UNKNOWN, name)
    return sorted(key for key, operator in OPERATORS.items() if getattr(operator, name) != empty)


# -- fields that belong together --------------------------------------------------------------------------------------


def test_what_has_a_matrix_layout_has_an_axis_rule_and_macs() -> None:
    wanting = [key for key in with_field("layouts") if OPERATORS[key].axes is None or OPERATORS[key].macs is None]
    assert not wanting


def test_what_multiplies_queries_with_keys_has_macs() -> None:
    assert not [key for key in with_field("query_keys") if OPERATORS[key].macs is None]


def test_what_convolves_has_macs_and_what_is_timed_as_a_convolution_convolves() -> None:
    assert not [key for key in with_field("convolves") if OPERATORS[key].macs is None]
    blocked = {key for key, operator in OPERATORS.items() if operator.cost_class == "convolution"}
    assert blocked <= {*with_field("convolves")}


def test_what_the_elementwise_rule_knows_passes_constants_and_moves_a_gather() -> None:
    elementwise = {key for key, operator in OPERATORS.items() if operator.axes is elementwise_axes}
    assert len(elementwise) > 60
    refusing = {key for key in elementwise if OPERATORS[key].broadcasts_constants is never}
    assert refusing == ONE_WAY
    assert not [key for key in elementwise if OPERATORS[key].positionwise is None]


def test_no_gradient_is_named_where_results_change_in_steps() -> None:
    steps = {key for key, operator in OPERATORS.items() if operator.piecewise_constant is every_output}
    assert not steps & {*with_field("vjp")}


@pytest.mark.parametrize("key", [key for key in with_field("vjp") if not key[0]], ids=lambda key: key[1])
def test_a_gradient_names_operands_that_the_operator_has(key: Key) -> None:
    operands = OPERATORS[key].vjp.operands
    schema = onnx.defs.get_schema(key[1]) if onnx.defs.has(key[1]) else None
    assert operands
    if operands != ALL_OPERANDS and schema is not None:
        assert max(operands) < schema.max_input


def test_a_product_inside_an_operator_with_a_gradient_has_one_of_its_own() -> None:
    inside = [
        type(layout) for key in with_field("vjp") for layout in OPERATORS[key].layouts if not layout.result_is_product
    ]
    assert inside
    assert not [layout for layout in inside if layout.product_gradients is MatrixLayout.product_gradients]


@pytest.mark.parametrize("key", [key for key in with_field("norm_parameters") if not key[0]], ids=lambda key: key[1])
def test_scale_and_shift_of_a_normalization_are_operands_of_that_name(key: Key) -> None:
    if not onnx.defs.has(key[1]):
        pytest.skip("onnx does not know it: an operator of onnxruntime in the standard domain")
    names = [operand.name.lower() for operand in onnx.defs.get_schema(key[1]).inputs]
    parameters = OPERATORS[key].norm_parameters
    assert names[parameters.scale] == "scale"
    assert parameters.shift is None or names[parameters.shift] in ("b", "bias")


def test_what_multiplies_each_position_has_a_layout_and_counts_work() -> None:
    positions = {*with_field("per_position")}
    assert positions <= {*with_field("layouts")} & {*with_field("macs")}
    assert {("", "MatMul"), ("", "QLinearMatMul"), ("com.microsoft", "MatMulNBits")} <= positions
    assert not positions & {*with_field("convolves")}


def test_layouts_of_one_operator_read_different_weights_or_different_forms_of_one() -> None:
    several = {key: operator.layouts for key, operator in OPERATORS.items() if len(operator.layouts) > 1}
    fused = {"FusedMatMul", "TransposeMatMul"}
    recurrent = {"RNN", "GRU", "LSTM", "DynamicQuantizeLSTM"}
    assert {op for _, op in several} == recurrent | {"Einsum", "MatMul", "Gemm"} | fused
    for (_, op), layouts in several.items():
        assert len({(layout.weight, layout.weight_rank, type(layout)) for layout in layouts}) == len(layouts)
        for rank, turned in product((2, 3), (0, 1)) if op in ("MatMul", "Gemm") else ():
            node = Node(0, "n", op, "", ("x", "w"), ("y",), {"transA": turned} if op == "Gemm" else {})
            accepting = [layout.weight for layout in layouts if layout.accepts(node, rank)]
            assert len(accepting) == len(set(accepting))


# -- the registry -----------------------------------------------------------------------------------------------------


def test_every_family_adds_its_table() -> None:
    assert len(OPERATORS) == sum(len(family.OPERATORS) for family in FAMILIES)


def test_an_operator_has_one_record() -> None:
    with pytest.raises(ValueError, match="two records for"):
        merge(matmul.OPERATORS, {("", "Gemm"): Operator()})


def test_nothing_is_known_of_an_operator_without_a_record() -> None:
    node = Node(0, "n", "Gemm", "some.other", ("x", "w"), ("y",), {})
    assert operator_of(node) is UNKNOWN
    assert node_macs(node, dict.fromkeys("xwy", (3, 3))) == 0


# -- what records say, against ONNX's own evaluator -------------------------------------------------------------------

ROWS, STEPS, WIDTH = 3, 5, 7
_BOOLEAN = {"And", "Or", "Xor", "Not"}
_BITS = {"BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "BitShift"}
_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "BitShift": {"direction": "LEFT"},
    "Cast": {"to": TensorProto.FLOAT},
    "Mod": {"fmod": 1},
    "Transpose": {"perm": [1, 0, 2]},
    "LayerNormalization": {"axis": 2},
    "RMSNormalization": {"axis": 2},
}
# onnxruntime's own operators in the standard domain: the reference evaluator does not have them
_ELSEWHERE = {"SimplifiedLayerNormalization"}


def operands_of(op: str, opset: int) -> list[Array]:
    """Operands of one shape, but for vectors of normalizations and weights of products."""
    rng = np.random.default_rng(1)
    schema = onnx.defs.get_schema(op, opset)
    count = {"Sum": 2, "Max": 2, "Min": 2, "Mean": 2}.get(op, schema.min_input)
    made: list[Array] = [rng.uniform(0.1, 0.9, (ROWS, STEPS, WIDTH)).astype(np.float32) for _ in range(count)]
    if op in _BOOLEAN:
        return [array > 0.5 for array in made]
    if op in _BITS:
        return [(array * 4).astype(np.uint8) for array in made]
    if op == "Where":
        return [made[0] > 0.5, *made[1:]]
    if op == "Acosh":
        return [array + 1 for array in made]
    if op == "Gemm":
        return [made[0][0], made[1][0].T]
    if op == "MatMul":
        return [made[0], made[1].swapaxes(1, 2)]
    if op.endswith("Normalization"):
        return [made[0], *(rng.normal(size=WIDTH).astype(np.float32) for _ in made[1:])]
    return made


def run(op: str, operands: list[Array], opset: int, **attributes: Any) -> Array:
    names = [f"x{place}" for place in range(len(operands))]
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, operands, strict=True)
    ]
    node = helper.make_node(op, names, ["y"], **attributes)
    graph = helper.make_graph([node], "g", infos, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    result: Array = ReferenceEvaluator(model).run(None, dict(zip(names, operands, strict=True)))[0]
    return result


def settings_of(op: str, opset: int) -> Iterator[dict[str, Any]]:
    """What to run an operator with: reductions over each axis, those with an axis with it and without."""
    own = _ATTRIBUTES.get(op, {})
    if op.startswith("Reduce"):
        yield from ({"axes": [axis], "keepdims": keep} for axis in (0, 1, 2) for keep in (0, 1))
    elif op in ("Softmax", "LogSoftmax", "Hardmax"):
        yield from ({}, *({"axis": axis} for axis in (0, 1, 2, -1)))
    else:
        yield own


def cases() -> Iterator[tuple[str, int]]:
    for domain, op in with_field("positionwise"):
        if domain or op in _ELSEWHERE:
            continue
        newest = 11 if op.startswith("Reduce") else 24  # axes are an attribute there
        yield from ((op, opset) for opset in {11, newest} if _existed(op, opset))


def _existed(op: str, opset: int) -> bool:
    try:
        onnx.defs.get_schema(op, opset)
    except onnx.defs.SchemaError:
        return False
    return True


@pytest.mark.parametrize(("op", "opset"), sorted(cases()))
def test_taking_one_position_before_an_operator_is_taking_it_after(op: str, opset: int) -> None:
    """On each axis that the record lets a Gather move up through, in every setting."""
    for attributes in settings_of(op, opset):
        operands = operands_of(op, opset)
        whole = run(op, operands, opset, **attributes)
        names = tuple(f"x{place}" for place in range(len(operands)))
        shapes = {name: array.shape for name, array in zip(names, operands, strict=True)} | {"y": whole.shape}
        node = Node(0, "n", op, "", names, ("y",), attributes)
        for axis in range(whole.ndim):
            carried = OPERATORS["", op].positionwise(PositionContext(node, axis, shapes, opset))
            narrowed = list(operands)
            for operand, place in carried or ():
                narrowed[operand] = np.take(operands[operand], [2], axis=place)
            if carried:
                after = np.take(whole, [2], axis=axis)
                np.testing.assert_allclose(run(op, narrowed, opset, **attributes), after, rtol=1e-5, atol=1e-6)


def constant_cases() -> list[str]:
    passing = {op for domain, op in with_field("broadcasts_constants") if not domain}
    return sorted(passing - {"BatchNormalization", "CastLike", "Mean"})  # the evaluator's Mean adds in place


@pytest.mark.parametrize("op", constant_cases())
def test_a_constant_of_size_one_gives_what_the_whole_operand_would(op: str) -> None:
    opset = 24
    for place, operand in enumerate(operands_of(op, opset)):
        if place and op == "Clip":
            continue
        operands = operands_of(op, opset)
        small = operand[:, :1]  # what a branch gives, the same at all positions
        attributes = _ATTRIBUTES.get(op, {})
        operands[place] = np.repeat(small, STEPS, axis=1)
        whole = run(op, operands, opset, **attributes)
        operands[place] = small
        np.testing.assert_allclose(np.broadcast_to(run(op, operands, opset, **attributes), whole.shape), whole, 1e-6)


# -- the axes of a softmax, which changed in opset 13 -----------------------------------------------------------------


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize(
    ("opset", "attributes", "axes"),
    [(11, {}, (1, 2)), (12, {"axis": -1}, (2,)), (11, {"axis": 0}, (0, 1, 2)), (13, {}, (2,)), (17, {"axis": 1}, (1,))],
)
def test_a_softmax_ran_over_all_axes_from_its_own_before_opset_13(op, opset, attributes, axes) -> None:
    node = Node(0, "n", op, "", ("x",), ("y",), attributes)
    assert softmax_axes(node, 3, opset) == axes


@pytest.mark.parametrize(("opset", "moved"), [(11, False), (13, True)])
def test_a_gather_stays_below_a_softmax_that_mixes_its_positions(opset: int, moved: bool) -> None:
    b = Build(opset=opset)
    shares = b.op("Softmax", b.op("MatMul", b.input("N", STEPS, WIDTH), b.weight(WIDTH, ROWS)))
    model = Model.of(b.proto(b.op("Gather", shares, b.const(np.array(0)), axis=1)))
    inside = find_unused_positions(model.graph, probe(model).shapes).inside
    assert bool(inside) == moved
    assert Graph(model.proto).opset == opset


# -- macs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", with_field("macs"), ids=".".join)
def test_what_has_macs_counts_some(key: Key) -> None:
    """Three axes of size three suit all of them."""
    names = tuple("abcdefghi")
    node = Node(0, "n", key[1], key[0], names[:3], ("y",), {"equation": "bij,bjk,bkl->bil"})
    node = replace(node, inputs=names) if key[1].startswith("QLinear") else node
    assert node_macs(node, dict.fromkeys([*names, "y"], (3, 3, 3))) > 0
