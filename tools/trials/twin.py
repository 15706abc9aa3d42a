"""A torch twin of an ONNX model: the same graph, run node by node, with its stored weights as parameters.

So that whatever was cut out of a file can be fine-tuned and written back into the same file, without the code that the
file once came from. Convolutions and Gemms become modules, other stored floats parameters; the rest is computed.

    twin = Twin(onnx.load("model.pruned.onnx"))
    ...                                                    # train twin.parameters()
    onnx.save(written_back(proto, twin), "model.tuned.onnx")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F  # noqa: N812 (its own documentation's name)
from onnx import helper, numpy_helper
from torch import Tensor, nn

Attributes = Mapping[str, Any]


class Twin(nn.Module):
    """Computes the first output of a model from its inputs, given by name.

    Attributes
    ----------
    places : dict
        Name of a stored tensor -> name of the parameter that holds it.

    Raises
    ------
    ValueError
        For an operator that has no twin.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        super().__init__()
        self.places: dict[str, str] = {}
        self._inputs = [info.name for info in proto.graph.input]
        self._output = proto.graph.output[0].name
        self._fixed: dict[str, Tensor] = {}
        self._stored: dict[str, str] = {}
        self.modules_of = nn.ModuleDict()
        self.values = nn.ParameterDict()
        arrays = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
        self._steps = [self._step(i, node, arrays) for i, node in enumerate(proto.graph.node)]

    def _step(self, index: int, node: onnx.NodeProto, arrays: dict[str, Any]) -> tuple[onnx.NodeProto, Attributes, str]:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        key = f"n{index}"
        if node.op_type in MODULES and node.input[1] in arrays and node.input[1] not in self.places:
            self.modules_of[key] = MODULES[node.op_type](attributes, *(arrays[n] for n in node.input[1:]))
            for name, parameter in zip(node.input[1:], ("weight", "bias"), strict=False):
                self.places[name] = f"modules_of.{key}.{parameter}"
            return node, attributes, key
        if node.op_type not in OPERATORS:
            raise ValueError(f"operator {node.op_type} has no torch twin")
        for name in node.input:
            if name in arrays and name not in self._fixed and name not in self._stored:
                self._store(name, arrays[name])
        return node, attributes, ""

    def _store(self, name: str, array: Any) -> None:
        value = torch.from_numpy(np.array(array))
        if value.is_floating_point() and value.ndim:
            key = f"v{len(self.values)}"
            self.values[key] = nn.Parameter(value)
            self.places[name], self._stored[name] = f"values.{key}", key
        else:
            self._fixed[name] = value

    def forward(self, *inputs: Tensor) -> Tensor:
        known = dict(zip(self._inputs, inputs, strict=True))
        for index in range(len(self._steps)):
            self.advance(index, known)
        return known[self._output]

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """In the order in which they are run."""
        return [node for node, _, _ in self._steps]

    def advance(self, index: int, known: dict[str, Any]) -> None:
        """Run one node on what is known by name, and add what it puts out."""
        node, attributes, key = self._steps[index]
        if key:
            known[node.output[0]] = self.modules_of[key](known[node.input[0]])
        else:
            operands = [self._operand(name, known) for name in node.input]
            known[node.output[0]] = OPERATORS[node.op_type](attributes, *operands)

    def _operand(self, name: str, known: dict[str, Any]) -> Any:
        if name in known:
            return known[name]
        if name in self._stored:
            return self.values[self._stored[name]]
        return self._fixed[name] if name else None


