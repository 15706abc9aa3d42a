"""Models that must be refused: each a way to spoil a good one, with what the refusal says.

Each entry takes an MLP with inputs `x` (batch, 6), weights `w0`.. and an output `y`, and changes it in place.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Spoil = Callable[[onnx.ModelProto], None]


def weight(proto: onnx.ModelProto, name: str = "w0") -> onnx.TensorProto:
    return next(tensor for tensor in proto.graph.initializer if tensor.name == name)


def set_weight(value: float) -> Spoil:
    def spoil(proto: onnx.ModelProto) -> None:
        array = numpy_helper.to_array(weight(proto)).copy()
        array[1, 2] = value
        weight(proto).CopyFrom(numpy_helper.from_array(array, "w0"))

    return spoil


def opset(version: int, domain: str = "") -> Spoil:
    def spoil(proto: onnx.ModelProto) -> None:
        del proto.opset_import[:]
        proto.opset_import.append(helper.make_opsetid(domain, version))

    return spoil


def ir(version: int) -> Spoil:
    def spoil(proto: onnx.ModelProto) -> None:
        proto.ir_version = version

    return spoil


def custom(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].op_type, proto.graph.node[1].domain = "Sparkle", "acme.ops"
    proto.opset_import.append(helper.make_opsetid("acme.ops", 1))


def custom_inside(proto: onnx.ModelProto) -> None:
    """A custom operator in the branch of an If."""
    sparkle = helper.make_node("Sparkle", ["h0.relu"], ["inner"], domain="acme.ops")
    body = helper.make_graph([sparkle], "b", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)])
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    proto.graph.node.append(helper.make_node("If", ["c"], ["chosen"], then_branch=body, else_branch=body))
    proto.opset_import.append(helper.make_opsetid("acme.ops", 1))


def cyclic(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input[0] = "h1.relu"


def reads_itself(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].input[0] = proto.graph.node[1].output[0]


def made_twice(proto: onnx.ModelProto) -> None:
    proto.graph.node[2].output[0] = proto.graph.node[0].output[0]


def stored_twice(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(weight(proto))


def input_twice(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(proto.graph.input[0])


def output_twice(proto: onnx.ModelProto) -> None:
    proto.graph.output.append(proto.graph.output[0])


def made_and_stored(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].output[0] = "w1"


def undefined(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input[0] = "nowhere"


def no_such_output(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].name = "nowhere"


def no_such_attribute(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].attribute.append(helper.make_attribute("sparkle", 1))


def odd_attribute(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].attribute.append(helper.make_attribute("transA", "yes"))


def too_few_inputs(proto: onnx.ModelProto) -> None:
    del proto.graph.node[0].input[:]


def no_outputs_of_a_node(proto: onnx.ModelProto) -> None:
    del proto.graph.node[0].output[:]


def dims(name: str, *sizes: int) -> Spoil:
    def spoil(proto: onnx.ModelProto) -> None:
        del weight(proto, name).dims[:]
        weight(proto, name).dims.extend(sizes)

    return spoil


def data_type(kind: int) -> Spoil:
    def spoil(proto: onnx.ModelProto) -> None:
        weight(proto).data_type = kind

    return spoil


def input_dim(size: int) -> Spoil:
    def spoil(proto: onnx.ModelProto) -> None:
        proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = size

    return spoil


def zero_width(proto: onnx.ModelProto) -> None:
    """A hidden layer without units."""
    for name, shape in {"w0": (6, 0), "b0": (0,), "w1": (0, 10)}.items():
        weight(proto, name).CopyFrom(numpy_helper.from_array(np.zeros(shape, np.float32), name))


def untyped_input(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].ClearField("type")


def segment(proto: onnx.ModelProto) -> None:
    weight(proto).segment.begin = 0
    weight(proto).segment.end = 3


def recursive_function(proto: onnx.ModelProto) -> None:
    call = helper.make_node("Loops", ["a"], ["b"], domain="acme.ops")
    proto.functions.append(
        helper.make_function("acme.ops", "Loops", ["a"], ["b"], [call], [helper.make_opsetid("acme.ops", 1)])
    )
    proto.graph.node[1].op_type, proto.graph.node[1].domain = "Loops", "acme.ops"
    proto.opset_import.append(helper.make_opsetid("acme.ops", 1))


def no_inputs(proto: onnx.ModelProto) -> None:
    del proto.graph.input[:]


def odd_reference(proto: onnx.ModelProto) -> None:
    """An attribute that stands for a function's, outside of any."""
    made = onnx.AttributeProto(name="transA", ref_attr_name="other", type=onnx.AttributeProto.INT)
    proto.graph.node[0].attribute.append(made)


