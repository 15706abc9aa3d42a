"""Operators that contract an activation with weights."""

from __future__ import annotations

from onnxmi.operators.context import Rule, Site
from onnxmi.operators.rules.apply_signature import SignatureRule

_MATMUL = SignatureRule("... i k, ... k j -> ... i j", contracts=("k",))
_MATRIX_VECTOR = SignatureRule("... i k, k -> ... i", contracts=("k",))
_VECTOR_MATRIX = SignatureRule("k, ... k j -> ... j", contracts=("k",))
_DOT = SignatureRule("k, k ->", contracts=("k",))


def _matmul(site: Site) -> None:
    left, right = site.operand(0), site.operand(1)
    vectors = (left is not None and len(left) == 1, right is not None and len(right) == 1)
    {(False, False): _MATMUL, (False, True): _MATRIX_VECTOR, (True, False): _VECTOR_MATRIX, (True, True): _DOT}[
        vectors
    ](site)


# Gemm's four forms by (transA, transB); C broadcasts onto the output.
_GEMM = {
    (a, b): SignatureRule(f"{'k i' if a else 'i k'}, {'j k' if b else 'k j'}, ~ -> i j", contracts=("k",))
    for a in (0, 1)
    for b in (0, 1)
}


def _gemm(site: Site) -> None:
    _GEMM[int(site.attribute("transA", 0)), int(site.attribute("transB", 0))](site)


_FUSED_MATMUL = {
    (a, b): SignatureRule(f"... {'k i' if a else 'i k'}, ... {'j k' if b else 'k j'} -> ... i j", contracts=("k",))
    for a in (0, 1)
    for b in (0, 1)
}


def _fused_matmul(site: Site) -> None:
    turned = site.attribute("transBatchA", 0) or site.attribute("transBatchB", 0)
    if turned or min(len(operand or ()) for operand in site.ins[:2]) < 2:
        site.freeze_all("multiplies in a way that is not understood")
    else:
        _FUSED_MATMUL[int(site.attribute("transA", 0)), int(site.attribute("transB", 0))](site)


def _deformable(site: Site) -> None:
    """Positions are shifted for each offset group of the input channels: with several, those cannot be cut."""
    operand = site.operand(0)
    if operand is not None and int(site.attribute("offset_group", 1)) > 1:
        site.freeze([operand[1]], "shifts groups of it")
    _DEFORMABLE(site)


_SLIDES = {"*s": "slides over it", "*t": "slides over it"}

_DEFORMABLE = SignatureRule(
    "n (g c) *s, (g o) c *k, n _ *t, (g o)?, n _ *t? -> n (g o) *t",
    contracts=("c",),
    freezes=_SLIDES,
    sizes={"g": "group"},
)
_FUSED_CONV = SignatureRule(
    "n (g c) *s, (g o) c *k, (g o)?, n (g o) *t? -> n (g o) *t",
    contracts=("c",),
    freezes=_SLIDES,
    sizes={"g": "group"},
)

RULES: dict[tuple[str, str], Rule] = {
    ("", "MatMul"): _matmul,
    ("", "Gemm"): _gemm,
    ("com.microsoft", "FusedGemm"): _gemm,
    ("com.microsoft", "FusedMatMul"): _fused_matmul,
    ("com.microsoft", "TransposeMatMul"): _fused_matmul,
    ("com.microsoft", "FusedConv"): _FUSED_CONV,
    ("", "DeformConv"): _deformable,
    ("", "Conv"): SignatureRule(
        "n (g c) *s, (g o) c *k, (g o)? -> n (g o) *t", contracts=("c",), freezes=_SLIDES, sizes={"g": "group"}
    ),
    ("", "ConvTranspose"): SignatureRule(
        "n (g c) *s, (g c) o *k, (g o)? -> n (g o) *t", contracts=("c",), freezes=_SLIDES, sizes={"g": "group"}
    ),
}