def written_back(proto: onnx.ModelProto, twin: Twin) -> onnx.ModelProto:
    """A copy of the model with the twin's weights."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    state = twin.state_dict()
    for tensor in copy.graph.initializer:
        if tensor.name in twin.places:
            tensor.CopyFrom(numpy_helper.from_array(state[twin.places[tensor.name]].numpy(), tensor.name))
    return copy


# -- modules ----------------------------------------------------------------------------------------------------------


def _conv(a: Attributes, weight: Any, bias: Any = None) -> nn.Module:
    pads = a.get("pads", [0, 0, 0, 0])
    if list(pads[:2]) != list(pads[2:]) or a.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ValueError("a convolution that is padded unevenly has no torch twin")
    groups = a.get("group", 1)
    settings = {"stride": a.get("strides", 1), "padding": tuple(pads[:2]), "dilation": a.get("dilations", 1)}
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    shape = weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:])
    return _filled(nn.Conv2d(*shape, groups=groups, bias=bias is not None, **settings), weight, bias)


def _gemm(a: Attributes, weight: Any, bias: Any = None) -> nn.Module:
    if (a.get("transA", 0), a.get("transB", 0), a.get("alpha", 1.0), a.get("beta", 1.0)) != (0, 1, 1.0, 1.0):
        raise ValueError("a Gemm that is no linear layer has no torch twin")
    return _filled(nn.Linear(weight.shape[1], weight.shape[0], bias is not None), weight, bias)


def _filled(module: Any, weight: Any, bias: Any) -> nn.Module:
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(np.array(weight)))
        if bias is not None:
            module.bias.copy_(torch.from_numpy(np.array(bias)))
    return module


MODULES: Mapping[str, Callable[..., nn.Module]] = {"Conv": _conv, "Gemm": _gemm}

# -- operators --------------------------------------------------------------------------------------------------------

_TYPES = {onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.INT64: torch.int64, onnx.TensorProto.BOOL: torch.bool}


def _max_pool(a: Attributes, x: Tensor) -> Tensor:
    padding = a.get("pads", [0, 0])[:2]
    return F.max_pool2d(x, a["kernel_shape"], a.get("strides"), padding, ceil_mode=bool(a.get("ceil_mode")))


def _flatten(a: Attributes, x: Tensor) -> Tensor:
    axis = a.get("axis", 1)
    return x.flatten(1) if axis == 1 else x.reshape(-1, int(np.prod(x.shape[axis:])))


def _reshape(_a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape.tolist())])


def _unsqueeze(_a: Attributes, x: Tensor, axes: Tensor) -> Tensor:
    for axis in sorted(axes.reshape(-1).tolist()):
        x = x.unsqueeze(axis)
    return x


def _slice(_a: Attributes, x: Tensor, *bounds: Tensor) -> Tensor:
    starts, ends, *rest = (b.reshape(-1).tolist() for b in bounds)
    axes = rest[0] if rest else range(len(starts))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    index = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        index[axis] = slice(start, end, step)
    return x[tuple(index)]


def _gather(a: Attributes, x: Tensor, index: Tensor) -> Tensor:
    axis = a.get("axis", 0) % x.ndim
    index = torch.where(index < 0, index + x.shape[axis], index)
    if axis == 0 and x.is_floating_point() and x.ndim == 2:
        return F.embedding(index, x)
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    return x.index_select(axis, index.reshape(-1)).reshape(shape)


def _layer_norm(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.layer_norm(x, weight.shape, weight, bias, a.get("epsilon", 1e-5))


def _constant(a: Attributes) -> Tensor:
    return torch.from_numpy(np.array(numpy_helper.to_array(a["value"])))


def _filled_shape(a: Attributes, shape: Tensor) -> Tensor:
    return torch.full(shape.tolist(), numpy_helper.to_array(a["value"]).item() if "value" in a else 0.0)


OPERATORS: Mapping[str, Callable[..., Tensor]] = {
    "Add": lambda a, x, y: x + y,
    "And": lambda a, x, y: x & y,
    "Cast": lambda a, x: x.to(_TYPES[a["to"]]),
    "Concat": lambda a, *parts: torch.cat(parts, a["axis"]),
    "Constant": _constant,
    "ConstantOfShape": _filled_shape,
    "Div": lambda a, x, y: x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc"),
    "Equal": lambda a, x, y: x == y,
    "Erf": lambda a, x: torch.erf(x),
    "Expand": lambda a, x, shape: x.expand(torch.broadcast_shapes(x.shape, tuple(shape.tolist()))),
    "Flatten": _flatten,
    "Gather": _gather,
    "GlobalAveragePool": lambda a, x: F.adaptive_avg_pool2d(x, 1),
    "GreaterOrEqual": lambda a, x, y: x >= y,
    "Identity": lambda a, x: x,
    "LayerNormalization": _layer_norm,
    "MatMul": lambda a, x, y: x @ y,
    "MaxPool": _max_pool,
    "Mul": lambda a, x, y: x * y,
    "Range": lambda a, start, end, step: torch.arange(start.item(), end.item(), step.item()),
    "Relu": lambda a, x: F.relu(x),
    "Reshape": _reshape,
    "Shape": lambda a, x: torch.tensor(x.shape),
    "Slice": _slice,
    "Softmax": lambda a, x: x.softmax(a.get("axis", -1)),
    "Sub": lambda a, x, y: x - y,
    "Tanh": lambda a, x: x.tanh(),
    "Transpose": lambda a, x: x.permute(*a["perm"]),
    "Unsqueeze": _unsqueeze,
    "Where": lambda a, c, x, y: torch.where(c, x, y),
}
