"""Operators that make a tensor from settings alone."""

from __future__ import annotations

from onnxmi.operators.context import Rule, Site
from onnxmi.operators.rules.apply_signature import broadcast


def _filled(site: Site) -> None:
    """The shape is stated by an operand, and every element is alike."""
    out = site.outs[0]
    if out is not None and len(out):
        site.states_sizes(0, out)


def _counted(site: Site) -> None:
    """As long as some value says: what the value means is not known."""
    site.freeze(site.outs[0] or (), "makes as many positions as a value says")


def _drawn(site: Site) -> None:
    """Random numbers: cutting would change which are drawn."""
    for operand in [*site.ins, *site.outs]:
        site.freeze(operand or (), "draws random numbers for it")


def _drawn_alike(site: Site) -> None:
    broadcast(site, site.operand(0), site.outs[0])
    _drawn(site)


RULES: dict[tuple[str, str], Rule] = {
    ("", "ConstantOfShape"): _filled,
    ("", "Range"): _counted,
    ("", "NonZero"): _counted,
    **{("", op): _drawn for op in ("RandomNormal", "RandomUniform")},
    **{("", op): _drawn_alike for op in ("RandomNormalLike", "RandomUniformLike", "Bernoulli")},
}
