"""Operators that work element by element, with broadcasting: the largest family, one rule."""

from __future__ import annotations

from onnxmi.operators.context import Rule, Site
from onnxmi.operators.rules.apply_signature import broadcast, elementwise

_UNARY = """
    Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish
    Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus
    Softsign Sqrt Swish Tan Tanh ThresholdedRelu
"""
_BROADCASTING = """
    Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod
    Mul Or PRelu Pow Sub Sum Where Xor
"""


def first_operand(site: Site) -> None:
    """Every output has the shape of the first input; the other operands are settings."""
    for out in site.outs:
        broadcast(site, site.operand(0), out)


def _dropout(site: Site) -> None:
    """In training mode it draws random numbers: cutting would change which are drawn."""
    first_operand(site)
    if len(site.node.inputs) > 2 and site.node.inputs[2] and (site.value(2) is None or site.value(2)):
        site.freeze_all("draws random numbers for it")


RULES: dict[tuple[str, str], Rule] = {
    **{("", op): elementwise for op in (_UNARY + _BROADCASTING).split()},
    **{("", op): first_operand for op in ("Clip", "CastLike")},
    ("", "Dropout"): _dropout,
    **{("com.microsoft", op): elementwise for op in ("Gelu", "FastGelu", "BiasGelu", "QuickGelu", "BiasAdd")},
}
