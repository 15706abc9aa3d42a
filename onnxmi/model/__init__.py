"""ONNX files in and out: a read-only graph, edits on copies, external data. Builds ONNX models."""

from onnxmi.model.bodies import Body, Link
from onnxmi.model.graph import Graph, Node, TensorInfo
from onnxmi.model.load import Model, load
from onnxmi.model.save import save

__all__ = ["Body", "Graph", "Link", "Model", "Node", "TensorInfo", "load", "save"]
