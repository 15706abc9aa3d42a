"""The only door to onnx and onnx-graphsurgeon: reading, viewing, editing and saving model files."""

from onnxmi.model.graph import Graph, Node, TensorInfo
from onnxmi.model.load import Model, load
from onnxmi.model.save import save

__all__ = ["Graph", "Model", "Node", "TensorInfo", "load", "save"]
