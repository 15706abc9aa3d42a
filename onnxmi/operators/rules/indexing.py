"""Operators that look positions up, or write to positions."""

from __future__ import annotations

from onnxmi.operators.context import Rule, Site, Terms
from onnxmi.operators.rules.apply_signature import broadcast

_LOOKS_UP = "looks positions up in it"


def _gather(site: Site) -> None:
    """Looking rows up: the axis that is indexed cannot be cut, the others pass."""
    data, indices, out = site.operand(0), site.operand(1), site.outs[0]
    if data is None or indices is None or out is None:
        return
    axis = int(site.attribute("axis", 0)) % len(data)
    site.freeze([data[axis]], _LOOKS_UP)
    site.tie((*data[:axis], *indices, *data[axis + 1 :]), out)


def _gather_elements(site: Site) -> None:
    """Data, indices (and updates) go side by side on every axis but the one that is indexed."""
    data = site.operand(0)
    if data is None:
        return
    axis = int(site.attribute("axis", 0)) % len(data)
    site.freeze([data[axis]], _LOOKS_UP)
    for operand in (*site.ins[1:], *site.outs):
        for place, (term, other) in enumerate(zip(data, operand or (), strict=True)):
            _side_by_side(site, term, other, indexed=place == axis)


def _side_by_side(site: Site, term: int, other: int, indexed: bool) -> None:
    if indexed:
        site.freeze([other], _LOOKS_UP)
    elif site.size(term) == site.size(other):
        site.unify(term, other)
    else:
        site.freeze([term, other], "takes a part of it")


def _gather_nd(site: Site) -> None:
    data, indices, out = site.operand(0), site.operand(1), site.outs[0]
    if data is None or indices is None or out is None:
        return
    batch = int(site.attribute("batch_dims", 0))
    depth = site.size(indices[-1])
    site.freeze([indices[-1], *data[batch : batch + depth]], _LOOKS_UP)
    for term, index in zip(data[:batch], indices[:batch], strict=True):
        site.unify(term, index)
    site.tie((*indices[:-1], *data[batch + depth :]), out)


def _scatter_nd(site: Site) -> None:
    data, indices, updates = site.operand(0), site.operand(1), site.operand(2)
    if data is None or indices is None or updates is None:
        return
    depth = site.size(indices[-1])
    site.freeze([indices[-1], *data[:depth]], "writes to positions of it")
    site.tie(data, site.outs[0])
    site.tie((*indices[:-1], *data[depth:]), updates)


def _one_hot(site: Site) -> None:
    indices, out = site.operand(0), site.outs[0]
    if indices is None or out is None:
        return
    axis = int(site.attribute("axis", -1)) % len(out)
    site.freeze([out[axis]], "counts positions along it")
    site.tie(indices, _without(out, axis))


def _without(terms: Terms, axis: int) -> Terms:
    return (*terms[:axis], *terms[axis + 1 :])


def _top_k(site: Site) -> None:
    operand = site.operand(0)
    if operand is None:
        return
    axis = int(site.attribute("axis", -1)) % len(operand)
    for out in site.outs:
        if out is not None:
            site.freeze([operand[axis], out[axis]], "sorts along it")
            site.tie(_without(operand, axis), _without(out, axis))


def _triangle(site: Site) -> None:
    operand = site.operand(0)
    if operand is None:
        return
    site.freeze(operand[-2:], "takes a triangle of it")
    broadcast(site, operand, site.outs[0])


RULES: dict[tuple[str, str], Rule] = {
    ("", "Gather"): _gather,
    ("", "GatherElements"): _gather_elements,
    ("", "Scatter"): _gather_elements,
    ("", "ScatterElements"): _gather_elements,
    ("", "GatherND"): _gather_nd,
    ("", "ScatterND"): _scatter_nd,
    ("", "OneHot"): _one_hot,
    ("", "TopK"): _top_k,
    ("", "Trilu"): _triangle,
}
