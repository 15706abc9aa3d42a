"""Normalisations."""

from __future__ import annotations

from onnxmi.dims.rules.apply_signature import SignatureRule
from onnxmi.dims.rules.broadcasting import broadcast
from onnxmi.dims.site import Rule, Site

_BATCH_NORM = SignatureRule("n c *s, c, c, c, c -> n c *s, c?, c?, c?, c?")


def _layer_norm(site: Site) -> None:
    """Normalises over the last axes, from `axis` on; scale and shift lie on them, mean and deviation do not."""
    operand = site.operand(0)
    if operand is None:
        return
    start = int(site.attribute("axis", -1)) % len(operand)
    for term in operand[start:]:
        site.renormalise(term)
    for parameter in (*site.ins[1:], site.outs[0]):
        broadcast(site, parameter, operand)
    for statistic in site.outs[1:]:
        broadcast(site, statistic, operand)


RULES: dict[tuple[str, str], Rule] = {
    ("", "BatchNormalization"): _BATCH_NORM,
    ("", "LayerNormalization"): _layer_norm,
    ("", "InstanceNormalization"): SignatureRule("n c *s, c, c -> n c *s"),
}
