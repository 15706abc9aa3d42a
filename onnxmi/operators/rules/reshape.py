"""Operators that move, join, take apart or reinterpret axes."""

from __future__ import annotations

from onnxmi.operators.context import Rule, Site, Terms
from onnxmi.operators.rules.apply_signature import broadcast


def reinterpret(site: Site, source: Terms | None, target: Terms | None) -> None:
    """Tie two shapes of the same row-major data: the shortest runs of axes with equal products are equal products."""
    if source is None or target is None:
        return
    left = [t for t in source if site.size(t) != 1]
    right = [t for t in target if site.size(t) != 1]
    while left and right:
        a, b = [left.pop(0)], [right.pop(0)]
        size_a, size_b = site.size(a[0]), site.size(b[0])
        while size_a != size_b and (left if size_a < size_b else right):
            if size_a < size_b:
                a.append(left.pop(0))
                size_a *= site.size(a[-1])
            else:
                b.append(right.pop(0))
                size_b *= site.size(b[-1])
        site.unify(site.solver.product(a), site.solver.product(b))


def _reshape(site: Site) -> None:
    target = site.outs[0]
    reinterpret(site, site.operand(0), target)
    if target is not None and len(site.node.inputs) > 1:
        site.states_sizes(1, target)
    elif target is not None:  # before opset 5 the shape is an attribute
        for entry, term in enumerate(target):
            site.states_size("shape", term, entry)


def _flatten(site: Site) -> None:
    reinterpret(site, site.operand(0), site.outs[0])


def _transpose(site: Site) -> None:
    operand, out = site.operand(0), site.outs[0]
    if operand is None or out is None:
        return
    order = site.attribute("perm", tuple(reversed(range(len(operand)))))
    for axis, source in enumerate(order):
        site.unify(out[axis], operand[source])


def _concat(site: Site) -> None:
    out = site.outs[0]
    if out is None or any(operand is None for operand in site.ins):
        return
    axis = int(site.attribute("axis", 1)) % len(out)
    operands = [operand for operand in site.ins if operand is not None]
    for position, term in enumerate(out):
        if position == axis:
            site.unify(term, site.solver.sum([operand[axis] for operand in operands]))
            continue
        for operand in operands:
            site.unify(term, operand[position])


def _split(site: Site) -> None:
    operand = site.operand(0)
    if operand is None or any(out is None for out in site.outs):
        return
    axis = int(site.attribute("axis", 0)) % len(operand)
    outs = [out for out in site.outs if out is not None]
    parts = [out[axis] for out in outs]
    site.unify(operand[axis], site.solver.sum(parts))
    for out in outs:
        for position, term in enumerate(out):
            if position != axis:
                site.unify(term, operand[position])
    _split_sizes(site, parts)


def _split_sizes(site: Site, parts: list[int]) -> None:
    if site.operand(1) is not None:
        site.states_sizes(1, parts)
    elif site.attribute("split") is not None:
        for entry, part in enumerate(parts):
            site.states_size("split", part, entry)
    else:  # sizes are not stated but divided evenly: all parts have to keep the same number
        for part in parts[1:]:
            site.unify(parts[0], part)


def _squeeze(site: Site) -> None:
    reinterpret(site, site.operand(0), site.outs[0])


def _expand(site: Site) -> None:
    broadcast(site, site.operand(0), site.outs[0])
    out, stated = site.outs[0], site.operand(1)
    if out is not None and stated is not None:
        site.states_sizes(1, out[len(out) - site.size(stated[0]) :])


def _shape(site: Site) -> None:
    """As long as the input has axes, none of which can go."""
    site.freeze(site.outs[0] or (), "states a size in each entry of it")
    site.reads_shape()


def _size(site: Site) -> None:
    site.freeze(site.operand(0) or (), "counts its elements")


def _constant(site: Site) -> None:
    """A stored tensor: its axes are free."""


RULES: dict[tuple[str, str], Rule] = {
    ("", "Reshape"): _reshape,
    ("", "Flatten"): _flatten,
    ("", "Transpose"): _transpose,
    ("", "Concat"): _concat,
    ("", "Split"): _split,
    ("", "Squeeze"): _squeeze,
    ("", "Unsqueeze"): _squeeze,
    ("", "Expand"): _expand,
    ("", "Shape"): _shape,
    ("", "Size"): _size,
    ("", "Constant"): _constant,
}
