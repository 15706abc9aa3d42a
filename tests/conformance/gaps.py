"""What the conformance ring knows it does not show, with the reasons; the tests are filtered by these tables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gap:
    """Cases with a wrong result: an expression for their names; `stored` where all inputs but the first are stored.

    Each has a strict expected failure in test_known_gaps.py, which tells when it is closed.
    """

    names: str
    why: str
    stored: bool = False


KNOWN: tuple[Gap, ...] = ()

# Cases that cannot be compared.
_LOGARITHM = "the logarithm of a sum of what is masked, or of some of the numbers, is not finite"
NOT_COMPARED: tuple[Gap, ...] = (
    Gap(r"^test_reduce_log_sum_(?!exp)", _LOGARITHM),
    Gap(r"^test_reduce_log_sum_exp_.*_expanded$", _LOGARITHM),
)

# Operators with a rule whose cases onnxruntime does not run, or that have none.
_NO_CASE, _NO_KERNEL = "ONNX has no case", "onnxruntime has no kernel for the opset of the cases"
NOT_RUN: dict[str, str] = {
    "Bernoulli": _NO_KERNEL,
    "RoiAlign": _NO_KERNEL,
    "GlobalLpPool": _NO_CASE,
    "MaxRoiPool": _NO_CASE,
    "RandomNormal": _NO_CASE,
    "RandomNormalLike": _NO_CASE,
    "RandomUniform": _NO_CASE,
    "RandomUniformLike": _NO_CASE,
    "SimplifiedLayerNormalization": _NO_CASE,
}

# Operators whose cases, wrapped, have no axis that can be cut: the ring shows only that they are analysed.
_ONE_CHANNEL, _NOTHING = "the cases have one channel", "nothing passes it"
NO_LAYER: dict[str, str] = {
    "Constant": "the case has no input",
    **dict.fromkeys(("Conv", "ConvInteger", "DeformConv", "GridSample", "MaxUnpool"), _ONE_CHANNEL),
    **dict.fromkeys(("QLinearConv", "Resize", "Upsample"), _ONE_CHANNEL),
    **dict.fromkeys(("NonZero", "Range", "Shape", "Size"), _NOTHING),
}