def unknown_input_type(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = -7


def laughs(proto: onnx.ModelProto) -> None:
    """Functions that call the one before ten times each: a few hundred bytes that become 10**9 operators."""
    called = "Relu", ""
    for number in range(9):
        wires = [f"t{step}" for step in range(11)]
        calls = [helper.make_node(called[0], [a], [b], domain=called[1]) for a, b in pairwise(wires)]
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("acme.ops", 1)]
        proto.functions.append(helper.make_function("acme.ops", f"L{number}", ["t0"], ["t10"], calls, imports))
        called = f"L{number}", "acme.ops"
    proto.graph.node[1].op_type, proto.graph.node[1].domain = called
    proto.opset_import.append(helper.make_opsetid("acme.ops", 1))


SPOILED: dict[str, tuple[Spoil, str]] = {
    "NaN weight": (set_weight(float("nan")), "'w0' holds NaN"),
    "infinite weight": (set_weight(float("inf")), "the input of fc1 cannot be measured"),
    "opset of the future": (opset(999), "operator set 999 is not supported"),
    "opset 0": (opset(0), "operator set 0 is not"),
    "negative opset": (opset(-3), "operator set -3 is not"),
    "no standard opset": (opset(17, "acme.ops"), "No opset import for domain ''"),
    "IR of the future": (ir(999), "IR version 999 is not supported"),
    "IR 0": (ir(0), "IR version 0 is not"),
    "negative IR": (ir(-1), "IR version -1 is not"),
    "custom operator": (custom, "'Sparkle' belongs to the custom domain 'acme.ops'"),
    "custom operator inside": (custom_inside, "'Sparkle' belongs to the custom domain 'acme.ops'"),
    "cyclic": (cyclic, "topologically sorted"),
    "node that reads itself": (reads_itself, "topologically sorted"),
    "tensor made twice": (made_twice, "'h0' has been used"),
    "tensor stored twice": (stored_twice, "w0 initializer name is not unique"),
    "input twice": (input_twice, "'x' has been used"),
    "output twice": (output_twice, "output 'y' is listed twice"),
    "tensor made and stored": (made_and_stored, "'w1' has been used"),
    "tensor that nothing makes": (undefined, "'nowhere'"),
    "output that nothing makes": (no_such_output, "'nowhere'"),
    "unknown attribute": (no_such_attribute, "sparkle"),
    "attribute of another type": (odd_attribute, "Mismatched attribute type"),
    "operator without inputs": (too_few_inputs, "has input size 0"),
    "operator without outputs": (no_outputs_of_a_node, "has output size 0"),
    "fewer values than dims say": (dims("w0", 6, 13), "has 288 bytes; its shape [6, 13] takes 312"),
    "more values than dims say": (dims("w0", 6, 11), "has 288 bytes; its shape [6, 11] takes 264"),
    "negative dims": (dims("w0", -6, -12), "negative size in its shape [-6, -12]"),
    "huge dims": (dims("w0", 2**40, 2**40), "has 288 bytes; its shape"),
    "shapes that do not fit": (dims("w0", 12, 6), "onnxruntime "),
    "unknown data type": (data_type(99), "unknown data type 99"),
    "undefined data type": (data_type(0), "unknown data type 0"),
    "other data type": (data_type(TensorProto.INT32), "onnxruntime refuses the model: Type Error"),
    "string data type": (data_type(TensorProto.STRING), "takes 576"),
    "input of size 0": (input_dim(0), "onnxruntime "),
    "huge input size": (input_dim(2**62), "4611686018427387904"),
    "untyped input": (untyped_input, "Field 'type'"),
    "tensor in segments": (segment, "stored in segments"),
    "function that calls itself": (recursive_function, "its function 'Loops' calls itself"),
    "reference to no function": (odd_reference, "attribute 'transA' of 'fc0' refers to an attribute of a function"),
    "unknown input type": (unknown_input_type, "'x' has the unknown data type -7"),
    "functions without end": (laughs, "more than 1,000,000 operators"),
    "no inputs": (no_inputs, "'x'"),
}
