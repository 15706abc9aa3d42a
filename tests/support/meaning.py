"""What is inferred of a graph's outputs, in short."""

from __future__ import annotations

import onnx
from onnx import helper

from onnxmi.outputs.infer import infer_meaning
from onnxmi.outputs.sample_axis import Runs
from onnxmi.outputs.view import Meaning, View
from onnxmi.transforms.analysis import analyze


def meaning_of(proto: onnx.ModelProto) -> Meaning:
    found = analyze(proto)
    return infer_meaning(found.model, found.probe, found.graph, Runs.synthetic(found.model, found.probe))


def only(proto: onnx.ModelProto) -> View:
    (view,) = meaning_of(proto).views
    return view


def facts(view: View) -> tuple[str, str, tuple[int, ...], int | None]:
    return view.kind, view.link, view.axes, view.sample_axis


def of_type(proto: onnx.ModelProto, name: str, kind: int) -> onnx.ModelProto:
    """Declare another type of a graph output."""
    info = next(info for info in proto.graph.output if info.name == name)
    info.CopyFrom(helper.make_tensor_value_info(name, kind, None))
    return proto
