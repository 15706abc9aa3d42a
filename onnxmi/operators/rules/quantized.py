"""Quantised operators: scales and zero points are one number, or one a channel, and go with the channels.

In an integer tensor a cut channel is not 0 but the zero point, which the contraction names. Where a scale is computed
from the data (DynamicQuantizeLinear), the range always includes 0, so that masking before it is masking after it.
"""

from __future__ import annotations

from onnxmi.operators.context import Rule, Site, Terms
from onnxmi.operators.rules.apply_signature import SignatureRule, broadcast

_SLIDES = {"*s": "slides over it", "*t": "slides over it"}


def _linear_quantisation(site: Site) -> None:
    """QuantizeLinear and DequantizeLinear: elementwise; scale and zero point lie on `axis`, or in blocks along it."""
    operand, out = site.operand(0), site.outs[0]
    if operand is None or out is None:
        return
    site.tie(operand, out)
    for position in (1, 2):
        _along(site, site.operand(position), operand, int(site.attribute("axis", 1)))


def _along(site: Site, parameter: Terms | None, operand: Terms, axis: int) -> None:
    if parameter is None or all(site.size(term) == 1 for term in parameter):
        return
    if len(parameter) == 1 and site.size(parameter[0]) == site.size(operand[axis]):
        site.unify(parameter[0], operand[axis])
        return
    if len(parameter) == len(operand):
        for place, (term, other) in enumerate(zip(parameter, operand, strict=True)):
            if place != axis % len(operand):
                site.unify(term, other)
    site.freeze([operand[axis], *(parameter if len(parameter) != len(operand) else [parameter[axis]])], "has blocks")


def _dynamic_quantisation(site: Site) -> None:
    """The range runs over everything: consumed here as far as the oracle is concerned."""
    operand = site.operand(0)
    if operand is None:
        return
    site.tie(operand, site.outs[0])
    for axis in range(len(operand)):
        site.contract(0, axis)


def _with_zero_points(rule: SignatureRule, zeros: dict[int, int]) -> Rule:
    """Run a signature, then name the zero points of the operands that it contracts."""

    def run(site: Site) -> None:
        before = len(site.declared.contractions)
        rule(site)
        made = site.declared.contractions[before:]
        site.declared.contractions[before:] = [(n, i, a, t, zeros.get(i)) for n, i, a, t, _ in made]

    return run


def _parameters(site: Site) -> None:
    """An elementwise operator on quantised tensors: (value, scale, zero point) for each."""
    for position, operand in enumerate(site.ins):
        if position == 0 or (operand and not all(site.size(term) == 1 for term in operand)):
            broadcast(site, operand, site.outs[0])


def _concat(site: Site) -> None:
    """QLinearConcat: output scale and zero point, then (value, scale, zero point) for each."""
    out = site.outs[0]
    values = site.ins[2::3]
    if out is None or any(value is None for value in values):
        return
    operands = [value for value in values if value is not None]
    axis = int(site.attribute("axis", 1)) % len(out)
    for place, term in enumerate(out):
        if place == axis:
            site.unify(term, site.solver.sum([operand[axis] for operand in operands]))
            continue
        for operand in operands:
            site.unify(term, operand[place])


def _pool(site: Site) -> None:
    (_POOL_LAST if site.attribute("channels_last", 0) else _POOL_FIRST)(site)


def _block_product(site: Site) -> None:
    """MatMulNBits: the weights of a block of inputs share a byte string and a scale, so whole blocks are cut."""
    source, weights = site.operand(0), site.operand(1)
    if source is None or weights is None or len(weights) != 3:
        site.freeze_all("packs its weights in a way that is not understood")
        return
    outputs, blocks = weights[0], weights[1]
    inside = site.solver.dim(int(site.attribute("block_size")))
    inputs = site.solver.product([blocks, inside])
    site.freeze([inside, weights[2]], "packs blocks of it")
    site.unify(source[-1], inputs)
    if site.operand(3) is not None:  # zero points: several of a row share a byte
        site.freeze([outputs, blocks], "packs its zero points")
    site.states_size("N", outputs)
    site.states_size("K", inputs)
    site.contract(0, -1)
    _place_scales(site, site.operand(2), outputs, blocks)
    result = site.outs[0]
    assert result is not None
    site.tie((*source[:-1], outputs), result)
    broadcast(site, site.operand(5), result)


def _place_scales(site: Site, scales: Terms | None, outputs: int, blocks: int) -> None:
    if scales is None:
        return
    if len(scales) == 2:
        site.tie(scales, (outputs, blocks))
    else:
        site.unify(scales[0], site.solver.product([outputs, blocks]))


_GROUPS = {"g": "group"}
_POOLED = {"*s": "pools over it", "*t": "pools over it"}
_POOL_FIRST = SignatureRule("n c *s, _!, _!?, _!, _!? -> n c *t", freezes=_POOLED)
_POOL_LAST = SignatureRule("n *s c, _!, _!?, _!, _!? -> n *t c", freezes=_POOLED)

_CONV_INTEGER = SignatureRule(
    "n (g c) *s, (g o) c *k, _!?, (g o)!? -> n (g o) *t", contracts=("c",), freezes=_SLIDES, sizes=_GROUPS
)
_QLINEAR_CONV = SignatureRule(
    "n (g c) *s, _!, _!, (g o) c *k, (g o)!, (g o)!, _!, _!, (g o)? -> n (g o) *t",
    contracts=("c",),
    freezes=_SLIDES,
    sizes=_GROUPS,
)
_MATMUL_INTEGER = SignatureRule("... i k, ... k j, i!?, j!? -> ... i j", contracts=("k",))
_QLINEAR_MATMUL = SignatureRule("... i k, i!, i!, ... k j, j!, j!, j!, j! -> ... i j", contracts=("k",))
_TO_FLOAT = SignatureRule("... i k, ... k j, i!, j!, i!?, j!?, j? -> ... i j", contracts=("k",))
_DYNAMIC = SignatureRule("... k, k j, j!, j!?, j? -> ... j", contracts=("k",))
RULES: dict[tuple[str, str], Rule] = {
    **{(domain, "QuantizeLinear"): _linear_quantisation for domain in ("", "com.microsoft")},
    **{(domain, "DequantizeLinear"): _linear_quantisation for domain in ("", "com.microsoft")},
    ("", "DynamicQuantizeLinear"): _dynamic_quantisation,
    ("", "ConvInteger"): _with_zero_points(_CONV_INTEGER, {0: 2}),
    ("", "QLinearConv"): _with_zero_points(_QLINEAR_CONV, {0: 2}),
    ("com.microsoft", "QLinearConv"): _with_zero_points(_QLINEAR_CONV, {0: 2}),
    ("", "MatMulInteger"): _with_zero_points(_MATMUL_INTEGER, {0: 2, 1: 3}),
    ("", "QLinearMatMul"): _with_zero_points(_QLINEAR_MATMUL, {0: 2, 3: 5}),
    ("com.microsoft", "MatMulIntegerToFloat"): _with_zero_points(_TO_FLOAT, {0: 4, 1: 5}),
    ("com.microsoft", "DynamicQuantizeMatMul"): _DYNAMIC,
    ("com.microsoft", "MatMulNBits"): _block_product,
    **{("com.microsoft", f"QLinear{op}"): _parameters for op in ("Add", "Mul", "LeakyRelu", "Sigmoid")},
    **{("com.microsoft", f"QLinear{op}"): _pool for op in ("AveragePool", "GlobalAveragePool")},
    ("com.microsoft", "QLinearConcat"): _concat,
}
