"""Dimension terms and their unification: which axes of which tensors can only be cut together."""
