"""ONNX's own node cases, and a wrapping that puts the operator between stored numbers and contractions.

What a case feeds becomes a stored tensor, times a one that is fed; what it gives is contracted over every axis with
random stored weights. So every axis that the operator's rule lets pass is a layer, space and batch included, and its
numbers are those that ONNX's case was made for.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.test_case import TestCase

IR_VERSION = min(13, onnx.IR_VERSION)  # onnxruntime reads at most 13, and onnx writes 14; older ones read less
OPSETS = range(7, 27)  # of the standard domain; what an operator of opset 27 does, it did before
WIDTH = 3  # of what every axis is contracted to
EXPANDED = "expanded functions"
FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}


@cache
def by_operator() -> dict[str, list[TestCase]]:
    """Operator -> its cases; those whose function was written out are together under one name."""
    from onnx.backend.test.loader import load_model_tests

    found: dict[str, list[TestCase]] = defaultdict(list)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in map(_read, sorted(load_model_tests(kind="node"), key=lambda case: case.name)):
            nodes = case.model.graph.node
            if all(node.domain in ("", "ai.onnx") for node in nodes) and _is_numbers(case):
                found[nodes[0].op_type if len(nodes) == 1 else EXPANDED].append(case)
    return found


def _read(case: TestCase) -> TestCase:
    """Read a case that is a folder of files, as onnx before 1.23 ships them; newer versions make them in memory."""
    if case.model is not None:
        return case
    folder = Path(case.model_dir)
    model = onnx.load(folder / "model.onnx")
    graph = model.graph
    sides = [
        [_tensor(folder / "test_data_set_0" / f"{side}_{number}.pb", info) for number, info in enumerate(infos)]
        for side, infos in (("input", graph.input), ("output", graph.output))
    ]
    return replace(case, model=model, data_sets=[tuple(sides)])


def _tensor(path: Path, info: onnx.ValueInfoProto) -> TensorProto | None:
    """Read a tensor; None where a case has a sequence or an optional value."""
    return onnx.load_tensor(path) if info.type.HasField("tensor_type") else None


def _is_numbers(case: TestCase) -> bool:
    """Whether a case reads and makes arrays of numbers alone: no sequences, optionals or strings."""
    values = [value for side in case.data_sets[0] for value in side]
    infos = [*case.model.graph.input, *case.model.graph.output]
    known = all(isinstance(value, (np.ndarray, np.generic, TensorProto, int, float)) for value in values)
    tensors = all(info.type.HasField("tensor_type") for info in infos)
    return known and tensors and all(info.type.tensor_type.elem_type != TensorProto.STRING for info in infos)


def wrap(case: TestCase, produced: Sequence[bool]) -> onnx.ModelProto:
    """The case between stored numbers and contractions; inputs that are not `produced` are stored as they are."""
    writer = _Writer()
    for info, value, flag in zip(case.model.graph.input, case.data_sets[0][0], produced, strict=True):
        writer.feed(info, _array(value), flag)
    writer.nodes.extend(case.model.graph.node)
    shapes = [_array(value).shape for value in case.data_sets[0][1]]
    for info, shape in zip(case.model.graph.output, shapes, strict=True):
        writer.contract(info, shape)
    stored = [*case.model.graph.initializer, *writer.stored]
    graph = helper.make_graph(writer.nodes, "g", writer.inputs, writer.outputs, initializer=stored)
    opset = min(max(OPSETS[0], _opset(case.model)), OPSETS[-1])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)


def _opset(model: onnx.ModelProto) -> int:
    return max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _array(value: Any) -> np.ndarray:
    array = numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)
    if array.dtype.kind != "f":
        return array
    return np.nan_to_num(array, nan=1.0, posinf=2.0, neginf=-2.0)  # what is not finite cannot be compared


def choices(case: TestCase, elementwise: bool) -> Iterator[tuple[bool, ...]]:
    """Which inputs are produced: all that are numbers, and only the first (the others are weights then)."""
    kinds = [info.type.tensor_type.elem_type for info in case.model.graph.input]
    every = tuple(kind in FLOATS or place == 0 or elementwise for place, kind in enumerate(kinds))
    first = tuple(place == 0 for place in range(len(kinds)))
    yield from dict.fromkeys((every, first))


class _Writer:
    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def op(self, op: str, *inputs: str, made: str | None = None, **attributes: Any) -> str:
        made = made or f"wrap.{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [made], name=f"n.{made}", **attributes))
        return made

    def feed(self, info: onnx.ValueInfoProto, value: np.ndarray, produced: bool) -> None:
        """Give an input its number from a stored tensor; a produced one depends on what is fed, too."""
        kind = info.type.tensor_type.elem_type
        if not produced:
            self.stored.append(numpy_helper.from_array(value, info.name))
            return
        number = value.astype(np.float32)
        self.stored.append(numpy_helper.from_array(number, f"{info.name}.stored"))
        self.inputs.append(
            helper.make_tensor_value_info(f"{info.name}.one", TensorProto.INT64, [1] * max(1, value.ndim))
        )
        one = self.op("Cast", f"{info.name}.one", to=TensorProto.FLOAT)
        if not value.ndim:
            one = self.op("Squeeze", one)
        if kind == TensorProto.FLOAT:
            self.op("Mul", f"{info.name}.stored", one, made=info.name)
        else:
            self.op("Cast", self.op("Mul", f"{info.name}.stored", one), made=info.name, to=kind)

    def contract(self, info: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
        """Contract every axis of an output: each is turned to the end and multiplied by a matrix."""
        seen = info.name
        if info.type.tensor_type.elem_type != TensorProto.FLOAT:
            seen = self.op("Cast", seen, to=TensorProto.FLOAT)
        for axis in range(len(shape)):
            weight = f"{info.name}.weight{axis}"
            number = self.rng.normal(size=(shape[axis], WIDTH)).astype(np.float32)
            self.stored.append(numpy_helper.from_array(number, weight))
            if len(shape) > 1:
                seen = self.op("Transpose", seen, perm=[*range(1, len(shape)), 0])
            seen = self.op("MatMul", seen, weight)
        made = self.op("Identity", seen)
        self.outputs.append(helper.make_tensor_value_info(made, TensorProto.FLOAT, [WIDTH] * len(shape)))
