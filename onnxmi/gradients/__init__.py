"""Gradients of the outputs by inner tensors: how much the outputs mind a change inside."""

from onnxmi.gradients.backward import DIFFERENTIABLE, PRODUCTS, RULES, Backward
from onnxmi.gradients.call import NoGradientError
from onnxmi.gradients.fused import before_activation

__all__ = ["DIFFERENTIABLE", "PRODUCTS", "RULES", "Backward", "NoGradientError", "before_activation"]
