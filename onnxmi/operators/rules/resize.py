"""Operators that resample or rearrange the spatial axes."""

from __future__ import annotations

from collections.abc import Sequence

from onnxmi.operators.context import Rule, Site, Terms
from onnxmi.operators.rules.apply_signature import SignatureRule

_SAMPLED = {"*s": "samples positions of it", "*t": "samples positions of it"}


def _resize(site: Site) -> None:
    """Axes whose scale is exactly one pass, the others are resampled."""
    operand, out = site.operand(0), site.outs[0]
    if operand is None or out is None:
        return
    for axis, (term, result) in enumerate(zip(operand, out, strict=True)):
        if axis < 2 and site.size(term) == site.size(result) and len(out) > 2:
            site.unify(term, result)
        else:
            site.freeze([term, result], "resizes it")
    sizes = site.operand(3)
    if sizes and site.size(sizes[0]) == len(out):
        site.states_sizes(3, out)
    elif sizes and site.size(sizes[0]):
        site.freeze(out[:2] if 1 in (site.attribute("axes") or ()) else (), "resizes it")


def _blocks(site: Site) -> tuple[Terms, Terms, int] | None:
    operand, out = site.operand(0), site.outs[0]
    if operand is None or out is None:
        return None
    return operand, out, int(site.attribute("blocksize", 1))


def _interleave(site: Site, deep: Terms, flat: Terms, order: Sequence[int]) -> None:
    """Tie the channels with the blocks folded in to those without; space cannot be cut, nor can the blocks."""
    size = int(site.attribute("blocksize", 1))
    blocks = [site.solver.dim(size), site.solver.dim(size)]
    site.freeze([*blocks, *deep[2:], *flat[2:]], "moves blocks of it")
    factors = [flat[1], *blocks]
    site.unify(deep[0], flat[0])
    site.unify(deep[1], site.solver.product([factors[place] for place in order]))


def _depth_to_space(site: Site) -> None:
    found = _blocks(site)
    if found is not None:
        by_columns = site.attribute("mode", "DCR") == "DCR"
        _interleave(site, found[0], found[1], (1, 2, 0) if by_columns else (0, 1, 2))


def _space_to_depth(site: Site) -> None:
    found = _blocks(site)
    if found is not None:
        _interleave(site, found[1], found[0], (1, 2, 0))


def _columns_to_image(site: Site) -> None:
    """Col2Im: the places in a block are folded into the channels."""
    operand, out, block = site.operand(0), site.outs[0], site.value(2)
    if operand is None or out is None or block is None:
        site.freeze_all("folds blocks that are not known")
        return
    inside = site.solver.dim(int(block.prod()))
    site.freeze([inside, operand[2], *out[2:]], "folds blocks of it")
    site.unify(operand[0], out[0])
    site.unify(operand[1], site.solver.product([out[1], inside]))


RULES: dict[tuple[str, str], Rule] = {
    ("", "Resize"): _resize,
    ("", "Upsample"): _resize,
    ("", "DepthToSpace"): _depth_to_space,
    ("", "SpaceToDepth"): _space_to_depth,
    ("", "Col2Im"): _columns_to_image,
    ("", "GridSample"): SignatureRule("n c *s, n *t _ -> n c *t", freezes=_SAMPLED),
    ("", "RoiAlign"): SignatureRule("n c *s, r _, r -> r c *t", freezes=_SAMPLED),
    ("", "MaxRoiPool"): SignatureRule("n c *s, r _ -> r c *t", freezes=_SAMPLED),
    ("", "MaxUnpool"): SignatureRule("n c *s, n c *s, _? -> n c *t", freezes=_SAMPLED),
}
