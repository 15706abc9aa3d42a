"""Normalisations.

One that divides by the mean or the variance of an axis is another function when the axis is shorter: renormalising.
"""

from __future__ import annotations

from onnxmi.operators.context import Rule, Site, Terms
from onnxmi.operators.rules.apply_signature import SignatureRule, broadcast

_BATCH_NORM = SignatureRule("n c *s, c, c, c, c -> n c *s, c?, c?, c?, c?")
_TRAINED_BATCH_NORM = SignatureRule("n c *s, c, c, c, c -> n c *s, c?, c?, c?, c?", normalises=("n", "*s"))


def _batch_norm(site: Site) -> None:
    """In training mode the statistics are those of the batch: weight standardisation is written so."""
    (_TRAINED_BATCH_NORM if site.attribute("training_mode", 0) else _BATCH_NORM)(site)


def normalise(site: Site, operand: Terms, start: int) -> None:
    """Note that a normalisation runs over the last axes of an operand, from `start` on."""
    site.renormalise(range(start % len(operand), len(operand)))


def _layer_norm(site: Site) -> None:
    """Normalises over the last axes, from `axis` on; scale and shift lie on them, mean and deviation do not."""
    operand = site.operand(0)
    if operand is None:
        return
    normalise(site, operand, int(site.attribute("axis", -1)) % len(operand))
    for parameter in (*site.ins[1:], *site.outs):
        broadcast(site, parameter, operand)


def _skip_layer_norm(site: Site) -> None:
    """Adds, then normalises over the last axis; a further output is the sum."""
    operand = site.operand(0)
    if operand is None:
        return
    normalise(site, operand, -1)
    for other in (*site.ins[1:], *site.outs):
        broadcast(site, other, operand)


_EMBEDDING = SignatureRule(
    "b s, b s?, v e, p e, t e?, e, e, b s?, b s? -> b s e, b?, b s e?",
    normalises=("e",),
    freezes=dict.fromkeys("vpt", "looks positions up in it"),
)


def _group_norm(site: Site) -> None:
    """Groups are independent of one another; inside one, everything is normalised over."""
    operand, scale = site.operand(0), site.operand(1)
    if operand is None or scale is None:
        return
    by_group = site.size(scale[0]) == int(site.attribute("num_groups", 1)) != site.size(operand[1])
    parameters = "g, g" if by_group else "(g c), (g c)"
    SignatureRule(f"n (g c) *s, {parameters} -> n (g c) *s", normalises=("c", "*s"), sizes={"g": "num_groups"})(site)


def _mean_variance(site: Site) -> None:
    operand = site.operand(0)
    if operand is None:
        return
    site.renormalise(site.attribute("axes", (0, 2, 3)))
    site.tie(operand, site.outs[0])


def _length(site: Site) -> None:
    """Divides by a norm: a channel that is zero adds nothing to it, so it is consumed here."""
    operand = site.operand(0)
    if operand is not None:
        site.contract(0, int(site.attribute("axis", -1)))
        site.tie(operand, site.outs[0])


_NEIGHBOURS = SignatureRule("n c *s -> n c *s", normalises=("c",))
_LAYER_NORMS = "LayerNormalization SimplifiedLayerNormalization RMSNormalization"

RULES: dict[tuple[str, str], Rule] = {
    ("", "BatchNormalization"): _batch_norm,
    ("", "InstanceNormalization"): SignatureRule("n c *s, c, c -> n c *s", normalises=("*s",)),
    ("", "GroupNormalization"): _group_norm,
    ("", "MeanVarianceNormalization"): _mean_variance,
    ("", "LpNormalization"): _length,
    ("", "LRN"): _NEIGHBOURS,
    **{("", op): _layer_norm for op in _LAYER_NORMS.split()},
    ("com.microsoft", "SimplifiedLayerNormalization"): _layer_norm,
    ("com.microsoft", "SkipLayerNormalization"): _skip_layer_norm,
    ("com.microsoft", "SkipSimplifiedLayerNormalization"): _skip_layer_norm,
    ("com.microsoft", "EmbedLayerNormalization"): _EMBEDDING,
}
