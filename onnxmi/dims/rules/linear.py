"""Operators that contract an activation with weights."""

from __future__ import annotations

from onnxmi.dims.rules.apply_signature import SignatureRule
from onnxmi.dims.site import Rule, Site

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


_SLIDES = {"*s": "slides over it", "*t": "slides over it"}

RULES: dict[tuple[str, str], Rule] = {
    ("", "MatMul"): _matmul,
    ("", "Gemm"): _gemm,
    ("", "Conv"): SignatureRule(
        "n (g c) *s, (g o) c *k, (g o)? -> n (g o) *t", contracts=("c",), freezes=_SLIDES, sizes={"g": "group"}
    ),
    ("", "ConvTranspose"): SignatureRule(
        "n (g c) *s, (g c) o *k, (g o)? -> n (g o) *t", contracts=("c",), freezes=_SLIDES, sizes={"g": "group"}
    ),
}
