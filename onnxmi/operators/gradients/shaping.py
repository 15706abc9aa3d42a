"""Gradients of operators that only move elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxmi.operators.gradients.vjp import Call, Gradients, Rule, folded_to
from onnxmi.typing import Array


def _reshaped(call: Call) -> Gradients:
    return call.only(call.g.reshape(call.x.shape))


def _transpose(call: Call) -> Gradients:
    order = call.get("perm", tuple(reversed(range(call.x.ndim))))
    return call.only(call.g.transpose(np.argsort(order)))


def _expand(call: Call) -> Gradients:
    return call.only(folded_to(call.g, call.x.shape))


def _slice(call: Call) -> Gradients:
    made = np.zeros(call.x.shape, call.g.dtype)
    made[_cuts(call)] = call.g
    return call.only(made)


def _cuts(call: Call) -> tuple[slice, ...]:
    starts, ends = (call.integers(place, name) or () for place, name in ((1, "starts"), (2, "ends")))
    axes = call.integers(3, "axes") or tuple(range(len(starts)))
    steps = call.integers(4, "steps") or (1,) * len(starts)
    cuts = [slice(None)] * call.x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        beyond = step < 0 and end < -call.x.shape[axis]  # all down to the first, which Python has no number for
        cuts[axis] = slice(start, None if beyond else end, step)
    return tuple(cuts)


def _split(call: Call) -> Gradients:
    axis = call.get("axis", 0)
    parts = [
        np.zeros(call.values(name).shape, call.x.dtype) if part is None else part
        for name, part in zip(call.node.outputs, call.upper, strict=True)
    ]
    return call.only(np.concatenate(parts, axis=axis))


def _concat(call: Call) -> Gradients:
    axis = call.node.attributes["axis"]
    sizes = [call.values(name).shape[axis] for name in call.node.inputs]
    return np.split(call.g, np.cumsum(sizes)[:-1], axis=axis)


def _gather(call: Call) -> Gradients:
    axis, places = call.get("axis", 0), call.values(call.node.inputs[1])
    made = np.zeros(call.x.shape, call.g.dtype)
    drawn = np.moveaxis(call.g, range(axis % call.x.ndim, axis % call.x.ndim + places.ndim), range(places.ndim))
    np.add.at(np.moveaxis(made, axis, 0), places, drawn)
    return call.only(made)


def _gather_elements(call: Call) -> Gradients:
    axis, places = call.get("axis", 0), call.values(call.node.inputs[1])
    made = np.zeros(call.x.shape, call.g.dtype)
    index = np.indices(places.shape, sparse=True)
    axis %= places.ndim
    np.add.at(made, (*index[:axis], places, *index[axis + 1 :]), call.g)
    return call.only(made)


def _top(call: Call) -> Gradients:
    """Of the largest values, by the places that they come from, which are the second output."""
    made = np.zeros(call.x.shape, call.g.dtype)
    np.put_along_axis(made, call.values(call.node.outputs[1]), call.g, axis=call.get("axis", -1))
    return call.only(made)


def _scatter_elements(call: Call) -> Gradients:
    axis, places = call.get("axis", 0), call.values(call.node.inputs[1])
    kept = call.g.copy()
    if call.get("reduction", "none") == "none":
        np.put_along_axis(kept, places, 0.0, axis=axis)
    return [kept, None, np.take_along_axis(call.g, places, axis=axis)]


def _scatter_nd(call: Call) -> Gradients:
    places = tuple(np.moveaxis(call.values(call.node.inputs[1]), -1, 0))
    kept = call.g.copy()
    if call.get("reduction", "none") == "none":
        kept[places] = 0.0
    return [kept, None, call.g[places]]


def _gather_nd(call: Call) -> Gradients:
    shared, places = call.get("batch_dims", 0), call.values(call.node.inputs[1])
    made = np.zeros(call.x.shape, call.g.dtype)
    spread = places.ndim - 1 - shared
    batch = [
        np.arange(size).reshape([-1 if axis == own else 1 for own in range(shared)] + [1] * spread)
        for axis, size in enumerate(call.x.shape[:shared])
    ]
    np.add.at(made, (*batch, *np.moveaxis(places, -1, 0)), call.g)
    return call.only(made)


def _pad(call: Call) -> Gradients:
    """Constants that were put around are dropped; copies of what is inside add up."""
    pads, mode = call.integers(1, "pads") or (), call.get("mode", "constant")
    axes = call.integers(3, "axes") or tuple(range(call.x.ndim))
    before = dict(zip(axes, pads, strict=False))
    made = call.g
    for axis, size in enumerate(call.x.shape):
        first = before.get(axis, 0)
        if mode != "constant":
            made = _added_up(made, axis, first, size, mode)
        elif first < 0 or made.shape[axis] < first + size:  # cropped: what was left out gets nothing
            made = _uncropped(made, axis, first, size)
        else:
            made = np.take(made, np.arange(first, first + size), axis=axis)
    return call.only(made)


def _added_up(gradient: Array, axis: int, first: int, size: int, mode: str) -> Array:
    sources = np.pad(np.arange(size), (first, gradient.shape[axis] - first - size), mode)  # type: ignore[call-overload]
    made = np.zeros((*gradient.shape[:axis], size, *gradient.shape[axis + 1 :]), gradient.dtype)
    np.add.at(np.moveaxis(made, axis, 0), sources, np.moveaxis(gradient, axis, 0))
    return made


def _uncropped(gradient: Array, axis: int, first: int, size: int) -> Array:
    places = np.arange(size) + first
    inside = (places >= 0) & (places < gradient.shape[axis])
    made = np.zeros((*gradient.shape[:axis], size, *gradient.shape[axis + 1 :]), gradient.dtype)
    target = [slice(None)] * axis
    made[(*target, inside)] = np.take(gradient, places[inside], axis=axis)
    return made


def _tile(call: Call) -> Gradients:
    repeats = call.integers(1, "repeats") or ()
    pairs = [size for pair in zip(repeats, call.x.shape, strict=True) for size in pair]
    return call.only(call.g.reshape(pairs).sum(axis=tuple(range(0, len(pairs), 2))))


def _blocks(shape: Sequence[int], side: int, columns_first: bool) -> tuple[list[int], list[int]]:
    """Shape and order of axes that take (N, C, H, W) apart into blocks of space, as DepthToSpace puts them together."""
    batch, depth, height, width = shape
    left = depth // side**2
    if columns_first:
        return [batch, left, side, side, height, width], [0, 1, 4, 2, 5, 3]
    return [batch, side, side, left, height, width], [0, 3, 4, 1, 5, 2]


def _depth_to_space(call: Call) -> Gradients:
    apart, order = _blocks(call.x.shape, call.node.attributes["blocksize"], call.get("mode", "DCR") == "CRD")
    moved = call.g.reshape([apart[axis] for axis in order]).transpose(np.argsort(order))
    return call.only(moved.reshape(call.x.shape))


def _space_to_depth(call: Call) -> Gradients:
    apart, order = _blocks(call.y.shape, call.node.attributes["blocksize"], columns_first=False)
    return call.only(call.g.reshape(apart).transpose(order).reshape(call.x.shape))


def _triangle(call: Call) -> Gradients:
    offset = call.operand(1)
    keep = np.triu if call.get("upper", 1) else np.tril
    return call.only(keep(call.g, 0 if offset is None else int(np.reshape(offset, ()))))


SHAPING: Mapping[str, Rule] = {
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _reshaped),
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Pad": _pad,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Tile": _tile,
    "TopK": _top,
    "Transpose": _transpose,
    "Trilu": _triangle,
}
