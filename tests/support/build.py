"""A builder of small ONNX models: each call adds a node or a stored tensor and returns the tensor's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Dims = Sequence[int | str | None]

OPSET = 17
_VERSIONS = {"ai.onnx.ml": 3}
IR_VERSION = 10  # onnxruntime reads at most 13, and onnx would write 14


class Build:
    """A graph under construction. Weights are drawn from a generator with a fixed seed, scaled by their fan-in."""

    def __init__(self, seed: int = 0, opset: int = OPSET, dtype: type = np.float32) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = opset
        self.dtype = dtype
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, Array] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.count = 0

    # -- names and tensors ------------------------------------------------------------------------------------------

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def input(self, *dims: int | str | None, name: str = "x", dtype: type | None = None) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, _elem(dtype or self.dtype), list(dims)))
        return name

    def const(self, value: Any, name: str | None = None) -> str:
        """Store an array as an initializer; floats are cast to the model's dtype."""
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(self.dtype)
        name = name or self.name("c")
        self.initializers[name] = array
        return name

    def ints(self, *values: int) -> str:
        return self.const(np.array(values, dtype=np.int64))

    def weight(self, *shape: int, fan_in: int | None = None, name: str | None = None) -> str:
        fan_in = fan_in or int(np.prod(shape[1:], dtype=int)) or 1
        return self.const(self.rng.normal(size=shape) / np.sqrt(fan_in), name)

    def vector(self, size: int, name: str | None = None) -> str:
        return self.const(self.rng.normal(size=size), name)

    # -- nodes ------------------------------------------------------------------------------------------------------

    def op(
        self, op: str, *inputs: str, outputs: int = 1, domain: str = "", name: str | None = None, **attrs: Any
    ) -> Any:
        """Add a node; return its output's name, or the list of them if there are several."""
        made = [self.name(op.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, name=name or f"n_{made[0]}", domain=domain, **attrs))
        return made[0] if outputs == 1 else made

    def gemm(self, x: str, k: int, m: int, **attrs: Any) -> str:
        """y = x @ w.T + b, as torch exports it."""
        return self.op("Gemm", x, self.weight(m, k), self.vector(m), transB=1, **attrs)

    def dense(self, x: str, k: int, m: int) -> str:
        """y = x @ w + b as MatMul and Add."""
        return self.op("Add", self.op("MatMul", x, self.weight(k, m, fan_in=k)), self.vector(m))

    def conv(self, x: str, c: int, o: int, kernel: Sequence[int] = (3, 3), group: int = 1, **attrs: Any) -> str:
        weight = self.weight(o, c // group, *kernel)
        if "pads" not in attrs and "auto_pad" not in attrs:
            attrs["pads"] = [k // 2 for k in kernel] * 2
        return self.op("Conv", x, weight, self.vector(o), group=group, kernel_shape=list(kernel), **attrs)

    def batch_norm(self, x: str, c: int) -> str:
        variance = self.const(self.rng.uniform(0.5, 2.0, size=c))
        return self.op("BatchNormalization", x, self.vector(c), self.vector(c), self.vector(c), variance)

    def reshape(self, x: str, *shape: int) -> str:
        return self.op("Reshape", x, self.ints(*shape))

    # -- the end ----------------------------------------------------------------------------------------------------

    def proto(
        self,
        *outputs: str | onnx.ValueInfoProto,
        dims: Sequence[Dims] | None = None,
        value_info: bool = False,
        untyped: bool = False,
    ) -> onnx.ModelProto:
        """Finish: the outputs' types and shapes are inferred where they are not given.

        What cannot be inferred is a float tensor, or stays without a type.
        """
        infos = [onnx.ValueInfoProto(name=one) if isinstance(one, str) else one for one in outputs]
        tensors = [numpy_helper.from_array(value, name) for name, value in self.initializers.items()]
        graph = helper.make_graph(self.nodes, "g", self.inputs, infos, initializer=tensors)
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [
            helper.make_opsetid(domain, _VERSIONS.get(domain, 1))
            for domain in sorted({n.domain for n in self.nodes if n.domain})
        ]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        inferred = onnx.shape_inference.infer_shapes(made, data_prop=True)
        for info in inferred.graph.output:
            if info.type.WhichOneof("value") is None and not untyped:  # made by operators that onnx does not know
                info.CopyFrom(helper.make_tensor_value_info(info.name, _elem(self.dtype), None))
        del made.graph.output[:]
        made.graph.output.extend(inferred.graph.output)
        for info, given in zip(made.graph.output, dims or (), strict=False):
            info.CopyFrom(helper.make_tensor_value_info(info.name, info.type.tensor_type.elem_type, list(given)))
        if value_info:
            made.graph.value_info.extend(inferred.graph.value_info)
        return made


def _elem(dtype: type) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype))) or TensorProto.FLOAT


Step = Callable[[Build, str], str]
WIDTH, SPACE = 11, (5, 7)  # of the layers around a step


def between_gemms(step: Step, *, width: int = WIDTH, after: int | None = None, opset: int = OPSET) -> onnx.ModelProto:
    """An MLP with one hidden layer and a step on it: (N, 7) -> Gemm -> (N, width) -> step -> (N, after) -> Gemm."""
    b = Build(opset=opset)
    made = step(b, b.gemm(b.input("N", 7), 7, width))
    return b.proto(b.gemm(made, after or width, 5))


def between_convs(step: Step, *, width: int = WIDTH, after: int | None = None, opset: int = OPSET) -> onnx.ModelProto:
    """A CNN with one hidden layer and a step on it: (N, 3, 5, 7) -> Conv -> step -> Conv -> (N, 7, ...)."""
    b = Build(opset=opset)
    made = step(b, b.conv(b.input("N", 3, *SPACE), 3, width))
    return b.proto(b.conv(made, after or width, 7, kernel=(1, 1)))


def between_matmuls(step: Step, *, width: int = WIDTH, after: int | None = None, opset: int = OPSET) -> onnx.ModelProto:
    """Tokens with one hidden layer and a step on it: (N, 5, 7) -> MatMul -> (N, 5, width) -> step -> MatMul."""
    b = Build(opset=opset)
    made = step(b, b.dense(b.input("N", 5, 7), 7, width))
    return b.proto(b.dense(made, after or width, 3))
