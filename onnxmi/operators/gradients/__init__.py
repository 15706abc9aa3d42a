"""Gradients of operators: for each, what comes back to its operands from the gradient of its results."""
