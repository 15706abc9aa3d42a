"""Gradients of the outputs by inner tensors: how much the outputs mind a change inside."""

from onnxmi.gradients.backward import PRODUCTS, RULES, Backward
from onnxmi.gradients.fused import before_activation

__all__ = ["PRODUCTS", "RULES", "Backward", "before_activation"]
