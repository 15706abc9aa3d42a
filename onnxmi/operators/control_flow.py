"""Operators that run graphs of their own: If, Loop and Scan. Nothing inside a body is cut."""

from __future__ import annotations

from collections.abc import Mapping

from onnxmi.operators.operator import STANDARD, Key, Operator, ResultSize

OPERATORS: Mapping[Key, Operator] = {
    (STANDARD, "If"): Operator(has_body=True),
    (STANDARD, "Loop"): Operator(has_body=True, result_size=ResultSize(stated=(0, 1))),
    (STANDARD, "Scan"): Operator(has_body=True),
}
